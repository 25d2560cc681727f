//! What people ask, and what they are told.

use std::collections::HashMap;

use lockstep_proto::v1 as pb;
use lockstep_proto::v1::RunState;
use tonic::Code;

use crate::replica::FILE_BYTES;
use crate::server::{Client, DEADLINE, RECIPE, Server, code, recipe, until, workers};

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_cannot_be_is_refused_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let wrong = "data.name = \"shapes\"\n\n[optimizer]\nlearning = 0.1\n";
    let (refused, said) = code(client.try_submit(recipe(wrong)).await);
    assert_eq!(refused, Code::InvalidArgument);
    assert!(said.starts_with("unknown key `optimizer.learning` in the recipe, line 4\nhint: "), "{said}");
    let (refused, said) = code(client.try_submit(recipe("epochs = 3")).await);
    assert_eq!(refused, Code::InvalidArgument);
    assert!(said.contains("`data.name` is missing"), "{said}");
    let named = |name: &str| pb::SubmitRequest { name: name.into(), ..recipe(RECIPE) };
    for name in ["../x", "a/b", "..", ".x", "a b"] {
        assert_eq!(code(client.try_submit(named(name)).await).0, Code::InvalidArgument, "{name}");
    }
    let device = pb::Requirements { device_kind: "tpu".into(), ..workers(1, 1) };
    let request = pb::SubmitRequest { requirements: Some(device), ..named("a") };
    assert_eq!(code(client.try_submit(request).await).0, Code::InvalidArgument);
    client.try_submit(named("a")).await.unwrap();
    let (refused, said) = code(client.try_submit(named("a")).await);
    assert_eq!(refused, Code::AlreadyExists);
    assert!(said.contains("a run named a exists already"), "{said}");
    // A local run's folder has its name too.
    std::fs::create_dir_all(server.run_folder("local")).unwrap();
    assert_eq!(code(client.try_submit(named("local")).await).0, Code::AlreadyExists);
    let long = "x".repeat(300 << 10);
    assert_eq!(code(client.try_submit(recipe(&long)).await).0, Code::InvalidArgument);
    assert_eq!(client.runs().await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_nobody_names_get_names_of_their_own() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    for _ in 0..3 {
        let submitted = client.try_submit(recipe(RECIPE)).await.unwrap();
        assert!(submitted.run.contains("resnet18-shapes"), "{}", submitted.run);
    }
    assert_eq!(client.runs().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let Client { mut service } = server.client().await;
    let run = || "none".to_owned();
    assert_eq!(code(service.get_run(pb::GetRunRequest { run: run() }).await).0, Code::NotFound);
    assert_eq!(code(service.watch_run(pb::WatchRunRequest { run: run() }).await).0, Code::NotFound);
    assert_eq!(code(service.stop_run(pb::StopRunRequest { run: run() }).await).0, Code::NotFound);
    assert_eq!(code(service.list_files(pb::ListFilesRequest { run: run() }).await).0, Code::NotFound);
    let resume = pb::ResumeRunRequest { run: run(), ..pb::ResumeRunRequest::default() };
    assert_eq!(code(service.resume_run(resume).await).0, Code::NotFound);
    let logs = pb::ReadLogsRequest { run: run(), ..pb::ReadLogsRequest::default() };
    assert_eq!(code(service.read_logs(logs).await).0, Code::NotFound);
    for run in ["..", "../x", "", "a/b"] {
        let refused = code(service.list_files(pb::ListFilesRequest { run: run.into() }).await).0;
        assert_eq!(refused, Code::NotFound, "{run:?} is nobody's name");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_watched_from_the_queue_to_its_end() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    client.submit("run", (1, 1)).await;
    let request = pb::WatchRunRequest { run: "run".into() };
    let mut stream = client.service.watch_run(request.clone()).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().run.unwrap();
    assert_eq!((first.state(), first.queue_position), (RunState::Queued, 1));
    assert!(first.waits_for.starts_with("can never be placed"), "{}", first.waits_for);
    let _worker = server.worker("worker-0");
    let mut states = vec![first.state()];
    let watching = async {
        while let Some(response) = stream.message().await.unwrap() {
            states.push(response.run.unwrap().state());
        }
    };
    tokio::time::timeout(DEADLINE, watching).await.unwrap();
    states.dedup();
    assert_eq!((states[0], states.last()), (RunState::Queued, Some(&RunState::Done)), "{states:?}");
    // It is over: watched once, and that is all.
    let mut stream = client.service.watch_run(request).await.unwrap().into_inner();
    let last = stream.message().await.unwrap().unwrap().run.unwrap();
    assert_eq!((last.state(), last.steps_total), (RunState::Done, 6));
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_followed_until_the_run_is_over() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    client.submit("run", (1, 1)).await;
    let request = |worker: &str, follow, tail| pb::ReadLogsRequest {
        run: "run".into(),
        worker: worker.into(),
        follow,
        tail,
        after: HashMap::new(),
    };
    let followed = client.service.read_logs(request("", true, 0)).await.unwrap().into_inner();
    let _worker = server.worker("worker-0");
    let read = async |mut stream: tonic::Streaming<pb::ReadLogsResponse>| {
        let mut lines = Vec::new();
        let reading = async {
            while let Some(response) = stream.message().await.unwrap() {
                lines.push((response.source, response.lines));
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.unwrap();
        lines
    };
    let expected = [("worker-0".to_owned(), "worker-0 is welcome to run run\n".to_owned())];
    assert_eq!(read(followed).await, expected);
    assert_eq!(client.run("run").await.state(), RunState::Done);
    let again = client.service.read_logs(request("worker-0", false, 1)).await.unwrap().into_inner();
    assert_eq!(read(again).await, expected);
    let after = [("worker-0".to_owned(), expected[0].1.len() as u64)].into();
    let rest = pb::ReadLogsRequest { after, ..request("worker-0", false, 0) };
    assert_eq!(read(client.service.read_logs(rest).await.unwrap().into_inner()).await, []);
    assert_eq!(code(client.service.read_logs(request("worker-9", false, 0)).await).0, Code::NotFound);
    for trick in ["../events", "a/b", ".x"] {
        let refused = code(client.service.read_logs(request(trick, false, 0)).await).0;
        assert_eq!(refused, Code::InvalidArgument, "{trick}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runs_files_are_fetched_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    client.submit("run", (1, 1)).await;
    let queued = client.service.list_files(pb::ListFilesRequest { run: "run".into() }).await.unwrap();
    assert!(queued.into_inner().files.is_empty(), "it has not begun");
    let _worker = server.worker("worker-0");
    client.until_over("run").await;
    let listed = client.service.list_files(pb::ListFilesRequest { run: "run".into() }).await.unwrap();
    let files = listed.into_inner().files;
    let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    for name in ["best.safetensors", "recipe.toml", "results.csv", "run.json", "logs/worker-0.log"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(names.iter().all(|name| !name.contains("/.") && !name.starts_with('.')), "{names:?}");
    let mut read = async |path: &str| {
        let request = pb::ReadFileRequest { run: "run".into(), path: path.into() };
        let mut stream = client.service.read_file(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.message().await? {
            bytes.extend_from_slice(&chunk.data);
        }
        Ok::<_, tonic::Status>(bytes)
    };
    assert_eq!(read("best.safetensors").await.unwrap().len(), FILE_BYTES);
    let recipe = String::from_utf8(read("recipe.toml").await.unwrap()).unwrap();
    assert!(recipe.contains("epochs = 2"), "{recipe}");
    for trick in ["../../journal.db", "/etc/passwd", ".lock", "checkpoints/../run.json", ""] {
        assert_eq!(code(read(trick).await).0, Code::InvalidArgument, "{trick}");
    }
    assert_eq!(code(read("checkpoints/last/model.safetensors").await).0, Code::NotFound, "a link");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_cut_and_say_how_much_is_left_out() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    for run in ["a", "b", "c", "d"] {
        client.submit(run, (1, 1)).await;
    }
    client.stop("a").await;
    client.stop("b").await;
    let mut list = async |states: &[RunState], limit| {
        let states = states.iter().map(|state| (*state).into()).collect();
        let listed =
            client.service.list_runs(pb::ListRunsRequest { states, limit }).await.unwrap().into_inner();
        (listed.runs.into_iter().map(|run| run.name).collect::<Vec<_>>(), listed.left_out)
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(list(&[], 0).await, (names(&["c", "d", "b", "a"]), 0));
    assert_eq!(list(&[], 3).await, (names(&["c", "d", "b"]), 1));
    assert_eq!(list(&[], 1).await, (names(&["c"]), 3));
    assert_eq!(list(&[RunState::Stopped], 1).await, (names(&["b"]), 1));
    assert_eq!(list(&[RunState::Queued], 0).await, (names(&["c", "d"]), 0));
    assert_eq!(list(&[RunState::Running], 0).await, (names(&[]), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_listed_at_every_moment_of_its_life() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let mut client = server.client().await;
    let _worker = server.worker("worker-0");
    client.submit("first", (1, 1)).await;
    // Its last pages are written when it wants no workers any more.
    until("the run ends", async || {
        assert_eq!(client.runs().await, ["first"]);
        client.run("first").await.state() == RunState::Done
    })
    .await;
}
