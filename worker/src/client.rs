//! The coordinator as a worker sees it: the only place that knows the wire.
//!
//! [`Client`] opens the session and moves bulk beside it; [`Outgoing`] and [`Incoming`] are the session's two
//! directions, in this crate's own types.

mod convert;
mod order;

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use lockstep_proto::v1;
use lockstep_proto::v1::worker_service_client::WorkerServiceClient;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Bytes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

pub use self::convert::Malformed;
pub use self::order::{BeginOrder, Order, Welcome};
use crate::trainer::{FailureKind, Report, Snapshot};

/// The contract's version that this worker speaks.
const PROTOCOL_VERSION: u32 = 1;
/// Messages waiting to be sent. Progress is dropped beyond it; the rest is rare.
const OUTGOING_MESSAGES: usize = 32;
/// The contract's limit on a chunk.
const CHUNK_BYTES: usize = 1 << 20;
/// A coordinator that does not answer a ping for so long is lost, even if its connection still looks open.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why the coordinator could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0:?} is not an address: {1}")]
    Address(String, String),
    #[error("cannot reach the coordinator at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("the coordinator refused: {}", .0.message())]
    Refused(Status),
    #[error("lost the coordinator")]
    Lost,
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl ClientError {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(status) => status.code() == Code::Unavailable,
            _ => false,
        }
    }

    /// Whether what was asked for is not there, or no longer whole.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused(status) if matches!(status.code(), Code::NotFound | Code::DataLoss))
    }
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    pub name: String,
    pub device: String,
    pub host: String,
    pub pid: u32,
    pub libtorch_version: String,
}

/// A connection to a coordinator. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    service: WorkerServiceClient<Channel>,
}

impl Client {
    /// Connects to `http://host:port` (the scheme may be left out), once.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::Unreachable`].
    pub async fn connect(url: &str) -> Result<Self, ClientError> {
        let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let endpoint = Endpoint::from_shared(full)
            .map_err(|error| ClientError::Address(url.to_owned(), error.to_string()))?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE / 2)
            .keep_alive_timeout(KEEP_ALIVE / 2)
            .keep_alive_while_idle(true);
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| ClientError::Unreachable { url: url.to_owned(), reason: root_cause(&error) })?;
        Ok(Self { service: WorkerServiceClient::new(channel) })
    }

    /// Opens the session.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the run does not want this worker.
    pub async fn join(
        &self,
        introduction: Introduction,
    ) -> Result<(Welcome, Outgoing, Incoming), ClientError> {
        let (sender, requests) = mpsc::channel(OUTGOING_MESSAGES);
        let outgoing = Outgoing { sender };
        let Introduction { name, device, host, pid, libtorch_version } = introduction;
        let protocol_version = PROTOCOL_VERSION;
        let join = v1::Join { protocol_version, name, device, host, pid, libtorch_version };
        outgoing.send(v1::session_request::Message::Join(join)).await?;
        let response = self.service.clone().session(ReceiverStream::new(requests)).await;
        let mut stream = response.map_err(ClientError::Refused)?.into_inner();
        let first = stream.message().await.map_err(ClientError::Refused)?.ok_or(ClientError::Lost)?;
        let Some(v1::session_response::Message::Welcome(welcome)) = first.message else {
            return Err(ClientError::Lost);
        };
        Ok((convert::welcome(welcome)?, outgoing, Incoming { stream }))
    }

    /// A content-addressed file, in order.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn fetch_blob(&self, digest: &str) -> Result<Download, ClientError> {
        let request = v1::FetchBlobRequest { digest: digest.to_owned() };
        let response = self.service.clone().fetch_blob(request).await;
        Ok(Download { stream: response.map_err(ClientError::Refused)?.into_inner() })
    }

    /// One whole file of a stored checkpoint.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn fetch_checkpoint(&self, run: &str, step: u64, file: &str) -> Result<Vec<u8>, ClientError> {
        let request = v1::FetchCheckpointRequest { run: run.to_owned(), step, file: file.to_owned() };
        let response = self.service.clone().fetch_checkpoint(request).await;
        let mut download = Download { stream: response.map_err(ClientError::Refused)?.into_inner() };
        let mut bytes = Vec::new();
        while let Some(chunk) = download.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Hands a checkpoint over; returns once it is durable.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn upload(&self, run: &str, worker: &str, snapshot: Snapshot) -> Result<(), ClientError> {
        let files = [
            (MODEL_FILE, Bytes::from(snapshot.files.model)),
            (OPTIMIZER_FILE, Bytes::from(snapshot.files.optimizer)),
        ];
        let (run, worker, generation, position) =
            (run.to_owned(), worker.to_owned(), snapshot.generation, snapshot.position);
        let header = tokio::task::spawn_blocking({
            let files = files.clone();
            move || v1::CheckpointHeader {
                run,
                generation,
                worker,
                position: Some(convert::wire_position(position)),
                files: files.iter().map(|(name, bytes)| described(name, bytes)).collect(),
            }
        });
        let header = header.await.map_err(|_| ClientError::Lost)?;
        let response = self.service.clone().upload_checkpoint(upload_messages(header, files)).await;
        response.map(|_| ()).map_err(ClientError::Refused)
    }
}

/// The files of a checkpoint, as the contract names them.
pub const MODEL_FILE: &str = "model.safetensors";
/// See [`MODEL_FILE`].
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";

fn described(name: &str, bytes: &[u8]) -> v1::CheckpointFile {
    let sha256 = Sha256::digest(bytes).to_vec();
    v1::CheckpointFile { name: name.to_owned(), size_bytes: bytes.len() as u64, sha256 }
}

/// The header, then slices of the files: nothing is copied.
fn upload_messages(
    header: v1::CheckpointHeader,
    files: [(&'static str, Bytes); 2],
) -> impl Stream<Item = v1::UploadCheckpointRequest> {
    use v1::upload_checkpoint_request::Message;
    let chunks = files.into_iter().flat_map(|(_, file)| {
        let starts = (0..file.len()).step_by(CHUNK_BYTES);
        starts.map(move |start| file.slice(start..file.len().min(start + CHUNK_BYTES)))
    });
    let chunks = chunks.map(|data| Message::Chunk(v1::Chunk { data }));
    let messages = std::iter::once(Message::Header(header)).chain(chunks);
    tokio_stream::iter(messages.map(|message| v1::UploadCheckpointRequest { message: Some(message) }))
}

/// A file on its way here.
#[derive(Debug)]
pub struct Download {
    stream: Streaming<v1::Chunk>,
}

impl Download {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let chunk = self.stream.next().await.transpose().map_err(ClientError::Refused)?;
        Ok(chunk.map(|chunk| chunk.data))
    }
}

/// What the worker says. Clones share the session.
#[derive(Debug, Clone)]
pub struct Outgoing {
    sender: mpsc::Sender<v1::SessionRequest>,
}

impl Outgoing {
    async fn send(&self, message: v1::session_request::Message) -> Result<(), ClientError> {
        let request = v1::SessionRequest { message: Some(message) };
        self.sender.send(request).await.map_err(|_| ClientError::Lost)
    }

    /// The answer to a prepare.
    ///
    /// # Errors
    /// [`ClientError::Lost`].
    pub async fn prepared(&self, generation: u64, address: String) -> Result<(), ClientError> {
        self.send(v1::session_request::Message::Prepared(v1::Prepared { generation, address })).await
    }

    /// The worker's last word.
    ///
    /// # Errors
    /// [`ClientError::Lost`].
    pub async fn failed(&self, reason: String, kind: FailureKind) -> Result<(), ClientError> {
        let kind = convert::failure_kind(kind).into();
        self.send(v1::session_request::Message::Failed(v1::Failed { reason, kind })).await
    }

    /// Passes on what the trainer reports; called from the trainer's thread. Progress never blocks it.
    ///
    /// # Errors
    /// The report itself, when it is a snapshot: that goes beside the session.
    pub fn report(&self, report: Report) -> Result<(), ReportError> {
        use v1::session_request::Message;
        let message = match report {
            Report::Progress(progress) => {
                let message = Some(Message::Progress(convert::progress(progress)));
                return match self.sender.try_send(v1::SessionRequest { message }) {
                    Err(mpsc::error::TrySendError::Closed(_)) => Err(ReportError::Lost),
                    Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
                };
            }
            Report::Epoch(report) => Message::EpochReport(convert::epoch_report(report)),
            Report::Eval(report) => Message::EvalReport(convert::eval_report(report)),
            Report::Halted { generation, position } => {
                Message::Halted(v1::Halted { generation, position: Some(convert::wire_position(position)) })
            }
            Report::Snapshot(snapshot) => return Err(ReportError::Bulk(snapshot)),
        };
        let request = v1::SessionRequest { message: Some(message) };
        self.sender.blocking_send(request).map_err(|_| ReportError::Lost)
    }
}

/// Why a report did not go out on the session.
#[derive(Debug)]
pub enum ReportError {
    /// It belongs beside it.
    Bulk(Snapshot),
    Lost,
}

/// What the coordinator says.
#[derive(Debug)]
pub struct Incoming {
    stream: Streaming<v1::SessionResponse>,
}

impl Incoming {
    /// The next order.
    ///
    /// # Errors
    /// [`ClientError::Lost`] when the coordinator has closed the session or is gone.
    pub async fn next(&mut self) -> Result<Order, ClientError> {
        match self.stream.message().await {
            Ok(Some(response)) => Ok(convert::order(response)?),
            Ok(None) => Err(ClientError::Lost),
            Err(status) if is_transport(&status) => Err(ClientError::Lost),
            Err(status) => Err(ClientError::Refused(status)),
        }
    }
}

/// Whether a status was made here because the connection broke, rather than sent by the coordinator.
fn is_transport(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
}

/// The innermost error: tonic's outer ones say "transport error" only.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
