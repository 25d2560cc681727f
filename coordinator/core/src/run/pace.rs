//! How fast the run steps, so that what takes too long is told by its own measure.

use std::collections::VecDeque;

/// Reports that the median is taken of; a few seconds' worth.
const REPORTS_MAX: usize = 32;
/// With fewer, nothing is known: the first steps of a process are not like the others.
const REPORTS_MIN: usize = 3;

/// The newest step times.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pace {
    step_ms: VecDeque<f64>,
}

impl Pace {
    /// Takes in a mean step time that somebody reported.
    pub(super) fn take(&mut self, step_ms: f64) {
        if !step_ms.is_finite() || step_ms <= 0.0 {
            return;
        }
        if self.step_ms.len() == REPORTS_MAX {
            self.step_ms.pop_front();
        }
        self.step_ms.push_back(step_ms);
    }

    /// The median step time; none as long as too little is known.
    pub(super) fn median_ms(&self) -> Option<f64> {
        (self.step_ms.len() >= REPORTS_MIN).then(|| median(self.step_ms.iter().copied()))
    }
}

/// The lower of the two middle values where there are two; of nothing, 0.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_that_of_the_newest_reports() {
        let mut pace = Pace::default();
        pace.take(5.0);
        pace.take(f64::NAN);
        pace.take(7.0);
        assert_eq!(pace.median_ms(), None);
        pace.take(100.0);
        assert_eq!(pace.median_ms(), Some(7.0));
        (0..REPORTS_MAX).for_each(|_| pace.take(9.0));
        assert_eq!((pace.median_ms(), pace.step_ms.len()), (Some(9.0), REPORTS_MAX));
    }
}
