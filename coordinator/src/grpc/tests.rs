//! Sessions and uploads over real connections.

use std::net::SocketAddr;
use std::time::Duration;

use lockstep_core::{Entry, Event, Reject, Step};
use lockstep_proto::v1::session_response::Message as Told;
use lockstep_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::sync::mpsc;
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::convert;
use crate::driver::fixtures::{Driven, MODEL, OPTIMIZER, RUN, info, manifest, position, store_checkpoint};
use crate::grpc::transport::Entrance;

const DEADLINE: Duration = Duration::from_secs(20);

/// A run that is served.
struct Served {
    driven: Driven,
    address: SocketAddr,
    shutdown: CancellationToken,
}

/// One end of a session.
struct Session {
    requests: mpsc::Sender<pb::SessionRequest>,
    responses: Streaming<pb::SessionResponse>,
}

impl Served {
    async fn start(workers: u32) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (driven, cluster, blobs) = Driven::alone(workers, address, shutdown.clone());
        tokio::spawn(serve(Entrance::new(listener, None).unwrap(), cluster, blobs, shutdown.clone()));
        Self { driven, address, shutdown }
    }

    async fn client(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::connect(format!("http://{}", self.address)).await.unwrap()
    }

    async fn join(&self, join: pb::Join) -> Result<Session, Status> {
        let (requests, stream) = mpsc::channel(4);
        requests.send(request(pb::session_request::Message::Join(join))).await.unwrap();
        let responses = self.client().await.session(ReceiverStream::new(stream)).await?.into_inner();
        Ok(Session { requests, responses })
    }

    /// Whether another process would be let in under this name, which it is once the session counts as broken.
    async fn is_free(&self, worker: &str) -> bool {
        match self.driven.driver.join(worker.into(), info(99), None).await {
            Ok(_) => true,
            Err(Reject::NameTaken { .. }) => false,
            Err(reject) => panic!("{reject}"),
        }
    }

    async fn upload(&self, messages: Vec<pb::UploadCheckpointRequest>) -> Result<(), Status> {
        let upload = async { self.client().await.upload_checkpoint(tokio_stream::iter(messages)).await };
        let answer = tokio::time::timeout(DEADLINE, upload).await.expect("an upload is answered in time");
        answer.map(|_| ())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Session {
    /// The next message; none when the coordinator has closed the session.
    async fn told(&mut self) -> Option<Told> {
        let next = tokio::time::timeout(DEADLINE, self.responses.message());
        next.await.expect("something is told in time").expect("the session ends in order")?.message
    }

    /// Its run's, after the wait for it.
    async fn welcome(&mut self) -> pb::Welcome {
        loop {
            match self.told().await {
                Some(Told::Welcome(welcome)) => return welcome,
                Some(Told::Pooled(_)) => {}
                other => panic!("told {other:?} instead of a welcome"),
            }
        }
    }
}

fn request(message: pb::session_request::Message) -> pb::SessionRequest {
    pb::SessionRequest { message: Some(message) }
}

fn join(name: &str, incarnation: u64) -> pb::Join {
    let protocol_version = convert::PROTOCOL_VERSION;
    let device = "cpu".to_owned();
    pb::Join { protocol_version, name: name.to_owned(), device, incarnation, ..pb::Join::default() }
}

/// Waits for something that cannot notify, by asking again.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("{what} in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_reattaches_is_welcomed_again_and_the_old_sessions_end_is_ignored() {
    let served = Served::start(2).await;
    let mut first = served.join(join("a", 1)).await.unwrap();
    let welcome = first.welcome().await;
    assert_eq!((welcome.term, welcome.run.as_str()), (1, RUN));
    let again = pb::Join { term: welcome.term, run: welcome.run, ..join("a", 1) };
    let mut second = served.join(again).await.unwrap();
    assert!(matches!(second.told().await, Some(Told::Welcome(_))), "it did not wait");
    assert_eq!(first.told().await, None, "the second session takes the first one's place");
    drop(first);
    let beat = pb::Heartbeat { sequence: 1, ..pb::Heartbeat::default() };
    second.requests.send(request(pb::session_request::Message::Heartbeat(beat))).await.unwrap();
    let status = served.driven.driver.status().await.unwrap();
    assert_eq!(status.workers.len(), 1);
    assert!(!served.is_free("a").await);
    drop(second);
    until("the name is free", async || served.is_free("a").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_shown_the_door_hears_what_was_said_before_and_then_the_end() {
    let served = Served::start(1).await;
    let mut session = served.join(join("a", 1)).await.unwrap();
    session.welcome().await;
    let lost = Event::WorkerLost { worker: "a".into(), reason: "evicted".to_owned() };
    served.driven.driver.event(lost).await.unwrap();
    assert_eq!(session.told().await, None);
    // It lives, and may come again as a newcomer.
    let mut session = served.join(join("a", 1)).await.unwrap();
    session.welcome().await;
    served.driven.driver.stop().await.unwrap();
    assert!(matches!(session.told().await, Some(Told::Finish(_))), "nothing said at the end is lost");
    assert_eq!(session.told().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_for_the_run_however_it_ends_for_the_worker() {
    let served = Served::start(2).await;
    let Session { requests, responses } = served.join(join("a", 1)).await.unwrap();
    drop(requests); // the worker closes its own direction
    until("a is free", async || served.is_free("a").await).await;
    drop(responses);

    // Its process ends, and the connection with it.
    drop(served.join(join("b", 1)).await.unwrap());
    until("b is free", async || served.is_free("b").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_join_is_told_why() {
    let served = Served::start(1).await;
    let code = async |join| served.join(join).await.err().map(|status| status.code());
    let old = pb::Join { protocol_version: 1, ..join("a", 1) };
    assert_eq!(code(old).await, Some(Code::FailedPrecondition));
    assert_eq!(code(join("", 1)).await, Some(Code::InvalidArgument));
    let _session = served.join(join("a", 1)).await.unwrap();
    assert_eq!(code(join("a", 2)).await, Some(Code::AlreadyExists));
    let back = |term| pb::Join { term, run: RUN.to_owned(), ..join("c", 4) };
    assert_eq!(code(back(9)).await, Some(Code::Aborted));
    assert_eq!(code(back(1)).await, Some(Code::Unavailable), "this coordinator acts no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_run_has_no_use_for_waits_until_somebody_leaves_and_is_sent_home_at_its_end() {
    let served = Served::start(1).await;
    let mut member = served.join(join("a", 1)).await.unwrap();
    member.welcome().await;
    let mut spare = served.join(join("b", 2)).await.unwrap();
    let mut other = served.join(join("c", 3)).await.unwrap();
    assert!(matches!(spare.told().await, Some(Told::Pooled(_))));
    assert!(matches!(other.told().await, Some(Told::Pooled(_))));
    let lost = Event::WorkerLost { worker: "a".into(), reason: "evicted".to_owned() };
    served.driven.driver.event(lost).await.unwrap();
    assert!(matches!(spare.told().await, Some(Told::Welcome(_))), "it takes the place");
    served.driven.driver.stop().await.unwrap();
    assert!(matches!(spare.told().await, Some(Told::Finish(_))));
    let Some(Told::Finish(finish)) = other.told().await else { panic!("it hears of the end") };
    assert!(!finish.stand_by, "there is no other run");
    let mut late = served.join(join("d", 4)).await.unwrap();
    assert!(matches!(late.told().await, Some(Told::Finish(_))));
}

fn header(step: u64) -> pb::UploadCheckpointRequest {
    let files = manifest(step).files.into_iter().map(|file| pb::CheckpointFile {
        name: file.name,
        size_bytes: file.size_bytes,
        sha256: hex::decode(file.sha256).unwrap(),
    });
    let header = pb::CheckpointHeader {
        run: RUN.to_owned(),
        worker: "a".to_owned(),
        position: Some(pb::Position { epoch: 0, step }),
        files: files.collect(),
    };
    pb::UploadCheckpointRequest { message: Some(pb::upload_checkpoint_request::Message::Header(header)) }
}

fn chunk(data: &'static [u8]) -> pb::UploadCheckpointRequest {
    let chunk = pb::Chunk { data: data.into() };
    pb::UploadCheckpointRequest { message: Some(pb::upload_checkpoint_request::Message::Chunk(chunk)) }
}

fn checkpoint(step: u64) -> Vec<pb::UploadCheckpointRequest> {
    vec![header(step), chunk(MODEL), chunk(OPTIMIZER)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_stored_is_answered_for_at_once() {
    let served = Served::start(1).await;
    served.upload(checkpoint(5)).await.unwrap();
    let model = served.driven.store.path(Step(5)).join("model.safetensors");
    let written = std::fs::metadata(&model).unwrap().modified().unwrap();
    // Megabytes would follow, and nobody reads them.
    static LARGE: [u8; 1 << 20] = [0; 1 << 20];
    let large: Vec<_> = std::iter::once(header(5)).chain((0..32).map(|_| chunk(&LARGE))).collect();
    served.upload(large).await.unwrap();
    assert_eq!(std::fs::metadata(&model).unwrap().modified().unwrap(), written);
    served.driven.store.verify(Step(5)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_checkpoint_that_only_the_disk_knows_is_not_written_again() {
    let served = Served::start(1).await;
    store_checkpoint(&served.driven.store, 5);
    let model = served.driven.store.path(Step(5)).join("model.safetensors");
    let written = std::fs::metadata(&model).unwrap().modified().unwrap();
    served.upload(checkpoint(5)).await.unwrap();
    assert_eq!(std::fs::metadata(&model).unwrap().modified().unwrap(), written);
    assert_eq!(served.driven.driver.admit_upload(position(5)).await, Ok(crate::driver::Upload::Stored));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_uploads_of_one_step_at_a_time_both_succeed() {
    let served = Served::start(1).await;
    let (requests, stream) = mpsc::channel(4);
    let mut client = served.client().await;
    let slow = tokio::spawn(async move { client.upload_checkpoint(ReceiverStream::new(stream)).await });
    requests.send(header(5)).await.unwrap();
    requests.send(chunk(&MODEL[..3])).await.unwrap();
    served.upload(checkpoint(5)).await.unwrap();
    requests.send(chunk(&MODEL[3..])).await.unwrap();
    requests.send(chunk(OPTIMIZER)).await.unwrap();
    drop(requests);
    slow.await.unwrap().unwrap();
    served.driven.store.verify(Step(5)).unwrap();
    assert_eq!(
        std::fs::read_dir(served.driven.path().join("checkpoints")).unwrap().count(),
        2,
        "itself, last"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_a_position_that_the_run_does_not_know_is_refused() {
    let served = Served::start(1).await;
    assert_eq!(served.upload(checkpoint(100)).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_ends_early_costs_the_run_nothing() {
    let served = Served::start(1).await;
    // This is also what a stream looks like here whose sender died: tonic takes a cancelled one for one that ended.
    let half = vec![header(5), chunk(MODEL)];
    assert_eq!(served.upload(half).await.unwrap_err().code(), Code::DataLoss);
    assert!(!served.driven.entries().iter().any(|entry| matches!(entry, Entry::Ended { .. })));

    let (requests, stream) = mpsc::channel(4);
    let mut client = served.client().await;
    let broken = tokio::spawn(async move { client.upload_checkpoint(ReceiverStream::new(stream)).await });
    requests.send(header(5)).await.unwrap();
    requests.send(chunk(MODEL)).await.unwrap();
    broken.abort();
    drop(broken.await);
    served.upload(checkpoint(5)).await.unwrap();
    served.driven.store.verify(Step(5)).unwrap();
}
