//! Downloads from a small server in the test: whole, continued, broken, wrong.

use std::cell::RefCell;

use md5::{Digest, Md5};
use sha2::Sha256;

use super::server::{Serve, serve};
use super::*;

fn body() -> Vec<u8> {
    (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn source(url: String) -> Source {
    Source { url, checksum: Checksum::Md5(hex::encode(Md5::digest(body()))) }
}

/// A cache folder, with so many bytes of the body already in the part file.
fn folder(bytes_here: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    if bytes_here > 0 {
        fs::write(dir.path().join("cifar.tar.gz.part"), &body()[..bytes_here]).unwrap();
    }
    dir
}

fn files(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Checks that the archive arrived whole under its final name, and returns the ranges asked for.
fn arrives(bytes_here: usize, plan: &'static [Serve]) -> Vec<Option<String>> {
    let dir = folder(bytes_here);
    let (url, ranges) = serve(body(), plan);
    let path = fetch(&source(url), dir.path(), &NoProgress).unwrap();
    assert_eq!(path, dir.path().join("cifar.tar.gz"));
    assert!(fs::read(&path).unwrap() == body());
    assert_eq!(files(dir.path()), ["cifar.tar.gz"], "no part is left");
    ranges.iter().collect()
}

#[test]
fn a_whole_download_gets_its_final_name() {
    assert_eq!(arrives(0, &[Serve::Ranges]), [None]);
}

#[test]
fn a_part_is_continued_where_it_stopped() {
    assert_eq!(arrives(70_000, &[Serve::Ranges]), [Some("bytes=70000-".to_owned())]);
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_start() {
    assert_eq!(arrives(70_000, &[Serve::IgnoreRanges]), [Some("bytes=70000-".to_owned())]);
}

#[test]
fn a_part_that_was_whole_already_is_only_checked() {
    assert_eq!(arrives(200_000, &[Serve::Ranges]), [Some("bytes=200000-".to_owned())]);
}

#[test]
fn a_connection_that_breaks_is_taken_up() {
    let ranges = arrives(0, &[Serve::BreakAfter(50_000), Serve::BreakAfter(60_000), Serve::Ranges]);
    assert_eq!(ranges, [None, Some("bytes=50000-".to_owned()), Some("bytes=110000-".to_owned())]);
}

#[test]
fn a_part_of_another_file_is_thrown_away_and_downloaded_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cifar.tar.gz.part"), [7; 1_000]).unwrap();
    let (url, ranges) = serve(body(), &[Serve::Ranges, Serve::Ranges]);
    fetch(&source(url), dir.path(), &NoProgress).unwrap();
    assert_eq!(ranges.iter().collect::<Vec<_>>(), [Some("bytes=1000-".to_owned()), None]);
}

#[test]
fn what_fails_its_checksum_gets_no_name_and_is_not_continued() {
    let dir = folder(0);
    let (url, _ranges) = serve(vec![1; 5_000], &[Serve::Ranges]);
    let error = fetch(&source(url), dir.path(), &NoProgress).unwrap_err();
    assert!(matches!(error, DownloadError::Checksum { .. }), "{error}");
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_failed_download_keeps_its_part() {
    let dir = folder(0);
    let (url, _ranges) = serve(body(), &[Serve::BreakAfter(50_000), Serve::Refuse]);
    let error = fetch(&source(url), dir.path(), &NoProgress).unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(fs::metadata(dir.path().join("cifar.tar.gz.part")).unwrap().len(), 50_000);
}

#[test]
fn an_earlier_download_is_used_without_a_connection_unless_it_was_damaged() {
    let dir = folder(0);
    fs::write(dir.path().join("cifar.tar.gz"), body()).unwrap();
    let nowhere = source("http://127.0.0.1:9/cifar.tar.gz".to_owned());
    fetch(&nowhere, dir.path(), &NoProgress).unwrap();

    fs::write(dir.path().join("cifar.tar.gz"), "damaged").unwrap();
    let (url, ranges) = serve(body(), &[Serve::Ranges]);
    let path = fetch(&source(url), dir.path(), &NoProgress).unwrap();
    assert!(fs::read(path).unwrap() == body());
    assert_eq!(ranges.iter().count(), 1);
}

#[derive(Default)]
struct Recorded(RefCell<Vec<String>>);

impl DownloadProgress for Recorded {
    fn begin(&self, name: &str, bytes_total: Option<u64>, bytes_done: u64) {
        self.0.borrow_mut().push(format!("begin {name} {bytes_total:?} {bytes_done}"));
    }

    fn advance(&self, bytes_done: u64) {
        self.0.borrow_mut().push(format!("{bytes_done}"));
    }

    fn end(&self) {
        self.0.borrow_mut().push("end".to_owned());
    }
}

#[test]
fn progress_counts_what_was_here_before() {
    let dir = folder(150_000);
    let (url, _ranges) = serve(body(), &[Serve::Ranges]);
    let progress = Recorded::default();
    fetch(&source(url), dir.path(), &progress).unwrap();
    let told = progress.0.into_inner();
    assert_eq!(told.first().unwrap(), "begin cifar.tar.gz Some(200000) 150000");
    assert_eq!(told[told.len() - 2..], ["200000", "end"]);
}

#[test]
fn a_file_passes_by_the_first_digits_of_its_sha256() {
    let dir = folder(0);
    let (url, _ranges) = serve(body(), &[Serve::Ranges, Serve::Ranges]);
    let digits = hex::encode(Sha256::digest(body()));
    let mut source = Source { url, checksum: Checksum::Sha256Prefix(digits[..8].to_owned()) };
    fetch(&source, dir.path(), &NoProgress).unwrap();

    source.checksum = Checksum::Sha256Prefix("00000000".to_owned());
    let error = fetch(&source, dir.path(), &NoProgress).unwrap_err();
    assert!(error.to_string().contains(&format!("has sha256 {digits}, expected 00000000")), "{error}");
    assert!(!Checksum::Sha256Prefix(String::new()).matches(&digits), "nothing is not a checksum");
}

#[test]
fn a_url_without_a_file_name_gets_one_of_its_own() {
    let source = |digits: &str| Source {
        url: "http://mirror/?file=7".to_owned(),
        checksum: Checksum::Md5(digits.to_owned()),
    };
    assert_eq!(source("12ab").file_name(), "download-12ab");
}
