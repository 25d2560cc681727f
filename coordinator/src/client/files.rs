//! Files of a run's folder, as they come over the wire.

use lockstep_proto::v1 as pb;
use tonic::Streaming;

use super::RunClient;
use crate::credentials::client::RemoteError;

/// A file of a run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Below the run's folder, with `/`. As the coordinator says: not to be trusted as a place to write to.
    pub path: String,
    pub size_bytes: u64,
}

impl From<pb::RunFile> for RemoteFile {
    fn from(pb::RunFile { path, size_bytes }: pb::RunFile) -> Self {
        Self { path, size_bytes }
    }
}

/// A file's bytes, in order.
#[derive(Debug)]
pub struct FileContent {
    chunks: Streaming<pb::Chunk>,
    client: RunClient,
}

impl FileContent {
    pub(super) fn new(chunks: Streaming<pb::Chunk>, client: RunClient) -> Self {
        Self { chunks, client }
    }

    /// The next bytes; none once all are here.
    pub async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, RemoteError> {
        let chunk = self.chunks.message().await;
        let chunk = chunk.map_err(|status| self.client.explain(&status))?;
        Ok(chunk.map(|chunk| chunk.data))
    }

    /// All of it, if it has at most so many bytes.
    pub async fn all(mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, RemoteError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await? {
            let chunk = chunk.as_ref();
            if all.len() + chunk.len() > bytes_max {
                return Ok(None);
            }
            all.extend_from_slice(chunk);
        }
        Ok(Some(all))
    }
}
