//! Files over gRPC: data sets and weights out, checkpoints in and out, a chunk at a time.

use std::io::Read;
use std::path::{Path, PathBuf};

use lockstep_core::{Event, Step};
use lockstep_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::transport::next_due;
use crate::cluster::ClusterHandle;
use crate::convert;
use crate::credentials::Caller;
use crate::data::BlobCache;
use crate::driver::Upload;
use crate::services::Services;
use crate::store::{Manifest, ManifestFile, ManifestMetric, WriteError};

const CHUNK_BYTES: usize = 1 << 20;

/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 4;

/// Files of a checkpoint; a header that announces more is nonsense.
const FILES_MAX: usize = 8;

pub(super) type Chunks = ReceiverStream<Result<pb::Chunk, Status>>;

pub(super) fn fetch_blob(blobs: &BlobCache, digest: &str) -> Result<Chunks, Status> {
    // It takes nothing but a digest, so no path can be asked for.
    let path = blobs.find(digest).ok_or_else(|| Status::not_found("there is no file with this digest"))?;
    Ok(stream(path))
}

pub(super) async fn fetch_checkpoint(
    services: &Services,
    request: pb::FetchCheckpointRequest,
) -> Result<Chunks, Status> {
    let (store, step) = (services.checkpoints.clone(), Step(request.step));
    let verified = tokio::task::spawn_blocking(move || store.verify(step)).await;
    let manifest = verified
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|damage| Status::data_loss(damage.to_string()))?;
    if !manifest.files.iter().any(|file| file.name == request.file) {
        return Err(Status::not_found(format!("the checkpoint of step {step} has no file {}", request.file)));
    }
    Ok(stream(services.checkpoints.path(step).join(request.file)))
}

pub(super) async fn upload_checkpoint(
    cluster: &ClusterHandle,
    caller: &Caller,
    mut requests: Streaming<pb::UploadCheckpointRequest>,
) -> Result<(), Status> {
    use pb::upload_checkpoint_request::Message;
    let Some(pb::UploadCheckpointRequest { message: Some(Message::Header(header)) }) =
        next_due(&mut requests).await?
    else {
        return Err(Status::invalid_argument("an upload begins with its header"));
    };
    caller.is_worker(&header.worker)?;
    let services = &super::services(cluster, &header.run).await?;
    let position = convert::position(header.position);
    let admitted = services.driver.admit_upload(position).await.map_err(|reject| convert::status(&reject))?;
    let Upload::Wanted { metric } = admitted else { return Ok(()) };
    let manifest = manifest(header, metric)?;
    let stored = store(services, manifest, &mut requests).await;
    let event = match &stored {
        Ok(size_bytes) => Event::CheckpointStored { position, size_bytes: *size_bytes },
        // The sender is gone, and comes again or another does: the run has lost nothing by it. A stream that was
        // cancelled is not told apart here, because tonic shows its end to a server as that of a whole one.
        Err(UploadError::Stream(status)) => return Err(status.clone()),
        Err(UploadError::Write(error @ WriteError::Short { .. })) => {
            return Err(Status::data_loss(error.to_string()));
        }
        Err(UploadError::Write(error)) => Event::CheckpointFailed { position, reason: error.to_string() },
    };
    services.driver.event(event).await.map_err(|reject| convert::status(&reject))?;
    match stored {
        Ok(_) => Ok(()),
        Err(UploadError::Write(error @ WriteError::Io { .. })) => {
            Err(Status::resource_exhausted(error.to_string()))
        }
        Err(UploadError::Write(error)) => Err(Status::data_loss(error.to_string())),
        Err(UploadError::Stream(status)) => Err(status),
    }
}

enum UploadError {
    Stream(Status),
    Write(WriteError),
}

fn manifest(header: pb::CheckpointHeader, metric: Option<ManifestMetric>) -> Result<Manifest, Status> {
    if header.files.len() > FILES_MAX {
        return Err(Status::invalid_argument("the header announces too many files"));
    }
    let position = convert::position(header.position);
    let files = header.files.into_iter().map(|file| ManifestFile {
        name: file.name,
        size_bytes: file.size_bytes,
        sha256: hex::encode(file.sha256),
    });
    Ok(Manifest {
        format_version: crate::store::FORMAT_VERSION,
        lockstep_version: env!("CARGO_PKG_VERSION").to_owned(),
        run: header.run,
        position,
        metric,
        files: files.collect(),
    })
}

/// Takes the files in as they come, unless they are stored already: a crash may have come between the last byte and the
/// journal. Returns their size in bytes.
async fn store(
    services: &Services,
    manifest: Manifest,
    requests: &mut Streaming<pb::UploadCheckpointRequest>,
) -> Result<u64, UploadError> {
    use pb::upload_checkpoint_request::Message;
    if tokio::task::block_in_place(|| services.checkpoints.holds(&manifest)) {
        return Ok(manifest.size_bytes());
    }
    let mut writer =
        tokio::task::block_in_place(|| services.checkpoints.begin(manifest)).map_err(UploadError::Write)?;
    while let Some(request) = next_due(requests).await.map_err(UploadError::Stream)? {
        let Some(Message::Chunk(chunk)) = request.message else {
            return Err(UploadError::Stream(Status::invalid_argument("only chunks follow the header")));
        };
        tokio::task::block_in_place(|| writer.write(&chunk.data)).map_err(UploadError::Write)?;
    }
    tokio::task::block_in_place(|| writer.finish()).map_err(UploadError::Write)
}

/// Reads a file on a blocking thread, a few chunks ahead of whoever takes them.
pub(super) fn stream(path: PathBuf) -> Chunks {
    let (chunks, stream) = mpsc::channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read(&path, &chunks) {
            drop(chunks.blocking_send(Err(Status::data_loss(format!("{}: {error}", path.display())))));
        }
    });
    ReceiverStream::new(stream)
}

fn read(path: &Path, chunks: &mpsc::Sender<Result<pb::Chunk, Status>>) -> std::io::Result<()> {
    let mut file = std::fs::File::open(path)?;
    loop {
        let mut data = Vec::with_capacity(CHUNK_BYTES);
        file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut data)?;
        let last = data.is_empty();
        if last || chunks.blocking_send(Ok(pb::Chunk { data: data.into() })).is_err() {
            return Ok(());
        }
    }
}
