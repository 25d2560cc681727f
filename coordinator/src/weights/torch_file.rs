//! Files as `torch.save` writes them, in all its containers, made here byte by byte for the tests.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A tensor with a storage of its own.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) name: String,
    /// `FloatStorage`, `HalfStorage`, …
    pub(crate) kind: &'static str,
    pub(crate) storage: Vec<u8>,
    pub(crate) elements: usize,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) stride: Vec<usize>,
}

impl Stored {
    pub(crate) fn floats(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let storage = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(name, "FloatStorage", shape, storage, values.len())
    }

    /// Row-major, from the storage's beginning.
    pub(crate) fn new(
        name: &str,
        kind: &'static str,
        shape: &[usize],
        storage: Vec<u8>,
        elements: usize,
    ) -> Self {
        let mut stride = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            stride[axis - 1] = stride[axis] * shape[axis];
        }
        Self { name: name.to_owned(), kind, storage, elements, offset: 0, shape: shape.to_vec(), stride }
    }
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn number(value: usize) -> Vec<u8> {
    [&b"J"[..], &(value as i32).to_le_bytes()].concat()
}

fn tuple(values: &[usize]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|value| number(*value)).collect();
    [&b"("[..], &values, b"t"].concat()
}

/// `{key: {…: {names: tensors}}}`; `more` is pickled behind the tensors, e.g. another key and value.
pub(crate) fn pickle(keys: &[&str], tensors: &[Stored], more: &[u8]) -> Vec<u8> {
    root(keys, tensors, more, |index, tensor| {
        let id = [
            &b"("[..],
            &text("storage"),
            format!("ctorch\n{}\n", tensor.kind).as_bytes(),
            &text(&index.to_string()),
            &text("cpu"),
            &number(tensor.elements),
            b"tQ",
        ]
        .concat();
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n(",
            &id[..],
            &number(tensor.offset),
            &tuple(&tensor.shape),
            &tuple(&tensor.stride),
            b"\x89ccollections\nOrderedDict\n)RtR",
        ]
        .concat()
    })
}

fn root(
    keys: &[&str],
    tensors: &[Stored],
    more: &[u8],
    value: impl Fn(usize, &Stored) -> Vec<u8>,
) -> Vec<u8> {
    let mut pickle = b"\x80\x02".to_vec();
    keys.iter().for_each(|key| pickle.extend([&b"}"[..], &text(key)].concat()));
    pickle.extend(b"ccollections\nOrderedDict\n)R(");
    for (index, tensor) in tensors.iter().enumerate() {
        pickle.extend([text(&tensor.name), value(index, tensor)].concat());
    }
    pickle.extend([more, b"u"].concat());
    keys.iter().for_each(|_| pickle.push(b's'));
    pickle.push(b'.');
    pickle
}

/// Since PyTorch 1.6.
pub(crate) fn zip(pickle: &[u8], tensors: &[Stored]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut record = |name: &str, bytes: &[u8]| {
        archive.start_file(format!("archive/{name}"), options).unwrap();
        archive.write_all(bytes).unwrap();
    };
    record("data.pkl", pickle);
    record("byteorder", b"little");
    for (index, tensor) in tensors.iter().enumerate() {
        record(&format!("data/{index}"), &tensor.storage);
    }
    record("version", b"3\n");
    archive.finish().unwrap().into_inner()
}

fn system() -> Vec<u8> {
    [&b"\x80\x02}("[..], &text("protocol_version"), b"M\xe9\x03", &text("little_endian"), b"\x88u."].concat()
}

/// PyTorch 0.1.10 to 1.5.
pub(crate) fn legacy(pickle: &[u8], tensors: &[Stored]) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    file.extend([&system(), pickle, b"\x80\x02]("].concat());
    (0..tensors.len()).for_each(|index| file.extend(text(&index.to_string())));
    file.extend(b"e.");
    for tensor in tensors {
        file.extend((tensor.elements as u64).to_le_bytes());
        file.extend(&tensor.storage);
    }
    file
}

/// Before PyTorch 0.1.10.
pub(crate) fn tar(tensors: &[Stored]) -> Vec<u8> {
    let count = [&b"\x80\x02"[..], &number(tensors.len()), b"."].concat();
    let (mut storages, mut table) = (count.clone(), count);
    for (index, tensor) in tensors.iter().enumerate() {
        let class = format!("ctorch\n{}\n", tensor.kind);
        storages.extend([b"\x80\x02(", &number(index)[..], &text("cpu"), class.as_bytes(), b"t."].concat());
        storages.extend((tensor.elements as u64).to_le_bytes());
        storages.extend(&tensor.storage);
        let key = 1000 + index;
        table.extend([b"\x80\x02(", &number(key)[..], &number(index), b"ctorch\nFloatTensor\nt."].concat());
        table.extend((tensor.shape.len() as u64).to_le_bytes());
        let sizes = tensor.shape.iter().chain(&tensor.stride).chain([&tensor.offset]);
        sizes.for_each(|size| table.extend((*size as u64).to_le_bytes()));
    }
    storages.extend(b"\x80\x02]."); // no storage is a view of another
    let id = |index: usize, _: &Stored| [text(&(1000 + index).to_string()), b"Q".to_vec()].concat();
    let main = root(&[], tensors, b"", id);
    let mut archive = ::tar::Builder::new(Vec::new());
    for (name, bytes) in
        [("sys_info", system()), ("storages", storages), ("tensors", table), ("pickle", main)]
    {
        let mut header = ::tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}
