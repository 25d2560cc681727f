//! The repository's text files, and the report of what is wrong with them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Built, fetched or made by runs and by Python; git ignores them. Dot folders are tools' own.
const NOT_OURS: [&str; 3] = ["target", "lockstep-home", "__pycache__"];

pub(crate) struct SourceFile {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    /// Whether this is the module that lies at `module` (`worker/src/client`) or one of its submodules.
    pub(crate) fn is_in(&self, module: &str) -> bool {
        let beyond = self.path.strip_prefix(module);
        beyond.is_some_and(|beyond| beyond == ".rs" || beyond.starts_with('/'))
    }

    /// Files of nothing but tests.
    pub(crate) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    pub(crate) fn breach(&self, line: usize, rule: impl Into<String>) -> Breach {
        Breach { path: self.path.clone(), line, rule: rule.into() }
    }
}

pub(crate) struct Breach {
    path: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// Shows all breaches at once, so that one run of the tests is enough to mend them.
#[track_caller]
pub(crate) fn assert_none(breaches: impl IntoIterator<Item = Breach>) {
    let lines: Vec<String> = breaches.into_iter().map(|breach| breach.to_string()).collect();
    assert!(lines.is_empty(), "the source tree breaks its rules:\n{}", lines.join("\n"));
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All text files in path order.
pub(crate) fn files() -> Vec<SourceFile> {
    let mut files = Vec::new();
    walk(&root(), "", &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 100, "only {} files found: is this the repository?", files.len());
    files
}

pub(crate) fn rust_files() -> Vec<SourceFile> {
    files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

pub(crate) fn file(path: &str) -> SourceFile {
    let text = fs::read_to_string(root().join(path));
    SourceFile { path: path.to_owned(), text: text.unwrap_or_else(|error| panic!("{path}: {error}")) }
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<SourceFile>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.expect("an entry of a folder that is being read");
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().expect("the kind of an entry of a folder that is being read");
        let path = format!("{prefix}{name}");
        if name.starts_with('.') || NOT_OURS.contains(&&*name) {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), files);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            files.push(SourceFile { path, text }); // what is not UTF-8 is no source
        }
    }
}
