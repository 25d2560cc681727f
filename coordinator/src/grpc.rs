//! The gRPC services: requests become commands to a run's driver or to the cluster, answers become responses. No decisions
//! here.
//!
//! Workers have one way in, whether there is one run behind it or a cluster of them (`placement`); people have theirs
//! (`runs`) where there is a cluster.

mod bulk;
mod introspection;
mod open_files;
mod placement;
mod runs;
mod session;
pub mod transport;

#[cfg(test)]
mod tests;

use lockstep_proto::v1 as pb;
use lockstep_proto::v1::run_service_server::RunServiceServer;
use lockstep_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tonic::{Request, Response, Status, Streaming};

use self::runs::Runs;
use self::transport::{Entrance, MESSAGE_BYTES_MAX};
use crate::credentials::caller;
use crate::data::BlobCache;

pub use self::introspection::Reflection;
pub use self::placement::Placement;

/// Serves who comes in by `entrance` until `shutdown`. The caller owns the listener behind it, so tests and local runs use
/// any free port.
pub async fn serve(
    entrance: Entrance,
    placement: Placement,
    blobs: BlobCache,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    serve_with(entrance, placement, blobs, Reflection::Off, shutdown).await
}

/// As [`serve`], and tells who asks what there is to call.
pub async fn serve_with(
    entrance: Entrance,
    placement: Placement,
    blobs: BlobCache,
    reflection: Reflection,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let runs = match &placement {
        Placement::Run(_) => None,
        Placement::Cluster(cluster) => Some(RunServiceServer::new(Runs::new(cluster.clone()))),
    };
    let health = introspection::health(runs.is_some(), shutdown.clone()).await;
    let workers =
        WorkerServiceServer::new(Shell { placement, blobs }).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let mut routes = RoutesBuilder::default();
    routes.add_service(workers).add_service(health);
    if let Some(runs) = runs {
        routes.add_service(runs.max_decoding_message_size(MESSAGE_BYTES_MAX));
    }
    if let Some(reflection) = introspection::reflection(reflection) {
        routes.add_service(reflection);
    }
    transport::serve(entrance, routes.routes(), shutdown).await
}

#[derive(Debug)]
struct Shell {
    placement: Placement,
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
        session::open(&self.placement, &caller, request.into_inner()).await.map(Response::new)
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
        let services = self.placement.services(&request.run).await?;
        bulk::fetch_checkpoint(&services, request).await.map(Response::new)
    }

    async fn upload_checkpoint(
        &self,
        request: Request<Streaming<pb::UploadCheckpointRequest>>,
    ) -> Result<Response<pb::UploadCheckpointResponse>, Status> {
        let caller = caller(&request)?;
        bulk::upload_checkpoint(&self.placement, &caller, request.into_inner()).await?;
        Ok(Response::new(pb::UploadCheckpointResponse {}))
    }
}
