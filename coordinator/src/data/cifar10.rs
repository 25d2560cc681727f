//! CIFAR-10 from a folder or archive, in the binary or the Python edition, whole or a subset.
//!
//! Both editions cut the pictures into five training batches and one test batch and lay a picture out as
//! planes R, G, B, so records of both end up as the same bytes, and with them the same digest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::canonical::{Records, Split};
use super::cifar::{self, IMAGE_BYTES};
use super::{DataError, DataName, archive, pickle};

const CLASSES: usize = 10;

const CLASS_NAMES: [&str; CLASSES] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The binary edition's list of class names; optional.
const CLASS_NAMES_FILE: &str = "batches.meta.txt";

/// The batches in order, as the Python edition names their files. The last one is the test split.
const BATCHES: [&str; 6] =
    ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];

const TEST_BATCH: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edition {
    Binary,
    Python,
}

impl Edition {
    /// In order of preference where both are found: the binary edition reads faster.
    const ALL: [Self; 2] = [Self::Binary, Self::Python];

    /// The folder that the edition's archive unpacks to.
    fn folder(self) -> &'static str {
        match self {
            Self::Binary => "cifar-10-batches-bin",
            Self::Python => "cifar-10-batches-py",
        }
    }

    fn file_name(self, batch: usize) -> String {
        match self {
            Self::Binary => format!("{}.bin", BATCHES[batch]),
            Self::Python => BATCHES[batch].to_owned(),
        }
    }
}

/// Which batch a file is, by its name.
fn batch_named(name: &str) -> Option<(Edition, usize)> {
    let (edition, stem) = match name.strip_suffix(".bin") {
        Some(stem) => (Edition::Binary, stem),
        None => (Edition::Python, name),
    };
    BATCHES.iter().position(|batch| *batch == stem).map(|batch| (edition, batch))
}

/// Reads a folder or a `.tar.gz`.
pub(super) fn load(path: &Path) -> Result<Records, DataError> {
    let mut found = Found::default();
    if path.is_dir() {
        let (edition, folder) = find_folder(path).ok_or_else(|| not_found(path))?;
        load_folder(edition, &folder, &mut found)?;
        found.finish(&folder)
    } else if path.is_file() {
        let wanted = |name: &str| name == CLASS_NAMES_FILE || batch_named(name).is_some();
        archive::for_each_file(path, wanted, |name, bytes| {
            found.add(name, format!("{name} in {}", path.display()), &bytes)
        })?;
        found.finish(path)
    } else {
        Err(not_found(path))
    }
}

/// The folder that holds batches: the one given, or the one that an archive unpacks to inside it.
fn find_folder(path: &Path) -> Option<(Edition, PathBuf)> {
    for edition in Edition::ALL {
        for folder in [path.join(edition.folder()), path.to_owned()] {
            if (0..BATCHES.len()).any(|batch| folder.join(edition.file_name(batch)).is_file()) {
                return Some((edition, folder));
            }
        }
    }
    None
}

fn load_folder(edition: Edition, folder: &Path, found: &mut Found) -> Result<(), DataError> {
    let batches = (0..BATCHES.len()).map(|batch| edition.file_name(batch));
    for name in batches.chain([CLASS_NAMES_FILE.to_owned()]) {
        let path = folder.join(&name);
        if path.is_file() {
            found.add(&name, path.display().to_string(), &cifar::read_bounded(&path)?)?;
        }
    }
    Ok(())
}

/// Batches as they turn up; an archive has them in any order.
#[derive(Debug, Default)]
struct Found {
    batches: BTreeMap<(Edition, usize), Split>,
    classes: Option<Vec<String>>,
}

impl Found {
    /// `label` says in messages which file this is.
    fn add(&mut self, name: &str, label: String, bytes: &[u8]) -> Result<(), DataError> {
        if name == CLASS_NAMES_FILE {
            self.classes = Some(cifar::class_names(label, bytes, CLASSES)?);
        } else if let Some((edition, batch)) = batch_named(name) {
            let split = match edition {
                Edition::Binary => cifar::binary_records(&label, bytes, 1, CLASSES)?,
                Edition::Python => python_batch(label, bytes)?,
            };
            self.batches.insert((edition, batch), split);
        }
        Ok(())
    }

    fn finish(mut self, place: &Path) -> Result<Records, DataError> {
        let has = |edition| self.batches.keys().any(|&(e, _)| e == edition);
        let edition =
            Edition::ALL.into_iter().find(|&edition| has(edition)).ok_or_else(|| not_found(place))?;
        let mut take = |batch| {
            self.batches.remove(&(edition, batch)).ok_or_else(|| DataError::MissingBatch {
                name: DataName::Cifar10,
                place: place.display().to_string(),
                file: edition.file_name(batch),
            })
        };
        let mut train = Split::default();
        for batch in 0..TEST_BATCH {
            train.append(&take(batch)?);
        }
        let test = take(TEST_BATCH)?;
        let classes = self.classes.unwrap_or_else(|| CLASS_NAMES.map(str::to_owned).to_vec());
        Ok(Records { classes, image_size: cifar::SIDE, train, test })
    }
}

fn python_batch(file: String, bytes: &[u8]) -> Result<Split, DataError> {
    let batch = match pickle::read_batch(bytes) {
        Ok(batch) => batch,
        Err(source) => return Err(DataError::Pickle { file, source }),
    };
    let images = match batch.shape[..] {
        [images, columns] if images >= 1 && columns == IMAGE_BYTES as i64 => images as usize,
        _ => return Err(DataError::BatchShape { file, shape: batch.shape }),
    };
    if batch.labels.len() != images {
        return Err(DataError::LabelCount { file, labels: batch.labels.len(), images });
    }
    let labels = batch
        .labels
        .iter()
        .enumerate()
        .map(|(record, &label)| cifar::checked_label(&file, record, label, CLASSES))
        .collect::<Result<_, _>>()?;
    Ok(Split { images: batch.data.into_owned(), labels })
}

fn not_found(path: &Path) -> DataError {
    DataError::NotFound { name: DataName::Cifar10, path: path.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::fixtures::{self, binary_edition, folder, python_edition, write_folder, write_tar_gz};

    /// The binary edition with one file replaced.
    fn with(name: &str, bytes: Vec<u8>) -> tempfile::TempDir {
        let dir = folder(&binary_edition());
        fs::write(dir.path().join(name), bytes).unwrap();
        dir
    }

    fn is_the_fixture(records: &Records) -> bool {
        records.train.labels == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
            && records.test.labels == [1, 9, 5]
            && records.train.images[IMAGE_BYTES..][..3] == [1, 0, 3]
            && records.train.images.len() == 11 * IMAGE_BYTES
            && records.test.images.len() == 3 * IMAGE_BYTES
    }

    #[test]
    fn both_editions_read_alike_from_folders_and_archives() {
        let dir = tempfile::tempdir().unwrap();
        for (files, name) in
            [(binary_edition(), "cifar-10-batches-bin"), (python_edition(), "cifar-10-batches-py")]
        {
            let around = dir.path().join(format!("around-{name}"));
            let inside = around.join(name);
            write_folder(&inside, &files);
            let archive = dir.path().join(format!("{name}.tar.gz"));
            write_tar_gz(&archive, name, &files);
            for path in [around, inside, archive] {
                assert!(is_the_fixture(&load(&path).unwrap()), "{}", path.display());
            }
        }
    }

    #[test]
    fn class_names_come_from_the_edition_or_are_the_standard_ones() {
        let dir = folder(&binary_edition());
        assert_eq!(load(dir.path()).unwrap().classes, CLASS_NAMES);
        let names: Vec<String> = (0..10).map(|i| format!("class {i}")).collect();
        let listed = with(CLASS_NAMES_FILE, (names.join("\n") + "\n\n").into_bytes());
        assert_eq!(load(listed.path()).unwrap().classes, names);
        let error = load(with(CLASS_NAMES_FILE, b"cat\ndog\n".to_vec()).path()).unwrap_err();
        assert!(error.to_string().contains("names 2 classes, expected 10"), "{error}");
    }

    #[test]
    fn a_truncated_batch_is_an_error_that_names_the_file_and_its_length() {
        let mut batch = fixtures::binary_batch(&[1, 2]);
        batch.pop();
        let error = load(with("data_batch_3.bin", batch).path()).unwrap_err().to_string();
        assert!(error.contains("data_batch_3.bin is 6145 bytes long"), "{error}");
        assert!(error.contains("multiple of 3073"), "{error}");
        let error = load(with("test_batch.bin", vec![]).path()).unwrap_err().to_string();
        assert!(error.contains("test_batch.bin is 0 bytes long"), "{error}");
    }

    #[test]
    fn a_label_of_ten_is_an_error_that_names_file_and_record_in_both_editions() {
        let error = load(with("data_batch_2.bin", fixtures::binary_batch(&[0, 9, 10])).path()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("data_batch_2.bin: record 2 has label 10, expected 0 to 9"), "{text}");
        assert!(error.hint().is_some());

        let dir = folder(&python_edition());
        fs::write(dir.path().join("test_batch"), fixtures::python_batch(&[3, 10])).unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("test_batch: record 1 has label 10"), "{error}");
    }

    #[test]
    fn a_missing_batch_is_named_whether_in_a_folder_or_an_archive() {
        let files: Vec<_> =
            binary_edition().into_iter().filter(|(name, _)| *name != "test_batch.bin").collect();
        let dir = folder(&files);
        let error = load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("has no `test_batch.bin`"), "{error}");
        assert!(error.hint().unwrap().contains("data.path"));

        let archive = dir.path().join("cifar.tar.gz");
        write_tar_gz(&archive, "x", &files);
        let error = load(&archive).unwrap_err().to_string();
        assert!(error.contains("cifar.tar.gz has no `test_batch.bin`"), "{error}");
    }

    #[test]
    fn a_place_without_batches_is_an_error() {
        let dir = folder(&[("notes.txt", vec![1])]);
        assert!(matches!(load(dir.path()), Err(DataError::NotFound { .. })));
        assert!(matches!(load(&dir.path().join("nowhere")), Err(DataError::NotFound { .. })));
        let archive = dir.path().join("other.tar.gz");
        write_tar_gz(&archive, "x", &[("notes.txt", vec![1])]);
        assert!(matches!(load(&archive), Err(DataError::NotFound { .. })));
    }

    #[test]
    fn a_damaged_pickle_is_an_error_and_never_a_panic() {
        let dir = folder(&python_edition());
        let whole = fixtures::python_batch(&[1, 2, 3]);
        for length in (0..whole.len()).step_by(97).chain(0..200) {
            fs::write(dir.path().join("data_batch_1"), &whole[..length]).unwrap();
            let error = load(dir.path()).unwrap_err();
            assert!(matches!(error, DataError::Pickle { .. }), "{length}: {error}");
        }
    }
}
