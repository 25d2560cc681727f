//! Many runs, many workers, many watchers: how soon a submission is answered, and what the coordinator needs of memory.
//!
//! The coordinator is a process of its own (this test's program again, in the role that a variable gives it), so that
//! only its own memory counts. The numbers are small by default; by hand they are given in the environment:
//!
//! ```text
//! LOCKSTEP_LOAD_WORKERS=200 LOCKSTEP_LOAD_QUEUED=500 LOCKSTEP_LOAD_WATCHERS=20 LOCKSTEP_LOAD_FINISHED=10000 \
//! LOCKSTEP_LOAD_P99_MS=50 cargo test --release -p lockstep-coordinator --test cluster load -- --nocapture
//! ```

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lockstep_proto::v1 as pb;
use lockstep_proto::v1::RunState;
use lockstep_proto::v1::run_service_client::RunServiceClient;
use tokio::task::JoinSet;

use crate::server::{Client, DEADLINE, RECIPE, Server, recipe, until, workers};
use crate::worker::{Simulated, Worker};

/// The home of the coordinator that the process is to be.
const ROLE: &str = "LOCKSTEP_TEST_CLUSTER";
const ADDRESS: &str = "address";

const BYTES_MAX: u64 = 300 << 20;

/// What may be added by thousands of runs that are over: allocators keep what was in use at the worst moment.
const GROWTH_MAX: u64 = 40 << 20;

/// Clients that submit at a time.
const CLIENTS: usize = 4;

fn number(name: &str, otherwise: usize) -> usize {
    let given = env::var(format!("LOCKSTEP_LOAD_{name}")).ok();
    given.map_or(otherwise, |text| text.parse().unwrap())
}

/// Not a test by itself: the coordinator of the one below.
#[test]
fn a_coordinator_for_the_load() {
    let Some(home) = env::var_os(ROLE) else { return };
    let home = Path::new(&home);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let server = Server::start(home).await;
        fs::write(home.join("address.new"), server.address.to_string()).unwrap();
        fs::rename(home.join("address.new"), home.join(ADDRESS)).unwrap();
        std::future::pending().await
    })
}

struct Coordinator {
    process: Child,
    address: SocketAddr,
}

impl Coordinator {
    fn start(home: &Path) -> Self {
        let process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "load::a_coordinator_for_the_load"])
            .env(ROLE, home)
            .env("MALLOC_ARENA_MAX", "2") // as `lockstep serve` has it
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

    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        value.trim_start_matches(':').trim_end_matches("kB").trim().parse().unwrap()
    }

    fn resident_bytes(&self) -> u64 {
        self.status("VmRSS") << 10
    }

    async fn client(&self) -> Client {
        Client { service: RunServiceClient::connect(format!("http://{}", self.address)).await.unwrap() }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_are_answered_soon_and_memory_has_a_bound() {
    let (queued, finished) = (number("QUEUED", 12), number("FINISHED", 24));
    let home = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::start(home.path());
    let before = coordinator.resident_bytes();
    let _workers: Vec<Worker> = (0..number("WORKERS", 8))
        .map(|number| {
            let step = Duration::from_millis(100);
            let simulated = Simulated { step, ..Simulated::new(&format!("worker-{number}")) };
            Worker::start(coordinator.address, simulated)
        })
        .collect();

    // As many as are to wait, beside those that are being trained.
    let mut took = submit(&coordinator, "first", queued + _workers.len()).await;
    let mut watching = JoinSet::new();
    for watcher in 0..number("WATCHERS", 3) {
        // Of those that came last, which still wait.
        let run = format!("first-{}", queued + _workers.len() - 1 - watcher);
        watching.spawn(watch(coordinator.client().await, run));
    }
    took.extend(submit(&coordinator, "second", queued).await);
    let during = coordinator.resident_bytes();
    report(&mut took, "submitted while others are trained and watched");
    println!("memory: {} MiB at the start, {} MiB under load", before >> 20, during >> 20);
    assert!(during < BYTES_MAX, "{during} bytes under load");
    let mut client = coordinator.client().await;
    until_all_are_over(&mut client).await;
    watching.join_all().await.into_iter().for_each(|answers| assert!(answers > 1, "each has seen it move"));

    // Those that are over cost nothing. Half of them show what is in use, the others that no more is.
    let mut middle = 0;
    for half in 0..2 {
        for batch in 0..finished.div_ceil(2 * queued) {
            submit(&coordinator, &format!("more-{half}-{batch}"), queued).await;
            until_all_are_over(&mut client).await;
        }
        let resident = coordinator.resident_bytes();
        println!("memory: {} MiB after {} more runs", resident >> 20, finished / 2 * (half + 1));
        middle = if half == 0 { resident } else { middle };
        assert!(resident < BYTES_MAX, "{resident} bytes");
        assert!(resident < middle + GROWTH_MAX, "{resident} bytes, and {middle} before");
    }
}

/// One that is short, for one worker.
fn submission(run: &str) -> pb::SubmitRequest {
    let text = RECIPE.replace("epochs = 2", "epochs = 1");
    pb::SubmitRequest { name: run.to_owned(), requirements: Some(workers(1, 1)), ..recipe(&text) }
}

/// How long each took to be answered.
async fn submit(coordinator: &Coordinator, prefix: &str, count: usize) -> Vec<Duration> {
    let mut submitting = JoinSet::new();
    for number in 0..CLIENTS {
        let (mut client, prefix) = (coordinator.client().await, prefix.to_owned());
        submitting.spawn(async move {
            let mut took = Vec::new();
            for run in (number..count).step_by(CLIENTS) {
                let begun = Instant::now();
                client.try_submit(submission(&format!("{prefix}-{run}"))).await.unwrap();
                took.push(begun.elapsed());
            }
            took
        });
    }
    submitting.join_all().await.concat()
}

async fn watch(mut client: Client, run: String) -> usize {
    let mut stream = client.service.watch_run(pb::WatchRunRequest { run }).await.unwrap().into_inner();
    let mut answers = 0;
    while stream.message().await.unwrap().is_some() {
        answers += 1;
    }
    answers
}

async fn until_all_are_over(client: &mut Client) {
    let states = [RunState::Queued, RunState::Preparing, RunState::Running, RunState::Stopping];
    let request = pb::ListRunsRequest { states: states.map(i32::from).to_vec(), limit: 1 };
    let mut left = usize::MAX;
    while left > 0 {
        // As long as some end, others may take their time.
        let before = left;
        let mut asking = client.clone();
        until("some runs end", async || {
            let listed = asking.service.list_runs(request.clone()).await.unwrap().into_inner();
            left = listed.runs.len() + listed.left_out as usize;
            left < before
        })
        .await;
    }
    let failed = pb::ListRunsRequest { states: vec![RunState::Failed.into()], limit: 1 };
    let failed = client.service.list_runs(failed).await.unwrap().into_inner();
    assert!(failed.runs.is_empty(), "{:#?}", failed.runs);
}

fn report(took: &mut [Duration], what: &str) {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: {} in all, median {:?}, p99 {:?}, longest {:?}",
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    let most = Duration::from_millis(number("P99_MS", 1_000) as u64);
    assert!(at(0.99) < most, "a submission took {:?}", at(0.99));
}
