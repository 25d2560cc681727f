//! Files beside the session: data sets, weights and checkpoints, in chunks.

use futures_util::StreamExt;
use lockstep_proto::v1;
use tonic::Streaming;
use tonic::codegen::Bytes;

use super::{Access, ClientError, Service, service};

/// A connection that is made when it is first used, and again after it broke. Clones share it.
#[derive(Debug, Clone)]
pub struct Bulk {
    pub(super) service: Service,
}

impl Bulk {
    /// To the coordinator.
    ///
    /// # Errors
    /// [`ClientError::Credentials`].
    pub fn new(access: &Access) -> Result<Self, ClientError> {
        let channel = access.endpoint()?.connect_lazy();
        Ok(Self { service: service(channel, access) })
    }

    /// A content-addressed file, in order.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn fetch_blob(&self, digest: &str) -> Result<Download, ClientError> {
        let request = v1::FetchBlobRequest { digest: digest.to_owned() };
        Ok(Download { stream: self.service.clone().fetch_blob(request).await?.into_inner() })
    }

    /// One whole file of a stored checkpoint.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn fetch_checkpoint(&self, run: &str, step: u64, file: &str) -> Result<Vec<u8>, ClientError> {
        let request = v1::FetchCheckpointRequest { run: run.to_owned(), step, file: file.to_owned() };
        let mut download =
            Download { stream: self.service.clone().fetch_checkpoint(request).await?.into_inner() };
        let mut bytes = Vec::new();
        while let Some(chunk) = download.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// A file on its way here.
#[derive(Debug)]
pub struct Download {
    stream: Streaming<v1::Chunk>,
}

impl Download {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let chunk = self.stream.next().await.transpose()?;
        Ok(chunk.map(|chunk| chunk.data))
    }
}
