//! A recipe's sections as the workers get them: patterns become names, words become variants, "off" becomes absence.

use lockstep_proto::v1 as pb;

use crate::freezing::{Phase, ResolvedGroup};
use crate::recipe::{
    Augment, Cache, FrozenBatchNorm, Optimizer, OptimizerName, Precision, PrefixCache, Recipe, Schedule,
    ScheduleName, SchedulePer,
};

pub(super) fn precision(precision: Precision) -> pb::Precision {
    match precision {
        Precision::Fp32 => pb::Precision::Fp32,
        Precision::Bf16 => pb::Precision::Bf16,
    }
}

pub(super) fn prefix_cache(cache: &Cache) -> pb::PrefixCache {
    match cache.prefix {
        PrefixCache::Auto => pb::PrefixCache::Auto,
        PrefixCache::Off => pb::PrefixCache::Off,
    }
}

pub(super) fn augment(augment: &Augment) -> pb::AugmentPlan {
    pb::AugmentPlan {
        crop_padding: augment.crop_padding,
        resized_crop: if augment.resized_crop < 1.0 { augment.resized_crop } else { 0.0 },
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

pub(super) fn train(recipe: &Recipe) -> pb::TrainPlan {
    let train = &recipe.train;
    let frozen_batch_norm = match train.frozen_batch_norm {
        FrozenBatchNorm::Eval => pb::FrozenBatchNorm::Eval,
        FrozenBatchNorm::Train => pb::FrozenBatchNorm::Train,
    };
    pb::TrainPlan {
        phases: phases(recipe),
        frozen_batch_norm: frozen_batch_norm.into(),
        label_smoothing: train.label_smoothing,
        accumulate: train.accumulate,
        clip_norm: train.clip_norm,
        ema_decay: train.ema_decay,
    }
}

fn phases(recipe: &Recipe) -> Vec<pb::Phase> {
    let group =
        |ResolvedGroup { parameters, lr, weight_decay }| pb::ParameterGroup { parameters, lr, weight_decay };
    let phase = |Phase { epoch, groups }| {
        let groups = groups.into_iter().map(group).collect();
        pb::Phase { epoch, groups }
    };
    recipe.phases().into_iter().map(phase).collect()
}

pub(super) fn optimizer(optimizer: &Optimizer) -> pb::OptimizerPlan {
    use pb::optimizer_plan::Kind;
    let &Optimizer { name, lr, momentum, nesterov, beta1, beta2, eps, .. } = optimizer;
    let kind = match name {
        OptimizerName::Sgd => Kind::Sgd(pb::Sgd { momentum, nesterov }),
        OptimizerName::AdamW => Kind::Adamw(pb::AdamW { beta1, beta2, eps }),
    };
    pb::OptimizerPlan { lr, kind: Some(kind) }
}

pub(super) fn schedule(schedule: &Schedule) -> pb::SchedulePlan {
    use pb::schedule_plan::Curve;
    let &Schedule { t_max, step_size, gamma, pct_start, div_factor, final_div_factor, .. } = schedule;
    let curve = match schedule.name {
        ScheduleName::Constant => Curve::Constant(pb::Constant {}),
        ScheduleName::Cosine => Curve::Cosine(pb::Cosine { t_max }),
        ScheduleName::CosineToZero => Curve::CosineToZero(pb::CosineToZero {}),
        ScheduleName::Step => Curve::Step(pb::StepDecay { size: step_size, gamma }),
        ScheduleName::OneCycle => Curve::OneCycle(pb::OneCycle { pct_start, div_factor, final_div_factor }),
    };
    pb::SchedulePlan {
        curve: Some(curve),
        per_step: schedule.per == SchedulePer::Step,
        warmup_epochs: schedule.warmup_epochs,
        warmup_start: schedule.warmup_start,
    }
}
