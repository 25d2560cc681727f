//! `infer`: what a model makes of pictures.
//!
//! In blocks, batch by batch as the trainer evaluates, so that a model's results outside of its run are those that the run
//! reported, to the bit.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use tch::{Device, Reduction, Tensor};

use super::{VerbError, output, rows, set_threads};
use crate::data::{Look, PictureFile, Tensors, evaluation};
use crate::device::{self, DeviceName};
use crate::model::{Freezing, HeadPolicy, ModelError, ModelSpec, Precision, ResNet};

/// PyTorch's default for `ignore_index`; no label is negative here.
const IGNORE_NOTHING: i64 = -100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    /// Torchvision's name.
    model: String,
    classes: u32,
    /// A safetensors file with the whole `state_dict`.
    weights: PathBuf,
    device: String,
    threads: NonZeroU32,
    #[serde(default)]
    precision: Precision,
    /// Pixels per side that the network sees.
    image_size: NonZeroU32,
    /// Per channel, of pixels in 0 to 1.
    mean: [f32; 3],
    std: [f32; 3],
    /// Pictures that are computed together.
    block: NonZeroU32,
    /// A safetensors file with `tensor`, U8 `[N, 3, H, W]`, and `labels`, I64 `[N]`.
    images: PathBuf,
    tensor: String,
    labels: Option<String>,
    /// All, if left out.
    rows: Option<Vec<u32>>,
    /// `logits` F32 `[N, classes]`, and where there are labels `losses` F32 `[N]`.
    out: PathBuf,
}

pub(super) fn run(job: &Job) -> Result<(), VerbError> {
    let device = device::open(job.device.parse::<DeviceName>()?)?;
    set_threads(job.threads);
    let model = model(job, device)?;
    let look = Look { size: job.image_size.get(), mean: job.mean.to_vec(), std: job.std.to_vec() };
    let tensors = Tensors { images: job.tensor.clone(), labels: job.labels.clone(), classes: job.classes };
    let pictures = PictureFile::open(&job.images, &tensors, &look, device)?;

    let rows = rows(job.rows.as_ref(), pictures.count());
    let (mut logits, mut losses) = (Vec::new(), Vec::new());
    for block in evaluation::blocks(&rows, job.block.get()) {
        let (images, labels) = pictures.batch(block)?;
        let outputs = model.forward_eval(&images);
        if let Some(labels) = labels {
            let each = Reduction::None;
            let each = outputs.f_cross_entropy_loss::<Tensor>(&labels, None, each, IGNORE_NOTHING, 0.0)?;
            losses.extend(floats(&each)?);
        }
        logits.extend(floats(&outputs)?);
    }
    write(&job.out, rows.len(), job, &logits, &losses)
}

fn model(job: &Job, device: Device) -> Result<ResNet, VerbError> {
    let name = job.model.parse().map_err(VerbError::Model)?;
    let spec = ModelSpec { name, classes: i64::from(job.classes), precision: job.precision };
    let mut model = ResNet::new(spec, &Freezing::none(), device).map_err(VerbError::Model)?;
    let path = || job.weights.clone();
    let bytes = fs::read(&job.weights).map_err(|source| VerbError::ReadWeights { path: path(), source })?;
    let refused = |source: ModelError| VerbError::Weights { path: path(), source };
    model.load_safetensors(&bytes, HeadPolicy::Strict).map_err(refused)?;
    Ok(model)
}

/// In rows' order.
fn floats(tensor: &Tensor) -> Result<Vec<f32>, tch::TchError> {
    Vec::try_from(tensor.f_to_device(Device::Cpu)?.f_contiguous()?.f_view(-1)?)
}

fn write(path: &Path, rows: usize, job: &Job, logits: &[f32], losses: &[f32]) -> Result<(), VerbError> {
    let bytes = bytemuck::cast_slice;
    let shape = vec![rows, job.classes as usize];
    let mut tensors = vec![("logits", TensorView::new(Dtype::F32, shape, bytes(logits))?)];
    if job.labels.is_some() {
        tensors.push(("losses", TensorView::new(Dtype::F32, vec![rows], bytes(losses))?));
    }
    output::write(path, tensors)
}
