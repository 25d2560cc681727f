//! A shard's slice in parts that are computed one after another, so that only one part's activations are in memory at
//! a time, and what their sums are made in.

use std::ops::Range;

use tch::Tensor;

/// Fewer have no variance to normalise by.
const SAMPLES_MIN: usize = 2;

/// Cuts `len` samples into `wanted` neighbouring parts, sizes differing by at most one; into fewer where a part would
/// have fewer than two samples.
pub(super) fn cut(len: usize, wanted: u32) -> Vec<Range<usize>> {
    let count = (wanted as usize).min(len / SAMPLES_MIN).max(1);
    let edge = |part: usize| part * len / count;
    (0..count).map(|part| edge(part)..edge(part + 1)).collect()
}

/// The sums over a shard's parts so far, laid out like the model's flat tensors.
#[derive(Debug)]
pub(super) struct PartSums {
    pub(super) gradient: Tensor,
    pub(super) statistics: Tensor,
}

impl PartSums {
    pub(super) fn new(gradient: &Tensor, statistics: &Tensor) -> Self {
        Self { gradient: gradient.zeros_like(), statistics: statistics.zeros_like() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_neighbours_and_almost_alike() {
        for len in 2..40 {
            for wanted in 1..9 {
                let parts = cut(len, wanted);
                assert!(parts.len() <= wanted as usize);
                assert_eq!((parts[0].start, parts[parts.len() - 1].end), (0, len));
                assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
                let sizes = || parts.iter().map(ExactSizeIterator::len);
                assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1, "{len} in {wanted}: {parts:?}");
                assert!(sizes().min().unwrap() >= SAMPLES_MIN);
                assert!(parts.len() == wanted as usize || len < SAMPLES_MIN * wanted as usize);
            }
        }
        assert_eq!(cut(7, 3), [0..2, 2..4, 4..7]);
        assert_eq!(cut(1, 4).len(), 1);
    }
}
