//! Hands out the wanted files of a `.tar.gz`, one at a time and in the archive's own order.
//!
//! Nothing is unpacked to disk: entries' paths would have to be distrusted, and the batches are needed in
//! memory only once.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::DataError;

/// More than ten times the size of any real batch: stops a file that unpacks to everything there is.
pub(super) const FILE_BYTES_MAX: u64 = 512 << 20;

/// Calls `visit` with the name (without folders) and the bytes of every regular file that `wanted` names.
pub(super) fn for_each_file(
    path: &Path,
    wanted: impl Fn(&str) -> bool,
    mut visit: impl FnMut(&str, Vec<u8>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let damaged = |source| DataError::Archive { path: path.to_owned(), source };
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let mut archive = tar::Archive::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file)));
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let entry_path = entry.path().map_err(damaged)?.into_owned();
        let Some(name) = entry_path.file_name().and_then(|name| name.to_str()).filter(|name| wanted(name))
        else {
            continue;
        };
        let size_bytes = entry.size();
        if size_bytes > FILE_BYTES_MAX {
            let file = format!("{name} in {}", path.display());
            return Err(DataError::TooLarge { file, limit_bytes: FILE_BYTES_MAX });
        }
        // The size is the archive's claim: grow as bytes arrive, so that a lie costs no memory.
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 != size_bytes {
            return Err(damaged(std::io::ErrorKind::UnexpectedEof.into()));
        }
        visit(name, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::fixtures;

    fn names(path: &Path) -> Result<Vec<String>, DataError> {
        let mut names = Vec::new();
        for_each_file(
            path,
            |name| name != "skip",
            |name, bytes| {
                names.push(format!("{name}={}", bytes.len()));
                Ok(())
            },
        )?;
        Ok(names)
    }

    #[test]
    fn wanted_files_come_in_order_without_their_folders() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar.gz");
        fixtures::write_tar_gz(
            &path,
            "some/folder",
            &[("b", vec![1; 3]), ("skip", vec![]), ("a", vec![2; 700])],
        );
        assert_eq!(names(&path).unwrap(), ["b=3", "a=700"]);
    }

    #[test]
    fn an_archive_that_is_cut_short_or_none_at_all_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar.gz");
        fixtures::write_tar_gz(&path, "x", &[("a", (0..20_000).map(|i| (i * i % 251) as u8).collect())]);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(names(&path), Err(DataError::Archive { .. })));
        fs::write(&path, "<html>not an archive</html>").unwrap();
        assert!(matches!(names(&path), Err(DataError::Archive { .. })));
    }
}
