//! What crosses the wire arrives as what was meant.

use std::sync::Arc;

use lockstep_core::{Begin, Peer, Start, Verdict};

use super::*;

fn sent(message: Message) -> pb::session_response::Message {
    let plan = pb::Plan { run: "run".to_owned(), ..pb::Plan::default() };
    let terms = Terms { plan: &plan, keep_logs: true, stand_by: true };
    response(message, terms, |generation| vec![generation.0 as u8; 16]).message.unwrap()
}

fn begin(start: Start) -> pb::Begin {
    let peer = |name: &str, shards, has_state| Peer {
        worker: name.into(),
        address: format!("{name}:1"),
        shards,
        has_state,
    };
    let begin = Begin {
        generation: Generation(4),
        rank: 1,
        peers: Arc::new([peer("a", (0, 2), true), peer("b", (2, 3), false)]),
        position: Position { epoch: Epoch(2), step: Step(17) },
        start,
        judged: true,
        save: true,
        hold: false,
    };
    let pb::session_response::Message::Begin(begin) = sent(Message::Begin(begin)) else { panic!() };
    begin
}

#[test]
fn a_heartbeat_arrives_whole() {
    let beat = pb::Heartbeat {
        sequence: 8,
        address: "host:1".to_owned(),
        generation: 3,
        prepared: 4,
        position: Some(pb::Position { epoch: 1, step: 12 }),
        activity: pb::Activity::Exchanging.into(),
        waiting_on: "b".to_owned(),
        since_ms: 70,
        leaving: true,
        broken: Some(pb::Broken { blames: vec!["b".to_owned()], reason: "reset".to_owned() }),
    };
    let expected = core::Heartbeat {
        sequence: 8,
        address: "host:1".to_owned(),
        generation: Generation(3),
        prepared: Generation(4),
        position: Some(Position { epoch: Epoch(1), step: Step(12) }),
        activity: Activity::Exchanging { waiting_on: "b".into() },
        since_ms: 70,
        leaving: true,
        broken: Some(core::Broken { blames: vec!["b".into()], reason: "reset".to_owned() }),
    };
    let message = pb::session_request::Message::Heartbeat(beat);
    let event = event(&"a".into(), message).unwrap();
    assert_eq!(event, Event::Heartbeat { worker: "a".into(), heartbeat: expected });
}

#[test]
fn a_replica_at_the_very_start_differs_from_none() {
    let at = |position| heartbeat(pb::Heartbeat { position, ..pb::Heartbeat::default() }).position;
    assert_eq!(at(None), None);
    assert_eq!(at(Some(pb::Position::default())), Some(Position::default()));
}

#[test]
fn a_begin_says_where_the_replica_comes_from() {
    assert_eq!(begin(Start::Initial).start, None);
    assert_eq!(begin(Start::Checkpoint(Step(0))).start, Some(pb::begin::Start::CheckpointStep(0)));
    let begin = begin(Start::Peer { rank: 0 });
    assert_eq!(begin.start, Some(pb::begin::Start::SourceRank(0)));
    assert_eq!((begin.rank, begin.judged, begin.save, begin.hold), (1, true, true, false));
    assert_eq!(begin.token, [4; 16]);
    assert_eq!(begin.peers.iter().map(|peer| peer.has_state).collect::<Vec<_>>(), [true, false]);
    assert_eq!(begin.peers[1].shards, Some(pb::ShardRange { start: 2, end: 3 }));
}

#[test]
fn a_verdict_and_a_welcome_say_all_that_they_know() {
    let (generation, epoch) = (Generation(1), Epoch(2));
    let verdict = Verdict { generation, epoch, restore: None, save: false, keep: true, hold: false };
    let pb::session_response::Message::Verdict(verdict) = sent(Message::Verdict(verdict)) else { panic!() };
    assert_eq!((verdict.keep, verdict.save, verdict.hold, verdict.restore_step), (true, false, false, None));
    let welcome = Message::Welcome { term: Term(2), lease_ms: 3_000 };
    let pb::session_response::Message::Welcome(welcome) = sent(welcome) else { panic!() };
    assert_eq!((welcome.term, welcome.lease_ms, welcome.run.as_str()), (2, 3_000, "run"));
    assert!(welcome.keep_logs);
    let finish = Message::Finish { reason: "done".to_owned() };
    let pb::session_response::Message::Finish(finish) = sent(finish) else { panic!() };
    assert_eq!((finish.reason.as_str(), finish.stand_by), ("done", true));
}

#[test]
fn who_may_try_again_is_told_so() {
    let code = |reject: Reject| status(&reject).code();
    assert_eq!(code(Reject::Full { workers: 2 }), Code::Unavailable);
    assert_eq!(code(Reject::RunOver), Code::Unavailable);
    assert_eq!(code(Reject::NameTaken { worker: "a".into() }), Code::AlreadyExists);
    assert_eq!(code(Reject::Fenced { own: Term(1), newest: Term(2) }), Code::Aborted);
    assert_eq!(code(Reject::Beyond { position: Position::default() }), Code::FailedPrecondition);
}

#[test]
fn a_worker_that_was_told_nothing_yet_is_new() {
    let join = |term| pb::Join { term, incarnation: 9, ..pb::Join::default() };
    assert_eq!(attached(&join(0)), None);
    assert_eq!(attached(&join(3)), Some(Attached { term: Term(3) }));
    assert_eq!(worker_info(&join(3)).incarnation, 9);
}
