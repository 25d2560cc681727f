//! How a model is asked for: which network, how many classes, and what of it may change.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use tch::Kind;

use super::ModelError;
use super::architecture::Architecture;

/// Torchvision's ResNets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelName {
    Resnet18,
    Resnet34,
    Resnet50,
    Resnet101,
    Resnet152,
}

impl ModelName {
    pub const ALL: [Self; 5] =
        [Self::Resnet18, Self::Resnet34, Self::Resnet50, Self::Resnet101, Self::Resnet152];

    /// Torchvision's name, the one that recipes use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resnet18 => "resnet18",
            Self::Resnet34 => "resnet34",
            Self::Resnet50 => "resnet50",
            Self::Resnet101 => "resnet101",
            Self::Resnet152 => "resnet152",
        }
    }
}

impl FromStr for ModelName {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == name)
            .ok_or_else(|| ModelError::UnknownName(name.to_owned()))
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which network, with how many outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelSpec {
    pub name: ModelName,
    pub classes: i64,
    pub precision: Precision,
}

/// Of activations and convolutions. Parameters, BatchNorm's arithmetic, fc and the loss are fp32 either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    Fp32,
    Bf16,
}

impl Precision {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Fp32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

impl ModelSpec {
    /// In fp32.
    pub const fn new(name: ModelName, classes: i64) -> Self {
        Self { name, classes, precision: Precision::Fp32 }
    }

    /// All parameters in forward order.
    pub fn parameter_names(self) -> Vec<String> {
        Architecture::new(self).parameters().into_iter().map(|parameter| parameter.name).collect()
    }
}

/// What training may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freezing {
    pub trainable: Trainable,
    pub frozen_batch_norm: FrozenBatchNorm,
}

/// Which parameters are trained. Patterns are the recipe's affair: here they are names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trainable {
    All,
    /// These exact names, in any order; all others are frozen.
    Named(Vec<String>),
}

impl Freezing {
    /// Everything is trained.
    pub fn none() -> Self {
        Self { trainable: Trainable::All, frozen_batch_norm: FrozenBatchNorm::Eval }
    }
}

/// What a BatchNorm layer does in training when neither its weight nor its bias is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrozenBatchNorm {
    /// Normalise with the running statistics and leave them alone.
    Eval,
    /// Normalise with the batch's statistics and move the running ones: what `model.train()` does in PyTorch.
    Train,
}

/// What to do with loaded weights whose head was made for another number of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadPolicy {
    /// Refuse them.
    Strict,
    /// Keep the model's own `fc`, as initialised.
    ReplaceIfClassesDiffer,
}

/// What loading did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadReport {
    /// The loaded head had another number of classes and was left out.
    pub replaced_head: bool,
}
