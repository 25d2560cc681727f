//! Turns merged layers into a recipe: one line per key, with its type, its bounds and its default.

mod train;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Value;

use super::choice::SelectSplit;
use super::error::RecipeError;
use super::layer::{Layers, Origin, shown};
use super::reader::Reader;
use super::{
    Augment, Cache, Checkpoint, Data, IMAGE_SIZES, Model, Optimizer, Recipe, Schedule, Select, Validation,
    Weights, validate,
};
use crate::nearest::nearest;

/// More shards than any sensible number of devices, fewer than a slip of the finger.
const SHARDS_MAX: u32 = 1024;
/// Of one process; above that libtorch's pool hurts more than it helps.
const THREADS_MAX: u32 = 256;

/// Below, a busy machine loses workers that live; above, a dead one holds the others up longer than a restart would.
const LEASES_MS: RangeInclusive<u32> = 300..=600_000;

type Read = Result<(Recipe, BTreeMap<String, Origin>), RecipeError>;

/// Completes and checks; also tells where each key that has a value came from.
pub(crate) fn recipe(layers: &Layers, default_shards: u32) -> Read {
    let reader = Reader { layers };
    let select = select(&reader)?;
    let recipe = Recipe {
        seed: reader.whole("seed", 7, 0..=i64::MAX.unsigned_abs())?,
        batch: reader.count("batch", 200, 2..=u32::MAX)?,
        shards: reader.count("shards", default_shards, 1..=SHARDS_MAX)?,
        epochs: reader.count("epochs", 100, 1..=u32::MAX)?,
        precision: reader.choice("precision", super::Precision::Fp32)?,
        threads: reader.count("threads", 1, 1..=THREADS_MAX)?,
        exact: reader.flag("exact", true)?,
        max_restarts: reader.count("max_restarts", 3, 0..=u32::MAX)?,
        lease_ms: reader.count("lease_ms", 3_000, LEASES_MS)?,
        data: data(&reader, select.split)?,
        augment: augment(&reader)?,
        model: Model {
            name: reader.choice("model.name", super::ModelName::Resnet50)?,
            weights: weights(&reader)?,
        },
        train: train::train(&reader)?,
        optimizer: optimizer(&reader)?,
        schedule: schedule(&reader)?,
        select,
        checkpoint: Checkpoint {
            every_steps: reader.whole("checkpoint.every_steps", 0, 0..=i64::MAX.unsigned_abs())?,
            keep: reader.count("checkpoint.keep", 3, 1..=u32::MAX)?,
        },
        cache: Cache { prefix: reader.choice("cache.prefix", super::PrefixCache::Auto)? },
    };
    validate::across_keys(&recipe, layers)?;
    Ok((recipe, reader.origins()))
}

fn select(reader: &Reader<'_>) -> Result<Select, RecipeError> {
    Ok(Select {
        split: reader.choice("select.split", SelectSplit::Val)?,
        metric: reader.choice("select.metric", super::Metric::AccTop1)?,
        restore: reader.choice("select.restore", super::Restore::Never)?,
        patience: reader.count("select.patience", 0, 0..=u32::MAX)?,
    })
}

fn data(reader: &Reader<'_>, split: SelectSplit) -> Result<Data, RecipeError> {
    if !reader.has("data.name") {
        return Err(RecipeError::Missing {
            key: "data.name",
            file: reader.layers.file.clone(),
            hint: "say which data to train on, for example --set data.name=cifar10",
        });
    }
    Ok(Data {
        // The default never shows: the key is there.
        name: reader.choice("data.name", super::DataName::Cifar10)?,
        path: reader.text("data.path", "a path")?.map(PathBuf::from),
        image_size: reader.count("data.image_size", 32, IMAGE_SIZES)?,
        train: reader.optional_count("data.train")?,
        test: reader.optional_count("data.test")?,
        test_fraction: reader.number(
            "data.test_fraction",
            0.2,
            |fraction| fraction > 0.0 && fraction < 1.0,
            "a fraction between 0 and 1",
        )?,
        validation: validation(reader, split)?,
        normalize: reader.choice("data.normalize", super::Normalize::Half)?,
        skip_broken: reader.flag("data.skip_broken", false)?,
    })
}

fn validation(reader: &Reader<'_>, split: SelectSplit) -> Result<Validation, RecipeError> {
    const KEY: &str = "data.validation";
    let expected = "a fraction between 0 and 1, or a whole number of samples";
    match (reader.value(KEY), split) {
        (None, SelectSplit::Val) => Ok(Validation::Fraction(0.1)),
        (None, SelectSplit::Test) => Ok(Validation::Count(0)),
        (Some(Value::Float(fraction)), _) if *fraction > 0.0 && *fraction < 1.0 => {
            Ok(Validation::Fraction(*fraction))
        }
        (Some(Value::Integer(_)), _) => Ok(Validation::Count(reader.count(KEY, 0, 0..=u32::MAX)?)),
        (Some(other), _) => Err(reader.invalid(KEY, expected, shown(other), None)),
    }
}

fn augment(reader: &Reader<'_>) -> Result<Augment, RecipeError> {
    let share = |key| reader.number(key, 0.0, |share| (0.0..=1.0).contains(&share), "a number from 0 to 1");
    let alpha = |key| {
        let allowed = |alpha: f64| alpha == 0.0 || (0.001..=100.0).contains(&alpha);
        reader.number(key, 0.0, allowed, "0 (off) or a number from 0.001 to 100")
    };
    Ok(Augment {
        crop_padding: reader.count("augment.crop_padding", 0, 0..=256)?,
        resized_crop: reader.number(
            "augment.resized_crop",
            1.0,
            |least| least > 0.0 && least <= 1.0,
            "a number above 0, at most 1 (off)",
        )?,
        flip: share("augment.flip")?,
        brightness: share("augment.brightness")?,
        contrast: share("augment.contrast")?,
        saturation: share("augment.saturation")?,
        hue: reader.number(
            "augment.hue",
            0.0,
            |turns| (0.0..=0.5).contains(&turns),
            "a number from 0 to 0.5",
        )?,
        erasing: share("augment.erasing")?,
        mixup: alpha("augment.mixup")?,
        cutmix: alpha("augment.cutmix")?,
    })
}

fn weights(reader: &Reader<'_>) -> Result<Weights, RecipeError> {
    const KEY: &str = "model.weights";
    let expected =
        "\"none\", \"imagenet1k-v1\", \"imagenet1k-v2\" or the path of a .pth, .pt or .safetensors file";
    let Some(text) = reader.text(KEY, expected)? else { return Ok(Weights::None) };
    let is_file = |text: &str| [".safetensors", ".pth", ".pt"].iter().any(|ending| text.ends_with(ending));
    match text.as_str() {
        "none" => Ok(Weights::None),
        "imagenet1k-v1" => Ok(Weights::Imagenet1kV1),
        "imagenet1k-v2" => Ok(Weights::Imagenet1kV2),
        _ if is_file(&text) => Ok(Weights::File(PathBuf::from(text))),
        _ => {
            let near = nearest(&text.to_lowercase(), ["imagenet1k-v1", "imagenet1k-v2"]);
            let hint = match near {
                Some(near) => format!("did you mean {near:?}?"),
                None => "rename the file if it is one: its ending tells how to read it".to_owned(),
            };
            Err(reader.invalid(KEY, expected, format!("{text:?}"), Some(hint)))
        }
    }
}

fn optimizer(reader: &Reader<'_>) -> Result<Optimizer, RecipeError> {
    let decay = |key, default| {
        reader.number(key, default, |share| (0.0..1.0).contains(&share), "a number from 0 to below 1")
    };
    Ok(Optimizer {
        name: reader.choice("optimizer.name", super::OptimizerName::Sgd)?,
        lr: reader.number("optimizer.lr", 0.001, |lr| lr > 0.0, "a number above 0")?,
        momentum: decay("optimizer.momentum", 0.9)?,
        weight_decay: reader.number(
            "optimizer.weight_decay",
            0.0,
            |decay| decay >= 0.0,
            "a number, at least 0",
        )?,
        nesterov: reader.flag("optimizer.nesterov", false)?,
        beta1: decay("optimizer.beta1", 0.9)?,
        beta2: decay("optimizer.beta2", 0.999)?,
        eps: reader.number("optimizer.eps", 1e-8, |eps| eps > 0.0, "a number above 0")?,
        decay_norm_and_bias: reader.flag("optimizer.decay_norm_and_bias", true)?,
    })
}

fn schedule(reader: &Reader<'_>) -> Result<Schedule, RecipeError> {
    let above_zero = |key, default| {
        reader.number(key, default, |share| share > 0.0 && share <= 1.0, "a number above 0, at most 1")
    };
    let divisor = |key, default| reader.number(key, default, |by| by >= 1.0, "a number, at least 1");
    Ok(Schedule {
        name: reader.choice("schedule.name", super::ScheduleName::Cosine)?,
        per: reader.choice("schedule.per", super::SchedulePer::Epoch)?,
        t_max: reader.count("schedule.t_max", 200, 1..=u32::MAX)?,
        step_size: reader.count("schedule.step_size", 30, 1..=u32::MAX)?,
        gamma: above_zero("schedule.gamma", 0.1)?,
        warmup_epochs: reader.count("schedule.warmup_epochs", 0, 0..=u32::MAX)?,
        warmup_start: above_zero("schedule.warmup_start", 0.01)?,
        pct_start: reader.number(
            "schedule.pct_start",
            0.3,
            |share| share > 0.0 && share < 1.0,
            "a number between 0 and 1",
        )?,
        div_factor: divisor("schedule.div_factor", 25.0)?,
        final_div_factor: divisor("schedule.final_div_factor", 1e4)?,
    })
}
