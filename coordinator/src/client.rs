//! What a person's machine asks of a standing coordinator. The wire's types end here: whoever calls gets runs, workers
//! and errors that can be told apart.
//!
//! Nothing here prints or decides what is worth a second try; `cli::remote` does.

#[cfg(test)]
pub(crate) mod fake;
mod files;
mod runs;
mod streams;
mod workers;

use std::time::Duration;

use lockstep_proto::v1 as pb;
use lockstep_proto::v1::run_service_client::RunServiceClient;
use tonic::{Request, Response, Status};

use crate::credentials::client::{Connection, Remote, RemoteError};

pub use files::{FileContent, RemoteFile};
pub use runs::{FailureKind, Listing, Requirements, RunState, RunSummary, Submission, Submitted};
pub use streams::{LogChunk, LogLines, LogRequest, Watch};
pub use workers::{PoolWorker, WorkerState};

/// An answer that takes longer does not come: submitting and stopping wait for a disk at most.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A message of a run with a thousand workers, or a list of a thousand runs, fits many times over.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A coordinator, to be asked.
#[derive(Debug, Clone)]
pub struct RunClient {
    service: RunServiceClient<Connection>,
    remote: Remote,
}

impl RunClient {
    /// Connects with a coordinator.
    pub async fn connect(remote: &Remote) -> Result<Self, RemoteError> {
        let connection = remote.connect().await?;
        let service = RunServiceClient::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { service, remote: remote.clone() })
    }

    /// The same over a new connection, with the credentials as they are now: a token does not live as long as a run.
    pub async fn again(&self) -> Result<Self, RemoteError> {
        Self::connect(&self.remote).await
    }

    /// Where the coordinator is.
    #[must_use]
    pub fn url(&self) -> String {
        self.remote.url()
    }

    /// Puts a run into the queue.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, RemoteError> {
        let answer = self.service().submit(brief(submission.into())).await;
        self.read(answer).map(Submitted::from)
    }

    /// Runs in any of the states, of none given all, and at most `limit` of them (0: as the coordinator sees fit).
    pub async fn runs(&self, states: &[RunState], limit: u32) -> Result<Listing, RemoteError> {
        let states = states.iter().map(|state| pb::RunState::from(*state).into()).collect();
        let answer = self.service().list_runs(brief(pb::ListRunsRequest { states, limit })).await;
        self.read(answer).map(Listing::from)
    }

    pub async fn run(&self, run: &str) -> Result<RunSummary, RemoteError> {
        let answer = self.service().get_run(brief(pb::GetRunRequest { run: run.into() })).await;
        self.read(answer).and_then(|answer| self.summary(answer.run))
    }

    pub async fn stop(&self, run: &str) -> Result<RunSummary, RemoteError> {
        let answer = self.service().stop_run(brief(pb::StopRunRequest { run: run.into() })).await;
        self.read(answer).and_then(|answer| self.summary(answer.run))
    }

    /// Puts a run that is over back into the queue; to as many epochs and on as many workers as before where none are
    /// given.
    pub async fn resume(
        &self,
        run: &str,
        epochs: Option<u32>,
        priority: i32,
        requirements: Option<Requirements>,
    ) -> Result<RunSummary, RemoteError> {
        let request = pb::ResumeRunRequest {
            run: run.into(),
            epochs: epochs.unwrap_or_default(),
            priority,
            requirements: requirements.map(Into::into),
        };
        let answer = self.service().resume_run(brief(request)).await;
        self.read(answer).and_then(|answer| self.summary(answer.run))
    }

    pub async fn workers(&self) -> Result<Vec<PoolWorker>, RemoteError> {
        let answer = self.service().list_workers(brief(pb::ListWorkersRequest {})).await;
        Ok(self.read(answer)?.workers.into_iter().map(PoolWorker::from).collect())
    }

    /// Has a worker leave.
    pub async fn drain(&self, worker: &str) -> Result<PoolWorker, RemoteError> {
        let request = pb::DrainWorkerRequest { worker: worker.into() };
        let answer = self.service().drain_worker(brief(request)).await;
        self.read(answer)?.worker.map(PoolWorker::from).ok_or_else(|| self.silent())
    }

    /// The run, and again whenever it has changed.
    pub async fn watch(&self, run: &str) -> Result<Watch, RemoteError> {
        let answer = self.service().watch_run(pb::WatchRunRequest { run: run.into() }).await;
        Ok(Watch::new(self.read(answer)?, self.clone()))
    }

    pub async fn logs(&self, request: LogRequest) -> Result<LogLines, RemoteError> {
        let answer = self.service().read_logs(pb::ReadLogsRequest::from(request)).await;
        Ok(LogLines::new(self.read(answer)?, self.clone()))
    }

    /// What lies in the run's folder.
    pub async fn files(&self, run: &str) -> Result<Vec<RemoteFile>, RemoteError> {
        let answer = self.service().list_files(brief(pb::ListFilesRequest { run: run.into() })).await;
        Ok(self.read(answer)?.files.into_iter().map(RemoteFile::from).collect())
    }

    /// The content of one file, in order.
    pub async fn file(&self, run: &str, path: &str) -> Result<FileContent, RemoteError> {
        let request = pb::ReadFileRequest { run: run.into(), path: path.into() };
        let answer = self.service().read_file(request).await;
        Ok(FileContent::new(self.read(answer)?, self.clone()))
    }

    /// Clones share the connection.
    fn service(&self) -> RunServiceClient<Connection> {
        self.service.clone()
    }

    /// What became of a stream.
    fn explain(&self, status: &Status) -> RemoteError {
        self.remote.explain(status)
    }

    fn read<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, RemoteError> {
        answer.map(Response::into_inner).map_err(|status| self.remote.explain(&status))
    }

    fn summary(&self, run: Option<pb::RunSummary>) -> Result<RunSummary, RemoteError> {
        run.map(RunSummary::from).ok_or_else(|| self.silent())
    }

    /// An answer without what it is for.
    fn silent(&self) -> RemoteError {
        self.remote.explain(&Status::internal("the coordinator's answer is empty"))
    }
}

/// A request whose answer is due soon.
fn brief<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_TIMEOUT);
    request
}
