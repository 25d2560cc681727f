//! A simulated worker: a process that joins, follows its runs' orders, begins again when it is told to stand by, and comes
//! back when its connection breaks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockstep_proto::v1 as pb;
use lockstep_proto::v1::session_request::Message as Say;
use lockstep_proto::v1::session_response::Message as Told;
use lockstep_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::replica::Replica;
use crate::server::until;

/// How often a worker is heard of, more or less as by default.
const BEAT: Duration = Duration::from_millis(150);

/// Between two tries to reach the coordinator.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub(crate) struct Simulated {
    pub(crate) name: String,
    pub(crate) device: String,
    pub(crate) memory_bytes: u64,
    /// Between two steps.
    pub(crate) step: Duration,
}

impl Simulated {
    pub(crate) fn new(name: &str) -> Self {
        let step = Duration::from_millis(5);
        Self { name: name.to_owned(), device: "cpu".to_owned(), memory_bytes: 0, step }
    }
}

/// Ends, as a process that is killed, when it is dropped.
pub(crate) struct Worker {
    pub(crate) name: String,
    living: JoinHandle<()>,
    story: Story,
}

/// What it was told: `pooled`, `welcome a`, `begin 1`, `finish`, `stand by`, or the code of a refusal.
#[derive(Debug, Clone, Default)]
struct Story(Arc<Mutex<Vec<String>>>);

impl Story {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }
}

impl Worker {
    pub(crate) fn start(address: SocketAddr, simulated: Simulated) -> Self {
        let (name, story) = (simulated.name.clone(), Story::default());
        let living = tokio::spawn(live(address, simulated, story.clone()));
        Self { name, living, story }
    }

    pub(crate) fn story(&self) -> Vec<String> {
        self.story.0.lock().unwrap().clone()
    }

    pub(crate) fn was_told(&self, what: &str) -> bool {
        self.story().iter().any(|told| told == what)
    }

    pub(crate) async fn until_told(&self, what: &str) {
        let name = &self.name;
        until(&format!("{name} is told `{what}`"), async || self.was_told(what)).await;
    }

    /// Waits until its process ends by itself.
    pub(crate) async fn end(mut self) {
        let ended = tokio::time::timeout(crate::server::DEADLINE, &mut self.living).await;
        ended.unwrap_or_else(|_| panic!("{} ends in time: {:?}", self.name, self.story())).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.living.abort();
    }
}

/// So many there were.
static PROCESSES: AtomicU64 = AtomicU64::new(1);

enum End {
    Broken,
    Finished { stand_by: bool },
}

async fn live(address: SocketAddr, simulated: Simulated, story: Story) {
    let mut pause = tokio::time::interval(PAUSE);
    loop {
        let incarnation = PROCESSES.fetch_add(1, Ordering::Relaxed);
        let mut replica = Replica::new(&simulated.name, incarnation);
        loop {
            match session(address, &simulated, &mut replica, &story).await {
                End::Broken => {
                    pause.tick().await;
                }
                End::Finished { stand_by: true } => {
                    story.note("stand by");
                    break;
                }
                End::Finished { stand_by: false } => return story.note("finish"),
            }
        }
    }
}

async fn session(address: SocketAddr, simulated: &Simulated, replica: &mut Replica, story: &Story) -> End {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let Ok(channel) = endpoint.connect().await else { return End::Broken };
    let mut client = WorkerServiceClient::new(channel.clone());
    let (requests, stream) = mpsc::channel(64);
    let say = async |message| requests.send(pb::SessionRequest { message: Some(message) }).await.is_ok();
    say(Say::Join(replica.join(simulated))).await;
    let mut responses = match client.session(ReceiverStream::new(stream)).await {
        Ok(responses) => responses.into_inner(),
        Err(status) => {
            story.note(format!("{:?}", status.code()));
            return End::Broken;
        }
    };
    let mut beats = tokio::time::interval(BEAT);
    let mut steps = tokio::time::interval(simulated.step);
    steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut welcomed = false;
    loop {
        let said = tokio::select! {
            response = responses.message() => match response {
                Ok(Some(pb::SessionResponse { message: Some(told) })) => {
                    match &told {
                        Told::Pooled(_) => story.note("pooled"),
                        Told::Welcome(welcome) => {
                            story.note(format!("welcome {}", welcome.run));
                            welcomed = true;
                        }
                        Told::Begin(begin) => story.note(format!("begin {}", begin.generation)),
                        Told::Finish(finish) => return End::Finished { stand_by: finish.stand_by },
                        _ => {}
                    }
                    replica.follow(told)
                }
                _ => return End::Broken,
            },
            _ = beats.tick(), if welcomed => replica.beat(),
            _ = steps.tick(), if welcomed && replica.steps() => replica.step(),
        };
        for message in said {
            if !say(message).await {
                return End::Broken;
            }
        }
        if let Some(upload) = replica.upload.take() {
            // Beside the conversation, as long as it takes.
            tokio::spawn(upload_until_stored(channel.clone(), upload));
        }
    }
}

async fn upload_until_stored(channel: Channel, upload: Vec<pb::UploadCheckpointRequest>) {
    let mut pause = tokio::time::interval(PAUSE);
    for _ in 0..20 {
        pause.tick().await;
        let mut client = WorkerServiceClient::new(channel.clone());
        if client.upload_checkpoint(tokio_stream::iter(upload.clone())).await.is_ok() {
            return;
        }
    }
}
