//! The time, and when to look at it: a driver that was held up must hear what workers have said before it counts them
//! as silent, and one that never comes to rest must look at the clock all the same.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lockstep_core::Time;

/// A tick that is so late shows that this process stood still (its disk, its machine, a SIGSTOP).
const HELD_UP_MS: u64 = 500;

/// How long sessions then have to hand in what has come meanwhile, before leases are looked at.
const GRACE_MS: u64 = 250;

/// When the next tick is to come.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    /// Commands that were let pass before the tick that is due.
    passed: usize,
    /// Until when the tick is put off because this process stood still; once per tick.
    put_off: Option<Time>,
}

impl Ticks {
    /// The time to wait for; none when the tick is to come now. While commands wait they come first, but no more of them
    /// than `passed_max`.
    ///
    /// It is asked, not left to a timer: one that is set anew with every command, rounded up to a millisecond, would
    /// not go off as long as thousands of workers send their heartbeats.
    pub(super) fn wait(
        &mut self,
        deadline: Time,
        now: Time,
        commands_wait: bool,
        passed_max: usize,
    ) -> Option<Time> {
        if now < deadline {
            return Some(deadline);
        }
        if self.put_off.is_none() && now.0 >= deadline.0 + HELD_UP_MS {
            self.put_off = Some(Time(now.0 + GRACE_MS));
        }
        if let Some(put_off) = self.put_off.filter(|put_off| now < *put_off) {
            return Some(put_off);
        }
        if commands_wait && self.passed < passed_max {
            self.passed += 1;
            return Some(now);
        }
        *self = Self::default();
        None
    }
}

/// The time by this machine's clock as the process found it; from there on it never jumps, whoever sets the clock, so
/// that no lease ends by that.
pub fn now() -> Time {
    static START: LazyLock<(Instant, Duration)> = LazyLock::new(|| {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Instant::now(), elapsed)
    });
    let (instant, elapsed) = *START;
    Time(u64::try_from((elapsed + instant.elapsed()).as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn until(deadline: Time) -> Duration {
    Duration::from_millis(deadline.0.saturating_sub(now().0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_comes_as_soon_as_it_is_due_and_nothing_waits() {
        let mut ticks = Ticks::default();
        assert_eq!(ticks.wait(Time(100), Time(99), true, 3), Some(Time(100)));
        assert_eq!(ticks.wait(Time(100), Time(100), false, 3), None);
    }

    #[test]
    fn commands_that_wait_come_first_but_not_for_ever() {
        let mut ticks = Ticks::default();
        for _ in 0..2 {
            (0..3).for_each(|_| assert_eq!(ticks.wait(Time(100), Time(101), true, 3), Some(Time(101))));
            assert_eq!(ticks.wait(Time(100), Time(101), true, 3), None);
        }
    }

    #[test]
    fn after_a_standstill_workers_are_heard_before_the_clock_is_looked_at() {
        let mut ticks = Ticks::default();
        let (deadline, awake) = (Time(100), 100 + HELD_UP_MS);
        let put_off = Time(awake + GRACE_MS);
        // The queue is empty: the sessions have had no time to fill it.
        assert_eq!(ticks.wait(deadline, Time(awake), false, 3), Some(put_off));
        assert_eq!(ticks.wait(deadline, Time(awake + 1), true, 3), Some(put_off));
        // However late it is by then, it is put off once.
        assert_eq!(ticks.wait(deadline, Time(awake + 10_000), false, 3), None);
    }
}
