//! What CIFAR-10 and CIFAR-100 share: the size of their pictures, and records of label bytes followed by the planes.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::canonical::Split;
use super::{DataError, archive};

/// Pixels of a picture's side.
pub(super) const SIDE: u32 = 32;

/// One picture: planes R, G, B, each of 32 rows of 32 bytes.
pub(super) const IMAGE_BYTES: usize = 3 * (SIDE * SIDE) as usize;

pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>, DataError> {
    let size_bytes = fs::metadata(path).map_err(DataError::io("read", path))?.len();
    let limit_bytes = archive::FILE_BYTES_MAX;
    if size_bytes > limit_bytes {
        return Err(DataError::TooLarge { file: path.display().to_string(), limit_bytes });
    }
    let mut bytes = Vec::with_capacity(size_bytes as usize);
    File::open(path)
        .and_then(|file| file.take(limit_bytes).read_to_end(&mut bytes))
        .map_err(DataError::io("read", path))?;
    Ok(bytes)
}

/// A list of class names, one a line.
pub(super) fn class_names(file: String, bytes: &[u8], classes: usize) -> Result<Vec<String>, DataError> {
    let text = String::from_utf8_lossy(bytes);
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if names.len() == classes {
        Ok(names)
    } else {
        Err(DataError::ClassNames { file, found: names.len(), expected: classes })
    }
}

/// Records of `label_bytes` labels, of which the last counts, and the picture's bytes. Subsets hold fewer than the
/// official files, so the length need only be a multiple of a record's.
pub(super) fn binary_records(
    file: &str,
    bytes: &[u8],
    label_bytes: usize,
    classes: usize,
) -> Result<Split, DataError> {
    let record_bytes = label_bytes + IMAGE_BYTES;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record_bytes) {
        let (file, length_bytes) = (file.to_owned(), bytes.len());
        return Err(DataError::BatchLength { file, length_bytes, record_bytes });
    }
    let mut split = Split::with_capacity(bytes.len() / record_bytes, IMAGE_BYTES);
    for (record, bytes) in bytes.chunks_exact(record_bytes).enumerate() {
        let (labels, image) = bytes.split_at(label_bytes);
        let label = labels.last().copied().map_or(0, i64::from);
        split.labels.push(checked_label(file, record, label, classes)?);
        split.images.extend_from_slice(image);
    }
    Ok(split)
}

pub(super) fn checked_label(file: &str, record: usize, label: i64, classes: usize) -> Result<u16, DataError> {
    match u16::try_from(label) {
        Ok(small) if usize::from(small) < classes => Ok(small),
        _ => Err(DataError::Label { file: file.to_owned(), record, label, classes }),
    }
}
