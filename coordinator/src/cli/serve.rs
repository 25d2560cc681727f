//! `lockstep serve`: a coordinator that stands, with a queue of runs and a pool of workers.
//!
//! All that it must know is in the home's journal, so it may be killed or stopped at any time: workers train on without it,
//! and the next one takes their runs over.

use std::env;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::home::HomeArgs;
use super::logging::{self, LogArgs};
use super::{CliError, code};
use crate::cluster::{self, Cluster};
use crate::credentials::ServerCredentials;
use crate::grpc::transport::{Entrance, may_listen};
use crate::grpc::{self, Reflection};
use crate::home::Home;
use crate::http::{self, Operation};
use crate::mirror::{self, Brought, Bucket, BucketError, Mirror, MirrorError};

/// How many pools of memory the C library keeps. With its default, eight for each core, what the threads give back stays in
/// pools that the others do not use: three times the memory where hundreds of runs are served at a time.
const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "2");

/// How long what is being written may take at the end.
const LAST_WRITES: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where workers and people reach the coordinator; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4400")]
    listen: SocketAddr,
    /// A folder of ca.pem, server.pem and server.key (and tokens.key, to take tokens), as `lockstep certs init` makes it.
    /// Without it the coordinator listens on loopback alone, where everybody on this machine may ask it
    #[arg(long, value_name = "DIR", env = "LOCKSTEP_TLS_DIR")]
    tls_dir: Option<PathBuf>,
    /// Where probes and Prometheus find /healthz, /readyz and /metrics, over plain HTTP and without credentials: numbers
    /// alone, no names [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Describe the gRPC methods to who asks, for grpcurl and its like
    #[arg(long)]
    reflection: bool,
    /// Keep a copy of all runs in an object store, for when this machine is lost: s3://BUCKET/PREFIX, with credentials, region
    /// and endpoint from the usual AWS_… variables, or file:///FOLDER
    #[arg(long, value_name = "URL", env = "LOCKSTEP_STORE")]
    store: Option<String>,
    /// Fill the home folder, which must have no runs, from the store, and go on where it left off
    #[arg(long, requires = "store")]
    restore: bool,
    #[command(flatten)]
    home: HomeArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// What there is to listen on, and who may come in.
struct Doors {
    listener: TcpListener,
    credentials: Option<ServerCredentials>,
    http: Option<TcpListener>,
    reflection: Reflection,
}

/// The store behind the home.
struct Storage {
    bucket: Bucket,
    restore: bool,
}

pub(super) fn run(args: ServeArgs) -> Result<u8, CliError> {
    with_few_arenas();
    let format = args.log.format()?;
    let credentials = args.tls_dir.as_deref().map(ServerCredentials::load).transpose()?;
    let listener = listen(args.listen, credentials.is_some())?;
    let http = args.http.map(|address| bind(address, "--http")).transpose()?;
    let reflection = if args.reflection { Reflection::On } else { Reflection::Off };
    let bucket = args.store.as_deref().map(Bucket::open).transpose().map_err(MirrorError::from)?;
    let storage = bucket.map(|bucket| Storage { bucket, restore: args.restore });
    let address = listener.local_addr().map_err(anyhow::Error::from)?;
    let home = args.home.open()?;
    let mut claim = home.claim()?;
    claim.say(&format!("process {}, at {address}", std::process::id())).map_err(anyhow::Error::from)?;
    logging::start_serving(&format, &home.path);
    for warning in credentials.iter().flat_map(ServerCredentials::warnings) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::from(anyhow::Error::from(error)))?;
    let doors = Doors { listener, credentials, http, reflection };
    let served = runtime.block_on(serve(home, doors, storage));
    runtime.shutdown_timeout(LAST_WRITES);
    served?;
    eprintln!(
        "stopped; runs go on at their workers, and the next `lockstep serve` of this home takes them over"
    );
    Ok(0)
}

/// Begins this process anew with [`ARENAS`], which the C library reads from the environment at its start and nowhere else. Who
/// has set it keeps it. Where it cannot be done the coordinator serves all the same, and takes more memory.
fn with_few_arenas() {
    let (name, arenas) = ARENAS;
    let Ok(program) = env::current_exe() else { return };
    if env::var_os(name).is_none() {
        let _ = Command::new(program).args(env::args_os().skip(1)).env(name, arenas).exec();
    }
}

async fn serve(home: Home, doors: Doors, storage: Option<Storage>) -> Result<(), CliError> {
    let Doors { listener, credentials, http, reflection } = doors;
    let address = listener.local_addr().map_err(anyhow::Error::from)?;
    if let Some(Storage { bucket, restore: true }) = &storage {
        restore(bucket, &home).await?;
    }
    let blobs = home.blobs.clone();
    let (cluster, handle) = tokio::task::block_in_place(|| Cluster::open(home.clone(), address))?;
    let mirror = match storage {
        Some(Storage { bucket, .. }) => Some(Mirror::attach(bucket, home, handle.journal()).await?),
        None => None,
    };
    let tls = if credentials.is_some() { "tls" } else { "loopback" };
    let entrance = async_listener(listener).and_then(|listener| Ok(Entrance::new(listener, credentials)?))?;
    let count = mirror.as_ref().map(Mirror::count);
    let operation = Operation::new(handle.clone(), Some(entrance.refusals()), count.as_ref());
    let shutdown = CancellationToken::new();
    let watched = http.map(|http| operate(http, operation, &shutdown)).transpose()?;
    let server = grpc::serve_with(entrance, handle, blobs, reflection, shutdown.clone());
    let serving = cluster.serve(shutdown.clone());
    // For scripts, which may have asked for any free port.
    super::stdout::print(&format!("listening on {address}\n"))?;
    if let Some(http) = watched {
        super::stdout::print(&format!("probes and metrics on {http}\n"))?;
    }
    tracing::info!(%address, entrance = tls, "serving");
    // It goes on for a moment after everything else, with what has just happened.
    let last_uploads = CancellationToken::new();
    let mut mirroring = mirror.map(|mirror| tokio::spawn(mirror.serve(last_uploads.clone())));
    let ended = tokio::select! {
        served = server => Ok(served.map_err(anyhow::Error::from)?),
        // It ends by itself only when it cannot write what has to be durable.
        served = serving => Ok(served?),
        mirrored = ended(&mut mirroring) => mirrored,
        stopped = stop_signal() => Ok(stopped.map_err(anyhow::Error::from)?),
    };
    last_uploads.cancel();
    if ended.is_ok() {
        tokio::select! {
            mirrored = ended_if_any(&mut mirroring) => mirrored?,
            _ = stop_signal() => {}
        }
    }
    ended
}

/// SIGTERM or SIGINT.
async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

type Mirroring = Option<JoinHandle<Result<(), MirrorError>>>;

/// How the mirror ended; where there is none, that is never told.
async fn ended(mirroring: &mut Mirroring) -> Result<(), CliError> {
    match mirroring {
        Some(task) => {
            let ended = task.await;
            *mirroring = None;
            Ok(ended.map_err(anyhow::Error::from)??)
        }
        None => std::future::pending().await,
    }
}

async fn ended_if_any(mirroring: &mut Mirroring) -> Result<(), CliError> {
    if mirroring.is_some() { ended(mirroring).await } else { Ok(()) }
}

async fn restore(bucket: &Bucket, home: &Home) -> Result<(), CliError> {
    let journal = cluster::journal(home).map_err(anyhow::Error::from)?;
    let Brought { runs, checkpoints } = mirror::restore(bucket, home, journal).await?;
    eprintln!(
        "{} is restored from {}: runs {runs}, checkpoints {checkpoints}",
        home.path.display(),
        bucket.url()
    );
    Ok(())
}

fn async_listener(listener: TcpListener) -> anyhow::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    Ok(tokio::net::TcpListener::from_std(listener)?)
}

/// Answers probes, beside everything else.
fn operate(
    listener: TcpListener,
    operation: Operation,
    shutdown: &CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = async_listener(listener)?;
    let address = listener.local_addr()?;
    tokio::spawn(http::serve(listener, operation, shutdown.clone()));
    Ok(address)
}

/// Before anything is made.
fn listen(address: SocketAddr, has_tls: bool) -> Result<TcpListener, CliError> {
    may_listen(address, has_tls)?;
    bind(address, "--listen")
}

fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, CliError> {
    TcpListener::bind(address).map_err(|error| {
        CliError::new(code::CLUSTER, format!("cannot listen on {address}: {error}"))
            .hint(format!("choose another port with {flag}"))
    })
}

impl From<MirrorError> for CliError {
    fn from(error: MirrorError) -> Self {
        let (code, hint) = match &error {
            MirrorError::Bucket(BucketError::Url { .. }) => {
                (code::USAGE, "a store is s3://BUCKET/PREFIX or file:///FOLDER")
            }
            MirrorError::Bucket(BucketError::Store { .. } | BucketError::Short { .. }) => (
                code::CLUSTER,
                "for s3:// look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL (with AWS_ALLOW_HTTP=true for http://), and whether the bucket exists",
            ),
            MirrorError::OtherHome { .. } => (
                code::CLUSTER,
                "each home has a place of its own in a store: choose another PREFIX, or fill an empty home from this one with --restore",
            ),
            MirrorError::Overtaken { .. } => (
                code::CLUSTER,
                "go on with the home that was restored; this one may be deleted, or copied to another PREFIX",
            ),
            MirrorError::Nothing { .. } => {
                (code::DATA, "look at the PREFIX; without --restore a new home begins there")
            }
            MirrorError::NotEmpty { .. } => {
                (code::USAGE, "name another folder with --home, or leave --restore out")
            }
            MirrorError::Damaged { .. } | MirrorError::Changed { .. } | MirrorError::Format { .. } => {
                (code::DATA, "what was fetched stays where it is, and --restore may be tried again")
            }
            _ => (code::FAILED, "the home folder must be writable, and have room"),
        };
        Self::new(code, error.to_string()).hint(hint)
    }
}
