//! Data sets read back from the cache: what a canonical file says of itself, and single pictures of it. A file may be
//! larger than the memory, so only its header and the asked rows are read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;

use super::canonical::{FORMAT_VERSION, METADATA_KEY};
use super::{BlobCache, DataError, DataName, ResolvedData, SplitName, limited};

/// As safetensors has it.
const HEADER_BYTES_MAX: u64 = 100_000_000;

const LABEL_BYTES: u64 = size_of::<i64>() as u64;

/// The header of a safetensors file: tensors by name, and the metadata.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, TensorInfo>,
}

#[derive(Deserialize)]
struct Description {
    format: u32,
    name: String,
    classes: Vec<String>,
}

/// A canonical file whose header has been read and found right.
struct Stored {
    path: PathBuf,
    file: File,
    name: DataName,
    classes: Vec<String>,
    image_size: u32,
    train: Rows,
    test: Rows,
}

/// Where a split's pictures and labels lie in the file.
#[derive(Debug, Clone, Copy)]
struct Rows {
    count: usize,
    images_at: u64,
    labels_at: u64,
}

impl ResolvedData {
    /// The data set with this digest, as it lies in the cache; its bytes are not hashed again. `train` and `test` are
    /// the recipe's: only the first so many samples.
    ///
    /// # Errors
    ///
    /// [`DataError`]: it is not in the cache, or no canonical file, or has fewer samples.
    pub fn open(
        digest: &str,
        cache: &BlobCache,
        train: Option<usize>,
        test: Option<usize>,
    ) -> Result<Self, DataError> {
        let file = cache.find(digest).ok_or_else(|| DataError::NotStored { digest: digest.to_owned() })?;
        let stored = Stored::open(&file)?;
        Ok(Self {
            digest: digest.to_owned(),
            file,
            name: stored.name,
            image_size: stored.image_size,
            train: limited(SplitName::Train, train, stored.train.count)?,
            test: limited(SplitName::Test, test, stored.test.count)?,
            classes: stored.classes,
            notes: Vec::new(),
        })
    }

    /// The first `count` training pictures, or all where there are fewer, and their labels: see [`Self::pictures`].
    pub fn first_pictures(&self, count: usize) -> Result<(Vec<u8>, Vec<usize>), DataError> {
        let rows: Vec<usize> = (0..count.min(self.train)).collect();
        self.pictures(SplitName::Train, &rows)
    }

    /// The pictures in these rows of a split, one after another (`[N, 3, S, S]`, S being `image_size`), and their
    /// labels.
    ///
    /// # Errors
    ///
    /// [`DataError`]: a row that the file does not have, or a file that cannot be read.
    pub fn pictures(&self, split: SplitName, rows: &[usize]) -> Result<(Vec<u8>, Vec<usize>), DataError> {
        Stored::open(&self.file)?.pictures(split, rows)
    }

    /// The labels of the samples in use of a split, in order: `[N]`.
    ///
    /// # Errors
    ///
    /// [`DataError`]: a file that cannot be read.
    pub fn labels(&self, split: SplitName) -> Result<Vec<usize>, DataError> {
        let stored = Stored::open(&self.file)?;
        let (rows, count) = match split {
            SplitName::Train => (stored.train, self.train),
            SplitName::Test => (stored.test, self.test),
        };
        stored.labels(rows, 0, count.min(rows.count))
    }
}

impl Stored {
    fn open(path: &Path) -> Result<Self, DataError> {
        let read = |source| DataError::io("read", path)(source);
        let damaged = |what: String| DataError::NotCanonical { path: path.to_owned(), what };
        let mut file = File::open(path).map_err(DataError::io("open", path))?;
        let size_bytes = file.metadata().map_err(read)?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(read)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > HEADER_BYTES_MAX.min(size_bytes) {
            return Err(damaged("it is no safetensors file".to_owned()));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(read)?;
        let header: Header = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
        let description = header.metadata.get(METADATA_KEY).map_or("", String::as_str);
        let description: Description =
            serde_json::from_str(description).map_err(|error| damaged(error.to_string()))?;
        if description.format != FORMAT_VERSION {
            return Err(damaged(format!("its format is {}, not {FORMAT_VERSION}", description.format)));
        }
        let name = DataName::ALL.into_iter().find(|name| name.as_str() == description.name);
        let data_at = 8 + header_bytes;
        let part = |split| rows(&header.tensors, split, data_at, size_bytes).map_err(damaged);
        let ((train, image_size), (test, test_size)) = (part("train")?, part("test")?);
        if image_size != test_size {
            return Err(damaged("its splits differ in the size of their pictures".to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            name: name.ok_or_else(|| damaged(format!("it is of a kind {:?}", description.name)))?,
            classes: description.classes,
            image_size,
            train,
            test,
        })
    }

    fn pictures(&self, split: SplitName, rows: &[usize]) -> Result<(Vec<u8>, Vec<usize>), DataError> {
        let part = match split {
            SplitName::Train => self.train,
            SplitName::Test => self.test,
        };
        let image_bytes = 3 * self.image_size as usize * self.image_size as usize;
        let mut images = vec![0; rows.len() * image_bytes];
        let mut labels = Vec::with_capacity(rows.len());
        for (&row, image) in rows.iter().zip(images.chunks_exact_mut(image_bytes)) {
            if row >= part.count {
                return Err(DataError::Row { split, row, available: part.count });
            }
            self.read_at(part.images_at + row as u64 * image_bytes as u64, image)?;
            labels.extend(self.labels(part, row, 1)?);
        }
        Ok((images, labels))
    }

    fn labels(&self, part: Rows, first: usize, count: usize) -> Result<Vec<usize>, DataError> {
        let mut bytes = vec![0; count * size_of::<i64>()];
        self.read_at(part.labels_at + first as u64 * LABEL_BYTES, &mut bytes)?;
        let (fields, _) = bytes.as_chunks();
        fields
            .iter()
            .map(|field| usize::try_from(i64::from_le_bytes(*field)).ok())
            .map(|label| label.filter(|label| *label < self.classes.len()))
            .collect::<Option<_>>()
            .ok_or_else(|| {
                let what = "a label is none of its classes".to_owned();
                DataError::NotCanonical { path: self.path.clone(), what }
            })
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), DataError> {
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(bytes));
        read.map_err(|error: io::Error| DataError::io("read", &self.path)(error))
    }
}

/// Where a split lies, and its pictures' side.
fn rows(
    tensors: &BTreeMap<String, TensorInfo>,
    split: &str,
    data_at: u64,
    size_bytes: u64,
) -> Result<(Rows, u32), String> {
    let find = |kind: &str| {
        let name = format!("{split}.{kind}");
        tensors.get(&name).ok_or(format!("it has no tensor {name}"))
    };
    let (images, labels) = (find("images")?, find("labels")?);
    let (&[count, 3, height, width], &[label_count]) = (&images.shape[..], &labels.shape[..]) else {
        return Err(format!("its {split} tensors have other shapes than [N, 3, S, S] and [N]"));
    };
    let is_square = height > 0 && height == width;
    let side = u32::try_from(height).ok().filter(|_| is_square && count == label_count);
    let side = side.ok_or_else(|| format!("its {split} tensors are not N square pictures and N labels"))?;
    let is_whole = |tensor: &TensorInfo, dtype: Dtype, element_bytes: usize| {
        let (begin, end) = tensor.data_offsets;
        let shape = tensor.shape.iter().try_fold(element_bytes, |bytes, &length| bytes.checked_mul(length));
        tensor.dtype == dtype
            && shape.is_some_and(|bytes| end.checked_sub(begin) == Some(bytes))
            && (end as u64).checked_add(data_at).is_some_and(|end| end <= size_bytes)
    };
    if !is_whole(images, Dtype::U8, 1) || !is_whole(labels, Dtype::I64, size_of::<i64>()) {
        return Err(format!("its {split} tensors have another type or length than they should"));
    }
    let at = |tensor: &TensorInfo| data_at + tensor.data_offsets.0 as u64;
    Ok((Rows { count, images_at: at(images), labels_at: at(labels) }, side))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::canonical::{Contents, Records, Split};
    use crate::data::fixtures;

    const SIDE: usize = 4;
    const IMAGE_BYTES: usize = 3 * SIDE * SIDE;

    fn stored(cache: &BlobCache) -> String {
        let split = |labels: &[u16]| Split {
            images: labels.iter().flat_map(|&label| vec![(label % 251) as u8; IMAGE_BYTES]).collect(),
            labels: labels.to_vec(),
        };
        let records = Records {
            classes: (0..1000).map(|class| format!("class {class}")).collect(),
            image_size: SIDE as u32,
            train: split(&[3, 999, 500]),
            test: split(&[7, 256]),
        };
        Contents::of(DataName::Folder, &records).store(cache).unwrap()
    }

    #[test]
    fn a_stored_set_says_what_it_is_and_shows_any_of_its_pictures() {
        let (_dir, cache) = fixtures::cache();
        let data = ResolvedData::open(&stored(&cache), &cache, None, Some(1)).unwrap();
        assert_eq!((data.name, data.image_size, data.train, data.test), (DataName::Folder, 4, 3, 1));
        assert_eq!((data.classes.len(), &*data.classes[999]), (1000, "class 999"));
        let (images, labels) = data.pictures(SplitName::Train, &[2, 0]).unwrap();
        assert_eq!(labels, [500, 3]);
        assert_eq!(images, [vec![249; IMAGE_BYTES], vec![3; IMAGE_BYTES]].concat());
        assert_eq!(data.pictures(SplitName::Test, &[1]).unwrap(), (vec![5; IMAGE_BYTES], vec![256]));
        assert_eq!(data.first_pictures(40).unwrap().1, [3, 999, 500]);
        assert_eq!(data.labels(SplitName::Train).unwrap(), [3, 999, 500]);
        assert_eq!(data.labels(SplitName::Test).unwrap(), [7]);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let (_dir, cache) = fixtures::cache();
        let digest = stored(&cache);
        let data = ResolvedData::open(&digest, &cache, None, None).unwrap();
        let error = data.pictures(SplitName::Test, &[2]).unwrap_err().to_string();
        assert_eq!(error, "there is no row 2 in the test split of 2 samples");
        assert!(matches!(
            ResolvedData::open(&digest, &cache, Some(4), None),
            Err(DataError::Limit { split: SplitName::Train, asked: 4, available: 3 })
        ));
        let missing = ResolvedData::open(&"0".repeat(64), &cache, None, None);
        assert!(matches!(missing, Err(DataError::NotStored { .. })));
    }

    #[test]
    fn no_damage_of_the_header_is_read_as_a_data_set_of_other_sizes() {
        let (_dir, cache) = fixtures::cache();
        let digest = stored(&cache);
        let path = cache.path(&digest);
        let whole = fs::read(&path).unwrap();
        let opened = || ResolvedData::open(&digest, &cache, None, None);
        for length in [0, 7, 8, 100, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(opened().is_err(), "{length} of {} bytes", whole.len());
        }
        let text = String::from_utf8_lossy(&whole).into_owned();
        let shape = text.find("[3,3,4,4]").unwrap();
        for (at, to) in [(shape + 1, b'4'), (shape + 5, b'2'), (shape + 3, b'1')] {
            let mut damaged = whole.clone();
            damaged[at] = to;
            fs::write(&path, damaged).unwrap();
            assert!(matches!(opened(), Err(DataError::NotCanonical { .. })), "{at}");
        }
        fs::write(&path, "x".repeat(300)).unwrap();
        assert!(matches!(opened(), Err(DataError::NotCanonical { .. })));
    }
}
