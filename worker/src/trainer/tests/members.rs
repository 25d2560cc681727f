//! The members of a generation as the tests hold them: each a trainer on its thread, driven by plain channels, which may be
//! called off from within at a moment that no test could hit from outside.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::pulse::{Activity, State};
use super::super::*;
use crate::collective::device::Opener;
use crate::collective::{Cancel, Listener};
use crate::plan::Position;

/// Far beyond what a step of these tests takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Member {
    pub(super) name: String,
    pub(super) listener: Arc<Listener>,
    pub(super) commands: SyncSender<Command>,
    pub(super) reports: Receiver<Report>,
    pub(super) pulse: Pulse,
    /// Something in it has changed.
    woken: Receiver<()>,
    pub(super) kept: Kept,
    pub(super) pause: Arc<AtomicBool>,
    pub(super) cancel: Cancel,
    ambush: Ambush,
    pub(super) thread: JoinHandle<Result<(), TrainerError>>,
    /// Of rank 0, as they come.
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) started: Vec<Started>,
}

/// What a member's own thread cancels when it gets there.
type Ambush = Arc<Mutex<Option<(Moment, Cancel)>>>;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Moment {
    FirstStep,
    Evaluation,
    Filling,
}

fn spring(ambush: &Ambush, moment: Moment) {
    let mut ambush = ambush.lock().unwrap();
    if let Some((_, cancel)) = ambush.take_if(|(at, _)| *at == moment) {
        cancel.cancel();
    }
}

/// A trainer that waits for its first order.
pub(super) fn spawn(plan: &Plan, dataset: &Path, name: &str) -> Member {
    spawn_linked(plan, dataset, name, None)
}

/// The same with something to link its device by.
pub(super) fn spawn_linked(
    plan: &Plan,
    dataset: &Path,
    name: &str,
    opener: Option<Result<Box<dyn Opener>, String>>,
) -> Member {
    let (commands, received) = sync_channel(8);
    let (sender, reports) = channel();
    let (ambush, shown) = (Ambush::default(), Arc::new(OnceLock::<Pulse>::new()));
    let (watched, trap) = (Arc::clone(&shown), Arc::clone(&ambush));
    let (wake, woken) = channel();
    let pulse = Pulse::new(move || {
        // The test may have ended.
        let _ = wake.send(());
        match watched.get().map(|pulse| pulse.state().activity) {
            Some(Activity::Evaluating) => spring(&trap, Moment::Evaluation),
            Some(Activity::Caching) => spring(&trap, Moment::Filling),
            _ => {}
        }
    });
    shown.set(pulse.clone()).unwrap();
    let (kept, name) = (Kept::default(), name.to_owned());
    let setup = Setup {
        plan: plan.clone(),
        worker: name.clone(),
        device: DeviceName::Cpu,
        opener,
        dataset: dataset.to_owned(),
        weights: None,
        activations: dataset.with_file_name("activations"),
        pulse: pulse.clone(),
        kept: kept.clone(),
    };
    let trap = Arc::clone(&ambush);
    let thread = thread::spawn(move || {
        let reporter = Reporter::new(move |report| {
            if matches!(report, Report::Started(_)) {
                spring(&trap, Moment::FirstStep);
            }
            sender.send(report).map_err(|_| SessionGone)
        });
        run(&setup, &received, &reporter)
    });
    Member {
        name,
        listener: Arc::new(Listener::bind("127.0.0.1:0").unwrap()),
        commands,
        reports,
        pulse,
        woken,
        kept,
        pause: Arc::default(),
        cancel: Cancel::new(),
        ambush,
        thread,
        snapshots: Vec::new(),
        started: Vec::new(),
    }
}

/// How a generation is begun.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Formation<'a> {
    pub(super) generation: u64,
    /// How many each member holds, by rank.
    pub(super) shards: &'a [u32],
    pub(super) position: Position,
    pub(super) checkpoint: Option<&'a Snapshot>,
    pub(super) judged: bool,
    pub(super) save: bool,
    pub(super) hold: bool,
    /// Raised for one of them before it begins: all pause after its first step.
    pub(super) pause: bool,
    /// The last one is not told.
    pub(super) absent: bool,
}

/// Begins it on all members; the first one that stands at the position has the state for those that do not.
pub(super) fn form(members: &mut [&mut Member], formation: Formation<'_>) {
    let Formation { generation, shards, position, checkpoint, judged, save, hold, pause, absent } = formation;
    let mut at = 0;
    let mut peers = Vec::new();
    for (count, member) in shards.iter().zip(members.iter()) {
        let address = member.listener.local_addr().unwrap().to_string();
        let has_state = member.pulse.state().position == Some(position);
        peers.push(Peer { name: member.name.clone(), address, shards: at..at + count, has_state });
        at += count;
    }
    let source = peers.iter().position(|peer| peer.has_state);
    let told = members.len() - usize::from(absent);
    for (rank, member) in members.iter_mut().enumerate().take(told) {
        member.pause = Arc::new(AtomicBool::new(pause && rank == 0));
        if member.cancel.is_cancelled() {
            member.cancel = Cancel::new();
        }
        let begin = Begin {
            generation,
            rank,
            peers: peers.clone(),
            token: vec![7; 16],
            position,
            start: match (checkpoint, source) {
                (Some(snapshot), _) => Start::Checkpoint((*snapshot.files).clone()),
                (None, Some(rank)) => Start::Peer(rank),
                (None, None) => Start::Initial,
            },
            judged,
            save,
            hold,
            listener: Arc::clone(&member.listener),
            pause: Arc::clone(&member.pause),
            cancel: member.cancel.clone(),
        };
        member.commands.send(Command::Begin(Box::new(begin))).unwrap();
    }
}

/// Members that hold the given shards, begun at the plan's start or at `checkpoint`.
pub(super) fn begin(
    plan: &Plan,
    dataset: &Path,
    shards: &[u32],
    checkpoint: Option<&Snapshot>,
) -> Vec<Member> {
    let names = (0..shards.len()).map(|rank| format!("worker-{rank}"));
    let mut members: Vec<Member> = names.map(|name| spawn(plan, dataset, &name)).collect();
    let position = checkpoint.map(|snapshot| snapshot.position).unwrap_or_default();
    let formation = Formation { generation: 1, shards, position, checkpoint, ..Formation::default() };
    form(&mut members.iter_mut().collect::<Vec<_>>(), formation);
    members
}

impl Member {
    /// The next report that somebody has to answer.
    pub(super) fn report(&mut self) -> Report {
        loop {
            match self.reports.recv_timeout(PATIENCE).expect("the trainer says something") {
                Report::Progress(_) | Report::Prefix(_) => {}
                Report::Started(started) => self.started.push(started),
                Report::Snapshot(snapshot) => self.snapshots.push(snapshot),
                report => return report,
            }
        }
    }

    pub(super) fn epoch(&mut self) -> EpochReport {
        match self.report() {
            Report::Epoch(report) => report,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn eval(&mut self) -> EvalReport {
        match self.report() {
            Report::Eval(report) => report,
            other => panic!("{other:?}"),
        }
    }

    /// The next checkpoint; there must be no report to answer before it.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        loop {
            match self.reports.recv_timeout(PATIENCE).expect("the trainer says something") {
                Report::Snapshot(snapshot) => return snapshot,
                Report::Progress(_) | Report::Prefix(_) | Report::Started(_) => {}
                report => panic!("{report:?}"),
            }
        }
    }

    /// Has the next generation called off for this member, by its own thread, as soon as that gets there.
    pub(super) fn lie_in_wait(&mut self, moment: Moment) {
        self.cancel = Cancel::new();
        *self.ambush.lock().unwrap() = Some((moment, self.cancel.clone()));
    }

    /// Waits until the trainer shows a state like that.
    pub(super) fn until(&self, condition: impl Fn(&State) -> bool) -> State {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.pulse.state();
            if condition(&state) {
                return state;
            }
            let woken = self.woken.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            assert!(woken.is_ok(), "still {state:?}");
        }
    }

    /// Waits until no generation is under way after the one of that number.
    pub(super) fn idle(&self, generation: u64) -> State {
        self.until(|state| state.generation == generation && state.activity == Activity::Idle)
    }

    pub(super) fn order(&self, command: Command) {
        self.commands.send(command).unwrap();
    }

    pub(super) fn prepare(&self, generation: u64) {
        self.order(Command::Prepare { generation });
        self.until(|state| state.prepared == generation && state.activity == Activity::Idle);
    }

    /// Ends its session and returns all of its snapshots that nobody has looked at.
    pub(super) fn finish(self) -> Vec<Snapshot> {
        let Self { commands, reports, thread, mut snapshots, .. } = self;
        drop(commands);
        let snapshot = |report| if let Report::Snapshot(snapshot) = report { Some(snapshot) } else { None };
        snapshots.extend(reports.iter().filter_map(snapshot));
        thread.join().unwrap().unwrap();
        snapshots
    }

    /// Ends its session and returns how the trainer took it.
    pub(super) fn end(self) -> Result<(), TrainerError> {
        drop(self.commands);
        self.cancel.cancel();
        self.thread.join().unwrap()
    }
}
