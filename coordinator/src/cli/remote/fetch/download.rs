//! One file: aside, verified, synced, renamed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::expected::Expected;
use super::place::Place;
use crate::cli::remote::refusal;
use crate::client::RunClient;
use crate::credentials::client::RemoteError;
use crate::download::DownloadProgress;
use crate::durable;

/// A smaller file is here before a bar could be read.
const SHOWN_BYTES: u64 = 4 << 20;

/// What keeps a file from being here.
#[derive(Debug)]
pub(super) enum Trouble {
    Remote(RemoteError),
    Io {
        path: PathBuf,
        source: io::Error,
    },
    /// There is no best model.
    NoBest,
    /// It could lie anywhere.
    Path {
        path: String,
    },
    /// It is not what was listed; another look may find what it is now.
    Changed {
        path: String,
        how: &'static str,
    },
}

impl Trouble {
    pub(super) fn changed(place: &Place, how: &'static str) -> Self {
        Self::Changed { path: place.path.clone(), how }
    }

    /// A file that was listed and is gone was replaced meanwhile.
    pub(super) fn of_file(error: RemoteError, place: &Place) -> Self {
        if refusal::is_unknown(&error) {
            return Self::changed(place, "is gone again");
        }
        Self::Remote(error)
    }
}

impl From<RemoteError> for Trouble {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

/// What was to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    /// Nothing: it was here.
    Here,
    Fetched {
        bytes: u64,
    },
}

/// Sees to it that the file is below `folder`, as expected.
pub(super) async fn copy(
    client: &RunClient,
    run: &str,
    place: &Place,
    folder: &Path,
    expected: &Expected,
    progress: &dyn DownloadProgress,
) -> Result<Copied, Trouble> {
    let path = place.below(folder);
    let io = |source| Trouble::Io { path: path.clone(), source };
    if is_here(&path, expected).map_err(io)? {
        return Ok(Copied::Here);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io)?;
    }
    let temporary = durable::aside(&path);
    let received = receive(client, run, place, &temporary, expected, progress).await;
    let named = match received {
        Ok(bytes) => fs::rename(&temporary, &path).map(|()| Copied::Fetched { bytes }).map_err(io),
        Err(trouble) => Err(trouble),
    };
    named.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Whether nothing has to be fetched. A size alone does not tell.
fn is_here(path: &Path, expected: &Expected) -> io::Result<bool> {
    let wanted = match expected {
        // The best model of an earlier moment is one of several, and not the best any more.
        Expected::Exactly { sha256, .. } | Expected::OneOf { now: Some(sha256), .. } => sha256,
        Expected::OneOf { now: None, .. } | Expected::Size(_) | Expected::Anything => return Ok(false),
    };
    match File::open(path) {
        Ok(file) => Ok(*wanted == digest(file)?.0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// sha256, hex, and the number of bytes.
pub(super) fn digest(mut file: impl Read) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut file, &mut hash)?;
    Ok((hex::encode(hash.finalize()), bytes))
}

async fn receive(
    client: &RunClient,
    run: &str,
    place: &Place,
    to: &Path,
    expected: &Expected,
    progress: &dyn DownloadProgress,
) -> Result<u64, Trouble> {
    let io = |source| Trouble::Io { path: to.to_owned(), source };
    let remote = |error| Trouble::of_file(error, place);
    let mut content = client.file(run, &place.path).await.map_err(remote)?;
    let mut file = File::create(to).map_err(io)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let shown = (place.size_bytes >= SHOWN_BYTES).then_some(progress);
    shown.inspect(|progress| progress.begin(&place.path, Some(place.size_bytes), 0));
    let _end = shown.map(End);
    while let Some(chunk) = content.next().await.map_err(remote)? {
        let chunk = chunk.as_ref();
        bytes += chunk.len() as u64;
        if expected.size().is_some_and(|size| bytes > size) {
            return Err(Trouble::changed(place, "is larger than it should be"));
        }
        hash.update(chunk);
        file.write_all(chunk).map_err(io)?;
        shown.inspect(|progress| progress.advance(bytes));
    }
    expected.check(place, bytes, &hex::encode(hash.finalize()))?;
    file.sync_all().map_err(io)?;
    Ok(bytes)
}

/// Takes the bar away, however the copying ends.
struct End<'a>(&'a dyn DownloadProgress);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Expected {
    fn size(&self) -> Option<u64> {
        match self {
            Self::Exactly { size_bytes, .. } | Self::Size(size_bytes) => Some(*size_bytes),
            Self::OneOf { .. } | Self::Anything => None,
        }
    }

    fn check(&self, place: &Place, bytes: u64, sha256: &str) -> Result<(), Trouble> {
        if self.size().is_some_and(|size| size != bytes) {
            return Err(Trouble::changed(place, "has not the size that it should have"));
        }
        let is_right = match self {
            Self::Exactly { sha256: wanted, .. } => wanted == sha256,
            Self::OneOf { sha256: wanted, .. } => wanted.iter().any(|wanted| wanted == sha256),
            Self::Size(_) | Self::Anything => true,
        };
        if is_right { Ok(()) } else { Err(Trouble::changed(place, "does not match its checkpoint's digest")) }
    }
}
