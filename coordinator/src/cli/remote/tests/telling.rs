//! One run's status, its logs, and its way back into the queue.

use std::collections::HashMap;

use serde_json::Value;

use super::{SOON, Written, start, told, typed, with_runs};
use crate::cli::cluster::Workers;
use crate::cli::code;
use crate::cli::remote::logs::{LogsArgs, logs};
use crate::cli::remote::resume::{RemoteResume, resumed};
use crate::cli::remote::status::status;
use crate::cli::status::journal_text;
use crate::client::fake::{self, State};
use crate::client::{LogChunk, LogRequest, Requirements, RunState, RunSummary};

fn queued() -> RunSummary {
    let mut run = fake::run("first", RunState::Queued);
    run.queue_position = Some(3);
    run.waits_for = "can never be placed: it needs 4 cuda workers, and the pool has 2".into();
    run.requirements = Requirements {
        min_workers: 4,
        max_workers: 4,
        device_kind: Some("cuda".into()),
        memory_bytes: Some(16 << 30),
    };
    (run.submitter, run.priority) = ("alice".into(), 5);
    run
}

#[tokio::test]
async fn a_run_that_waits_tells_what_for_and_what_it_asks() {
    let (coordinator, client) = with_runs(vec![queued()]).await;
    let status = status(&client, "first").await.unwrap();
    let text = status.text();
    let rows: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(rows[0], "run first");
    assert_eq!(rows[1], "status queued, can never be placed: it needs 4 cuda workers, and the pool has 2");
    for row in [
        "queue number 3",
        "asked for 4 cuda workers of at least 16 GiB, priority 5",
        &format!("coordinator {}", coordinator.url),
    ] {
        assert!(rows.iter().any(|said| said == row), "{row}: {text}");
    }
    assert!(
        rows.iter().any(|row| row.starts_with("submitted ") && row.ends_with("by alice, 0s ago")),
        "{text}"
    );
    let json: Value = serde_json::from_str(&status.json().unwrap()).unwrap();
    assert_eq!((&json["name"], &json["status"]), (&"first".into(), &"queued".into()));
    assert!(json["reason"].as_str().unwrap().starts_with("can never be placed"));
    assert_eq!((&json["run"]["queue_position"], &json["run"]["submitter"]), (&3.into(), &"alice".into()));
}

#[tokio::test]
async fn a_run_that_has_begun_is_told_of_in_the_words_of_a_local_one() {
    let mut run = fake::run("a", RunState::Running);
    (run.step, run.steps_total, run.left_ms) = (8, 20, Some(41_000));
    let live = serde_json::json!({ "live": {
        "phase": "training", "reason": "", "position": { "epoch": 0, "step": 8 },
        "workers": [{ "worker": "worker-0", "position": { "epoch": 0, "step": 8 }, "step_ms": 50.0 }],
    }});
    let (coordinator, client) = with_runs(vec![run]).await;
    let files = [("events.jsonl", journal_text()), ("run.json", live.to_string())];
    let files = files.map(|(path, text)| (path.to_owned(), text.into_bytes()));
    coordinator.state.lock().unwrap().files.extend(files);
    let told = status(&client, "a").await.unwrap();
    let text = told.text();
    assert!(text.contains("status       running, training\n"), "{text}");
    assert!(text.contains("worker-0 on cpu, here, 50 ms a step\n"), "{text}");
    assert!(text.contains("progress     40 %, 41s left\n"), "{text}");
    assert!(text.contains("worker-1: its process ended"), "the receipts, too: {text}");
    let json: Value = serde_json::from_str(&told.json().unwrap()).unwrap();
    assert_eq!((&json["status"], &json["position"]["step"]), (&"running".into(), &8.into()));
    assert_eq!((&json["lost"][0]["worker"], &json["run"]["left_ms"]), (&"worker-1".into(), &41_000.into()));
    // What the coordinator says of the run's state counts, and not what its folder had last.
    coordinator.state.lock().unwrap().runs[0].state = RunState::Queued;
    let text = status(&client, "a").await.unwrap().text();
    assert!(text.contains("status       queued\n") && !text.contains("50 ms a step"), "{text}");
}

fn with_logs() -> State {
    let chunk = |source: &str, lines: &str| LogChunk {
        source: source.into(),
        lines: lines.into(),
        read_bytes: lines.len() as u64,
    };
    State {
        runs: vec![fake::run("first", RunState::Done)],
        logs: vec![chunk("coordinator", "begins\n"), chunk("w-1", "step 1\nstep 2\n")],
        ..State::default()
    }
}

#[tokio::test]
async fn logs_are_copied_each_line_with_its_source() {
    let (coordinator, client) = start(with_logs()).await;
    let mut out = Written::default();
    assert_eq!(logs(&client, &typed::<LogsArgs>("first"), SOON, &mut out).await, Ok(0));
    assert_eq!(out.text(), "coordinator  | begins\nw-1          | step 1\nw-1          | step 2\n");
    let mut out = Written::default();
    let args = typed::<LogsArgs>("first -f --worker w-1 --tail 2");
    assert_eq!(logs(&client, &args, SOON, &mut out).await, Ok(0));
    assert_eq!(out.text(), "step 1\nstep 2\n");
    let (run, worker) = ("first".into(), Some("w-1".into()));
    let asked = LogRequest { run, worker, follow: true, tail: Some(2), after: HashMap::new() };
    assert_eq!(coordinator.state.lock().unwrap().log_requests.last(), Some(&asked));
}

#[tokio::test]
async fn who_follows_goes_on_where_the_coordinator_went_away_and_hears_no_line_twice() {
    let (coordinator, client) = start(with_logs()).await;
    coordinator.state.lock().unwrap().runs[0].state = RunState::Running;
    let mut out = Written::default();
    let (code, text) = told(logs(&client, &typed::<LogsArgs>("first -f"), SOON, &mut out).await);
    assert!(code == code::CLUSTER && text.contains("`lockstep logs --follow first`"), "{text}");
    assert_eq!(out.text().matches("step 1").count(), 1, "{}", out.text());
    let requests = coordinator.state.lock().unwrap().log_requests.clone();
    assert_eq!((requests.len(), &requests[0].after), (1 + SOON.tries as usize, &HashMap::new()));
    assert_eq!(requests[1].after, [("coordinator".to_owned(), 7), ("w-1".to_owned(), 14)].into());
}

#[tokio::test]
async fn a_log_that_is_not_there_tells_whether_the_run_or_the_worker_is_meant() {
    let (_coordinator, client) = start(with_logs()).await;
    let (code, text) = told(logs(&client, &typed::<LogsArgs>("fist"), SOON, &mut Written::default()).await);
    assert!(code == code::USAGE && text.contains("did you mean `first`?"), "{text}");
    let args = typed::<LogsArgs>("first --worker w-9");
    let (code, text) = told(logs(&client, &args, SOON, &mut Written::default()).await);
    assert!(code == code::USAGE && text.contains("without --worker"), "{text}");
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (_coordinator, client) = start(with_logs()).await;
    assert_eq!(logs(&client, &typed::<LogsArgs>("first"), SOON, &mut Closed).await, Ok(0));
}

#[tokio::test]
async fn a_run_is_resumed_as_it_was_but_for_what_is_said() {
    let mut run = queued();
    (run.state, run.queue_position) = (RunState::Stopped, None);
    let requirements = run.requirements.clone();
    let (coordinator, client) = with_runs(vec![run]).await;
    let summary = resumed(&client, "first", &RemoteResume::default()).await.unwrap();
    assert_eq!(summary.state, RunState::Queued);
    coordinator.state.lock().unwrap().runs[0].state = RunState::Done;
    let asked = RemoteResume {
        epochs: Some(20),
        workers: Some(Workers::Between { min: 1, max: 2 }),
        priority: Some(-1),
        ..RemoteResume::default()
    };
    resumed(&client, "first", &asked).await.unwrap();
    let fewer = Requirements { min_workers: 1, max_workers: 2, ..requirements };
    let sent = [("first".into(), 0, 5, None), ("first".into(), 20, -1, Some(fewer))];
    assert_eq!(coordinator.state.lock().unwrap().resumes, sent);
}

#[tokio::test]
async fn a_run_that_goes_on_is_not_resumed() {
    let (_coordinator, client) = with_runs(vec![fake::run("first", RunState::Running)]).await;
    let (code, text) = told(resumed(&client, "first", &RemoteResume::default()).await);
    assert!(code == code::USAGE && text.contains("run first is not over"), "{text}");
}
