//! Waiting for a run: from the first join until one wants this worker, or the coordinator sends it home.
//!
//! Whoever waits has nothing to say, and there may be nothing to hear for days. So no answer is late here; that the
//! coordinator is gone is told by the connection, which is asked for a sign of life every few seconds, and the worker then
//! joins again: for as long as it takes where there may always be another run, else for as long as its patience lasts.

use tracing::{info, warn};

use super::joiner::{Joined, Joiner, Welcomed};
use super::presence::Backoff;
use crate::client::{ClientError, FinishOrder, Incoming, Outgoing};

/// What the waiting comes to.
#[derive(Debug)]
pub(super) enum Placed {
    InRun(Box<Welcomed>),
    /// No run wants it, and none will.
    Dismissed(FinishOrder),
}

/// Joins, and waits for a run.
///
/// # Errors
/// Why there is nothing to wait for.
pub(super) async fn place(joiner: &mut Joiner) -> Result<Placed, ClientError> {
    let mut joined = joiner.first().await?;
    loop {
        joined = match joined {
            Joined::Welcomed(welcomed) => return Ok(Placed::InRun(welcomed)),
            Joined::Dismissed(finish) => return Ok(Placed::Dismissed(finish)),
            Joined::Pooled(outgoing, incoming) => {
                info!("in the coordinator's pool; waiting for a run that needs this worker");
                match wait(joiner, outgoing, *incoming).await {
                    Err(error) if error.is_passing() => {
                        warn!(reason = %error, "lost the coordinator; joining its pool again");
                        let mut backoff = Backoff::new();
                        let deadline = joiner.deadline(joiner.patience);
                        backoff.wait_before(deadline).await;
                        joiner.persist(deadline, &mut backoff).await?
                    }
                    answered => answered?,
                }
            }
        }
    }
}

async fn wait(
    joiner: &mut Joiner,
    outgoing: Outgoing,
    mut incoming: Incoming,
) -> Result<Joined, ClientError> {
    let answer = incoming.answer().await?;
    joiner.take(answer, outgoing, incoming)
}
