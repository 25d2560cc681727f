//! What lies where, what it is called, and how long it is.

use std::collections::BTreeSet;
use std::fs;

use crate::code::lines_beside_tests;
use crate::tree::{Breach, SourceFile, assert_none, files, root, rust_files};

const TOP_LEVEL: [&str; 8] =
    ["Cargo.lock", "Cargo.toml", "README.md", "coordinator", "deploy", "proto", "tests", "worker"];

/// Git ignores them: what cargo builds, and where runs go unless told otherwise.
const MADE_HERE: [&str; 2] = ["lockstep-home", "target"];

/// Beyond this a file has more than one purpose.
const LINES_MAX: usize = 400;

/// Names that say nothing of what is inside, and the old way to name a folder's module.
const EMPTY_NAMES: [&str; 10] =
    ["util", "utils", "helper", "helpers", "common", "misc", "base", "manager", "managers", "mod"];

#[test]
fn the_visible_top_level_is_what_the_readme_shows() {
    let entries = fs::read_dir(root()).unwrap();
    let mut names: BTreeSet<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| {
        !name.starts_with('.') && !name.starts_with("LICENSE") && !MADE_HERE.contains(&&**name)
    });
    let expected = TOP_LEVEL.map(str::to_owned).into();
    assert_eq!(names, expected, "rule: the top level is these files and folders, and no others");
}

#[test]
fn every_file_says_first_what_lives_there() {
    let silent = |file: &SourceFile| !file.text.starts_with("//!");
    let rule = "the first line says after `//!` what lives here and why";
    assert_none(rust_files().iter().filter(|file| silent(file)).map(|file| file.breach(1, rule)));
}

#[test]
fn no_file_is_longer_than_one_purpose_takes() {
    let too_long = |file: &SourceFile| -> Option<Breach> {
        let lines = lines_beside_tests(&file.text);
        let rule = format!("a file has at most {LINES_MAX} lines beside its tests, and this one has {lines}");
        (lines > LINES_MAX).then(|| file.breach(lines, rule))
    };
    assert_none(rust_files().iter().filter(|file| !file.is_test()).filter_map(too_long));
}

#[test]
fn names_say_what_is_inside() {
    let empty = |path: &str| {
        let is_empty = |part: &str| EMPTY_NAMES.contains(&part.split('.').next().unwrap_or(part));
        path.split('/').any(is_empty)
    };
    let rule = "a name says what is inside; this one fits anything (or is a mod.rs)";
    assert_none(files().iter().filter(|file| empty(&file.path)).map(|file| file.breach(1, rule)));
}
