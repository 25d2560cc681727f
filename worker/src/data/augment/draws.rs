//! A sample's random numbers: functions of (seed, epoch, sample) alone, whoever draws them and in whatever company.
//!
//! Each augmentation has a stream of its own under the sample's key (ChaCha's 64-bit stream number), so how many numbers
//! one takes, or whether it is on at all, changes nothing for another. Exponentials and logarithms come from the crate
//! `libm`: the system's differ in their last bits between machines, and a draw decides where a picture is cut.

use rand_chacha::ChaCha8Rng;

use crate::data::keyed::{self, below, between, unit};

const PURPOSE: &[u8; 16] = b"augmentation    ";

/// The streams. Numbers are never given to another augmentation: that would change what recipes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Stream {
    ResizedCrop = 0,
    PaddedCrop = 1,
    Flip = 2,
    ColourOrder = 3,
    Brightness = 4,
    Contrast = 5,
    Saturation = 6,
    Hue = 7,
    Erasing = 8,
    Mixup = 9,
    Cutmix = 10,
    /// Of a slice's first sample: which of the two it is.
    MixupOrCutmix = 11,
}

/// Whose random numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys<'a> {
    pub(super) seed: u64,
    pub(super) epoch: u32,
    /// A slice of a step, in its order.
    pub(super) ids: &'a [u32],
}

impl Keys<'_> {
    fn rng(&self, stream: Stream, sample: u32) -> ChaCha8Rng {
        let mut rng = keyed::stream(self.seed, PURPOSE, self.epoch, sample);
        rng.set_stream(stream as u64);
        rng
    }

    /// What `draw` makes of each sample's stream.
    pub(super) fn draw<T>(&self, stream: Stream, draw: impl Fn(&mut ChaCha8Rng) -> T) -> Vec<T> {
        self.ids.iter().map(|id| draw(&mut self.rng(stream, *id))).collect()
    }

    /// What `draw` makes of the first sample's stream; none without samples.
    pub(super) fn draw_once<T>(&self, stream: Stream, draw: impl Fn(&mut ChaCha8Rng) -> T) -> Option<T> {
        self.ids.first().map(|id| draw(&mut self.rng(stream, *id)))
    }
}

/// True with probability `share`.
pub(super) fn chance(rng: &mut ChaCha8Rng, share: f64) -> bool {
    unit(rng) < share
}

/// The sides of a rectangle of about `area` pixels, the first exp(`log_ratio`) times the second, in whole pixels by
/// Python's rounding: torchvision's way.
pub(super) fn sides(area: f64, log_ratio: f64) -> (f64, f64) {
    let ratio = libm::exp(log_ratio);
    ((area * ratio).sqrt().round_ties_even(), (area / ratio).sqrt().round_ties_even())
}

/// The logarithm of a number from `least` to `most`, itself uniform.
pub(super) fn log_between(rng: &mut ChaCha8Rng, least: f64, most: f64) -> f64 {
    between(rng, libm::log(least), libm::log(most))
}

/// 0, 1, 2, 3 in a random order.
pub(super) fn order_of_four(rng: &mut ChaCha8Rng) -> [usize; 4] {
    let mut order = [0, 1, 2, 3];
    for last in (1..4_u32).rev() {
        order.swap(last as usize, below(rng, last + 1) as usize);
    }
    order
}

/// Beta(`alpha`, `alpha`): X / (X + Y) of two Gamma(`alpha`) deviates, in logarithms, because with a small alpha both may
/// be smaller than any float.
pub(super) fn beta(rng: &mut ChaCha8Rng, alpha: f64) -> f64 {
    let (x, y) = (log_gamma(rng, alpha), log_gamma(rng, alpha));
    1.0 / (1.0 + libm::exp(y - x))
}

/// The logarithm of a Gamma(`alpha`, 1) deviate: Marsaglia and Tsang, "A simple method for generating gamma variables"
/// (2000); below 1, Gamma(alpha + 1) * U^(1 / alpha), also theirs.
fn log_gamma(rng: &mut ChaCha8Rng, alpha: f64) -> f64 {
    let (alpha, power) = if alpha < 1.0 { (alpha + 1.0, log_unit(rng) / alpha) } else { (alpha, 0.0) };
    let d = alpha - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let root = 1.0 + c * x;
        if root <= 0.0 {
            continue;
        }
        let v = root * root * root;
        if log_unit(rng) < 0.5 * x * x + d - d * v + d * libm::log(v) {
            return libm::log(d) + libm::log(v) + power;
        }
    }
}

/// Marsaglia's polar method, of whose two deviates one is kept.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    loop {
        let (x, y) = (between(rng, -1.0, 1.0), between(rng, -1.0, 1.0));
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * libm::log(square) / square).sqrt();
        }
    }
}

/// The logarithm of a number in (0, 1].
fn log_unit(rng: &mut ChaCha8Rng) -> f64 {
    libm::log(1.0 - unit(rng))
}
