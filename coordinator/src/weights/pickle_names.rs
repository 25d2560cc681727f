//! What a pickle names: its functions and classes, read from the opcodes without carrying any of them out.
//!
//! A pickle is a program, and `torch.load` without `weights_only` runs it. Nothing here or in `pytorch-reader` ever
//! does, so a hostile file cannot do harm; but one that names `os.system` is no checkpoint, and reading past
//! that in silence would hand somebody a file that the next program falls for. So every name is looked at first,
//! whatever the file does with it: also one that is popped off the stack again, which the result does not show.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use super::harmless;

/// Why a pickle is not read on.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is none, or ends early.
    Io(io::Error),
    /// It names this, or gets at a name in a roundabout way, which no writer of weights does.
    Code(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Longer texts are no names of modules.
const TEXT_BYTES_MAX: u64 = 4096;

/// Reads one pickle up to its end. Tells whether it holds a model's layers: whole objects, and not their numbers alone.
pub(super) fn scan(reader: &mut impl BufRead) -> Result<bool, Refusal> {
    let mut scan = Scan::default();
    loop {
        let mut opcode = [0];
        reader.read_exact(&mut opcode)?;
        if !scan.step(opcode[0], reader)? {
            return Ok(scan.has_layers);
        }
    }
}

/// Just enough of a pickle's state to know what `STACK_GLOBAL` takes: the last two texts and the remembered ones.
#[derive(Default)]
struct Scan {
    has_layers: bool,
    /// The values on top of the stack, as far as nothing but texts was pushed since: at most two.
    top: Vec<Rc<str>>,
    /// Texts by their number in the memo; others are not remembered. Shared, so that a file which stores one text many
    /// times costs no more memory than its own size.
    memo: BTreeMap<u64, Rc<str>>,
    /// How many values were numbered; `MEMOIZE` takes the next number.
    memoized: u64,
}

impl Scan {
    /// Whether the pickle goes on.
    fn step(&mut self, opcode: u8, reader: &mut impl BufRead) -> Result<bool, Refusal> {
        match opcode {
            b'.' => return Ok(false),
            b'c' | b'i' => {
                let (module, name) = (line(reader)?, line(reader)?);
                self.name(&module, &name)?;
                self.top.clear();
            }
            0x93 => {
                let (Some(name), Some(module)) = (self.top.pop(), self.top.pop()) else {
                    return Err(Refusal::Code("something that it hides".to_owned()));
                };
                self.name(&module, &name)?;
            }
            0x82..=0x84 => return Err(Refusal::Code("an entry of copyreg's registry".to_owned())),
            // Memo: reading a text back, or remembering the one on top.
            b'h' => self.recall(number::<1>(reader)?),
            b'j' => self.recall(number::<4>(reader)?),
            b'g' => self.recall(line_number(reader)?),
            b'q' => self.remember(number::<1>(reader)?),
            b'r' => self.remember(number::<4>(reader)?),
            b'p' => self.remember(line_number(reader)?),
            0x94 => self.remember(self.memoized),
            // Texts.
            b'U' | 0x8c => self.text(1, reader)?,
            b'T' | b'X' => self.text(4, reader)?,
            0x8d => self.text(8, reader)?,
            b'S' | b'V' => {
                let text = line(reader)?;
                self.push(text.trim_matches(['\'', '"']).into());
            }
            // Frames and the protocol's number change nothing.
            0x80 => drop(number::<1>(reader)?),
            0x95 => drop(number::<8>(reader)?),
            _ => {
                self.top.clear();
                pass_over(opcode, reader)?;
            }
        }
        Ok(true)
    }

    fn name(&mut self, module: &str, name: &str) -> Result<(), Refusal> {
        self.has_layers |= harmless::is_layer(module);
        if harmless::is_harmless(module, name) {
            Ok(())
        } else {
            Err(Refusal::Code(format!("{module}.{name}")))
        }
    }

    fn text(&mut self, length_bytes: usize, reader: &mut impl BufRead) -> io::Result<()> {
        let length = length(length_bytes, reader)?;
        if length > TEXT_BYTES_MAX {
            self.top.clear();
            return skip(length, reader);
        }
        let mut bytes = Vec::new();
        reader.take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.push(String::from_utf8_lossy(&bytes).into());
        Ok(())
    }

    fn push(&mut self, text: Rc<str>) {
        if self.top.len() == 2 {
            self.top.remove(0);
        }
        self.top.push(text);
    }

    fn recall(&mut self, index: u64) {
        match self.memo.get(&index).cloned() {
            Some(text) => self.push(text),
            None => self.top.clear(),
        }
    }

    fn remember(&mut self, index: u64) {
        self.memoized += 1;
        match self.top.last() {
            Some(text) => drop(self.memo.insert(index, Rc::clone(text))),
            None => drop(self.memo.remove(&index)),
        }
    }
}

/// Reads the argument of an opcode that is neither a name nor a text.
fn pass_over(opcode: u8, reader: &mut impl BufRead) -> io::Result<()> {
    match opcode {
        b'('
        | b'0'..=b'2'
        | b'N'
        | b'Q'
        | b'R'
        | b'a'
        | b'b'
        | b'd'
        | b'e'
        | b'l'
        | b'o'
        | b's'
        | b't'
        | b'u'
        | b'}'
        | b']'
        | b')'
        | 0x81
        | 0x85..=0x89
        | 0x8f..=0x92
        | 0x97
        | 0x98 => Ok(()),
        b'F' | b'I' | b'L' | b'P' => line(reader).map(drop),
        b'K' => skip(1, reader),
        b'M' => skip(2, reader),
        b'J' => skip(4, reader),
        b'G' => skip(8, reader),
        b'C' | 0x8a => length(1, reader).and_then(|length| skip(length, reader)),
        b'B' | 0x8b => length(4, reader).and_then(|length| skip(length, reader)),
        0x8e | 0x96 => length(8, reader).and_then(|length| skip(length, reader)),
        _ => Err(malformed("it begins like a pickle and is none")),
    }
}

fn number<const BYTES: usize>(reader: &mut impl Read) -> io::Result<u64> {
    length(BYTES, reader)
}

/// A little-endian number.
fn length(bytes: usize, reader: &mut impl Read) -> io::Result<u64> {
    let mut buffer = [0; 8];
    reader.read_exact(&mut buffer[..bytes])?;
    Ok(u64::from_le_bytes(buffer))
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = Vec::new();
    reader.take(TEXT_BYTES_MAX).read_until(b'\n', &mut bytes)?;
    match bytes.pop() {
        Some(b'\n') => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        _ => Err(malformed("a line in it does not end")),
    }
}

fn line_number(reader: &mut impl BufRead) -> io::Result<u64> {
    line(reader)?.trim().parse().map_err(|_| malformed("a number in it does not read"))
}

fn skip(bytes: u64, reader: &mut impl Read) -> io::Result<()> {
    match io::copy(&mut reader.take(bytes), &mut io::sink())? {
        skipped if skipped == bytes => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn malformed(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests;
