//! The canonical file: what workers read, whatever the data set was made from.
//!
//! A safetensors file with `train.images` U8 `[N, 3, H, W]`, `train.labels` I64 `[N]`, `test.images` and
//! `test.labels`, so any tool can open it. Its bytes must depend on the records alone, or the digest would
//! vary: tensors are sorted by the format, and the metadata is a single key, because safetensors keeps
//! metadata in a hash map that would write several keys in any order.
//!
//! The header is safetensors' own; behind it, pictures are written as they come: a folder's need not fit into memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;

use super::{BlobCache, DataError, DataName};

/// Raised when a reader of the old files would misread the new ones.
pub(super) const FORMAT_VERSION: u32 = 1;

/// The metadata key that holds the description below as JSON.
pub(super) const METADATA_KEY: &str = "lockstep";

/// The header is padded so that tensors lie on multiples of this.
const ALIGNMENT: usize = 8;

const BUFFER_BYTES: usize = 1 << 20;

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
    /// Pixels of a picture's side.
    pub(super) image_size: u32,
    pub(super) train: Split,
    pub(super) test: Split,
}

/// Pictures one after another, and their labels.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub(super) images: Vec<u8>,
    pub(super) labels: Vec<u16>,
}

impl Split {
    pub(super) fn with_capacity(samples: usize, image_bytes: usize) -> Self {
        Self { images: Vec::with_capacity(samples * image_bytes), labels: Vec::with_capacity(samples) }
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.images.extend_from_slice(&other.images);
        self.labels.extend_from_slice(&other.labels);
    }
}

/// Pictures that can be written one after another, wherever they lie until then.
pub(super) trait Images {
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()>;
}

impl Images for Vec<u8> {
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self)
    }
}

/// One split of what is to be stored.
pub(super) struct Part<'a> {
    pub(super) images: &'a dyn Images,
    pub(super) labels: &'a [u16],
}

/// What is to be stored.
pub(super) struct Contents<'a> {
    pub(super) name: DataName,
    pub(super) classes: &'a [String],
    pub(super) image_size: u32,
    pub(super) train: Part<'a>,
    pub(super) test: Part<'a>,
}

impl<'a> Contents<'a> {
    pub(super) fn of(name: DataName, records: &'a Records) -> Self {
        let part = |split: &'a Split| Part { images: &split.images, labels: &split.labels };
        Self {
            name,
            classes: &records.classes,
            image_size: records.image_size,
            train: part(&records.train),
            test: part(&records.test),
        }
    }

    /// Writes the canonical file into the cache and returns its digest.
    pub(super) fn store(&self, cache: &BlobCache) -> Result<String, DataError> {
        let header = self.header()?;
        cache.insert_written(|path| self.write(&header, path).map_err(DataError::io("write", path)))
    }

    fn header(&self) -> Result<Vec<u8>, DataError> {
        let description =
            Description { format: FORMAT_VERSION, name: self.name.as_str(), classes: self.classes };
        let json = |error: serde_json::Error| DataError::Canonical(error.into());
        let description = serde_json::to_string(&description).map_err(json)?;
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), description)]);
        let side = self.image_size as usize;
        let (train, test) = (self.train.labels.len(), self.test.labels.len());
        // The order of the format: wider types first, then by name.
        let tensors = [
            ("test.labels", Dtype::I64, vec![test]),
            ("train.labels", Dtype::I64, vec![train]),
            ("test.images", Dtype::U8, vec![test, 3, side, side]),
            ("train.images", Dtype::U8, vec![train, 3, side, side]),
        ];
        let mut end = 0;
        let tensors = tensors.map(|(name, dtype, shape)| {
            let begin = end;
            end += shape.iter().product::<usize>() * if dtype == Dtype::I64 { size_of::<i64>() } else { 1 };
            (name.to_owned(), TensorInfo { dtype, shape, data_offsets: (begin, end) })
        });
        let metadata = Metadata::new(Some(metadata), tensors.into())?;
        let mut header = serde_json::to_vec(&metadata).map_err(json)?;
        header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
        Ok(header)
    }

    fn write(&self, header: &[u8], path: &Path) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header)?;
        for part in [&self.test, &self.train] {
            for &label in part.labels {
                out.write_all(&i64::from(label).to_le_bytes())?;
            }
        }
        for part in [&self.test, &self.train] {
            part.images.write_to(&mut out)?;
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use safetensors::SafeTensors;
    use safetensors::tensor::{TensorView, serialize};

    use super::*;
    use crate::data::fixtures;

    const SIDE: usize = 8;
    const IMAGE_BYTES: usize = 3 * SIDE * SIDE;

    fn store(records: &Records, cache: &BlobCache) -> String {
        Contents::of(DataName::Cifar10, records).store(cache).unwrap()
    }

    fn records() -> Records {
        let split = |labels: &[u8]| Split {
            images: labels.iter().flat_map(|&l| vec![l; IMAGE_BYTES]).collect(),
            labels: labels.iter().map(|&label| u16::from(label)).collect(),
        };
        Records {
            classes: ["cat", "dog"].map(str::to_owned).to_vec(),
            image_size: SIDE as u32,
            train: split(&[3, 0, 9]),
            test: split(&[7]),
        }
    }

    #[test]
    fn the_file_holds_the_promised_tensors_and_one_metadata_key() {
        let (_dir, cache) = fixtures::cache();
        let digest = store(&records(), &cache);
        let bytes = fs::read(cache.path(&digest)).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        assert_eq!(metadata.len(), 1);
        assert_eq!(metadata["lockstep"], r#"{"format":1,"name":"cifar10","classes":["cat","dog"]}"#);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let images = file.tensor("train.images").unwrap();
        assert_eq!((images.dtype(), images.shape()), (Dtype::U8, &[3, 3, SIDE, SIDE][..]));
        assert_eq!(images.data()[2 * IMAGE_BYTES], 9);
        let labels = file.tensor("train.labels").unwrap();
        assert_eq!((labels.dtype(), labels.shape()), (Dtype::I64, &[3][..]));
        assert_eq!(labels.data()[16..], 9i64.to_le_bytes());
        assert_eq!(file.tensor("test.images").unwrap().shape(), [1, 3, SIDE, SIDE]);
        assert_eq!(file.tensor("test.labels").unwrap().data(), 7i64.to_le_bytes());
    }

    /// Any reader of the format must take it, so it is what safetensors itself would write.
    #[test]
    fn the_file_is_the_very_one_that_safetensors_writes() {
        let (_dir, cache) = fixtures::cache();
        let records = records();
        let bytes = fs::read(cache.path(&store(&records, &cache))).unwrap();
        let labels = |split: &Split| -> Vec<u8> {
            split.labels.iter().flat_map(|&label| i64::from(label).to_le_bytes()).collect()
        };
        let (train_labels, test_labels) = (labels(&records.train), labels(&records.test));
        let view = |dtype, shape, data| TensorView::new(dtype, shape, data).unwrap();
        let tensors = [
            ("train.images", view(Dtype::U8, vec![3, 3, SIDE, SIDE], &records.train.images)),
            ("train.labels", view(Dtype::I64, vec![3], &train_labels)),
            ("test.images", view(Dtype::U8, vec![1, 3, SIDE, SIDE], &records.test.images)),
            ("test.labels", view(Dtype::I64, vec![1], &test_labels)),
        ];
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(serialize(tensors, metadata.metadata().clone()).unwrap(), bytes);
    }

    #[test]
    fn equal_records_have_one_digest() {
        let (_dir, cache) = fixtures::cache();
        let first = store(&records(), &cache);
        assert_eq!(store(&records(), &cache), first);
        let mut other = records();
        other.test.labels[0] = 8;
        assert_ne!(store(&other, &cache), first);
    }
}
