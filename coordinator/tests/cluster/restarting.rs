//! A coordinator that dies, and the next one.

use lockstep_proto::v1::{RunState, WorkerState};

use crate::server::{Server, until};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_queue_is_as_it_was_and_runs_go_on_with_their_workers() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let workers = server.workers(2);
    client.until_pooled(2).await;
    client.submit_endless("now", (2, 2)).await;
    client.submit("next", (2, 2)).await;
    client.submit("last", (1, 1)).await;
    let before = client.until_running("now", 2).await.position.unwrap();
    let address = server.kill().await;

    let server = Server::start_at(home.path(), address).await;
    let mut client = server.client().await;
    assert_eq!(client.runs().await, ["next", "last", "now"]);
    let after = client.until_running("now", 2).await;
    assert!(after.position.unwrap().step >= before.step, "nothing is lost");
    let events = std::fs::read_to_string(server.run_folder("now").join("events.jsonl")).unwrap();
    assert!(events.contains("\"taken_over\""), "{events}");
    assert!(!events.contains("worker_lost") && !events.contains("\"resumed\""), "{events}");
    for worker in &workers {
        let welcomes = worker.story().iter().filter(|told| *told == "welcome now").count();
        assert_eq!(welcomes, 2, "{:?}", worker.story());
    }
    client.stop("now").await;
    for run in ["next", "last"] {
        assert_eq!(client.until_over(run).await.state(), RunState::Done);
    }
    assert_eq!(client.run("now").await.state(), RunState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_was_asked_for_outlives_the_coordinator() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let workers = server.workers(1);
    client.submit_endless("run", (1, 1)).await;
    client.until_running("run", 1).await;
    // With its worker gone it cannot stop at a boundary at once.
    drop(workers);
    let mut asking = client.clone();
    until("the run has lost its worker", async || asking.run("run").await.workers.is_empty()).await;
    let address = server.kill().await;
    let server = Server::start_at(home.path(), address).await;
    let mut client = server.client().await;
    client.stop("run").await;
    let address = server.kill().await;
    let server = Server::start_at(home.path(), address).await;
    let mut client = server.client().await;
    assert_eq!(client.until_over("run").await.state(), RunState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_do_not_come_back_are_replaced() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let mut workers = server.workers(2);
    client.until_pooled(2).await;
    client.submit_endless("run", (2, 2)).await;
    client.until_running("run", 2).await;
    let address = server.kill().await;
    // Its machine has died too.
    drop(workers.pop());
    let server = Server::start_at(home.path(), address).await;
    let mut client = server.client().await;
    let away = async |client: &mut crate::server::Client| {
        client.pool().await.iter().any(|worker| worker.state() == WorkerState::Away)
    };
    assert!(away(&mut client).await, "it is waited for");
    let spare = server.worker("spare");
    spare.until_told("welcome run").await;
    client.until_running("run", 2).await;
    assert!(!away(&mut client).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_is_known_after_a_restart_and_can_go_on() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let workers = server.workers(1);
    client.submit("done", (1, 1)).await;
    client.until_over("done").await;
    client.submit_endless("endless", (1, 1)).await;
    client.until_running("endless", 1).await;
    client.stop("endless").await;
    let stopped = client.until_over("endless").await;
    drop(workers);
    let address = server.kill().await;

    let server = Server::start_at(home.path(), address).await;
    let mut client = server.client().await;
    let done = client.run("done").await;
    assert_eq!((done.state(), done.epochs, done.best_accuracy), (RunState::Done, 2, Some(0.5)));
    assert_eq!(done.position.unwrap().epoch, 2);
    assert_eq!(client.run("endless").await.position, stopped.position);
    let refused = client.resume("done", 0).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("run done is done, with 2 epochs"), "{}", refused.message());

    let _workers = server.workers(1);
    let resumed = client.resume("done", 3).await.unwrap();
    // A worker may be free already.
    assert!(matches!(resumed.state(), RunState::Queued | RunState::Preparing), "{resumed:?}");
    assert_eq!(resumed.epochs, 3);
    let refused = client.resume("done", 4).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "it is not over");
    let done = client.until_over("done").await;
    assert_eq!((done.state(), done.position.unwrap().epoch), (RunState::Done, 3));
    client.resume("endless", 0).await.unwrap();
    let going_on = client.until_running("endless", 1).await;
    assert!(going_on.position.unwrap().step >= stopped.position.unwrap().step);
}
