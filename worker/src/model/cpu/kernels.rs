//! The element-wise passes and sums of BatchNorm, ReLU and pooling, fused so that each activation is read and written
//! as seldom as can be. Matrices are `[rows, channels]`, rows being the positions of all samples.
//!
//! Every loop fixes its order of addition: [`LANES`] channels side by side, [`ROWS`] rows in f32, blocks of rows in f64.
//! So the bits depend on the numbers alone, not on the instruction set that [`pulp`] picks, and a variance is exact
//! even where the mean is large. Products and sums are rounded one by one, never contracted.

#[cfg(test)]
mod tests;

use super::element::Element;

/// Channels that are handled side by side; those of all ResNets are multiples of it.
pub(super) const LANES: usize = 64;
/// Rows that are summed in f32: with [`LANES`] of 2,048 channels they stay in the second-level cache.
const ROWS: usize = 32;

type Lanes = [f32; LANES];

/// A batch's statistics, by channel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: Vec<f32>,
    /// The mean of the squared distances (biased).
    pub(super) variance: Vec<f32>,
}

/// `z * scale + shift`, by channel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Affine {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

/// What is added before the ReLU.
#[derive(Debug, Clone, Copy)]
pub(super) enum Residual<'a, E> {
    None,
    Identity(&'a [E]),
    /// The projection, before its normalisation.
    Projected(&'a [E], &'a Affine),
}

/// Which of a unit's gradients its ReLU lets through.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mask<'a> {
    All,
    /// Where `z * scale + shift` is not below or at 0.
    Positive(&'a Affine),
}

/// The sums that BatchNorm's backward needs, by channel: of g, and of g * (z - mean).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sums {
    pub(super) plain: Vec<f64>,
    pub(super) centred: Vec<f64>,
}

/// dz = scale * (g - offset - (z - mean) * slope), by channel.
#[derive(Debug, Clone)]
pub(super) struct Slopes {
    pub(super) offset: Vec<f32>,
    pub(super) slope: Vec<f32>,
}

#[inline(always)]
fn lanes<T>(values: &[T], at: usize) -> &[T; LANES] {
    values[at..].first_chunk().expect("channels are a multiple of the lanes")
}

#[inline(always)]
fn lanes_mut<T>(values: &mut [T], at: usize) -> &mut [T; LANES] {
    values[at..].first_chunk_mut().expect("channels are a multiple of the lanes")
}

#[inline(always)]
fn relu(value: f32) -> f32 {
    // A NaN stays one.
    if value <= 0.0 { 0.0 } else { value }
}

/// Runs `body` with the widest instructions that this machine has.
fn dispatch<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// The statistics of `z`.
pub(super) fn moments<E: Element>(z: &[E], channels: usize) -> Moments {
    let (mut mean, mut squares) = (vec![0.0_f64; channels], vec![0.0_f64; channels]);
    dispatch(|| {
        let mut before = 0.0;
        for block in z.chunks(ROWS * channels) {
            let rows = (block.len() / channels) as f64;
            for at in (0..channels).step_by(LANES) {
                let (sums, spread) = block_moments(block, channels, at, rows as f32);
                let (mean, squares) = (lanes_mut(&mut mean, at), lanes_mut(&mut squares, at));
                // Chan's rule for two sets' moments.
                for lane in 0..LANES {
                    let step = f64::from(sums[lane]) / rows - mean[lane];
                    mean[lane] += step * (rows / (before + rows));
                    squares[lane] +=
                        f64::from(spread[lane]) + step * step * (before * rows / (before + rows));
                }
            }
            before += rows;
        }
    });
    let rows = (z.len() / channels) as f64;
    let variance = squares.iter().map(|squares| (squares / rows) as f32).collect();
    Moments { mean: mean.iter().map(|mean| *mean as f32).collect(), variance }
}

/// Sums of a block's values and of their squared distances from its mean.
#[inline(always)]
fn block_moments<E: Element>(block: &[E], channels: usize, at: usize, rows: f32) -> (Lanes, Lanes) {
    let mut sums = [0.0; LANES];
    for row in block.chunks_exact(channels) {
        let row = lanes(row, at);
        for lane in 0..LANES {
            sums[lane] += row[lane].load();
        }
    }
    let mut spread = [0.0; LANES];
    let centre = sums.map(|sum| sum / rows);
    for row in block.chunks_exact(channels) {
        let row = lanes(row, at);
        for lane in 0..LANES {
            let distance = row[lane].load() - centre[lane];
            spread[lane] += distance * distance;
        }
    }
    (sums, spread)
}

/// y = relu(z * scale + shift + residual).
pub(super) fn normalise<E: Element>(z: &[E], affine: &Affine, residual: Residual<'_, E>, y: &mut [E]) {
    let channels = affine.scale.len();
    let rows = z.chunks_exact(channels).zip(y.chunks_exact_mut(channels));
    dispatch(|| match residual {
        Residual::None => {
            for (z, y) in rows {
                for (((y, z), scale), shift) in y.iter_mut().zip(z).zip(&affine.scale).zip(&affine.shift) {
                    *y = E::store(relu(z.load() * scale + shift));
                }
            }
        }
        Residual::Identity(other) => {
            for ((z, y), other) in rows.zip(other.chunks_exact(channels)) {
                let numbers = y.iter_mut().zip(z).zip(other).zip(&affine.scale).zip(&affine.shift);
                for ((((y, z), other), scale), shift) in numbers {
                    *y = E::store(relu(z.load() * scale + shift + other.load()));
                }
            }
        }
        Residual::Projected(other, projection) => {
            for ((z, y), other) in rows.zip(other.chunks_exact(channels)) {
                let numbers = y.iter_mut().zip(z).zip(other).zip(&affine.scale).zip(&affine.shift);
                for (((((y, z), other), scale), shift), (by, plus)) in
                    numbers.zip(projection.scale.iter().zip(&projection.shift))
                {
                    *y = E::store(relu(z.load() * scale + shift + (other.load() * by + plus)));
                }
            }
        }
    });
}

/// Sets to zero what did not pass the ReLU whose result is `y`.
pub(super) fn mask<E: Element>(gradient: &mut [E], y: &[E]) {
    dispatch(|| {
        for (gradient, y) in gradient.iter_mut().zip(y) {
            if y.load() <= 0.0 {
                *gradient = E::store(0.0);
            }
        }
    });
}

/// The sums over what `mask` lets through of `gradient`.
pub(super) fn sums<E: Element>(gradient: &[E], z: &[E], mean: &[f32], mask: Mask<'_>) -> Sums {
    let channels = mean.len();
    let mut sums = Sums { plain: vec![0.0; channels], centred: vec![0.0; channels] };
    dispatch(|| {
        let blocks = gradient.chunks(ROWS * channels).zip(z.chunks(ROWS * channels));
        for (gradient, z) in blocks {
            for at in (0..channels).step_by(LANES) {
                let mean = lanes(mean, at);
                let (plain, centred) = match mask {
                    Mask::All => block_sums(gradient, z, (channels, at), mean, |_, _| false),
                    Mask::Positive(Affine { scale, shift }) => {
                        let (scale, shift) = (lanes(scale, at), lanes(shift, at));
                        let stopped = |z: f32, lane: usize| z * scale[lane] + shift[lane] <= 0.0;
                        block_sums(gradient, z, (channels, at), mean, stopped)
                    }
                };
                let (all, dots) = (lanes_mut(&mut sums.plain, at), lanes_mut(&mut sums.centred, at));
                for lane in 0..LANES {
                    all[lane] += f64::from(plain[lane]);
                    dots[lane] += f64::from(centred[lane]);
                }
            }
        }
    });
    sums
}

#[inline(always)]
fn block_sums<E: Element>(
    gradient: &[E],
    z: &[E],
    (channels, at): (usize, usize),
    mean: &Lanes,
    stopped: impl Fn(f32, usize) -> bool,
) -> (Lanes, Lanes) {
    let (mut plain, mut centred) = ([0.0; LANES], [0.0; LANES]);
    for (gradient, z) in gradient.chunks_exact(channels).zip(z.chunks_exact(channels)) {
        let (gradient, z) = (lanes(gradient, at), lanes(z, at));
        for lane in 0..LANES {
            let z = z[lane].load();
            let g = if stopped(z, lane) { 0.0 } else { gradient[lane].load() };
            plain[lane] += g;
            centred[lane] += g * (z - mean[lane]);
        }
    }
    (plain, centred)
}

/// Overwrites `z` with the gradient of BatchNorm's input by [`Slopes`].
pub(super) fn input_gradient<E: Element>(
    gradient: &[E],
    z: &mut [E],
    mean: &[f32],
    slopes: &Slopes,
    scale: &[f32],
    mask: Mask<'_>,
) {
    let channels = mean.len();
    dispatch(|| {
        for (gradient, z) in gradient.chunks_exact(channels).zip(z.chunks_exact_mut(channels)) {
            for at in (0..channels).step_by(LANES) {
                let (gradient, z) = (lanes(gradient, at), lanes_mut(z, at));
                let (mean, by) = (lanes(mean, at), lanes(scale, at));
                let (offset, slope) = (lanes(&slopes.offset, at), lanes(&slopes.slope, at));
                let change = |g: f32, z: f32, lane: usize| {
                    by[lane] * (g - offset[lane] - (z - mean[lane]) * slope[lane])
                };
                match mask {
                    Mask::All => {
                        for lane in 0..LANES {
                            z[lane] = E::store(change(gradient[lane].load(), z[lane].load(), lane));
                        }
                    }
                    Mask::Positive(Affine { scale, shift }) => {
                        let (scale, shift) = (lanes(scale, at), lanes(shift, at));
                        for lane in 0..LANES {
                            let value = z[lane].load();
                            let stopped = value * scale[lane] + shift[lane] <= 0.0;
                            let g = if stopped { 0.0 } else { gradient[lane].load() };
                            z[lane] = E::store(change(g, value, lane));
                        }
                    }
                }
            }
        }
    });
}

/// Each sample's mean over its `positions` rows: `[samples, channels]`.
pub(super) fn pool<E: Element>(y: &[E], positions: usize, channels: usize, means: &mut [f32]) {
    dispatch(|| {
        for (sample, means) in y.chunks_exact(positions * channels).zip(means.chunks_exact_mut(channels)) {
            means.fill(0.0);
            for row in sample.chunks_exact(channels) {
                for (mean, value) in means.iter_mut().zip(row) {
                    *mean += value.load();
                }
            }
            for mean in means {
                *mean /= positions as f32;
            }
        }
    });
}

/// The way back of [`pool`].
pub(super) fn spread<E: Element>(means: &[f32], positions: usize, channels: usize, gradient: &mut [E]) {
    dispatch(|| {
        for (sample, means) in
            gradient.chunks_exact_mut(positions * channels).zip(means.chunks_exact(channels))
        {
            for row in sample.chunks_exact_mut(channels) {
                for (gradient, mean) in row.iter_mut().zip(means) {
                    *gradient = E::store(mean / positions as f32);
                }
            }
        }
    });
}
