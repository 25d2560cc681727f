//! Which files are meant by the names of pictures and folders.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::data::pictures;

/// Pictures to look at, and what could not be found or read on the way to them, each a line.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: Vec<PathBuf>,
    pub(super) complaints: Vec<String>,
}

/// Files as they are named; of folders all files below that are called like pictures, in the order of their names.
pub(super) fn all(names: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for name in names {
        match fs::metadata(name) {
            Err(error) => found.complain(name, &error),
            Ok(metadata) if metadata.is_dir() => {
                let before = found.files.len() + found.complaints.len();
                walk(name, &mut found);
                if found.files.len() + found.complaints.len() == before {
                    found.complaints.push(format!("{}: the folder holds no picture", name.display()));
                }
            }
            // Whatever it is called: its content decides.
            Ok(_) => found.files.push(name.clone()),
        }
    }
    found
}

impl Found {
    fn complain(&mut self, path: &Path, error: &io::Error) {
        let why = if error.kind() == io::ErrorKind::NotFound {
            "there is no such file or folder".to_owned()
        } else {
            error.to_string()
        };
        self.complaints.push(format!("{}: {why}", path.display()));
    }
}

/// Links to folders are not followed: they may lead in a circle. Hidden files are no one's pictures.
fn walk(folder: &Path, found: &mut Found) {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return found.complain(folder, &error),
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&path, found),
            Ok(_) if pictures::is_called_so(&path) => found.files.push(path),
            Ok(_) => {}
            Err(error) => found.complain(&path, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_walked_in_order_and_files_are_taken_by_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("b/deep")).unwrap();
        for name in ["b/2.JPG", "b/10.png", "b/notes.txt", "b/.hidden.png", "b/deep/1.webp", "c.bin"] {
            fs::write(path(name), b"").unwrap();
        }
        std::os::unix::fs::symlink(path("b"), path("b/deep/circle")).unwrap();
        let found = all(&[path("c.bin"), path("b"), path("none"), path("b/10.png")]);
        let wanted = ["c.bin", "b/10.png", "b/2.JPG", "b/deep/1.webp", "b/10.png"].map(path);
        assert_eq!(found.files, wanted);
        assert_eq!(found.complaints.len(), 1);
        assert!(found.complaints[0].ends_with("none: there is no such file or folder"));
    }

    #[test]
    fn a_folder_without_pictures_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let found = all(&[folder.path().to_owned()]);
        assert!(found.files.is_empty() && found.complaints[0].ends_with("the folder holds no picture"));
    }
}
