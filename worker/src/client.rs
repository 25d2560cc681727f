//! The coordinator as a worker sees it: the only place that knows the wire.
//!
//! [`Client`] opens sessions; [`Outgoing`] and [`Incoming`] are a session's two directions, in this crate's own types.
//! [`Bulk`] moves files beside them, on a connection of its own: a heartbeat must not wait behind a checkpoint.

mod bulk;
mod convert;
mod credentials;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod order;
mod outgoing;
#[cfg(test)]
mod tests;
mod trust;
mod upload;

use std::time::Duration;

use lockstep_proto::v1;
use lockstep_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

pub use self::bulk::{Bulk, Download};
pub use self::convert::Malformed;
pub use self::credentials::{Access, Bearer, CredentialError, Credentials};
pub use self::error::ClientError;
pub use self::order::{
    Answer, BeginOrder, EvaluateOrder, FinishOrder, Order, Pooled, StartFrom, VerdictOrder, Welcome,
};
pub use self::outgoing::{Heartbeat, Outgoing};
use crate::logs::LogTail;

/// The contract's version that this worker speaks.
const PROTOCOL_VERSION: u32 = 3;
/// The contract's limit on a chunk.
const CHUNK_BYTES: usize = 1 << 20;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// From Join to the first answer. A coordinator that is stopped keeps its port open and never answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
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
    /// Of the device; 0: not known.
    pub memory_bytes: u64,
    pub host: String,
    pub pid: u32,
    pub libtorch_version: String,
    /// Drawn by each process anew.
    pub incarnation: u64,
    /// The newest that it has heard of; 0: none.
    pub term: u64,
    /// The one that it is at, when it comes back.
    pub run: Option<String>,
}

/// A connection to a coordinator, for one session.
#[derive(Debug)]
pub struct Client {
    service: Service,
    is_secure: bool,
}

/// All calls, with what shows who makes them.
type Service = WorkerServiceClient<InterceptedService<Channel, Bearer>>;

fn service(channel: Channel, access: &Access) -> Service {
    Service::new(InterceptedService::new(channel, access.bearer()))
}

impl Client {
    /// Connects, once.
    ///
    /// # Errors
    /// [`ClientError::Credentials`], [`ClientError::Unreachable`], [`ClientError::Untrusted`].
    pub async fn connect(access: &Access) -> Result<Self, ClientError> {
        let channel = access.endpoint()?.connect().await;
        let channel = channel.map_err(|error| ClientError::connecting(access.url(), &error))?;
        Ok(Self { service: service(channel, access), is_secure: access.is_secure() })
    }

    /// Opens the session, on which `logs` leave too when they are wanted, and waits for its first answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when nobody wants this worker, [`ClientError::Silent`] when nobody answers.
    pub async fn join(
        mut self,
        introduction: Introduction,
        logs: &LogTail,
    ) -> Result<(Answer, Outgoing, Incoming), ClientError> {
        let (outgoing, requests) = outgoing::open(convert::join(introduction), logs.clone());
        let answered = async {
            let mut incoming = Incoming { stream: self.service.session(requests).await?.into_inner() };
            Ok((incoming.answer().await?, incoming))
        };
        let answered = timeout(ANSWER_WITHIN, answered).await;
        match answered.unwrap_or(Err(ClientError::Silent { within: ANSWER_WITHIN })) {
            Ok((answer, incoming)) => Ok((answer, outgoing, incoming)),
            Err(error) if self.is_secure => Err(error),
            Err(error) => Err(error.before_an_answer()),
        }
    }
}

/// What the coordinator says. Dropping it ends the session.
#[derive(Debug)]
pub struct Incoming {
    stream: Streaming<v1::SessionResponse>,
}

impl Incoming {
    /// The next answer to the join. For whoever is pooled it may take days; a connection that has died ends it.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn answer(&mut self) -> Result<Answer, ClientError> {
        let response = self.stream.message().await?.ok_or(ClientError::Lost)?;
        Ok(convert::answer(response)?)
    }

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
