//! Which training samples a run holds out for validation.
//!
//! The workers divide them (their `data::order`); this is the same division, said once more, because the two programs share
//! nothing but the wire. The tests of both hold it to the same values, which an independent program has computed.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// What the random numbers are for: part of their key.
const PURPOSE: &[u8; 16] = b"validation split";

/// Divides the samples `0..train_samples` into (trained on, held out for validation), both ascending.
///
/// At most `train_samples` are held out.
pub fn split(seed: u64, train_samples: u32, validation_samples: u32) -> (Vec<usize>, Vec<usize>) {
    let mut ids: Vec<usize> = (0..train_samples as usize).collect();
    if validation_samples == 0 {
        return (ids, Vec::new());
    }
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..24].copy_from_slice(PURPOSE);
    let mut rng = ChaCha8Rng::from_seed(key);
    // Fisher–Yates from the end.
    for last in (1..train_samples).rev() {
        ids.swap(last as usize, below(&mut rng, last + 1) as usize);
    }
    let mut train = ids.split_off(validation_samples.min(train_samples) as usize);
    train.sort_unstable();
    ids.sort_unstable();
    (train, ids)
}

/// Uniform in `0..bound`, exactly: Lemire, "Fast random integer generation in an interval" (2019).
fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    let rejected = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(rng.next_u32()) * u64::from(bound);
        if product as u32 >= rejected {
            return (product >> 32) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_samples_held_out_are_those_that_the_workers_hold_out() {
        assert_eq!(split(7, 10, 3), (vec![0, 1, 3, 5, 7, 8, 9], vec![2, 4, 6]));
        let (train, validation) = split(7, 50_000, 5_000);
        assert_eq!((train.len(), validation.len()), (45_000, 5_000));
        let bytes: Vec<u8> = validation.iter().flat_map(|id| (*id as u32).to_le_bytes()).collect();
        assert_eq!(hex::encode(&Sha256::digest(bytes)[..8]), "1f29c65a87823684");
    }

    #[test]
    fn a_split_leaves_nothing_out() {
        assert_eq!(split(7, 3, 0), (vec![0, 1, 2], vec![]));
        assert_eq!(split(7, 2, 5), (vec![], vec![0, 1]));
        let (train, validation) = split(1, 100, 10);
        let mut all = [train, validation].concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }
}
