//! A connection breaks and is made again.

use std::time::Duration;

use tonic::Code;

use super::super::joiner::Joiner;
use super::super::link::{Event, Link};
use super::super::pool::{self, Placed};
use super::*;
use crate::client::ClientError;

#[tokio::test]
async fn a_worker_comes_back_as_the_same_process_and_says_again_what_was_not_answered() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (result, ()) = session(&mut bench, Script::ReportsEpoch, async |mut trainer, _| {
        let mut first = coordinator.welcome(1).await;
        assert_eq!(first.term, 0);
        begun(&mut first, 1).await;
        let is_report = |said: &Said| *said == Said::Epoch { generation: 1, epoch: 0 };
        first.hear("the report", is_report).await;
        let incarnation = first.incarnation;
        drop(first);

        let mut second = coordinator.welcome(2).await;
        assert_eq!((second.incarnation, second.term), (incarnation, 1));
        in_generation(&mut second, 1).await;
        second.hear("the report after the return", is_report).await;
        second.hear("the report as long as it has no answer", is_report).await;
        second.order(verdict(1, 0)).await;
        second.order(verdict(1, 0)).await;
        let commands = [trainer.next().await, trainer.next().await, trainer.next().await];
        assert_eq!(commands, ["prepare 1", "begin 1", "verdict 0"]);
        second.order(finish()).await;
        second.ended().await;
        assert!(trainer.all().is_empty());
    })
    .await;
    result.unwrap();
}

#[tokio::test]
async fn a_coordinator_whose_term_is_over_is_turned_away() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (result, ()) = session(&mut bench, Script::Silent, async |_, _| {
        drop(coordinator.welcome(5).await);
        coordinator.welcome(4).await.ended().await;
        let session = coordinator.welcome(6).await;
        assert_eq!(session.term, 5);
        session.order(finish()).await;
    })
    .await;
    result.unwrap();
}

#[tokio::test]
async fn a_run_that_is_over_for_a_worker_ends_it() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (result, ()) = session(&mut bench, Script::Silent, async |_, _| {
        drop(coordinator.welcome(1).await);
        coordinator.session().await.refuse(Code::Unavailable).await;
        coordinator.session().await.refuse(Code::AlreadyExists).await;
        coordinator.session().await.refuse(Code::NotFound).await;
    })
    .await;
    let error = result.unwrap_err();
    assert!(matches!(&error, SessionError::Client(ClientError::Refused(_))), "{error}");
    assert_eq!(error.kind(), crate::trainer::FailureKind::Cluster);
}

#[tokio::test]
async fn who_was_sent_home_does_not_come_back_when_the_connection_ends() {
    let mut coordinator = Coordinator::start().await;
    let bench = Bench::new(&coordinator);
    let mut joiner = Joiner::new(&bench.settings);
    let (placed, session) = tokio::join!(pool::place(&mut joiner), coordinator.welcome(1));
    let Ok(Placed::InRun(welcomed)) = placed else { panic!("{placed:?}") };
    let mut link = Link::new(joiner, welcomed.welcome.plan.run, welcomed.incoming);
    session.order(stand_by()).await;
    let last = link.next().await;
    assert!(matches!(last, Ok(Event::Order(Order::Finish(_)))), "{last:?}");
    drop(session);
    let then = link.next().await;
    assert!(then.is_err(), "{then:?}");
}

#[tokio::test]
async fn a_run_that_goes_on_by_other_settings_needs_another_worker_and_is_told() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (result, ()) = session(&mut bench, Script::Silent, async |_, _| {
        drop(coordinator.welcome(1).await);
        let mut session = coordinator.session().await;
        session.welcome(2, 7).await;
        session.hear("why it ends", |said| matches!(said, Said::Failed { .. })).await;
    })
    .await;
    assert!(matches!(result, Err(SessionError::OtherPlan { .. })), "{result:?}");
}

#[tokio::test]
async fn without_a_coordinator_a_worker_ends_when_its_patience_does() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    bench.settings.patience = Duration::from_millis(300);
    let (result, ()) = session(&mut bench, Script::Silent, async |_, _| {
        let mut session = coordinator.welcome(1).await;
        ready(&mut session).await;
        drop((session, coordinator));
    })
    .await;
    let error = result.unwrap_err();
    assert!(matches!(error, SessionError::NoWayBack { .. }), "{error}");
    assert!(error.to_string().contains("`lockstep resume run`"), "{error}");
}

#[tokio::test]
async fn a_checkpoint_is_sent_again_after_a_break_and_dropped_when_it_is_refused() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (result, ()) = session(&mut bench, Script::Saves, async |_, _| {
        let mut session = coordinator.welcome(1).await;
        begun(&mut session, 1).await;
        coordinator.upload().await.refuse(Code::Unavailable);
        let upload = coordinator.upload().await;
        assert_eq!((upload.step, upload.bytes), (1, (3 << 20) + 5));
        upload.refuse(Code::FailedPrecondition);
        session.order(Order::Prepare { generation: 2, now: true }).await;
        session.order(begin(2)).await;
        let upload = coordinator.upload().await;
        assert_eq!(upload.step, 2);
        upload.stored();
        session.order(finish()).await;
    })
    .await;
    result.unwrap();
}
