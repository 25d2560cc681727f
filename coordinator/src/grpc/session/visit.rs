//! What a worker says, as long as its session lasts: nothing while it waits, then to its run.

use std::sync::Arc;

use lockstep_core::{Event, WorkerInfo, WorkerName};
use lockstep_proto::v1 as pb;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::responses::Seat;
use crate::cluster::{ClusterHandle, Newcomer, Pass, Summons};
use crate::convert;
use crate::driver::Joined;
use crate::services::Services;

/// One direction of a session.
pub(super) struct Visit {
    pub(super) worker: WorkerName,
    pub(super) requests: Streaming<pb::SessionRequest>,
    /// The other direction has ended.
    pub(super) closed: CancellationToken,
    /// Who is to hear of its end, and how it is told apart there.
    pub(super) cluster: ClusterHandle,
    pub(super) pass: Arc<Pass>,
}

impl Visit {
    /// With its run, from the beginning to the end.
    async fn in_run(mut self, services: Arc<Services>, session: u64) {
        self.converse(&services, session).await;
        self.leave().await;
    }

    /// With the run that it comes back to.
    pub(super) async fn back_in_run(self, newcomer: Newcomer, services: Arc<Services>, session: u64) {
        self.cluster.seated(newcomer, services.run().into(), self.pass.clone()).await;
        self.in_run(services, session).await;
    }

    /// Waits for a run, and is with it then.
    pub(super) async fn in_pool(
        mut self,
        info: WorkerInfo,
        mut summons: mpsc::Receiver<Summons>,
        seat: oneshot::Sender<Seat>,
    ) {
        while let Some(summons) = self.wait(&mut summons).await {
            match summons {
                Summons::Run(services) => {
                    let joined = services.driver.join(self.worker.clone(), info.clone(), None).await;
                    match joined {
                        Ok(Joined { session, inbox }) => {
                            // It may be gone, which shows at once.
                            drop(seat.send(Seat::Run { services: services.clone(), inbox }));
                            self.converse(&services, session).await;
                            break;
                        }
                        Err(reject) => {
                            tracing::debug!(worker = %self.worker, %reject, "its run does not take it");
                            self.cluster.turned_away(self.worker.clone(), self.pass.clone()).await;
                        }
                    }
                }
                Summons::Leave { reason } => {
                    drop(seat.send(Seat::Leave { reason }));
                    self.closed.cancelled().await;
                    break;
                }
            }
        }
        self.leave().await;
    }

    /// The next summons; none when the session ends.
    async fn wait(&mut self, summons: &mut mpsc::Receiver<Summons>) -> Option<Summons> {
        loop {
            tokio::select! {
                summons = summons.recv() => return summons,
                request = self.requests.message() => match request {
                    Ok(Some(_)) => tracing::debug!(worker = %self.worker, "says something while it waits"),
                    Ok(None) | Err(_) => return None,
                },
                () = self.closed.cancelled() => return None,
            }
        }
    }

    /// What the worker tells the run, until either of them ends the session.
    async fn converse(&mut self, services: &Services, session: u64) {
        let worker = &self.worker;
        loop {
            let request = tokio::select! {
                request = self.requests.message() => request,
                () = self.closed.cancelled() => break,
            };
            match request {
                Ok(Some(pb::SessionRequest { message: Some(message) })) => {
                    hear(services, worker, message).await;
                }
                Ok(Some(_)) => tracing::debug!(%worker, "a message of an unknown kind"),
                Ok(None) => break,
                Err(status) => {
                    tracing::debug!(%worker, %status, "session broken");
                    break;
                }
            }
        }
        services.driver.detached(worker.clone(), session).await;
    }

    async fn leave(self) {
        self.cluster.left(self.worker, self.pass).await;
    }
}

async fn hear(services: &Services, worker: &WorkerName, message: pb::session_request::Message) {
    if let pb::session_request::Message::Logged(logged) = message {
        return log(services, worker, &logged.lines);
    }
    let driver = &services.driver;
    match convert::event(worker, message) {
        // These come all the time, and one that is refused is made good by the next.
        Ok(event @ (Event::Heartbeat { .. } | Event::Progressed { .. })) => driver.tell(event).await,
        Ok(event) => {
            if let Err(reject) = driver.event(event).await {
                tracing::debug!(%worker, %reject, "refused");
            }
        }
        Err(status) => tracing::debug!(%worker, %status, "a message that does not read"),
    }
}

fn log(services: &Services, worker: &WorkerName, lines: &str) {
    let Some(logs) = &services.logs else { return };
    if let Err(error) = tokio::task::block_in_place(|| logs.append(worker, lines)) {
        tracing::debug!(%worker, %error, "what it logs cannot be kept");
    }
}
