//! Colours are adjusted by torchvision's formulas.

use super::*;
use crate::data::augment::colour::{Adjustment, adjusted};

/// One picture of the given pixels, in a row.
fn picture(pixels: &[[f32; 3]]) -> Tensor {
    Tensor::from_slice(pixels.as_flattened()).view([1, 1, -1, 3])
}

fn adjust(what: Adjustment, factor: f32, pixels: &[[f32; 3]]) -> Vec<f32> {
    let factors = Tensor::from_slice(&[factor]).view([1, 1, 1, 1]);
    Vec::try_from(adjusted(what, &picture(pixels), &factors).unwrap().view(-1)).unwrap()
}

fn assert_near(found: &[f32], expected: &[[f32; 3]]) {
    let expected = expected.as_flattened();
    let near = |(found, expected): (&f32, &f32)| (found - expected).abs() < 2e-6;
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(expected).all(near), "{found:?}, expected {expected:?}");
}

const PIXELS: [[f32; 3]; 3] = [[0.2, 0.4, 0.6], [0.9, 0.1, 0.5], [0.3, 0.3, 0.3]];

#[test]
fn brightness_scales_and_saturates() {
    assert_near(&adjust(Adjustment::Brightness, 0.5, &PIXELS[..2]), &[[0.1, 0.2, 0.3], [0.45, 0.05, 0.25]]);
    assert_near(&adjust(Adjustment::Brightness, 2.0, &PIXELS[1..2]), &[[1.0, 0.2, 1.0]]);
}

#[test]
fn saturation_goes_to_grey_and_beyond() {
    let grey = |[r, g, b]: [f32; 3]| [0.2989 * r + 0.587 * g + 0.114 * b; 3];
    assert_near(&adjust(Adjustment::Saturation, 0.0, &PIXELS), &PIXELS.map(grey));
    let [r, g, b] = PIXELS[0];
    let beyond = [r, g, b].map(|value| 1.5 * value - 0.5 * grey(PIXELS[0])[0]);
    assert_near(&adjust(Adjustment::Saturation, 1.5, &PIXELS[..1]), &[beyond]);
}

#[test]
fn contrast_goes_to_the_pictures_mean_grey() {
    let grey = |[r, g, b]: [f32; 3]| 0.2989 * r + 0.587 * g + 0.114 * b;
    let mean = PIXELS.map(grey).iter().sum::<f32>() / 3.0;
    assert_near(&adjust(Adjustment::Contrast, 0.0, &PIXELS), &[[mean; 3]; 3]);
    let half = PIXELS.map(|pixel| pixel.map(|value| 0.5 * value + 0.5 * mean));
    assert_near(&adjust(Adjustment::Contrast, 0.5, &PIXELS), &half);
}

#[test]
fn hue_goes_round() {
    let primaries = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let third = 1.0 / 3.0;
    assert_near(&adjust(Adjustment::Hue, third, &primaries), &[primaries[1], primaries[2], primaries[0]]);
    assert_near(&adjust(Adjustment::Hue, -third, &primaries), &[primaries[2], primaries[0], primaries[1]]);
    // Half a turn, by hand: the span keeps its ends, and what was next to the top is next to the bottom.
    assert_near(&adjust(Adjustment::Hue, 0.5, &PIXELS), &[[0.6, 0.4, 0.2], [0.1, 0.9, 0.5], [0.3; 3]]);
    assert_near(&adjust(Adjustment::Hue, 0.0, &PIXELS), &PIXELS);
}

#[test]
fn adjustments_come_in_each_samples_own_order() {
    let settings =
        Augment { brightness: 0.9, contrast: 0.9, saturation: 0.9, hue: 0.4, ..Augment::default() };
    let ids: Vec<u32> = (0..40).collect();
    let pictures = plain(SIZE).to_unit(bytes_of(&ids, 12, 12)).unwrap();
    let jitter = Jitter::draw(&settings, keys(&ids)).unwrap();
    let found = jitter.apply(pictures.copy()).unwrap();
    assert!(found.min().double_value(&[]) >= 0.0 && found.max().double_value(&[]) <= 1.0);
    for (place, order) in jitter.orders.iter().enumerate() {
        let mut expected = pictures.narrow(0, place as i64, 1);
        for what in order {
            let factor = Tensor::from_slice(&[jitter.factors[*what as usize][place]]).view([1, 1, 1, 1]);
            expected = adjusted(*what, &expected, &factor).unwrap();
        }
        assert!(same(&found.narrow(0, place as i64, 1), &expected), "sample {place}: {order:?}");
    }
}
