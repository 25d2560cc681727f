//! Reads the Python edition's batches: a pickled dict of a numpy array and a list of labels.
//!
//! Pickle is a program for a stack machine, and general readers of it build whatever the program asks for:
//! a few hundred bytes can make them fill the memory, nest until the stack overflows, or (in Python) run
//! code. This machine knows the opcodes that Python 2's cPickle and Python 3's protocols 2 to 4 write for
//! such a dict and the five callables that they name; it calls nothing and refuses the rest. Values live in
//! one flat list and are referred to by number, so nothing here recurses, not even when it is dropped, and
//! a memo reference costs no copy.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// A batch of 10,000 takes about 40,000 opcodes. Since an opcode makes at most one value, mark or memo entry,
/// about 100 bytes each, this bounds the memory as well.
const OPCODES_MAX: usize = 4_000_000;

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
    let mut machine = Machine { pickle, ..Machine::default() };
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
    let labels = machine.integers(labels).ok_or(PickleError::Missing { what: "list of integers `labels`" })?;
    let Value::Array(Some(array)) = machine.value(data) else {
        return Err(PickleError::Missing { what: "array `data`" });
    };
    let array = array.clone();
    let Value::Bytes(data) = std::mem::replace(&mut machine.values[array.bytes as usize], Value::None) else {
        return Err(PickleError::Missing { what: "bytes in the array `data`" });
    };
    let size_bytes = array.shape.iter().try_fold(1i64, |n, &side| n.checked_mul(side).filter(|&n| n >= 0));
    if size_bytes.and_then(|n| usize::try_from(n).ok()) != Some(data.len()) {
        return Err(PickleError::Missing { what: "array `data` whose length fits its shape" });
    }
    Ok(PickledBatch { labels, shape: array.shape, data })
}

/// A value's number.
type Id = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callable {
    /// `numpy.core.multiarray._reconstruct`: an array that BUILD will fill.
    Reconstruct,
    /// `numpy.ndarray`, the first argument of `_reconstruct`.
    NdArray,
    /// `numpy.dtype`
    Dtype,
    /// `_codecs.encode`: how protocol 2 spells Python 3's bytes.
    Encode,
    /// `bytes`: how protocol 2 spells Python 3's empty bytes.
    Bytes,
}

#[derive(Debug, Clone)]
struct Array {
    shape: Vec<i64>,
    bytes: Id,
}

#[derive(Debug)]
enum Value<'a> {
    None,
    Integer(i64),
    /// Both kinds of string: Python 2 wrote keys as bytes, Python 3 may write them as text.
    Bytes(Cow<'a, [u8]>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Callable(Callable),
    Dtype(String),
    Array(Option<Array>),
}

#[derive(Default)]
struct Machine<'a> {
    pickle: &'a [u8],
    offset: usize,
    /// Where the opcode being run began, for messages.
    opcode_offset: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, PickleError> {
        for _ in 0..OPCODES_MAX {
            self.opcode_offset = self.offset;
            match self.byte()? {
                b'.' => return self.pop(), // STOP
                opcode => self.step(opcode)?,
            }
        }
        Err(PickleError::TooLong)
    }

    /// Runs one opcode; the names in the comments are those of Python's `pickletools`.
    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            0x80 => self.take(1).map(drop), // PROTO
            0x95 => self.take(8).map(drop), // FRAME
            b'(' => {
                self.marks.push(self.stack.len()); // MARK
                Ok(())
            }
            b'q' | b'r' | 0x94 => self.put(opcode), // BINPUT, LONG_BINPUT, MEMOIZE
            b'h' | b'j' => self.get(opcode),        // BINGET, LONG_BINGET

            b'N' => self.push(Value::None),           // NONE
            0x88 => self.push(Value::Integer(1)),     // NEWTRUE
            0x89 => self.push(Value::Integer(0)),     // NEWFALSE
            b'J' | b'K' | b'M' | 0x8a => self.integer(opcode), // BININT, BININT1, BININT2, LONG1
            b'U' | b'C' | 0x8c => self.string(1), // SHORT_BINSTRING, SHORT_BINBYTES, SHORT_BINUNICODE
            b'T' | b'B' | b'X' => self.string(4), // BINSTRING, BINBYTES, BINUNICODE
            0x8e | 0x8d => self.string(8),        // BINBYTES8, BINUNICODE8

            b')' => self.push(Value::Tuple(Vec::new())), // EMPTY_TUPLE
            b']' => self.push(Value::List(Vec::new())),  // EMPTY_LIST
            b'}' => self.push(Value::Dict(Vec::new())),  // EMPTY_DICT
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode - 0x84))?; // TUPLE1, TUPLE2, TUPLE3
                self.push(Value::Tuple(items))
            }
            b't' => {
                let items = self.pop_marked()?; // TUPLE
                self.push(Value::Tuple(items))
            }
            b'a' => {
                let items = self.pop_many(1)?; // APPEND
                self.append(items)
            }
            b'e' => {
                let items = self.pop_marked()?; // APPENDS
                self.append(items)
            }
            b's' => {
                let items = self.pop_many(2)?; // SETITEM
                self.set_items(&items)
            }
            b'u' => {
                let items = self.pop_marked()?; // SETITEMS
                self.set_items(&items)
            }
            b'c' | 0x93 => self.global(opcode), // GLOBAL, STACK_GLOBAL
            b'R' => self.reduce(),              // REDUCE
            b'b' => self.build(),               // BUILD
            _ => Err(PickleError::Opcode { offset: self.opcode_offset, opcode }),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let rest = &self.pickle[self.offset..];
        let taken = rest.get(..count).ok_or(PickleError::Truncated { offset: self.pickle.len() })?;
        self.offset += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number without sign, of at most 8 bytes.
    fn unsigned(&mut self, bytes: usize) -> Result<u64, PickleError> {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(self.take(bytes)?);
        Ok(u64::from_le_bytes(wide))
    }

    fn line(&mut self) -> Result<&'a [u8], PickleError> {
        let rest = &self.pickle[self.offset..];
        let end = rest
            .iter()
            .position(|&b| b == b'\n')
            .ok_or(PickleError::Truncated { offset: self.pickle.len() })?;
        self.offset += end + 1;
        Ok(&rest[..end])
    }

    fn malformed(&self, what: &'static str) -> PickleError {
        PickleError::Malformed { offset: self.opcode_offset, what }
    }

    fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    /// Never fails: the result is there for the table of opcodes.
    fn push(&mut self, value: Value<'a>) -> Result<(), PickleError> {
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    /// The stack ends at the last mark: what lies below it belongs to whoever set it.
    fn pop(&mut self) -> Result<Id, PickleError> {
        Ok(self.pop_many(1)?[0])
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= floor => Ok(self.stack.split_off(start)),
            _ => Err(self.malformed("too few values on the stack")),
        }
    }

    fn pop_marked(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("a missing mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Result<&mut Value<'a>, PickleError> {
        let id = *self.stack.last().ok_or_else(|| self.malformed("too few values on the stack"))?;
        Ok(&mut self.values[id as usize])
    }

    fn put(&mut self, opcode: u8) -> Result<(), PickleError> {
        let key = match opcode {
            b'q' => self.unsigned(1)? as u32,
            b'r' => self.unsigned(4)? as u32,
            _ => self.memo.len() as u32,
        };
        let id = *self.stack.last().ok_or_else(|| self.malformed("nothing to remember"))?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn get(&mut self, opcode: u8) -> Result<(), PickleError> {
        let key = self.unsigned(if opcode == b'h' { 1 } else { 4 })? as u32;
        let id = *self.memo.get(&key).ok_or_else(|| self.malformed("a value that was never remembered"))?;
        self.stack.push(id);
        Ok(())
    }

    fn integer(&mut self, opcode: u8) -> Result<(), PickleError> {
        let value = match opcode {
            b'J' => i64::from(self.unsigned(4)? as u32 as i32),
            b'K' => self.unsigned(1)? as i64,
            b'M' => self.unsigned(2)? as i64,
            _ => {
                let bytes = usize::from(self.byte()?);
                if bytes > 8 {
                    return Err(self.malformed("an integer of more than 64 bits"));
                }
                let unused_bits = 64 - 8 * bytes as u32;
                let raw = self.unsigned(bytes)? as i64;
                if bytes == 0 { 0 } else { (raw << unused_bits) >> unused_bits } // extends the sign
            }
        };
        self.push(Value::Integer(value))
    }

    fn string(&mut self, length_bytes: usize) -> Result<(), PickleError> {
        let length = self.unsigned(length_bytes)?;
        let length = usize::try_from(length).map_err(|_| self.malformed("a string without end"))?;
        let bytes = self.take(length)?;
        self.push(Value::Bytes(Cow::Borrowed(bytes)))
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), PickleError> {
        match self.top()? {
            Value::List(list) => list.extend(items),
            _ => return Err(self.malformed("an item appended to what is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), PickleError> {
        if !items.len().is_multiple_of(2) {
            return Err(self.malformed("a key without a value"));
        }
        match self.top()? {
            Value::Dict(entries) => entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err(self.malformed("an item set in what is no dict")),
        }
        Ok(())
    }

    fn global(&mut self, opcode: u8) -> Result<(), PickleError> {
        let (module, name) = if opcode == b'c' {
            (Cow::Borrowed(self.line()?), Cow::Borrowed(self.line()?))
        } else {
            let pair = self.pop_many(2)?;
            match (self.value(pair[0]), self.value(pair[1])) {
                (Value::Bytes(module), Value::Bytes(name)) => (module.clone(), name.clone()),
                _ => return Err(self.malformed("a callable without a name")),
            }
        };
        let callable = match (&*module, &*name) {
            // numpy 2 moved the module; Python 3 renamed the builtins'.
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => Callable::Reconstruct,
            (b"numpy", b"ndarray") => Callable::NdArray,
            (b"numpy", b"dtype") => Callable::Dtype,
            (b"_codecs", b"encode") => Callable::Encode,
            (b"__builtin__" | b"builtins", b"bytes") => Callable::Bytes,
            (module, name) => {
                let name = format!("{}.{}", String::from_utf8_lossy(module), String::from_utf8_lossy(name));
                return Err(PickleError::Callable { offset: self.opcode_offset, name });
            }
        };
        self.push(Value::Callable(callable))
    }

    /// Stands in for the call: makes the value that the callable would have returned.
    fn reduce(&mut self) -> Result<(), PickleError> {
        let pair = self.pop_many(2)?;
        let (Value::Callable(callable), Value::Tuple(arguments)) = (self.value(pair[0]), self.value(pair[1]))
        else {
            return Err(self.malformed("a call of what is not callable"));
        };
        let arguments: Vec<&Value<'a>> = arguments.iter().map(|&id| self.value(id)).collect();
        let result = match (callable, arguments.as_slice()) {
            (Callable::Reconstruct, [Value::Callable(Callable::NdArray), ..]) => Value::Array(None),
            (Callable::Dtype, [Value::Bytes(code), ..]) => {
                Value::Dtype(String::from_utf8_lossy(code).into_owned())
            }
            (Callable::Encode, [Value::Bytes(text), Value::Bytes(codec)]) if **codec == *b"latin1" => {
                Value::Bytes(Cow::Owned(latin1(text).ok_or_else(|| self.malformed("a text that is not latin-1"))?))
            }
            (Callable::Bytes, []) => Value::Bytes(Cow::Borrowed(&[])),
            _ => return Err(self.malformed("a call with unexpected arguments")),
        };
        self.push(result)
    }

    /// Stands in for `__setstate__`: fills an array; a dtype's byte order means nothing for single bytes.
    fn build(&mut self) -> Result<(), PickleError> {
        let state = self.pop()?;
        match self.top()? {
            Value::Dtype(_) => return Ok(()),
            Value::Array(None) => {}
            _ => return Err(self.malformed("a state for what takes none")),
        }
        // (version, shape, dtype, is Fortran order, bytes)
        let array = match self.value(state) {
            Value::Tuple(fields) => match fields[..] {
                [_, shape, dtype, fortran, bytes] => self.array(shape, dtype, fortran, bytes)?,
                _ => return Err(self.malformed("an array's state of unexpected length")),
            },
            _ => return Err(self.malformed("an array's state that is no tuple")),
        };
        *self.top()? = Value::Array(Some(array));
        Ok(())
    }

    fn array(&self, shape: Id, dtype: Id, fortran: Id, bytes: Id) -> Result<Array, PickleError> {
        match (self.value(dtype), self.value(fortran)) {
            (Value::Dtype(code), Value::Integer(0)) if code == "u1" => {}
            (Value::Dtype(code), Value::Integer(0)) => {
                return Err(PickleError::ArrayType { found: code.clone() });
            }
            (Value::Dtype(code), _) => {
                return Err(PickleError::ArrayType { found: format!("{code} in Fortran order") });
            }
            _ => return Err(self.malformed("an array without a type")),
        }
        let shape = self.integers(shape).ok_or_else(|| self.malformed("an array without a shape"))?;
        Ok(Array { shape, bytes })
    }

    /// The items of a list or tuple that holds integers only.
    fn integers(&self, id: Id) -> Option<Vec<i64>> {
        let (Value::List(items) | Value::Tuple(items)) = self.value(id) else { return None };
        items
            .iter()
            .map(|&item| match self.value(item) {
                Value::Integer(n) => Some(*n),
                _ => None,
            })
            .collect()
    }
}

/// Python's `text.encode("latin1")`, the text being UTF-8 here.
fn latin1(text: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(text).ok()?.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
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
        p.extend(b"(K\x01K\x01K\x03\x86q\x0ecnumpy\ndtype\nq\x0fX\x02\x00\x00\x00u1q\x10\x89\x88\x87q\x11Rq\x12");
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
        p.extend(b"(K\x01K\x01K\x03\x86\x94h\x05\x8c\x05dtype\x94\x93\x94\x8c\x02u1\x94\x89\x88\x87\x94R\x94");
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
