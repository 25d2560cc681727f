//! What a recipe's `[data]` becomes, whichever set it names.

use std::fs;

use md5::{Digest, Md5};

use super::*;
use crate::download::Checksum;
use crate::download::NoProgress;
use crate::download::server::{Serve, serve};
use fixtures::{binary_edition, cifar100_edition, python_edition, tar_gz, write_folder};

fn request(name: DataName, path: Option<PathBuf>) -> DataRequest {
    DataRequest {
        name,
        path,
        image_size: 32,
        train: None,
        test: None,
        test_fraction: 0.2,
        skip_broken: false,
        seed: 7,
    }
}

#[test]
fn one_data_set_has_one_digest_whatever_it_came_from_and_however_much_is_used() {
    let (dir, cache) = fixtures::cache();
    let (binary, python) = (dir.path().join("binary"), dir.path().join("python"));
    write_folder(&binary, &binary_edition());
    write_folder(&python, &python_edition());
    let whole = resolve(&request(DataName::Cifar10, Some(binary)), &cache, &NoProgress).unwrap();
    assert_eq!((whole.train, whole.test, whole.image_size), (11, 3, 32));
    assert_eq!(whole.file, cache.path(&whole.digest));
    assert!(cache.verify(&whole.digest).unwrap());
    let mut part = request(DataName::Cifar10, Some(python));
    (part.train, part.test) = (Some(4), Some(1));
    let part = resolve(&part, &cache, &NoProgress).unwrap();
    assert_eq!((part.train, part.test), (4, 1));
    assert_eq!(part.digest, whole.digest);
}

#[test]
fn asking_for_more_than_there_is_or_for_nothing_is_an_error() {
    let (dir, cache) = fixtures::cache();
    write_folder(dir.path(), &binary_edition());
    let mut request = request(DataName::Cifar10, Some(dir.path().to_owned()));
    request.train = Some(12);
    let error = resolve(&request, &cache, &NoProgress).unwrap_err();
    assert_eq!(error.to_string(), "data.train asks for 12 samples, expected 1 to 11");
    (request.train, request.test) = (None, Some(0));
    let error = resolve(&request, &cache, &NoProgress).unwrap_err();
    assert_eq!(error.to_string(), "data.test asks for 0 samples, expected 1 to 3");
}

#[test]
fn without_a_path_cifar10_is_downloaded_once() {
    let (_dir, cache) = fixtures::cache();
    let archive = tar_gz("cifar-10-batches-bin", &binary_edition());
    let md5 = hex::encode(Md5::digest(&archive));
    let (url, ranges) = serve(archive, &[Serve::Ranges]);
    let source = Source { url, checksum: Checksum::Md5(md5) };
    let request = request(DataName::Cifar10, None);
    let first = resolve_from(&request, &source, &cache, &NoProgress).unwrap();
    assert_eq!(first.train, 11);
    // The server is gone by now.
    assert_eq!(resolve_from(&request, &source, &cache, &NoProgress).unwrap(), first);
    assert_eq!(ranges.iter().count(), 1);
}

#[test]
fn shapes_hold_as_many_samples_as_asked_for() {
    let (_dir, cache) = fixtures::cache();
    let mut request = request(DataName::Shapes, None);
    (request.train, request.test) = (Some(30), Some(20));
    let resolved = resolve(&request, &cache, &NoProgress).unwrap();
    assert_eq!((resolved.train, resolved.test), (30, 20));
    assert_eq!(resolved.classes[0], "circle");
    let size_bytes = fs::metadata(&resolved.file).unwrap().len();
    assert!((50 * 3080..50 * 3080 + 1_000).contains(&size_bytes), "{size_bytes}");
}

#[test]
fn cifar100_is_downloaded_too_and_a_server_that_refuses_is_told_with_its_name() {
    let (_dir, cache) = fixtures::cache();
    let archive = tar_gz("cifar-100-binary", &cifar100_edition());
    let checksum = Checksum::Md5(hex::encode(Md5::digest(&archive)));
    let (url, _) = serve(archive, &[Serve::Refuse, Serve::Ranges]);
    let source = Source { url, checksum };
    let request = request(DataName::Cifar100, None);
    let error = resolve_from(&request, &source, &cache, &NoProgress).unwrap_err();
    assert!(error.to_string().contains("could not be downloaded"), "{error}");
    assert!(error.hint().unwrap().contains("CIFAR-100"), "{error}");
    let resolved = resolve_from(&request, &source, &cache, &NoProgress).unwrap();
    assert_eq!((resolved.train, resolved.test, resolved.image_size), (3, 2, 32));
    assert_eq!(resolved.labels(SplitName::Train).unwrap(), [0, 99, 50]);
    assert_eq!((resolved.name, &*resolved.classes[99]), (DataName::Cifar100, "worm"));
}

#[test]
fn what_was_resolved_can_be_opened_again_without_the_source() {
    let (dir, cache) = fixtures::cache();
    write_folder(dir.path(), &binary_edition());
    let request = request(DataName::Cifar10, Some(dir.path().to_owned()));
    let resolved = resolve(&request, &cache, &NoProgress).unwrap();
    let opened = ResolvedData::open(&resolved.digest, &cache, None, None).unwrap();
    assert_eq!(opened, resolved);
}
