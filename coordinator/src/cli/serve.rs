//! `lockstep serve`: a coordinator that stands, with a queue of runs and a pool of workers.
//!
//! All that it must know is in the home's journal, so it may be killed or stopped at any time: workers train on without it,
//! and the next one takes their runs over.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::home::HomeArgs;
use super::logging::{self, LogArgs};
use super::{CliError, code};
use crate::cluster::Cluster;
use crate::grpc::{self, Placement, Reflection};
use crate::home::Home;
use crate::http::{self, Operation};

/// How long what is being written may take at the end.
const LAST_WRITES: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Where workers and people reach the coordinator; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4400")]
    listen: SocketAddr,
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
    let listener = listen(args.listen)?;
    let http = args.http.map(|address| bind(address, "--http")).transpose()?;
    let reflection = if args.reflection { Reflection::On } else { Reflection::Off };
    let address = listener.local_addr().map_err(anyhow::Error::from)?;
    let home = args.home.open()?;
    let mut claim = home.claim()?;
    claim.say(&format!("process {}, at {address}", std::process::id())).map_err(anyhow::Error::from)?;
    logging::start_serving(format, &home.path);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::from(anyhow::Error::from(error)))?;
    let served = runtime.block_on(serve(home, listener, http, reflection));
    runtime.shutdown_timeout(LAST_WRITES);
    served?;
    eprintln!(
        "stopped; runs go on at their workers, and the next `lockstep serve` of this home takes them over"
    );
    Ok(0)
}

async fn serve(
    home: Home,
    listener: TcpListener,
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
    let watched =
        http.map(|http| operate(http, Operation::new(handle.clone(), None), &shutdown)).transpose()?;
    let placement = Placement::Cluster(handle);
    let server = grpc::serve_with(listener, placement, blobs, reflection, shutdown.clone());
    let serving = cluster.serve(shutdown.clone());
    // For scripts, which may have asked for any free port.
    super::stdout::print(&format!("listening on {address}\n"))?;
    if let Some(http) = watched {
        super::stdout::print(&format!("probes and metrics on {http}\n"))?;
    }
    tracing::info!(%address, "serving");
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
fn listen(address: SocketAddr) -> Result<TcpListener, CliError> {
    if !address.ip().is_loopback() {
        let message = format!("{address} can be reached from other machines, and there are no credentials");
        return Err(CliError::new(code::USAGE, message)
            .hint("without TLS a coordinator listens on 127.0.0.1 alone, where everybody on this machine may ask it"));
    }
    bind(address, "--listen")
}

fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, CliError> {
    TcpListener::bind(address).map_err(|error| {
        CliError::new(code::CLUSTER, format!("cannot listen on {address}: {error}"))
            .hint(format!("choose another port with {flag}"))
    })
}
