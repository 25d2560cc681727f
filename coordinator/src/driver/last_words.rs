//! What a lost worker said last, for the record of its loss.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use lockstep_core::WorkerName;

use crate::run_folder::RunFolder;

/// Enough for a panic's message or libtorch's complaint.
const LINES: usize = 15;

/// Read from the log's end; a line that is longer loses its beginning.
const BYTES: u64 = 16 << 10;

/// The last lines of its log; none when it wrote none here, as a worker on another machine.
pub(super) fn last_words(folder: &RunFolder, worker: &WorkerName) -> Vec<String> {
    // A name is what its owner likes; it does not lead out of the logs' folder.
    if worker.0.contains('/') { Vec::new() } else { last_lines(&folder.log(&worker.0)).unwrap_or_default() }
}

fn last_lines(path: &Path) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let size_bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(size_bytes.saturating_sub(BYTES)))?;
    let mut tail = Vec::new();
    file.take(BYTES).read_to_end(&mut tail)?;
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_log_are_found_however_long_it_is() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(home.path(), "a").unwrap();
        let worker = WorkerName::from("worker-0");
        assert_eq!(last_words(&folder, &worker), [""; 0]);
        let text: String = (0..9_999).map(|line| format!("line {line}\n")).collect();
        std::fs::write(folder.log("worker-0"), text).unwrap();
        let lines = last_words(&folder, &worker);
        assert_eq!((lines.len(), lines[0].as_str(), lines[14].as_str()), (15, "line 9984", "line 9998"));
        std::fs::write(home.path().join("secret.log"), "secret").unwrap();
        assert_eq!(last_words(&folder, &"../../../secret".into()), [""; 0]);
    }
}
