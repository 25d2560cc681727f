//! A file of weights as it lies on disk: named tensors of any container, their numbers not yet read.
//!
//! `.pth` and `.pt` go through `pytorch-reader`, which interprets a pickle's few calls that rebuild tensors and keeps
//! every other as an inert value; what files name is looked at before (see `pickle_names`). What a file is decides
//! its content and not its extension.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use pytorch_reader::{DType, PickleError, PytorchError, PytorchReader};
use safetensors::{Dtype, SafeTensors};
use zip::ZipReadOptions;

use super::WeightsError;
use super::pickle_names::{self, Refusal};

/// An archive's pickle holds names and shapes; pytorch-reader has the same bound.
const PICKLE_BYTES_MAX: u64 = pytorch_reader::MAX_PICKLE_SIZE;

/// The record (in `.pth`) or metadata key (in `.safetensors`) that Lockstep's own files carry.
pub(crate) const DESCRIPTION: &str = "lockstep";

/// A description has a recipe and class names; ImageNet-21k's names fit many times.
const DESCRIPTION_BYTES_MAX: u64 = 16 << 20;

/// What the elements of a tensor are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Elements {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    /// Which the field's name of is enough.
    Other(String),
}

impl Elements {
    /// From the readers' names: `I32`, `U8`, `Bool`.
    fn other(name: &str) -> Self {
        Self::Other(match name.split_at_checked(1) {
            Some(("I", bits)) => format!("int{bits}"),
            Some(("U", bits)) => format!("uint{bits}"),
            _ => name.to_lowercase(),
        })
    }
}

/// A tensor of the file.
#[derive(Debug)]
pub(super) struct FileTensor {
    pub(super) elements: Elements,
    pub(super) shape: Vec<usize>,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Checkpoint(pytorch_reader::Tensor),
    Safetensors { file: Arc<Vec<u8>>, start: usize, end: usize },
}

impl FileTensor {
    /// A tensor of nothing but zeros, for tests that look at names and shapes; all share one buffer.
    #[cfg(test)]
    pub(super) fn zeros(elements: Elements, shape: &[usize]) -> Self {
        static ZEROS: std::sync::OnceLock<Arc<Vec<u8>>> = std::sync::OnceLock::new();
        let file = Arc::clone(ZEROS.get_or_init(|| Arc::new(vec![0; 32 << 20])));
        let end = shape.iter().product::<usize>() * elements.size_bytes();
        Self { elements, shape: shape.to_vec(), bytes: Bytes::Safetensors { file, start: 0, end } }
    }

    /// The elements in row-major order, little-endian, whatever order the file has them in.
    pub(super) fn read(&self) -> std::io::Result<Vec<u8>> {
        match &self.bytes {
            Bytes::Checkpoint(tensor) => tensor.read(),
            Bytes::Safetensors { file, start, end } => Ok(file[*start..*end].to_vec()),
        }
    }
}

/// All tensors of a file by their whole names, with dots between nested dictionaries.
#[derive(Debug)]
pub(super) struct WeightsFile {
    pub(super) tensors: BTreeMap<String, FileTensor>,
    /// Lockstep's own description, where the file has one.
    pub(super) description: Option<String>,
    /// It is a whole model and not a state_dict.
    pub(super) is_model: bool,
}

/// Opens a file of weights and reads what it says of its tensors.
pub(super) fn open(path: &Path) -> Result<WeightsFile, WeightsError> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(512).read_to_end(&mut head))
        .map_err(WeightsError::io(path))?;
    // A safetensors file begins with the length of its JSON header, then the header.
    if head.get(8) == Some(&b'{') && head.get(7) == Some(&0) {
        return open_safetensors(path);
    }
    let container =
        Container::of(&head).ok_or_else(|| WeightsError::NotACheckpoint { path: path.to_owned() })?;
    open_checkpoint(path, container)
}

fn open_safetensors(path: &Path) -> Result<WeightsFile, WeightsError> {
    let damaged = |error| WeightsError::Damaged { path: path.to_owned(), reason: format!("{error}") };
    let file = Arc::new(std::fs::read(path).map_err(WeightsError::io(path))?);
    let (_, header) = SafeTensors::read_metadata(&file).map_err(damaged)?;
    let description = header.metadata().as_ref().and_then(|metadata| metadata.get(DESCRIPTION).cloned());
    let data_start = file.len() - header.data_len();
    let tensor = |info: &safetensors::tensor::TensorInfo| FileTensor {
        elements: match info.dtype {
            Dtype::F64 => Elements::F64,
            Dtype::F32 => Elements::F32,
            Dtype::F16 => Elements::F16,
            Dtype::BF16 => Elements::Bf16,
            Dtype::I64 => Elements::I64,
            other => Elements::other(&format!("{other:?}")),
        },
        shape: info.shape.clone(),
        bytes: Bytes::Safetensors {
            file: Arc::clone(&file),
            start: data_start + info.data_offsets.0,
            end: data_start + info.data_offsets.1,
        },
    };
    let tensors = header.tensors().into_iter().map(|(name, info)| (name, tensor(info))).collect();
    Ok(WeightsFile { tensors, description, is_model: false })
}

fn open_checkpoint(path: &Path, container: Container) -> Result<WeightsFile, WeightsError> {
    let pickles = container.look_through(path)?;
    let reader = PytorchReader::new(path).map_err(|error| match unreadable(path, error) {
        WeightsError::Damaged { path, reason } if pickles.has_layers => {
            WeightsError::WholeModel { path, reason }
        }
        error => error,
    })?;
    let tensor = |tensor: pytorch_reader::Tensor| FileTensor {
        elements: match tensor.dtype() {
            DType::F64 => Elements::F64,
            DType::F32 => Elements::F32,
            DType::F16 => Elements::F16,
            DType::BF16 => Elements::Bf16,
            DType::I64 => Elements::I64,
            other => Elements::other(&format!("{other:?}")),
        },
        shape: tensor.shape().to_vec(),
        bytes: Bytes::Checkpoint(tensor),
    };
    let tensors = reader.into_tensors().into_iter().map(|(name, value)| (name, tensor(value))).collect();
    Ok(WeightsFile { tensors, description: pickles.description, is_model: pickles.has_layers })
}

fn unreadable(path: &Path, error: PytorchError) -> WeightsError {
    match error {
        PytorchError::Io(source) if source.raw_os_error().is_some() => WeightsError::io(path)(source),
        PytorchError::Pickle(PickleError::UnsupportedType(reason)) => {
            WeightsError::Unsupported { path: path.to_owned(), reason }
        }
        error => WeightsError::Damaged { path: path.to_owned(), reason: error.to_string() },
    }
}

/// The four forms in which `torch.save` has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    /// Since PyTorch 1.6.
    Zip,
    /// Before 0.1.10.
    Tar,
    /// 0.1.10 to 1.5: five pickles, then the numbers.
    Legacy,
    /// A bare pickle, as other programs write.
    Pickle,
}

/// What the pickles of a file told.
#[derive(Debug, Default)]
struct Pickles {
    has_layers: bool,
    description: Option<String>,
}

impl Container {
    fn of(head: &[u8]) -> Option<Self> {
        // 0x1950a86a20f9469cfc6c as a pickle has it: binary from protocol 2 on, before that as text.
        const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
        const MAGIC_TEXT: &[u8] = b"119547037146038801333356";
        let begins_with =
            |magic: &[u8]| head[..head.len().min(64)].windows(magic.len()).any(|window| window == magic);
        match head {
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Self::Zip),
            _ if head.get(257..262) == Some(b"ustar") => Some(Self::Tar),
            _ if begins_with(&MAGIC) || begins_with(MAGIC_TEXT) => Some(Self::Legacy),
            [0x80 | b'(' | b'}' | b']' | b'c', ..] => Some(Self::Pickle),
            _ => None,
        }
    }

    /// Looks at every name in the file's pickles.
    fn look_through(self, path: &Path) -> Result<Pickles, WeightsError> {
        let open = || File::open(path).map(BufReader::new).map_err(WeightsError::io(path));
        let mut pickles = Pickles::default();
        match self {
            Self::Zip => return look_through_zip(path, open()?),
            Self::Tar => look_through_tar(path, open()?, &mut pickles)?,
            Self::Legacy => {
                let mut reader = open()?;
                for _ in 0..5 {
                    pickles.has_layers |= pickle_names::scan(&mut reader).map_err(refused(path))?;
                }
            }
            Self::Pickle => pickles.has_layers = pickle_names::scan(&mut open()?).map_err(refused(path))?,
        }
        Ok(pickles)
    }
}

fn look_through_zip(path: &Path, reader: BufReader<File>) -> Result<Pickles, WeightsError> {
    let damaged = |reason: String| WeightsError::Damaged { path: path.to_owned(), reason };
    let mut archive = zip::ZipArchive::new(reader).map_err(|error| damaged(error.to_string()))?;
    if archive.file_names().flatten().any(|name| name.ends_with("/constants.pkl")) {
        return Err(WeightsError::Program { path: path.to_owned() });
    }
    let mut pickles = Pickles::default();
    for index in 0..archive.len() {
        let Some(Ok(name)) = archive.name_for_index(index).map(|name| name.map(String::from)) else {
            continue;
        };
        let limit = match name.rsplit('/').next() {
            Some("data.pkl") => PICKLE_BYTES_MAX,
            Some(last) if last == record() => DESCRIPTION_BYTES_MAX,
            _ => continue,
        };
        // torch.save can leave checksums out, and then writes 0.
        let has_checksum = archive.by_index_raw(index).is_ok_and(|entry| entry.crc32() != 0);
        let options = ZipReadOptions::new().ignore_crc32(!has_checksum);
        let entry =
            archive.by_index_with_options(index, options).map_err(|error| damaged(error.to_string()))?;
        // The size is the archive's claim: grow as bytes arrive.
        let mut bytes = Vec::new();
        entry.take(limit + 1).read_to_end(&mut bytes).map_err(|error| damaged(error.to_string()))?;
        if bytes.len() as u64 > limit {
            return Err(damaged(format!("its record {name} is larger than {limit} bytes")));
        }
        if name.ends_with("data.pkl") {
            pickles.has_layers |= pickle_names::scan(&mut &bytes[..]).map_err(refused(path))?;
        } else {
            pickles.description = String::from_utf8(bytes).ok();
        }
    }
    Ok(pickles)
}

/// The record's name within the archive's folder.
pub(crate) fn record() -> String {
    format!("{DESCRIPTION}.json")
}

/// The entries `sys_info` and `pickle` are pickles; in the other two the pickles between the numbers hold nothing but
/// a key, a place and a type, and pytorch-reader takes nothing else there.
fn look_through_tar(path: &Path, reader: BufReader<File>, pickles: &mut Pickles) -> Result<(), WeightsError> {
    let damaged =
        |error: std::io::Error| WeightsError::Damaged { path: path.to_owned(), reason: error.to_string() };
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.to_string_lossy().trim_start_matches("./").to_owned();
        if matches!(&*name, "sys_info" | "pickle") {
            pickles.has_layers |= pickle_names::scan(&mut BufReader::new(entry)).map_err(refused(path))?;
        }
    }
    Ok(())
}

fn refused(path: &Path) -> impl Fn(Refusal) -> WeightsError {
    move |refusal| match refusal {
        Refusal::Code(name) => WeightsError::Code { path: path.to_owned(), name },
        Refusal::Io(error) if error.raw_os_error().is_some() => WeightsError::io(path)(error),
        Refusal::Io(error) => WeightsError::Damaged {
            path: path.to_owned(),
            reason: match error.kind() {
                std::io::ErrorKind::UnexpectedEof => "it ends in the middle of its pickle".to_owned(),
                _ => error.to_string(),
            },
        },
    }
}

#[cfg(test)]
mod tests;
