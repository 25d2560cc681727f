//! Watching: its lines, how it ends, and that a coordinator which is started again does not end it.

use std::future::{pending, ready};

use super::{SOON, Written, start, told};
use crate::cli::remote::watch::{Screen, Watched, conclude, follow};
use crate::cli::{CliError, code};
use crate::client::fake::{self, Coordinator, State, WatchEnd};
use crate::client::{FailureKind, RunClient, RunState, RunSummary};

fn queued() -> RunSummary {
    let waits_for = "waits for 1 more worker (0 of 1 is free)".into();
    RunSummary { queue_position: Some(2), waits_for, ..fake::run("first", RunState::Queued) }
}

fn running(epoch: u32, workers: &[&str]) -> RunSummary {
    let workers = workers.iter().map(|&name| name.to_owned()).collect();
    let step = u64::from(epoch) * 10 + 3;
    let best_accuracy = (epoch > 0).then_some(0.5);
    RunSummary { epoch, step, workers, best_accuracy, ..fake::run("first", RunState::Running) }
}

fn over(state: RunState) -> RunSummary {
    let (started_at_ms, ended_at_ms) = (Some(1_000), Some(188_000));
    RunSummary { started_at_ms, ended_at_ms, step: 40, ..fake::run("first", state) }
}

async fn watching(watches: Vec<(Vec<RunSummary>, WatchEnd)>) -> (Coordinator, RunClient) {
    let runs = vec![fake::run("first", RunState::Running)];
    start(State { runs, watches: watches.into(), ..State::default() }).await
}

/// What went to stdout and stderr, and how it ended.
async fn watched(client: &RunClient, json: bool) -> (String, String, Result<Watched, CliError>) {
    let (out, notes) = (Written::default(), Written::default());
    let mut screen = Screen::of_writers(json, Box::new(out.clone()), Box::new(notes.clone()));
    let watched = follow(client, "first", &mut screen, SOON, pending()).await;
    (out.text(), notes.text(), watched)
}

#[tokio::test]
async fn a_line_tells_of_every_change_and_none_of_what_stays() {
    let course = vec![
        queued(),
        queued(),
        fake::run("first", RunState::Preparing),
        running(0, &["w-1"]),
        running(0, &["w-1"]),
        running(1, &["w-1"]),
        running(1, &["w-1", "w-2"]),
        RunSummary { left_ms: Some(187_000), ..running(2, &["w-1", "w-2"]) },
        RunSummary { best_accuracy: Some(0.712), ..over(RunState::Done) },
    ];
    let (_coordinator, client) = watching(vec![(course, WatchEnd::Lasts)]).await;
    let (out, notes, ended) = watched(&client, false).await;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines,
        [
            "first: queued #2: waits for 1 more worker (0 of 1 is free)",
            "first: preparing: its data and weights are being looked at",
            "first: running on w-1",
            "first: 1 epoch of 10, best 50.00 %",
            "first: running on w-1, w-2",
            "first: 2 epochs of 10, best 50.00 %, 3m 07s left",
            "first: done after 3m 07s, best 71.20 %",
        ]
    );
    assert_eq!(notes, "");
    assert_eq!(conclude(&ended.unwrap(), "first"), Ok(0));
}

#[tokio::test]
async fn for_programs_every_message_is_a_line_of_json() {
    let course = vec![queued(), running(1, &["w-1"]), over(RunState::Done)];
    let (_coordinator, client) = watching(vec![(course, WatchEnd::Closes)]).await;
    let (out, ..) = watched(&client, true).await;
    let states: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["state"].take())
        .collect();
    assert_eq!(states, ["queued", "running", "done"]);
}

#[tokio::test]
async fn the_exit_code_is_the_runs() {
    let failed = |kind| RunSummary {
        failure_kind: Some(kind),
        reason: "worker gpu-3 lost: out of memory".into(),
        ..over(RunState::Failed)
    };
    for (run, code) in [
        (failed(FailureKind::Run), code::FAILED),
        (failed(FailureKind::Data), code::DATA),
        (failed(FailureKind::Cluster), code::CLUSTER),
        (failed(FailureKind::Worker), code::CLUSTER),
    ] {
        let (_coordinator, client) = watching(vec![(vec![run], WatchEnd::Closes)]).await;
        let (out, _, ended) = watched(&client, false).await;
        assert_eq!(out, "first: failed at step 40 of 100 after 3m 07s\n");
        let (told_code, text) = told(conclude(&ended.unwrap(), "first"));
        assert_eq!(told_code, code);
        assert!(
            text.starts_with("error: run first failed: worker gpu-3 lost: out of memory\nhint: "),
            "{text}"
        );
    }
    let stopped = Watched::Over(Box::new(over(RunState::Stopped)));
    assert_eq!(conclude(&stopped, "first"), Ok(code::TERMINATED));
}

#[tokio::test]
async fn a_person_who_has_seen_enough_leaves_the_run_alone() {
    let (coordinator, client) = watching(vec![(vec![running(1, &["w-1"])], WatchEnd::Lasts)]).await;
    let mut screen = Screen::of_writers(false, Box::new(Written::default()), Box::new(Written::default()));
    let watched = follow(&client, "first", &mut screen, SOON, ready(())).await.unwrap();
    assert_eq!(watched, Watched::Detached);
    assert_eq!(conclude(&watched, "first"), Ok(code::INTERRUPTED));
    assert_eq!(coordinator.state.lock().unwrap().runs[0].state, RunState::Running, "nobody stopped it");
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again() {
    let (_coordinator, client) = watching(vec![
        (vec![running(1, &["w-1"])], WatchEnd::Breaks),
        (vec![running(1, &["w-1"])], WatchEnd::Closes),
        (vec![over(RunState::Done)], WatchEnd::Closes),
    ])
    .await;
    let (out, notes, ended) = watched(&client, false).await;
    assert_eq!(conclude(&ended.unwrap(), "first"), Ok(0));
    assert_eq!(out, "first: running on w-1\nfirst: done after 3m 07s\n", "nothing is told twice");
    assert_eq!(notes.matches("trying again").count(), 2, "{notes}");
}

#[tokio::test]
async fn a_coordinator_that_stays_away_ends_the_watching() {
    let (_coordinator, client) = watching(vec![(vec![running(1, &["w-1"])], WatchEnd::Breaks)]).await;
    let (_, notes, ended) = watched(&client, false).await;
    let (code, text) = told(ended);
    assert_eq!(code, code::CLUSTER);
    assert!(text.contains("hint: the run may go on all the same: `lockstep watch first`"), "{text}");
    assert_eq!(notes.matches("trying again").count(), 1, "{notes}");
}

#[tokio::test]
async fn one_that_never_answered_is_not_waited_for_and_an_unknown_run_is_told_at_once() {
    let (coordinator, client) = watching(Vec::new()).await;
    let (_, notes, ended) = watched(&client, false).await;
    assert_eq!((told(ended).0, &*notes), (code::CLUSTER, ""));
    coordinator.state.lock().unwrap().runs[0].name = "firsty".into();
    let (code, text) = told(watched(&client, false).await.2);
    assert!(code == code::USAGE && text.contains("did you mean `firsty`?"), "{text}");
}
