//! Sums from which loss and accuracy are told. Sums, not means, so that parts combine exactly.

/// Sums over samples.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Metrics {
    pub loss_sum: f64,
    /// Samples whose highest logit is their label's.
    pub correct: u64,
    /// Samples.
    pub count: u64,
}

impl Metrics {
    /// Adds `other`. The caller fixes the order: f64 addition is not associative.
    pub fn add(&mut self, other: &Self) {
        self.loss_sum += other.loss_sum;
        self.correct += other.correct;
        self.count += other.count;
    }

    /// Mean loss per sample.
    #[must_use]
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.count as f64
    }

    /// Top-1 accuracy, 0 to 1.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.count as f64
    }
}

/// One evaluation block's sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockMetrics {
    /// 0-based index in the split.
    pub block: u32,
    pub metrics: Metrics,
}
