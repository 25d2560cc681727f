//! A coordinator for tests: the other side of the wire on a free port, whose decisions are the test's.

mod authority;
mod service;
mod wire;

use std::time::Duration;

use lockstep_proto::v1;
use lockstep_proto::v1::session_response::Message;
use lockstep_proto::v1::worker_service_server::WorkerServiceServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Code, Status};

pub(crate) use self::authority::{Authority, Validity};
use self::service::Service;
pub(crate) use self::service::{ENDLESS_STEP, Upload};
pub(crate) use self::wire::digest;
use super::Order;

/// Far more than anything here takes; a test that waits for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves until it is dropped.
pub(crate) struct Coordinator {
    pub(crate) url: String,
    sessions: mpsc::Receiver<Session>,
    uploads: mpsc::Receiver<Upload>,
    server: JoinHandle<()>,
}

/// A worker's session, from its Join on. Dropping it ends the session.
pub(crate) struct Session {
    pub(crate) incarnation: u64,
    pub(crate) term: u64,
    /// The one that the worker says it is at.
    pub(crate) run: String,
    pub(crate) memory_bytes: u64,
    pub(crate) pid: u32,
    /// The header of that name.
    pub(crate) authorization: Option<String>,
    said: mpsc::Receiver<Said>,
    answers: mpsc::Sender<Result<v1::SessionResponse, Status>>,
}

/// What a worker says, as far as the tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Heartbeat { sequence: u64, address: String, generation: u64, prepared: u64, leaving: bool },
    Epoch { generation: u64, epoch: u32 },
    Eval { generation: u64 },
    Started { generation: u64 },
    Prefix { line: String },
    Progress,
    Logged { lines: String },
    Failed { reason: String, of_the_worker: bool },
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        Self::serve(Server::builder(), "http").await
    }

    /// With TLS.
    pub(crate) async fn start_with(tls: ServerTlsConfig) -> Self {
        Self::serve(Server::builder().tls_config(tls).unwrap(), "https").await
    }

    async fn serve(mut server: Server, scheme: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let (service, sessions, uploads) = Service::new();
        let server = server.add_service(WorkerServiceServer::new(service));
        let server = tokio::spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { url, sessions, uploads, server }
    }

    /// The next session that a worker opens.
    pub(crate) async fn session(&mut self) -> Session {
        timeout(PATIENCE, self.sessions.recv()).await.expect("no worker joins").unwrap()
    }

    /// The same, welcomed.
    pub(crate) async fn welcome(&mut self, term: u64) -> Session {
        let session = self.session().await;
        session.welcome(term, 1).await;
        session
    }

    /// The next checkpoint that is handed over.
    pub(crate) async fn upload(&mut self) -> Upload {
        timeout(PATIENCE, self.uploads.recv()).await.expect("nothing is uploaded").unwrap()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Session {
    /// With the settings of a run of so many epochs.
    pub(crate) async fn welcome(&self, term: u64, epochs: u32) {
        let plan = Some(wire::plan(epochs));
        let run = wire::RUN.to_owned();
        let welcome = v1::Welcome { run, plan, term, lease_ms: 300, keep_logs: false };
        self.answer(Ok(Message::Welcome(welcome))).await;
    }

    /// No run needs the worker.
    pub(crate) async fn pool(&self) {
        self.pooled(false, true).await;
    }

    /// The same, by a coordinator that wants its log.
    pub(crate) async fn pool_keeping_logs(&self) {
        self.pooled(true, true).await;
    }

    /// One run has it all, and all its workers.
    pub(crate) async fn pool_of_one_run(&self) {
        self.pooled(false, false).await;
    }

    async fn pooled(&self, keep_logs: bool, stand_by: bool) {
        self.answer(Ok(Message::Pooled(v1::Pooled { keep_logs, stand_by }))).await;
    }

    pub(crate) async fn refuse(self, code: Code) {
        self.answer(Err(Status::new(code, "refused by the test"))).await;
    }

    pub(crate) async fn order(&self, order: Order) {
        self.answer(Ok(wire::order(order))).await;
    }

    async fn answer(&self, answer: Result<Message, Status>) {
        let response = answer.map(|message| v1::SessionResponse { message: Some(message) });
        // A worker that has gone needs no answer.
        drop(self.answers.send(response).await);
    }

    /// The first thing said that `is_it`, passing over all others.
    pub(crate) async fn hear(&mut self, what: &str, is_it: impl Fn(&Said) -> bool) -> Said {
        let heard = async {
            loop {
                let said =
                    self.said.recv().await.unwrap_or_else(|| panic!("the session ended without {what}"));
                if is_it(&said) {
                    return said;
                }
            }
        };
        timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("never heard {what}"))
    }

    /// Nothing has been said since the join.
    pub(crate) fn says_nothing(&mut self) {
        let said = self.said.try_recv();
        assert!(said.is_err(), "{said:?}");
    }

    /// The worker ends the session.
    pub(crate) async fn ended(mut self) {
        let ended = async { while self.said.recv().await.is_some() {} };
        timeout(PATIENCE, ended).await.expect("the session does not end");
    }
}
