//! Lines of comma-separated values (RFC 4180) from words that people chose: names of classes and files.

use std::fmt::Write as _;

/// One line, its end included.
pub fn row<C: AsRef<str>>(cells: impl IntoIterator<Item = C>) -> String {
    let mut line = String::new();
    for (index, cell) in cells.into_iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        let cell = cell.as_ref();
        let is_plain = !cell.contains([',', '"', '\n', '\r']) && cell.trim() == cell;
        // Writing to a String cannot fail.
        let _ =
            if is_plain { line.write_str(cell) } else { write!(line, "\"{}\"", cell.replace('"', "\"\"")) };
    }
    line.push('\n');
    line
}
