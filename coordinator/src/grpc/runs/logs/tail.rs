//! Where the last lines of a file begin, read from its end.

use std::io::{self, Read, Seek, SeekFrom};

const BLOCK_BYTES: u64 = 64 << 10;

/// The place from which `lines` lines follow; the beginning where there are no more than that, or all are wanted (0).
pub(super) fn start(file: &mut (impl Read + Seek), lines: usize) -> io::Result<u64> {
    if lines == 0 {
        return Ok(0);
    }
    let size = file.seek(SeekFrom::End(0))?;
    let mut end = size;
    let mut left = lines;
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK_BYTES);
        file.seek(SeekFrom::Start(begin))?;
        block.clear();
        file.take(end - begin).read_to_end(&mut block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = begin + index as u64 + 1;
            // The one at the end of the file ends the last line.
            if after == size {
                continue;
            }
            left -= 1;
            if left == 0 {
                return Ok(after);
            }
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn tail(text: &str, lines: usize) -> &str {
        &text[start(&mut Cursor::new(text), lines).unwrap() as usize..]
    }

    #[test]
    fn the_last_lines_are_found_whether_the_last_one_has_an_end_or_not() {
        assert_eq!(tail("", 2), "");
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a\nb\nc\n", 9), "a\nb\nc\n");
        assert_eq!(tail("a\nb\nc\n", 0), "a\nb\nc\n");
        assert_eq!(tail("\n\n\n", 1), "\n");
    }

    #[test]
    fn they_are_found_over_many_blocks() {
        let text: String = (0..50_000).map(|line| format!("line {line}\n")).collect();
        assert_eq!(tail(&text, 1), "line 49999\n");
        assert_eq!(tail(&text, 40_000).lines().count(), 40_000);
        assert!(tail(&text, 40_000).starts_with("line 10000\n"));
    }
}
