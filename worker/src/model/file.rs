//! Named tensors to and from the bytes of a safetensors file.
//!
//! Not tch's own writer: these bytes must be a function of the values, since checkpoints are compared by digest.

use std::borrow::Cow;
use std::collections::HashMap;

use safetensors::tensor::View;
use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use super::ModelError;

/// Serializes f32 and i64 tensors; the file orders them by kind and name.
///
/// At most one key of metadata: the format's writer keeps several in an unordered map, and equal values must give
/// equal bytes.
pub fn tensors_to_safetensors(
    tensors: &[(String, Tensor)],
    metadata: Option<(&str, &str)>,
) -> Result<Vec<u8>, ModelError> {
    let entries = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), Entry::new(name, tensor)?)))
        .collect::<Result<Vec<_>, ModelError>>()?;
    let metadata = metadata.map(|(key, value)| HashMap::from([(key.to_owned(), value.to_owned())]));
    Ok(safetensors::serialize(entries, metadata)?)
}

/// Reads all tensors of a file, in its order, to the CPU.
pub fn tensors_from_safetensors(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, ModelError> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut tensors = Vec::with_capacity(file.len());
    for (name, view) in file.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::I64 => Kind::Int64,
            other => return Err(ModelError::Dtype { name, dtype: format!("{other:?}") }),
        };
        let shape = view.shape().iter().map(|&size| size as i64).collect::<Vec<_>>();
        tensors.push((name, Tensor::f_from_data_size(view.data(), &shape, kind)?));
    }
    Ok(tensors)
}

/// A tensor whose bytes are fetched when the writer comes to it: one copy in memory at a time.
struct Entry<'a> {
    tensor: &'a Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl<'a> Entry<'a> {
    fn new(name: &str, tensor: &'a Tensor) -> Result<Self, ModelError> {
        let dtype = match tensor.f_kind()? {
            Kind::Float => Dtype::F32,
            Kind::Int64 => Dtype::I64,
            other => return Err(ModelError::Dtype { name: name.to_owned(), dtype: format!("{other:?}") }),
        };
        Ok(Self { tensor, dtype, shape: tensor.size().into_iter().map(|size| size as usize).collect() })
    }
}

impl View for Entry<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        self.tensor.copy_data_u8(&mut bytes, self.tensor.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.dtype.bitsize() / 8
    }
}
