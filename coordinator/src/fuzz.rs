//! What reads bytes that others wrote, each behind one function that takes whatever comes: it is refused, or it is read and
//! makes sense. The fuzzers of `tests/fuzz` call these, and the tests here with what the fuzzers have found worth keeping.

use std::collections::BTreeSet;

use lockstep_core::{Event, History, Run, Time};

use crate::journal::Journal;
use crate::recipe::Recipe;
use crate::store::Manifest;

/// A recipe's text, as a person writes it. What is taken means the same once it was written down.
pub fn recipe(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Recipe::load_text(text, "recipe.toml", 2) {
        Ok(loaded) => {
            let written = loaded.recipe.to_toml();
            let again = Recipe::from_toml_str(&written, "again");
            let again = again.unwrap_or_else(|error| panic!("it reads what it writes: {error}\n{written}"));
            assert_eq!(again, loaded.recipe, "{written}");
        }
        Err(error) => drop((error.to_string(), error.hint())),
    }
}

/// A checkpoint's manifest: as it is, and sealed, since nobody finds a digest by chance.
pub fn manifest(data: &[u8]) {
    for text in [data.to_vec(), Manifest::sealed(data.to_vec())] {
        let Some(manifest) = Manifest::read(&text) else { continue };
        manifest.size_bytes();
        let sealed = manifest.seal().expect("what was read can be written");
        assert_eq!(Manifest::read(&sealed).as_ref(), Some(&manifest));
    }
}

/// A run's rows in the journal, one per line, and a coordinator that takes over what they tell of.
pub fn journal(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let rows: Vec<String> = text.lines().map(str::to_owned).collect();
    let journal = Journal::of_rows("run", &rows).expect("a journal in memory");
    let Ok(entries) = journal.entries("run") else { return };
    let Some(history) = History::from_entries(entries) else { return };
    history.is_trained();
    history.resume_point(&history.checkpoints.keys().copied().collect());
    let expected: BTreeSet<_> = history.members.iter().map(|member| member.worker.clone()).collect();
    let (workers, epochs) = (history.spec.workers, history.spec.epochs);
    let now = Time(1 << 40);
    let (mut run, _) = Run::take_over(now, history, workers, epochs, expected);
    for _ in 0..4 {
        let Some(deadline) = run.next_deadline() else { break };
        // A refusal is an answer.
        drop(run.apply(deadline.max(now), Event::Tick));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// All that a fuzzer's folder holds, and each without any one of its lines.
    #[track_caller]
    fn hold(fuzzer: fn(&[u8]), name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds").join(name);
        let seeds: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!seeds.is_empty(), "{} is empty", folder.display());
        for seed in seeds {
            let data = fs::read(seed).unwrap();
            fuzzer(&data);
            let lines: Vec<&[u8]> = data.split_inclusive(|byte| *byte == b'\n').collect();
            for left_out in 0..lines.len().min(200) {
                fuzzer(&[&lines[..left_out], &lines[left_out + 1..]].concat().concat());
            }
        }
    }

    #[test]
    fn whatever_comes_as_a_recipe_is_refused_or_makes_sense() {
        hold(super::recipe, "recipe");
    }

    #[test]
    fn whatever_comes_as_a_manifest_is_refused_or_makes_sense() {
        hold(super::manifest, "manifest");
    }

    #[test]
    fn whatever_comes_as_a_journal_is_refused_or_makes_sense() {
        hold(super::journal, "journal");
    }
}
