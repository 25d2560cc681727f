//! The learning rate by epoch, in closed form: a function of the epoch alone, so that a resumed run needs no state.

use std::f64::consts::PI;
use std::num::NonZeroU32;

/// How the learning rate moves over the epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// PyTorch's `CosineAnnealingLR(T_max)` with `eta_min` 0, stepped once per epoch. Beyond `t_max` it rises again,
    /// as PyTorch's does.
    Cosine { t_max: NonZeroU32 },
}

impl Schedule {
    /// The rate of a 0-based epoch: `base_lr` in epoch 0.
    pub fn lr(&self, base_lr: f64, epoch: u32) -> f64 {
        match self {
            Self::Cosine { t_max } => {
                base_lr * (1.0 + (PI * f64::from(epoch) / f64::from(t_max.get())).cos()) / 2.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(t_max: u32) -> Schedule {
        Schedule::Cosine { t_max: NonZeroU32::new(t_max).unwrap() }
    }

    #[test]
    fn starts_at_the_base_rate_and_ends_at_zero() {
        assert_eq!(cosine(200).lr(0.001, 0), 0.001);
        assert!(cosine(200).lr(0.001, 200).abs() < 1e-18);
        assert!((cosine(200).lr(0.001, 100) - 0.0005).abs() < 1e-18);
    }

    /// PyTorch steps a recurrence (`CosineAnnealingLR.get_lr`); the closed form is its solution.
    #[test]
    fn follows_pytorchs_recurrence() {
        let (base, t_max) = (0.1, 7);
        let mut lr = base;
        for epoch in 1..t_max {
            let ratio = |e: u32| 1.0 + (PI * f64::from(e) / f64::from(t_max)).cos();
            lr *= ratio(epoch) / ratio(epoch - 1);
            assert!((cosine(t_max).lr(base, epoch) - lr).abs() < 1e-15, "epoch {epoch}");
        }
    }

    #[test]
    fn rises_again_beyond_its_period() {
        let schedule = cosine(10);
        assert!((schedule.lr(1.0, 13) - schedule.lr(1.0, 7)).abs() < 1e-12);
    }
}
