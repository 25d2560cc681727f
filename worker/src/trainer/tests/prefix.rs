//! The frozen prefix is computed once: by whom, where it is kept and what becomes of the files shows in no result.

use super::*;
use crate::data::Augment;
use crate::plan::{GroupPlan, PhasePlan};

/// What starts with one of `trained` is trained, and pictures are seen both ways round.
fn frozen_but(trained: &[&str]) -> Plan {
    let mut plan = plan::sample();
    let all = plan.train.phases[0].groups[0].clone();
    let parameters = all.parameters.iter().filter(|name| trained.iter().any(|start| name.starts_with(start)));
    let group = GroupPlan { parameters: parameters.cloned().collect(), ..all };
    plan.train.phases = vec![PhasePlan { epoch: 0, groups: vec![group] }];
    plan.train.ema_decay = Some(0.75);
    plan.augment = Augment { flip: 0.5, ..Augment::default() };
    plan
}

type Essence = ([u8; 32], Metrics, Ledger, Vec<(u32, Metrics)>);

/// Of an epoch by members that hold these shards and use the folder beside `dataset`.
fn result(plan: &Plan, dataset: &Path, shards: &[u32]) -> Essence {
    let mut members = begin(plan, dataset, shards, None);
    let essence = essence(&mut members);
    members.into_iter().for_each(|member| member.end().unwrap());
    essence
}

/// The files of blocks that lie beside `dataset`.
fn blocks(dataset: &Path) -> Vec<PathBuf> {
    let files = |dir: PathBuf| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut blocks: Vec<PathBuf> = files(dataset.with_file_name("activations")).flat_map(files).collect();
    blocks.sort();
    blocks
}

#[test]
fn whoever_computes_the_blocks_the_results_are_the_same() {
    for trained in [&["fc."][..], &["layer4.1.", "fc."]] {
        let plan = frozen_but(trained);
        let (_dir, alone) = dataset();
        let expected = result(&plan, &alone, &[2]);
        // 4 blocks of training samples, both ways round, and 2 of test samples.
        assert_eq!(blocks(&alone).len(), 10);
        assert_eq!(result(&plan, &alone, &[1, 1]), expected, "from files");
        let (_dir, together) = dataset();
        assert_eq!(result(&plan, &together, &[1, 1, 0]), expected, "computed by three");
        assert_eq!(blocks(&together).len(), 10);
    }
}

#[test]
fn members_without_a_common_folder_send_each_other_their_blocks() {
    let plan = frozen_but(&["fc."]);
    let homes = [dataset(), dataset(), dataset()];
    let expected = result(&plan, &dataset().1, &[2]);
    // The first has all of it, the others nothing.
    assert_eq!(result(&plan, &homes[0].1, &[2]), expected);
    let spawned =
        homes.iter().enumerate().map(|(rank, (_, path))| spawn(&plan, path, &format!("worker-{rank}")));
    let mut members: Vec<Member> = spawned.collect();
    let formation = Formation { generation: 1, shards: &[1, 1, 0], ..Formation::default() };
    form(&mut members.iter_mut().collect::<Vec<_>>(), formation);
    assert_eq!(essence(&mut members), expected);
    members.into_iter().for_each(|member| member.end().unwrap());
    let contents =
        |path: &Path| blocks(path).iter().map(|block| fs::read(block).unwrap()).collect::<Vec<_>>();
    for (_, path) in &homes[1..] {
        assert_eq!(contents(path), contents(&homes[0].1));
    }
}

#[test]
fn what_is_kept_is_what_the_prefix_makes_of_the_pictures() {
    let cached = frozen_but(&["layer4.1.", "fc."]);
    let plain = Plan { caches_prefix: false, ..cached.clone() };
    let (_dir, path) = dataset();
    let (_, train, ledger, blocks) = result(&cached, &path, &[2]);
    let (_, expected, expected_ledger, expected_blocks) = result(&plain, &path, &[2]);
    assert_eq!((train.count, train.correct, ledger), (expected.count, expected.correct, expected_ledger));
    // Kernels may round otherwise for a block than for a step's slice.
    let close = |one: f64, other: f64| (one - other).abs() <= 1e-4 * other.abs();
    assert!(close(train.loss_sum, expected.loss_sum), "{train:?} {expected:?}");
    for ((number, block), (expected_number, expected)) in blocks.into_iter().zip(expected_blocks) {
        assert_eq!((number, block.count), (expected_number, expected.count));
        assert!(close(block.loss_sum, expected.loss_sum), "{block:?} {expected:?}");
    }
}

#[test]
fn damaged_and_missing_files_are_made_again() {
    let plan = frozen_but(&["fc."]);
    let (_dir, path) = dataset();
    let expected = result(&plan, &path, &[2]);
    let files = blocks(&path);
    let whole: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let mut damaged = whole[0].clone();
    damaged[5] ^= 1;
    fs::write(&files[0], damaged).unwrap();
    fs::write(&files[4], &whole[4][..100]).unwrap();
    fs::remove_file(&files[7]).unwrap();
    assert_eq!(result(&plan, &path, &[1, 1]), expected);
    assert_eq!(blocks(&path).iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>(), whole);
}

#[test]
fn without_a_folder_to_write_to_it_is_kept_in_memory() {
    let plan = frozen_but(&["fc."]);
    let expected = result(&plan, &dataset().1, &[2]);
    let (_dir, path) = dataset();
    fs::write(path.with_file_name("activations"), "a file").unwrap();
    assert_eq!(result(&plan, &path, &[1, 1]), expected);
}

#[test]
fn members_pause_and_a_lost_one_is_missed_while_blocks_are_computed() {
    let plan = frozen_but(&["fc."]);
    let (_dir, path) = dataset();
    let mut members = [spawn(&plan, &path, "worker-0"), spawn(&plan, &path, "worker-1")];
    let [first, second] = &mut members;
    form(
        &mut [first, second],
        Formation { generation: 1, shards: &[1, 1], pause: true, ..Formation::default() },
    );
    for member in [&*first, second] {
        assert_eq!(member.idle(1).position, Some(Position::default()), "before the first step");
    }
    second.lie_in_wait(Moment::Filling);
    form(&mut [first, second], Formation { generation: 2, shards: &[1, 1], ..Formation::default() });
    assert_eq!(first.idle(2).broken.unwrap().blames, ["worker-1"]);
    second.idle(2);
    form(&mut [first, second], Formation { generation: 3, shards: &[1, 1], ..Formation::default() });
    assert_eq!(essence(&mut members), result(&plan, &dataset().1, &[2]));
    members.into_iter().for_each(|member| member.end().unwrap());
}
