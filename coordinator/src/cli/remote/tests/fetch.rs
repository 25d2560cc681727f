//! Fetching: what is copied, that it is verified, and that a run which goes on or a cable that is pulled does no harm.

use std::fs;
use std::path::Path;

use lockstep_core::{Epoch, Position, Step};
use sha2::{Digest, Sha256};

use super::{start, told, typed};
use crate::cli::console::DownloadBar;
use crate::cli::remote::fetch::{FetchArgs, Fetched, fetch};
use crate::cli::{CliError, code};
use crate::client::RunClient;
use crate::client::RunState;
use crate::client::fake::{self, Coordinator, Files, State};
use crate::store::{CheckpointStore, FORMAT_VERSION, Manifest, ManifestFile};

fn checkpoint(files: &mut Files, step: u64) {
    let folder = format!("checkpoints/step-{step:08}");
    let mut listed = Vec::new();
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let bytes = format!("{name} of step {step}, some bytes of it").into_bytes();
        let sha256 = hex::encode(Sha256::digest(&bytes));
        listed.push(ManifestFile { name: name.into(), size_bytes: bytes.len() as u64, sha256 });
        files.insert(format!("{folder}/{name}"), bytes);
    }
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        lockstep_version: "0".into(),
        run: "first".into(),
        position: Position { epoch: Epoch(0), step: Step(step) },
        metric: None,
        files: listed,
    };
    files.insert(format!("{folder}/manifest.json"), manifest.seal().unwrap());
}

/// A run with two checkpoints, of which the older one is the best.
fn folder() -> Files {
    let mut files = Files::new();
    checkpoint(&mut files, 10);
    checkpoint(&mut files, 20);
    let best = files["checkpoints/step-00000010/model.safetensors"].clone();
    files.insert("best.safetensors".into(), best);
    for (path, text) in [
        ("results.csv", "epoch,lr\n1,0.1\n"),
        ("run.json", r#"{"best": {"step": 10}}"#),
        ("plots/loss.png", "a picture"),
        ("logs/worker-1.log", "hello\n"),
        (".lock", ""),
    ] {
        files.insert(path.into(), text.into());
    }
    files
}

async fn run_with(files: Files, state: RunState) -> (Coordinator, RunClient) {
    start(State { runs: vec![fake::run("first", state)], files, ..State::default() }).await
}

async fn fetched(client: &RunClient, to: &Path, flags: &str) -> Result<Fetched, CliError> {
    let args = typed::<FetchArgs>(&format!("first --to {} {flags}", to.display()));
    fetch(client, &args, &DownloadBar::default()).await
}

/// Paths below a folder, hidden ones too; links as `link -> target`.
fn tree(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            match fs::read_link(&path) {
                Ok(target) => paths.push(format!("{name} -> {}", target.display())),
                Err(_) if path.is_dir() => folders.push(path),
                Err(_) => paths.push(name),
            }
        }
    }
    paths.sort();
    paths
}

#[tokio::test]
async fn results_and_the_best_model_come_without_checkpoints_and_logs() {
    let (_coordinator, client) = run_with(folder(), RunState::Done).await;
    let to = tempfile::tempdir().unwrap();
    let done = fetched(&client, to.path(), "").await.unwrap();
    assert_eq!(tree(to.path()), ["best.safetensors", "plots/loss.png", "results.csv", "run.json"]);
    assert_eq!((done.files, done.kept, &*done.path), (4, 0, to.path()));
    assert_eq!(fs::read(to.path().join("results.csv")).unwrap(), folder()["results.csv"]);
    // Once more: what verifies is not copied again.
    let done = fetched(&client, to.path(), "").await.unwrap();
    assert_eq!((done.files, done.kept), (4, 1));
}

#[tokio::test]
async fn the_best_model_alone_comes_verified_and_once() {
    let (coordinator, client) = run_with(folder(), RunState::Done).await;
    let to = tempfile::tempdir().unwrap();
    let done = fetched(&client, to.path(), "--best").await.unwrap();
    assert_eq!(done.path, to.path().join("best.safetensors"));
    assert_eq!(tree(to.path()), ["best.safetensors"]);
    fetched(&client, to.path(), "--best").await.unwrap();
    let state = coordinator.state.lock().unwrap();
    assert_eq!(state.reads.iter().filter(|path| *path == "best.safetensors").count(), 1);
}

#[tokio::test]
async fn a_whole_folder_has_checkpoints_that_verify_and_pointers_to_them() {
    let (_coordinator, client) = run_with(folder(), RunState::Done).await;
    let to = tempfile::tempdir().unwrap();
    let done = fetched(&client, to.path(), "--all").await.unwrap();
    assert_eq!(done.files, 11);
    let tree = tree(to.path());
    assert!(
        tree.contains(&"logs/worker-1.log".to_owned()) && !tree.iter().any(|path| path.contains("/.")),
        "{tree:?}"
    );
    assert!(tree.contains(&"checkpoints/best -> step-00000010".to_owned()), "{tree:?}");
    assert!(tree.contains(&"checkpoints/last -> step-00000020".to_owned()), "{tree:?}");
    let store = CheckpointStore::reading(to.path().join("checkpoints"));
    for step in [10, 20] {
        store.verify(Step(step)).unwrap();
    }
}

#[tokio::test]
async fn a_fetch_that_broke_goes_on_where_it_stopped() {
    let (coordinator, client) = run_with(folder(), RunState::Done).await;
    let to = tempfile::tempdir().unwrap();
    let broken = "checkpoints/step-00000020/optimizer.safetensors";
    coordinator.state.lock().unwrap().breaks = Some(broken.into());
    let (code, text) = told(fetched(&client, to.path(), "--all").await);
    assert!(code == code::CLUSTER && text.contains("the same command goes on"), "{text}");
    let tree_then = tree(to.path());
    assert!(!tree_then.iter().any(|path| path.contains("manifest") || path.contains("tmp")), "{tree_then:?}");
    coordinator.state.lock().unwrap().reads.clear();
    fetched(&client, to.path(), "--all").await.unwrap();
    let state = coordinator.state.lock().unwrap();
    let again = |path: &str| state.reads.iter().any(|read| read == path);
    assert!(again(broken) && !again("checkpoints/step-00000010/model.safetensors"), "{:?}", state.reads);
}

#[tokio::test]
async fn what_does_not_match_its_digest_gets_no_name() {
    for (path, flags) in
        [("checkpoints/step-00000020/model.safetensors", "--all"), ("best.safetensors", "--best")]
    {
        let mut files = folder();
        files.get_mut(path).unwrap()[3] ^= 1;
        let (_coordinator, client) = run_with(files, RunState::Done).await;
        let to = tempfile::tempdir().unwrap();
        let (code, text) = told(fetched(&client, to.path(), flags).await);
        assert!(
            code == code::DATA && text.contains(&format!("{path} of run first does not match")),
            "{text}"
        );
        assert!(!to.path().join(path).exists());
        assert!(!tree(to.path()).iter().any(|path| path.contains("tmp")));
    }
}

#[tokio::test]
async fn a_damaged_file_that_is_here_is_fetched_again() {
    let (_coordinator, client) = run_with(folder(), RunState::Done).await;
    let to = tempfile::tempdir().unwrap();
    fetched(&client, to.path(), "--best").await.unwrap();
    let best = to.path().join("best.safetensors");
    fs::write(&best, "damaged").unwrap();
    fetched(&client, to.path(), "--best").await.unwrap();
    assert_eq!(fs::read(best).unwrap(), folder()["best.safetensors"]);
}

#[tokio::test]
async fn a_checkpoint_that_is_replaced_meanwhile_does_no_harm() {
    let (coordinator, client) = run_with(folder(), RunState::Running).await;
    let to = tempfile::tempdir().unwrap();
    coordinator.state.lock().unwrap().after_list.push_back(Box::new(|files| {
        files.retain(|path, _| !path.contains("step-00000010"));
        checkpoint(files, 30);
        let best = files["checkpoints/step-00000030/model.safetensors"].clone();
        files.insert("best.safetensors".into(), best);
    }));
    fetched(&client, to.path(), "--all").await.unwrap();
    let tree = tree(to.path());
    assert!(tree.contains(&"checkpoints/best -> step-00000030".to_owned()), "{tree:?}");
    let store = CheckpointStore::reading(to.path().join("checkpoints"));
    store.verify(Step(30)).unwrap();
}

#[tokio::test]
async fn tables_of_a_run_that_goes_on_may_grow_and_those_of_one_that_is_over_may_not() {
    let grow = |files: &mut Files| files.get_mut("results.csv").unwrap().extend(b"2,0.1\n");
    let to = tempfile::tempdir().unwrap();
    let (coordinator, client) = run_with(folder(), RunState::Running).await;
    coordinator.state.lock().unwrap().after_list.push_back(Box::new(grow));
    fetched(&client, to.path(), "").await.unwrap();
    assert!(fs::read_to_string(to.path().join("results.csv")).unwrap().ends_with("2,0.1\n"));

    let (coordinator, client) = run_with(folder(), RunState::Done).await;
    for _ in 0..9 {
        coordinator.state.lock().unwrap().after_list.push_back(Box::new(grow));
    }
    let (code, text) = told(fetched(&client, to.path(), "").await);
    assert!(code == code::DATA && text.contains("results.csv of run first is larger"), "{text}");
}

#[tokio::test]
async fn a_checkpoint_with_a_damaged_manifest_is_left_out_of_the_whole() {
    let mut files = folder();
    files.get_mut("checkpoints/step-00000020/manifest.json").unwrap().truncate(9);
    let (_coordinator, client) = run_with(files, RunState::Done).await;
    let to = tempfile::tempdir().unwrap();
    fetched(&client, to.path(), "--all").await.unwrap();
    let tree = tree(to.path());
    assert!(!tree.iter().any(|path| path.starts_with("checkpoints/step-00000020")), "{tree:?}");
    assert!(tree.contains(&"checkpoints/last -> step-00000010".to_owned()), "{tree:?}");
}

#[tokio::test]
async fn a_file_that_could_lie_anywhere_is_refused_before_anything_is_written() {
    let mut files = folder();
    files.insert("plots/../../out.txt".into(), b"out".to_vec());
    let (_coordinator, client) = run_with(files, RunState::Done).await;
    let above = tempfile::tempdir().unwrap();
    let to = above.path().join("to");
    let (code, text) = told(fetched(&client, &to, "").await);
    assert!(code == code::DATA && text.contains("`plots/../../out.txt`"), "{text}");
    assert_eq!(tree(above.path()), Vec::<String>::new());
}

#[tokio::test]
async fn without_a_best_model_or_a_run_there_is_nothing() {
    let mut files = folder();
    files.remove("best.safetensors");
    let (_coordinator, client) = run_with(files, RunState::Running).await;
    let to = tempfile::tempdir().unwrap();
    let (code, text) = told(fetched(&client, to.path(), "--best").await);
    assert!(code == code::DATA && text.contains("no best model yet"), "{text}");
    let args = typed::<FetchArgs>("fist");
    let (code, text) = told(fetch(&client, &args, &DownloadBar::default()).await);
    assert!(code == code::USAGE && text.contains("did you mean `first`?"), "{text}");
    let (code, _) = told(fetch(&client, &typed::<FetchArgs>("../x"), &DownloadBar::default()).await);
    assert_eq!(code, code::USAGE);
    assert!(!Path::new("fist").exists());
}
