//! The canonical file: what workers read, whatever the data set was made from.
//!
//! A safetensors file with `train.images` U8 `[N, 3, 32, 32]`, `train.labels` I64 `[N]`, `test.images` and
//! `test.labels`, so any tool can open it. Its bytes must depend on the records alone, or the digest would
//! vary: tensors are sorted by the format, and the metadata is a single key, because safetensors keeps
//! metadata in a hash map that would write several keys in any order.

use std::collections::HashMap;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde::Serialize;

use super::{BlobCache, DataError, DataName, IMAGE_BYTES, IMAGE_SIZE};

/// Raised when a reader of the old files would misread the new ones.
const FORMAT_VERSION: u32 = 1;

/// The metadata key that holds the description below as JSON.
const METADATA_KEY: &str = "lockstep";

#[derive(Serialize)]
struct Description<'a> {
    format: u32,
    name: &'a str,
    classes: &'a [String],
}

/// A whole data set in memory.
#[derive(Debug)]
pub(super) struct Records {
    /// Class names by label.
    pub(super) classes: Vec<String>,
    pub(super) train: Split,
    pub(super) test: Split,
}

/// Pictures one after another, and their labels.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub(super) images: Vec<u8>,
    pub(super) labels: Vec<u8>,
}

impl Split {
    pub(super) fn with_capacity(samples: usize) -> Self {
        Self { images: Vec::with_capacity(samples * IMAGE_BYTES), labels: Vec::with_capacity(samples) }
    }

    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.images.extend_from_slice(&other.images);
        self.labels.extend_from_slice(&other.labels);
    }
}

/// Writes the canonical file into the cache and returns its digest.
pub(super) fn store(name: DataName, records: &Records, cache: &BlobCache) -> Result<String, DataError> {
    let description = Description { format: FORMAT_VERSION, name: name.as_str(), classes: &records.classes };
    let description = serde_json::to_string(&description).expect("strings and a number always make JSON");
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), description)]);
    let (train_labels, test_labels) = (label_bytes(&records.train), label_bytes(&records.test));
    let tensors = [
        ("train.images", image_view(&records.train)?),
        ("train.labels", label_view(&train_labels)?),
        ("test.images", image_view(&records.test)?),
        ("test.labels", label_view(&test_labels)?),
    ];
    cache.insert_written(|path| Ok(serialize_to_file(tensors, Some(metadata), path)?))
}

fn label_bytes(split: &Split) -> Vec<u8> {
    split.labels.iter().flat_map(|&label| i64::from(label).to_le_bytes()).collect()
}

fn image_view(split: &Split) -> Result<TensorView<'_>, DataError> {
    let side = IMAGE_SIZE as usize;
    Ok(TensorView::new(Dtype::U8, vec![split.len(), 3, side, side], &split.images)?)
}

fn label_view(bytes: &[u8]) -> Result<TensorView<'_>, DataError> {
    Ok(TensorView::new(Dtype::I64, vec![bytes.len() / size_of::<i64>()], bytes)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use safetensors::SafeTensors;

    use super::*;
    use crate::data::fixtures;

    fn records() -> Records {
        let split = |labels: &[u8]| Split {
            images: labels.iter().flat_map(|&l| vec![l; IMAGE_BYTES]).collect(),
            labels: labels.to_vec(),
        };
        Records {
            classes: ["cat", "dog"].map(str::to_owned).to_vec(),
            train: split(&[3, 0, 9]),
            test: split(&[7]),
        }
    }

    #[test]
    fn the_file_holds_the_promised_tensors_and_one_metadata_key() {
        let (_dir, cache) = fixtures::cache();
        let digest = store(DataName::Cifar10, &records(), &cache).unwrap();
        let bytes = fs::read(cache.path(&digest)).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        assert_eq!(metadata.len(), 1);
        assert_eq!(metadata["lockstep"], r#"{"format":1,"name":"cifar10","classes":["cat","dog"]}"#);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let images = file.tensor("train.images").unwrap();
        assert_eq!((images.dtype(), images.shape()), (Dtype::U8, &[3, 3, 32, 32][..]));
        assert_eq!(images.data()[2 * IMAGE_BYTES], 9);
        let labels = file.tensor("train.labels").unwrap();
        assert_eq!((labels.dtype(), labels.shape()), (Dtype::I64, &[3][..]));
        assert_eq!(labels.data()[16..], 9i64.to_le_bytes());
        assert_eq!(file.tensor("test.images").unwrap().shape(), [1, 3, 32, 32]);
        assert_eq!(file.tensor("test.labels").unwrap().data(), 7i64.to_le_bytes());
    }

    #[test]
    fn equal_records_have_one_digest() {
        let (_dir, cache) = fixtures::cache();
        let first = store(DataName::Cifar10, &records(), &cache).unwrap();
        assert_eq!(store(DataName::Cifar10, &records(), &cache).unwrap(), first);
        let mut other = records();
        other.test.labels[0] = 8;
        assert_ne!(store(DataName::Cifar10, &other, &cache).unwrap(), first);
    }
}
