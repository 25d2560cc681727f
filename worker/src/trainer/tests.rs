//! The trainer driven by plain channels: whoever takes part and wherever it is interrupted, the results are the same.

mod settings;

use std::collections::HashMap;
use std::fs;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use tempfile::TempDir;

use super::*;
use crate::collective::{Cancel, Listener};
use crate::plan::{self, Position, Split};

/// Far beyond what a step of these tests takes.
const PATIENCE: Duration = Duration::from_secs(60);
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

struct Member {
    commands: SyncSender<Command>,
    reports: Receiver<Report>,
    halt: Arc<AtomicBool>,
    cancel: Cancel,
    thread: JoinHandle<Result<(), TrainerError>>,
    /// Of rank 0, as they come.
    snapshots: Vec<Snapshot>,
}

/// Members that hold the given shards, begun at the plan's start or at `checkpoint`.
fn begin(
    plan: &Plan,
    dataset: &std::path::Path,
    shards: &[u32],
    checkpoint: Option<&Snapshot>,
) -> Vec<Member> {
    let listeners: Vec<Arc<Listener>> =
        shards.iter().map(|_| Arc::new(Listener::bind("127.0.0.1:0").unwrap())).collect();
    let mut at = 0;
    let mut peers = Vec::new();
    for (rank, (count, listener)) in shards.iter().zip(&listeners).enumerate() {
        let address = listener.local_addr().unwrap().to_string();
        peers.push(Peer { name: format!("worker-{rank}"), address, shards: at..at + count });
        at += count;
    }
    let member = |(rank, listener)| {
        let (commands, received) = sync_channel(8);
        let (sender, reports) = channel();
        let (halt, cancel) = (Arc::new(AtomicBool::new(false)), Cancel::new());
        let setup = Setup {
            plan: plan.clone(),
            worker: format!("worker-{rank}"),
            device: DeviceName::Cpu,
            dataset: dataset.to_owned(),
            weights: None,
        };
        let begin = Begin {
            generation: 1,
            rank,
            peers: peers.clone(),
            token: vec![7; 16],
            position: checkpoint.map(|snapshot| snapshot.position).unwrap_or_default(),
            checkpoint: checkpoint.map(|snapshot| snapshot.files.clone()),
            hold: false,
            listener,
            halt: Arc::clone(&halt),
            cancel: cancel.clone(),
        };
        commands.send(Command::Begin(begin)).unwrap();
        let thread = thread::spawn(move || {
            let reporter = Reporter::new(move |report| sender.send(report).map_err(|_| SessionGone));
            run(&setup, &received, &reporter)
        });
        Member { commands, reports, halt, cancel, thread, snapshots: Vec::new() }
    };
    listeners.into_iter().enumerate().map(member).collect()
}

impl Member {
    /// The next report that is neither progress nor a snapshot.
    fn report(&mut self) -> Report {
        loop {
            match self.reports.recv_timeout(PATIENCE).expect("the trainer says something") {
                Report::Progress(_) => {}
                Report::Snapshot(snapshot) => self.snapshots.push(snapshot),
                report => return report,
            }
        }
    }

    fn epoch(&mut self) -> EpochReport {
        match self.report() {
            Report::Epoch(report) => report,
            other => panic!("{other:?}"),
        }
    }

    /// Ends its session and returns all of its snapshots that nobody has looked at.
    fn finish(self) -> Vec<Snapshot> {
        let Self { commands, reports, thread, mut snapshots, .. } = self;
        drop(commands);
        let snapshot = |report| if let Report::Snapshot(snapshot) = report { Some(snapshot) } else { None };
        snapshots.extend(reports.iter().filter_map(snapshot));
        thread.join().unwrap().unwrap();
        snapshots
    }

    /// Ends its session and returns how the trainer took it.
    fn end(self) -> Result<(), TrainerError> {
        drop(self.commands);
        self.thread.join().unwrap()
    }
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
    Command::Verdict(Verdict { generation: 1, epoch, restore, save, hold })
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
fn one_raised_flag_halts_all_after_the_same_step_with_a_checkpoint_of_it() {
    let (_dir, path) = dataset();
    let mut members = begin(&plan::sample(), &path, &[1, 1], None);
    members[1].halt.store(true, Ordering::Relaxed);
    let position = Position { epoch: 0, step: 1 };
    for member in &mut members {
        let report = member.report();
        assert!(matches!(report, Report::Halted { position: at, .. } if at == position), "{report:?}");
    }
    assert_eq!(members[0].snapshots.iter().map(|snapshot| snapshot.position).collect::<Vec<_>>(), [position]);
    members.into_iter().for_each(|member| member.end().unwrap());
}

#[test]
fn a_verdict_restores_then_saves_and_a_held_member_evaluates() {
    let (_dir, path) = dataset();
    let plan = Plan { checkpoint_every_steps: NonZeroU64::new(1), ..plan::sample() };
    let mut members = begin(&plan, &path, &[2], None);
    let member = &mut members[0];
    let trained = member.epoch();
    let weights = member.snapshots.remove(0).files.model;
    member.commands.send(verdict(true, true, Some(weights.clone()))).unwrap();
    let evaluate = Evaluate { generation: 1, split: Split::Test, weights: weights.clone() };
    member.commands.send(Command::Evaluate(evaluate)).unwrap();
    let Report::Eval(evaluated) = member.report() else { panic!("no evaluation") };
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

#[test]
fn a_lost_peer_is_named_and_a_cancel_is_not_an_error_of_its_own() {
    let (_dir, path) = dataset();
    let mut members = begin(&plan::sample(), &path, &[1, 1], None);
    essence(&mut members);
    let (second, first) = (members.pop().unwrap(), members.pop().unwrap());
    second.cancel.cancel();
    for member in [&first, &second] {
        member.commands.send(verdict(false, false, None)).unwrap();
    }
    assert!(matches!(second.thread.join().unwrap(), Err(TrainerError::Cancelled)));
    let error = first.thread.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), FailureKind::Cluster);
    assert!(error.to_string().starts_with("lost worker-1: "), "{error}");
}
