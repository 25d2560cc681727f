//! Activations of frozen layers, which workers that share the home's cache keep for the next run.

use std::time::{Duration, SystemTime};

use super::{PruneError, PrunedFolder, disk};
use crate::home::Home;
use crate::run_folder;

/// Whether a process works on any run of the home, of a cluster or by itself. One whose lock cannot be tried counts.
pub(super) fn is_anybody_at_work(home: &Home) -> bool {
    let runs = disk::folders(&home.path.join("runs"));
    runs.iter().any(|run| !matches!(run_folder::hold(run), Ok(Some(_))))
}

/// Removes those that were unused for `age`.
pub(super) fn prune(home: &Home, age: Duration, dry: bool) -> Result<Vec<PrunedFolder>, PruneError> {
    let now = SystemTime::now();
    let unused = |path: &std::path::PathBuf| {
        now.duration_since(disk::last_used(path)).is_ok_and(|unused| unused >= age)
    };
    let mut pruned = Vec::new();
    for path in disk::folders(&home.cache.join("activations")).into_iter().filter(unused) {
        let bytes = disk::bytes(&path);
        if !dry {
            disk::remove(&path).map_err(|source| PruneError::Io { path: path.clone(), source })?;
        }
        pruned.push(PrunedFolder { path, bytes });
    }
    pruned.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pruned)
}
