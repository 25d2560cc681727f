//! The signals that stop a run: the first asks it to stop at a step boundary, the second aborts.

use lockstep_core::Event;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::driver::DriverHandle;

/// A signal that stops a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    Interrupt,
    Terminate,
}

pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    pub(super) first: Option<StopSignal>,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, first: None })
    }

    /// Returns at the second signal.
    pub(super) async fn abort(&mut self, driver: &DriverHandle) -> StopSignal {
        loop {
            let signal = tokio::select! {
                _ = self.interrupt.recv() => StopSignal::Interrupt,
                _ = self.terminate.recv() => StopSignal::Terminate,
            };
            if self.first.is_some() {
                return signal;
            }
            self.first = Some(signal);
            tracing::info!("stopping after this step; once more to abort");
            drop(driver.event(Event::StopRequested).await);
        }
    }
}
