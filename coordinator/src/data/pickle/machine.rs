//! The stack machine itself: opcodes in, a graph of values out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::PickleError;

/// A batch of 10,000 takes about 40,000 opcodes. Since an opcode makes at most one value, mark or memo entry,
/// about 100 bytes each, this bounds the memory as well.
pub(super) const OPCODES_MAX: usize = 4_000_000;

/// A value's number.
pub(super) type Id = u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Callable {
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
pub(super) struct Array {
    pub(super) shape: Vec<i64>,
    pub(super) bytes: Id,
}

#[derive(Debug)]
pub(super) enum Value<'a> {
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
pub(super) struct Machine<'a> {
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
    pub(super) fn new(pickle: &'a [u8]) -> Self {
        Self { pickle, ..Self::default() }
    }

    /// Runs the whole program and returns what it leaves on top of the stack.
    pub(super) fn run(&mut self) -> Result<Id, PickleError> {
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

            b'N' => self.push(Value::None),                    // NONE
            0x88 => self.push(Value::Integer(1)),              // NEWTRUE
            0x89 => self.push(Value::Integer(0)),              // NEWFALSE
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

    pub(super) fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    /// Moves a value out, so that a whole batch need not be copied.
    pub(super) fn take_value(&mut self, id: Id) -> Value<'a> {
        std::mem::replace(&mut self.values[id as usize], Value::None)
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
                Value::Bytes(Cow::Owned(
                    latin1(text).ok_or_else(|| self.malformed("a text that is not latin-1"))?,
                ))
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
    pub(super) fn integers(&self, id: Id) -> Option<Vec<i64>> {
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
