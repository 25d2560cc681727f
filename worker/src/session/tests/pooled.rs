//! A coordinator with a pool: workers wait there between runs.

use std::io::Write;

use tonic::Code;

use super::*;

#[tokio::test]
async fn a_pooled_worker_waits_on_its_session_until_a_run_wants_it_and_stands_by_after_it() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (outcome, ()) = outcome(&mut bench, Script::Silent, async |_, _| {
        let mut session = coordinator.session().await;
        assert_eq!(session.run, "");
        assert!(session.memory_bytes > 0);
        session.pool().await;
        // What holds for a welcome that follows at once holds for one after another word of waiting.
        session.pool().await;
        session.says_nothing();
        session.welcome(1, 1).await;
        begun(&mut session, 1).await;
        session.order(stand_by()).await;
        session.ended().await;
    })
    .await;
    assert!(matches!(outcome, Outcome { result: Ok(Over::StandBy), stands_by: true }), "{outcome:?}");
}

#[tokio::test]
async fn a_worker_that_a_run_takes_at_once_stands_by_when_it_is_told_so() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (outcome, ()) = outcome(&mut bench, Script::Silent, async |_, _| {
        let session = coordinator.welcome(1).await;
        session.order(stand_by()).await;
    })
    .await;
    assert!(matches!(outcome, Outcome { result: Ok(Over::StandBy), stands_by: true }), "{outcome:?}");
}

#[tokio::test]
async fn a_pooled_worker_joins_again_for_as_long_as_it_takes() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    // None of these count while it waits.
    bench.settings.patience = Duration::ZERO;
    let (outcome, ()) = outcome(&mut bench, Script::Silent, async |_, _| {
        let first = coordinator.session().await;
        first.pool().await;
        let incarnation = first.incarnation;
        drop(first);
        for code in [Code::Unavailable, Code::AlreadyExists, Code::Aborted] {
            coordinator.session().await.refuse(code).await;
        }
        let again = coordinator.session().await;
        assert_eq!((again.incarnation, &*again.run), (incarnation, ""));
        again.pool().await;
        again.order(finish()).await;
    })
    .await;
    assert!(matches!(outcome, Outcome { result: Ok(Over::Done), stands_by: true }), "{outcome:?}");
}

#[tokio::test]
async fn who_waits_for_one_run_alone_gives_up_with_it() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    bench.settings.patience = Duration::ZERO;
    let (outcome, ()) = outcome(&mut bench, Script::Silent, async |_, _| {
        let session = coordinator.session().await;
        session.pool_of_one_run().await;
        drop(session);
        coordinator.session().await.refuse(Code::Unavailable).await;
    })
    .await;
    assert!(!outcome.stands_by);
    assert!(outcome.result.unwrap_err().to_string().contains("refused by the test"));
}

#[tokio::test]
async fn a_drained_worker_ends_for_good() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    bench.settings.stands_by = true;
    let (outcome, ()) = outcome(&mut bench, Script::Silent, async |_, _| {
        // Without a word of waiting before.
        coordinator.session().await.order(finish()).await;
    })
    .await;
    assert!(matches!(outcome.result, Ok(Over::Done)), "{outcome:?}");
}

#[tokio::test]
async fn a_signal_ends_a_pooled_worker_at_once() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (outcome, ()) = outcome(&mut bench, Script::Silent, async |_, signals| {
        let session = coordinator.session().await;
        session.pool().await;
        signals.send(StopSignal::Terminate).await.unwrap();
        session.ended().await;
    })
    .await;
    assert!(matches!(outcome.result, Err(SessionError::Stopped(StopSignal::Terminate))), "{outcome:?}");
}

#[tokio::test]
async fn a_refusal_for_good_ends_the_wait_and_says_why() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (outcome, ()) = outcome(&mut bench, Script::Silent, async |_, _| {
        let session = coordinator.session().await;
        session.pool().await;
        drop(session);
        coordinator.session().await.refuse(Code::FailedPrecondition).await;
    })
    .await;
    assert!(outcome.stands_by);
    let error = outcome.result.unwrap_err();
    assert_eq!(error.to_string(), "the coordinator refused: refused by the test");
}

#[tokio::test]
async fn a_worker_that_comes_back_says_where_it_was_and_stands_by_when_that_is_no_more() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (outcome, ()) = outcome(&mut bench, Script::Silent, async |_, _| {
        let mut session = coordinator.welcome(1).await;
        ready(&mut session).await;
        drop(session);
        let session = coordinator.session().await;
        assert_eq!((session.term, &*session.run), (1, "run"));
        session.pool().await;
    })
    .await;
    assert!(outcome.stands_by);
    let error = outcome.result.unwrap_err();
    assert_eq!(error.to_string(), "the coordinator has come back without a place for this worker in run");
}

#[tokio::test]
async fn log_lines_go_to_a_coordinator_that_keeps_them_from_the_first_on_and_across_connections() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let tail = bench.settings.logs.clone();
    let log = |line: &str| tail.clone().write_all(line.as_bytes()).unwrap();
    log("starting\n");
    let (outcome, ()) = outcome(&mut bench, Script::Silent, async |_, _| {
        let mut session = coordinator.session().await;
        session.pool_keeping_logs().await;
        let logged = |lines: &str| Said::Logged { lines: lines.to_owned() };
        session.hear("the first line", |said| *said == logged("starting\n")).await;
        drop(session);
        let mut session = coordinator.session().await;
        log("while nobody listened\n");
        session.pool_keeping_logs().await;
        session.hear("what was missed", |said| *said == logged("while nobody listened\n")).await;
        // The run's coordinator does not want them.
        session.welcome(1, 1).await;
        ready(&mut session).await;
        log("not wanted\n");
        session.order(stand_by()).await;
        session.ended().await;
    })
    .await;
    assert!(matches!(outcome.result, Ok(Over::StandBy)), "{outcome:?}");
    assert_eq!(tail.take(), None);
}
