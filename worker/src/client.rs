//! The coordinator as a worker sees it: the only place that knows the wire.
//!
//! [`Client`] opens sessions; [`Outgoing`] and [`Incoming`] are a session's two directions, in this crate's own types.
//! [`Bulk`] moves files beside them, on a connection of its own: a heartbeat must not wait behind a checkpoint.

mod bulk;
mod convert;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod order;
mod outgoing;
mod upload;

use std::time::Duration;

use lockstep_proto::v1;
use lockstep_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

pub use self::bulk::{Bulk, Download};
pub use self::convert::Malformed;
pub use self::error::ClientError;
pub use self::order::{BeginOrder, EvaluateOrder, Order, StartFrom, VerdictOrder, Welcome};
pub use self::outgoing::{Heartbeat, Outgoing};

/// The contract's version that this worker speaks.
const PROTOCOL_VERSION: u32 = 2;
/// The contract's limit on a chunk.
const CHUNK_BYTES: usize = 1 << 20;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// From Join to Welcome. A coordinator that is stopped keeps its port open and never answers.
const WELCOME_WITHIN: Duration = Duration::from_secs(5);
/// A connection on which nothing has come for so long is asked for a sign of life,
const PING_AFTER: Duration = Duration::from_secs(2);
/// and given up when there is none for so long. Coming back is cheap, and a network that swallows packets closes nothing.
const PONG_WITHIN: Duration = Duration::from_secs(3);
/// What may be on its way before it is read. With HTTP/2's 64 KiB a file of 94 MB stands still 1,400 times for
/// somebody to get a core.
const WINDOW_BYTES: u32 = 8 << 20;

/// The files of a checkpoint, as the contract names them.
pub const MODEL_FILE: &str = "model.safetensors";
/// See [`MODEL_FILE`].
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    pub name: String,
    pub device: String,
    pub host: String,
    pub pid: u32,
    pub libtorch_version: String,
    /// Drawn by each process anew.
    pub incarnation: u64,
    /// The newest that it has heard of; 0: none.
    pub term: u64,
}

/// A connection to a coordinator, for one session.
#[derive(Debug)]
pub struct Client {
    service: WorkerServiceClient<Channel>,
}

impl Client {
    /// Connects to `http://host:port` (the scheme may be left out), once.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::Unreachable`].
    pub async fn connect(url: &str) -> Result<Self, ClientError> {
        let channel =
            endpoint(url)?.connect().await.map_err(|error| ClientError::unreachable(url, &error))?;
        Ok(Self { service: WorkerServiceClient::new(channel) })
    }

    /// Opens the session.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the run does not want this worker, [`ClientError::Silent`] when it does not answer.
    pub async fn join(
        mut self,
        introduction: Introduction,
    ) -> Result<(Welcome, Outgoing, Incoming), ClientError> {
        let (outgoing, requests) = outgoing::open(convert::join(introduction));
        let welcomed = async {
            let mut stream = self.service.session(requests).await?.into_inner();
            let first = stream.message().await?.ok_or(ClientError::Lost)?;
            Ok((convert::welcome(first)?, stream))
        };
        let answer = timeout(WELCOME_WITHIN, welcomed).await;
        let (welcome, stream) = answer.unwrap_or(Err(ClientError::Silent { within: WELCOME_WITHIN }))?;
        Ok((welcome, outgoing, Incoming { stream }))
    }
}

fn endpoint(url: &str) -> Result<Endpoint, ClientError> {
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let endpoint = Endpoint::from_shared(full)
        .map_err(|error| ClientError::Address(url.to_owned(), error.to_string()))?
        .connect_timeout(CONNECT_WITHIN)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PONG_WITHIN)
        .keep_alive_while_idle(true);
    Ok(endpoint)
}

/// What the coordinator says. Dropping it ends the session.
#[derive(Debug)]
pub struct Incoming {
    stream: Streaming<v1::SessionResponse>,
}

impl Incoming {
    /// The next order.
    ///
    /// # Errors
    /// [`ClientError::Lost`] when the coordinator has closed the session, [`ClientError::Refused`] when it says why or
    /// the connection broke, [`ClientError::Malformed`].
    pub async fn next(&mut self) -> Result<Order, ClientError> {
        match self.stream.message().await? {
            Some(response) => Ok(convert::order(response)?),
            None => Err(ClientError::Lost),
        }
    }
}
