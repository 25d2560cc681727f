//! Probes and metrics as they come over the wire.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::server::{Patience, serve_within};
use super::*;
use crate::cluster::{Cluster, Submission};
use crate::home::Home;

const DEADLINE: Duration = Duration::from_secs(60);

/// A coordinator's port of probes.
struct Port {
    address: SocketAddr,
    handle: ClusterHandle,
    /// Of a cluster whose loop hangs.
    _hung: Option<Cluster>,
    serving: Option<JoinHandle<anyhow::Result<()>>>,
    shutdown: CancellationToken,
    home: TempDir,
}

impl Port {
    async fn of(serves: bool, refused: Option<Arc<dyn Refused>>) -> Self {
        Self::within(Patience { request: DEADLINE, all: DEADLINE }, serves, refused).await
    }

    async fn within(patience: Patience, serves: bool, refused: Option<Arc<dyn Refused>>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (cluster, handle) =
            Cluster::open(Home::open(home.path()).unwrap(), "127.0.0.1:1".parse().unwrap()).unwrap();
        let shutdown = CancellationToken::new();
        let (hung, serving) = match serves {
            true => (None, Some(tokio::spawn(cluster.serve(shutdown.clone())))),
            false => (Some(cluster), None),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let operation = Operation::new(handle.clone(), refused, None);
        tokio::spawn(serve_within(patience, listener, operation, shutdown.clone()));
        Self { address, handle, _hung: hung, serving, shutdown, home }
    }

    async fn say(&self, words: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut answer = Vec::new();
        // A server that refuses may close with something unread.
        drop(stream.write_all(words.as_bytes()).await);
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8(answer).unwrap()
    }

    /// Status and body.
    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.say(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn end(self) {
        self.shutdown.cancel();
        if let Some(serving) = self.serving {
            serving.await.unwrap().unwrap();
        }
    }
}

fn submission(name: &str) -> Submission {
    Submission {
        recipe: "data.name = \"shapes\"\n".to_owned(),
        name: Some(name.to_owned()),
        priority: 0,
        requirements: crate::convert::requirements(None).unwrap(),
        submitter: "somebody".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_serves_is_healthy_ready_and_counts() {
    let port = Port::of(true, None).await;
    assert_eq!(port.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(port.get("/readyz").await, (200, "ok\n".to_owned()));
    for run in ["first-run", "second-run"] {
        port.handle.submit(submission(run)).await.unwrap();
    }
    port.handle.stop(&"first-run".into()).await.unwrap();
    let (status, text) = port.get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "lockstep_cluster_answers 1",
        r#"lockstep_runs{state="queued"} 1"#,
        r#"lockstep_runs{state="running"} 0"#,
        r#"lockstep_runs_ended_total{outcome="stopped"} 1"#,
        r#"lockstep_runs_ended_total{outcome="done"} 0"#,
        r#"lockstep_workers{state="free",device="cpu"} 0"#,
        r#"lockstep_generations_total{cause="loss"} 0"#,
        "lockstep_steps_total 0",
        "lockstep_checkpoints_stored_bytes_total 0",
        "lockstep_submit_duration_seconds_count 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(
        text.contains(&format!("lockstep_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    for secret in ["first-run", "second-run", "somebody", &*port.home.path().to_string_lossy()] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
    port.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_series_has_our_prefix_a_type_and_a_number() {
    let port = Port::of(true, None).await;
    let (_, text) = port.get("/metrics").await;
    let mut types = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            assert!(types.insert(described.split(' ').next().unwrap()), "{line} twice");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let of_histogram = ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end));
            let typed = of_histogram.chain([name]).any(|name| types.contains(name));
            assert!(name.starts_with("lockstep_") && typed, "{line}");
            assert!(value.parse::<f64>().is_ok_and(|value| value >= 0.0), "{line}");
        }
    }
    let memory = text.lines().find_map(|line| line.strip_prefix("lockstep_process_resident_memory_bytes "));
    assert!(memory.unwrap().parse::<u64>().unwrap() > 1 << 20);
    port.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_hangs_is_healthy_but_not_ready_and_its_numbers_are_left_out() {
    let port = Port::of(false, None).await;
    assert_eq!(port.get("/healthz").await.0, 200);
    let (status, why) = port.get("/readyz").await;
    assert_eq!((status, &*why), (503, "not ready: the cluster's loop does not answer within a second\n"));
    let (status, text) = port.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("lockstep_cluster_answers 0\n") && !text.contains("lockstep_runs{"), "{text}");
    port.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_written_is_not_ready_until_it_can() {
    let port = Port::of(true, None).await;
    let other = rusqlite::Connection::open(port.home.path().join("journal.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (status, why) = port.get("/readyz").await;
    assert_eq!((status, &*why), (503, "not ready: the journal's disk does not write within a second\n"));
    other.execute_batch("ROLLBACK").unwrap();
    let began = Instant::now();
    while port.get("/readyz").await.0 != 200 {
        assert!(began.elapsed() < DEADLINE, "it stays so");
    }
    port.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_three_pages_can_be_got() {
    let port = Port::of(true, None).await;
    assert_eq!(port.get("/").await.0, 404);
    assert_eq!(port.get("/metrics/../healthz").await.0, 404);
    for method in ["POST", "HEAD", "DELETE"] {
        let answer = port.say(&format!("{method} /healthz HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("allow: GET\r\n"), "{answer}");
    }
    let long = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    assert!(!port.say(&long).await.contains("200 OK"));
    let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(500));
    assert!(!port.say(&many).await.contains("200 OK"));
    assert!(!port.say("\0\0\0\r\n\r\n").await.contains("200 OK"));
    assert_eq!(port.get("/healthz").await.0, 200, "it serves on");
    port.end().await;
}

#[tokio::test]
async fn who_does_not_come_to_an_end_is_shown_the_door() {
    let moment = Duration::from_millis(50);
    for patience in [Patience { request: moment, all: DEADLINE }, Patience { request: DEADLINE, all: moment }]
    {
        let port = Port::within(patience, false, None).await;
        let mut slow = TcpStream::connect(port.address).await.unwrap();
        slow.write_all(b"GET /healthz HTTP/1.1\r\nX:").await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(DEADLINE / 2, slow.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "it is waited for: {patience:?}");
        assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
        port.end().await;
    }
}

#[tokio::test]
async fn more_than_a_few_connections_are_turned_away_and_the_places_come_back() {
    let port = Port::of(false, None).await;
    let mut idle = Vec::new();
    for _ in 0..64 {
        idle.push(TcpStream::connect(port.address).await.unwrap());
    }
    let mut turned_away = TcpStream::connect(port.address).await.unwrap();
    assert!(matches!(turned_away.read(&mut [0]).await, Ok(0) | Err(_)), "it has a place");
    drop(idle);
    let began = Instant::now();
    while !port.say("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.contains("200 OK") {
        assert!(began.elapsed() < DEADLINE, "there is no place again");
    }
    port.end().await;
}

#[derive(Debug)]
struct Guesses;

impl Refused for Guesses {
    fn by_reason(&self) -> Vec<(&'static str, u64)> {
        vec![("expired", 2), ("bad_token", 0)]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_told_by_reason() {
    let port = Port::of(true, Some(Arc::new(Guesses))).await;
    let (_, text) = port.get("/metrics").await;
    for line in [
        r#"lockstep_credentials_refused_total{reason="expired"} 2"#,
        r#"lockstep_credentials_refused_total{reason="bad_token"} 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    port.end().await;
}
