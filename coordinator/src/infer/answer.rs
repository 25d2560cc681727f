//! The safetensors file in which a worker answers.

use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::InferError;

/// The file's bytes.
pub(super) struct Answer {
    bytes: Vec<u8>,
}

impl Answer {
    pub(super) fn read(path: &Path) -> Result<Self, InferError> {
        Ok(Self { bytes: fs::read(path).map_err(InferError::io("read", path))? })
    }

    /// A tensor's shape and values.
    pub(super) fn floats(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), InferError> {
        let tensor = self.tensor(name, Dtype::F32)?;
        let (values, _) = tensor.data().as_chunks();
        Ok((tensor.shape().to_vec(), values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }

    /// A tensor's shape and values.
    pub(super) fn bytes(&self, name: &str) -> Result<(Vec<usize>, Vec<u8>), InferError> {
        let tensor = self.tensor(name, Dtype::U8)?;
        Ok((tensor.shape().to_vec(), tensor.data().to_vec()))
    }

    fn tensor(&self, name: &str, dtype: Dtype) -> Result<TensorView<'_>, InferError> {
        let wrong = |error: safetensors::SafeTensorError| InferError::Answer(error.to_string());
        let tensor =
            SafeTensors::deserialize(&self.bytes).and_then(|file| file.tensor(name)).map_err(wrong)?;
        if tensor.dtype() != dtype {
            return Err(InferError::Answer(format!("{name} of type {:?}, not {dtype:?}", tensor.dtype())));
        }
        Ok(tensor)
    }
}
