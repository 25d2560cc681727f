//! A run as it is, and again whenever it has changed. All watchers of a run look at one summary: what a watcher costs is its
//! own copy, a few times a second at the most.

use std::time::Duration;

use lockstep_core::RunName;
use lockstep_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::refused;
use crate::cluster::{ClusterHandle, RunSummary};
use crate::convert;

/// Between two answers. What happens meanwhile is in the next one.
const ANSWER_EVERY: Duration = Duration::from_millis(250);

/// Answers ahead of the network; whoever is slow gets fewer of them.
const AHEAD: usize = 1;

type Answers = ReceiverStream<Result<pb::WatchRunResponse, Status>>;

pub(super) async fn watch(cluster: &ClusterHandle, run: RunName) -> Result<Answers, Status> {
    let (answers, stream) = mpsc::channel(AHEAD);
    let watched = cluster.watch(&run).await.map_err(refused)?;
    let Some(mut summaries) = watched else {
        let summary = cluster.summary(&run).await.map_err(refused)?;
        // There is room for one, and it is the last.
        drop(answers.try_send(Ok(response(summary))));
        return Ok(ReceiverStream::new(stream));
    };
    tokio::spawn(async move {
        let mut pause = tokio::time::interval(ANSWER_EVERY);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pause.tick().await;
            let summary = summaries.borrow_and_update().clone();
            let is_over = summary.state.is_over();
            if answers.send(Ok(response(summary))).await.is_err() || is_over {
                return;
            }
            tokio::select! {
                changed = summaries.changed() => if changed.is_err() { return },
                () = answers.closed() => return,
            }
        }
    });
    Ok(ReceiverStream::new(stream))
}

fn response(summary: RunSummary) -> pb::WatchRunResponse {
    pb::WatchRunResponse { run: Some(convert::run_summary(summary)) }
}
