//! A worker is asked to go.

use std::time::Duration;

use super::*;

fn is_leaving(said: &Said) -> bool {
    matches!(said, Said::Heartbeat { leaving: true, .. })
}

#[tokio::test]
async fn a_worker_says_that_it_leaves_and_goes_when_it_is_let_go() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (result, ()) = session(&mut bench, Script::Silent, async |_, signals| {
        let mut session = coordinator.welcome(1).await;
        ready(&mut session).await;
        signals.send(StopSignal::Terminate).await.unwrap();
        session.hear("that it leaves", is_leaving).await;
        drop(session);
        let mut session = coordinator.welcome(1).await;
        session.hear("that it still leaves", is_leaving).await;
        session.order(finish()).await;
    })
    .await;
    assert!(matches!(result, Err(SessionError::Stopped(StopSignal::Terminate))), "{result:?}");
}

#[tokio::test]
async fn a_second_signal_ends_a_worker_at_once() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (result, ()) = session(&mut bench, Script::Silent, async |_, signals| {
        let mut session = coordinator.welcome(1).await;
        ready(&mut session).await;
        signals.send(StopSignal::Interrupt).await.unwrap();
        session.hear("that it leaves", is_leaving).await;
        signals.send(StopSignal::Interrupt).await.unwrap();
        session.ended().await;
    })
    .await;
    assert!(matches!(result, Err(SessionError::Stopped(StopSignal::Interrupt))), "{result:?}");
}

#[tokio::test]
async fn a_worker_that_nobody_lets_go_leaves_when_its_time_to_drain_is_over_even_while_the_coordinator_is_away()
 {
    for is_away in [false, true] {
        let mut coordinator = Coordinator::start().await;
        let mut bench = Bench::new(&coordinator);
        bench.settings.drain_timeout = Duration::from_millis(200);
        let (result, ()) = session(&mut bench, Script::Silent, async |_, signals| {
            let mut session = coordinator.welcome(1).await;
            ready(&mut session).await;
            if is_away {
                drop((session, coordinator));
                signals.send(StopSignal::Terminate).await.unwrap();
            } else {
                signals.send(StopSignal::Terminate).await.unwrap();
                session.ended().await;
            }
        })
        .await;
        assert!(matches!(result, Err(SessionError::Stopped(StopSignal::Terminate))), "{result:?}");
    }
}

#[tokio::test]
async fn a_worker_that_has_not_joined_yet_goes_at_once() {
    let mut coordinator = Coordinator::start().await;
    let mut bench = Bench::new(&coordinator);
    let (result, ()) = session(&mut bench, Script::Silent, async |_, signals| {
        let _unanswered = coordinator.session().await;
        signals.send(StopSignal::Terminate).await.unwrap();
    })
    .await;
    assert!(matches!(result, Err(SessionError::Stopped(StopSignal::Terminate))), "{result:?}");
}
