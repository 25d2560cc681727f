//! Orders come more than once, and too late.

use super::*;
use crate::client::EvaluateOrder;
use crate::client::fake::ENDLESS_STEP;

#[tokio::test]
async fn whatever_is_heard_twice_is_followed_once() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (result, ()) = session(&mut bench, Script::Silent, async |mut trainer, _| {
        let mut session = coordinator.welcome(1).await;
        begun(&mut session, 3).await;
        session.order(Order::Prepare { generation: 3, now: true }).await;
        session.order(begin(3)).await;
        session.order(begin(2)).await;
        let order = EvaluateOrder { generation: 3, split: Split::Test, weights_step: 7 };
        let is_report = |said: &Said| *said == Said::Eval { generation: 3 };
        session.order(Order::Evaluate(order)).await;
        session.hear("the evaluation", is_report).await;
        session.order(Order::Evaluate(order)).await;
        session.hear("the evaluation once more", is_report).await;
        session.order(finish()).await;
        session.ended().await;
        assert_eq!(trainer.all(), ["prepare 3", "begin 3", "evaluate with 7 bytes"]);
    })
    .await;
    result.unwrap();
}

#[tokio::test]
async fn a_pause_at_once_lets_a_download_go_and_a_patient_one_waits_for_it() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (result, ()) = session(&mut bench, Script::Silent, async |mut trainer, _| {
        let mut session = coordinator.welcome(1).await;
        begun(&mut session, 1).await;
        let endless =
            Order::Evaluate(EvaluateOrder { generation: 1, split: Split::Test, weights_step: ENDLESS_STEP });
        session.order(endless).await;
        session.order(Order::Prepare { generation: 2, now: false }).await;
        for _ in 0..5 {
            let said = session.hear("a heartbeat", |said| matches!(said, Said::Heartbeat { .. })).await;
            assert!(matches!(said, Said::Heartbeat { prepared: 1, .. }), "{said:?}");
        }
        session.order(Order::Prepare { generation: 2, now: true }).await;
        session.hear("the pause", |said| matches!(said, Said::Heartbeat { prepared: 2, .. })).await;
        session.order(begin_from(2, StartFrom::Checkpoint(9))).await;
        in_generation(&mut session, 2).await;
        session.order(finish()).await;
        session.ended().await;
        assert_eq!(trainer.all(), ["prepare 1", "begin 1", "prepare 2", "begin 2"]);
    })
    .await;
    result.unwrap();
}

#[tokio::test]
async fn heartbeats_go_on_by_themselves() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (result, ()) = session(&mut bench, Script::Silent, async |_, _| {
        let mut session = coordinator.welcome(1).await;
        for expected in 1..=5 {
            let is_later =
                |said: &Said| matches!(said, Said::Heartbeat { sequence, .. } if *sequence >= expected);
            session.hear("a heartbeat", is_later).await;
        }
        session.order(finish()).await;
    })
    .await;
    result.unwrap();
}

#[tokio::test]
async fn a_trainer_that_breaks_down_is_this_workers_failure() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (result, ()) = session(&mut bench, Script::Panics, async |_, _| {
        let mut session = coordinator.welcome(1).await;
        prepared(&mut session, 1).await;
        session.order(begin(1)).await;
        let failed = session.hear("the last word", |said| matches!(said, Said::Failed { .. })).await;
        let reason = "the trainer broke down: planted".to_owned();
        assert_eq!(failed, Said::Failed { reason, of_the_worker: true });
    })
    .await;
    assert!(matches!(result, Err(SessionError::Trainer { .. })), "{result:?}");
}
