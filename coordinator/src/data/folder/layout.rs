//! What lies in a folder of pictures: which folders are splits, which are classes, and which files are pictures.
//!
//! `train/CLASS/…` beside `test/`, `val/`, `valid/` or `validation/`, or class folders alone. Below a class everything
//! counts, however deep. The order is that of the names' bytes, so it is the same on every machine.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::data::{DataError, SplitName, pictures};

const TRAIN: &str = "train";

/// What a test split may be called, in order of preference: where `test/` has its pictures by class, a `val/` beside
/// it was meant for choices during training.
const TEST: [&str; 4] = ["test", "val", "valid", "validation"];

/// Files that were passed over are counted; so many are named.
const NAMED_MAX: usize = 3;

/// One picture's file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Picture {
    /// Where the folder says; `None` where it has no test split.
    pub(super) split: Option<SplitName>,
    pub(super) class: u16,
    /// From the folder that was asked for.
    pub(super) file: PathBuf,
}

/// The folder's pictures, by split, class and name.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    /// Where the class folders of the training split, or of all, lie.
    classes_at: PathBuf,
    pub(super) classes: Vec<String>,
    pub(super) pictures: Vec<Picture>,
    /// Where those of the test split lie, if it has a folder.
    pub(super) test_folder: Option<PathBuf>,
    /// Folders that could be a test split as well.
    unused: Vec<&'static str>,
    passed_over: PassedOver,
}

#[derive(Debug, Default)]
struct PassedOver {
    hidden: usize,
    files: usize,
    examples: Vec<String>,
}

impl Layout {
    pub(super) fn find(root: &Path) -> Result<Self, DataError> {
        if !root.is_dir() {
            return Err(DataError::NoFolder { path: root.to_owned() });
        }
        let train = root.join(TRAIN);
        let (mut test_folder, mut unused) = (None, Vec::new());
        let has_split = is_split(&train)?;
        if has_split {
            for name in TEST {
                match is_split(&root.join(name))? {
                    true if test_folder.is_none() => test_folder = Some(root.join(name)),
                    true => unused.push(name),
                    false => {}
                }
            }
        }
        let classes_at = if has_split { train } else { root.to_owned() };
        let mut layout = Self {
            root: root.to_owned(),
            classes: Vec::new(),
            pictures: Vec::new(),
            passed_over: PassedOver::default(),
            classes_at,
            test_folder,
            unused,
        };
        layout.classes = layout.find_classes()?;
        for split in [SplitName::Train, SplitName::Test] {
            if split == SplitName::Train || layout.test_folder.is_some() {
                layout.walk_split(split)?;
            }
        }
        layout.pictures.sort_unstable();
        Ok(layout)
    }

    pub(super) fn path_of(&self, picture: usize) -> PathBuf {
        self.root.join(self.shown(picture))
    }

    /// The picture's name from the folder that was asked for.
    pub(super) fn shown(&self, picture: usize) -> &Path {
        &self.pictures[picture].file
    }

    pub(super) fn class_folder(&self, split: SplitName, class: usize) -> PathBuf {
        self.split_folder(split).join(&self.classes[class])
    }

    fn split_folder(&self, split: SplitName) -> &Path {
        match (split, &self.test_folder) {
            (SplitName::Test, Some(folder)) => folder,
            _ => &self.classes_at,
        }
    }

    /// What a person should know: a sentence each.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let (Some(test), [first, ..]) = (&self.test_folder, &self.unused[..]) {
            notes.push(format!("{} is the test split; {first}/ beside it is not used", test.display()));
        }
        if self.classes_at != self.root && self.test_folder.is_none() {
            notes.push(format!(
                "there is no test/ or val/ with class folders beside {}",
                self.classes_at.display()
            ));
        }
        let PassedOver { files, hidden, examples } = &self.passed_over;
        if *files > 0 {
            let more = if *files > examples.len() { ", …" } else { "" };
            notes.push(format!(
                "passed over files that are no pictures: {files} ({}{more})",
                examples.join(", ")
            ));
        }
        if *hidden > 0 {
            notes.push(format!("passed over hidden files and folders: {hidden}"));
        }
        notes
    }

    /// The classes of the training split, which the test split must have too.
    fn find_classes(&mut self) -> Result<Vec<String>, DataError> {
        let classes = class_folders(&self.classes_at)?;
        if !(2..=usize::from(u16::MAX)).contains(&classes.len()) {
            return Err(DataError::ClassFolders { folder: self.classes_at.clone(), found: classes.len() });
        }
        if let Some(test_folder) = &self.test_folder {
            let tested = class_folders(test_folder)?;
            let alone = |of: &[String], at: &Path, others: &[String], other: &Path| {
                let name = of.iter().find(|name| others.binary_search(name).is_err())?;
                Some(DataError::ClassesDiffer { folder: at.join(name), other: other.to_owned() })
            };
            let differ = alone(&classes, &self.classes_at, &tested, test_folder);
            if let Some(error) = differ.or_else(|| alone(&tested, test_folder, &classes, &self.classes_at)) {
                return Err(error);
            }
        }
        Ok(classes)
    }

    fn walk_split(&mut self, split: SplitName) -> Result<(), DataError> {
        let given = self.test_folder.is_some().then_some(split);
        for (path, is_folder) in entries(self.split_folder(split))? {
            // What lies beside the class folders.
            if !is_folder || is_hidden(&path) {
                self.passed_over.add(&path);
            }
        }
        for class in 0..self.classes.len() {
            let before = self.pictures.len();
            let folder = self.class_folder(split, class);
            // At most u16::MAX, checked when they were found.
            self.walk(&folder, given, class as u16, &mut Vec::new())?;
            if self.pictures.len() == before {
                return Err(DataError::EmptyClass { folder });
            }
        }
        Ok(())
    }

    /// `above` are the folders that lead here, links resolved: one of them again would never end.
    fn walk(
        &mut self,
        folder: &Path,
        split: Option<SplitName>,
        class: u16,
        above: &mut Vec<PathBuf>,
    ) -> Result<(), DataError> {
        let resolved = folder.canonicalize().map_err(DataError::io("read", folder))?;
        if above.contains(&resolved) {
            return Err(DataError::Loop { folder: folder.to_owned() });
        }
        above.push(resolved);
        for (path, is_folder) in entries(folder)? {
            if is_hidden(&path) {
                self.passed_over.add(&path);
            } else if is_folder {
                self.walk(&path, split, class, above)?;
            } else if pictures::is_called_so(&path) {
                let file = path.strip_prefix(&self.root).unwrap_or(&path).to_owned();
                self.pictures.push(Picture { split, class, file });
            } else {
                self.passed_over.add(&path);
            }
        }
        above.pop();
        Ok(())
    }
}

impl PassedOver {
    fn add(&mut self, path: &Path) {
        if is_hidden(path) {
            self.hidden += 1;
            return;
        }
        self.files += 1;
        if self.examples.len() < NAMED_MAX {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.examples.push(name.replace(char::is_control, " "));
        }
    }
}

/// A folder of class folders. One that holds pictures itself is a class that happens to be called so: trains, say.
fn is_split(folder: &Path) -> Result<bool, DataError> {
    if !folder.is_dir() {
        return Ok(false);
    }
    let entries = entries(folder)?;
    let visible = |path: &PathBuf| !is_hidden(path);
    let has_classes = entries.iter().any(|(path, is_folder)| *is_folder && visible(path));
    let has_pictures =
        entries.iter().any(|(path, is_folder)| !is_folder && visible(path) && pictures::is_called_so(path));
    Ok(has_classes && !has_pictures)
}

/// Names, sorted by their bytes.
fn class_folders(folder: &Path) -> Result<Vec<String>, DataError> {
    let folders = entries(folder)?.into_iter().filter(|(path, is_folder)| *is_folder && !is_hidden(path));
    folders
        .map(|(path, _)| match path.file_name().and_then(OsStr::to_str) {
            Some(name) => Ok(name.to_owned()),
            None => Err(DataError::ClassName { folder: path }),
        })
        .collect()
}

/// What lies in a folder, links followed, and whether each is a folder itself; by the names' bytes.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>, DataError> {
    let read = || {
        fs::read_dir(folder)?
            .map(|entry| {
                let path = entry?.path();
                // A link to nowhere is a file here, and a broken picture later.
                let is_folder = path.is_dir();
                Ok((path, is_folder))
            })
            .collect::<Result<Vec<_>, std::io::Error>>()
    };
    let mut entries = read().map_err(DataError::io("read", folder))?;
    entries.sort_unstable_by(|(a, _), (b, _)| {
        a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes())
    });
    Ok(entries)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}
