//! Services that say no more than that they were reached, and calls of every one of their methods.

use lockstep_proto::v1 as pb;
use lockstep_proto::v1::run_service_client::RunServiceClient;
use lockstep_proto::v1::run_service_server::{RunService, RunServiceServer};
use lockstep_proto::v1::worker_service_client::WorkerServiceClient;
use lockstep_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::StdError;
use tonic::{Code, Request, Response, Status, Streaming};

use super::super::next_within;
use super::{Duration, Routes};
use crate::credentials::caller;

/// What a method answers that was reached.
pub(super) const REACHED: Code = Code::OutOfRange;

/// How long a session's first message may take here.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);

type Chunks = ReceiverStream<Result<pb::Chunk, Status>>;

#[derive(Debug)]
pub(super) struct Stub;

pub(super) fn routes() -> Routes {
    Routes::new(WorkerServiceServer::new(Stub)).add_service(RunServiceServer::new(Stub))
}

fn reached() -> Status {
    Status::new(REACHED, "reached")
}

#[tonic::async_trait]
impl WorkerService for Stub {
    type SessionStream = ReceiverStream<Result<pb::SessionResponse, Status>>;
    type FetchBlobStream = Chunks;
    type FetchCheckpointStream = Chunks;

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = caller(&request)?;
        let first = next_within(&mut request.into_inner(), PATIENCE).await?;
        let Some(pb::session_request::Message::Join(join)) = first.and_then(|first| first.message) else {
            return Err(Status::invalid_argument("a session begins with Join"));
        };
        caller.is_worker(&join.name)?;
        Err(reached())
    }

    async fn fetch_blob(&self, _: Request<pb::FetchBlobRequest>) -> Result<Response<Chunks>, Status> {
        Err(reached())
    }

    async fn fetch_checkpoint(
        &self,
        _: Request<pb::FetchCheckpointRequest>,
    ) -> Result<Response<Chunks>, Status> {
        Err(reached())
    }

    async fn upload_checkpoint(
        &self,
        _: Request<Streaming<pb::UploadCheckpointRequest>>,
    ) -> Result<Response<pb::UploadCheckpointResponse>, Status> {
        Err(reached())
    }
}

/// The methods of RunService, all alike.
macro_rules! run_service {
    ($($method:ident $name:literal ($request:ident) -> $response:ty;)*) => {
        #[tonic::async_trait]
        impl RunService for Stub {
            type WatchRunStream = ReceiverStream<Result<pb::WatchRunResponse, Status>>;
            type ReadLogsStream = ReceiverStream<Result<pb::ReadLogsResponse, Status>>;
            type ReadFileStream = Chunks;

            $(async fn $method(&self, request: Request<pb::$request>) -> Result<Response<$response>, Status> {
                caller(&request)?;
                Err(reached())
            })*
        }

        /// All methods.
        pub(super) const RPCS: &[&str] = &[
            "/lockstep.v1.WorkerService/Session",
            "/lockstep.v1.WorkerService/FetchBlob",
            "/lockstep.v1.WorkerService/FetchCheckpoint",
            "/lockstep.v1.WorkerService/UploadCheckpoint",
            $(concat!("/lockstep.v1.RunService/", $name),)*
        ];

        /// Calls a method; what it answers.
        pub(super) async fn call<C>(channel: C, rpc: &str) -> Status
        where
            C: GrpcService<Body>,
            C::Error: Into<StdError>,
            C::ResponseBody: tonic::codegen::Body<Data = tonic::codegen::Bytes> + Send + 'static,
            <C::ResponseBody as tonic::codegen::Body>::Error: Into<StdError> + Send,
        {
            let Some(method) = rpc.strip_prefix("/lockstep.v1.RunService/") else {
                return call_worker_service(channel, rpc).await;
            };
            let mut client = RunServiceClient::new(channel);
            match method {
                $($name => client.$method(pb::$request::default()).await.map(drop).unwrap_err(),)*
                _ => panic!("{rpc} is no method"),
            }
        }
    };
}

run_service! {
    submit "Submit" (SubmitRequest) -> pb::SubmitResponse;
    list_runs "ListRuns" (ListRunsRequest) -> pb::ListRunsResponse;
    get_run "GetRun" (GetRunRequest) -> pb::GetRunResponse;
    watch_run "WatchRun" (WatchRunRequest) -> Self::WatchRunStream;
    read_logs "ReadLogs" (ReadLogsRequest) -> Self::ReadLogsStream;
    stop_run "StopRun" (StopRunRequest) -> pb::StopRunResponse;
    resume_run "ResumeRun" (ResumeRunRequest) -> pb::ResumeRunResponse;
    list_workers "ListWorkers" (ListWorkersRequest) -> pb::ListWorkersResponse;
    drain_worker "DrainWorker" (DrainWorkerRequest) -> pb::DrainWorkerResponse;
    list_files "ListFiles" (ListFilesRequest) -> pb::ListFilesResponse;
    read_file "ReadFile" (ReadFileRequest) -> Self::ReadFileStream;
}

async fn call_worker_service<C>(channel: C, rpc: &str) -> Status
where
    C: GrpcService<Body>,
    C::Error: Into<StdError>,
    C::ResponseBody: tonic::codegen::Body<Data = tonic::codegen::Bytes> + Send + 'static,
    <C::ResponseBody as tonic::codegen::Body>::Error: Into<StdError> + Send,
{
    match rpc.strip_prefix("/lockstep.v1.WorkerService/") {
        Some("Session") => join(channel, "gpu-1").await,
        Some("FetchBlob") => {
            let request = pb::FetchBlobRequest::default();
            WorkerServiceClient::new(channel).fetch_blob(request).await.map(drop).unwrap_err()
        }
        Some("FetchCheckpoint") => {
            let request = pb::FetchCheckpointRequest::default();
            WorkerServiceClient::new(channel).fetch_checkpoint(request).await.map(drop).unwrap_err()
        }
        Some("UploadCheckpoint") => {
            let requests = tokio_stream::iter([pb::UploadCheckpointRequest::default()]);
            WorkerServiceClient::new(channel).upload_checkpoint(requests).await.map(drop).unwrap_err()
        }
        _ => panic!("{rpc} is no method"),
    }
}

/// Opens a session as a worker of this name.
pub(super) async fn join<C>(channel: C, name: &str) -> Status
where
    C: GrpcService<Body>,
    C::Error: Into<StdError>,
    C::ResponseBody: tonic::codegen::Body<Data = tonic::codegen::Bytes> + Send + 'static,
    <C::ResponseBody as tonic::codegen::Body>::Error: Into<StdError> + Send,
{
    let join = pb::Join { name: name.to_owned(), ..pb::Join::default() };
    let request = pb::SessionRequest { message: Some(pb::session_request::Message::Join(join)) };
    WorkerServiceClient::new(channel).session(tokio_stream::iter([request])).await.map(drop).unwrap_err()
}

/// Opens a session and says nothing.
pub(super) async fn say_nothing(channel: tonic::transport::Channel) -> Status {
    let silence = tokio_stream::pending::<pb::SessionRequest>();
    WorkerServiceClient::new(channel).session(silence).await.map(drop).unwrap_err()
}

/// Submits a recipe of so many bytes.
pub(super) async fn submit(channel: impl Into<super::Channel>, bytes: usize) -> Status {
    let request = pb::SubmitRequest { recipe: "#".repeat(bytes), ..pb::SubmitRequest::default() };
    RunServiceClient::new(channel.into()).submit(request).await.map(drop).unwrap_err()
}
