//! What is wrong with a folder is said once, by name, and with a hint.

use super::*;

fn told(place: &Place) -> (String, String) {
    let error = place.resolve().unwrap_err();
    (error.to_string(), error.hint().unwrap_or_default())
}

#[test]
fn all_broken_pictures_are_named_at_once_unless_they_are_skipped() {
    let place = Place::split("val");
    let whole = place.resolve().unwrap();
    place.file("train/cat/empty.jpg", b"");
    place.file("val/dog/TEXT.JPG", b"this is no picture");
    let (message, hint) = told(&place);
    let root = place.root();
    let wanted = format!(
        "2 of 10 pictures in {} are broken:\n  train/cat/empty.jpg: it is empty (0 bytes)\n  val/dog/TEXT.JPG: it holds no picture",
        root.display()
    );
    assert!(message.starts_with(&wanted), "{message}");
    assert!(hint.contains("data.skip_broken"), "{hint}");

    let skipped = place.resolve_skipping().unwrap();
    assert_eq!(samples(&skipped, SplitName::Train), samples(&whole, SplitName::Train));
    assert_eq!(skipped.digest, whole.digest, "the pictures are the same");
    assert!(
        skipped.notes[0].starts_with("skipped 2 broken pictures:\n  train/cat/empty.jpg: "),
        "{:?}",
        skipped.notes
    );
    assert_eq!(place.resolve_skipping().unwrap(), skipped, "what the cache knows is said again");
    assert_eq!(told(&place).0, message, "and without skipping it is an error still");
}

#[test]
fn of_many_broken_pictures_ten_are_named_and_the_others_counted() {
    let place = Place::split("val");
    for number in 10..25 {
        place.file(&format!("train/dog/{number}.jpg"), b"");
    }
    let (message, _) = told(&place);
    assert_eq!(message.lines().count(), 12, "{message}");
    assert!(message.contains("train/dog/19.jpg: ") && !message.contains("train/dog/20.jpg"), "{message}");
    assert!(message.ends_with("\n  and 5 more"), "{message}");
}

#[test]
fn a_class_of_broken_pictures_alone_cannot_be_skipped() {
    let place = Place::split("val");
    place.file("val/dog/8.png", b"");
    let error = place.resolve_skipping().unwrap_err();
    let folder = place.root().join("val/dog");
    let wanted = format!("the class folder {} has broken pictures only (1)", folder.display());
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn splits_that_differ_in_their_classes_are_an_error_that_names_the_folder() {
    for (extra, other) in [("val/bird", "train"), ("train/bird", "val")] {
        let place = Place::split("val");
        place.picture(&format!("{extra}/1.png"), 1);
        let (message, hint) = told(&place);
        let (extra, other) = (place.root().join(extra), place.root().join(other));
        assert_eq!(
            message,
            format!("the class folder {} has no counterpart in {}", extra.display(), other.display())
        );
        assert!(!hint.is_empty());
    }
}

#[test]
fn an_empty_class_folder_is_an_error_that_names_it() {
    let place = Place::single();
    place.file("birds/readme.txt", b"soon");
    let (message, hint) = told(&place);
    let folder = place.root().join("birds");
    assert_eq!(message, format!("the class folder {} has no pictures in it", folder.display()));
    assert!(hint.contains("jpeg"), "{hint}");
}

#[test]
fn a_folder_that_has_no_classes_is_an_error_that_shows_what_is_expected() {
    let place = Place::new();
    let (message, hint) = told(&place);
    assert_eq!(message, format!("there is no folder {}", place.root().display()));
    assert!(hint.contains("train/CLASS/*.jpg"), "{hint}");
    place.picture("1.png", 1);
    assert!(
        told(&place).0.ends_with("pictures has 0 class folders, expected 2 to 65535"),
        "{}",
        told(&place).0
    );
    place.picture("a/1.png", 1);
    assert!(told(&place).0.contains("has 1 class folders"));
    let error =
        resolve(&DataRequest { path: None, ..place.request() }, &place.cache, &NoProgress).unwrap_err();
    assert_eq!(error.to_string(), "data.name = \"folder\" needs a data.path");
}

#[test]
fn asking_for_more_than_there_is_is_an_error() {
    let place = Place::split("val");
    let request = DataRequest { train: Some(7), ..place.request() };
    let error = resolve(&request, &place.cache, &NoProgress).unwrap_err();
    assert_eq!(error.to_string(), "data.train asks for 7 samples, expected 1 to 6");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_those_that_lead_nowhere_or_back_are_told() {
    use std::os::unix::fs::symlink;

    let place = Place::split("val");
    let elsewhere = place.dir.path().join("elsewhere.png");
    fs::rename(place.root().join("train/cat/1.png"), &elsewhere).unwrap();
    let link = |to: &Path, name: &str| symlink(to, place.root().join(name)).unwrap();
    link(&elsewhere, "train/cat/1.png");
    assert_eq!(samples(&place.resolve().unwrap(), SplitName::Train)[0], (3, 0));
    link(&place.dir.path().join("nowhere"), "train/cat/gone.jpg");
    let (message, _) = told(&place);
    assert!(message.contains("train/cat/gone.jpg: it cannot be read: "), "{message}");
    link(&place.root().join("train/cat"), "train/cat/again");
    let (message, hint) = told(&place);
    assert!(message.ends_with("train/cat/again is a link that leads back to a folder above it"), "{message}");
    assert!(hint.contains("delete the link"), "{hint}");
}
