//! The frozen prefix is computed once, whoever computes it and whatever happens meanwhile: the weights are those of a run
//! that nothing happened to.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cluster::Cluster;
use crate::home::Home;
use crate::process::{Running, until};
use crate::recipes::{CACHED, ELASTIC_STEPS, finished};

/// The files of blocks below a cache folder: 120 samples both ways round and 16, in blocks of 250.
fn blocks(cache: &Path) -> Vec<PathBuf> {
    let files = |dir: PathBuf| {
        let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        entries.map(|entry| entry.unwrap().path())
    };
    let mut blocks: Vec<PathBuf> = files(cache.join("activations")).flat_map(files).collect();
    blocks.sort();
    blocks
}

#[test]
fn three_workers_and_one_give_the_same_bits_behind_a_cached_prefix() {
    let one = CACHED.undisturbed();
    let home = Home::new();
    Running::start(&mut home.train(3, CACHED.settings)).wait().expect(0);
    let run = home.run();
    assert_eq!(run.outcome(), one.outcome);
    assert_eq!(run.status()["test"], one.status["test"]);
    let names =
        blocks(&home.path().join("cache")).into_iter().map(|path| path.file_name().unwrap().to_owned());
    let expected = ["train-mirrored-00000", "train-plain-00000", "val-plain-00000"];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    assert!(
        run.log("worker-0").contains("the frozen prefix is cached: the outputs of layer1 are computed once")
    );
}

#[test]
fn what_is_not_cached_is_told_with_the_reason() {
    for (setting, reason) in [
        ("cache.prefix=off", "cache.prefix is \"off\""),
        ("augment.crop_padding=2", "random crops change the pictures before it"),
    ] {
        let home = Home::new();
        let settings = CACHED.with(&["epochs=1", setting]);
        Running::start(&mut home.train(1, &settings)).wait().expect(0);
        let log = home.run().log("worker-0");
        assert!(log.contains(&format!("the frozen prefix is not cached: {reason}")), "{log}");
        assert!(!home.path().join("cache/activations").exists());
    }
    let cached = finished(1, &CACHED.with(&["epochs=1"])).outcome.results;
    assert_eq!(cached.lines().nth(1), CACHED.undisturbed().outcome.results.lines().nth(1));
}

#[test]
fn a_killed_worker_finds_the_blocks_when_it_comes_back() {
    let undisturbed = CACHED.undisturbed();
    // It is waited for.
    let mut cluster = Cluster::train(&CACHED, "3..3");
    cluster.until_step("worker-1", 3);
    cluster.signal("KILL", "worker-1");
    cluster.until_members(1, &["worker-0", "worker-1", "worker-2"]);
    let finished = cluster.ends_like(&undisturbed.outcome);
    let log = finished.run().log("worker-1");
    assert!(log.contains("computed=0"), "{log}");
}

#[test]
fn a_stopped_run_finds_the_blocks_when_it_is_resumed() {
    let undisturbed = CACHED.undisturbed();
    let mut cluster = Cluster::train(&CACHED, "2");
    cluster.until_step("worker-1", ELASTIC_STEPS + 3);
    cluster.coordinator.signal("TERM");
    let Cluster { coordinator, home } = cluster;
    let ended = coordinator.wait().expect(143);
    let step = home.run().points_at("last");
    assert!((ELASTIC_STEPS + 3..6 * ELASTIC_STEPS).contains(&step), "step {step} is before the end");
    ended.says(&[&format!("stopped at step {step}")]);
    home.finish(&["--workers", "3"]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
    let log = home.run().log("worker-0");
    assert!(log.contains("computed=0"), "{log}");
}

#[test]
fn a_worker_from_another_machine_is_sent_the_blocks() {
    let undisturbed = CACHED.undisturbed();
    let mut cluster = Cluster::train(&CACHED, "2..2");
    // Makes room for it; the other one waits.
    cluster.until_step("worker-1", 2);
    cluster.signal("TERM", "worker-1");
    let elsewhere = cluster.home.beside("elsewhere");
    let mut command = cluster.joining_with("guest", &elsewhere);
    let guest = cluster.coordinator.companion(&mut command);
    cluster.until_members(1, &["guest", "worker-0"]);
    let finished = cluster.ends_like(&undisturbed.outcome);
    guest.wait().expect(0);
    let contents = |cache: &Path| -> Vec<Vec<u8>> {
        blocks(cache).iter().map(|block| fs::read(block).unwrap()).collect()
    };
    assert_eq!(contents(&elsewhere), contents(&finished.home.path().join("cache")));
}

#[test]
fn after_all_were_killed_a_damaged_block_is_computed_again_and_the_others_are_not() {
    let undisturbed = CACHED.undisturbed();
    let mut cluster = Cluster::train(&CACHED, "2");
    cluster.until_step("worker-1", ELASTIC_STEPS + 3);
    cluster.kill_everything();
    let Cluster { home, .. } = cluster;
    until("all processes to be gone", || home.processes().is_empty().then_some(()));
    let files = blocks(&home.path().join("cache"));
    let mut damaged = fs::read(&files[1]).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&files[1], damaged).unwrap();
    home.finish(&["--workers", "1"]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
    let log = home.run().log("worker-0");
    assert!(log.contains("a cached block of activations is damaged") && log.contains("computed=1"), "{log}");
}
