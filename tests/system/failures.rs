//! What breaks under a run: the disk, a stored file. Each is told clearly, and a resume gives the same bits.

use std::fs;
use std::path::Path;

use crate::home::{Home, RUN};
use crate::process::Running;
use crate::recipes::{FULL, PARTIAL, STEPS};

/// In the shell's blocks of 512 bytes (16 MiB), or of 1024 where a shell takes it so: data set and journal fit, a
/// checkpoint of 45 MB does not.
const FILE_BLOCKS_MAX: u32 = 32_768;

#[test]
fn a_full_disk_fails_the_run_clearly_breaks_no_checkpoint_and_resume_gives_the_same_bits() {
    let undisturbed = FULL.undisturbed();
    let home = Home::new();
    // A first life leaves a checkpoint.
    let mut running = Running::start(&mut home.train(1, FULL.settings));
    running.until("training", || home.run().event("generation_began"));
    running.signal("INT");
    running.wait().expect(130);
    let before = home.run().checkpoints();
    let stopped_at = *before.last().unwrap();
    let next = if stopped_at < STEPS { STEPS } else { 2 * STEPS };

    let limit = format!("trap '' XFSZ; ulimit -f {FILE_BLOCKS_MAX}");
    let ended = Running::start(&mut home.lockstep_after(&limit, &["resume", RUN])).wait().expect(1);
    ended.says(&[
        &format!("error: run {RUN} failed: "),
        &format!("the checkpoint of step {next} could not be stored"),
        "File too large",
        &format!("lockstep resume {RUN}"),
    ]);
    assert_eq!(home.run().status()["status"], "failed");
    assert_eq!(home.run().checkpoints(), before);
    home.run().verify_checkpoints();

    home.finish(&[]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
    home.run().verify_checkpoints();
}

#[test]
fn damaged_checkpoints_are_told_of_and_an_earlier_one_gives_the_same_bits() {
    let undisturbed = FULL.undisturbed();
    let home = Home::new();
    home.kill_everything(&mut FULL.until_stored(&home, 2, STEPS + 1));

    // The newest: a byte flipped. The one before, which is the best: its manifest cut short.
    let run = home.run();
    let newest = *run.stored_steps().last().unwrap();
    assert!(newest < 2 * STEPS);
    run.checkpoints().iter().filter(|step| **step > STEPS).for_each(|step| {
        flip_a_byte(&run.checkpoint(*step).join("model.safetensors"));
    });
    cut_short(&run.checkpoint(STEPS).join("manifest.json"));

    let resumed = home.finish(&[]);
    resumed.says(&[
        &format!("warning: the checkpoint of step {newest} is not used: "),
        "does not match its digest",
        &format!("warning: the checkpoint of step {STEPS} is not used: "),
        "manifest.json does not read",
        &format!("run {RUN} goes on from epoch 1, step {}", STEPS - 1),
    ]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
    home.run().verify_checkpoints();
}

#[test]
fn a_damaged_data_set_in_the_cache_is_made_again() {
    let undisturbed = PARTIAL.undisturbed();
    let home = Home::new();
    let mut running = Running::start(&mut home.train(1, PARTIAL.settings));
    running.until("training", || home.run().event("generation_began"));
    running.signal("INT");
    running.wait().expect(130);
    let blobs = fs::read_dir(home.path().join("cache/blobs")).unwrap();
    for blob in blobs {
        flip_a_byte(&blob.unwrap().path());
    }
    home.finish(&[]);
    assert_eq!(home.run().outcome(), undisturbed.outcome);
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn cut_short(path: &Path) {
    let text = fs::read(path).unwrap();
    fs::write(path, &text[..text.len() / 2]).unwrap();
}
