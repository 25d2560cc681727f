//! One worker's session: its first message admits it, its end is its loss.

use std::sync::Arc;

use lockstep_core::{Event, Message, WorkerName};
use lockstep_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Services;
use crate::convert;

/// Responses that may wait for the network.
const RESPONSES_MAX: usize = 16;

/// A name is a label in logs and tables.
const NAME_BYTES_MAX: usize = 100;

pub(super) async fn open(
    services: Arc<Services>,
    mut requests: Streaming<pb::SessionRequest>,
) -> Result<ReceiverStream<Result<pb::SessionResponse, Status>>, Status> {
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
    let inbox = services.driver.join(worker.clone(), convert::worker_info(&join)).await;
    let inbox = inbox.map_err(|reject| convert::status(&reject))?;
    let (responses, stream) = mpsc::channel(RESPONSES_MAX);
    tokio::spawn(send(Arc::clone(&services), inbox, responses));
    tokio::spawn(receive(services, worker, requests));
    Ok(ReceiverStream::new(stream))
}

/// What the run tells the worker, until the run lets go of the worker.
async fn send(
    services: Arc<Services>,
    mut inbox: mpsc::Receiver<Message>,
    responses: mpsc::Sender<Result<pb::SessionResponse, Status>>,
) {
    while let Some(message) = inbox.recv().await {
        let response = convert::response(message, &services.plan, |generation| services.token(generation));
        if responses.send(Ok(response)).await.is_err() {
            return;
        }
    }
}

/// What the worker tells the run, until the worker ends.
async fn receive(services: Arc<Services>, worker: WorkerName, mut requests: Streaming<pb::SessionRequest>) {
    let reason = loop {
        match requests.message().await {
            Ok(Some(pb::SessionRequest { message: Some(message) })) => {
                let accepted = match convert::event(&worker, message) {
                    Ok(event) => services.driver.event(event).await.map_err(|reject| reject.to_string()),
                    Err(status) => Err(status.message().to_owned()),
                };
                if let Err(reason) = accepted {
                    tracing::debug!(%worker, %reason, "refused");
                }
            }
            Ok(Some(_)) => tracing::debug!(%worker, "a message of an unknown kind"),
            Ok(None) => break "its session ended".to_owned(),
            Err(status) => {
                tracing::debug!(%worker, %status, "session broken");
                break "its connection broke".to_owned();
            }
        }
    };
    // A run that is over does not mind.
    drop(services.driver.event(Event::WorkerLost { worker, reason }).await);
}
