//! What people and programs ask of the cluster: requests become its questions, its refusals become statuses.
//!
//! What is read is not the cluster's business: lists of runs that are over come from the register, logs and files from the
//! runs' folders, and a run that is watched from the one summary that all its watchers share.

mod files;
mod logs;
mod watch;

use lockstep_core::RunName;
use lockstep_proto::v1 as pb;
use lockstep_proto::v1::run_service_server::RunService;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::cluster::{ClusterHandle, Refusal, Resume, RunState, RunSummary, Stage, Submission};
use crate::convert;
use crate::credentials::caller;

/// A recipe is a page of text.
const RECIPE_BYTES_MAX: usize = 256 << 10;

/// Runs in one answer, when nobody asks for less.
const LISTED: usize = 1_000;

/// Runs in one answer at the most.
const LISTED_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct Runs {
    cluster: ClusterHandle,
}

type Answer<T> = Result<Response<T>, Status>;

impl Runs {
    pub(super) fn new(cluster: ClusterHandle) -> Self {
        Self { cluster }
    }
}

#[tonic::async_trait]
impl RunService for Runs {
    type WatchRunStream = ReceiverStream<Result<pb::WatchRunResponse, Status>>;
    type ReadLogsStream = ReceiverStream<Result<pb::ReadLogsResponse, Status>>;
    type ReadFileStream = ReceiverStream<Result<pb::Chunk, Status>>;

    async fn submit(&self, request: Request<pb::SubmitRequest>) -> Answer<pb::SubmitResponse> {
        let submitter = caller(&request)?.name();
        let pb::SubmitRequest { recipe, name, priority, requirements } = request.into_inner();
        if recipe.len() > RECIPE_BYTES_MAX {
            return Err(Status::invalid_argument("a recipe has at most 256 KiB"));
        }
        let requirements = convert::requirements(requirements).map_err(refused)?;
        let name = (!name.is_empty()).then_some(name);
        let submission = Submission { recipe, name, priority, requirements, submitter };
        let submitted = self.cluster.submit(submission).await.map_err(refused)?;
        let waits_for = submitted.summary.waits_for();
        Ok(Response::new(pb::SubmitResponse {
            run: submitted.summary.run.0,
            warnings: submitted.warnings,
            waits_for,
        }))
    }

    async fn list_runs(&self, request: Request<pb::ListRunsRequest>) -> Answer<pb::ListRunsResponse> {
        let request = request.into_inner();
        let states: Vec<RunState> = request.states().filter_map(convert::run_state).collect();
        let limit = if request.limit == 0 { LISTED } else { (request.limit as usize).min(LISTED_MAX) };
        let wanted = |state: RunState| states.is_empty() || states.contains(&state);
        let active = self.cluster.active().await.map_err(refused)?;
        let mut runs: Vec<RunSummary> = active.into_iter().filter(|summary| wanted(summary.state)).collect();
        let over = [RunState::Done, RunState::Stopped, RunState::Failed].into_iter();
        let stages: Vec<Stage> = over.filter(|state| wanted(*state)).map(RunState::stage).collect();
        let mut left_out = runs.len().saturating_sub(limit);
        runs.truncate(limit);
        if !stages.is_empty() {
            let page = self.cluster.over(stages, limit - runs.len()).await.map_err(refused)?;
            left_out += page.total - page.records.len();
            runs.extend(page.records.iter().map(RunSummary::of));
        }
        let runs = runs.into_iter().map(convert::run_summary).collect();
        let left_out = u32::try_from(left_out).unwrap_or(u32::MAX);
        Ok(Response::new(pb::ListRunsResponse { runs, left_out }))
    }

    async fn get_run(&self, request: Request<pb::GetRunRequest>) -> Answer<pb::GetRunResponse> {
        let run = RunName(request.into_inner().run);
        let summary = self.cluster.summary(&run).await.map_err(refused)?;
        Ok(Response::new(pb::GetRunResponse { run: Some(convert::run_summary(summary)) }))
    }

    async fn watch_run(&self, request: Request<pb::WatchRunRequest>) -> Answer<Self::WatchRunStream> {
        watch::watch(&self.cluster, RunName(request.into_inner().run)).await.map(Response::new)
    }

    async fn read_logs(&self, request: Request<pb::ReadLogsRequest>) -> Answer<Self::ReadLogsStream> {
        logs::read(&self.cluster, request.into_inner()).await.map(Response::new)
    }

    async fn stop_run(&self, request: Request<pb::StopRunRequest>) -> Answer<pb::StopRunResponse> {
        let run = RunName(request.into_inner().run);
        let summary = self.cluster.stop(&run).await.map_err(refused)?;
        Ok(Response::new(pb::StopRunResponse { run: Some(convert::run_summary(summary)) }))
    }

    async fn resume_run(&self, request: Request<pb::ResumeRunRequest>) -> Answer<pb::ResumeRunResponse> {
        let pb::ResumeRunRequest { run, epochs, priority, requirements } = request.into_inner();
        let requirements = match requirements {
            Some(asked) => Some(convert::requirements(Some(asked)).map_err(refused)?),
            None => None,
        };
        let epochs = (epochs != 0).then_some(epochs);
        let resume = Resume { run: RunName(run), epochs, priority, requirements };
        let summary = self.cluster.resume(resume).await.map_err(refused)?;
        Ok(Response::new(pb::ResumeRunResponse { run: Some(convert::run_summary(summary)) }))
    }

    async fn list_workers(
        &self,
        _request: Request<pb::ListWorkersRequest>,
    ) -> Answer<pb::ListWorkersResponse> {
        let workers = self.cluster.workers().await.map_err(refused)?;
        let workers = workers.into_iter().map(convert::pool_worker).collect();
        Ok(Response::new(pb::ListWorkersResponse { workers }))
    }

    async fn drain_worker(
        &self,
        request: Request<pb::DrainWorkerRequest>,
    ) -> Answer<pb::DrainWorkerResponse> {
        let worker = request.into_inner().worker.as_str().into();
        let worker = self.cluster.drain(worker).await.map_err(refused)?;
        Ok(Response::new(pb::DrainWorkerResponse { worker: Some(convert::pool_worker(worker)) }))
    }

    async fn list_files(&self, request: Request<pb::ListFilesRequest>) -> Answer<pb::ListFilesResponse> {
        let run = RunName(request.into_inner().run);
        let folder = self.cluster.folder(&run).await.map_err(refused)?;
        let files = files::list(folder).await?;
        Ok(Response::new(pb::ListFilesResponse { files }))
    }

    async fn read_file(&self, request: Request<pb::ReadFileRequest>) -> Answer<Self::ReadFileStream> {
        let pb::ReadFileRequest { run, path } = request.into_inner();
        let folder = self.cluster.folder(&RunName(run)).await.map_err(refused)?;
        files::read(folder, path).await.map(Response::new)
    }
}

fn refused(refusal: Refusal) -> Status {
    convert::refusal(&refusal)
}
