//! Checkpoints on disk.
//!
//! ```text
//! checkpoints/step-00001250/{model,optimizer}.safetensors, manifest.json
//! checkpoints/last -> step-00001250     checkpoints/best -> step-00001000
//! ```
//!
//! A folder that bears its final name is whole: it is written aside, every file synced and hashed, the manifest
//! written last, then renamed. Reading trusts nothing: sizes and digests are checked against the manifest, and the
//! manifest against its own digest. Several workers may send one checkpoint at a time: each is written in a folder of
//! its own, the first that is whole gets the name, and what has the name and is whole is never written again.

mod manifest;
mod verify;
mod write;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lockstep_core::Step;

use crate::durable;

pub use manifest::{Manifest, ManifestFile, ManifestMetric};
pub use verify::{Damage, Survey};
pub use write::{CheckpointWriter, WriteError};

/// Bumped when a checkpoint's meaning changes.
pub(crate) const FORMAT_VERSION: u32 = 2;

const MANIFEST: &str = "manifest.json";

/// The name prefix of folders under construction, swept away at the next start.
const UNFINISHED: &str = ".unfinished-";

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    folder: PathBuf,
    /// Held while a checkpoint gets its name or loses it.
    naming: Arc<Mutex<()>>,
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
        Ok(Self::reading(folder))
    }

    /// The store in `folder` for reading alone, beside the process that writes it: nothing is made or removed.
    pub fn reading(folder: PathBuf) -> Self {
        Self { folder, naming: Arc::default() }
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

    /// The steps whose checkpoints bear their final names, in order.
    pub fn steps(&self) -> io::Result<Vec<Step>> {
        let mut steps = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let file_name = entry?.file_name();
            let step = file_name.to_str().and_then(|file_name| file_name.strip_prefix("step-"));
            let step = step.and_then(|digits| digits.parse().ok()).map(Step);
            steps.extend(step.filter(|step| file_name.to_str() == Some(&name(*step))));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// Points `last` and `best`, and copies the best model's weights to `best_weights`. What is not there, because
    /// somebody has removed or damaged it, is not pointed at: whoever needs it will find out.
    pub fn publish(&self, last: Step, best: Option<Step>, best_weights: &Path) -> io::Result<()> {
        if self.is_complete(last) {
            self.point("last", last)?;
        }
        if let Some(best) = best.filter(|best| self.is_complete(*best))
            && self.points_at("best") != Some(best)
        {
            durable::copy_file(&self.path(best).join("model.safetensors"), best_weights)?;
            self.point("best", best)?;
        }
        durable::sync_folder(&self.folder)
    }

    /// Removes a checkpoint. It loses its name first, so that a crash leaves no half of one under it.
    pub fn delete(&self, step: Step) -> io::Result<()> {
        let _naming = self.lock();
        self.delete_locked(step)
    }

    fn delete_locked(&self, step: Step) -> io::Result<()> {
        let doomed = self.unfinished(step);
        self.unpoint(step)?;
        match fs::rename(self.path(step), &doomed) {
            Ok(()) => fs::remove_dir_all(doomed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Keeps a damaged checkpoint for whoever wants to look, under a name that is never loaded.
    pub fn set_aside(&self, step: Step) -> io::Result<()> {
        let _naming = self.lock();
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

    /// Where something of `step` may lie that has no name yet, or none any more; another place each time.
    fn unfinished(&self, step: Step) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("{UNFINISHED}{}-{number}", name(step)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ()> {
        // It guards folders, which are whole or not whatever a thread died of.
        self.naming.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
