//! The passes against the same sums written plainly, bit by bit: vector instructions must not show.

use half::bf16;

use super::*;

const CHANNELS: usize = 2 * LANES;
/// Two whole blocks and a part.
const COUNT: usize = 2 * ROWS + 5;

/// No two alike, of both signs.
fn values<E: Element>(seed: usize) -> Vec<E> {
    let value = |i: usize| (((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.45) * 3.0;
    (0..COUNT * CHANNELS).map(|i| E::store(value(i))).collect()
}

fn by_channel(seed: usize) -> Vec<f32> {
    (0..CHANNELS).map(|c| ((c * 31 + seed * 17) % 97) as f32 / 97.0 + 0.2).collect()
}

fn affine(seed: usize) -> Affine {
    let shift = by_channel(seed + 1).into_iter().map(|value| value - 0.7).collect();
    Affine { scale: by_channel(seed), shift }
}

fn floats<E: Element>(values: &[E]) -> Vec<f32> {
    values.iter().map(|value| value.load()).collect()
}

/// A channel's values, from the first row to the last.
fn column(values: &[f32], channel: usize) -> Vec<f32> {
    values.chunks(CHANNELS).map(|row| row[channel]).collect()
}

fn same_bits<E: Element>(found: &[E], expected: impl Fn(usize) -> f32) {
    for (i, found) in found.iter().enumerate() {
        assert_eq!(found.load().to_bits(), E::store(expected(i)).load().to_bits(), "element {i}");
    }
}

fn check_moments<E: Element>() {
    let z = floats(&values::<E>(1));
    let moments = moments(&values::<E>(1), CHANNELS);
    for channel in 0..CHANNELS {
        let column = column(&z, channel).into_iter().map(f64::from).collect::<Vec<_>>();
        let mean = column.iter().sum::<f64>() / COUNT as f64;
        let variance = column.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / COUNT as f64;
        assert!((f64::from(moments.mean[channel]) - mean).abs() < 1e-6);
        assert!((f64::from(moments.variance[channel]) / variance - 1.0).abs() < 1e-5);
    }
}

#[test]
fn moments_are_means_and_biased_variances() {
    check_moments::<f32>();
    check_moments::<bf16>();
}

#[test]
fn a_large_mean_does_not_swallow_the_variance() {
    let z: Vec<f32> = (0..COUNT * CHANNELS).map(|i| 4096.0 + ((i / CHANNELS) % 2) as f32).collect();
    let share = (COUNT / 2) as f64 / COUNT as f64;
    let expected = share * (1.0 - share);
    let found = moments(&z, CHANNELS).variance;
    assert!(found.iter().all(|variance| (f64::from(*variance) / expected - 1.0).abs() < 1e-6), "{found:?}");
}

fn check_normalise<E: Element>() {
    let (z, other) = (values::<E>(1), values::<E>(2));
    let (own, projection) = (affine(3), affine(5));
    let plain = |i: usize| z[i].load() * own.scale[i % CHANNELS] + own.shift[i % CHANNELS];
    let mut y = vec![E::store(9.0); z.len()];
    normalise(&z, &own, Residual::None, &mut y);
    same_bits(&y, |i| plain(i).max(0.0));
    normalise(&z, &own, Residual::Identity(&other), &mut y);
    same_bits(&y, |i| (plain(i) + other[i].load()).max(0.0));
    normalise(&z, &own, Residual::Projected(&other, &projection), &mut y);
    let projected =
        |i: usize| other[i].load() * projection.scale[i % CHANNELS] + projection.shift[i % CHANNELS];
    same_bits(&y, |i| (plain(i) + projected(i)).max(0.0));
}

#[test]
fn the_residual_is_added_before_the_relu() {
    check_normalise::<f32>();
    check_normalise::<bf16>();
}

#[test]
fn no_number_goes_through_the_relu_as_none() {
    let z = vec![f32::NAN; CHANNELS];
    let mut y = vec![0.0; CHANNELS];
    normalise(&z, &affine(1), Residual::None, &mut y);
    assert!(y.iter().all(|y| y.is_nan()));
}

fn check_sums<E: Element>() {
    let (gradient, z) = (values::<E>(4), values::<E>(1));
    let (mean, own) = (by_channel(2), affine(3));
    for mask in [Mask::All, Mask::Positive(&own)] {
        let found = sums(&gradient, &z, &mean, mask);
        let (gradient, z) = (floats(&gradient), floats(&z));
        for (channel, mean) in mean.iter().enumerate() {
            let pairs = column(&gradient, channel).into_iter().zip(column(&z, channel));
            let passed = pairs.map(|(g, z)| match mask {
                Mask::Positive(own) if z * own.scale[channel] + own.shift[channel] <= 0.0 => (0.0, z),
                _ => (g, z),
            });
            let (mut plain, mut centred) = (0.0_f64, 0.0_f64);
            for block in passed.collect::<Vec<_>>().chunks(ROWS) {
                plain += f64::from(block.iter().fold(0.0_f32, |sum, (g, _)| sum + g));
                centred += f64::from(block.iter().fold(0.0_f32, |sum, (g, z)| sum + g * (z - mean)));
            }
            assert_eq!((found.plain[channel], found.centred[channel]), (plain, centred), "{channel}");
        }
    }
}

#[test]
fn sums_go_by_blocks_of_rows() {
    check_sums::<f32>();
    check_sums::<bf16>();
}

fn check_input_gradient<E: Element>() {
    let (gradient, before) = (values::<E>(4), values::<E>(1));
    let (mean, own) = (by_channel(2), affine(3));
    let slopes = Slopes { offset: by_channel(6), slope: by_channel(7) };
    for mask in [Mask::All, Mask::Positive(&own)] {
        let mut z = before.clone();
        input_gradient(&gradient, &mut z, &mean, &slopes, &own.scale, mask);
        same_bits(&z, |i| {
            let (c, z) = (i % CHANNELS, before[i].load());
            let masked = matches!(mask, Mask::Positive(_)) && z * own.scale[c] + own.shift[c] <= 0.0;
            let g = if masked { 0.0 } else { gradient[i].load() };
            own.scale[c] * (g - slopes.offset[c] - (z - mean[c]) * slopes.slope[c])
        });
    }
}

#[test]
fn the_gradient_of_the_input_takes_the_gradients_mean_and_slope_away() {
    check_input_gradient::<f32>();
    check_input_gradient::<bf16>();
}

#[test]
fn a_mask_takes_what_the_relu_stopped() {
    let mut gradient = values::<f32>(1);
    mask(&mut gradient, &values::<f32>(2));
    let (before, y) = (values::<f32>(1), values::<f32>(2));
    same_bits(&gradient, |i| if y[i] > 0.0 { before[i] } else { 0.0 });
}

#[test]
fn pooling_and_its_way_back() {
    const POSITIONS: usize = 4;
    let samples = COUNT / POSITIONS;
    let y: Vec<f32> = values(1)[..samples * POSITIONS * CHANNELS].to_vec();
    let mut means = vec![9.0; samples * CHANNELS];
    pool(&y, POSITIONS, CHANNELS, &mut means);
    same_bits(&means, |i| {
        let (sample, channel) = (i / CHANNELS, i % CHANNELS);
        let value = |position| y[(sample * POSITIONS + position) * CHANNELS + channel];
        (0..POSITIONS).map(value).fold(0.0, |sum, value| sum + value) / POSITIONS as f32
    });
    let mut gradient = vec![bf16::ONE; y.len()];
    spread(&means, POSITIONS, CHANNELS, &mut gradient);
    same_bits(&gradient, |i| means[i / (POSITIONS * CHANNELS) * CHANNELS + i % CHANNELS] / POSITIONS as f32);
}
