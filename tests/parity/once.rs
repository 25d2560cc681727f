//! What is costly and always comes out the same is made once, under `target/parity`, and shared by all who test.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Marks a folder that was made to its end.
const COMPLETE: &str = ".complete";

/// The folder `target/parity/NAME-HASH`, where HASH follows from `key`, everything that its content depends on. Calls
/// `make` when it is missing or was left half done, and removes what another key made: these are gigabytes. A lock keeps
/// other processes from making it at the same time.
pub(crate) fn made_once(
    name: &str,
    key: &[&str],
    make: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/parity");
    let hash = key.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part).chain_update([0]));
    let hash = hex::encode(&hash.finalize()[..4]);
    let cannot = |error| format!("{} cannot be used: {error}", home.display());
    fs::create_dir_all(&home).map_err(cannot)?;
    let home = fs::canonicalize(&home).map_err(cannot)?;
    let lock = File::create(home.join(".lock")).map_err(cannot)?;
    lock.lock().map_err(cannot)?;
    let folder = home.join(format!("{name}-{hash}"));
    if !folder.join(COMPLETE).exists() {
        remove_all(&home, &format!("{name}-")).map_err(cannot)?;
        fs::create_dir(&folder).map_err(cannot)?;
        make(&folder)?;
        File::create(folder.join(COMPLETE)).map_err(cannot)?;
    }
    Ok(folder)
}

fn remove_all(home: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
