//! The factor on the learning rates, in closed form: a function of the position alone, so that a resumed run needs no
//! state. Time is counted in epochs, or in steps where the plan moves per step.

use std::f64::consts::PI;

use crate::plan::{Curve, Plan, Position, SchedulePlan};

/// A plan's schedule with its lengths in units of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Schedule {
    curve: Curve,
    per_step: bool,
    /// Units per epoch.
    epoch: f64,
    /// Units of warm-up.
    warmup: f64,
    warmup_start: f64,
    /// Units that the run has left after the warm-up.
    rest: f64,
}

impl Schedule {
    pub(super) fn new(plan: &Plan) -> Self {
        let SchedulePlan { curve, per_step, warmup_epochs, warmup_start } = plan.schedule;
        let epoch = if per_step { plan.steps_per_epoch as f64 } else { 1.0 };
        let rest = epoch * f64::from(plan.epochs.saturating_sub(warmup_epochs));
        Self { curve, per_step, epoch, warmup: epoch * f64::from(warmup_epochs), warmup_start, rest }
    }

    /// The factor for the step that comes at `position`.
    ///
    /// Warm-up and curve follow each other as in PyTorch's `SequentialLR([LinearLR(start_factor), …])`: the rate rises
    /// linearly to where the curve starts, which then begins at its time 0.
    pub(super) fn factor(&self, position: Position) -> f64 {
        let now = if self.per_step { position.step as f64 } else { f64::from(position.epoch) };
        if now < self.warmup {
            let rise = self.warmup_start + (1.0 - self.warmup_start) * now / self.warmup;
            return rise * self.curve_start();
        }
        self.curve_at(now - self.warmup)
    }

    /// The factor that the curve is made from: a cycle's rise starts low.
    fn curve_start(&self) -> f64 {
        match self.curve {
            Curve::OneCycle { div_factor, .. } => 1.0 / div_factor,
            _ => 1.0,
        }
    }

    fn curve_at(&self, time: f64) -> f64 {
        match self.curve {
            Curve::Constant => 1.0,
            // Beyond `t_max` it rises again, as PyTorch's does.
            Curve::Cosine { t_max } => half_cosine(time / (f64::from(t_max.get()) * self.epoch)),
            Curve::CosineToZero if self.rest > 0.0 => half_cosine((time / self.rest).min(1.0)),
            Curve::CosineToZero => 0.0,
            Curve::Step { size, gamma } => gamma.powf((time / (f64::from(size.get()) * self.epoch)).floor()),
            Curve::OneCycle { pct_start, final_div_factor, .. } => {
                let start = self.curve_start();
                one_cycle(time, self.rest, pct_start, start, start / final_div_factor)
            }
        }
    }
}

/// From 1 at 0 to 0 at 1.
fn half_cosine(share: f64) -> f64 {
    (1.0 + (PI * share).cos()) / 2.0
}

/// PyTorch's `OneCycleLR(three_phase=False)`: half a cosine from `start` up to 1, half a cosine down to `end`, which the
/// last of `total` units reaches. Momentum stays as it is (`cycle_momentum=False`).
fn one_cycle(time: f64, total: f64, pct_start: f64, start: f64, end: f64) -> f64 {
    let (peak, last) = (pct_start * total - 1.0, total - 1.0);
    // Where a phase has no length PyTorch divides by zero; here it is over at once.
    let share = |from: f64, to: f64| if to > from { ((time - from) / (to - from)).min(1.0) } else { 1.0 };
    if time <= peak {
        1.0 + (start - 1.0) * half_cosine(share(0.0, peak))
    } else {
        end + (1.0 - end) * half_cosine(share(peak, last))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::plan;

    fn positive(value: u32) -> NonZeroU32 {
        NonZeroU32::new(value).unwrap()
    }

    fn schedule(curve: Curve, per_step: bool, warmup: (u32, f64), epochs: u32, steps: u64) -> Schedule {
        let (warmup_epochs, warmup_start) = warmup;
        let schedule = SchedulePlan { curve, per_step, warmup_epochs, warmup_start };
        Schedule::new(&Plan { schedule, epochs, steps_per_epoch: steps, ..plan::sample() })
    }

    /// Steps or epochs from the start on, one after another, as close as PyTorch's own recurrences come.
    fn assert_follows(schedule: Schedule, steps_per_epoch: u64, expected: &[f64]) {
        for (time, expected) in (0u64..).zip(expected) {
            let (epoch, step) = if schedule.per_step {
                (time / steps_per_epoch, time)
            } else {
                (time, time * steps_per_epoch)
            };
            let position = Position { epoch: u32::try_from(epoch).unwrap(), step };
            let found = schedule.factor(position);
            assert!((found - expected).abs() < 1e-14, "{schedule:?} at {time}: {found}, not {expected}");
        }
    }

    const NO_WARMUP: (u32, f64) = (0, 0.01);
    const ONE_CYCLE: Curve = Curve::OneCycle { pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4 };

    /// `CosineAnnealingLR(T_max=7)`, torch 2.11.
    const COSINE_7: [f64; 12] = [
        1.0,
        0.9504844339512095,
        0.8117449009293668,
        0.6112604669781572,
        0.38873953302184283,
        0.18825509907063326,
        0.04951556604879048,
        0.0,
        0.04951556604879043,
        0.18825509907063315,
        0.3887395330218427,
        0.6112604669781567,
    ];

    #[test]
    fn cosine_is_pytorchs_and_rises_again_beyond_its_period() {
        let cosine = Curve::Cosine { t_max: positive(7) };
        assert_follows(schedule(cosine, false, NO_WARMUP, 3, 5), 5, &COSINE_7);
        assert_follows(schedule(Curve::Cosine { t_max: positive(1) }, true, NO_WARMUP, 3, 7), 7, &COSINE_7);
    }

    #[test]
    fn cosine_to_zero_takes_what_the_run_has() {
        let expected =
            [1.0, 0.9330127018922194, 0.75, 0.5, 0.2500000000000001, 0.06698729810778065, 0.0, 0.0];
        assert_follows(schedule(Curve::CosineToZero, false, NO_WARMUP, 6, 5), 5, &expected);
        assert_follows(schedule(Curve::CosineToZero, true, NO_WARMUP, 2, 3), 3, &expected);
        assert_follows(schedule(Curve::CosineToZero, false, (2, 1.0), 2, 5), 5, &[1.0, 1.0, 0.0]);
    }

    #[test]
    fn steps_are_pytorchs() {
        let curve = Curve::Step { size: positive(3), gamma: 0.1 };
        assert_follows(
            schedule(curve, false, NO_WARMUP, 8, 5),
            5,
            &[1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01],
        );
        assert_follows(schedule(Curve::Constant, false, NO_WARMUP, 2, 5), 5, &[1.0; 4]);
    }

    #[test]
    fn one_cycle_is_pytorchs() {
        let expected = [
            0.040000000000000036,
            0.52,
            1.0,
            0.9504846320134737,
            0.8117456539497631,
            0.6112620219362893,
            0.38874197806371075,
            0.18825834605023697,
            0.049519367986526286,
            4e-06,
        ];
        assert_follows(schedule(ONE_CYCLE, false, NO_WARMUP, 10, 3), 3, &expected);
        assert_follows(schedule(ONE_CYCLE, true, NO_WARMUP, 2, 5), 5, &expected);
        let curve = Curve::OneCycle { pct_start: 0.4, div_factor: 10.0, final_div_factor: 100.0 };
        let expected = [
            0.09999999999999998,
            0.6281416799501185,
            0.9944209976994517,
            0.8119331560284374,
            0.4631723182535811,
            0.13434059002100174,
            0.001,
        ];
        assert_follows(schedule(curve, true, NO_WARMUP, 1, 7), 7, &expected);
    }

    #[test]
    fn one_cycle_of_a_few_units_is_pytorchs_too() {
        assert_follows(schedule(ONE_CYCLE, false, NO_WARMUP, 1, 3), 3, &[4e-06]);
        assert_follows(schedule(ONE_CYCLE, false, NO_WARMUP, 2, 3), 3, &[0.811745653949763, 4e-06]);
        let expected = [0.9944154354509117, 0.46263710266697505, 4e-06];
        assert_follows(schedule(ONE_CYCLE, true, NO_WARMUP, 1, 3), 3, &expected);
        // The rise is over in no time, where PyTorch divides by zero.
        let curve = Curve::OneCycle { pct_start: 0.05, div_factor: 25.0, final_div_factor: 1e4 };
        assert_follows(schedule(curve, true, NO_WARMUP, 1, 20), 20, &[1.0]);
    }

    #[test]
    fn a_warm_up_comes_first_as_sequential_lr_has_it() {
        let cosine = Curve::Cosine { t_max: positive(5) };
        let expected = [
            0.01,
            0.34,
            0.67,
            1.0,
            0.9045084971874737,
            0.6545084971874737,
            0.3454915028125263,
            0.09549150281252632,
        ];
        assert_follows(schedule(cosine, false, (3, 0.01), 8, 5), 5, &expected);
        let steps = Curve::Step { size: positive(2), gamma: 0.5 };
        let expected = [0.25, 0.4375, 0.625, 0.8125, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5];
        assert_follows(schedule(steps, true, (2, 0.25), 6, 2), 2, &expected);
    }

    /// `OneCycleLR` sets the rate that `LinearLR` starts from, so the rise goes to the cycle's first rate, without a jump.
    #[test]
    fn a_warm_up_rises_to_where_the_curve_starts() {
        let expected = [
            0.004,
            0.022,
            0.040000000000000036,
            0.9944154354509117,
            0.811745653949763,
            0.46263710266697505,
            0.1334775301888306,
            4e-06,
        ];
        assert_follows(schedule(ONE_CYCLE, false, (2, 0.1), 8, 3), 3, &expected);
        assert_follows(schedule(ONE_CYCLE, true, (1, 0.1), 4, 2), 2, &expected);
    }
}
