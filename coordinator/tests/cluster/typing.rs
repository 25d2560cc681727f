//! What people type, against a real server: the `lockstep` of this build is started as a shell would.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use lockstep_coordinator::store::CheckpointStore;
use lockstep_proto::v1::RunState;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::server::{RECIPE, Server};

/// A person at another machine: a folder of their own, and no settings but the coordinator's address.
struct Person {
    folder: tempfile::TempDir,
    url: String,
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Person {
    fn at(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
        Self { folder, url: format!("http://{}", server.address) }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        let settings = std::env::vars_os().map(|(name, _)| name);
        let settings = settings.filter(|name| name.to_string_lossy().starts_with("LOCKSTEP_"));
        for name in settings {
            command.env_remove(name);
        }
        command
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env_remove("XDG_CONFIG_HOME")
            .env("LOCKSTEP_COORDINATOR", &self.url)
            .stdin(Stdio::null());
        command
    }

    async fn types(&self, line: &str) -> Said {
        let mut command = self.command(line);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let Output { status, stdout, stderr } = output;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// What it says on stdout of a command that ends well.
    async fn gets(&self, line: &str) -> String {
        let Said { code, out, err } = self.types(line).await;
        assert_eq!(code, Some(0), "lockstep {line}: {out}{err}");
        out
    }

    /// What it says on stderr of a command that ends so.
    async fn is_refused(&self, line: &str, with: i32) -> String {
        let Said { code, out, err } = self.types(line).await;
        assert_eq!((code, &*out), (Some(with), ""), "lockstep {line}: {err}");
        err
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_from_a_recipe_to_its_results() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let person = Person::at(&server);
    let _workers = server.workers(2);
    server.client().await.until_pooled(2).await;
    let course = person.gets("submit recipe.toml --name first --workers 2").await;
    assert!(course.contains("first: running"), "{course}");
    assert!(course.lines().last().unwrap().starts_with("first: done after "), "{course}");
    assert_eq!(person.gets("ps").await.lines().count(), 1, "it is over");
    let table = person.gets("ps --all").await;
    assert!(table.lines().nth(1).unwrap().starts_with("first  done   100 %"), "{table}");
    let status = person.gets("status first").await;
    assert!(status.contains("status       done") && status.contains(&person.url), "{status}");
    assert!(status.contains("generation  began"), "with what changes cost: {status}");
    let json: Value = serde_json::from_str(&person.gets("status first --json").await).unwrap();
    assert_eq!((&json["run"]["state"], &json["epochs_done"]), (&"done".into(), &2.into()));

    assert_eq!(person.gets("fetch first --all --to copy").await, "copy\n");
    let copy = person.path().join("copy");
    let checkpoints = CheckpointStore::reading(copy.join("checkpoints"));
    for pointer in ["best", "last"] {
        checkpoints.verify(checkpoints.points_at(pointer).unwrap()).unwrap();
    }
    let there = server.run_folder("first");
    for file in ["results.csv", "recipe.toml", "best.safetensors"] {
        assert_eq!(
            std::fs::read(copy.join(file)).unwrap(),
            std::fs::read(there.join(file)).unwrap(),
            "{file}"
        );
    }
    assert_eq!(person.gets("fetch first --best").await, "first/best.safetensors\n");

    let text = person.is_refused("submit recipe.toml -d --name first", 2).await;
    assert!(text.contains("a run named first exists already") && text.contains("\nhint: "), "{text}");
    let text = person.is_refused("watch frist", 2).await;
    assert!(text.contains("did you mean `first`?"), "{text}");
    let text = person.is_refused("resume first -d", 2).await;
    assert!(text.contains("--epochs"), "{text}");
    let text = person.is_refused("status first --home nowhere", 2).await;
    assert!(text.contains("there is no run named first in"), "a home is this machine's: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_says_what_for_and_leaves_the_queue_when_it_is_stopped() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let person = Person::at(&server);
    let submitted = person.gets("submit recipe.toml -d --json --name waits --workers 2..4").await;
    let submitted: Value = serde_json::from_str(&submitted).unwrap();
    assert_eq!(submitted["run"], "waits");
    let waits_for = submitted["waits_for"].as_str().unwrap();
    assert!(!waits_for.is_empty());
    let table = person.gets("ps").await;
    let row = table.lines().nth(1).unwrap();
    assert!(
        row.starts_with("waits  queued #1") && row.contains("0/2..4") && row.ends_with(waits_for),
        "{table}"
    );
    assert_eq!(person.gets("stop waits").await, "waits has left the queue\n");
    let Said { code, out, .. } = person.types("watch waits").await;
    assert_eq!(code, Some(143), "{out}");
    assert!(out.starts_with("waits: stopped"), "{out}");
    assert_eq!(person.gets("resume waits -d --workers 1").await, "waits\n");
    let json: Value = serde_json::from_str(&person.gets("ps --json").await).unwrap();
    assert_eq!(
        (&json["runs"][0]["state"], &json["runs"][0]["requirements"]["max_workers"]),
        (&"queued".into(), &1.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_listed_and_leave_when_they_are_asked_to() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let person = Person::at(&server);
    let _workers = server.workers(2);
    let mut client = server.client().await;
    client.until_pooled(2).await;
    let table = person.gets("workers").await;
    assert!(table.lines().nth(1).unwrap().starts_with("worker-0  free   -    cpu"), "{table}");
    assert!(person.gets("drain worker-0").await.starts_with("worker-0 "));
    client.until_pooled(1).await;
    let text = person.is_refused("drain worker-9", 2).await;
    assert!(text.contains("there is no worker named worker-9") && text.contains("worker-1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_watching_and_not_the_run() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path()).await;
    let person = Person::at(&server);
    let _worker = server.worker("worker-0");
    let mut command = person.command("submit recipe.toml --set epochs=1000000 --name long --workers 1");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (child, err) = tokio::task::spawn_blocking(move || {
        // The handler is there before the first line is.
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut lines = lines.skip_while(|line| !line.contains("running on"));
        assert!(lines.next().is_some());
        interrupt(&child);
        let status = child.wait().unwrap();
        (status, std::io::read_to_string(child.stderr.unwrap()).unwrap())
    })
    .await
    .unwrap();
    assert_eq!(child.code(), Some(130), "{err}");
    assert!(err.contains("detached: run long goes on"), "{err}");
    let mut client = server.client().await;
    assert_eq!(client.run("long").await.state(), RunState::Running);
    client.stop("long").await;
    client.until_over("long").await;
}

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}
