//! Folders of small pictures, each of one colour, so that it is known again when it has been stored.

mod bad_folders;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};

use crate::data::{
    BlobCache, DataError, DataName, DataProgress, DataRequest, ResolvedData, SplitName, fixtures, resolve,
};
use crate::download::{DownloadProgress, NoProgress};

const SIZE: u32 = 8;

/// A folder of pictures and a cache.
struct Place {
    dir: tempfile::TempDir,
    cache: BlobCache,
}

impl Place {
    fn new() -> Self {
        let (dir, cache) = fixtures::cache();
        Self { dir, cache }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("pictures")
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A PNG file whose red is `red`.
    fn picture(&self, name: &str, red: u8) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(11, 9, Rgb([red, 0, 0]))
            .save_with_format(path, image::ImageFormat::Png)
            .unwrap();
    }

    /// Classes `a` (10 pictures) and `b` (5), one folder for all.
    fn single() -> Self {
        let place = Self::new();
        for number in 0..10 {
            place.picture(&format!("a/{number}.png"), number);
        }
        for number in 0..5 {
            place.picture(&format!("b/{number}.png"), 100 + number);
        }
        place
    }

    /// Classes `cat` and `dog`, with a test split called `test`.
    fn split(test: &str) -> Self {
        let place = Self::new();
        for (name, red) in
            [("dog/1", 1), ("dog/2", 2), ("cat/1", 3), ("cat/10", 4), ("cat/2", 5), ("cat/x/0", 6)]
        {
            place.picture(&format!("train/{name}.png"), red);
        }
        place.picture(&format!("{test}/cat/7.png"), 7);
        place.picture(&format!("{test}/dog/8.png"), 8);
        place
    }

    fn request(&self) -> DataRequest {
        DataRequest {
            name: DataName::Folder,
            path: Some(self.root()),
            image_size: SIZE,
            train: None,
            test: None,
            test_fraction: 0.2,
            skip_broken: false,
            seed: 7,
        }
    }

    fn resolve(&self) -> Result<ResolvedData, DataError> {
        resolve(&self.request(), &self.cache, &NoProgress)
    }

    fn resolve_skipping(&self) -> Result<ResolvedData, DataError> {
        resolve(&DataRequest { skip_broken: true, ..self.request() }, &self.cache, &NoProgress)
    }
}

/// Red and label of every sample of a split, in order.
fn samples(data: &ResolvedData, split: SplitName) -> Vec<(u8, usize)> {
    let count = if split == SplitName::Train { data.train } else { data.test };
    let rows: Vec<usize> = (0..count).collect();
    let (images, labels) = data.pictures(split, &rows).unwrap();
    images.chunks_exact(3 * (SIZE * SIZE) as usize).map(|image| image[0]).zip(labels).collect()
}

/// Remembers what work was done.
#[derive(Default)]
struct Works(RefCell<Vec<String>>);

impl DownloadProgress for Works {
    fn begin(&self, _: &str, _: Option<u64>, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

impl DataProgress for Works {
    fn begin_pictures(&self, work: &str, total: u64) {
        self.0.borrow_mut().push(format!("{work}: {total}"));
    }
    fn advance_pictures(&self, _: u64) {}
    fn end_pictures(&self) {
        self.0.borrow_mut().push("end".to_owned());
    }
}

fn works(place: &Place) -> Vec<String> {
    let works = Works::default();
    resolve(&place.request(), &place.cache, &works).unwrap();
    works.0.into_inner()
}

#[test]
fn train_and_test_folders_become_the_splits_with_folder_names_as_classes() {
    for test in ["test", "val", "valid", "validation"] {
        let place = Place::split(test);
        let data = place.resolve().unwrap();
        assert_eq!((data.name, data.image_size), (DataName::Folder, SIZE));
        assert_eq!(data.classes, ["cat", "dog"]);
        // Within a class by the names' bytes, nested ones among them, and the classes evenly spread.
        assert_eq!(
            samples(&data, SplitName::Train),
            [(3, 0), (1, 1), (4, 0), (5, 0), (2, 1), (6, 0)],
            "{test}"
        );
        assert_eq!(samples(&data, SplitName::Test), [(7, 0), (8, 1)]);
        assert!(data.notes.is_empty(), "{:?}", data.notes);
    }
}

#[test]
fn the_first_so_many_samples_are_of_all_classes() {
    let place = Place::split("val");
    let data =
        resolve(&DataRequest { train: Some(2), ..place.request() }, &place.cache, &NoProgress).unwrap();
    assert_eq!(samples(&data, SplitName::Train), [(3, 0), (1, 1)]);
    assert_eq!(data.digest, place.resolve().unwrap().digest, "the file is the same");
}

#[test]
fn where_test_and_val_have_classes_test_is_taken_and_it_is_said() {
    let place = Place::split("test");
    place.picture("val/cat/1.png", 9);
    let data = place.resolve().unwrap();
    assert_eq!(samples(&data, SplitName::Test), [(7, 0), (8, 1)]);
    assert!(
        data.notes[0].ends_with("test is the test split; val/ beside it is not used"),
        "{:?}",
        data.notes
    );
}

#[test]
fn a_test_folder_without_classes_is_none() {
    let place = Place::split("val");
    place.picture("test/unlabelled.png", 9);
    assert_eq!(samples(&place.resolve().unwrap(), SplitName::Test), [(7, 0), (8, 1)]);
}

#[test]
fn one_folder_is_split_by_seed_with_the_share_of_each_class() {
    let place = Place::single();
    let data = place.resolve().unwrap();
    assert_eq!((data.train, data.test), (12, 3));
    let (train, test) = (samples(&data, SplitName::Train), samples(&data, SplitName::Test));
    assert_eq!(test.iter().filter(|(_, label)| *label == 0).count(), 2);
    let mut all: Vec<u8> = [train, test.clone()].concat().into_iter().map(|(red, _)| red).collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100, 101, 102, 103, 104], "each is in one split");
    assert!(data.notes[0].starts_with("3 of 15 pictures are the test split"), "{:?}", data.notes);
    let others: Vec<_> = (0..5)
        .map(|seed| {
            let request = DataRequest { seed, ..place.request() };
            samples(&resolve(&request, &place.cache, &NoProgress).unwrap(), SplitName::Test)
        })
        .collect();
    assert!(others.iter().any(|other| *other != test), "another seed draws others");
    assert_eq!(place.resolve().unwrap(), data, "the same seed draws the same");
}

#[test]
fn every_class_of_two_or_more_is_in_both_splits() {
    let place = Place::single();
    place.picture("c/0.png", 200);
    place.picture("c/1.png", 201);
    place.picture("d/0.png", 210);
    for test_fraction in [0.001, 0.999] {
        let request = DataRequest { test_fraction, ..place.request() };
        let data = resolve(&request, &place.cache, &NoProgress).unwrap();
        for split in [SplitName::Train, SplitName::Test] {
            let labels = data.labels(split).unwrap();
            assert!((0..3).all(|class| labels.contains(&class)), "{test_fraction} {split}: {labels:?}");
            assert_eq!(labels.contains(&3), split == SplitName::Train, "a single picture is trained on");
        }
    }
}

#[test]
fn one_more_picture_leaves_the_others_in_their_splits() {
    let place = Place::single();
    let before = samples(&place.resolve().unwrap(), SplitName::Test);
    place.picture("a/one more.png", 50);
    let after = samples(&place.resolve().unwrap(), SplitName::Test);
    let moved = before.iter().filter(|sample| !after.contains(sample)).count();
    assert!(moved <= 1, "{before:?} became {after:?}");
}

#[test]
fn a_train_folder_alone_is_split_and_a_class_may_be_called_train() {
    let place = Place::split("other");
    let data = place.resolve().unwrap();
    assert_eq!((data.classes.len(), data.train + data.test), (2, 6));
    assert!(data.notes[0].contains("no test/ or val/"), "{:?}", data.notes);
    let place = Place::single();
    place.picture("train/1.png", 1);
    assert_eq!(place.resolve().unwrap().classes, ["a", "b", "train"]);
}

#[test]
fn hidden_files_and_other_files_are_passed_over_and_counted() {
    let place = Place::split("val");
    let before = place.resolve().unwrap();
    place.file("train/cat/.DS_Store", b"x");
    place.file("train/.cache/1.png", b"x");
    place.file("val/notes.txt", b"x");
    place.file("val/cat/Thumbs.db", b"x");
    let data = place.resolve().unwrap();
    assert_eq!(data.digest, before.digest);
    assert_eq!(
        data.notes,
        [
            "passed over files that are no pictures: 2 (notes.txt, Thumbs.db)",
            "passed over hidden files and folders: 2"
        ]
    );
}

#[test]
fn pictures_are_decoded_once_as_long_as_nothing_changes() {
    let place = Place::split("val");
    let decoding = ["reading pictures: 8", "end", "decoding pictures: 8", "end"];
    assert_eq!(works(&place), decoding);
    let first = place.resolve().unwrap();
    assert_eq!(works(&place), decoding[..2]);
    place.picture("train/cat/1.png", 77);
    let changed = place.resolve().unwrap();
    assert_ne!(changed.digest, first.digest, "the same name, other contents");
    assert_eq!(samples(&changed, SplitName::Train)[0], (77, 0));
    place.picture("train/cat/1.png", 3);
    assert_eq!(works(&place), decoding[..2], "what was there before is known still");
    assert_eq!(place.resolve().unwrap(), first);
    let request = DataRequest { image_size: 2 * SIZE, ..place.request() };
    let larger = resolve(&request, &place.cache, &NoProgress).unwrap();
    assert_eq!((larger.image_size, larger.digest == first.digest), (2 * SIZE, false));
}

#[test]
fn a_damaged_cache_is_made_again() {
    let place = Place::split("val");
    let first = place.resolve().unwrap();
    fs::write(&first.file, "damaged").unwrap();
    assert_eq!(place.resolve().unwrap(), first);
    assert!(place.cache.verify(&first.digest).unwrap());
    for index in fs::read_dir(place.cache.dir().join("folders")).unwrap() {
        fs::write(index.unwrap().path(), "{\"digest\": ").unwrap();
    }
    assert_eq!(place.resolve().unwrap(), first);
}
