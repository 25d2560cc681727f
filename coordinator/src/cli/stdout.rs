//! What commands print for whoever reads on: results, to stdout.

use std::io::{self, Write as _};

use super::{CliError, code};

/// Prints a text as it is; a reader that has seen enough (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::new(code::FAILED, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
