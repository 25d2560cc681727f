//! The gRPC services: requests become commands to the driver, answers become responses. No decisions here.

mod bulk;
mod open_files;
mod session;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use lockstep_core::Generation;
use lockstep_proto::v1 as pb;
use lockstep_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use sha2::{Digest, Sha256};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::data::BlobCache;
use crate::driver::DriverHandle;
use crate::store::CheckpointStore;

/// Largest message taken in. Control messages are small and bulk comes in chunks of at most 1 MiB; an evaluation
/// report of a million blocks would still fit.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A connection whose other end is gone without a word (a machine that lost its power, a cable) ends after this much
/// silence and so much more. A worker's own silence is the lease's matter, which is shorter.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What may be on its way before it is read. With HTTP/2's 64 KiB a checkpoint of 94 MB stands still 1,400 times for
/// somebody to get a core: as long as the training of a frozen network takes for an epoch.
const WINDOW_BYTES: u32 = 8 << 20;

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

/// Serves on `listener` until `shutdown`. The caller owns both, so tests and local runs use any free port.
pub async fn serve(
    listener: tokio::net::TcpListener,
    services: Arc<Services>,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    open_files::allow_many();
    let service = WorkerServiceServer::new(Shell { services }).max_decoding_message_size(MESSAGE_BYTES_MAX);
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(service)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown.cancelled_owned())
        .await
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
