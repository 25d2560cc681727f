//! Downloads a file once, into the cache: continued where it stopped, checked, then renamed.
//!
//! Official servers can be slow and the files are large (CIFAR-10's archive has 170 MB, ResNet-152's weights 230
//! MB), so what has arrived is kept in a `.part` file and continued, by the next attempt or the next command. The
//! checksum that the publisher gives decides in the end, whatever the server answered in between; a file under its
//! final name has passed it.

mod checksum;
#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, StatusCode, header};

pub use checksum::Checksum;

/// Connections that break midway are continued this often before a person is asked.
const ATTEMPTS: u32 = 5;

/// A server that says nothing for so long is taken for gone. The whole download has no limit.
const SILENCE: Duration = Duration::from_secs(60);

const BUFFER_BYTES: usize = 1 << 16;

/// Where to download from, and what must arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub url: String,
    pub checksum: Checksum,
}

impl Source {
    /// The name that the URL ends in; one made from the checksum where it ends in none.
    fn file_name(&self) -> String {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        match path.rsplit('/').next() {
            Some(name) if !matches!(name, "" | "." | "..") => name.to_owned(),
            _ => format!("download-{}", self.checksum.digits()),
        }
    }
}

/// Why a file could not be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error("{url} could not be downloaded: {reason}")]
    Failed { url: String, reason: String },

    #[error("what {url} sent has {algorithm} {actual}, expected {expected}")]
    Checksum { url: String, algorithm: &'static str, expected: String, actual: String },

    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl DownloadError {
    /// For `map_err`: what was being done to which file.
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// Told how a download goes; the command line draws a bar.
pub trait DownloadProgress {
    /// A download begins, with `bytes_done` already here from an earlier one. Comes again when a broken
    /// connection is taken up.
    fn begin(&self, name: &str, bytes_total: Option<u64>, bytes_done: u64);
    /// So many bytes are here now.
    fn advance(&self, bytes_done: u64);
    /// The download ended, well or not.
    fn end(&self);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl DownloadProgress for NoProgress {
    fn begin(&self, _name: &str, _bytes_total: Option<u64>, _bytes_done: u64) {}
    fn advance(&self, _bytes_done: u64) {}
    fn end(&self) {}
}

/// Returns the file's path in `dir`, downloading what is missing of it.
///
/// # Errors
/// [`DownloadError`]; what has arrived stays for the next attempt, unless it failed its checksum.
pub fn fetch(source: &Source, dir: &Path, progress: &dyn DownloadProgress) -> Result<PathBuf, DownloadError> {
    let path = dir.join(source.file_name());
    if is_whole(&path, source)? {
        return Ok(path);
    }
    let part = dir.join(format!("{}.part", source.file_name()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part)
        .map_err(DownloadError::io("open", &part))?;
    // Two commands that start at once would write into one file. The second waits here, then finds the
    // first one's file. A file system without locks leaves the checksum to find it out.
    let _ = file.lock();
    if is_whole(&path, source)? {
        let _ = fs::remove_file(&part); // the empty one just made; leaving it would do no harm
        return Ok(path);
    }
    let continued = file.metadata().map_err(DownloadError::io("read", &part))?.len() > 0;
    let mut outcome = download_and_check(source, &mut file, &part, progress);
    if continued && matches!(outcome, Err(DownloadError::Checksum { .. })) {
        // The part may have been another file's: once more from the start.
        file.set_len(0).map_err(DownloadError::io("truncate", &part))?;
        outcome = download_and_check(source, &mut file, &part, progress);
    }
    match outcome {
        Ok(()) => {}
        Err(error @ DownloadError::Checksum { .. }) => {
            let _ = fs::remove_file(&part); // continuing it could never end well
            return Err(error);
        }
        Err(error) => return Err(error),
    }
    file.sync_all().map_err(DownloadError::io("sync", &part))?;
    fs::rename(&part, &path).map_err(DownloadError::io("rename", &part))?;
    Ok(path)
}

/// A file that was damaged after it got its name is downloaded again.
fn is_whole(path: &Path, source: &Source) -> Result<bool, DownloadError> {
    Ok(path.is_file()
        && source.checksum.matches(&source.checksum.of(path).map_err(DownloadError::io("read", path))?))
}

fn download_and_check(
    source: &Source,
    file: &mut File,
    part: &Path,
    progress: &dyn DownloadProgress,
) -> Result<(), DownloadError> {
    download(source, file, part, progress)?;
    let actual = source.checksum.of(part).map_err(DownloadError::io("read", part))?;
    if source.checksum.matches(&actual) {
        return Ok(());
    }
    Err(DownloadError::Checksum {
        url: source.url.clone(),
        algorithm: source.checksum.algorithm(),
        expected: source.checksum.digits().to_owned(),
        actual,
    })
}

/// Fills `file` to the end, taking up a connection that breaks as long as each one brings something.
fn download(
    source: &Source,
    file: &mut File,
    part: &Path,
    progress: &dyn DownloadProgress,
) -> Result<(), DownloadError> {
    let agent = agent();
    let mut attempt = 1;
    loop {
        let before = file.metadata().map_err(DownloadError::io("read", part))?.len();
        match attempt_once(&agent, source, file, before, progress) {
            Ok(()) => return Ok(()),
            Err(Broken::Disk(error)) => return Err(DownloadError::io("write", part)(error)),
            Err(Broken::Network(reason)) => {
                let after = file.metadata().map_err(DownloadError::io("read", part))?.len();
                if attempt == ATTEMPTS || after <= before {
                    return Err(DownloadError::Failed { url: source.url.clone(), reason });
                }
                attempt += 1;
            }
        }
    }
}

enum Broken {
    Network(String),
    Disk(io::Error),
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false) // 416 has a meaning here
        // The bytes as they lie on the server: a decoded archive would fail its checksum.
        .accept_encoding("identity")
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .build()
        .new_agent()
}

fn attempt_once(
    agent: &Agent,
    source: &Source,
    file: &mut File,
    bytes_here: u64,
    progress: &dyn DownloadProgress,
) -> Result<(), Broken> {
    let mut request = agent.get(&source.url);
    if bytes_here > 0 {
        request = request.header(header::RANGE, format!("bytes={bytes_here}-"));
    }
    let response = request.call().map_err(|e| Broken::Network(e.to_string()))?;
    let start = match response.status() {
        StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(bytes_here) => bytes_here,
        StatusCode::OK => 0, // this server does not continue: it sends everything again
        // Nothing lies beyond what is here: either it is whole, or the checksum will tell.
        StatusCode::RANGE_NOT_SATISFIABLE if bytes_here > 0 => return Ok(()),
        StatusCode::PARTIAL_CONTENT => {
            return Err(Broken::Network("the server continued at another place than asked".to_owned()));
        }
        status => return Err(Broken::Network(format!("the server answered {status}"))),
    };
    file.set_len(start).map_err(Broken::Disk)?;
    file.seek(SeekFrom::Start(start)).map_err(Broken::Disk)?;
    let bytes_total = response.body().content_length().map(|length| start + length);
    progress.begin(&source.file_name(), bytes_total, start);
    let outcome = receive(response, file, start, bytes_total, progress);
    progress.end();
    outcome
}

fn receive(
    response: Response<ureq::Body>,
    file: &mut File,
    start: u64,
    bytes_total: Option<u64>,
    progress: &dyn DownloadProgress,
) -> Result<(), Broken> {
    let mut body = response.into_body().into_reader();
    let mut bytes_done = start;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = body.read(&mut buffer).map_err(|e| Broken::Network(e.to_string()))?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count]).map_err(Broken::Disk)?;
        bytes_done += count as u64;
        progress.advance(bytes_done);
    }
    match bytes_total {
        Some(total) if bytes_done != total => {
            Err(Broken::Network(format!("the connection ended after {bytes_done} of {total} bytes")))
        }
        _ => Ok(()),
    }
}

/// Where the bytes of a partial answer belong: `Content-Range: bytes START-END/TOTAL`.
fn range_start<T>(response: &Response<T>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}
