//! What can be wrong with a model's description or with weights that come from outside.

use std::fmt;

use tch::Kind;

/// Why a model could not be built, or weights not be loaded or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("unknown model {0:?}; known are resnet18, resnet34, resnet50, resnet101, resnet152")]
    UnknownName(String),
    #[error("a classifier needs at least one class, not {0}")]
    Classes(i64),
    #[error("{model} has no parameter {name:?} to train; names look like \"layer4.0.conv1.weight\"")]
    UnknownParameter { name: String, model: String },
    #[error("tensor {name:?} is missing; {expected} was expected")]
    Missing { name: String, expected: Shape },
    #[error("tensor {name:?} has shape {found}; {expected} was expected")]
    Misshapen { name: String, expected: Shape, found: Shape },
    #[error("tensor {name:?} holds {found:?}; {expected:?} was expected")]
    WrongKind { name: String, expected: Kind, found: Kind },
    #[error("tensor {name:?} does not belong to {model}")]
    Unexpected { name: String, model: String },
    #[error("tensor {name:?} is given twice")]
    Repeated { name: String },
    #[error("tensor {name:?} holds {dtype}, which has no place in a checkpoint; F32 and I64 have")]
    Dtype { name: String, dtype: String },
    #[error("not a readable safetensors file")]
    Safetensors(#[from] safetensors::SafeTensorError),
    #[error("libtorch refused")]
    Torch(#[from] tch::TchError),
}

/// A tensor's shape as people read it: `[64, 3, 7, 7]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(pub Vec<i64>);

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
