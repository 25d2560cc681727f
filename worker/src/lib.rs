//! The worker of Lockstep: one process that drives one device with one replica of the model.
//!
//! [`session`] talks with the coordinator through [`client`], the only place that knows the wire. [`trainer`] computes, on
//! a thread of its own, with the replica of [`model`], the samples of [`data`] and the other members behind
//! [`collective`], which know nothing of each other. [`plan`] is what they all work from. [`verbs`] use model and data
//! without a run.

mod args;
pub mod client;
pub mod collective;
pub mod data;
pub mod device;
pub mod logs;
pub mod model;
pub mod plan;
pub mod session;
mod stand_by;
pub mod trainer;
mod verbs;

use std::io;
use std::panic::{UnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, warn};

use self::args::{Cli, Command, JoinArgs, OutputArgs};
use self::device::{DeviceName, LIBTORCH_VERSION};
use self::logs::LogTail;
use self::session::{Outcome, Over, SessionError, StopSignal};
use self::trainer::FailureKind;
use self::verbs::VerbError;

/// Threads that move bytes; the cores belong to the trainer.
const IO_THREADS: usize = 2;
/// A second one ends the worker, so more are of no interest.
const SIGNALS_WAITING: usize = 4;

/// The program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let logs = LogTail::default();
    logs::start(&cli.log, &logs);
    // One line instead of a stack trace; libtorch's errors bring another along.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(place, "broke down: {}", trainer::panic_line(panic.payload()));
    }));
    match cli.command {
        Command::Join(args) => join(*args, logs),
        Command::Devices(args) => devices(&args),
        Command::Version(args) => version(&args),
        Command::Infer(args) => verb(|| verbs::infer(&args.job)),
        Command::Augment(args) => verb(|| verbs::augment(&args.job)),
    }
}

fn join(args: JoinArgs, logs: LogTail) -> ExitCode {
    let (begun, failures) = (Instant::now(), args.stand_by.unwrap_or_default());
    let settings = match args.settings(std::env::var_os("LOCKSTEP_HOME").map(PathBuf::from), logs) {
        Ok(settings) => settings,
        Err(error) => return usage(&error.to_string()),
    };
    if let Some((name, value)) =
        device::missing_environment(settings.device, |name| std::env::var_os(name).is_some())
    {
        let error = stand_by::start_again(name, value);
        warn!(%error, "could not start again with {name}={value}; results may differ in bits");
    }
    if settings.coordinator.leaves_credentials_unused() {
        warn!("credentials go over https:// only: none is shown to {}", settings.coordinator.url());
    }
    // Before anybody counts on this worker.
    if let Err(error) = device::open(settings.device) {
        return usage(&error.to_string());
    }
    let (runtime, mut signals) = match start_runtime() {
        Ok(started) => started,
        Err(error) => {
            error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    let Outcome { mut result, stands_by } = runtime.block_on(session::run(&settings, &mut signals));
    let is_over = matches!(result, Ok(Over::Done) | Err(SessionError::Stopped(_)));
    if stands_by && !is_over {
        let failures = result.is_err().then(|| stand_by::failures(failures, begun.elapsed()));
        result = match runtime.block_on(stand_by::begin_again(failures, &mut signals)) {
            Ok(signal) => Err(SessionError::Stopped(signal)),
            Err(failed) => {
                error!(error = %failed, "cannot begin again as a new process");
                result
            }
        };
    }
    // Not by returning: the trainer may be computing still, and libtorch's destructors would pull its memory away from
    // under it, which ends in a segmentation fault as often as not.
    signal_hook::low_level::exit(exit_code(&result))
}

fn exit_code(result: &Result<Over, SessionError>) -> i32 {
    let error = match result {
        Ok(Over::Done) => return 0,
        // It should not have ended.
        Ok(Over::StandBy) => return 1,
        Err(error) => error,
    };
    match error {
        SessionError::Stopped(StopSignal::Interrupt) => 130,
        SessionError::Stopped(StopSignal::Terminate) => 143,
        error => match error.kind() {
            FailureKind::Run | FailureKind::Worker => 1,
            FailureKind::Data => 3,
            FailureKind::Cluster => 4,
        },
    }
}

/// Signals are listened for from here on, also those that come while the session starts.
fn start_runtime() -> io::Result<(Runtime, mpsc::Receiver<StopSignal>)> {
    let runtime = Builder::new_multi_thread().worker_threads(IO_THREADS).enable_all().build()?;
    let (sender, signals) = mpsc::channel(SIGNALS_WAITING);
    let (interrupt, terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    runtime.spawn(pass_on(interrupt, StopSignal::Interrupt, sender.clone()));
    runtime.spawn(pass_on(terminate, StopSignal::Terminate, sender));
    Ok((runtime, signals))
}

async fn pass_on(mut signal: Signal, as_one: StopSignal, signals: mpsc::Sender<StopSignal>) {
    while signal.recv().await.is_some() && signals.send(as_one).await.is_ok() {}
}

fn devices(args: &OutputArgs) -> ExitCode {
    let (devices, why_no_gpu) = device::list();
    let names: Vec<String> = devices.iter().map(DeviceName::to_string).collect();
    let reason = why_no_gpu.map(|error| error.to_string());
    if args.json {
        println!("{}", json!({ "devices": names, "no_gpu": reason }));
        return ExitCode::SUCCESS;
    }
    names.iter().for_each(|name| println!("{name}"));
    if let Some(reason) = reason {
        eprintln!("no GPU: {reason}");
    }
    ExitCode::SUCCESS
}

fn version(args: &OutputArgs) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        println!("{}", json!({ "version": version, "libtorch": LIBTORCH_VERSION }));
    } else {
        println!("lockstep-worker {version}, libtorch {LIBTORCH_VERSION}");
    }
    ExitCode::SUCCESS
}

/// Runs a verb, and tells in one line what went wrong.
fn verb(run: impl FnOnce() -> Result<(), VerbError> + UnwindSafe) -> ExitCode {
    // libtorch's refusals in forward are panics, told below.
    std::panic::set_hook(Box::new(|_| {}));
    let (line, code) = match catch_unwind(run) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => (error.line(), error.exit_code()),
        Err(panic) => (trainer::panic_line(&*panic), 1),
    };
    eprintln!("lockstep-worker: {line}");
    ExitCode::from(code)
}

fn usage(message: &str) -> ExitCode {
    eprintln!("lockstep-worker: {message}");
    ExitCode::from(2)
}
