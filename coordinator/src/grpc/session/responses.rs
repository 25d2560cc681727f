//! What a worker is told: that it waits, what its run has to say, that it is over.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use lockstep_core::Message;
use lockstep_proto::v1 as pb;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use crate::cluster::Pass;
use crate::convert::{self, Terms};
use crate::services::Services;

/// Until the run lets go of the session, the pool has no use for it, or the connection ends.
#[derive(Debug)]
pub(in crate::grpc) struct Responses {
    stage: Stage,
    /// Hears how the session ends; none when it has only a last word.
    pass: Option<Arc<Pass>>,
    /// Ends the other direction.
    open: Option<DropGuard>,
}

#[derive(Debug)]
enum Stage {
    /// Waits for a run; `told` that it does.
    Pooled {
        told: bool,
        of_many: bool,
        seat: oneshot::Receiver<Seat>,
    },
    Run {
        services: Arc<Services>,
        inbox: mpsc::Receiver<Message>,
    },
    Last {
        reason: String,
        stand_by: bool,
    },
    Over,
}

/// What the waiting comes to.
#[derive(Debug)]
pub(super) enum Seat {
    Run {
        services: Arc<Services>,
        inbox: mpsc::Receiver<Message>,
    },
    /// For good.
    Leave {
        reason: String,
    },
}

impl Responses {
    pub(super) fn in_run(
        services: Arc<Services>,
        inbox: mpsc::Receiver<Message>,
        pass: Arc<Pass>,
        closed: &CancellationToken,
    ) -> Self {
        Self {
            stage: Stage::Run { services, inbox },
            pass: Some(pass),
            open: Some(closed.clone().drop_guard()),
        }
    }

    /// `of_many`: in a cluster of many runs.
    pub(super) fn pooled(
        pass: Arc<Pass>,
        of_many: bool,
        closed: &CancellationToken,
    ) -> (oneshot::Sender<Seat>, Self) {
        let (sender, seat) = oneshot::channel();
        let stage = Stage::Pooled { told: false, of_many, seat };
        (sender, Self { stage, pass: Some(pass), open: Some(closed.clone().drop_guard()) })
    }

    /// One word, and the end.
    pub(super) fn last(reason: String, stand_by: bool) -> Self {
        Self { stage: Stage::Last { reason, stand_by }, pass: None, open: None }
    }

    fn let_go(&self) {
        if let Some(pass) = &self.pass {
            pass.let_go();
        }
    }

    fn in_words(&self, services: &Services, message: Message) -> pb::SessionResponse {
        let dismissed = self.pass.as_ref().is_some_and(|pass| pass.is_dismissed());
        let terms = Terms {
            plan: &services.plan,
            keep_logs: services.logs.is_some(),
            stand_by: services.stand_by && !dismissed,
        };
        convert::response(message, terms, |generation| services.token(generation))
    }
}

impl Stream for Responses {
    type Item = Result<pb::SessionResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            self.stage = match &mut self.stage {
                Stage::Pooled { told: told @ false, of_many, .. } => {
                    *told = true;
                    return Poll::Ready(Some(Ok(convert::pooled(*of_many))));
                }
                Stage::Pooled { seat, .. } => match ready!(Pin::new(seat).poll(context)) {
                    Ok(Seat::Run { services, inbox }) => Stage::Run { services, inbox },
                    Ok(Seat::Leave { reason }) => Stage::Last { reason, stand_by: false },
                    // Another session has taken its place.
                    Err(_) => Stage::Over,
                },
                Stage::Run { services, inbox } => {
                    let (message, services) = (ready!(inbox.poll_recv(context)), services.clone());
                    if matches!(message, None | Some(Message::Finish { .. })) {
                        self.let_go();
                    }
                    match message {
                        Some(message) => return Poll::Ready(Some(Ok(self.in_words(&services, message)))),
                        None => Stage::Over,
                    }
                }
                Stage::Last { reason, stand_by } => {
                    let response = convert::finish(std::mem::take(reason), *stand_by);
                    self.stage = Stage::Over;
                    return Poll::Ready(Some(Ok(response)));
                }
                Stage::Over => {
                    self.open = None;
                    return Poll::Ready(None);
                }
            };
        }
    }
}
