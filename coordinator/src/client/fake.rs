//! A coordinator that says what a test has it say, on any free port, over the real wire.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt as _, stream};
use lockstep_proto::v1 as pb;
use lockstep_proto::v1::run_service_server::{RunService, RunServiceServer};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Request, Response, Status};

use super::{
    FailureKind, LogChunk, LogRequest, PoolWorker, Requirements, RunClient, RunState, RunSummary, Submission,
    Submitted, WorkerState,
};
use crate::credentials::client::{Remote, RemoteArgs};

/// A chunk of a file; small, so that files have several.
const CHUNK_BYTES: usize = 7;

/// A run's folder, by path.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What becomes of the files.
pub(crate) type Change = Box<dyn FnOnce(&mut Files) + Send>;

/// What it knows, and what it was asked.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) runs: Vec<RunSummary>,
    pub(crate) left_out: u32,
    pub(crate) workers: Vec<PoolWorker>,
    pub(crate) files: Files,
    pub(crate) logs: Vec<LogChunk>,
    /// Of each connection that watches, in turn: what it sees, and how it ends.
    pub(crate) watches: VecDeque<(Vec<RunSummary>, WatchEnd)>,
    pub(crate) submitted: Submitted,
    /// Everything is answered so.
    pub(crate) refusal: Option<(Code, &'static str)>,
    /// After a list of files has been made: what changes before any of them is read.
    pub(crate) after_list: VecDeque<Change>,
    /// The next reading of this file breaks after its first chunk.
    pub(crate) breaks: Option<String>,

    pub(crate) submissions: Vec<Submission>,
    pub(crate) resumes: Vec<(String, u32, i32, Option<Requirements>)>,
    pub(crate) log_requests: Vec<LogRequest>,
    pub(crate) listed_states: Vec<Vec<i32>>,
    /// Files that were read, in turn.
    pub(crate) reads: Vec<String>,
}

/// How a connection that watches ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WatchEnd {
    Closes,
    Breaks,
    Lasts,
}

pub(crate) struct Coordinator {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) url: String,
    _serves: DropGuard,
}

impl Coordinator {
    pub(crate) async fn start(state: State) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(state));
        let shutdown = CancellationToken::new();
        let service = RunServiceServer::new(Service { state: Arc::clone(&state) });
        let server = tonic::transport::Server::builder().add_service(service);
        let ended = shutdown.clone().cancelled_owned();
        tokio::spawn(server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), ended));
        Self { state, url, _serves: shutdown.drop_guard() }
    }

    pub(crate) async fn client(&self) -> RunClient {
        RunClient::connect(&self.remote()).await.unwrap()
    }

    pub(crate) fn remote(&self) -> Remote {
        remote(&self.url)
    }
}

/// The coordinator at `url`, on loopback.
pub(crate) fn remote(url: &str) -> Remote {
    RemoteArgs { coordinator: Some(url.to_owned()), ..RemoteArgs::default() }.alone().unwrap()
}

struct Service {
    state: Arc<Mutex<State>>,
}

impl Service {
    fn state(&self) -> Result<std::sync::MutexGuard<'_, State>, Status> {
        let state = self.state.lock().unwrap();
        match state.refusal {
            Some((code, message)) => Err(Status::new(code, message)),
            None => Ok(state),
        }
    }
}

impl State {
    fn run(&mut self, name: &str) -> Result<&mut RunSummary, Status> {
        let run = self.runs.iter_mut().find(|run| run.name == name);
        run.ok_or_else(|| Status::not_found(format!("there is no run named {name}")))
    }
}

type Stream1<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl RunService for Service {
    type WatchRunStream = Stream1<pb::WatchRunResponse>;
    type ReadLogsStream = Stream1<pb::ReadLogsResponse>;
    type ReadFileStream = Stream1<pb::Chunk>;

    async fn submit(
        &self,
        request: Request<pb::SubmitRequest>,
    ) -> Result<Response<pb::SubmitResponse>, Status> {
        let mut state = self.state()?;
        let pb::SubmitRequest { recipe, name, priority, requirements } = request.into_inner();
        if state.run(&name).is_ok() {
            return Err(Status::already_exists(format!("a run named {name} exists already")));
        }
        let requirements = requirements.unwrap().into();
        let name = Some(name).filter(|name| !name.is_empty());
        state.submissions.push(Submission { recipe, name, priority, requirements });
        let Submitted { run, warnings, waits_for } = state.submitted.clone();
        Ok(Response::new(pb::SubmitResponse { run, warnings, waits_for }))
    }

    async fn list_runs(
        &self,
        request: Request<pb::ListRunsRequest>,
    ) -> Result<Response<pb::ListRunsResponse>, Status> {
        let mut state = self.state()?;
        let states = request.into_inner().states;
        state.listed_states.push(states.clone());
        let wanted = |run: &&RunSummary| states.is_empty() || states.contains(&wire(run).state);
        let runs = state.runs.iter().filter(wanted).map(wire).collect();
        Ok(Response::new(pb::ListRunsResponse { runs, left_out: state.left_out }))
    }

    async fn get_run(
        &self,
        request: Request<pb::GetRunRequest>,
    ) -> Result<Response<pb::GetRunResponse>, Status> {
        let mut state = self.state()?;
        let run = Some(wire(state.run(&request.into_inner().run)?));
        Ok(Response::new(pb::GetRunResponse { run }))
    }

    async fn watch_run(
        &self,
        request: Request<pb::WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let mut state = self.state()?;
        state.run(&request.into_inner().run)?;
        let (runs, end) =
            state.watches.pop_front().ok_or_else(|| Status::unavailable("the coordinator starts"))?;
        let runs = runs.into_iter().map(|run| Ok(pb::WatchRunResponse { run: Some(wire(&run)) }));
        let runs = stream::iter(runs.collect::<Vec<_>>());
        Ok(Response::new(match end {
            WatchEnd::Closes => Box::pin(runs),
            WatchEnd::Breaks => Box::pin(runs.chain(stream::iter([Err(Status::unavailable("stopping"))]))),
            WatchEnd::Lasts => Box::pin(runs.chain(stream::pending())),
        }))
    }

    async fn read_logs(
        &self,
        request: Request<pb::ReadLogsRequest>,
    ) -> Result<Response<Self::ReadLogsStream>, Status> {
        let mut state = self.state()?;
        let pb::ReadLogsRequest { run, worker, follow, tail, after } = request.into_inner();
        state.run(&run)?;
        let worker = Some(worker).filter(|worker| !worker.is_empty());
        let wanted = |chunk: &&LogChunk| worker.as_ref().is_none_or(|worker| *worker == chunk.source);
        let mut chunks: Vec<LogChunk> = state.logs.iter().filter(wanted).cloned().collect();
        if chunks.is_empty() {
            return Err(Status::not_found("there is no such log"));
        }
        chunks.retain(|chunk| after.get(&chunk.source).is_none_or(|read| *read < chunk.read_bytes));
        state.log_requests.push(LogRequest { run, worker, follow, tail: Some(tail), after });
        let message =
            |LogChunk { source, lines, read_bytes }| Ok(pb::ReadLogsResponse { source, lines, read_bytes });
        Ok(Response::new(Box::pin(stream::iter(chunks.into_iter().map(message)))))
    }

    async fn stop_run(
        &self,
        request: Request<pb::StopRunRequest>,
    ) -> Result<Response<pb::StopRunResponse>, Status> {
        let mut state = self.state()?;
        let run = state.run(&request.into_inner().run)?;
        run.state = match run.state {
            RunState::Queued => RunState::Stopped,
            RunState::Preparing | RunState::Running => RunState::Stopping,
            other => other,
        };
        Ok(Response::new(pb::StopRunResponse { run: Some(wire(run)) }))
    }

    async fn resume_run(
        &self,
        request: Request<pb::ResumeRunRequest>,
    ) -> Result<Response<pb::ResumeRunResponse>, Status> {
        let mut state = self.state()?;
        let pb::ResumeRunRequest { run, epochs, priority, requirements } = request.into_inner();
        let summary = state.run(&run)?;
        if !summary.state.is_over() {
            return Err(Status::failed_precondition(format!("run {run} is not over")));
        }
        summary.state = RunState::Queued;
        let response = pb::ResumeRunResponse { run: Some(wire(summary)) };
        state.resumes.push((run, epochs, priority, requirements.map(Into::into)));
        Ok(Response::new(response))
    }

    async fn list_workers(
        &self,
        _request: Request<pb::ListWorkersRequest>,
    ) -> Result<Response<pb::ListWorkersResponse>, Status> {
        let workers = self.state()?.workers.iter().map(wire_worker).collect();
        Ok(Response::new(pb::ListWorkersResponse { workers }))
    }

    async fn drain_worker(
        &self,
        request: Request<pb::DrainWorkerRequest>,
    ) -> Result<Response<pb::DrainWorkerResponse>, Status> {
        let state = self.state()?;
        let name = request.into_inner().worker;
        let worker = state.workers.iter().find(|worker| worker.name == name);
        let worker = worker.ok_or_else(|| Status::not_found(format!("there is no worker named {name}")))?;
        Ok(Response::new(pb::DrainWorkerResponse { worker: Some(wire_worker(worker)) }))
    }

    async fn list_files(
        &self,
        request: Request<pb::ListFilesRequest>,
    ) -> Result<Response<pb::ListFilesResponse>, Status> {
        let mut state = self.state()?;
        state.run(&request.into_inner().run)?;
        let file = |(path, bytes): (&String, &Vec<u8>)| pb::RunFile {
            path: path.clone(),
            size_bytes: bytes.len() as u64,
        };
        let files = state.files.iter().map(file).collect();
        if let Some(change) = state.after_list.pop_front() {
            change(&mut state.files);
        }
        Ok(Response::new(pb::ListFilesResponse { files }))
    }

    async fn read_file(
        &self,
        request: Request<pb::ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let mut state = self.state()?;
        let pb::ReadFileRequest { run, path } = request.into_inner();
        state.run(&run)?;
        state.reads.push(path.clone());
        let bytes = state.files.get(&path).ok_or_else(|| Status::not_found(format!("no file {path}")))?;
        let mut chunks: Vec<Result<pb::Chunk, Status>> =
            bytes.chunks(CHUNK_BYTES).map(|data| Ok(pb::Chunk { data: data.to_vec().into() })).collect();
        if state.breaks.take_if(|broken| *broken == path).is_some() {
            chunks.truncate(1);
            chunks.push(Err(Status::unavailable("the cable was pulled")));
        }
        Ok(Response::new(Box::pin(stream::iter(chunks))))
    }
}

/// A run with nothing remarkable about it.
pub(crate) fn run(name: &str, state: RunState) -> RunSummary {
    RunSummary {
        name: name.into(),
        state,
        reason: String::new(),
        waits_for: String::new(),
        phase: String::new(),
        queue_position: None,
        priority: 0,
        requirements: Requirements { min_workers: 1, max_workers: 2, device_kind: None, memory_bytes: None },
        submitter: String::new(),
        workers: Vec::new(),
        epoch: 0,
        step: 0,
        epochs: 10,
        steps_total: 100,
        best_accuracy: None,
        left_ms: None,
        submitted_at_ms: crate::driver::now().0,
        started_at_ms: None,
        ended_at_ms: None,
        failure_kind: (state == RunState::Failed).then_some(FailureKind::Run),
    }
}

pub(crate) fn worker(name: &str, state: WorkerState) -> PoolWorker {
    PoolWorker {
        name: name.into(),
        state,
        run: None,
        device: "cpu".into(),
        memory_bytes: 16 << 30,
        host: "gpu-box".into(),
        joined_at_ms: crate::driver::now().0,
        libtorch_version: "2.11.0".into(),
    }
}

fn wire(run: &RunSummary) -> pb::RunSummary {
    let run = run.clone();
    let failure_kind = run.failure_kind.map_or(pb::FailureKind::Unspecified, |kind| match kind {
        FailureKind::Run => pb::FailureKind::Unspecified,
        FailureKind::Data => pb::FailureKind::Data,
        FailureKind::Cluster => pb::FailureKind::Cluster,
        FailureKind::Worker => pb::FailureKind::Worker,
    });
    pb::RunSummary {
        name: run.name,
        state: pb::RunState::from(run.state).into(),
        reason: run.reason,
        waits_for: run.waits_for,
        priority: run.priority,
        requirements: Some(run.requirements.into()),
        submitter: run.submitter,
        workers: run.workers,
        position: Some(pb::Position { epoch: run.epoch, step: run.step }),
        epochs: run.epochs,
        steps_total: run.steps_total,
        best_accuracy: run.best_accuracy,
        left_ms: run.left_ms,
        submitted_at_ms: run.submitted_at_ms,
        started_at_ms: run.started_at_ms.unwrap_or_default(),
        ended_at_ms: run.ended_at_ms.unwrap_or_default(),
        phase: run.phase,
        queue_position: run.queue_position.unwrap_or_default(),
        failure_kind: failure_kind.into(),
    }
}

fn wire_worker(worker: &PoolWorker) -> pb::PoolWorker {
    let worker = worker.clone();
    let state = match worker.state {
        WorkerState::Unknown => pb::WorkerState::Unspecified,
        WorkerState::Free => pb::WorkerState::Free,
        WorkerState::Busy => pb::WorkerState::Busy,
        WorkerState::Returning => pb::WorkerState::Returning,
        WorkerState::Draining => pb::WorkerState::Draining,
        WorkerState::Away => pb::WorkerState::Away,
    };
    pb::PoolWorker {
        name: worker.name,
        state: state.into(),
        run: worker.run.unwrap_or_default(),
        device: worker.device,
        memory_bytes: worker.memory_bytes,
        host: worker.host,
        joined_at_ms: worker.joined_at_ms,
        libtorch_version: worker.libtorch_version,
    }
}
