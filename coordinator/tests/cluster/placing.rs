//! Who gets which workers, as far as it can be seen from outside.

use lockstep_proto::v1 as pb;
use lockstep_proto::v1::{RunState, WorkerState};

use crate::server::{Client, RECIPE, Server, recipe, until, workers};
use crate::worker::{Simulated, Worker};

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_compete_for_four_workers_and_both_end() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let _workers = server.workers(4);
    client.until_pooled(4).await;
    client.submit_endless("first", (2, 4)).await;
    client.until_running("first", 4).await;
    // The second one gets what the first can do without, at a step's boundary and without a loss.
    client.submit("second", (2, 4)).await;
    client.until_running("first", 2).await;
    let second = client.until_over("second").await;
    assert_eq!((second.state(), second.reason.as_str()), (RunState::Done, ""));
    // And the first gets them back.
    client.until_running("first", 4).await;
    let events = std::fs::read_to_string(server.run_folder("first").join("events.jsonl")).unwrap();
    assert!(!events.contains("worker_lost"), "{events}");
    assert_eq!(events.matches("\"worker_left\"").count(), 2, "{events}");
    client.stop("first").await;
    assert_eq!(client.until_over("first").await.state(), RunState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_wait_in_order_of_priority_and_then_of_submission() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let worker = server.worker("worker-0");
    client.submit_endless("now", (1, 1)).await;
    client.until_running("now", 1).await;
    for (run, priority) in [("late", 0), ("later", 0), ("urgent", 7)] {
        let requirements = Some(workers(1, 1));
        let request = pb::SubmitRequest { name: run.into(), priority, requirements, ..recipe(RECIPE) };
        client.try_submit(request).await.unwrap();
    }
    assert_eq!(client.runs().await, ["urgent", "late", "later", "now"]);
    let late = client.run("late").await;
    assert_eq!((late.state(), late.queue_position), (RunState::Queued, 2));
    assert!(!late.waits_for.is_empty());
    client.stop("now").await;
    for run in ["urgent", "late", "later"] {
        assert_eq!(client.until_over(run).await.state(), RunState::Done);
    }
    let welcomes: Vec<String> =
        worker.story().into_iter().filter(|told| told.starts_with("welcome")).collect();
    assert_eq!(welcomes, ["welcome now", "welcome urgent", "welcome late", "welcome later"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_can_never_be_placed_says_why_and_holds_nobody_up() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let _workers = server.workers(2);
    client.until_pooled(2).await;
    let told = client.submit("large", (4, 4)).await;
    assert!(told.waits_for.starts_with("can never be placed: it needs 4 workers"), "{}", told.waits_for);
    let requirements = Some(pb::Requirements { device_kind: "cuda".into(), ..workers(1, 1) });
    let request = pb::SubmitRequest { name: "gpu".into(), requirements, ..recipe(RECIPE) };
    let told = client.try_submit(request).await.unwrap();
    assert!(told.waits_for.contains("1 cuda worker"), "{}", told.waits_for);
    client.submit("small", (1, 2)).await;
    assert_eq!(client.until_over("small").await.state(), RunState::Done);

    // They are placed once there is what they need.
    let _others: Vec<Worker> = ["a", "b"].map(|name| server.worker(name)).into();
    assert_eq!(client.until_over("large").await.state(), RunState::Done);
    let gpu = Simulated { device: "cuda:0".into(), memory_bytes: 8 << 30, ..Simulated::new("gpu") };
    let _gpu = Worker::start(server.address, gpu);
    assert_eq!(client.until_over("gpu").await.state(), RunState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_frees_its_workers() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let _workers = server.workers(2);
    client.submit_endless("first", (2, 2)).await;
    client.until_running("first", 2).await;
    client.submit("second", (2, 2)).await;
    client.submit("third", (1, 1)).await;
    assert_eq!(client.stop("third").await.state(), RunState::Stopped, "it waited, and leaves at once");
    let stopping = client.stop("first").await;
    assert!(matches!(stopping.state(), RunState::Stopping | RunState::Stopped), "{stopping:?}");
    let first = client.until_over("first").await;
    assert_eq!((first.state(), first.reason.as_str()), (RunState::Stopped, "stopped on request"));
    assert!(first.position.unwrap().step > 0 && first.ended_at_ms > 0, "with a checkpoint");
    assert_eq!(client.until_over("second").await.state(), RunState::Done);
    assert_eq!(client.stop("first").await.state(), RunState::Stopped, "what is over stays as it is");
    assert_eq!(client.runs().await, ["second", "first", "third"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_is_replaced_by_a_free_one() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let first = server.worker("first");
    let second = server.worker("second");
    client.until_pooled(2).await;
    client.submit_endless("run", (2, 2)).await;
    client.until_running("run", 2).await;
    let spare = server.worker("spare");
    spare.until_told("pooled").await;
    drop(first);
    let run = client.until("run", |run| run.workers.contains(&"spare".to_owned())).await;
    assert_eq!(run.state(), RunState::Running);
    client.until_running("run", 2).await;
    let began_again = |told: &String| told.starts_with("begin ") && told != "begin 1";
    assert!(second.story().iter().any(began_again), "{:?}", second.story());
    // One that comes back under the name is a new one, and waits.
    let again = server.worker("first");
    again.until_told("pooled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_drained_free_or_not() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let busy = server.workers(2);
    client.submit_endless("run", (1, 2)).await;
    client.until_running("run", 2).await;
    let free = server.worker("free");
    free.until_told("pooled").await;
    assert_eq!(client.drain("nobody").await.unwrap_err().code(), tonic::Code::NotFound);
    client.drain("free").await.unwrap();
    free.end().await;
    let drained = client.drain("worker-1").await.unwrap();
    assert_eq!((drained.state(), drained.run.as_str()), (WorkerState::Draining, "run"));
    let mut busy = busy.into_iter();
    let stays = busy.next().unwrap();
    busy.next().unwrap().end().await;
    client.until_running("run", 1).await;
    client.until_pooled(1).await;
    assert!(!stays.was_told("finish"));
    // A process that comes under a drained one's name is welcome.
    let again = server.worker("worker-1");
    again.until_told("welcome run").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_begin_fails_with_a_reason_and_frees_its_workers() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let worker = server.worker("worker-0");
    let text = RECIPE.replace("\"shapes\"", "\"folder\"\n    data.path = \"/no/such/folder\"");
    let request = pb::SubmitRequest { name: "bad".into(), ..recipe(&text) };
    client.try_submit(request).await.unwrap();
    let bad = client.until_over("bad").await;
    assert_eq!((bad.state(), bad.failure_kind()), (RunState::Failed, pb::FailureKind::Data));
    assert!(bad.reason.contains("/no/such/folder"), "{}", bad.reason);
    client.submit("good", (1, 1)).await;
    assert_eq!(client.until_over("good").await.state(), RunState::Done);
    assert!(!worker.was_told("welcome bad"));
    // It has no history: it begins again, and fails as before.
    client.resume("bad", 0).await.unwrap();
    assert_eq!(client.until_over("bad").await.state(), RunState::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_cannot_be_are_turned_away() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let taken = server.worker("worker-0");
    taken.until_told("pooled").await;
    let other = server.worker("worker-0");
    other.until_told("AlreadyExists").await;
    for bad in ["../x", "coordinator", ".hidden", "a b"] {
        server.worker(bad).until_told("InvalidArgument").await;
    }
    let odd = Simulated { device: "tpu:0".into(), ..Simulated::new("odd") };
    Worker::start(server.address, odd).until_told("InvalidArgument").await;
    assert_eq!(client.pool().await.len(), 1);
    // Its name is free again when it is gone.
    drop(taken);
    other.until_told("pooled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_with_what_they_are_at() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let _workers = server.workers(2);
    client.until_pooled(2).await;
    client.submit_endless("run", (1, 1)).await;
    client.until_running("run", 1).await;
    let states = async |client: &mut Client| {
        let mut states: Vec<(WorkerState, String)> =
            client.pool().await.into_iter().map(|worker| (worker.state(), worker.run)).collect();
        states.sort_by_key(|(state, _)| *state as i32);
        states
    };
    let expected = [(WorkerState::Free, String::new()), (WorkerState::Busy, "run".to_owned())];
    assert_eq!(states(&mut client).await, expected);
    let shown = client.pool().await;
    assert_eq!((shown[0].host.as_str(), shown[0].device.as_str()), ("here", "cpu"));
    client.stop("run").await;
    let mut asking = client.clone();
    until("both are free", async || {
        states(&mut asking).await.iter().all(|(state, _)| *state == WorkerState::Free)
    })
    .await;
}
