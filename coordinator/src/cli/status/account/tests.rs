//! Accounts of journals that tell of a loss and a slow worker.

use lockstep_core::{Cause, Epoch, Origin, Restore, RunSpec, SelectSpec};

use super::*;

fn spec() -> RunSpec {
    RunSpec {
        workers: WorkerBounds { min: 1, start: 2, max: 3 },
        shards: 3,
        epochs: 2,
        steps_per_epoch: 10,
        eval_samples: 5,
        test_samples: 5,
        eval_block: 5,
        select: SelectSpec { split: Split::Val, restore: Restore::Never, patience: 0 },
        ema: false,
        keep: 1,
        join_timeout_ms: 1,
        lease_ms: 1,
    }
}

fn began(generation: u64, names: &[&str], step: u64) -> Entry {
    let member = |name: &&str| MemberEntry {
        worker: WorkerName::from(*name),
        device: "cpu".into(),
        host: "here".into(),
        pid: 7,
        shards: (0, 1),
    };
    Entry::GenerationBegan {
        generation: Generation(generation),
        members: names.iter().map(member).collect(),
        position: at(step),
    }
}

fn at(step: u64) -> Position {
    Position { epoch: Epoch(0), step: Step(step) }
}

fn journal() -> Vec<(Time, Entry)> {
    let receipt = Receipt {
        generation: Generation(2),
        cause: Cause::Loss,
        culprit: Some("worker-1".into()),
        reason: "worker-1: its process ended".into(),
        position: at(4),
        detect_ms: 1,
        halt_ms: 2,
        agree_ms: 3,
        connect_ms: 4,
        state_ms: 5,
        first_step_ms: 6,
        total_ms: 21,
        steps_lost: 1,
    };
    let lost = Entry::WorkerLost {
        worker: "worker-1".into(),
        generation: Generation(1),
        reason: "its process ended (exit code 1)".into(),
        log: Vec::new(),
    };
    let slow = Entry::Straggler {
        worker: "worker-0".into(),
        generation: Generation(2),
        shard_ms: 9.0,
        others_ms: 3.0,
    };
    let entries = [
        Entry::Created { spec: spec(), origin: Origin::default() },
        began(1, &["worker-0", "worker-1"], 0),
        lost,
        began(2, &["worker-0"], 4),
        Entry::GenerationStarted(receipt),
        slow,
    ];
    entries.into_iter().enumerate().map(|(at, entry)| (Time(1_000 * at as u64), entry)).collect()
}

/// The journal as `events.jsonl` has it.
pub(in crate::cli) fn journal_text() -> String {
    let line = |(Time(at_ms), entry): (Time, Entry)| {
        let mut line = serde_json::to_value(entry).unwrap();
        line["at_ms"] = at_ms.into();
        format!("{line}\n")
    };
    journal().into_iter().map(line).collect()
}

/// Of a run that goes on.
pub(in crate::cli::status) fn running() -> Account {
    let live = serde_json::json!({
        "phase": "training", "reason": "", "position": { "epoch": 0, "step": 8 },
        "workers": [{ "worker": "worker-0", "position": { "epoch": 0, "step": 8 }, "step_ms": 50.0 }],
    });
    let serving = Serving {
        address: "127.0.0.1:7".parse().unwrap(),
        worker_url: "http://127.0.0.1:7".into(),
        pid: 1,
        term: Term(1),
        started_at_ms: Time(0),
    };
    Account::from_parts("a", journal(), &live, Some(serving)).unwrap()
}

#[test]
fn a_run_that_goes_on_is_told_of_with_every_change_and_its_cost() {
    let json = serde_json::to_value(running()).unwrap();
    assert_eq!((&json["status"], &json["phase"]), (&"running".into(), &"training".into()));
    assert_eq!((&json["generation"], &json["term"]), (&2.into(), &1.into()));
    assert_eq!(json["position"]["step"], 8);
    assert_eq!(json["members"][0]["worker"], "worker-0");
    assert_eq!(json["members"][0]["live"]["step_ms"], 50.0);
    assert_eq!(json["generations"].as_array().unwrap().len(), 2);
    assert!(json["generations"][0]["receipt"].is_null());
    let receipt = &json["generations"][1]["receipt"];
    assert_eq!(
        (&receipt["cause"], &receipt["total_ms"], &receipt["at_ms"]),
        (&"loss".into(), &21.into(), &4_000.into())
    );
    assert_eq!(json["lost"][0]["worker"], "worker-1");
    assert_eq!(json["stragglers"][0]["shard_ms"], 9.0);
}

#[test]
fn a_run_whose_coordinator_is_gone_stands_where_its_checkpoints_do() {
    let live = serde_json::json!({ "phase": "training", "position": { "epoch": 0, "step": 8 } });
    let account = Account::from_parts("a", journal(), &live, None).unwrap();
    assert_eq!((account.status, account.position), ("interrupted", at(0)));
    assert!(account.reason.contains("lockstep resume a") && account.phase.is_empty());
}

#[test]
fn an_ended_run_tells_how() {
    let mut entries = journal();
    let outcome = Outcome::Failed { reason: "no luck".into(), kind: lockstep_core::FailureKind::Run };
    entries.push((Time(9), Entry::Ended { outcome }));
    let account = Account::from_parts("a", entries, &Value::Null, None).unwrap();
    assert_eq!((account.status, account.reason.as_str()), ("failed", "no luck"));
}

#[test]
fn a_journal_without_a_beginning_gives_no_account() {
    assert!(Account::from_parts("a", vec![(Time(0), Entry::StopRequested)], &Value::Null, None).is_none());
}
