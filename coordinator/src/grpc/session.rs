//! One worker's session: its first message admits the worker, or takes it back; its end detaches it.
//!
//! A run may have thousands of idle workers, so a session is one task and one short queue: what the run tells the worker
//! is put into the wire's words when it is taken from the queue. Both directions end together. When the worker has opened
//! another session in the meantime, the end of this one changes nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use lockstep_core::{Event, Message, WorkerName};
use lockstep_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};

use super::Services;
use crate::convert;
use crate::driver::Joined;

/// A name is a label in logs and tables.
const NAME_BYTES_MAX: usize = 100;

/// What the run tells the worker, until the run lets go of the session or the connection ends.
#[derive(Debug)]
pub(super) struct Responses {
    services: Arc<Services>,
    inbox: mpsc::Receiver<Message>,
    /// Ends the other direction.
    open: Option<DropGuard>,
}

impl Stream for Responses {
    type Item = Result<pb::SessionResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = std::task::ready!(self.inbox.poll_recv(context));
        if message.is_none() {
            self.open = None;
        }
        let services = &self.services;
        let response =
            |message| convert::response(message, &services.plan, |generation| services.token(generation));
        Poll::Ready(message.map(response).map(Ok))
    }
}

pub(super) async fn open(
    services: Arc<Services>,
    mut requests: Streaming<pb::SessionRequest>,
) -> Result<Responses, Status> {
    use pb::session_request::Message as Request;
    let Some(pb::SessionRequest { message: Some(Request::Join(join)) }) = requests.message().await? else {
        return Err(Status::invalid_argument("a session begins with Join"));
    };
    if join.protocol_version != convert::PROTOCOL_VERSION {
        return Err(Status::failed_precondition(format!(
            "the worker speaks version {} of the protocol, the coordinator version {}: use the same release",
            join.protocol_version,
            convert::PROTOCOL_VERSION
        )));
    }
    if join.name.is_empty() || join.name.len() > NAME_BYTES_MAX || join.name.chars().any(char::is_control) {
        return Err(Status::invalid_argument("a worker's name is 1 to 100 printable bytes"));
    }
    let worker = WorkerName(join.name.clone());
    let (info, attached) = (convert::worker_info(&join), convert::attached(&join));
    let joined = services.driver.join(worker.clone(), info, attached).await;
    let Joined { session, inbox } = joined.map_err(|reject| convert::status(&reject))?;
    let closed = CancellationToken::new();
    let open = Some(closed.clone().drop_guard());
    tokio::spawn(receive(Arc::clone(&services), worker, session, requests, closed));
    Ok(Responses { services, inbox, open })
}

/// What the worker tells the run, until either of them ends the session.
async fn receive(
    services: Arc<Services>,
    worker: WorkerName,
    session: u64,
    mut requests: Streaming<pb::SessionRequest>,
    closed: CancellationToken,
) {
    let driver = &services.driver;
    loop {
        let request = tokio::select! {
            request = requests.message() => request,
            () = closed.cancelled() => break,
        };
        match request {
            Ok(Some(pb::SessionRequest { message: Some(message) })) => match convert::event(&worker, message)
            {
                // These come all the time, and one that is refused is made good by the next.
                Ok(event @ (Event::Heartbeat { .. } | Event::Progressed { .. })) => driver.tell(event).await,
                Ok(event) => {
                    if let Err(reject) = driver.event(event).await {
                        tracing::debug!(%worker, %reject, "refused");
                    }
                }
                Err(status) => tracing::debug!(%worker, %status, "a message that does not read"),
            },
            Ok(Some(_)) => tracing::debug!(%worker, "a message of an unknown kind"),
            Ok(None) => break,
            Err(status) => {
                tracing::debug!(%worker, %status, "session broken");
                break;
            }
        }
    }
    driver.detached(worker, session).await;
}
