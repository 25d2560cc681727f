//! Waiting for a device, which cannot wake a thread that has others to look after too.

use std::thread;
use std::time::{Duration, Instant};

use super::super::device::Check;
use super::super::error::CollectiveError;

/// At first without sleeping: most exchanges are done by then, and the step waits for them.
const SPIN: Duration = Duration::from_micros(200);
/// Then with naps so short that they do not show in a step.
const NAP: Duration = Duration::from_micros(50);
/// How often to look whether waiting is of use: it takes a few system calls per member.
const LOOK: Duration = Duration::from_millis(2);

/// One wait, from [`Self::new`] on.
#[derive(Debug)]
pub(super) struct Patience {
    began: Instant,
    looked: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { began: now, looked: now }
    }

    /// Lets a moment pass, and calls `look` every now and then.
    ///
    /// # Errors
    /// Those of `look`.
    pub(super) fn pause(&mut self, look: Check<'_>) -> Result<(), CollectiveError> {
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            look()?;
        }
        if self.began.elapsed() < SPIN {
            thread::yield_now();
        } else {
            thread::sleep(NAP);
        }
        Ok(())
    }
}
