//! `lockstep serve`: a coordinator that stands, with a queue of runs and a pool of workers.
//!
//! All that it must know is in the home's journal, so it may be killed or stopped at any time: workers train on without it,
//! and the next one takes their runs over.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::home::HomeArgs;
use super::logging::{self, LogArgs};
use super::{CliError, code};
use crate::cluster::Cluster;
use crate::credentials::ServerCredentials;
use crate::grpc::transport::{Entrance, may_listen};
use crate::grpc::{self, Reflection};
use crate::home::Home;
use crate::http::{self, Operation};

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
    #[command(flatten)]
    home: HomeArgs,
    #[command(flatten)]
    log: LogArgs,
}

pub(super) fn run(args: ServeArgs) -> Result<u8, CliError> {
    let format = args.log.format()?;
    let credentials = args.tls_dir.as_deref().map(ServerCredentials::load).transpose()?;
    let listener = listen(args.listen, credentials.is_some())?;
    let http = args.http.map(|address| bind(address, "--http")).transpose()?;
    let reflection = if args.reflection { Reflection::On } else { Reflection::Off };
    let address = listener.local_addr().map_err(anyhow::Error::from)?;
    let home = args.home.open()?;
    let mut claim = home.claim()?;
    claim.say(&format!("process {}, at {address}", std::process::id())).map_err(anyhow::Error::from)?;
    logging::start_serving(format, &home.path);
    for warning in credentials.iter().flat_map(ServerCredentials::warnings) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::from(anyhow::Error::from(error)))?;
    let entered = (listener, credentials);
    let served = runtime.block_on(serve(home, entered, http, reflection));
    runtime.shutdown_timeout(LAST_WRITES);
    served?;
    eprintln!(
        "stopped; runs go on at their workers, and the next `lockstep serve` of this home takes them over"
    );
    Ok(0)
}

async fn serve(
    home: Home,
    (listener, credentials): (TcpListener, Option<ServerCredentials>),
    http: Option<TcpListener>,
    reflection: Reflection,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let blobs = home.blobs.clone();
    let (cluster, handle) = tokio::task::block_in_place(|| Cluster::open(home, address))?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let shutdown = CancellationToken::new();
    let tls = if credentials.is_some() { "tls" } else { "loopback" };
    let entrance = Entrance::new(listener, credentials)?;
    let operation = Operation::new(handle.clone(), Some(entrance.refusals()));
    let watched = http.map(|http| operate(http, operation, &shutdown)).transpose()?;
    let server = grpc::serve_with(entrance, handle, blobs, reflection, shutdown.clone());
    let serving = cluster.serve(shutdown.clone());
    // For scripts, which may have asked for any free port.
    super::stdout::print(&format!("listening on {address}\n"))?;
    if let Some(http) = watched {
        super::stdout::print(&format!("probes and metrics on {http}\n"))?;
    }
    tracing::info!(%address, entrance = tls, "serving");
    tokio::select! {
        served = server => Ok(served?),
        // It ends by itself only when it cannot write what has to be durable.
        served = serving => served,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Answers probes, beside everything else.
fn operate(
    listener: TcpListener,
    operation: Operation,
    shutdown: &CancellationToken,
) -> anyhow::Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
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
