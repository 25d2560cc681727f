//! Sums from which loss and accuracy are told.

use serde::{Deserialize, Serialize};

/// Sums over samples. Sums, not means, so that parts combine exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub loss_sum: f64,
    /// Samples whose highest logit is their label's.
    pub correct: u64,
    /// Samples.
    pub count: u64,
}

impl Metrics {
    /// Mean loss per sample; NaN when there are none.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.count as f64
    }

    /// Top-1 accuracy, 0 to 1; NaN when there are no samples.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.count as f64
    }

    /// The same bits, so that sums which are no number are equal to themselves.
    pub(crate) fn is_identical(&self, other: &Self) -> bool {
        (self.loss_sum.to_bits(), self.correct, self.count)
            == (other.loss_sum.to_bits(), other.correct, other.count)
    }

    /// Adds `other`. The caller fixes the order, since f64 addition is not associative.
    pub fn add(&mut self, other: &Self) {
        self.loss_sum += other.loss_sum;
        self.correct += other.correct;
        self.count += other.count;
    }
}
