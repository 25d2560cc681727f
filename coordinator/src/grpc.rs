//! The gRPC services: requests become commands to the driver, answers become responses. No decisions here.

mod bulk;
mod open_files;
mod session;
pub mod transport;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use lockstep_core::Generation;
use lockstep_proto::v1 as pb;
use lockstep_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use sha2::{Digest, Sha256};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::data::BlobCache;
use crate::driver::DriverHandle;
use crate::store::CheckpointStore;

use self::transport::{Entrance, EntranceError, MESSAGE_BYTES_MAX};

/// Everything that the services need of one run.
#[derive(Debug)]
pub struct Services {
    pub driver: DriverHandle,
    pub plan: pb::Plan,
    pub checkpoints: CheckpointStore,
    pub blobs: BlobCache,
    /// From which each generation's token is derived; random, never sent.
    pub secret: [u8; 32],
}

impl Services {
    /// What every data-plane handshake of a generation must carry.
    fn token(&self, generation: Generation) -> Vec<u8> {
        let digest =
            Sha256::new().chain_update(self.secret).chain_update(generation.0.to_le_bytes()).finalize();
        digest[..16].to_vec()
    }
}

/// Serves on `listener`, which is on loopback, until `shutdown`. The caller owns both, so tests and local runs use any free
/// port.
pub async fn serve(
    listener: tokio::net::TcpListener,
    services: Arc<Services>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let entrance = Entrance::new(listener, None)?;
    let service = WorkerServiceServer::new(Shell { services }).max_decoding_message_size(MESSAGE_BYTES_MAX);
    transport::serve(entrance, Routes::new(service), shutdown).await?;
    Ok(())
}

/// Why nothing could be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Entrance(#[from] EntranceError),

    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
}

#[derive(Debug)]
struct Shell {
    services: Arc<Services>,
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
        session::open(Arc::clone(&self.services), request.into_inner()).await.map(Response::new)
    }

    async fn fetch_blob(
        &self,
        request: Request<pb::FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        bulk::fetch_blob(&self.services, &request.into_inner().digest).map(Response::new)
    }

    async fn fetch_checkpoint(
        &self,
        request: Request<pb::FetchCheckpointRequest>,
    ) -> Result<Response<Self::FetchCheckpointStream>, Status> {
        bulk::fetch_checkpoint(&self.services, request.into_inner()).await.map(Response::new)
    }

    async fn upload_checkpoint(
        &self,
        request: Request<Streaming<pb::UploadCheckpointRequest>>,
    ) -> Result<Response<pb::UploadCheckpointResponse>, Status> {
        bulk::upload_checkpoint(&self.services, request.into_inner()).await?;
        Ok(Response::new(pb::UploadCheckpointResponse {}))
    }
}
