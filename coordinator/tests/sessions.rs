//! A coordinator with thousands of idle workers: what it needs of memory, and that none of them is lost.
//!
//! The coordinator is a process of its own (this test's program again, in the role that a variable gives it), so that
//! only its own memory counts. It serves a run that waits for one worker more than there are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lockstep_coordinator::cluster::{Alone, Cluster};
use lockstep_coordinator::driver::now;
use lockstep_coordinator::grpc::serve;
use lockstep_coordinator::grpc::transport::Entrance;
use lockstep_coordinator::home::Home;
use lockstep_coordinator::prepare::Begun;
use lockstep_coordinator::run_folder::{RunFacts, RunFolder};
use lockstep_core::{Origin, Restore, Run, RunSpec, SelectSpec, Split, WorkerBounds};
use lockstep_proto::v1 as pb;
use lockstep_proto::v1::session_request::Message;
use lockstep_proto::v1::session_response::Message as Told;
use lockstep_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

const SESSIONS: u32 = 2_000;
const BYTES_MAX: u64 = 500 << 20;

/// As by default: whoever is not heard of for so long is lost.
const LEASE: Duration = Duration::from_secs(3);

/// How many leases the sessions last.
const LEASES: u32 = 2;

/// How often a worker is heard of, as by default.
const BEAT: Duration = Duration::from_millis(200);

const DEADLINE: Duration = Duration::from_secs(60);

/// The home of the coordinator that the process is to be.
const ROLE: &str = "LOCKSTEP_TEST_COORDINATOR";
const ADDRESS: &str = "address";
const RUN: &str = "crowd";

#[test]
fn two_thousand_idle_sessions_fit_in_500_mb_and_none_is_lost() {
    let home = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(home.path());
    let before = coordinator.resident_bytes();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (say_enough, enough) = watch::channel(false);
        let sessions = open_all(coordinator.address, &enough).await;
        let opened = Instant::now();
        let mut pause = tokio::time::interval(LEASE);
        for _ in 0..=LEASES {
            pause.tick().await;
        }
        let after = coordinator.resident_bytes();
        let folder = home.path().join("runs").join(RUN);
        let status: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.join("run.json")).unwrap()).unwrap();
        assert_eq!(status["live"]["workers"].as_array().unwrap().len(), SESSIONS as usize);
        let events = fs::read_to_string(folder.join("events.jsonl")).unwrap();
        assert!(!events.contains("worker_lost"), "{events}");
        println!(
            "{SESSIONS} sessions for {:?}: {} MiB, {} MiB of them before",
            opened.elapsed(),
            after >> 20,
            before >> 20
        );
        assert!(after < BYTES_MAX, "{after} bytes for {SESSIONS} sessions");
        say_enough.send(true).unwrap();
        let beats: Vec<u64> = sessions.join_all().await;
        assert!(beats.iter().all(|beats| *beats > 1), "each was heard of");
    });
}

/// Not a test by itself: the coordinator of the one above.
#[test]
fn a_coordinator_for_the_test_above() {
    let Some(home) = env::var_os(ROLE) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(coordinate(Path::new(&home)));
}

struct Coordinator {
    process: Child,
    address: SocketAddr,
}

impl Coordinator {
    fn start(home: &Path) -> Self {
        let process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "a_coordinator_for_the_test_above"])
            .env(ROLE, home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Ended and waited for, whatever happens next.
        let mut coordinator = Self { process, address: ([127, 0, 0, 1], 0).into() };
        let started = Instant::now();
        loop {
            if let Ok(address) = fs::read_to_string(home.join(ADDRESS)) {
                coordinator.address = address.parse().unwrap();
                return coordinator;
            }
            assert!(started.elapsed() < DEADLINE, "the coordinator listens in time");
            std::thread::yield_now();
        }
    }

    fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
        kib.unwrap().trim().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

async fn coordinate(home: &Path) {
    let workers = WorkerBounds { min: SESSIONS + 1, start: SESSIONS + 1, max: SESSIONS + 1 };
    let spec = RunSpec {
        workers,
        shards: SESSIONS + 1,
        epochs: 1,
        steps_per_epoch: 1,
        eval_samples: 1,
        test_samples: 0,
        eval_block: 1,
        select: SelectSpec { split: Split::Val, restore: Restore::Never, patience: 0 },
        ema: false,
        keep: 1,
        join_timeout_ms: DEADLINE.as_millis() as u64,
        lease_ms: LEASE.as_millis() as u64,
    };
    let opened = Home::open(home).unwrap();
    let blobs = opened.blobs.clone();
    let (run, effects) = Run::create(now(), spec, Origin::default());
    let begun = Begun {
        run,
        effects,
        folder: RunFolder::create(home, RUN).unwrap(),
        plan: pb::Plan { run: RUN.to_owned(), ..pb::Plan::default() },
        facts: RunFacts::default(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let alone = Alone { begun, expected: BTreeSet::new(), worker_url: format!("http://{address}") };
    let (cluster, handle, driven) = Cluster::alone(opened, address, alone).unwrap();
    tokio::spawn(serve(Entrance::new(listener, None).unwrap(), handle, blobs, CancellationToken::new()));
    tokio::spawn(cluster.serve(CancellationToken::new()));
    fs::write(home.join("address.new"), address.to_string()).unwrap();
    fs::rename(home.join("address.new"), home.join(ADDRESS)).unwrap();
    drop(driven.concluded.await.unwrap().unwrap());
}

/// Opens all sessions, each over a connection of its own. They go on until it is enough, and say how often they were
/// heard of.
async fn open_all(address: SocketAddr, enough: &watch::Receiver<bool>) -> JoinSet<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).unwrap();
    let mut sessions = JoinSet::new();
    let (opened, mut open) = mpsc::channel(1);
    for number in 0..SESSIONS {
        sessions.spawn(session(address, number, opened.clone(), enough.clone()));
        // A few at a time, as no listener's queue is endless.
        if number >= 50 {
            open.recv().await.expect("a session opens");
        }
    }
    drop(opened);
    while open.recv().await.is_some() {}
    sessions
}

async fn session(
    address: SocketAddr,
    number: u32,
    opened: mpsc::Sender<()>,
    mut enough: watch::Receiver<bool>,
) -> u64 {
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let (requests, stream) = mpsc::channel(1);
    let join = pb::Join {
        protocol_version: 3,
        name: format!("worker-{number}"),
        device: "cpu".to_owned(),
        incarnation: u64::from(number),
        ..pb::Join::default()
    };
    let send = async |message| requests.send(pb::SessionRequest { message: Some(message) }).await.is_ok();
    assert!(send(Message::Join(join)).await);
    let responses = WorkerServiceClient::new(channel).session(ReceiverStream::new(stream)).await;
    let mut responses = responses.unwrap().into_inner();
    let mut told = async || responses.message().await.unwrap().and_then(|response| response.message);
    assert!(matches!(told().await, Some(Told::Pooled(_))));
    assert!(matches!(told().await, Some(Told::Welcome(_))));
    opened.send(()).await.unwrap();
    drop(opened);
    let mut sequence = 0;
    let mut beats = tokio::time::interval(BEAT);
    loop {
        tokio::select! {
            _ = enough.changed() => return sequence,
            response = responses.message() => panic!("worker-{number} was told {response:?}"),
            _ = beats.tick() => {
                sequence += 1;
                let address = format!("127.0.0.1:{number}");
                let beat = pb::Heartbeat { sequence, address, ..pb::Heartbeat::default() };
                assert!(send(Message::Heartbeat(beat)).await, "worker-{number}'s session lasts");
            }
        }
    }
}
