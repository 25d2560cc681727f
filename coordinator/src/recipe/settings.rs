//! The sections of a recipe: each key with what it means, as the TOML file names it.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::choice::{
    DataName, FrozenBatchNorm, Metric, ModelName, Normalize, OptimizerName, PrefixCache, Restore,
    ScheduleName, SchedulePer, SelectSplit,
};

/// Pixels per side that networks are given: below, the last stage has nothing to see; above, one picture fills a
/// device.
pub const IMAGE_SIZES: RangeInclusive<u32> = 8..=512;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Data {
    pub name: DataName,
    /// Where the data lies; absent: fetched or generated into the home's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Pixels per side that the network sees.
    pub image_size: u32,
    /// Only the first so many training samples, the validation samples included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<u32>,
    /// Only the first so many test samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<u32>,
    /// Of one folder without a split of its own: the share of each class that becomes the test split.
    pub test_fraction: f64,
    pub validation: Validation,
    pub normalize: Normalize,
    /// Go on without the pictures that cannot be decoded.
    pub skip_broken: bool,
}

/// How many training samples are held back for validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Validation {
    /// Of the training samples, in (0, 1).
    Fraction(f64),
    Count(u32),
}

impl Validation {
    /// The number of samples held back of `train_samples`: a fraction is rounded, to at least one sample.
    #[must_use]
    pub fn samples(self, train_samples: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            // In range: the fraction is below 1.
            Self::Fraction(fraction) => ((f64::from(train_samples) * fraction).round() as u32).max(1),
        }
    }
}

/// What happens to training pictures. A value that changes nothing is off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Augment {
    /// Pixels of zeros added to each side before a random crop; 0: off.
    pub crop_padding: u32,
    /// Least share of the area that a random resized crop keeps; 1: off.
    pub resized_crop: f64,
    /// Probability of a horizontal flip.
    pub flip: f64,
    /// Colour jitter: factors from 1 - x to 1 + x.
    pub brightness: f64,
    pub contrast: f64,
    pub saturation: f64,
    /// Colour jitter: a shift of -x to x turns of the colour wheel, at most 0.5.
    pub hue: f64,
    /// Probability that a random rectangle is erased.
    pub erasing: f64,
    /// Alpha of the beta distribution by which two pictures are mixed; 0: off.
    pub mixup: f64,
    pub cutmix: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Model {
    pub name: ModelName,
    pub weights: Weights,
}

/// Where the initial weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// Initialised from the recipe's seed.
    None,
    /// Torchvision's, the first recipe: better features for a new head.
    Imagenet1kV1,
    /// Torchvision's, the second recipe: better for training all layers on.
    Imagenet1kV2,
    /// A torchvision state dict: `.pth`, `.pt` or `.safetensors`.
    File(PathBuf),
}

impl Weights {
    /// The file, where there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::None | Self::Imagenet1kV1 | Self::Imagenet1kV2 => None,
        }
    }
}

impl Serialize for Weights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Imagenet1kV1 => serializer.serialize_str("imagenet1k-v1"),
            Self::Imagenet1kV2 => serializer.serialize_str("imagenet1k-v2"),
            Self::File(path) => path.serialize(serializer),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Train {
    /// Patterns on parameter names; every other parameter is frozen. One of this and `frozen` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trainable: Option<Vec<String>>,
    /// The other way round: every other parameter is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Vec<String>>,
    pub frozen_batch_norm: FrozenBatchNorm,
    /// Parameters with settings of their own; the first that matches wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<Group>,
    /// What is trained besides, from an epoch on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfreeze_at: Option<Unfreeze>,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// Parts of a shard's slice of a step, computed one after another to save memory.
    pub accumulate: u32,
    /// Largest global norm of a step's gradient; 0: no clipping.
    pub clip_norm: f64,
    /// Decay of the weights' running average per step; 0: none is kept.
    pub ema_decay: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    #[serde(rename = "match")]
    pub pattern: String,
    pub lr: f64,
    /// Absent: the optimizer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unfreeze {
    /// 0-based: the first in which they are trained.
    pub epoch: u32,
    pub patterns: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Optimizer {
    pub name: OptimizerName,
    pub lr: f64,
    /// Of sgd.
    pub momentum: f64,
    pub weight_decay: f64,
    /// Of sgd.
    pub nesterov: bool,
    /// Of adamw, like `beta2` and `eps`.
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Whether weight decay also pulls at biases and BatchNorm's weights.
    pub decay_norm_and_bias: bool,
}

/// Every length is in epochs, whether the rate moves per epoch or per step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Schedule {
    pub name: ScheduleName,
    pub per: SchedulePer,
    /// Of cosine: half a period.
    pub t_max: u32,
    /// Of step: between two drops by the factor `gamma`.
    pub step_size: u32,
    pub gamma: f64,
    /// Linear rise to the full rate, before the schedule begins.
    pub warmup_epochs: u32,
    /// Share of the rate that the rise starts from.
    pub warmup_start: f64,
    /// Of one-cycle, like `div_factor` and `final_div_factor`: the share of the run in which the rate rises.
    pub pct_start: f64,
    pub div_factor: f64,
    pub final_div_factor: f64,
}

impl Schedule {
    /// Whether its course depends on the run's number of epochs.
    #[must_use]
    pub fn spans_the_run(&self) -> bool {
        matches!(self.name, ScheduleName::CosineToZero | ScheduleName::OneCycle)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Select {
    pub split: SelectSplit,
    pub metric: Metric,
    pub restore: Restore,
    /// Epochs without a better metric before the run stops early; 0: never.
    pub patience: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checkpoint {
    /// 0: at epochs' ends only.
    pub every_steps: u64,
    /// How many of the last checkpoints stay, beside the best one.
    pub keep: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// The outputs of the layers before the first trained one: computed once, or in every step.
    pub prefix: PrefixCache,
}
