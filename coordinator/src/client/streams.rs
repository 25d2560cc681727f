//! What a coordinator tells for as long as somebody listens: a run's course, its logs.

use std::collections::HashMap;

use lockstep_proto::v1 as pb;
use tonic::Streaming;

use super::{RunClient, RunSummary};
use crate::credentials::client::RemoteError;

/// A run's course.
#[derive(Debug)]
pub struct Watch {
    messages: Streaming<pb::WatchRunResponse>,
    client: RunClient,
}

impl Watch {
    pub(super) fn new(messages: Streaming<pb::WatchRunResponse>, client: RunClient) -> Self {
        Self { messages, client }
    }

    /// The run as it is now; none after it has ended, or when the coordinator has closed the stream before.
    pub async fn next(&mut self) -> Result<Option<RunSummary>, RemoteError> {
        match self.messages.message().await {
            Ok(Some(message)) => self.client.summary(message.run).map(Some),
            Ok(None) => Ok(None),
            Err(status) => Err(self.client.explain(&status)),
        }
    }
}

/// Which logs, and from where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRequest {
    pub run: String,
    /// None: all of them.
    pub worker: Option<String>,
    /// Until the run has ended.
    pub follow: bool,
    /// Begin with the last so many lines; none: with the first.
    pub tail: Option<u32>,
    /// By source, in place of `tail`: bytes of it that were read before.
    pub after: HashMap<String, u64>,
}

impl From<LogRequest> for pb::ReadLogsRequest {
    fn from(request: LogRequest) -> Self {
        Self {
            run: request.run,
            worker: request.worker.unwrap_or_default(),
            follow: request.follow,
            tail: request.tail.unwrap_or_default(),
            after: request.after,
        }
    }
}

/// Whole lines of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// A worker's name, or `coordinator`.
    pub source: String,
    pub lines: String,
    /// Of the source, up to the end of these lines.
    pub read_bytes: u64,
}

/// A run's logs.
#[derive(Debug)]
pub struct LogLines {
    messages: Streaming<pb::ReadLogsResponse>,
    client: RunClient,
}

impl LogLines {
    pub(super) fn new(messages: Streaming<pb::ReadLogsResponse>, client: RunClient) -> Self {
        Self { messages, client }
    }

    /// The next lines; none at the end.
    pub async fn next(&mut self) -> Result<Option<LogChunk>, RemoteError> {
        let message = self.messages.message().await;
        let message = message.map_err(|status| self.client.explain(&status))?;
        Ok(message.map(|pb::ReadLogsResponse { source, lines, read_bytes }| LogChunk {
            source,
            lines,
            read_bytes,
        }))
    }
}
