//! What lies where in the store.
//!
//! ```text
//! home.json                                        whose it is
//! blobs/DIGEST                                     data sets and weights
//! runs/NAME/journal/AFTER-LAST.jsonl               its entries (`segment`)
//! runs/NAME/record.json                            its row in the register of a cluster's runs
//! runs/NAME/checkpoints/step-…/                    as in the run's folder, the manifest last
//! runs/NAME/files/…                                the rest of the run's folder
//! ```

use std::path::{Component, Path, PathBuf};

use lockstep_core::Step;

pub(super) const HOME: &str = "home.json";
pub(super) const BLOBS: &str = "blobs/";
pub(super) const RUNS: &str = "runs/";

/// Folders of a run that are deeper hold nothing of ours.
const DEPTH_MAX: usize = 3;

pub(super) fn blob(digest: &str) -> String {
    format!("{BLOBS}{digest}")
}

pub(super) fn run(run: &str) -> String {
    format!("{RUNS}{run}/")
}

pub(super) fn record(name: &str) -> String {
    format!("{}record.json", run(name))
}

pub(super) fn journal(name: &str) -> String {
    format!("{}journal/", run(name))
}

pub(super) fn segment(name: &str, segment: &str) -> String {
    format!("{}{segment}", journal(name))
}

pub(super) fn checkpoints(name: &str) -> String {
    format!("{}checkpoints/", run(name))
}

pub(super) fn checkpoint(name: &str, step: Step) -> String {
    format!("{}step-{:08}/", checkpoints(name), step.0)
}

pub(super) fn manifest(name: &str, step: Step) -> String {
    format!("{}manifest.json", checkpoint(name, step))
}

/// The step whose checkpoint `key` is a file of.
pub(super) fn step_of(checkpoints: &str, key: &str) -> Option<Step> {
    let (folder, _) = key.strip_prefix(checkpoints)?.split_once('/')?;
    folder.strip_prefix("step-")?.parse().ok().map(Step)
}

pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(folder, Path::new(""), 0, &mut found);
    found.sort();
    found
}

pub(super) fn file(name: &str, path: &Path) -> String {
    format!("{}files/{}", run(name), path.display())
}

/// A run's files, relative to its folder: no checkpoints, no links, nothing of this process's life, and no names that a
/// store would have to write otherwise.
fn walk(folder: &Path, below: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder.join(below)) else { return };
    for entry in entries.flatten() {
        let (name, Ok(kind)) = (entry.file_name(), entry.file_type()) else { continue };
        let Some(name) = name.to_str().filter(|name| is_plain(name)) else { continue };
        let path = below.join(name);
        if kind.is_dir() && depth < DEPTH_MAX && path != Path::new("checkpoints") {
            walk(folder, &path, depth + 1, found);
        } else if kind.is_file() && path != Path::new("coordinator.json") {
            found.push(path);
        }
    }
}

/// Where a file of the store's belongs below a run's folder; none when it belongs nowhere there.
pub(super) fn place(relative: &str) -> Option<PathBuf> {
    let path = Path::new(relative);
    let plain = |component: Component<'_>| match component {
        Component::Normal(name) => name.to_str().is_some_and(is_plain),
        _ => false,
    };
    (path.components().all(plain) && !relative.is_empty()).then(|| path.to_owned())
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '=' | '+' | ',' | '@');
    !name.starts_with('.') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_people_are_found_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "run.json",
            "logs/worker-0.log",
            "plots/a.png",
            "checkpoints/step-1/model",
            ".lock",
            "coordinator.json",
            "a b",
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = files(folder.path());
        assert_eq!(found, ["logs/worker-0.log", "plots/a.png", "run.json"].map(PathBuf::from));
    }

    #[test]
    fn nothing_of_the_store_leaves_its_place() {
        assert_eq!(place("plots/a.png"), Some("plots/a.png".into()));
        for wrong in ["", "../a", "/etc/passwd", "a/../../b", ".lock", "a/.b", "a b"] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn steps_are_read_from_keys() {
        let key = manifest("a", Step(7));
        assert_eq!(key, "runs/a/checkpoints/step-00000007/manifest.json");
        assert_eq!(step_of(&checkpoints("a"), &key), Some(Step(7)));
        assert_eq!(step_of(&checkpoints("b"), &key), None);
    }
}
