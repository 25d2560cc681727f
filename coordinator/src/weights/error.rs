//! Why weights could not be taken in. All of it ends a command with exit code 3: weights missing or damaged.

use std::io;
use std::path::{Path, PathBuf};

use crate::data::BlobError;
use crate::download::DownloadError;
use crate::model::StateDtype;
use crate::recipe::ModelName;

/// Every way in which reading and checking weights fails.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("torchvision has no IMAGENET1K_V2 weights for {model}")]
    NoSuchOfficial { model: ModelName },

    #[error(transparent)]
    Download(#[from] DownloadError),

    #[error("the weights {} cannot be read: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },

    #[error("{} is neither a PyTorch checkpoint nor a safetensors file", path.display())]
    NotACheckpoint { path: PathBuf },

    #[error("the weights {} cannot be read: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },

    #[error("{} wants to run code: its pickle names `{name}`, which is no part of weights", path.display())]
    Code { path: PathBuf, name: String },

    #[error("{} is a TorchScript program and not a checkpoint", path.display())]
    Program { path: PathBuf },

    #[error("{} is a whole model in a form that is not read: {reason}", path.display())]
    WholeModel { path: PathBuf, reason: String },

    #[error("{} holds tensors that are not read: {reason}", path.display())]
    Unsupported { path: PathBuf, reason: String },

    #[error("{} holds no ResNet: none of its {tensors} tensors has a name of one", path.display())]
    NoResNet { path: PathBuf, tensors: usize },

    #[error(
        "{} holds a ResNet's names and shapes under several names ({}), and which of them is meant is not plain",
        path.display(),
        prefixes.join(", ")
    )]
    Ambiguous { path: PathBuf, prefixes: Vec<String> },

    #[error("{} has no tensor {name}, which {model} has with shape {shape:?}", path.display())]
    Missing { path: PathBuf, name: String, shape: Vec<usize>, model: ModelName, other: Option<ModelName> },

    #[error("{} has no tensor {name}: it is a network without a head", path.display())]
    NoHead { path: PathBuf, name: String },

    #[error(
        "tensor {name} has shape {found:?} in {} and {expected:?} in {model}",
        path.display()
    )]
    Misshapen {
        path: PathBuf,
        name: String,
        expected: Vec<usize>,
        found: Vec<usize>,
        model: ModelName,
        other: Option<ModelName>,
    },

    #[error("{} has a tensor {name}, and {model} has none of that name", path.display())]
    Unexpected { path: PathBuf, name: String, model: ModelName, other: Option<ModelName> },

    #[error("tensor {name} in {} has elements of type {found}, which are not read as {}", path.display(), word(*expected))]
    WrongType { path: PathBuf, name: String, expected: StateDtype, found: String },

    #[error("the head in {} has {classes} classes, expected 1 to {limit}", path.display())]
    Classes { path: PathBuf, classes: usize, limit: usize },

    #[error("the weights cannot be stored: {0}")]
    Store(#[from] safetensors::SafeTensorError),

    #[error(transparent)]
    Cache(#[from] BlobError),
}

fn word(dtype: StateDtype) -> &'static str {
    match dtype {
        StateDtype::F32 => "float32",
        StateDtype::I64 => "int64",
    }
}

impl WeightsError {
    /// For `map_err`: which file was being read.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        const SAVE: &str = "weights are a ResNet's state_dict: torch.save(model.state_dict(), \"weights.pth\") or \
                            safetensors.torch.save_file(model.state_dict(), \"weights.safetensors\")";
        let hint = match self {
            Self::NoSuchOfficial { .. } => "take model.weights = \"imagenet1k-v1\"",
            Self::Download(DownloadError::Failed { .. }) => {
                "running again continues the download; model.weights can also be the path of a file that is already \
                 here, and LOCKSTEP_WEIGHTS_URL the address of a mirror"
            }
            Self::Download(DownloadError::Checksum { .. }) => {
                "the file at the other end is not torchvision's; see whether LOCKSTEP_WEIGHTS_URL names the right mirror"
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "model.weights is \"none\", \"imagenet1k-v1\", \"imagenet1k-v2\" or the path of a .pth, .pt or \
                 .safetensors file"
            }
            Self::NotACheckpoint { .. } | Self::NoResNet { .. } => SAVE,
            Self::Damaged { .. } => {
                "the file is cut short or damaged (copy or download it again), or holds something else than a state_dict"
            }
            Self::Unsupported { .. } => "save the model with dense tensors of plain floats",
            Self::Code { .. } | Self::Program { .. } | Self::WholeModel { .. } => {
                "nothing in it was run; in the program that wrote it, save the numbers alone: \
                 torch.save(model.state_dict(), \"weights.pth\")"
            }
            Self::Ambiguous { .. } => "save the one that is meant into a file of its own",
            Self::Missing { other: Some(other), .. }
            | Self::Misshapen { other: Some(other), .. }
            | Self::Unexpected { other: Some(other), .. } => {
                return Some(format!("these are weights of a {other}: set model.name = \"{other}\""));
            }
            Self::Misshapen { name, .. } if name.contains("conv") => {
                "the names are a ResNet's and the shapes are not torchvision's: wide ResNets, ResNeXts and changed \
                 first layers are not among the models here"
            }
            Self::Missing { .. } | Self::Misshapen { .. } | Self::Unexpected { .. } => {
                "the names and shapes are those of torchvision's ResNets; rename the tensors, or set model.name to \
                 what the file holds"
            }
            Self::NoHead { .. } => {
                "save it with its head; one of any number of classes is replaced by a new one"
            }
            Self::WrongType { .. } => {
                "weights are float32, float64, float16 or bfloat16; quantized ones are not read"
            }
            Self::Classes { .. }
            | Self::Download(DownloadError::Io { .. })
            | Self::Io { .. }
            | Self::Store(_)
            | Self::Cache(_) => return None,
        };
        Some(hint.to_owned())
    }
}
