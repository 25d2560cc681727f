//! Tables and their JSON; what is submitted, stopped and drained; how refusals read.

use serde_json::Value;
use tonic::Code;

use super::{start, told, typed, with_runs};
use crate::cli::remote::ps::{self, PsArgs};
use crate::cli::remote::submit::{self, SubmitArgs};
use crate::cli::remote::{ask, drain, stop, workers};
use crate::client::fake::{self, State};
use crate::client::{FailureKind, RunState, RunSummary, Submitted, WorkerState};

fn several() -> Vec<RunSummary> {
    let mut queued = fake::run("queued-one", RunState::Queued);
    queued.queue_position = Some(1);
    queued.waits_for = "waits for 2 more cuda workers (1 of 3 is free)".into();
    queued.requirements.min_workers = 2;
    let mut running = fake::run("first", RunState::Running);
    (running.epoch, running.step, running.best_accuracy) = (3, 34, Some(0.712));
    (running.left_ms, running.workers) = (Some(187_000), vec!["w-1".into()]);
    let mut failed = fake::run("broken", RunState::Failed);
    failed.reason = "worker gpu-3 lost:\nout of memory".into();
    failed.failure_kind = Some(FailureKind::Worker);
    vec![queued, running, failed]
}

#[tokio::test]
async fn runs_are_a_table_of_those_that_are_not_over() {
    let (_coordinator, client) = with_runs(several()).await;
    let listing = ps::listing(&client, &typed::<PsArgs>("")).await.unwrap();
    assert_eq!(
        ps::table(&listing, false),
        "NAME        STATE      PROGRESS           BEST     WORKERS  AGE  WAITS FOR\n\
         queued-one  queued #1  0 %                -        0/2      0s   waits for 2 more cuda workers (1 of 3 is free)\n\
         first       running    34 %, 3m 07s left  71.20 %  1/1..2   0s\n"
    );
    let all = ps::listing(&client, &typed::<PsArgs>("--all")).await.unwrap();
    let table = ps::table(&all, true);
    let last = table.lines().last().unwrap();
    assert!(table.starts_with("NAME ") && table.contains("WAITS FOR / ENDED BECAUSE"), "{table}");
    assert!(last.starts_with("broken ") && last.ends_with("worker gpu-3 lost: out of memory"), "{last}");
}

#[tokio::test]
async fn the_json_of_runs_has_the_documented_fields() {
    let (_coordinator, client) = with_runs(several()).await;
    let all = ps::listing(&client, &typed::<PsArgs>("-a -n 5")).await.unwrap();
    let json: Value = serde_json::from_str(&ps::json(&all).unwrap()).unwrap();
    assert_eq!(json["left_out"], 0);
    let [queued, running, failed] = &json["runs"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!((&queued["state"], &queued["queue_position"]), (&"queued".into(), &1.into()));
    assert_eq!(queued["requirements"]["min_workers"], 2);
    assert!(queued["requirements"]["device_kind"].is_null() && queued["best_accuracy"].is_null());
    assert_eq!((&running["workers"][0], &running["left_ms"]), (&"w-1".into(), &187_000.into()));
    assert_eq!(
        (&running["epoch"], &running["step"], &running["steps_total"]),
        (&3.into(), &34.into(), &100.into())
    );
    assert_eq!((&failed["failure_kind"], &running["failure_kind"]), (&"worker".into(), &Value::Null));
    assert_eq!(failed["reason"], "worker gpu-3 lost:\nout of memory");
    for key in queued.as_object().unwrap().keys() {
        assert!(ps::JSON_HELP.contains(key.as_str()), "--help says nothing of {key}");
    }
}

#[tokio::test]
async fn workers_are_a_table_and_json() {
    let mut busy = fake::worker("gpu-1", WorkerState::Busy);
    (busy.run, busy.device) = (Some("first".into()), "cuda:0".into());
    let state = State { workers: vec![busy, fake::worker("w-2", WorkerState::Free)], ..State::default() };
    let (_coordinator, client) = start(state).await;
    let known = client.workers().await.unwrap();
    assert_eq!(
        workers::table(&known),
        "NAME   STATE  RUN    DEVICE  MEMORY  HOST     AGE  LIBTORCH\n\
         gpu-1  busy   first  cuda:0  16 GiB  gpu-box  0s   2.11.0\n\
         w-2    free   -      cpu     16 GiB  gpu-box  0s   2.11.0\n"
    );
    let json: Value = serde_json::from_str(&workers::json_text(&known)).unwrap();
    assert_eq!((&json["workers"][0]["run"], &json["workers"][1]["run"]), (&"first".into(), &Value::Null));
    assert_eq!(
        (&json["workers"][1]["state"], &json["workers"][1]["memory_bytes"]),
        (&"free".into(), &(16_u64 << 30).into())
    );
    for key in json["workers"][0].as_object().unwrap().keys() {
        assert!(workers::HELP.contains(key.as_str()), "--help says nothing of {key}");
    }
}

#[tokio::test]
async fn a_submission_carries_what_was_typed() {
    let waits_for = "waits for 1 more worker".to_owned();
    let submitted = Submitted { run: "first".into(), warnings: Vec::new(), waits_for };
    let (coordinator, client) = start(State { submitted: submitted.clone(), ..State::default() }).await;
    let line = "--set data.name=shapes --set epochs=3 --name first --priority 2 --workers 2 --device cpu";
    let (submission, _) = submit::prepared(typed::<SubmitArgs>(line)).unwrap();
    assert_eq!(submit::submit(&client, submission).await.unwrap(), submitted);
    let state = coordinator.state.lock().unwrap();
    let [sent] = &state.submissions[..] else { panic!("one submission") };
    assert_eq!((sent.name.as_deref(), sent.priority), (Some("first"), 2));
    assert!(sent.recipe.contains("epochs = 3"), "{}", sent.recipe);
    assert_eq!((sent.requirements.min_workers, sent.requirements.max_workers), (2, 2));
    assert_eq!(sent.requirements.device_kind.as_deref(), Some("cpu"));
}

#[tokio::test]
async fn a_name_that_is_taken_is_wrong_usage_with_advice() {
    let (_coordinator, client) = with_runs(vec![fake::run("first", RunState::Done)]).await;
    let (submission, _) =
        submit::prepared(typed::<SubmitArgs>("--set data.name=shapes --name first")).unwrap();
    let (code, text) = told(submit::submit(&client, submission).await);
    assert_eq!(code, 2);
    assert!(text.contains("a run named first exists already\nhint: choose another --name"), "{text}");
}

#[tokio::test]
async fn refusals_have_their_exit_code_and_advice() {
    let (coordinator, client) = with_runs(several()).await;
    for (refusal, message, code, hint) in [
        (Code::PermissionDenied, "stopping a run needs the role submitter", 4, "with that role"),
        (Code::Unauthenticated, "no certificate", 4, "--cert and --key"),
        (Code::ResourceExhausted, "the queue is full", 4, "try again"),
        (Code::Unavailable, "the coordinator stops", 4, ""),
        (Code::Unimplemented, "", 4, "another release"),
        (Code::Internal, "no space left on device", 4, ""),
        (Code::DataLoss, "the checkpoint is damaged", 3, ""),
        (Code::InvalidArgument, "`epochs` must be a number\nhint: from 1", 2, "from 1"),
        (Code::FailedPrecondition, "run first is not over", 2, ""),
    ] {
        coordinator.state.lock().unwrap().refusal = Some((refusal, message));
        let (told_code, text) = told(stop::stopped(&client, "first").await);
        assert_eq!(told_code, code, "{text}");
        let message = message.split('\n').next().unwrap();
        assert!(text.starts_with(&format!("error: {message}")) && text.contains(hint), "{text}");
        assert_eq!(text.contains("hint:"), !hint.is_empty(), "{text}");
    }
}

#[test]
fn nobody_at_the_address_is_cluster_trouble_with_advice() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Bound once, so that nobody else is there.
    let remote = runtime.block_on(async {
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", nobody.local_addr().unwrap());
        fake::remote(&url)
    });
    let (code, text) = told(ask(&remote, async |client| Ok(client.workers().await?)));
    assert_eq!(code, 4, "{text}");
    assert!(text.contains(&remote.url()) && text.contains("refused") && text.contains("\nhint: "), "{text}");
}

#[tokio::test]
async fn what_is_not_there_is_wrong_usage_with_the_nearest_names() {
    let state = State {
        runs: several(),
        workers: vec![fake::worker("gpu-1", WorkerState::Free)],
        ..State::default()
    };
    let (coordinator, client) = start(state).await;
    let url = &coordinator.url;
    let (code, text) = told(stop::stopped(&client, "frist").await);
    assert_eq!(code, 2);
    assert_eq!(text, format!("error: there is no run named frist at {url}\nhint: did you mean `first`?"));
    let (_, text) = told(stop::stopped(&client, "something-else").await);
    assert!(text.ends_with("hint: the runs there are queued-one, first, broken"), "{text}");
    let (code, text) = told(drain::drained(&client, "gpu-2").await);
    assert_eq!(code, 2);
    assert_eq!(text, format!("error: there is no worker named gpu-2 at {url}\nhint: did you mean `gpu-1`?"));
}

#[tokio::test]
async fn stopping_tells_what_becomes_of_each_run() {
    let (_coordinator, client) = with_runs(several()).await;
    let mut lines = Vec::new();
    for run in ["queued-one", "first", "broken"] {
        lines.push(stop::stopped(&client, run).await.unwrap());
    }
    assert_eq!(
        lines,
        [
            "queued-one has left the queue",
            "first stops at its next step, with a checkpoint; `lockstep resume first` goes on",
            "broken is over already: failed",
        ]
    );
}

#[tokio::test]
async fn draining_tells_when_a_worker_leaves() {
    let mut busy = fake::worker("gpu-1", WorkerState::Draining);
    busy.run = Some("first".into());
    let state = State { workers: vec![busy, fake::worker("w-2", WorkerState::Draining)], ..State::default() };
    let (_coordinator, client) = start(state).await;
    let line = drain::drained(&client, "gpu-1").await.unwrap();
    assert_eq!(line, "gpu-1 leaves run first at its next step, and then the cluster; nothing is lost");
    assert_eq!(drain::drained(&client, "w-2").await.unwrap(), "w-2 was free, and leaves now");
}

#[tokio::test]
async fn of_several_errors_the_first_decides() {
    let (_coordinator, client) = with_runs(several()).await;
    let unknown = || async { stop::stopped(&client, "x").await.unwrap_err() };
    let result = crate::cli::remote::first(Ok(0), unknown().await);
    let other = crate::cli::CliError::new(4, "later");
    assert_eq!(crate::cli::remote::first(result, other).unwrap_err().code, 2);
}
