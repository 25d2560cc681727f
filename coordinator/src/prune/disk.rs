//! Folders as the disk has them.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The size of the blocks in which the system counts, whatever the file system's own.
const BLOCK_BYTES: u64 = 512;

/// What `folder` takes of the disk. What cannot be read counts nothing.
pub(super) fn bytes(folder: &Path) -> u64 {
    let mut bytes = 0;
    walk(folder, &mut |metadata| bytes += metadata.blocks() * BLOCK_BYTES);
    bytes
}

/// When anything in `folder` was last written or read, as far as the file system keeps that.
pub(super) fn last_used(folder: &Path) -> SystemTime {
    let mut last = SystemTime::UNIX_EPOCH;
    walk(folder, &mut |metadata| {
        let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        // A look at a folder, such as this one, reads it.
        let read = metadata.accessed().ok().filter(|_| metadata.is_file());
        last = last.max(written).max(read.unwrap_or(written));
    });
    last
}

/// The folders in `folder`; none when there is no such folder.
pub(super) fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// Removes a folder that may be gone already.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Links are looked at, not followed.
fn walk(path: &Path, look: &mut impl FnMut(&Metadata)) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    look(&metadata);
    if metadata.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        entries.for_each(|entry| walk(&entry.path(), look));
    }
}
