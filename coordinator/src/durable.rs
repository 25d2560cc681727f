//! Writing files so that whatever bears its final name is whole: aside, synced, renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The name under which `path` is written before it is complete: hidden, beside it.
pub(crate) fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Replaces `path` by `bytes` in one step.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = aside(path);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Replaces `path` by `bytes` in one step for whoever reads it, but not for a loss of power: for what is written again then. Disks
/// take tens of such writes a second at most if each is waited for, and two hundred runs have more.
pub(crate) fn show_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = aside(path);
    let written = fs::write(&temporary, bytes);
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Replaces `to` by a copy of `from` in one step.
pub(crate) fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let temporary = aside(to);
    let copied = fs::copy(from, &temporary).and_then(|_| File::open(&temporary)?.sync_all());
    copied.and_then(|()| fs::rename(&temporary, to)).inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Points the symbolic link `link` at `target` in one step.
pub(crate) fn point(link: &Path, target: &str) -> io::Result<()> {
    let temporary = aside(link);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &temporary)?;
    fs::rename(&temporary, link)
}

/// Makes renames and new names in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
