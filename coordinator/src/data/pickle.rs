//! Reads the Python edition's batches: a pickled dict of a numpy array and a list of labels.
//!
//! Pickle is a program for a stack machine, and general readers of it build whatever the program asks for:
//! a few hundred bytes can make them fill the memory, nest until the stack overflows, or (in Python) run
//! code. This machine knows the opcodes that Python 2's cPickle and Python 3's protocols 2 to 4 write for
//! such a dict and the five callables that they name; it calls nothing and refuses the rest. Values live in
//! one flat list and are referred to by number, so nothing here recurses, not even when it is dropped, and
//! a memo reference costs no copy.

mod machine;

use std::borrow::Cow;

use machine::{Machine, OPCODES_MAX, Value};

/// Why a pickle is not a batch. Offsets are bytes from the start of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    #[error("it ends too early, at offset {offset}")]
    Truncated { offset: usize },
    #[error("opcode 0x{opcode:02x} at offset {offset} has no place in a batch")]
    Opcode { offset: usize, opcode: u8 },
    #[error("it wants to call `{name}` at offset {offset}, which has no place in a batch")]
    Callable { offset: usize, name: String },
    #[error("{what} at offset {offset}")]
    Malformed { offset: usize, what: &'static str },
    #[error("it is more than {OPCODES_MAX} opcodes long")]
    TooLong,
    #[error("it holds no {what}")]
    Missing { what: &'static str },
    #[error("its array has the type `{found}`, expected `u1` in C order")]
    ArrayType { found: String },
}

/// What a batch holds, as far as it is used here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PickledBatch<'a> {
    pub(super) labels: Vec<i64>,
    /// The array's shape, not yet compared with anything but the length of `data`.
    pub(super) shape: Vec<i64>,
    pub(super) data: Cow<'a, [u8]>,
}

/// Reads `{"data": uint8 array, "labels": [int, …]}`; other keys are passed over.
pub(super) fn read_batch(pickle: &[u8]) -> Result<PickledBatch<'_>, PickleError> {
    let mut machine = Machine::new(pickle);
    let root = machine.run()?;
    let Value::Dict(entries) = machine.value(root) else {
        return Err(PickleError::Missing { what: "dict" });
    };
    let find = |key: &str| {
        let mut found = None;
        for &(k, v) in entries {
            if matches!(machine.value(k), Value::Bytes(name) if **name == *key.as_bytes()) {
                found = Some(v); // a later entry replaces an earlier one, as in Python
            }
        }
        found
    };
    let data = find("data").ok_or(PickleError::Missing { what: "`data`" })?;
    let labels = find("labels").ok_or(PickleError::Missing { what: "`labels`" })?;
    let labels =
        machine.integers(labels).ok_or(PickleError::Missing { what: "list of integers `labels`" })?;
    let Value::Array(Some(array)) = machine.value(data) else {
        return Err(PickleError::Missing { what: "array `data`" });
    };
    let array = array.clone();
    let Value::Bytes(data) = machine.take_value(array.bytes) else {
        return Err(PickleError::Missing { what: "bytes in the array `data`" });
    };
    let size_bytes = array.shape.iter().try_fold(1i64, |n, &side| n.checked_mul(side).filter(|&n| n >= 0));
    if size_bytes.and_then(|n| usize::try_from(n).ok()) != Some(data.len()) {
        return Err(PickleError::Missing { what: "array `data` whose length fits its shape" });
    }
    Ok(PickledBatch { labels, shape: array.shape, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fixtures;

    #[test]
    fn python_2_batches_are_read() {
        let pickle = fixtures::python_batch(&[3, 9, 0]);
        let batch = read_batch(&pickle).unwrap();
        assert_eq!(batch.labels, [3, 9, 0]);
        assert_eq!(batch.shape, [3, 3072]);
        assert_eq!(batch.data[3072..3075], [9, 8, 11]);
    }

    /// `pickle.dumps({b"data": np.array([[0, 200, 255]], np.uint8), b"labels": [7, 300]}, protocol=2)` of
    /// Python 3, where bytes are spelled as an encoded text.
    #[test]
    fn python_3_batches_of_protocol_2_are_read() {
        let mut p = b"\x80\x02}q\x00(c_codecs\nencode\nq\x01X\x04\x00\x00\x00dataq\x02".to_vec();
        p.extend(b"X\x06\x00\x00\x00latin1q\x03\x86q\x04Rq\x05");
        p.extend(b"cnumpy._core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85q\x08h\x01");
        p.extend(b"X\x01\x00\x00\x00bq\x09h\x03\x86q\x0aRq\x0b\x87q\x0cRq\x0d");
        p.extend(
            b"(K\x01K\x01K\x03\x86q\x0ecnumpy\ndtype\nq\x0fX\x02\x00\x00\x00u1q\x10\x89\x88\x87q\x11Rq\x12",
        );
        p.extend(b"(K\x03X\x01\x00\x00\x00|q\x13NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x14b\x89");
        p.extend(b"h\x01X\x05\x00\x00\x00");
        p.extend("\0\u{c8}\u{ff}".bytes());
        p.extend(b"h\x03\x86q\x15Rq\x16tq\x17b");
        p.extend(b"h\x01X\x06\x00\x00\x00labelsq\x18h\x03\x86q\x19Rq\x1a]q\x1b(K\x07M,\x01eu.");
        let batch = read_batch(&p).unwrap();
        assert_eq!(batch.labels, [7, 300]);
        assert_eq!((batch.shape, &*batch.data), (vec![1, 3], &[0, 200, 255][..]));
    }

    /// The same, protocol 4: frames, memoised short strings, callables named on the stack.
    #[test]
    fn python_3_batches_of_protocol_4_are_read() {
        let mut p = b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}\x94(C\x04data\x94".to_vec();
        p.extend(b"\x8c\x16numpy._core.multiarray\x94\x8c\x0c_reconstruct\x94\x93\x94");
        p.extend(b"\x8c\x05numpy\x94\x8c\x07ndarray\x94\x93\x94K\x00\x85\x94C\x01b\x94\x87\x94R\x94");
        p.extend(
            b"(K\x01K\x01K\x03\x86\x94h\x05\x8c\x05dtype\x94\x93\x94\x8c\x02u1\x94\x89\x88\x87\x94R\x94",
        );
        p.extend(b"(K\x03\x8c\x01|\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94b\x89");
        p.extend(b"C\x03\x00\xc8\xff\x94t\x94b\x8c\x06labels\x94]\x94(K\x07\x8a\x02,\x01\x8a\x01\xffeu.");
        let batch = read_batch(&p).unwrap();
        assert_eq!(batch.labels, [7, 300, -1]);
        assert_eq!((batch.shape, &*batch.data), (vec![1, 3], &[0, 200, 255][..]));
    }

    #[test]
    fn a_pickle_that_would_run_something_is_refused_by_name() {
        let error = read_batch(b"\x80\x02cposix\nsystem\nU\x02ls\x85R.").unwrap_err();
        assert_eq!(error, PickleError::Callable { offset: 2, name: "posix.system".to_owned() });
    }

    #[test]
    fn unknown_opcodes_and_missing_keys_are_told() {
        assert_eq!(read_batch(b"\x80\x02\xff").unwrap_err(), PickleError::Opcode { offset: 2, opcode: 0xff });
        assert_eq!(read_batch(b"\x80\x02}.").unwrap_err(), PickleError::Missing { what: "`data`" });
        assert_eq!(read_batch(b"\x80\x02K\x01.").unwrap_err(), PickleError::Missing { what: "dict" });
        assert_eq!(read_batch(b"").unwrap_err(), PickleError::Truncated { offset: 0 });
    }

    #[test]
    fn an_array_of_another_type_or_length_is_refused() {
        let pickle = fixtures::python_batch(&[1]);
        let replaced = |from: &[u8], to: &[u8]| {
            let at = pickle.windows(from.len()).position(|window| window == from).unwrap();
            [&pickle[..at], to, &pickle[at + from.len()..]].concat()
        };
        let floats = replaced(b"\x02u1", b"\x02f4");
        assert!(matches!(read_batch(&floats), Err(PickleError::ArrayType { .. })));
        let fortran = replaced(b"tb\x89T", b"tb\x88T");
        assert!(matches!(read_batch(&fortran), Err(PickleError::ArrayType { .. })));
        let longer = replaced(b"M\x01\x00M\x00\x0c\x86", b"M\x02\x00M\x00\x0c\x86");
        assert!(matches!(read_batch(&longer), Err(PickleError::Missing { .. })));
    }

    #[test]
    fn hostile_pickles_end_in_an_error_and_not_in_a_full_memory_or_stack() {
        let marks = vec![b'('; OPCODES_MAX + 1];
        assert_eq!(read_batch(&marks).unwrap_err(), PickleError::TooLong);
        let mut nested = vec![b'N'];
        nested.resize(1_000_000, 0x85);
        nested.push(b'.');
        assert_eq!(read_batch(&nested).unwrap_err(), PickleError::Missing { what: "dict" });
        let endless = [b"\x8e".as_slice(), &u64::MAX.to_le_bytes()].concat();
        assert!(matches!(read_batch(&endless), Err(PickleError::Truncated { .. })));
        for below_the_mark in [b"](N\x85a.".as_slice(), b"N(\x85.", b"(.", b"e.", b"h\x00.", b"q\x00."] {
            assert!(read_batch(below_the_mark).is_err());
        }
    }
}
