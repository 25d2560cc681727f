//! What is deleted, what stays, and what a crash in between leaves.

use std::fs::{self, FileTimes};
use std::time::SystemTime;

use lockstep_core::{Entry, Origin, Outcome};
use tempfile::TempDir;

use super::*;
use crate::driver::fixtures::spec;

const NOW: Time = Time(100_000);

struct Old {
    home: Home,
    _folder: TempDir,
}

impl Old {
    /// Runs that were done at the given times.
    fn new(runs: &[(&str, u64)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let old = Self { home: Home::open(folder.path()).unwrap(), _folder: folder };
        for (run, ended) in runs {
            old.add(run, *ended, Some(Outcome::Done { early: false }));
        }
        old
    }

    fn add(&self, run: &str, at: u64, outcome: Option<Outcome>) {
        let folder = RunFolder::create(&self.home.path, run).unwrap();
        fs::write(folder.path().join("results.csv"), [b'1'; 10_000]).unwrap();
        let mut entries = vec![Entry::Created { spec: spec(1), origin: Origin::default() }];
        entries.extend(outcome.map(|outcome| Entry::Ended { outcome }));
        self.home.journal().unwrap().append(run, Time(at), &entries).unwrap();
    }

    fn prune(&self, policy: &Policy) -> Pruned {
        prune(&self.home, policy, NOW, false).unwrap()
    }

    fn path(&self, run: &str) -> PathBuf {
        self.home.path.join("runs").join(run)
    }

    /// Known and with a folder, or neither; else it is told.
    fn has(&self, run: &str) -> bool {
        let known = self.home.journal().unwrap().knows(run).unwrap();
        assert_eq!(known, self.path(run).exists(), "{run} is half there");
        known
    }
}

fn names(pruned: &Pruned) -> Vec<&str> {
    pruned.runs.iter().map(|run| run.run.0.as_str()).collect()
}

fn older_than(seconds: u64) -> Policy {
    Policy { older_than: Some(Duration::from_secs(seconds)), ..Policy::default() }
}

#[test]
fn old_runs_go_but_the_newest_and_those_that_are_not_over_stay() {
    let old = Old::new(&[("a", 10_000), ("b", 20_000), ("c", 90_000)]);
    old.add("open", 1, None);
    let kept = Policy { keep: 2, ..older_than(50) };
    let pruned = old.prune(&kept);
    assert_eq!(names(&pruned), ["a"]);
    assert!(pruned.bytes >= 10_000 && pruned.runs[0].bytes == pruned.bytes, "{pruned:?}");
    assert_eq!(["a", "b", "c", "open"].map(|run| old.has(run)), [false, true, true, true]);
    assert_eq!(names(&old.prune(&older_than(50))), ["b"]);
    assert_eq!(names(&old.prune(&Policy::default())), ["c"]);
    assert!(old.has("open"));
}

#[test]
fn only_those_that_ended_as_asked_go() {
    let old = Old::new(&[("a", 1)]);
    old.add("b", 1, Some(Outcome::Stopped { position: lockstep_core::Position::default() }));
    let stopped = Policy { stages: vec![Stage::Stopped], ..Policy::default() };
    assert_eq!(names(&old.prune(&stopped)), ["b"]);
    assert!(old.has("a") && !old.has("b"));
}

#[test]
fn a_run_that_somebody_works_on_stays_and_is_told_of() {
    let old = Old::new(&[("a", 1), ("b", 2)]);
    let folder = RunFolder::open(&old.home.path, "a").unwrap();
    let pruned = old.prune(&Policy::default());
    assert_eq!((names(&pruned), pruned.kept[0].run.0.as_str()), (vec!["b"], "a"));
    drop(folder);
    assert_eq!(names(&old.prune(&Policy::default())), ["a"]);
}

#[test]
fn a_run_that_was_taken_up_again_is_not_over() {
    let old = Old::new(&[("a", 1)]);
    let taken_over = Entry::TakenOver { term: lockstep_core::Term(2), workers: spec(1).workers, epochs: 20 };
    old.home.journal().unwrap().append("a", Time(2), &[taken_over]).unwrap();
    assert_eq!(names(&old.prune(&Policy::default())), [""; 0]);
    // Not even between a look at all of them and its turn.
    let forgotten = Past::open(&old.home).unwrap().forget(&"a".into(), || panic!("it is moved"));
    assert!(matches!(forgotten, Err(ForgetError::GoesOn)), "{forgotten:?}");
    assert!(old.has("a"));
}

#[test]
fn a_dry_run_deletes_nothing() {
    let old = Old::new(&[("a", 1)]);
    let dry = prune(&old.home, &Policy::default(), NOW, true).unwrap();
    assert!(old.has("a"));
    let real = old.prune(&Policy::default());
    assert_eq!((names(&dry), dry.bytes), (names(&real), real.bytes));
    assert!(!old.has("a"));
}

#[test]
fn what_was_cut_off_before_its_commit_is_undone_and_after_it_is_finished() {
    let old = Old::new(&[("a", 1), ("b", 2), ("lost", 3)]);
    // Moved, and not committed.
    fs::rename(old.path("a"), old.path(".pruned-a")).unwrap();
    // Committed, and not removed.
    fs::rename(old.path("b"), old.path(".pruned-b")).unwrap();
    Past::open(&old.home).unwrap().forget(&"b".into(), || Ok(())).unwrap();
    // Gone by other means.
    fs::remove_dir_all(old.path("lost")).unwrap();

    let nothing = Policy { keep: 9, ..Policy::default() };
    let pruned = old.prune(&nothing);
    assert!(pruned.runs.is_empty() && pruned.bytes > 0, "{pruned:?}");
    assert!(old.has("a") && !old.has("b") && !old.path(".pruned-b").exists());
    assert_eq!(names(&old.prune(&Policy::default())), ["lost", "a"]);
    assert!(!old.has("a") && !old.has("lost"));
    assert_eq!(fs::read_dir(old.home.path.join("runs")).unwrap().count(), 0);
}

#[test]
fn a_folder_that_cannot_be_moved_leaves_its_run_as_it_was() {
    let old = Old::new(&[("a", 1)]);
    let failed =
        Past::open(&old.home).unwrap().forget(&"a".into(), || Err(io::ErrorKind::PermissionDenied.into()));
    assert!(matches!(failed, Err(ForgetError::Folder(_))), "{failed:?}");
    assert!(old.has("a"));
}

#[test]
fn one_prunes_at_a_time() {
    let old = Old::new(&[]);
    let turn = take_turn(&old.home).unwrap();
    let busy = prune(&old.home, &Policy::default(), NOW, false);
    assert!(matches!(busy, Err(PruneError::Busy { .. })), "{busy:?}");
    drop(turn);
    old.prune(&Policy::default());
}

#[test]
fn activations_that_were_not_used_for_long_go_when_nobody_works() {
    let old = Old::new(&[]);
    old.add("open", 1, None);
    let activations = old.home.cache.join("activations");
    let [unused, used] = ["unused", "used"].map(|key| activations.join(key));
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    for folder in [&unused, &used] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("0"), "block").unwrap();
    }
    for path in [unused.join("0"), unused.clone()] {
        let times = FileTimes::new().set_accessed(hour_ago).set_modified(hour_ago);
        File::open(path).unwrap().set_times(times).unwrap();
    }
    let policy = older_than(1800);
    let working = RunFolder::open(&old.home.path, "open").unwrap();
    assert!(old.prune(&policy).activations.is_empty(), "somebody may be using them");
    drop(working);
    assert!(old.prune(&Policy::default()).activations.is_empty(), "no age was given");
    let pruned = old.prune(&policy);
    assert_eq!(pruned.activations.len(), 1, "{pruned:?}");
    assert!(!unused.exists() && used.join("0").exists());
}
