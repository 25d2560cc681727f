//! A `.pth` file as `torch.save(state_dict)` writes it since PyTorch 1.6: an archive of a pickle and plain numbers.
//!
//! ```text
//! archive/data.pkl        OrderedDict of tensors, each a reference to the numbers of its own
//! archive/byteorder       little
//! archive/data/0 …        the numbers, uncompressed, each at a multiple of 64 bytes so that they can be mapped
//! archive/version         3, the layout's
//! archive/lockstep.json   the description; PyTorch does not look at it
//! ```

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::model::StateDtype;
use crate::weights::{self, Entry, StateDict};

/// Torch aligns storages so, for vector loads from a mapped file.
const ALIGNMENT_BYTES: u16 = 64;

pub(super) fn encode(state: &StateDict, description: &str) -> zip::result::ZipResult<Vec<u8>> {
    let size_bytes: usize = state.entries.iter().map(|entry| entry.bytes.len() + 256).sum();
    let mut archive = ZipWriter::new(Cursor::new(Vec::with_capacity(size_bytes + description.len())));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::DEFAULT) // equal models make equal bytes
        .with_alignment(ALIGNMENT_BYTES);
    let mut record = |name: &str, bytes: &[u8]| -> zip::result::ZipResult<()> {
        archive.start_file(format!("archive/{name}"), options)?;
        Ok(archive.write_all(bytes)?)
    };
    record("data.pkl", &pickle(state))?;
    record("byteorder", b"little")?;
    for (index, entry) in state.entries.iter().enumerate() {
        record(&format!("data/{index}"), &entry.bytes)?;
    }
    record("version", b"3\n")?;
    record(&weights::record(), description.as_bytes())?;
    Ok(archive.finish()?.into_inner())
}

/// Protocol 2, with nothing in it but what `weights_only=True` lets pass.
fn pickle(state: &StateDict) -> Vec<u8> {
    let mut pickle = Pickle(b"\x80\x02".to_vec());
    pickle.ordered_dict();
    pickle.op(b'('); // the items, up to SETITEMS
    for (index, entry) in state.entries.iter().enumerate() {
        pickle.text(&entry.tensor.name);
        pickle.tensor(index, entry);
    }
    pickle.op(b'u');
    pickle.op(b'.');
    pickle.0
}

struct Pickle(Vec<u8>);

impl Pickle {
    fn op(&mut self, opcode: u8) {
        self.0.push(opcode);
    }

    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.0.extend(b")R"); // called without arguments
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").as_bytes());
    }

    fn text(&mut self, text: &str) {
        self.op(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn number(&mut self, value: usize) {
        match value {
            0..=0xff => self.0.extend([b'K', value as u8]),
            0x100..=0xffff => {
                self.op(b'M');
                self.0.extend((value as u16).to_le_bytes());
            }
            0x1_0000..=0x7fff_ffff => {
                self.op(b'J');
                self.0.extend((value as i32).to_le_bytes());
            }
            // LONG1: a signed number of nine bytes, so that none becomes negative.
            _ => {
                self.0.extend([0x8a, 9]);
                self.0.extend((value as u64).to_le_bytes());
                self.op(0);
            }
        }
    }

    fn tuple(&mut self, values: &[usize]) {
        self.op(b'(');
        values.iter().for_each(|value| self.number(*value));
        self.op(b't');
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`, where the storage is the persistent id
    /// `("storage", type, key, device, elements)`.
    fn tensor(&mut self, index: usize, entry: &Entry) {
        let shape = &entry.tensor.shape;
        let storage = match entry.tensor.dtype {
            StateDtype::F32 => "FloatStorage",
            StateDtype::I64 => "LongStorage",
        };
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.extend(b"((");
        self.text("storage");
        self.global("torch", storage);
        self.text(&index.to_string());
        self.text("cpu");
        self.number(shape.iter().product());
        self.0.extend(b"tQ");
        self.number(0);
        self.tuple(shape);
        self.tuple(&strides(shape));
        self.op(0x89); // requires_grad = False
        self.ordered_dict();
        self.0.extend(b"tR");
    }
}

/// Row-major.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}
