//! How often which class was taken for which.

/// Counts by true class and predicted class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// A row per true class.
    counts: Vec<u64>,
}

impl Confusion {
    /// Nothing counted yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Counts one sample.
    pub(crate) fn count(&mut self, label: usize, predicted: usize) {
        self.counts[label * self.classes + predicted] += 1;
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Samples of class `label` that were taken for `predicted`.
    pub fn at(&self, label: usize, predicted: usize) -> u64 {
        self.counts[label * self.classes + predicted]
    }

    /// By true class, each by predicted class.
    pub fn rows(&self) -> impl Iterator<Item = &[u64]> {
        // A chunk of nothing is not allowed, and without classes there is no row.
        self.counts.chunks_exact(self.classes.max(1))
    }

    /// Samples that were taken for what they are.
    pub(super) fn correct(&self) -> u64 {
        (0..self.classes).map(|class| self.at(class, class)).sum()
    }

    /// Samples of a class.
    pub(super) fn support(&self, label: usize) -> u64 {
        self.counts[label * self.classes..][..self.classes].iter().sum()
    }

    /// By class, the samples taken for it.
    pub(super) fn predicted(&self) -> Vec<u64> {
        let mut sums = vec![0; self.classes];
        for row in self.rows() {
            sums.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
        }
        sums
    }
}
