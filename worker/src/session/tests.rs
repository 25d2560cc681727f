//! The session between a coordinator of the test's and a trainer of the test's: real connections, no numbers.

mod leaving;
mod orders;
mod pooled;
mod returning;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Outcome, Over, SessionError, Settings, StopSignal, take_part};
use crate::client::fake::{Coordinator, Said, Session};
use crate::client::{Access, BeginOrder, Credentials, FinishOrder, Order, StartFrom, VerdictOrder};
use crate::device::DeviceName;
use crate::logs::LogTail;
use crate::plan::{Position, Split};
use crate::trainer::{
    CheckpointFiles, Command, EpochReport, EvalReport, Evaluate, Ledger, Metrics, Peer, Report, Reporter,
    Setup, Snapshot, TrainerError,
};

/// As in [`crate::client::fake`].
const PATIENCE: Duration = Duration::from_secs(60);

/// What a worker has, and what the test holds of it.
struct Bench {
    settings: Settings,
    signals: mpsc::Sender<StopSignal>,
    signalled: Option<mpsc::Receiver<StopSignal>>,
    _cache: TempDir,
}

impl Bench {
    fn new(coordinator: &Coordinator) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let (signals, signalled) = mpsc::channel(4);
        let settings = Settings {
            coordinator: Access::new(&coordinator.url, Credentials::default()).unwrap(),
            name: "worker-0".to_owned(),
            device: DeviceName::Cpu,
            cache: PathBuf::from(cache.path()),
            listen: None,
            advertise: None,
            patience: PATIENCE,
            drain_timeout: PATIENCE,
            logs: LogTail::default(),
            stands_by: false,
        };
        Self { settings, signals, signalled: Some(signalled), _cache: cache }
    }

    /// The session with this trainer, to its end.
    async fn run(
        &self,
        mut signalled: mpsc::Receiver<StopSignal>,
        trainer: (Script, mpsc::UnboundedSender<String>),
    ) -> Outcome {
        let (script, commands) = trainer;
        let body = move |setup: &Setup, received: &Receiver<Command>, reporter: &Reporter| {
            play(script, setup, (received, &commands), reporter)
        };
        timeout(PATIENCE, take_part(&self.settings, &mut signalled, Box::new(body)))
            .await
            .expect("the session does not end")
    }
}

/// Runs a session of a coordinator without a pool beside what the test does meanwhile.
async fn session<T>(
    bench: &mut Bench,
    script: Script,
    test: impl AsyncFnOnce(Trainer, mpsc::Sender<StopSignal>) -> T,
) -> (Result<Over, SessionError>, T) {
    let (Outcome { result, stands_by }, heard) = outcome(bench, script, test).await;
    assert!(!stands_by);
    (result, heard)
}

/// The same of any coordinator.
async fn outcome<T>(
    bench: &mut Bench,
    script: Script,
    test: impl AsyncFnOnce(Trainer, mpsc::Sender<StopSignal>) -> T,
) -> (Outcome, T) {
    let (commands, heard) = mpsc::unbounded_channel();
    let signalled = bench.signalled.take().unwrap();
    let signals = bench.signals.clone();
    tokio::join!(bench.run(signalled, (script, commands)), test(Trainer { heard }, signals))
}

/// What the stand-in for the trainer reports when a generation begins.
#[derive(Debug, Clone, Copy)]
enum Script {
    Silent,
    ReportsEpoch,
    /// A snapshot of the step that has the generation's number.
    Saves,
    Panics,
}

/// The commands that reached the trainer.
struct Trainer {
    heard: mpsc::UnboundedReceiver<String>,
}

impl Trainer {
    async fn next(&mut self) -> String {
        timeout(PATIENCE, self.heard.recv()).await.expect("no command comes").expect("the trainer has ended")
    }

    /// Those that have come.
    fn all(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }
}

fn play(
    script: Script,
    setup: &Setup,
    (received, commands): (&Receiver<Command>, &mpsc::UnboundedSender<String>),
    reporter: &Reporter,
) -> Result<(), TrainerError> {
    while let Ok(command) = received.recv() {
        // Before the session can show that it has been followed. The test may have heard enough.
        drop(commands.send(told(&command)));
        match command {
            Command::Prepare { generation } => setup.pulse.change(|state| state.prepared = generation),
            Command::Begin(begin) => {
                setup.pulse.change(|state| state.generation = begin.generation);
                match script {
                    Script::Silent => {}
                    Script::ReportsEpoch => reporter.report(Report::Epoch(epoch_report(begin.generation)))?,
                    Script::Saves => reporter.report(Report::Snapshot(snapshot(begin.generation)))?,
                    Script::Panics => panic!("planted"),
                }
            }
            Command::Verdict(_) => {}
            Command::Evaluate(Evaluate { generation, split, .. }) => {
                let report = EvalReport { generation, split, blocks: Vec::new(), eval_ms: 1 };
                reporter.report(Report::Eval(report))?;
            }
        }
    }
    Ok(())
}

fn told(command: &Command) -> String {
    match command {
        Command::Prepare { generation } => format!("prepare {generation}"),
        Command::Begin(begin) => format!("begin {}", begin.generation),
        Command::Verdict(verdict) => format!("verdict {}", verdict.epoch),
        Command::Evaluate(evaluate) => format!("evaluate with {} bytes", evaluate.weights.len()),
    }
}

fn epoch_report(generation: u64) -> EpochReport {
    let ledger = Ledger { expected: 0, seen: 0, lost: 0, repeated: 0, dropped: 0, digest: [0; 32] };
    EpochReport {
        generation,
        epoch: 0,
        position: Position { epoch: 1, step: 2 },
        learning_rate: 0.1,
        train: Metrics::default(),
        ledger,
        split: Split::Validation,
        blocks: Vec::new(),
        ema_blocks: Vec::new(),
        weights_digest: [0; 32],
        train_ms: 1,
        eval_ms: 1,
        peak_memory_bytes: 1,
    }
}

fn snapshot(step: u64) -> Snapshot {
    let files = CheckpointFiles { model: vec![1; 3 << 20], optimizer: vec![2; 5] };
    Snapshot { position: Position { epoch: 0, step }, files: Arc::new(files) }
}

fn begin(generation: u64) -> Order {
    begin_from(generation, StartFrom::Initial)
}

fn begin_from(generation: u64, from: StartFrom) -> Order {
    let (name, address) = ("worker-0".to_owned(), "127.0.0.1:1".to_owned());
    Order::Begin(BeginOrder {
        generation,
        rank: 0,
        peers: vec![Peer { name, address, shards: 0..2, has_state: false }],
        token: vec![0; 16],
        position: Position { epoch: 0, step: 0 },
        from,
        judged: false,
        save: false,
        hold: false,
    })
}

fn verdict(generation: u64, epoch: u32) -> Order {
    let (restore_step, save, keep, hold) = (None, false, false, false);
    Order::Verdict(VerdictOrder { generation, epoch, restore_step, save, keep, hold })
}

fn finish() -> Order {
    Order::Finish(FinishOrder { reason: "all is done".to_owned(), stand_by: false })
}

/// The run is over, and another one will come.
fn stand_by() -> Order {
    Order::Finish(FinishOrder { reason: "it is another's turn".to_owned(), stand_by: true })
}

/// The worker has data, weights and an address.
async fn ready(session: &mut Session) {
    session
        .hear("an address", |said| matches!(said, Said::Heartbeat { address, .. } if !address.is_empty()))
        .await;
}

/// Gets a fresh worker to pause for its first generation.
async fn prepared(session: &mut Session, generation: u64) {
    ready(session).await;
    session.order(Order::Prepare { generation, now: false }).await;
    let is_prepared =
        |said: &Said| matches!(said, Said::Heartbeat { prepared, .. } if *prepared == generation);
    session.hear("that it has paused", is_prepared).await;
}

/// Brings a fresh worker into a generation.
async fn begun(session: &mut Session, generation: u64) {
    prepared(session, generation).await;
    session.order(begin(generation)).await;
    in_generation(session, generation).await;
}

async fn in_generation(session: &mut Session, expected: u64) {
    let has_begun =
        |said: &Said| matches!(said, Said::Heartbeat { generation, .. } if *generation == expected);
    session.hear("that it has begun", has_begun).await;
}
