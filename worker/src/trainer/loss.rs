//! The loss: what training minimises, and what evaluation tells.

use tch::{Kind, Reduction, Tensor};

use crate::data::{Batch, Mixed};

/// PyTorch's default for `ignore_index`; no label is negative here.
const IGNORE_NOTHING: i64 = -100;

/// The sum of the batch's losses, 0-dim: cross entropy with `label_smoothing` spread evenly over all classes, and of mixed
/// pictures the two labels' losses by their shares.
pub(super) fn training(logits: &Tensor, batch: &Batch, label_smoothing: f64) -> Tensor {
    let entropy = |labels, reduction| {
        logits.cross_entropy_loss::<Tensor>(labels, None, reduction, IGNORE_NOTHING, label_smoothing)
    };
    let Some(Mixed { labels, share }) = &batch.mixed else { return entropy(&batch.labels, Reduction::Sum) };
    let (own, other) = (entropy(&batch.labels, Reduction::None), entropy(labels, Reduction::None));
    let rest = share.g_mul_scalar(-1.0).g_add_scalar(1.0);
    (own.g_mul(share) + other.g_mul(&rest)).sum(Kind::Float)
}

/// Each sample's plain loss, f32 [N].
pub(super) fn plain(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::None, IGNORE_NOTHING, 0.0)
}

/// Samples whose highest logit is their label's; of a mixed picture, its main one's.
pub(super) fn correct(logits: &Tensor, labels: &Tensor) -> u64 {
    let hits = logits.argmax(-1, false).eq_tensor(labels).sum(Kind::Int64).int64_value(&[]);
    u64::try_from(hits).expect("a count is not negative")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(mixed: Option<Mixed>) -> Batch {
        let labels = Tensor::from_slice(&[0_i64, 2]);
        Batch { images: Tensor::from_slice(&[0.0_f32]), labels, mixed }
    }

    fn logits() -> Tensor {
        Tensor::from_slice(&[0.5_f32, -1.0, 2.0, 1.0, 0.0, -0.5]).view([2, 3])
    }

    /// Minus the logarithm of a row's softmax, in f64.
    fn surprise(row: [f64; 3], label: usize) -> f64 {
        row.iter().map(|logit| logit.exp()).sum::<f64>().ln() - row[label]
    }

    const ROWS: [[f64; 3]; 2] = [[0.5, -1.0, 2.0], [1.0, 0.0, -0.5]];

    /// The target is 1 - smoothing for the label, plus smoothing / classes for each class.
    fn smoothed(row: [f64; 3], label: usize, smoothing: f64) -> f64 {
        let even = (0..3).map(|class| surprise(row, class)).sum::<f64>() / 3.0;
        (1.0 - smoothing) * surprise(row, label) + smoothing * even
    }

    fn assert_close(found: &Tensor, expected: f64) {
        let found = found.double_value(&[]);
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
    }

    #[test]
    fn smoothing_spreads_part_of_the_target_over_all_classes() {
        for smoothing in [0.0, 0.1, 0.5] {
            let expected = smoothed(ROWS[0], 0, smoothing) + smoothed(ROWS[1], 2, smoothing);
            assert_close(&training(&logits(), &batch(None), smoothing), expected);
        }
        let plain = plain(&logits(), &batch(None).labels).sum(Kind::Float);
        assert_close(&plain, surprise(ROWS[0], 0) + surprise(ROWS[1], 2));
    }

    #[test]
    fn mixed_pictures_weigh_both_labels_by_their_shares() {
        let mixed = || {
            let (labels, share) = (Tensor::from_slice(&[2_i64, 0]), Tensor::from_slice(&[0.75_f32, 1.0]));
            Some(Mixed { labels, share })
        };
        for smoothing in [0.0, 0.1] {
            let first = 0.75 * smoothed(ROWS[0], 0, smoothing) + 0.25 * smoothed(ROWS[0], 2, smoothing);
            let expected = first + smoothed(ROWS[1], 2, smoothing);
            assert_close(&training(&logits(), &batch(mixed()), smoothing), expected);
        }
    }

    #[test]
    fn hits_are_counted_by_the_main_label() {
        assert_eq!(correct(&logits(), &Tensor::from_slice(&[2_i64, 2])), 1);
        assert_eq!(correct(&logits(), &Tensor::from_slice(&[2_i64, 0])), 2);
    }
}
