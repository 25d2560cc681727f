//! What a worker computes besides training: a model's logits, and pictures as augmentation makes them.
//!
//! The coordinator has no libtorch, so each is a process of the worker's binary, which reads a job (a JSON file), does it,
//! and writes a safetensors file. Nothing of it stays behind: the files of a job live in a folder of their own that goes
//! with it, also when a signal ends the command.

mod answer;
mod held_out;
mod process;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::launch::StopSignal;
use crate::recipe::{self, Precision};

pub use held_out::split;
pub use process::Calls;

use answer::Answer;

/// A worker's answer is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The worker said why.
    #[error("{reason}")]
    Refused { reason: String, code: i32 },
    #[error("the worker's process ended ({how}){said}")]
    Ended { how: String, said: String },
    #[error("stopped by a signal, before it was done")]
    Stopped(StopSignal),
    #[error("the worker's job cannot be written: {0}")]
    Job(serde_json::Error),
    #[error("the worker's answer is not what was asked for: {0}")]
    Answer(String),
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
}

impl InferError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// A model with its weights, and where it computes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    /// Torchvision's name.
    pub model: String,
    pub classes: usize,
    /// A safetensors file of all tensors of torchvision's state dict.
    pub weights: PathBuf,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// libtorch's intra-op threads: another number gives other bits.
    pub threads: u32,
    pub precision: Precision,
    /// Pixels per side that the network sees; stored pictures of another size are resized.
    pub image_size: u32,
    /// Per channel, of pixels in 0 to 1.
    pub mean: [f32; 3],
    pub std: [f32; 3],
    /// Samples computed at once. The trainer's evaluation has blocks, too: other ones give other bits.
    pub block: u32,
}

/// Pictures in a safetensors file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Samples {
    /// The file.
    pub images: PathBuf,
    /// Its tensor of pictures, U8 `[N, 3, S, S]`.
    pub tensor: String,
    /// Its tensor of labels, I64 `[N]`, where losses are wanted.
    pub labels: Option<String>,
    /// Which of them, in this order; none: all.
    pub rows: Option<Vec<usize>>,
}

/// What a model says of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    /// `[N, classes]`.
    pub values: Vec<f32>,
    /// Each sample's cross-entropy, where labels were given: `[N]`.
    pub losses: Option<Vec<f32>>,
}

impl Logits {
    /// The sum of all losses, as the trainer sums them: in f64 within each block of `block` samples, then over blocks, in
    /// order. Any other order could differ in the last bit.
    pub fn loss_sum(&self, block: u32) -> Option<f64> {
        let block_sum = |losses: &[f32]| losses.iter().fold(0.0, |sum, loss| sum + f64::from(*loss));
        Some(
            self.losses
                .as_ref()?
                .chunks(block.max(1) as usize)
                .fold(0.0, |sum, losses| sum + block_sum(losses)),
        )
    }
}

/// Which augmentation, and what it is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Augmentation {
    pub seed: u64,
    /// 0-based.
    pub epoch: u32,
    pub classes: usize,
    pub image_size: u32,
    pub threads: u32,
    pub augment: AugmentSettings,
}

/// A recipe's `[augment]` as workers read it: what is off is absent or 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct AugmentSettings {
    crop_padding: u32,
    resized_crop: Option<f64>,
    flip: f64,
    brightness: f64,
    contrast: f64,
    saturation: f64,
    hue: f64,
    erasing: f64,
    mixup: f64,
    cutmix: f64,
}

impl AugmentSettings {
    /// Whether pictures stay as they are.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

impl From<&recipe::Augment> for AugmentSettings {
    fn from(augment: &recipe::Augment) -> Self {
        let recipe::Augment { crop_padding, flip, brightness, contrast, saturation, hue, .. } = *augment;
        let recipe::Augment { resized_crop, erasing, mixup, cutmix, .. } = *augment;
        let resized_crop = (resized_crop < 1.0).then_some(resized_crop);
        Self {
            crop_padding,
            resized_crop,
            flip,
            brightness,
            contrast,
            saturation,
            hue,
            erasing,
            mixup,
            cutmix,
        }
    }
}

impl Calls {
    /// What `network` says of `samples`.
    ///
    /// # Errors
    ///
    /// [`InferError`]: the worker cannot do it, answers something else, or was stopped.
    pub fn infer(&self, network: &Network, samples: &Samples) -> Result<Logits, InferError> {
        let answer = self.call("infer", network.threads, &Job { what: network, samples })?;
        logits(&answer, network.classes, samples)
    }

    /// Pictures after resizing and augmentation, before normalisation: U8 `[N, 3, image_size, image_size]`.
    ///
    /// # Errors
    ///
    /// [`InferError`]: the worker cannot do it, answers something else, or was stopped.
    pub fn augment(&self, augmentation: &Augmentation, samples: &Samples) -> Result<Vec<u8>, InferError> {
        let answer = self.call("augment", augmentation.threads, &Job { what: augmentation, samples })?;
        let side = augmentation.image_size as usize;
        let (shape, images) = answer.bytes("images")?;
        let all = shape.first().copied().unwrap_or(0);
        let count = samples.rows.as_ref().map_or(all, Vec::len);
        if shape != [count, 3, side, side] {
            return Err(InferError::Answer(format!("pictures of shape {shape:?}")));
        }
        Ok(images)
    }
}

/// A job as the worker reads it, but for where its answer is expected.
#[derive(Serialize)]
struct Job<'a, T> {
    #[serde(flatten)]
    what: &'a T,
    #[serde(flatten)]
    samples: &'a Samples,
}

fn logits(answer: &Answer, classes: usize, samples: &Samples) -> Result<Logits, InferError> {
    let (shape, values) = answer.floats("logits")?;
    let count = match shape[..] {
        [count, width] if width == classes => count,
        _ => return Err(InferError::Answer(format!("logits of shape {shape:?} for {classes} classes"))),
    };
    let losses = match samples.labels {
        None => None,
        Some(_) => Some(answer.floats("losses")?.1),
    };
    let asked = samples.rows.as_ref().map_or(count, Vec::len);
    let told = losses.as_ref().map_or(count, Vec::len);
    if (count, told) != (asked, asked) {
        return Err(InferError::Answer(format!("{count} logits and {told} losses for {asked} pictures")));
    }
    Ok(Logits { values, losses })
}

#[cfg(test)]
mod tests;
