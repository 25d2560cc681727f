//! CIFAR-100, binary edition, from a folder or archive, whole or a subset; its hundred fine classes.
//!
//! The Python edition would need another pickle (other keys, 150 MB in one array), and holds the same pictures: who
//! has it is told which one to take.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use super::canonical::{Records, Split};
use super::{DataError, DataName, archive, cifar};

/// The folder that the archive unpacks to.
const FOLDER: &str = "cifar-100-binary";
const TRAIN_FILE: &str = "train.bin";
const TEST_FILE: &str = "test.bin";
/// The list of class names; optional.
const CLASS_NAMES_FILE: &str = "fine_label_names.txt";

/// What the Python edition unpacks to, and its files.
const PYTHON_FOLDER: &str = "cifar-100-python";
const PYTHON_FILES: [&str; 3] = ["train", "test", "meta"];

/// Of a record: the coarse one of twenty classes, then the fine one.
const LABEL_BYTES: usize = 2;

const CLASSES: usize = 100;

#[rustfmt::skip] // one name a line would be a page of nothing else
const CLASS_NAMES: [&str; CLASSES] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl",
    "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair",
    "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin",
    "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp",
    "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck",
    "pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road",
    "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger",
    "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
];

/// Reads a folder or a `.tar.gz`.
pub(super) fn load(path: &Path) -> Result<Records, DataError> {
    let mut found = Found::default();
    if path.is_dir() {
        let folder = find_folder(path)?;
        for name in [TRAIN_FILE, TEST_FILE, CLASS_NAMES_FILE] {
            let file = folder.join(name);
            if file.is_file() {
                found.add(name, file.display().to_string(), &cifar::read_bounded(&file)?)?;
            }
        }
        found.finish(&folder)
    } else if path.is_file() {
        let is_python = Cell::new(false);
        let wanted = |name: &str| {
            is_python.set(is_python.get() || PYTHON_FILES.contains(&name));
            [TRAIN_FILE, TEST_FILE, CLASS_NAMES_FILE].contains(&name)
        };
        archive::for_each_file(path, wanted, |name, bytes| {
            found.add(name, format!("{name} in {}", path.display()), &bytes)
        })?;
        if found.is_empty() && is_python.get() {
            return Err(DataError::PythonEdition { path: path.to_owned() });
        }
        found.finish(path)
    } else {
        Err(not_found(path))
    }
}

/// The folder that holds the files: the one given, or the one that the archive unpacks to inside it.
fn find_folder(path: &Path) -> Result<PathBuf, DataError> {
    let holds = |folder: &PathBuf| [TRAIN_FILE, TEST_FILE].iter().any(|file| folder.join(file).is_file());
    if let Some(folder) = [path.join(FOLDER), path.to_owned()].into_iter().find(holds) {
        return Ok(folder);
    }
    let is_python = |folder: &PathBuf| PYTHON_FILES.iter().all(|file| folder.join(file).is_file());
    match [path.join(PYTHON_FOLDER), path.to_owned()].into_iter().find(is_python) {
        Some(path) => Err(DataError::PythonEdition { path }),
        None => Err(not_found(path)),
    }
}

fn not_found(path: &Path) -> DataError {
    DataError::NotFound { name: DataName::Cifar100, path: path.to_owned() }
}

/// The files as they turn up; an archive has them in any order.
#[derive(Debug, Default)]
struct Found {
    train: Option<Split>,
    test: Option<Split>,
    classes: Option<Vec<String>>,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.train.is_none() && self.test.is_none()
    }

    /// `label` says in messages which file this is.
    fn add(&mut self, name: &str, label: String, bytes: &[u8]) -> Result<(), DataError> {
        let split = || cifar::binary_records(&label, bytes, LABEL_BYTES, CLASSES);
        match name {
            TRAIN_FILE => self.train = Some(split()?),
            TEST_FILE => self.test = Some(split()?),
            CLASS_NAMES_FILE => self.classes = Some(cifar::class_names(label, bytes, CLASSES)?),
            _ => {}
        }
        Ok(())
    }

    fn finish(self, place: &Path) -> Result<Records, DataError> {
        if self.is_empty() {
            return Err(not_found(place));
        }
        let missing = |file: &str| DataError::MissingBatch {
            name: DataName::Cifar100,
            place: place.display().to_string(),
            file: file.to_owned(),
        };
        Ok(Records {
            classes: self.classes.unwrap_or_else(|| CLASS_NAMES.map(str::to_owned).to_vec()),
            image_size: cifar::SIDE,
            train: self.train.ok_or_else(|| missing(TRAIN_FILE))?,
            test: self.test.ok_or_else(|| missing(TEST_FILE))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::fixtures::{cifar100_edition, cifar100_records, folder, write_folder, write_tar_gz};

    #[test]
    fn fine_labels_and_pictures_are_read_from_folders_and_archives() {
        let dir = tempfile::tempdir().unwrap();
        let around = dir.path().join("around");
        let inside = around.join(FOLDER);
        write_folder(&inside, &cifar100_edition());
        let archive = dir.path().join("cifar-100.tar.gz");
        write_tar_gz(&archive, FOLDER, &cifar100_edition());
        for path in [around, inside, archive] {
            let records = load(&path).unwrap();
            assert_eq!(records.train.labels, [0, 99, 50], "{}", path.display());
            assert_eq!(records.test.labels, [7, 8]);
            assert_eq!(records.train.images[cifar::IMAGE_BYTES..][..3], [99, 98, 97], "{}", path.display());
            assert_eq!(records.test.images.len(), 2 * cifar::IMAGE_BYTES);
            assert_eq!((records.classes.len(), &*records.classes[99], records.image_size), (100, "worm", 32));
        }
    }

    #[test]
    fn class_names_of_the_edition_replace_the_built_in_ones() {
        let mut files = cifar100_edition();
        let names: Vec<String> = (0..100).map(|index| format!("class {index}")).collect();
        files.push((CLASS_NAMES_FILE, names.join("\n").into_bytes()));
        let dir = folder(&files);
        assert_eq!(load(dir.path()).unwrap().classes, names);
        fs::write(dir.path().join(CLASS_NAMES_FILE), "one\ntwo").unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("names 2 classes, expected 100"), "{error}");
    }

    #[test]
    fn damage_is_told_with_file_and_record() {
        let dir = folder(&cifar100_edition());
        fs::write(dir.path().join(TEST_FILE), cifar100_records(&[3, 100])).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("test.bin: record 1 has label 100, expected 0 to 99"), "{error}");
        assert!(error.hint().unwrap().contains("CIFAR"));
        fs::write(dir.path().join(TEST_FILE), &cifar100_records(&[3])[1..]).unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("test.bin is 3073 bytes long, expected a positive multiple of 3074"),
            "{error}"
        );
        fs::remove_file(dir.path().join(TEST_FILE)).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("has no `test.bin`"), "{error}");
        assert!(error.hint().unwrap().contains("cifar-100-binary"));
    }

    #[test]
    fn who_has_the_python_edition_is_told_to_take_the_binary_one() {
        let dir = tempfile::tempdir().unwrap();
        let files = PYTHON_FILES.map(|name| (name, vec![0x80, 2]));
        write_folder(&dir.path().join(PYTHON_FOLDER), &files);
        let archive = dir.path().join("python.tar.gz");
        write_tar_gz(&archive, PYTHON_FOLDER, &files);
        for path in [dir.path(), &dir.path().join(PYTHON_FOLDER), &archive] {
            let error = load(path).unwrap_err();
            assert!(error.to_string().contains("Python edition of CIFAR-100"), "{error}");
            assert!(error.hint().unwrap().contains("binary edition"));
        }
        let nothing = tempfile::tempdir().unwrap();
        let error = load(nothing.path()).unwrap_err().to_string();
        assert!(error.starts_with("there is no CIFAR-100 at"), "{error}");
    }
}
