//! One run under everything at once, and still the bits of one that nothing happened to.

use crate::cluster::{Cluster, has_made};
use crate::process::{await_stopped, send};
use crate::proxy::Proxy;
use crate::recipes::{ELASTIC, ELASTIC_STEPS, finished};

/// 75 steps.
const EPOCHS: &str = "epochs=5";

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// SIGKILL of the member with rank 0.
    KillFirst,
    /// SIGKILL of the member with the last rank.
    KillLast,
    KillCoordinator,
    /// Both at once.
    KillCoordinatorAndLast,
    /// All at once; three workers go on.
    KillEverything,
    /// SIGSTOP, and SIGCONT a moment later.
    HoldUp,
    /// SIGSTOP for good.
    Stop,
    /// SIGTERM: it leaves at a boundary, and nobody takes its place.
    Leave,
    /// All workers' connections to the coordinator.
    CutControl,
    /// The first worker's connections to the others.
    CutData,
}

/// By the step after which each comes. Some meet an epoch's end, its verdict or its checkpoint.
const FAULTS: [(u64, Fault); 16] = [
    (4, Fault::KillFirst),
    (8, Fault::CutControl),
    (12, Fault::CutData),
    (ELASTIC_STEPS, Fault::KillLast),
    (20, Fault::KillCoordinator),
    (25, Fault::HoldUp),
    (28, Fault::Leave),
    (2 * ELASTIC_STEPS, Fault::CutControl),
    (34, Fault::Stop),
    (40, Fault::KillEverything),
    (3 * ELASTIC_STEPS, Fault::CutData),
    (49, Fault::KillCoordinatorAndLast),
    (54, Fault::KillFirst),
    (4 * ELASTIC_STEPS, Fault::KillCoordinator),
    (65, Fault::Leave),
    (70, Fault::KillLast),
];

/// The run, and the two proxies that it goes through.
#[derive(Debug)]
struct Stage {
    cluster: Cluster,
    /// For the next coordinator.
    workers: &'static str,
    control: Proxy,
    data: Proxy,
}

impl Stage {
    /// Trains on four workers, of which it can do without three.
    fn train() -> Self {
        let mut proxies = None;
        let more = [EPOCHS, "max_restarts=20", "checkpoint.every_steps=10"];
        let cluster = Cluster::train_with(&ELASTIC, "4", &more, |home, command| {
            let control = Proxy::before_the_coordinator(home);
            let data = Proxy::before_the_first_worker(home, command);
            command.args(["--worker-url", &control.url()]);
            proxies = Some((control, data));
        });
        let (control, data) = proxies.unwrap();
        Self { cluster, workers: "4", control, data }
    }

    /// Waits until somebody has made `step`, as a member of a generation that has not lost anybody yet.
    fn until(&mut self, step: u64) {
        self.cluster.until(&format!("step {step}"), |run| {
            let mut workers = (0..4).map(|number| format!("worker-{number}"));
            workers.find_map(|worker| has_made(run, &worker, step))
        });
    }

    fn last(&self) -> u32 {
        self.cluster.members().pop().unwrap().1
    }

    /// Does it, and returns what is left.
    fn suffer(mut self, fault: Fault) -> Self {
        match fault {
            Fault::KillFirst => send("KILL", &[self.cluster.members()[0].1]),
            Fault::KillLast => send("KILL", &[self.last()]),
            Fault::KillCoordinator => {
                self.cluster.kill_coordinator();
                return self.resumed();
            }
            Fault::KillCoordinatorAndLast => {
                send("KILL", &[self.cluster.coordinator.pid(), self.last()]);
                self.cluster.kill_coordinator();
                return self.resumed();
            }
            Fault::KillEverything => {
                self.cluster.kill_everything();
                self.workers = "3";
                return self.resumed();
            }
            Fault::HoldUp => {
                let pid = self.last();
                send("STOP", &[pid]);
                await_stopped(pid);
                send("CONT", &[pid]);
            }
            Fault::Stop => send("STOP", &[self.last()]),
            Fault::Leave => send("TERM", &[self.last()]),
            Fault::CutControl => self.control.cut(),
            Fault::CutData => self.data.cut(),
        }
        self
    }

    fn resumed(self) -> Self {
        let cluster = self.cluster.resumed(&["--workers", self.workers, "--worker-url", &self.control.url()]);
        Self { cluster, ..self }
    }
}

#[test]
fn a_mixture_of_all_faults_in_one_run_changes_no_bit() {
    let undisturbed = finished(2, &ELASTIC.with(&[EPOCHS]));
    let mut stage = Stage::train();
    for (step, fault) in FAULTS {
        stage.until(step);
        stage = stage.suffer(fault);
    }
    stage.cluster.ends_like(&undisturbed.outcome);
}
