//! A checkpoint on its way to the coordinator: hashed off the async threads, sent without a copy.

use std::sync::Arc;

use futures_util::Stream;
use lockstep_proto::v1;
use sha2::{Digest, Sha256};
use tonic::codegen::Bytes;

use super::{Bulk, CHUNK_BYTES, ClientError, MODEL_FILE, OPTIMIZER_FILE, convert};
use crate::plan::Position;
use crate::trainer::{CheckpointFiles, Snapshot};

impl Bulk {
    /// Hands a checkpoint over; returns once it is durable.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn upload(&self, run: &str, worker: &str, snapshot: &Snapshot) -> Result<(), ClientError> {
        let files = files(&snapshot.files);
        let (run, worker, position) = (run.to_owned(), worker.to_owned(), snapshot.position);
        let header = tokio::task::spawn_blocking({
            let files = files.clone();
            move || header(run, worker, position, &files)
        });
        // Only the runtime's end cancels it.
        let header = header.await.map_err(|_| ClientError::Lost)?;
        self.service.clone().upload_checkpoint(messages(header, files)).await?;
        Ok(())
    }
}

type Files = [(&'static str, Bytes); 2];

/// One file of a snapshot, whose bytes others hold too.
struct Shared {
    files: Arc<CheckpointFiles>,
    of: fn(&CheckpointFiles) -> &[u8],
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        (self.of)(&self.files)
    }
}

fn files(files: &Arc<CheckpointFiles>) -> Files {
    let bytes = |of| Bytes::from_owner(Shared { files: Arc::clone(files), of });
    [(MODEL_FILE, bytes(|files| &files.model)), (OPTIMIZER_FILE, bytes(|files| &files.optimizer))]
}

fn header(run: String, worker: String, position: Position, files: &Files) -> v1::CheckpointHeader {
    let described = |(name, bytes): &(&str, Bytes)| v1::CheckpointFile {
        name: (*name).to_owned(),
        size_bytes: bytes.len() as u64,
        sha256: Sha256::digest(bytes).to_vec(),
    };
    let position = Some(convert::wire_position(position));
    v1::CheckpointHeader { run, worker, position, files: files.iter().map(described).collect() }
}

/// The header, then slices of the files.
fn messages(
    header: v1::CheckpointHeader,
    files: Files,
) -> impl Stream<Item = v1::UploadCheckpointRequest> + Send + 'static {
    use v1::upload_checkpoint_request::Message;
    let chunks = files.into_iter().flat_map(|(_, file)| {
        let starts = (0..file.len()).step_by(CHUNK_BYTES);
        starts.map(move |start| file.slice(start..file.len().min(start + CHUNK_BYTES)))
    });
    let chunks = chunks.map(|data| Message::Chunk(v1::Chunk { data }));
    let messages = std::iter::once(Message::Header(header)).chain(chunks);
    tokio_stream::iter(messages.map(|message| v1::UploadCheckpointRequest { message: Some(message) }))
}
