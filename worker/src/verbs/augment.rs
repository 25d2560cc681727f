//! `augment`: pictures as training would see them, to be looked at.
//!
//! Under a run's seed, in an epoch of it, these are the bits that the run trains on, but for rounding to bytes and for mixup
//! and cutmix, which pair the rows as they are given. On the CPU: that gives the same pictures everywhere.

use std::num::NonZeroU32;
use std::path::PathBuf;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use tch::Device;

use super::{VerbError, output, rows, set_threads};
use crate::data::{Augment, Augmenter, Look, PictureFile, Tensors};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    /// A safetensors file with `tensor`, U8 `[N, 3, H, W]`, and `labels`, I64 `[N]`, which are only checked.
    images: PathBuf,
    tensor: String,
    labels: Option<String>,
    /// All, if left out. A row is its sample's id.
    rows: Option<Vec<u32>>,
    classes: u32,
    seed: u64,
    /// 0-based.
    epoch: u32,
    /// Pixels per side that the network sees.
    image_size: NonZeroU32,
    threads: NonZeroU32,
    augment: Augment,
    /// `images` U8 `[N, 3, image_size, image_size]`.
    out: PathBuf,
}

pub(super) fn run(job: &Job) -> Result<(), VerbError> {
    set_threads(job.threads);
    let size = job.image_size.get();
    let augmenter = Augmenter::new(job.augment, job.seed, size)?;
    let plain = Look { size, mean: vec![0.0; 3], std: vec![1.0; 3] };
    let tensors = Tensors { images: job.tensor.clone(), labels: job.labels.clone(), classes: job.classes };
    let pictures = PictureFile::open(&job.images, &tensors, &plain, Device::Cpu)?;

    let rows = rows(job.rows.as_ref(), pictures.count());
    let augmented = pictures.augmented(&augmenter, job.epoch, &rows)?;
    let shape: Vec<usize> = augmented.size().into_iter().map(|side| side as usize).collect();
    let mut bytes = vec![0; augmented.numel()];
    augmented.f_copy_data_u8(&mut bytes, augmented.numel())?;
    output::write(&job.out, vec![("images", TensorView::new(Dtype::U8, shape, &bytes)?)])
}
