//! Processes that give way to others, for real.

use std::fs::{self, File};
use std::net::TcpStream;
use std::process;

use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::spawn_blocking;

use super::*;
use crate::args::{Cli, Command as Verb};
use crate::client::fake::{Coordinator, Said, Session};
use crate::client::{FinishOrder, Order};
use crate::collective::{Cancel, Group, Listener, Membership, TcpMesh};

/// Where the process that a test has started listens.
const PORT: &str = "LOCKSTEP_TEST_STAND_BY_PORT";

#[test]
fn failures_in_a_row_are_counted_until_a_process_has_gone_on_for_long() {
    assert_eq!(failures(0, Duration::ZERO), 1);
    assert_eq!(failures(4, STEADY - Duration::from_secs(1)), 5);
    assert_eq!(failures(4, STEADY), 1);
    assert_eq!(failures(u32::MAX, Duration::ZERO), u32::MAX);
}

#[test]
fn an_upgrade_is_taken_up_and_a_file_without_a_name_still_serves() {
    let told = |own: &str, is_there: bool| program(own.into(), |_| is_there).display().to_string();
    assert_eq!(told("/x/lockstep-worker", true), "/x/lockstep-worker");
    assert_eq!(told("/x/lockstep-worker (deleted)", true), "/x/lockstep-worker");
    assert_eq!(told("/x/lockstep-worker (deleted)", false), "/proc/self/exe");
}

/// A file, a data plane with its memory, and connections on both sides of it are open, and the process goes on as a new
/// one.
fn first_life(port: &str) -> io::Error {
    let listener = Listener::bind(&format!("127.0.0.1:{port}")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let _file = File::open("/proc/self/status").unwrap();
    let _runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (other, to) = (Listener::bind("127.0.0.1:0").unwrap(), &address);
    let membership = |rank| Membership {
        run: "test".to_owned(),
        generation: 1,
        token: vec![1; 16],
        rank,
        peers: vec![to.clone(), other.local_addr().unwrap().to_string()],
        group: Group::new(rank, 2, vec![0..1, 1..2]).unwrap(),
    };
    let connect = |listener, rank| {
        TcpMesh::connect(listener, &membership(rank), Duration::from_secs(20), &Cancel::new()).unwrap()
    };
    let _meshes = std::thread::scope(|scope| {
        let dialer = scope.spawn(|| connect(&other, 1));
        (connect(&listener, 0), dialer.join().unwrap())
    });
    let _caller = TcpStream::connect(&address).unwrap();
    start_again(VARIABLE, "3")
}

/// The same process again, with nothing of what it had but its number and arguments.
fn second_life(port: &str) {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let open = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let left: Vec<_> = open
        .filter(|target| {
            let target = target.to_string_lossy();
            ["socket:", "/memfd:", "anon_inode:", "/status"].iter().any(|kind| target.contains(kind))
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!fs::read_to_string("/proc/self/maps").unwrap().contains("lockstep-sums"));
    Listener::bind(&format!("127.0.0.1:{port}")).unwrap();
    println!("the second life of {}", process::id());
}

#[test]
fn a_new_process_has_the_number_and_the_port_and_nothing_that_was_open() {
    if let Ok(port) = std::env::var(PORT) {
        match std::env::var(VARIABLE) {
            Ok(failures) if failures == "3" => return second_life(&port),
            _ => panic!("{}", first_life(&port)),
        }
    }
    let port = Listener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = "stand_by::tests::a_new_process_has_the_number_and_the_port_and_nothing_that_was_open";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--nocapture", "--test-threads", "1"]);
    child.stdout(process::Stdio::piped()).stderr(process::Stdio::piped());
    let child = child.env(PORT, port.to_string()).env_remove(VARIABLE).spawn().unwrap();
    let told = format!("the second life of {}", child.id());
    let output = child.wait_with_output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
    assert!(output.status.success() && out.contains(&told), "{out}{err}");
}

#[tokio::test]
async fn a_signal_comes_before_a_rest_and_before_the_next_process() {
    let (sender, mut signals) = mpsc::channel(1);
    for failures in [Some(u32::MAX), None] {
        sender.send(StopSignal::Terminate).await.unwrap();
        assert_eq!(begin_again(failures, &mut signals).await.unwrap(), StopSignal::Terminate);
    }
}

/// What the process of [`a_worker_begins_again_as_a_new_process_until_it_is_sent_home`] joins, and where it keeps its files.
const COORDINATOR: &str = "LOCKSTEP_TEST_COORDINATOR";
const CACHE: &str = "LOCKSTEP_TEST_CACHE";

/// This test's binary as a worker: of the processes that follow each other, each comes here again.
fn be_a_worker() {
    let Ok(url) = std::env::var(COORDINATOR) else { return };
    let cache = std::env::var(CACHE).unwrap();
    let cli = Cli::parse_from(["lockstep-worker", "join", &url, "--name", "worker-0", "--cache", &cache]);
    let Verb::Join(args) = cli.command else { panic!("another command") };
    // It makes its own runtime, and ends the process.
    let _ = std::thread::spawn(|| crate::join(*args, crate::logs::LogTail::default())).join();
    process::exit(101);
}

fn worker(test: &str, coordinator: &Coordinator, cache: &Path) -> process::Child {
    let mut worker = Command::new(std::env::current_exe().unwrap());
    worker.args(["--exact", &format!("stand_by::tests::{test}"), "--nocapture", "--test-threads", "1"]);
    worker.env(COORDINATOR, &coordinator.url).env(CACHE, cache).env_remove(VARIABLE);
    worker.stdout(process::Stdio::null()).spawn().unwrap()
}

async fn exit_code(mut worker: process::Child) -> Option<i32> {
    spawn_blocking(move || worker.wait()).await.unwrap().unwrap().code()
}

async fn is_ready(session: &mut Session) {
    let is_ready = |said: &Said| matches!(said, Said::Heartbeat { address, .. } if !address.is_empty());
    session.hear("an address", is_ready).await;
}

fn finish(stand_by: bool) -> Order {
    Order::Finish(FinishOrder { reason: "the test says so".to_owned(), stand_by })
}

#[tokio::test]
async fn a_worker_begins_again_as_a_new_process_until_it_is_sent_home() {
    be_a_worker();
    let (mut coordinator, cache) = (Coordinator::start().await, tempfile::tempdir().unwrap());
    let test = "a_worker_begins_again_as_a_new_process_until_it_is_sent_home";
    let worker = worker(test, &coordinator, cache.path());
    let pid = worker.id();

    let mut first = coordinator.session().await;
    first.pool().await;
    first.welcome(1, 1).await;
    is_ready(&mut first).await;
    first.order(finish(true)).await;

    // Nothing of the former one is left: it is at no run and has heard of no term.
    let mut second = coordinator.session().await;
    assert_eq!((second.pid, &*second.run, second.term), (pid, "", 0));
    assert_ne!(second.incarnation, first.incarnation);
    second.welcome(2, 1).await;
    is_ready(&mut second).await;
    drop(second);
    // A run that goes on without it is a failure, and the process after it comes all the same.
    let lost = coordinator.session().await;
    assert_eq!(&*lost.run, "run");
    let before = lost.incarnation;
    lost.refuse(tonic::Code::NotFound).await;

    let third = coordinator.session().await;
    assert_eq!((third.pid, &*third.run, third.term), (pid, "", 0));
    assert_ne!(third.incarnation, before);
    third.pool().await;
    third.order(finish(false)).await;
    assert_eq!(exit_code(worker).await, Some(0));
}

#[tokio::test]
async fn a_pooled_worker_ends_at_once_when_it_is_told_to() {
    be_a_worker();
    let (mut coordinator, cache) = (Coordinator::start().await, tempfile::tempdir().unwrap());
    let worker = worker("a_pooled_worker_ends_at_once_when_it_is_told_to", &coordinator, cache.path());
    coordinator.session().await.pool().await;
    kill_process(Pid::from_child(&worker), Signal::TERM).unwrap();
    assert_eq!(exit_code(worker).await, Some(143));
}
