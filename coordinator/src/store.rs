//! Checkpoints on disk.
//!
//! ```text
//! checkpoints/step-00001250/{model,optimizer}.safetensors, manifest.json
//! checkpoints/last -> step-00001250     checkpoints/best -> step-00001000
//! ```
//!
//! A folder that bears its final name is whole: it is written aside, every file synced and hashed, the manifest
//! written last, then renamed. Reading trusts nothing: sizes and digests are checked against the manifest.

mod verify;
mod write;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lockstep_core::{Position, Step};
use serde::{Deserialize, Serialize};

use crate::durable;

pub use verify::Damage;
pub use write::{CheckpointWriter, WriteError};

/// Bumped when a checkpoint's meaning changes.
pub(crate) const FORMAT_VERSION: u32 = 1;

const MANIFEST: &str = "manifest.json";

/// The name prefix of folders under construction, swept away at the next start.
const UNFINISHED: &str = ".unfinished-";

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    folder: PathBuf,
}

/// What `manifest.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    pub lockstep_version: String,
    pub run: String,
    pub generation: u64,
    pub position: Position,
    /// Of the epoch that ended here; absent in the middle of an epoch.
    pub metric: Option<ManifestMetric>,
    pub files: Vec<ManifestFile>,
}

/// The metric by which the best model is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestMetric {
    /// `val/acc_top1` or `test/acc_top1`.
    pub name: String,
    pub value: f64,
    pub epoch: u32,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    pub name: String,
    pub size_bytes: u64,
    /// Hex.
    pub sha256: String,
}

impl CheckpointStore {
    /// The store in `folder`, which is made; what an interrupted write left there is removed.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self { folder })
    }

    /// The store in `folder` for reading alone, beside the process that writes it: nothing is made or removed.
    pub fn reading(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The step that the pointer `best` or `last` names now.
    pub fn points_at(&self, pointer: &str) -> Option<Step> {
        let target = fs::read_link(self.folder.join(pointer)).ok()?;
        target.to_str()?.strip_prefix("step-")?.parse().ok().map(Step)
    }

    /// Where the checkpoint of `step` lies, whether it exists or not.
    pub fn path(&self, step: Step) -> PathBuf {
        self.folder.join(name(step))
    }

    /// Points `last` and `best`, and copies the best model's weights to `best_weights`.
    pub fn publish(&self, last: Step, best: Option<Step>, best_weights: &Path) -> io::Result<()> {
        self.point("last", last)?;
        if let Some(best) = best
            && self.points_at("best") != Some(best)
        {
            durable::copy_file(&self.path(best).join("model.safetensors"), best_weights)?;
            self.point("best", best)?;
        }
        durable::sync_folder(&self.folder)
    }

    /// Removes a checkpoint. It loses its name first, so that a crash leaves no half of one under it.
    pub fn delete(&self, step: Step) -> io::Result<()> {
        let doomed = self.folder.join(format!("{UNFINISHED}deleted-{}", name(step)));
        self.unpoint(step)?;
        match fs::rename(self.path(step), &doomed) {
            Ok(()) => fs::remove_dir_all(doomed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Keeps a damaged checkpoint for whoever wants to look, under a name that is never loaded.
    pub fn set_aside(&self, step: Step) -> io::Result<()> {
        let aside = self.folder.join(format!("{}.damaged", name(step)));
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        self.unpoint(step)?;
        match fs::rename(self.path(step), aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn point(&self, link: &str, step: Step) -> io::Result<()> {
        durable::point(&self.folder.join(link), &name(step))
    }

    /// No pointer is left to point at nothing.
    fn unpoint(&self, step: Step) -> io::Result<()> {
        let pointers = ["last", "best"].into_iter().filter(|link| self.points_at(link) == Some(step));
        pointers.map(|link| self.folder.join(link)).try_for_each(fs::remove_file)
    }
}

fn name(step: Step) -> String {
    format!("step-{:08}", step.0)
}
