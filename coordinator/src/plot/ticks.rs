//! Where an axis has its numbers, and how they are written: 1, 2 or 5 times a power of ten, few enough to read.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// An axis that covers the data in whole tick steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) ticks: Vec<f64>,
    step: f64,
}

impl Axis {
    /// For `values`, of which only finite ones count, within `bounds` and with at most about `most` ticks.
    pub(crate) fn around(values: impl Iterator<Item = f64>, bounds: (f64, f64), most: u32) -> Self {
        // Beyond this a difference overflows; what diverged that far needs no exact axis.
        let widest = (bounds.0.max(-1e100), bounds.1.min(1e100));
        let finite = values.filter(|value| value.is_finite()).map(|value| value.clamp(widest.0, widest.1));
        let (mut low, mut high) =
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| (low.min(it), high.max(it)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // A flat line lies in the middle; the least room is what f64 can still tell apart.
        let room = (low.abs().max(high.abs()) * 1e-6).max(1e-100);
        if high - low < room {
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low, high) = (low - room, high + room);
        }
        let step = round_step((high - low) / f64::from(most));
        let low = ((low / step).floor() * step).max(bounds.0);
        let high = ((high / step).ceil() * step).min(bounds.1);
        Self::of(low, high, step)
    }

    /// Of whole numbers from `first` to `last`.
    pub(crate) fn whole(first: u32, last: u32, most: u32) -> Self {
        let (low, high) = (f64::from(first), f64::from(last));
        let step = round_step((high - low) / f64::from(most)).max(1.0);
        // A single epoch stands in the middle.
        let room = if first == last { 0.5 } else { (high - low) * 0.02 };
        let mut axis = Self::of((low / step).ceil() * step, high, step);
        (axis.low, axis.high) = (low - room, high + room);
        axis
    }

    fn of(low: f64, high: f64, step: f64) -> Self {
        // The bounds are data; nothing may make this list long.
        let count = (((high - low) / step + 1e-6).floor().clamp(0.0, 50.0)) as u32;
        let first = (low / step).round();
        let ticks = (0..=count).map(|i| (first + f64::from(i)) * step).collect();
        Self { low, high, ticks, step }
    }

    /// As many decimals as the step has; powers of ten where the number would be long.
    pub(crate) fn label(&self, tick: f64) -> String {
        if tick.abs() < self.step / 2.0 {
            return "0".to_owned();
        }
        let largest = self.low.abs().max(self.high.abs());
        if !(1e-3..1e6).contains(&largest) {
            let text = format!("{tick:.1e}");
            return text.replace(".0e", "e");
        }
        let decimals = (-self.step.log10().floor()).clamp(0.0, 9.0) as usize;
        format!("{tick:.decimals$}")
    }
}

/// Plotters' own axes choose other ticks (0.25, 2.5) and a fixed number of decimals.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.label(*value)
    }
}

/// The smallest of 1, 2, 5 × 10ⁿ that is not below `least`.
fn round_step(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    // A hair of room: 0.2 / 1 comes out as 0.20000000000000001 at times.
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|it| it * power)
        .find(|step| *step >= least * 0.999_999)
        .unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|tick| axis.label(*tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers_around_the_data() {
        for (values, bounds, wanted) in [
            (&[0.31, 2.3][..], FREE, &["0", "0.5", "1.0", "1.5", "2.0", "2.5"][..]),
            (&[12.0, 93.0], (0.0, 100.0), &["0", "20", "40", "60", "80", "100"]),
            (&[0.001, 0.0005], FREE, &["0.0005", "0.0006", "0.0007", "0.0008", "0.0009", "0.0010"]),
            (&[], FREE, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ] {
            assert_eq!(labels(&Axis::around(values.iter().copied(), bounds, 6)), wanted, "{values:?}");
        }
    }

    #[test]
    fn epochs_are_whole_numbers() {
        for (first, last, wanted) in [
            (0, 0, &["0"][..]),
            (4, 4, &["4"]),
            (0, 5, &["0", "1", "2", "3", "4", "5"]),
            (3, 4, &["3", "4"]),
            (0, 99, &["0", "10", "20", "30", "40", "50", "60", "70", "80", "90"]),
            (7, 19, &["8", "10", "12", "14", "16", "18"]),
        ] {
            assert_eq!(labels(&Axis::whole(first, last, 10)), wanted, "{first}..={last}");
        }
    }

    #[test]
    fn any_values_give_a_finite_axis_with_few_ticks() {
        let odd = [0.0, -0.0, 1.0, -1.0, 1e-320, 1e-12, 1e300, f64::MAX, f64::MIN, f64::NAN, f64::INFINITY];
        for a in odd {
            for b in odd {
                let axis = Axis::around([a, b].into_iter(), FREE, 6);
                assert!(axis.low.is_finite() && axis.high.is_finite() && axis.low < axis.high, "{a} {b}");
                assert!((1..=10).contains(&axis.ticks.len()), "{a} {b}: {axis:?}");
                assert!(labels(&axis).iter().all(|label| label.len() < 10), "{a} {b}: {axis:?}");
            }
        }
    }
}
