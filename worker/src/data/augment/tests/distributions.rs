//! Draws follow the distributions that they are documented with, and those of a seed never change.

use super::*;
use crate::data::augment::draws::{beta, order_of_four};
use crate::data::augment::geometry::resized_crop;
use crate::data::keyed::unit;
use crate::data::rectangle::Rectangle;

fn ids() -> Vec<u32> {
    (0..2000).collect()
}

/// Within three standard deviations of a count of successes among 2,000.
fn near(count: usize, share: f64) -> bool {
    let (mean, sigma) = (2000.0 * share, (2000.0 * share * (1.0 - share)).sqrt());
    (count as f64 - mean).abs() < 3.0 * sigma
}

fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64)
}

// The values below were computed by an independent implementation, in Python.
#[test]
fn the_draws_of_a_seed_never_change() {
    let ids: Vec<u32> = (0..8).collect();
    let keys = keys(&ids);
    let windows = Windows::draw(&Augment { crop_padding: 4, flip: 0.5, ..Augment::default() }, keys).unwrap();
    assert_eq!(windows.corners, [(1, 7), (0, 1), (7, 3), (3, 6), (1, 4), (1, 1), (6, 8), (5, 3)]);
    assert_eq!(windows.mirrored, [true, false, false, true, true, true, false, true]);
    let orders = keys.draw(Stream::ColourOrder, order_of_four);
    assert_eq!(orders[..3], [[0, 1, 3, 2], [1, 0, 3, 2], [3, 1, 0, 2]]);
    assert_eq!(keys.draw(Stream::Brightness, unit)[..2], [0.8595258449740746, 0.8094008186733571]);
    let sides = |each: Rectangle| (each.top, each.left, each.height, each.width);
    let crops = keys.draw(Stream::ResizedCrop, |rng| sides(resized_crop(rng, 0.08, 32, 48)));
    assert_eq!(crops[..4], [(0, 4, 28, 36), (1, 12, 27, 34), (4, 23, 27, 21), (0, 18, 32, 27)]);
    let erased = erase::draw(&Augment { erasing: 0.5, ..Augment::default() }, keys, 32).unwrap();
    let expected = [(13, 17, 12, 4), (0, 0, 0, 0), (17, 19, 7, 6), (12, 15, 18, 8)];
    assert_eq!(erased.into_iter().map(sides).take(4).collect::<Vec<_>>(), expected);
}

#[test]
fn every_flip_has_its_share_and_every_corner_the_same_one() {
    let ids = ids();
    for share in [0.1, 0.5, 0.9] {
        let flips = keys(&ids).draw(Stream::Flip, |rng| draws::chance(rng, share));
        assert!(near(flips.iter().filter(|flip| **flip).count(), share));
    }
    assert!(keys(&ids).draw(Stream::Flip, |rng| draws::chance(rng, 1.0)).iter().all(|flip| *flip));
    let settings = Augment { crop_padding: 2, ..Augment::default() };
    let corners = Windows::draw(&settings, keys(&ids)).unwrap().corners;
    for corner in (0..5).flat_map(|down| (0..5).map(move |right| (down, right))) {
        let count = corners.iter().filter(|found| **found == corner).count();
        // Two dozen trials: the third deviation is not far enough for all of them.
        assert!((count as f64 - 80.0).abs() < 4.0 * 8.8, "{count} of 2000 at {corner:?}");
    }
    assert!(corners.iter().all(|(down, right)| (0..5).contains(down) && (0..5).contains(right)));
}

#[test]
fn resized_crops_keep_their_share_of_the_area_and_their_ratio() {
    let ids = ids();
    let crops = keys(&ids).draw(Stream::ResizedCrop, |rng| resized_crop(rng, 0.25, 200, 200));
    let areas: Vec<f64> = crops.iter().map(|crop| crop.area() as f64 / 40_000.0).collect();
    assert!(areas.iter().all(|area| (0.24..=1.0).contains(area)));
    // Somewhat below the middle, as large oblong ones do not fit.
    let (mean, _) = mean_and_variance(&areas);
    assert!((0.55..0.625).contains(&mean), "{mean}");
    let ratio = |crop: &Rectangle| (f64::from(crop.width) / f64::from(crop.height)).ln();
    let ratios: Vec<f64> = crops.iter().map(ratio).collect();
    assert!(ratios.iter().all(|ratio| ratio.abs() < (4.0_f64 / 3.0).ln() + 0.02));
    assert!(mean_and_variance(&ratios).0.abs() < 0.015);
    assert!(crops.iter().all(|crop| crop.top + crop.height <= 200 && crop.left + crop.width <= 200));
    // As much room above as below.
    let room = |crop: &Rectangle| f64::from(crop.top) - f64::from(200 - crop.height - crop.top);
    assert!(mean_and_variance(&crops.iter().map(room).collect::<Vec<_>>()).0.abs() < 5.0);
}

#[test]
fn colour_factors_are_uniform_around_their_middle() {
    let ids = ids();
    let settings = Augment { brightness: 0.4, contrast: 1.5, hue: 0.2, ..Augment::default() };
    let jitter = Jitter::draw(&settings, keys(&ids)).unwrap();
    let factors =
        |which: usize| jitter.factors[which].iter().map(|factor| f64::from(*factor)).collect::<Vec<_>>();
    // The mean of 2,000 is within 3 of its standard deviations, the range is used to its ends.
    for (which, low, high) in [(0, 0.6, 1.4), (1, 0.0, 2.5), (3, -0.2, 0.2)] {
        let (factors, width) = (factors(which), high - low);
        let (mean, variance) = mean_and_variance(&factors);
        let sigma = width / (12.0_f64 * 2000.0).sqrt();
        assert!((mean - (low + high) / 2.0).abs() < 3.0 * sigma, "{which}: {mean}");
        assert!((variance / (width * width / 12.0) - 1.0).abs() < 0.1, "{which}: {variance}");
        let (least, most) =
            (factors.iter().cloned().fold(9.0, f64::min), factors.iter().cloned().fold(-9.0, f64::max));
        assert!(least >= low - 1e-6 && least < low + 0.01 * width, "{which}: {least}");
        assert!(most <= high + 1e-6 && most > high - 0.01 * width, "{which}: {most}");
    }
    assert!(jitter.factors[2].is_empty(), "saturation is off");
    assert!(jitter.orders.iter().all(|order| order.len() == 3));
}

#[test]
fn every_order_of_the_four_is_as_likely() {
    let ids = ids();
    let mut seen = std::collections::BTreeMap::new();
    for order in keys(&ids).draw(Stream::ColourOrder, order_of_four) {
        *seen.entry(order).or_insert(0_usize) += 1;
    }
    assert_eq!(seen.len(), 24);
    // Two dozen trials: one of them is allowed beyond three deviations, none beyond four.
    assert!(seen.values().filter(|count| !near(**count, 1.0 / 24.0)).count() <= 1, "{seen:?}");
    assert!(seen.values().all(|count| (*count as f64 - 83.3).abs() < 4.0 * 8.9), "{seen:?}");
}

#[test]
fn erased_rectangles_have_their_share_area_and_ratio() {
    let ids = ids();
    let settings = Augment { erasing: 0.25, ..Augment::default() };
    let erased = erase::draw(&settings, keys(&ids), 100).unwrap();
    let erased: Vec<Rectangle> = erased.into_iter().filter(|each| each.area() > 0).collect();
    assert!(near(erased.len(), 0.25), "{}", erased.len());
    for each in &erased {
        let (area, ratio) = (each.area() as f64 / 1e4, f64::from(each.height) / f64::from(each.width));
        assert!((0.018..0.34).contains(&area) && (0.27..3.6).contains(&ratio), "{each:?}");
        assert!(each.top + each.height <= 100 && each.left + each.width <= 100, "{each:?}");
    }
    let areas: Vec<f64> = erased.iter().map(|each| each.area() as f64 / 1e4).collect();
    assert!((mean_and_variance(&areas).0 - 0.175).abs() < 0.015);
}

#[test]
fn shares_follow_the_beta_distribution() {
    let ids = ids();
    for alpha in [0.001, 0.2, 0.5, 1.0, 4.0, 1000.0] {
        let shares = keys(&ids).draw(Stream::Mixup, |rng| beta(rng, alpha));
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{alpha}");
        let (mean, variance) = mean_and_variance(&shares);
        let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
        assert!((mean - 0.5).abs() < 3.0 * (expected / 2000.0).sqrt(), "{alpha}: mean {mean}");
        assert!(
            (variance / expected - 1.0).abs() < 0.12,
            "{alpha}: variance {variance}, expected {expected}"
        );
    }
    // Beta(1, 1) is uniform: every tenth holds a tenth.
    let uniform = keys(&ids).draw(Stream::Cutmix, |rng| beta(rng, 1.0));
    for tenth in 0..10 {
        let low = f64::from(tenth) / 10.0;
        let count = uniform.iter().filter(|share| (low..low + 0.1).contains(*share)).count();
        assert!(near(count, 0.1), "{count} from {low}");
    }
}

#[test]
fn each_slice_takes_mixup_or_cutmix_by_a_fair_coin() {
    let settings = Augment { mixup: 0.2, cutmix: 1.0, ..Augment::default() };
    let is_mixup =
        |first: &u32| matches!(Mix::draw(&settings, keys(&[*first, 5]), SIZE), Some(Mix::Mixup(_)));
    assert!(near(ids().iter().filter(|first| is_mixup(first)).count(), 0.5));
}
