//! The fake's end of the calls: it hands everything to the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep_proto::v1;
use lockstep_proto::v1::session_request::Message;
use lockstep_proto::v1::upload_checkpoint_request::Message as Part;
use lockstep_proto::v1::worker_service_server::WorkerService;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{BoxStream, Bytes};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Said, Session, wire};

/// Messages that may wait for the test to look at them.
const WAITING: usize = 1024;

/// The checkpoint of this step never comes.
pub(crate) const ENDLESS_STEP: u64 = 404;

#[derive(Debug)]
pub(super) struct Service {
    sessions: mpsc::Sender<Session>,
    uploads: mpsc::Sender<Upload>,
    /// Every other fetch of a checkpoint finds its connection broken.
    fetches: Arc<AtomicUsize>,
}

/// A checkpoint that has arrived and waits for an answer.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) step: u64,
    pub(crate) bytes: usize,
    answer: oneshot::Sender<Result<(), Status>>,
}

impl Upload {
    pub(crate) fn stored(self) {
        self.answer.send(Ok(())).unwrap();
    }

    pub(crate) fn refuse(self, code: Code) {
        self.answer.send(Err(Status::new(code, "refused by the test"))).unwrap();
    }
}

impl Service {
    pub(super) fn new() -> (Self, mpsc::Receiver<Session>, mpsc::Receiver<Upload>) {
        let (sessions, joined) = mpsc::channel(WAITING);
        let (uploads, uploaded) = mpsc::channel(WAITING);
        (Self { sessions, uploads, fetches: Arc::default() }, joined, uploaded)
    }
}

#[tonic::async_trait]
impl WorkerService for Service {
    type SessionStream = BoxStream<v1::SessionResponse>;
    type FetchBlobStream = BoxStream<v1::Chunk>;
    type FetchCheckpointStream = BoxStream<v1::Chunk>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map(|shown| shown.to_str().unwrap().to_owned());
        let mut requests = request.into_inner();
        let Some(v1::SessionRequest { message: Some(Message::Join(join)) }) = requests.message().await?
        else {
            return Err(Status::invalid_argument("a session begins with Join"));
        };
        let (say, said) = mpsc::channel(WAITING);
        let (answers, responses) = mpsc::channel(WAITING);
        let v1::Join { incarnation, term, run, memory_bytes, pid, .. } = join;
        let session = Session { incarnation, term, run, memory_bytes, pid, authorization, said, answers };
        self.sessions.send(session).await.unwrap();
        tokio::spawn(async move {
            while let Ok(Some(v1::SessionRequest { message: Some(message) })) = requests.message().await {
                if say.send(said_by(message)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn fetch_blob(
        &self,
        request: Request<v1::FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        assert_eq!(request.into_inner().digest, wire::digest());
        Ok(one_chunk(wire::BLOB))
    }

    async fn fetch_checkpoint(
        &self,
        request: Request<v1::FetchCheckpointRequest>,
    ) -> Result<Response<Self::FetchCheckpointStream>, Status> {
        if request.into_inner().step == ENDLESS_STEP {
            std::future::pending::<()>().await;
        }
        match self.fetches.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Err(Status::unavailable("broken by the test")),
            _ => Ok(one_chunk(b"weights")),
        }
    }

    async fn upload_checkpoint(
        &self,
        request: Request<Streaming<v1::UploadCheckpointRequest>>,
    ) -> Result<Response<v1::UploadCheckpointResponse>, Status> {
        let (mut parts, mut step, mut bytes) = (request.into_inner(), 0, 0);
        while let Some(part) = parts.message().await? {
            match part.message.unwrap() {
                Part::Header(header) => step = header.position.unwrap().step,
                Part::Chunk(chunk) => bytes += chunk.data.len(),
            }
        }
        let (answer, answered) = oneshot::channel();
        self.uploads.send(Upload { step, bytes, answer }).await.unwrap();
        answered.await.unwrap_or_else(|_| Err(Status::unavailable("the test has ended")))?;
        Ok(Response::new(v1::UploadCheckpointResponse {}))
    }
}

fn one_chunk(bytes: &'static [u8]) -> Response<BoxStream<v1::Chunk>> {
    let chunk = v1::Chunk { data: Bytes::from_static(bytes) };
    Response::new(Box::pin(tokio_stream::iter([Ok(chunk)])))
}

fn said_by(message: Message) -> Said {
    match message {
        Message::Join(_) => panic!("a second join"),
        Message::Heartbeat(heartbeat) => {
            let v1::Heartbeat { sequence, address, generation, prepared, leaving, .. } = heartbeat;
            Said::Heartbeat { sequence, address, generation, prepared, leaving }
        }
        Message::Progress(_) => Said::Progress,
        Message::EpochReport(v1::EpochReport { generation, epoch, .. }) => Said::Epoch { generation, epoch },
        Message::EvalReport(v1::EvalReport { generation, .. }) => Said::Eval { generation },
        Message::Prefix(v1::Prefix { line, .. }) => Said::Prefix { line },
        Message::Started(v1::Started { generation, .. }) => Said::Started { generation },
        Message::Logged(v1::Logged { lines }) => Said::Logged { lines },
        Message::Failed(failed) => {
            let of_the_worker = failed.kind() == v1::FailureKind::Worker;
            Said::Failed { reason: failed.reason, of_the_worker }
        }
    }
}
