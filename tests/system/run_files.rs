//! A run's folder as a reader of it sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The folder of one run, which may not exist yet.
#[derive(Debug)]
pub(crate) struct RunFiles {
    pub(crate) path: PathBuf,
}

/// What two runs of one recipe must have in common, to the last bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// sha256 of `best.safetensors`.
    pub(crate) best: String,
    /// sha256 of the last checkpoint's files.
    pub(crate) model: String,
    pub(crate) optimizer: String,
    pub(crate) results: String,
    pub(crate) ledger: String,
}

impl RunFiles {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What a log holds so far.
    pub(crate) fn log(&self, process: &str) -> String {
        fs::read_to_string(self.path.join(format!("logs/{process}.log"))).unwrap_or_default()
    }

    /// Whether a checkpoint is on its way to its final name.
    pub(crate) fn has_unfinished_checkpoint(&self) -> bool {
        let entries = fs::read_dir(self.path.join("checkpoints")).into_iter().flatten();
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(".unfinished"))
    }

    /// `run.json`.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.text("run.json")).unwrap()
    }

    /// The complete lines of `events.jsonl`.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path.join("events.jsonl")).unwrap_or_default();
        let complete = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        complete
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    /// All events of one kind, e.g. `epoch_ended`.
    pub(crate) fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// The first event of a kind, once it is there.
    pub(crate) fn event(&self, kind: &str) -> Option<Value> {
        self.events_of(kind).into_iter().next()
    }

    /// What each change of membership cost.
    pub(crate) fn receipts(&self) -> Vec<Value> {
        self.events_of("generation_started")
    }

    pub(crate) fn newest_generation(&self) -> Option<Value> {
        self.events_of("generation_began").pop()
    }

    pub(crate) fn checkpoint(&self, step: u64) -> PathBuf {
        self.path.join(format!("checkpoints/step-{step:08}"))
    }

    /// Once the run knows of the checkpoint of `step`. The folder alone may still be unknown to it: a kill between the
    /// two leaves a checkpoint that no resume looks at.
    pub(crate) fn stored(&self, step: u64) -> Option<()> {
        self.stored_steps().contains(&step).then_some(())
    }

    /// The steps of the checkpoints that the run knows of.
    pub(crate) fn stored_steps(&self) -> BTreeSet<u64> {
        let stored = self.events_of("checkpoint_stored");
        stored.iter().filter_map(|event| event["position"]["step"].as_u64()).collect()
    }

    /// The steps of the checkpoints with final names.
    pub(crate) fn checkpoints(&self) -> BTreeSet<u64> {
        let entries = fs::read_dir(self.path.join("checkpoints")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| name.strip_prefix("step-")?.parse().ok()).collect()
    }

    /// The sha256 of each checkpoint's model, by step.
    pub(crate) fn models(&self) -> BTreeMap<u64, String> {
        let model = |step| sha256(&self.checkpoint(step).join("model.safetensors"));
        self.checkpoints().into_iter().map(|step| (step, model(step))).collect()
    }

    /// The step that `last` or `best` points at.
    pub(crate) fn points_at(&self, link: &str) -> u64 {
        let target = fs::read_link(self.path.join("checkpoints").join(link)).unwrap();
        target.to_str().unwrap().strip_prefix("step-").unwrap().parse().unwrap()
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let sha256 = |name: &str| sha256(&self.path.join(name));
        Outcome {
            best: sha256("best.safetensors"),
            model: sha256("checkpoints/last/model.safetensors"),
            optimizer: sha256("checkpoints/last/optimizer.safetensors"),
            results: self.text("results.csv"),
            ledger: self.text("ledger.csv"),
        }
    }

    /// No checkpoint was stored twice, and no epoch decided on twice, except when the run went back to an earlier
    /// checkpoint in between.
    #[track_caller]
    pub(crate) fn stored_nothing_twice(&self) {
        let mut stored = BTreeSet::new();
        let mut decided = BTreeSet::new();
        for event in self.events() {
            match event["event"].as_str().unwrap() {
                "resumed" => {
                    let step = event["position"]["step"].as_u64().unwrap();
                    stored.retain(|stored| *stored <= step);
                    let epoch = event["position"]["epoch"].as_u64().unwrap();
                    decided.retain(|decided| *decided < epoch);
                }
                "checkpoint_stored" => {
                    let step = event["position"]["step"].as_u64().unwrap();
                    assert!(stored.insert(step), "the checkpoint of step {step} was stored twice");
                }
                "epoch_ended" => {
                    let epoch = event["epoch"].as_u64().unwrap();
                    assert!(decided.insert(epoch), "epoch {epoch} ended twice");
                }
                _ => {}
            }
        }
    }

    /// Compares every checkpoint with its manifest, independently of the program's own check.
    #[track_caller]
    pub(crate) fn verify_checkpoints(&self) {
        for step in self.checkpoints() {
            let folder = self.checkpoint(step);
            let manifest: Value =
                serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
            assert_eq!(manifest["position"]["step"], step);
            let files = manifest["files"].as_array().unwrap();
            let names: Vec<&str> = files.iter().map(|file| file["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["model.safetensors", "optimizer.safetensors"], "step {step}");
            for file in files {
                let path = folder.join(file["name"].as_str().unwrap());
                assert_eq!(
                    fs::metadata(&path).unwrap().len(),
                    file["size_bytes"].as_u64().unwrap(),
                    "{path:?}"
                );
                assert_eq!(sha256(&path), file["sha256"].as_str().unwrap(), "{path:?}");
            }
        }
    }
}

/// Rows of a table by column name.
pub(crate) fn table(csv: &str) -> Vec<BTreeMap<&str, &str>> {
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| {
            let cells = cells(line);
            assert_eq!(cells.len(), header.len(), "{line}");
            header.iter().copied().zip(cells).collect()
        })
        .collect()
}

/// A line's cells; only the last one may be quoted.
fn cells(line: &str) -> Vec<&str> {
    let (plain, quoted) = line.strip_suffix('"').and_then(|line| line.split_once(",\"")).unzip();
    plain.unwrap_or(line).split(',').chain(quoted).collect()
}

pub(crate) fn sha256(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    hex::encode(Sha256::digest(bytes))
}
