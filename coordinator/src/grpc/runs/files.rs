//! The files of a run's folder that people may have.
//!
//! A path is taken apart into names, and each has to be a plain one: not hidden (locks and what is half-written are), not a
//! link (`last` and `best` among the checkpoints are, and what they point at is there anyway), nothing that could lead
//! out of the folder. What is listed and what may be read is decided by the same rule.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lockstep_proto::v1 as pb;
use tonic::Status;

use crate::grpc::bulk::{Chunks, stream};

/// More files than any run has.
const FILES_MAX: usize = 10_000;

/// Folders below the run's: a checkpoint's files are two below it.
const DEPTH_MAX: usize = 3;

pub(super) async fn list(folder: PathBuf) -> Result<Vec<pb::RunFile>, Status> {
    let listed = tokio::task::spawn_blocking(move || {
        let mut files = Vec::new();
        match walk(&folder, "", DEPTH_MAX, &mut files) {
            // It has not begun.
            Err(error) if error.kind() == io::ErrorKind::NotFound && files.is_empty() => Ok(files),
            walked => walked.map(|()| files),
        }
    });
    let listed = listed.await.map_err(|error| Status::internal(error.to_string()))?;
    let mut files = listed.map_err(|error| Status::internal(format!("the run's folder: {error}")))?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<pb::RunFile>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_plain(name)) else { continue };
        let path = format!("{prefix}{name}");
        // Of the entry itself, not of what a link points at. It may be gone by now.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() && depth > 1 {
            match walk(&entry.path(), &format!("{path}/"), depth - 1, files) {
                // An old checkpoint, deleted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                walked => walked?,
            }
        } else if metadata.is_file() && files.len() < FILES_MAX {
            files.push(pb::RunFile { path, size_bytes: metadata.len() });
        }
    }
    Ok(())
}

pub(super) async fn read(folder: PathBuf, path: String) -> Result<Chunks, Status> {
    let found = tokio::task::spawn_blocking(move || find(&folder, &path));
    let found = found.await.map_err(|error| Status::internal(error.to_string()))??;
    Ok(stream(found))
}

/// Where such a file lies.
fn find(folder: &Path, path: &str) -> Result<PathBuf, Status> {
    let names: Vec<&str> = path.split('/').collect();
    if names.len() > DEPTH_MAX || !names.iter().all(|name| is_plain(name)) {
        return Err(Status::invalid_argument(format!(
            "`{}` is no file's path in a run",
            path.escape_debug()
        )));
    }
    let missing = || Status::not_found(format!("the run has no file {path}"));
    let mut at = folder.to_owned();
    for (index, name) in names.iter().enumerate() {
        at.push(name);
        let metadata = fs::symlink_metadata(&at).map_err(|_| missing())?;
        let is_last = index + 1 == names.len();
        if !(if is_last { metadata.is_file() } else { metadata.is_dir() }) {
            return Err(missing());
        }
    }
    Ok(at)
}

/// A name that is one, and not one of those that are no business of anybody's.
fn is_plain(name: &str) -> bool {
    let hidden = name.is_empty() || name.starts_with('.');
    let unfinished = name.ends_with(".part") || name.ends_with(".tmp") || name.ends_with(".damaged");
    !hidden && !unfinished && !name.contains(['/', '\\']) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tonic::Code;

    use super::*;

    /// A run's folder, with a secret beside it.
    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        let step = run.join("checkpoints/step-00000001");
        fs::create_dir_all(&step).unwrap();
        fs::create_dir_all(run.join("checkpoints/.unfinished-1")).unwrap();
        fs::write(home.path().join("secret"), "s").unwrap();
        for path in [
            "run.json",
            ".lock",
            "model.part",
            ".x.tmp",
            "checkpoints/step-00000001/model.safetensors",
            "checkpoints/.unfinished-1/model.safetensors",
        ] {
            fs::write(run.join(path), path).unwrap();
        }
        symlink("step-00000001", run.join("checkpoints/last")).unwrap();
        symlink("../secret", run.join("link")).unwrap();
        symlink("..", run.join("up")).unwrap();
        home
    }

    #[tokio::test]
    async fn what_people_may_have_is_listed_and_read_and_nothing_else() {
        let home = home();
        let run = home.path().join("run");
        let listed: Vec<String> =
            list(run.clone()).await.unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(listed, ["checkpoints/step-00000001/model.safetensors", "run.json"]);
        for path in &listed {
            assert_eq!(fs::read_to_string(find(&run, path).unwrap()).unwrap(), *path);
        }
        for path in [
            "../secret",
            "/etc/passwd",
            "checkpoints/../../secret",
            "checkpoints//step-00000001/model.safetensors",
            ".lock",
            "model.part",
            ".x.tmp",
            "./run.json",
            "checkpoints/.unfinished-1/model.safetensors",
            "",
            "a\0b",
            "..\\secret",
        ] {
            assert_eq!(find(&run, path).unwrap_err().code(), Code::InvalidArgument, "{path:?}");
        }
        for path in
            ["link", "up/secret", "checkpoints/last/model.safetensors", "checkpoints", "none", "run.json/x"]
        {
            assert_eq!(find(&run, path).unwrap_err().code(), Code::NotFound, "{path}");
        }
    }

    #[tokio::test]
    async fn a_run_that_has_not_begun_has_no_files() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(list(home.path().join("run")).await.unwrap(), []);
    }
}
