//! What a driver promises to those who speak to it, and what it leaves behind.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_core::{
    Attached, CheckpointEntry, Generation, Heartbeat, History, Origin, Start, Term, WorkerBounds,
};

use super::commands::Joined;
use super::fixtures::*;
use super::*;
use crate::journal::Journal;

const DEADLINE: Duration = Duration::from_secs(20);

impl Driven {
    async fn join(&self, worker: &str, incarnation: u64) -> Result<Joined, Reject> {
        self.driver.join(worker.into(), info(incarnation), None).await
    }
}

/// All messages until the session ends.
async fn told(mut joined: Joined) -> Vec<Message> {
    let all = async {
        let mut messages = Vec::new();
        while let Some(message) = joined.inbox.recv().await {
            messages.push(message);
        }
        messages
    };
    tokio::time::timeout(DEADLINE, all).await.expect("the session ends in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_keeps_its_place_and_its_old_sessions_end_changes_nothing() {
    let driven = Driven::start(2);
    let first = driven.join("a", 1).await.unwrap();
    let second = driven.join("a", 1).await.unwrap();
    let session = second.session;
    assert_ne!(first.session, session);
    let welcome = Message::Welcome { term: Term(1), lease_ms: spec(2).lease_ms };
    driven.driver.detached("a".into(), first.session).await;
    assert_eq!(told(first).await, [welcome], "the old session ends");
    // Its name would be free if it counted as detached.
    assert!(matches!(driven.join("a", 2).await, Err(Reject::NameTaken { .. })));
    driven.driver.detached("a".into(), session).await;
    driven.join("a", 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_a_name_is_not_shown_the_door_in_the_place_of_its_predecessor() {
    let mut driven = Driven::start(2);
    let first = driven.join("a", 1).await.unwrap();
    driven.driver.detached("a".into(), first.session).await;
    let second = driven.join("a", 2).await.unwrap();
    let lost = |notice| matches!(notice, Notice::Entry(Entry::WorkerLost { .. })).then_some(());
    driven.notice(lost).await;
    driven.driver.status().await.unwrap();
    assert!(!second.inbox.is_closed());
    assert_eq!(told(first).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_workers_session_is_closed_and_its_last_words_are_kept() {
    let mut driven = Driven::start(2);
    let log: String = (0..20).map(|line| format!("line {line}\n")).collect();
    std::fs::write(driven.path().join("logs/a.log"), log).unwrap();
    let joined = driven.join("a", 1).await.unwrap();
    let lost = Event::WorkerLost { worker: "a".into(), reason: "gone".to_owned() };
    driven.driver.event(lost).await.unwrap();
    assert_eq!(told(joined).await.len(), 1, "the welcome, then the end");
    let disconnected = |notice| match notice {
        Notice::Disconnected { worker } => Some(worker),
        _ => None,
    };
    assert_eq!(driven.notice(disconnected).await, "a".into());
    let logs = driven.entries().into_iter().filter_map(|entry| match entry {
        Entry::WorkerLost { log, .. } => Some(log),
        _ => None,
    });
    let logs: Vec<Vec<String>> = logs.collect();
    assert_eq!(logs.len(), 1);
    assert_eq!((logs[0].len(), logs[0][14].as_str()), (15, "line 19"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_take_its_messages_counts_as_detached() {
    let driven = Driven::start(2);
    let deaf = driven.join("a", 1).await.unwrap();
    for _ in 0..40 {
        let stored = Event::CheckpointStored { position: position(0), size_bytes: 1 };
        driven.driver.event(stored).await.unwrap();
    }
    driven.join("a", 2).await.expect("its name is free");
    assert_eq!(told(deaf).await.len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_meets_a_newer_term_acts_no_more() {
    let driven = Driven::start(2);
    let joined = driven.join("a", 1).await.unwrap();
    let attached = Some(Attached { term: Term(7) });
    let answer = driven.driver.join("b".into(), info(2), attached).await;
    let fenced = Reject::Fenced { own: Term(1), newest: Term(7) };
    assert_eq!(answer.unwrap_err(), fenced);
    let error = driven.driving.await.unwrap().unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&fenced));
    assert_eq!(told(joined).await.len(), 1);
    assert_eq!(driven.driver.event(Event::StopRequested).await, Err(Reject::RunOver));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_follows_without_a_record_and_says_at_the_end_how_it_ended() {
    let driven = Driven::start(2);
    let path = driven.path().join("run.json");
    let status = || -> serde_json::Value {
        std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    };
    let _joined = driven.join("a", 1).await.unwrap();
    let shown = async {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        while status()["live"]["workers"][0]["worker"] != "a" {
            pause.tick().await;
        }
    };
    let shown = tokio::time::timeout(DEADLINE, shown).await;
    shown.unwrap_or_else(|_| panic!("run.json shows the worker in time: {}", status()));
    driven.driver.stop().await.unwrap();
    let (outcome, folder, _run) = driven.driving.await.unwrap().unwrap();
    assert!(matches!(outcome, Outcome::Stopped { .. }));
    assert_eq!(status()["status"], "stopped");
    drop(folder);
}

/// A run whose workers and coordinator are all gone, taken over by another coordinator; `known` are the checkpoints that
/// its journal knows, `on_disk` those that are there.
fn taken_over(known: &[u64], on_disk: &[u64], damaged: &[u64]) -> Driven {
    let home = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(home.path(), RUN).unwrap();
    let store = folder.checkpoints();
    on_disk.iter().for_each(|step| store_checkpoint(store, *step));
    for step in damaged {
        damage(&store.path(Step(*step)).join("model.safetensors"));
    }
    let created = Entry::Created { spec: spec(1), origin: Origin::default() };
    let stored = known
        .iter()
        .map(|step| Entry::CheckpointStored(CheckpointEntry { position: position(*step), size_bytes: 1 }));
    let entries: Vec<Entry> = std::iter::once(created).chain(stored).collect();
    Journal::open(&home.path().join("journal.db")).unwrap().append(RUN, now(), &entries).unwrap();
    let history = History::from_entries(entries).unwrap();
    let (run, effects) = Run::take_over(now(), history, WorkerBounds::fixed(1), 9, BTreeSet::new());
    Driven::drive(home, folder, run, effects)
}

/// What a lone worker without a replica is told to begin with.
async fn begin(driven: &Driven) -> lockstep_core::Begin {
    let mut joined = driven.join("a", 1).await.unwrap();
    driven.driver.event(ready("a", Heartbeat { sequence: 1, ..Heartbeat::default() })).await.unwrap();
    let mut sequence = 1;
    let begin = async {
        loop {
            match joined.inbox.recv().await.expect("the session lasts") {
                Message::Prepare { generation, .. } => {
                    sequence += 1;
                    let beat = Heartbeat { sequence, prepared: generation, ..Heartbeat::default() };
                    driven.driver.tell(ready("a", beat)).await;
                }
                Message::Begin(begin) => return begin,
                _ => {}
            }
        }
    };
    tokio::time::timeout(DEADLINE, begin).await.expect("it is told to begin in time")
}

fn resumed(driven: &Driven) -> (u64, Vec<Step>) {
    let resumed = driven.entries().into_iter().find_map(|entry| match entry {
        Entry::Resumed { position, damaged } => Some((position.step.0, damaged)),
        _ => None,
    });
    resumed.expect("the journal says where the run went on")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_replica_the_run_goes_on_from_the_newest_checkpoint_that_is_whole() {
    let driven = taken_over(&[5, 7], &[5, 7], &[7]);
    let begin = begin(&driven).await;
    assert_eq!((begin.start, begin.position), (Start::Checkpoint(Step(5)), position(5)));
    assert_eq!(begin.generation, Generation(1));
    assert_eq!(resumed(&driven), (5, vec![Step(7)]));
    assert_eq!(driven.store.steps().unwrap(), [Step(5)], "the damaged one is set aside");
    assert!(driven.path().join("checkpoints/step-00000007.damaged").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_checkpoint_whose_record_a_crash_has_lost_is_found_again() {
    let driven = taken_over(&[5], &[5, 9], &[]);
    assert_eq!(begin(&driven).await.start, Start::Checkpoint(Step(9)));
    assert_eq!(resumed(&driven), (9, vec![]));
    let stored = Entry::CheckpointStored(CheckpointEntry {
        position: position(9),
        size_bytes: (MODEL.len() + OPTIMIZER.len()) as u64,
    });
    assert!(driven.entries().contains(&stored));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_whose_deletion_a_crash_has_cut_short_is_deleted_and_not_stored_again() {
    // Three are kept.
    let driven = taken_over(&[5, 7, 9], &[3, 5, 7, 9], &[]);
    assert_eq!(begin(&driven).await.start, Start::Checkpoint(Step(9)));
    assert_eq!(driven.store.steps().unwrap(), [Step(5), Step(7), Step(9)]);
    let stored = |entry: &Entry| match entry {
        Entry::CheckpointStored(stored) => Some(stored.position.step.0),
        _ => None,
    };
    assert_eq!(driven.entries().iter().filter_map(stored).collect::<Vec<_>>(), [5, 7, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_whole_checkpoint_the_run_starts_again() {
    let driven = taken_over(&[5, 7], &[7], &[7]);
    assert_eq!(begin(&driven).await.start, Start::Initial);
    assert_eq!(resumed(&driven), (0, vec![Step(5), Step(7)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_not_asked_for_again_unless_it_is_gone() {
    let driven = Driven::start(1);
    assert_eq!(driven.driver.admit_upload(position(5)).await, Ok(Upload::Wanted { metric: None }));
    store_checkpoint(&driven.store, 5);
    let stored = Event::CheckpointStored { position: position(5), size_bytes: 1 };
    driven.driver.event(stored).await.unwrap();
    assert_eq!(driven.driver.admit_upload(position(5)).await, Ok(Upload::Stored));
    std::fs::remove_dir_all(driven.store.path(Step(5))).unwrap();
    assert_eq!(driven.driver.admit_upload(position(5)).await, Ok(Upload::Wanted { metric: None }));
    let beyond = lockstep_core::Position { epoch: lockstep_core::Epoch(3), step: Step(5) };
    assert_eq!(driven.driver.admit_upload(beyond).await, Err(Reject::Beyond { position: beyond }));
}
