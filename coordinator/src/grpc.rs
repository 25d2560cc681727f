//! The gRPC services: requests become commands to a run's driver or to the cluster, answers become responses. No decisions
//! here.
//!
//! Workers have one way in (`session`), people another (`runs`), whether the cluster behind them is of many runs or of one.

mod bulk;
mod introspection;
mod open_files;
mod runs;
mod session;
pub mod transport;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use lockstep_proto::v1 as pb;
use lockstep_proto::v1::run_service_server::RunServiceServer;
use lockstep_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tonic::{Request, Response, Status, Streaming};

use self::runs::Runs;
use self::transport::{Entrance, MESSAGE_BYTES_MAX};
use crate::cluster::ClusterHandle;
use crate::credentials::caller;
use crate::data::BlobCache;
use crate::services::Services;

pub use self::introspection::Reflection;

/// Serves who comes in by `entrance` until `shutdown`. The caller owns the listener behind it, so tests and local runs use
/// any free port.
pub async fn serve(
    entrance: Entrance,
    cluster: ClusterHandle,
    blobs: BlobCache,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    serve_with(entrance, cluster, blobs, Reflection::Off, shutdown).await
}

/// As [`serve`], and tells who asks what there is to call.
pub async fn serve_with(
    entrance: Entrance,
    cluster: ClusterHandle,
    blobs: BlobCache,
    reflection: Reflection,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let health = introspection::health(shutdown.clone()).await;
    let runs = RunServiceServer::new(Runs::new(cluster.clone()));
    let workers = WorkerServiceServer::new(Shell { cluster, blobs });
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(workers.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(runs.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(health);
    if let Some(reflection) = introspection::reflection(reflection) {
        routes.add_service(reflection);
    }
    transport::serve(entrance, routes.routes(), shutdown).await
}

#[derive(Debug)]
struct Shell {
    cluster: ClusterHandle,
    blobs: BlobCache,
}

#[tonic::async_trait]
impl WorkerService for Shell {
    type SessionStream = session::Responses;
    type FetchBlobStream = ReceiverStream<Result<pb::Chunk, Status>>;
    type FetchCheckpointStream = ReceiverStream<Result<pb::Chunk, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = caller(&request)?;
        session::open(&self.cluster, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn fetch_blob(
        &self,
        request: Request<pb::FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        bulk::fetch_blob(&self.blobs, &request.into_inner().digest).map(Response::new)
    }

    async fn fetch_checkpoint(
        &self,
        request: Request<pb::FetchCheckpointRequest>,
    ) -> Result<Response<Self::FetchCheckpointStream>, Status> {
        let request = request.into_inner();
        let services = services(&self.cluster, &request.run).await?;
        bulk::fetch_checkpoint(&services, request).await.map(Response::new)
    }

    async fn upload_checkpoint(
        &self,
        request: Request<Streaming<pb::UploadCheckpointRequest>>,
    ) -> Result<Response<pb::UploadCheckpointResponse>, Status> {
        let caller = caller(&request)?;
        bulk::upload_checkpoint(&self.cluster, &caller, request.into_inner()).await?;
        Ok(Response::new(pb::UploadCheckpointResponse {}))
    }
}

/// What the run of this name is served with.
async fn services(cluster: &ClusterHandle, run: &str) -> Result<Arc<Services>, Status> {
    let services = cluster.services(&run.into()).await;
    services.ok_or_else(|| Status::not_found(format!("there is no run {run} here, or none that goes on")))
}
