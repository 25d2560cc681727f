//! Random numbers that are keyed by what they are for, never drawn in turn: ChaCha8's documented stream.
//!
//! What is made of the stream is written out here, because a run's weights depend on it: a library that draws
//! otherwise in its next version would silently change what a recipe means.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// 2^-53: the step between the values of [`unit`].
const UNIT_STEP: f64 = 1.0 / (1_u64 << 53) as f64;

/// The stream of one purpose: its key is the seed, the purpose, the epoch and the sample, the last two 0 where they say
/// nothing.
pub(super) fn stream(seed: u64, purpose: &[u8; 16], epoch: u32, sample: u32) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..24].copy_from_slice(purpose);
    key[24..28].copy_from_slice(&epoch.to_le_bytes());
    key[28..].copy_from_slice(&sample.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// Uniform in `0..bound`, exactly: Lemire, "Fast random integer generation in an interval" (2019).
pub(super) fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    let rejected = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(rng.next_u32()) * u64::from(bound);
        let (high, low) = ((product >> 32) as u32, product as u32);
        if low >= rejected {
            return high;
        }
    }
}

/// Uniform in `0.0..1.0`, all 53 bits of it.
pub(super) fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * UNIT_STEP
}

/// Uniform from `low` to `high`.
pub(super) fn between(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(rng)
}
