//! One worker's session: its first message says who it is, and it is admitted to a run, taken back by one, or waits in the
//! pool until one needs it; its end detaches it.
//!
//! A run may have thousands of idle workers, so a session is one task and one short queue: what the run tells the worker
//! is put into the wire's words when it is taken from the queue. Both directions end together. When the worker has opened
//! another session in the meantime, the end of this one changes nothing.

mod responses;
mod visit;

use lockstep_core::{RunName, WorkerName};
use lockstep_proto::v1 as pb;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use self::visit::Visit;
use super::transport::next_due;
use crate::cluster::{Arrival, ClusterHandle, Newcomer};
use crate::convert;
use crate::credentials::Caller;
use crate::driver::Joined;

pub(super) use self::responses::Responses;

/// A name is a label in logs and tables.
const NAME_BYTES_MAX: usize = 100;

pub(super) async fn open(
    cluster: &ClusterHandle,
    caller: &Caller,
    mut requests: Streaming<pb::SessionRequest>,
) -> Result<Responses, Status> {
    let join = introduction(&mut requests).await?;
    caller.is_worker(&join.name)?;
    place(cluster.clone(), join, requests).await
}

async fn introduction(requests: &mut Streaming<pb::SessionRequest>) -> Result<pb::Join, Status> {
    use pb::session_request::Message as Request;
    let Some(pb::SessionRequest { message: Some(Request::Join(join)) }) = next_due(requests).await? else {
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
    Ok(join)
}

/// Asks the cluster where the worker belongs, and takes it there.
async fn place(
    cluster: ClusterHandle,
    join: pb::Join,
    requests: Streaming<pb::SessionRequest>,
) -> Result<Responses, Status> {
    let attached = convert::attached(&join);
    let newcomer = Newcomer {
        worker: WorkerName(join.name.clone()),
        info: convert::worker_info(&join),
        memory_bytes: join.memory_bytes,
        run: (!join.run.is_empty()).then_some(RunName(join.run)),
    };
    let (worker, closed) = (newcomer.worker.clone(), CancellationToken::new());
    match cluster.arrive(newcomer.clone()).await.map_err(|refusal| convert::refusal(&refusal))? {
        Arrival::Run { services, pass } => {
            let joined = services.driver.join(worker.clone(), newcomer.info.clone(), attached).await;
            let Joined { session, inbox } = match joined {
                Ok(joined) => joined,
                // Its run has no use for it any more, but another may.
                Err(reject) if convert::is_over_or_full(&reject) => {
                    return Ok(Responses::last(reject.to_string(), services.stand_by));
                }
                Err(reject) => return Err(convert::status(&reject)),
            };
            let responses = Responses::in_run(services.clone(), inbox, pass.clone(), &closed);
            let visit = Visit { worker, requests, closed, cluster, pass };
            tokio::spawn(visit.back_in_run(newcomer, services, session));
            Ok(responses)
        }
        Arrival::Pool { summons, pass, of_many } => {
            let (seat, responses) = Responses::pooled(pass.clone(), of_many, &closed);
            let visit = Visit { worker, requests, closed, cluster, pass };
            tokio::spawn(visit.in_pool(newcomer.info, summons, seat));
            Ok(responses)
        }
        Arrival::Over { reason, stand_by } => Ok(Responses::last(reason, stand_by)),
    }
}
