//! How the services are reached: who may connect, how much of everything, and how long anybody may keep the coordinator
//! waiting. All limits are here.
//!
//! tonic would accept connections too, but tells nobody whom its TLS has refused, waits for ever for a connection's first
//! request, and takes as many connections as come. So connections are accepted here (`accept`), counted (`doorway`), and
//! closed when nothing good comes of them (`connection`).

mod accept;
mod connection;
mod doorway;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::Streaming;
use tonic::service::Routes;

use crate::credentials::{Gate, Refusals, ServerCredentials};

/// Largest message taken in. Control messages are small and bulk comes in chunks of at most 1 MiB; an evaluation
/// report of a million blocks would still fit.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A connection whose other end is gone without a word (a machine that lost its power, a cable) ends after this much
/// silence and so much more. A worker's own silence is the lease's matter, which is shorter.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What may be on its way before it is read. With HTTP/2's 64 KiB a checkpoint of 94 MB stands still 1,400 times for
/// somebody to get a core: as long as the training of a frozen network takes for an epoch.
const WINDOW_BYTES: u32 = 8 << 20;

/// Requests at once on one connection. A worker has a session and a file or two; a person has a few that follow.
const STREAMS_PER_CONNECTION: u32 = 100;

/// A request's headers. The longest is a token of half a KiB.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// From its first byte to its last, a handshake takes three times a message's way: half a second across the world.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// How long whoever has connected may take until a request of theirs is let in, handshake included. Long, because a
/// thousand workers that come back at once are served one after another.
const PROOF_PATIENCE: Duration = Duration::from_secs(20);

/// A renewed certificate is in use so soon; the old one is good for days then. And so soon are tokens of an old key worthless.
const RENEWAL_LOOKS: Duration = Duration::from_secs(30);

/// How long a stream that somebody sends may stand still where the next message is due.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(60);

/// How much a listener takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    connections: usize,
    connections_per_host: usize,
    /// Those that have not been good for anything yet. The oldest makes room for a new one: whoever means it is through in
    /// a moment, whoever does not stays for as long as they may.
    unproven: usize,
    unproven_per_host: usize,
    handshake: Duration,
    proof: Duration,
    /// Between two looks at the files of the credentials.
    renewal: Duration,
}

impl Limits {
    /// For strangers. A cluster behind one address (a container network, a cloud's gateway) is one host.
    fn exposed() -> Self {
        let connections = connections_max();
        Self {
            connections,
            connections_per_host: connections / 2,
            unproven: connections / 4,
            unproven_per_host: connections / 8,
            handshake: HANDSHAKE_PATIENCE,
            proof: PROOF_PATIENCE,
            renewal: RENEWAL_LOOKS,
        }
    }

    /// Everybody is at home: whoever wants to use this machine up does not need us for it.
    fn loopback() -> Self {
        let connections = connections_max();
        Self {
            connections_per_host: connections,
            unproven: connections,
            unproven_per_host: connections,
            ..Self::exposed()
        }
    }
}

/// Each is an open file, and journals, logs and checkpoints need some too.
fn connections_max() -> usize {
    const MOST: u64 = 16_384;
    let files = getrlimit(Resource::Nofile).current.unwrap_or(MOST);
    usize::try_from((files / 4 * 3).clamp(64, MOST)).unwrap_or(64)
}

/// Whom a listener lets in.
#[derive(Debug)]
pub struct Entrance {
    listener: TcpListener,
    credentials: Option<ServerCredentials>,
    refusals: Arc<Refusals>,
    limits: Limits,
}

/// A listener that may not be served.
#[derive(Debug, thiserror::Error)]
pub enum EntranceError {
    #[error("{0} can be reached from other machines, and there is no TLS")]
    Exposed(SocketAddr),

    #[error("the listener has no address: {0}")]
    Address(#[from] io::Error),
}

impl EntranceError {
    /// What the user can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exposed(_) => Some(
                "`lockstep certs init --dir DIR --host NAME` makes certificates for --tls-dir DIR; or listen on \
                 127.0.0.1:PORT, where this machine alone comes in"
                    .to_owned(),
            ),
            Self::Address(_) => None,
        }
    }
}

impl Entrance {
    /// For a listener that is bound already. Without credentials it must be on loopback.
    pub fn new(listener: TcpListener, credentials: Option<ServerCredentials>) -> Result<Self, EntranceError> {
        may_listen(listener.local_addr()?, credentials.is_some())?;
        // Before the limits are drawn from what there is.
        super::open_files::allow_many();
        let limits = if credentials.is_some() { Limits::exposed() } else { Limits::loopback() };
        Ok(Self { listener, credentials, refusals: Arc::default(), limits })
    }

    /// Who was turned away, for the metrics.
    #[must_use]
    pub fn refusals(&self) -> Arc<Refusals> {
        Arc::clone(&self.refusals)
    }

    #[cfg(test)]
    pub(crate) fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }
}

/// Beyond this machine nothing passes in the clear. Asked before anything is bound, and again when it is.
pub fn may_listen(address: SocketAddr, has_tls: bool) -> Result<(), EntranceError> {
    let is_here = address.ip().to_canonical().is_loopback();
    if has_tls || is_here { Ok(()) } else { Err(EntranceError::Exposed(address)) }
}

/// Serves until `shutdown`, and until whoever is connected then has gone.
pub(crate) async fn serve(
    entrance: Entrance,
    routes: Routes,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let Entrance { listener, credentials, refusals, limits } = entrance;
    let (gate, tls) = match credentials.map(|credentials| credentials.renewal()) {
        Some(renewal) => {
            let (gate, tls) = (renewal.gate(Arc::clone(&refusals)), renewal.tls());
            tokio::spawn(renewal.keep_up(limits.renewal, shutdown.clone()));
            (gate, Some(tls))
        }
        None => (Gate::loopback(Arc::clone(&refusals)), None),
    };
    let connections = accept::connections(listener, tls, refusals, limits, shutdown.clone());
    tonic::transport::Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(gate)
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, shutdown.cancelled_owned())
        .await
}

/// The next message where one is due: whoever keeps it back loses the stream.
pub(crate) async fn next_due<T>(messages: &mut Streaming<T>) -> Result<Option<T>, Status> {
    next_within(messages, MESSAGE_PATIENCE).await
}

async fn next_within<T>(messages: &mut Streaming<T>, patience: Duration) -> Result<Option<T>, Status> {
    let late = |_| Status::deadline_exceeded(format!("no message came within {patience:?}"));
    tokio::time::timeout(patience, messages.message()).await.map_err(late)?
}
