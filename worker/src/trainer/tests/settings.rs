//! Whatever a recipe switches on: the results stay a function of the plan, not of who computes them or when.

use super::*;
use crate::data::Augment;
use crate::plan::{Curve, GroupPlan, OptimizerKind, OptimizerPlan, PhasePlan, SchedulePlan, TrainPlan};

fn positive(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).unwrap()
}

/// Two epochs of two steps, the second of which frees what the first froze, with everything on.
fn everything() -> Plan {
    let mut plan = Plan { epochs: 2, checkpoint_every_steps: NonZeroU64::new(1), ..plan::sample() };
    let all = plan.train.phases[0].groups[0].parameters.clone();
    // Norms and biases without decay: neighbours in the flat parameters differ.
    let is_decayed =
        |name: &String| name.ends_with(".weight") && !name.contains("bn") && !name.contains("downsample.1");
    let groups = |names: Vec<String>, lr: f64| {
        let (decayed, plain): (Vec<_>, Vec<_>) = names.into_iter().partition(is_decayed);
        let group = |parameters, weight_decay| GroupPlan { parameters, lr, weight_decay };
        vec![group(decayed, 0.05), group(plain, 0.0)]
    };
    let (top, below): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|name| name.starts_with("fc.") || name.starts_with("layer4."));
    let later = [groups(below, 0.002), groups(top.clone(), 0.01)].concat();
    let phases =
        vec![PhasePlan { epoch: 0, groups: groups(top, 0.01) }, PhasePlan { epoch: 1, groups: later }];
    plan.train = TrainPlan {
        phases,
        frozen_batch_norm_trains: false,
        label_smoothing: 0.1,
        accumulate: positive(2),
        clip_norm: Some(0.5),
        ema_decay: Some(0.75),
    };
    plan.augment = Augment { flip: 0.5, crop_padding: 1, mixup: 0.4, ..Augment::default() };
    plan.optimizer =
        OptimizerPlan { lr: 0.01, kind: OptimizerKind::AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-8 } };
    plan.schedule = SchedulePlan {
        curve: Curve::OneCycle { pct_start: 0.5, div_factor: 10.0, final_div_factor: 100.0 },
        per_step: true,
        ..plan.schedule
    };
    plan
}

/// What must not depend on the members, of an epoch with a running average.
type Essence = (([u8; 32], Metrics, Ledger, Vec<(u32, Metrics)>), Vec<(u32, Metrics)>, f64);

fn average_essence(members: &mut [Member]) -> Essence {
    let reports: Vec<EpochReport> = members.iter_mut().map(Member::epoch).collect();
    let blocks = |blocks: fn(&EpochReport) -> &Vec<BlockMetrics>| {
        reports.iter().flat_map(blocks).map(|block| (block.block, block.metrics)).collect::<Vec<_>>()
    };
    let first = &reports[0];
    for report in &reports {
        assert_eq!((report.weights_digest, report.train), (first.weights_digest, first.train));
    }
    let plain = (first.weights_digest, first.train, first.ledger, blocks(|report| &report.blocks));
    (plain, blocks(|report| &report.ema_blocks), first.learning_rate)
}

/// Trains from `checkpoint`, or from the start, to the end of the second epoch.
fn train(
    plan: &Plan,
    dataset: &Path,
    shards: &[u32],
    checkpoint: Option<&Snapshot>,
) -> (Vec<Essence>, Vec<Snapshot>) {
    let first_epoch = checkpoint.map_or(0, |snapshot| snapshot.position.epoch);
    let mut members = begin(plan, dataset, shards, checkpoint);
    let mut essences = Vec::new();
    for epoch in first_epoch..plan.epochs {
        essences.push(average_essence(&mut members));
        let last = epoch + 1 == plan.epochs;
        for member in &members {
            member.commands.send(verdict_on(epoch, true, last, None)).unwrap();
        }
    }
    (essences, members.into_iter().flat_map(Member::finish).collect())
}

#[test]
fn with_everything_on_results_do_not_depend_on_who_holds_the_shards_or_where_it_was_interrupted() {
    let (_dir, path) = dataset();
    let plan = everything();
    let (expected, snapshots) = train(&plan, &path, &[2], None);
    let [first, second] = expected.as_slice() else { panic!("{expected:?}") };
    assert_eq!(first.1.iter().map(|(_, metrics)| metrics.count).collect::<Vec<_>>(), [4, 2]);
    assert_ne!(first.0.3, first.1, "the average is not the weights");
    // A cycle of four steps: 0.1 of the rate, then its peak before the third step.
    assert!((first.2 - 0.001).abs() < 1e-12 && second.2 > 0.005, "{} {}", first.2, second.2);
    // Within the first epoch, at the border of the phases, within the second, at the end.
    let steps: Vec<u64> = snapshots.iter().map(|snapshot| snapshot.position.step).collect();
    assert_eq!(steps, [1, 2, 3, 4]);

    let (both, their_snapshots) = train(&plan, &path, &[1, 1], None);
    assert_eq!(both, expected);
    assert!(their_snapshots == snapshots, "a checkpoint is a function of its position");
    for (at, shards) in [(0, &[1, 1][..]), (1, &[2]), (1, &[1, 1]), (2, &[1, 1])] {
        let (resumed, later) = train(&plan, &path, shards, Some(&snapshots[at]));
        let epoch = snapshots[at].position.epoch as usize;
        assert_eq!(resumed, expected[epoch..], "from step {}", steps[at]);
        assert!(later == snapshots[at + 1..], "from step {}", steps[at]);
    }
}

/// Files are by name, so that one from before other parameters were freed fits.
#[test]
fn weights_of_an_earlier_phase_are_gone_back_to_and_evaluated() {
    let (_dir, path) = dataset();
    let plan = everything();
    let mut members = begin(&plan, &path, &[2], None);
    let first = average_essence(&mut members);
    let member = &mut members[0];
    member.commands.send(verdict_on(0, true, false, None)).unwrap();
    average_essence(std::slice::from_mut(member));
    let weights = member.snapshots.pop().unwrap();
    // Steps 1 and 2 come before, step 3 in the second phase.
    assert_eq!(weights.position.step, 3);
    let weights = member.snapshots.pop().unwrap().files.model.clone();
    member.commands.send(verdict_on(1, true, true, Some(weights.clone()))).unwrap();
    let evaluate = Evaluate { generation: 1, split: Split::Test, weights: weights.clone() };
    member.commands.send(Command::Evaluate(evaluate)).unwrap();
    let evaluated = member.eval();
    let blocks: Vec<_> = evaluated.blocks.iter().map(|block| (block.block, block.metrics)).collect();
    assert_eq!(blocks, first.0.3, "what the first epoch's end gave");
    assert!(member.snapshots.pop().unwrap().files.model == weights, "what was restored was saved");
    members.into_iter().for_each(|member| member.end().unwrap());
}

/// Each part normalises by its own samples and the statistics move by the parts' mean, just as for shards.
#[test]
fn a_shard_in_two_parts_computes_what_two_shards_do() {
    let (_dir, path) = dataset();
    let mut parts = Plan { shards: positive(1), ..plan::sample() };
    parts.train.accumulate = positive(2);
    let of = |plan: &Plan, shards: u32| {
        let mut members = begin(plan, &path, &[shards], None);
        let essence = essence(&mut members);
        members.into_iter().for_each(|member| member.end().unwrap());
        essence
    };
    assert_eq!(of(&parts, 1), of(&plan::sample(), 2));
    let whole = Plan { shards: positive(1), ..plan::sample() };
    assert_ne!(of(&parts, 1).0, of(&whole, 1).0);
}

#[test]
fn smoothing_changes_training_and_leaves_evaluation_plain() {
    let (_dir, path) = dataset();
    let mut plan = plan::sample();
    // No step moves anything: the same weights are evaluated.
    plan.train.phases[0].groups[0].lr = 0.0;
    let mut smooth = plan.clone();
    smooth.train.label_smoothing = 0.5;
    let of = |plan: &Plan| {
        let mut members = begin(plan, &path, &[2], None);
        let essence = essence(&mut members);
        members.into_iter().for_each(|member| member.end().unwrap());
        essence
    };
    let (plain, smooth) = (of(&plan), of(&smooth));
    assert_eq!((plain.0, &plain.3), (smooth.0, &smooth.3));
    assert_ne!(plain.1.loss_sum, smooth.1.loss_sum);
}

#[test]
fn a_plan_that_trains_nothing_is_refused() {
    let (_dir, path) = dataset();
    let mut plan = plan::sample();
    plan.train.phases[0].groups[0].parameters.clear();
    let error = begin(&plan, &path, &[2], None).remove(0).thread.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "every parameter is frozen from epoch 0 on: there is nothing to train");
}
