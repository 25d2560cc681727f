//! The trainer driven by plain channels: whoever takes part and wherever it is interrupted, the results are the same.

mod devices;
mod generations;
mod members;
mod prefix;
mod settings;
mod verdicts;

use std::collections::HashMap;
use std::fs;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use tempfile::TempDir;

use self::members::{Formation, Member, Moment, begin, form, spawn};
use super::pulse::Activity;
use super::*;
use crate::plan::{self, Position, Split};

/// Large enough for ResNet's five halvings of the resolution, small enough to be quick.
const SIDE: usize = 8;

/// 16 training and 6 test images of 3 classes, as the plan of `plan::sample` wants them.
fn dataset() -> (TempDir, PathBuf) {
    let pixels: Vec<u8> = (0..16 * 3 * SIDE * SIDE).map(|at| (at * at % 251) as u8).collect();
    let labels: Vec<u8> = (0..16_i64).flat_map(|at| (at % 3).to_le_bytes()).collect();
    let images = |samples: usize| {
        let data = &pixels[..samples * 3 * SIDE * SIDE];
        TensorView::new(Dtype::U8, vec![samples, 3, SIDE, SIDE], data).unwrap()
    };
    let labels = |samples: usize| TensorView::new(Dtype::I64, vec![samples], &labels[..samples * 8]).unwrap();
    let tensors = [
        ("train.images", images(16)),
        ("train.labels", labels(16)),
        ("test.images", images(6)),
        ("test.labels", labels(6)),
    ];
    let about = HashMap::from([("lockstep".to_owned(), r#"{"name": "tiny", "classes": 3}"#.to_owned())]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.safetensors");
    fs::write(&path, serialize(tensors, Some(about)).unwrap()).unwrap();
    (dir, path)
}

/// What must not depend on the members: digest, metrics, ledger, and all blocks in order.
fn essence(members: &mut [Member]) -> ([u8; 32], Metrics, Ledger, Vec<(u32, Metrics)>) {
    let reports: Vec<EpochReport> = members.iter_mut().map(Member::epoch).collect();
    let first = &reports[0];
    for report in &reports {
        assert_eq!(
            (report.weights_digest, report.train, report.ledger, report.position),
            (first.weights_digest, first.train, first.ledger, first.position)
        );
    }
    let blocks = reports.iter().flat_map(|report| &report.blocks).map(|block| (block.block, block.metrics));
    (first.weights_digest, first.train, first.ledger, blocks.collect())
}

fn verdict(save: bool, hold: bool, restore: Option<Vec<u8>>) -> Command {
    verdict_on(0, save, hold, restore)
}

fn verdict_on(epoch: u32, save: bool, hold: bool, restore: Option<Vec<u8>>) -> Command {
    Command::Verdict(Verdict { generation: 1, epoch, restore, save, keep: false, hold })
}

#[test]
fn results_do_not_depend_on_who_holds_the_shards() {
    let (_dir, path) = dataset();
    let plan = Plan { shards: NonZeroU32::new(3).unwrap(), ..plan::sample() };
    let mut alone = begin(&plan, &path, &[3], None);
    let expected = essence(&mut alone);
    assert_eq!((expected.1.count, expected.2.seen, expected.2.lost, expected.2.repeated), (16, 16, 0, 0));
    assert_eq!(expected.3.iter().map(|(_, metrics)| metrics.count).collect::<Vec<_>>(), [4, 2]);
    for shards in [&[2, 1][..], &[1, 1, 1, 0]] {
        let mut members = begin(&plan, &path, shards, None);
        assert_eq!(essence(&mut members), expected, "{shards:?}");
        members.into_iter().for_each(|member| member.end().unwrap());
    }
    alone.into_iter().for_each(|member| member.end().unwrap());
}

#[test]
fn an_interrupted_epoch_ends_as_if_nothing_had_been() {
    let (_dir, path) = dataset();
    let plan = Plan { checkpoint_every_steps: NonZeroU64::new(1), ..plan::sample() };
    let mut whole = begin(&plan, &path, &[1, 1], None);
    let expected = essence(&mut whole);
    let (first, others) = whole.split_first_mut().unwrap();
    let [snapshot] = first.snapshots.as_slice() else { panic!("{:?}", first.snapshots) };
    assert_eq!(snapshot.position, Position { epoch: 0, step: 1 });
    assert!(others[0].snapshots.is_empty(), "rank 0 alone saves");

    let mut resumed = begin(&plan, &path, &[2], Some(snapshot));
    assert_eq!(essence(&mut resumed), expected);
    whole.into_iter().chain(resumed).for_each(|member| member.end().unwrap());
}

#[test]
fn a_verdict_restores_then_saves_and_a_held_member_evaluates() {
    let (_dir, path) = dataset();
    let plan = Plan { checkpoint_every_steps: NonZeroU64::new(1), ..plan::sample() };
    let mut members = begin(&plan, &path, &[2], None);
    let member = &mut members[0];
    let trained = member.epoch();
    let weights = member.snapshots.remove(0).files.model.clone();
    member.commands.send(verdict(true, true, Some(weights.clone()))).unwrap();
    let evaluate = Evaluate { generation: 1, split: Split::Test, weights: weights.clone() };
    member.commands.send(Command::Evaluate(evaluate)).unwrap();
    let evaluated = member.eval();
    assert_eq!(evaluated.blocks.len(), 2);
    assert_ne!(evaluated.blocks, trained.blocks, "other weights than those of the epoch's end");
    let saved = member.snapshots.remove(0);
    assert_eq!(saved.position, plan.start_of(1));
    assert!(saved.files.model == weights, "what was restored was saved");
    members.into_iter().for_each(|member| member.end().unwrap());
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_with_the_step_named() {
    let (_dir, path) = dataset();
    for clip_norm in [None, Some(1e38)] {
        let mut plan = plan::sample();
        plan.train.phases[0].groups[0].lr = 1e38;
        plan.train.clip_norm = clip_norm;
        let mut members = begin(&plan, &path, &[2], None);
        let error = members.remove(0).thread.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), FailureKind::Run);
        let said = error.to_string();
        assert!(said.starts_with("the loss became ") && said.contains("in step 2"), "{said}");
    }
}

#[test]
fn a_plan_that_the_data_contradict_is_refused() {
    let (_dir, path) = dataset();
    let plan = Plan { steps_per_epoch: 3, ..plan::sample() };
    let error = begin(&plan, &path, &[2], None).remove(0).thread.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), FailureKind::Data);
    assert_eq!(error.to_string(), "the plan has 3 steps per epoch, but the data make 2");
}
