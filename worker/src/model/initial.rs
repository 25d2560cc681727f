//! Initial values, by torchvision's rules, from an own generator.
//!
//! Each parameter draws from ChaCha8 keyed by (seed, its name), so its values depend on nothing else: not on the
//! device, on libtorch's generators, on what is frozen, nor on what was drawn before.

use std::thread;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

use super::layout::Slot;

/// Fills a parameter's part of a flat buffer.
///
/// - convolutions: normal, std = sqrt(2 / fan_out) (`kaiming_normal_(mode="fan_out", nonlinearity="relu")`)
/// - BatchNorm: weight 1, bias 0
/// - fc: uniform within 1 / sqrt(fan_in), weight and bias (`nn.Linear`'s default); `features` is its fan_in
pub(crate) fn fill(values: &mut [f32], slot: &Slot, features: i64, seed: u64) {
    if slot.is_head() {
        let bound = 1.0 / as_f64(features).sqrt();
        return fill_uniform(values, bound, generator(seed, &slot.name));
    }
    match slot.shape[..] {
        [outputs, _, height, width] => {
            let std = (2.0 / as_f64(outputs * height * width)).sqrt();
            fill_normal(values, std, generator(seed, &slot.name));
        }
        _ => values.fill(if slot.name.ends_with(".weight") { 1.0 } else { 0.0 }),
    }
}

/// Fills all parameters that live in one flat buffer. On all cores: keyed values do not care who draws them.
pub(crate) fn fill_all<'a>(
    slots: impl Iterator<Item = &'a Slot>,
    features: i64,
    seed: u64,
    flat: &mut [f32],
) {
    let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut shares: Vec<Vec<(&Slot, &mut [f32])>> = (0..workers).map(|_| Vec::new()).collect();
    let mut loads = vec![0; workers];
    let mut rest = flat;
    for slot in slots {
        let (values, tail) = rest.split_at_mut(slot.len);
        rest = tail;
        let lightest = (0..workers).min_by_key(|&worker| loads[worker]).unwrap_or(0);
        loads[lightest] += slot.len;
        shares[lightest].push((slot, values));
    }
    thread::scope(|scope| {
        for share in shares.into_iter().filter(|share| !share.is_empty()) {
            scope.spawn(move || {
                for (slot, values) in share {
                    fill(values, slot, features, seed);
                }
            });
        }
    });
}

fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(b"lockstep initial value\0");
    hash.update(seed.to_le_bytes());
    hash.update(name.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

fn fill_normal(values: &mut [f32], std: f64, mut generator: ChaCha8Rng) {
    for value in values {
        let deviate: f64 = StandardNormal.sample(&mut generator);
        *value = (std * deviate) as f32;
    }
}

fn fill_uniform(values: &mut [f32], bound: f64, mut generator: ChaCha8Rng) {
    for value in values {
        // 24 bits are all that f32 can hold evenly in [0, 1).
        let unit = f64::from(generator.next_u32() >> 8) / f64::from(1u32 << 24);
        *value = (bound * (2.0 * unit - 1.0)) as f32;
    }
}

fn as_f64(count: i64) -> f64 {
    count as f64
}
