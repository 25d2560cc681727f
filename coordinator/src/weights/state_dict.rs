//! A ResNet's `state_dict` in memory: what workers read, and what is exported.

use std::collections::HashMap;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::WeightsError;
use crate::data::BlobCache;
use crate::model::{StateDtype, StateTensor};

/// One entry: its place in the network, and its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub tensor: StateTensor,
    /// Row-major, little-endian.
    pub bytes: Vec<u8>,
}

/// All entries in torchvision's order; none is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDict {
    pub entries: Vec<Entry>,
}

impl StateDict {
    /// Stores the entries as a safetensors file and returns its digest. Equal entries make equal bytes: the format
    /// sorts tensors, and there is no metadata that a hash map could reorder.
    pub fn store(&self, cache: &BlobCache) -> Result<String, WeightsError> {
        cache.insert_written(|path| Ok(safetensors::serialize_to_file(self.views()?, None, path)?))
    }

    /// As a safetensors file with one text beside the tensors.
    ///
    /// # Errors
    /// None that the format makes of entries whose sizes are right.
    pub fn to_safetensors(&self, key: &str, text: String) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        safetensors::serialize(self.views()?, Some(HashMap::from([(key.to_owned(), text)])))
    }

    fn views<'a>(&'a self) -> Result<Vec<(&'a str, TensorView<'a>)>, safetensors::SafeTensorError> {
        let view = |entry: &'a Entry| {
            let dtype = match entry.tensor.dtype {
                StateDtype::F32 => Dtype::F32,
                StateDtype::I64 => Dtype::I64,
            };
            Ok((&*entry.tensor.name, TensorView::new(dtype, entry.tensor.shape.clone(), &entry.bytes)?))
        };
        self.entries.iter().map(view).collect()
    }
}
