//! The plan from the wire's types. What the trainer could only break down over is refused here; what belongs to the data or
//! the model is checked where those are known.

use std::num::{NonZeroU32, NonZeroU64};

use lockstep_proto::v1;

use super::{Malformed, need, split};
use crate::data::Augment;
use crate::model::Precision;
use crate::plan::{
    Curve, DataPlan, GroupPlan, ModelPlan, OptimizerKind, OptimizerPlan, PhasePlan, Plan, SchedulePlan,
    TrainPlan,
};

fn positive(value: u32, what: &'static str) -> Result<NonZeroU32, Malformed> {
    need(NonZeroU32::new(value), what)
}

fn within(fine: bool, what: &'static str) -> Result<(), Malformed> {
    if fine { Ok(()) } else { Err(Malformed(what)) }
}

/// From 0 to below 1.
fn is_share(value: f64) -> bool {
    (0.0..1.0).contains(&value)
}

pub(super) fn plan(plan: v1::Plan) -> Result<Plan, Malformed> {
    let eval_split = split(plan.eval_split())?;
    let precision = precision(plan.precision())?;
    let caches_prefix = caches_prefix(plan.prefix_cache())?;
    if plan.steps_per_epoch == 0 {
        return Err(Malformed("an epoch without steps"));
    }
    Ok(Plan {
        run: plan.run,
        seed: plan.seed,
        batch: positive(plan.batch, "a batch of no samples")?,
        shards: positive(plan.shards, "no shards")?,
        epochs: plan.epochs,
        steps_per_epoch: plan.steps_per_epoch,
        threads: positive(plan.threads, "no threads")?,
        precision,
        caches_prefix,
        exact: plan.exact,
        checkpoint_every_steps: NonZeroU64::new(plan.checkpoint_every_steps),
        data: data(need(plan.data, "a plan without data")?)?,
        augment: plan.augment.map_or_else(Augment::default, augment),
        model: model(need(plan.model, "a plan without a model")?)?,
        train: train(need(plan.train, "a plan without training settings")?)?,
        optimizer: optimizer(need(plan.optimizer, "a plan without an optimizer")?)?,
        schedule: schedule(need(plan.schedule, "a plan without a schedule")?)?,
        eval_split,
        eval_block: positive(plan.eval_block, "evaluation blocks of no samples")?,
    })
}

fn precision(precision: v1::Precision) -> Result<Precision, Malformed> {
    match precision {
        v1::Precision::Unspecified => Err(Malformed("a plan without a precision")),
        v1::Precision::Fp32 => Ok(Precision::Fp32),
        v1::Precision::Bf16 => Ok(Precision::Bf16),
    }
}

fn caches_prefix(cache: v1::PrefixCache) -> Result<bool, Malformed> {
    match cache {
        v1::PrefixCache::Unspecified => Err(Malformed("a plan that does not say whether a prefix is cached")),
        v1::PrefixCache::Auto => Ok(true),
        v1::PrefixCache::Off => Ok(false),
    }
}

fn data(data: v1::DataPlan) -> Result<DataPlan, Malformed> {
    Ok(DataPlan {
        digest: digest(data.digest)?,
        train_samples: data.train_samples,
        test_samples: data.test_samples,
        validation_samples: data.validation_samples,
        classes: data.classes,
        image_size: positive(data.image_size, "pictures of no pixels")?,
        mean: data.mean,
        std: data.std,
    })
}

fn augment(augment: v1::AugmentPlan) -> Augment {
    Augment {
        crop_padding: augment.crop_padding,
        resized_crop: (augment.resized_crop > 0.0).then_some(augment.resized_crop),
        flip: augment.flip,
        brightness: augment.brightness,
        contrast: augment.contrast,
        saturation: augment.saturation,
        hue: augment.hue,
        erasing: augment.erasing,
        mixup: augment.mixup,
        cutmix: augment.cutmix,
    }
}

fn model(model: v1::ModelPlan) -> Result<ModelPlan, Malformed> {
    let weights_digest = match model.weights_digest {
        empty if empty.is_empty() => None,
        weights => Some(digest(weights)?),
    };
    Ok(ModelPlan { name: model.name, weights_digest })
}

fn train(train: v1::TrainPlan) -> Result<TrainPlan, Malformed> {
    let frozen_batch_norm_trains = match train.frozen_batch_norm() {
        v1::FrozenBatchNorm::Train => true,
        v1::FrozenBatchNorm::Eval => false,
        v1::FrozenBatchNorm::Unspecified => {
            return Err(Malformed("an unknown treatment of frozen BatchNorm"));
        }
    };
    let phases: Vec<PhasePlan> = train.phases.into_iter().map(phase).collect();
    if phases.first().is_none_or(|first| first.epoch != 0) || !phases.is_sorted_by(|a, b| a.epoch < b.epoch) {
        return Err(Malformed("phases of training that do not rise from epoch 0"));
    }
    let positive_or_off = |value: f64| value.is_finite() && value >= 0.0;
    within(positive_or_off(train.clip_norm), "a norm to clip by that is none")?;
    within(is_share(train.ema_decay), "a decay of the running average that is not below 1")?;
    within(is_share(train.label_smoothing), "a label smoothing that is not below 1")?;
    Ok(TrainPlan {
        phases,
        frozen_batch_norm_trains,
        label_smoothing: train.label_smoothing,
        accumulate: positive(train.accumulate, "shards in no parts")?,
        clip_norm: (train.clip_norm > 0.0).then_some(train.clip_norm),
        ema_decay: (train.ema_decay > 0.0).then_some(train.ema_decay),
    })
}

fn phase(phase: v1::Phase) -> PhasePlan {
    let group =
        |v1::ParameterGroup { parameters, lr, weight_decay }| GroupPlan { parameters, lr, weight_decay };
    PhasePlan { epoch: phase.epoch, groups: phase.groups.into_iter().map(group).collect() }
}

/// Digests become file names, so anything else must not pass.
fn digest(digest: String) -> Result<String, Malformed> {
    let hex = digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if hex { Ok(digest) } else { Err(Malformed("a digest that is not a sha256 in hex")) }
}

fn optimizer(optimizer: v1::OptimizerPlan) -> Result<OptimizerPlan, Malformed> {
    use v1::optimizer_plan::Kind;
    let kind = match need(optimizer.kind, "an unknown optimizer")? {
        Kind::Sgd(v1::Sgd { momentum, nesterov }) => {
            within(is_share(momentum), "a momentum that is not below 1")?;
            OptimizerKind::Sgd { momentum, nesterov }
        }
        Kind::Adamw(v1::AdamW { beta1, beta2, eps }) => {
            within(is_share(beta1) && is_share(beta2) && eps >= 0.0, "settings that AdamW cannot work with")?;
            OptimizerKind::AdamW { beta1, beta2, eps }
        }
    };
    Ok(OptimizerPlan { lr: optimizer.lr, kind })
}

fn schedule(schedule: v1::SchedulePlan) -> Result<SchedulePlan, Malformed> {
    use v1::schedule_plan::Curve as Wire;
    let curve = match need(schedule.curve, "an unknown schedule")? {
        Wire::Constant(v1::Constant {}) => Curve::Constant,
        Wire::Cosine(v1::Cosine { t_max }) => {
            Curve::Cosine { t_max: positive(t_max, "a schedule with a period of 0")? }
        }
        Wire::CosineToZero(v1::CosineToZero {}) => Curve::CosineToZero,
        Wire::Step(v1::StepDecay { size, gamma }) => {
            Curve::Step { size: positive(size, "a schedule with steps of 0 epochs")?, gamma }
        }
        Wire::OneCycle(v1::OneCycle { pct_start, div_factor, final_div_factor }) => {
            within(div_factor > 0.0 && final_div_factor > 0.0, "a cycle whose ends have no rate")?;
            Curve::OneCycle { pct_start, div_factor, final_div_factor }
        }
    };
    let v1::SchedulePlan { per_step, warmup_epochs, warmup_start, .. } = schedule;
    Ok(SchedulePlan { curve, per_step, warmup_epochs, warmup_start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_that_could_be_a_path_is_refused() {
        assert!(digest("../../etc/passwd".to_owned()).is_err());
        assert!(digest("A".repeat(64)).is_err());
        assert!(digest("a0".repeat(32)).is_ok());
    }

    fn trained() -> v1::TrainPlan {
        let phases = vec![v1::Phase::default()];
        let frozen_batch_norm = v1::FrozenBatchNorm::Eval.into();
        v1::TrainPlan { phases, frozen_batch_norm, accumulate: 1, ..Default::default() }
    }

    #[test]
    fn zeros_switch_off_what_may_be_off() {
        let plan = train(trained()).unwrap();
        assert_eq!((plan.clip_norm, plan.ema_decay, plan.label_smoothing), (None, None, 0.0));
        assert_eq!(augment(v1::AugmentPlan::default()), Augment::default());
    }

    #[test]
    fn settings_that_the_trainer_could_only_break_down_over_are_refused() {
        let changes: [fn(&mut v1::TrainPlan); 9] = [
            |plan| plan.label_smoothing = 1.0,
            |plan| plan.label_smoothing = f64::NAN,
            |plan| plan.ema_decay = 1.0,
            |plan| plan.ema_decay = -0.5,
            |plan| plan.clip_norm = f64::NAN,
            |plan| plan.accumulate = 0,
            |plan| plan.phases.clear(),
            |plan| plan.phases[0].epoch = 1,
            |plan| plan.phases.push(v1::Phase::default()),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut plan = trained();
            change(&mut plan);
            assert!(train(plan).is_err(), "change {index}");
        }
        let of = |kind| optimizer(v1::OptimizerPlan { lr: 0.1, kind: Some(kind) });
        let adamw = |beta1, eps| v1::optimizer_plan::Kind::Adamw(v1::AdamW { beta1, beta2: 0.999, eps });
        assert!(of(adamw(0.9, 1e-8)).is_ok());
        assert!(of(adamw(1.0, 1e-8)).is_err() && of(adamw(0.9, f64::NAN)).is_err());
        assert!(of(v1::optimizer_plan::Kind::Sgd(v1::Sgd { momentum: 1.0, nesterov: false })).is_err());
        let cycle = v1::OneCycle { pct_start: 0.3, div_factor: 0.0, final_div_factor: 1e4 };
        let curve = Some(v1::schedule_plan::Curve::OneCycle(cycle));
        assert!(schedule(v1::SchedulePlan { curve, ..Default::default() }).is_err());
    }
}
