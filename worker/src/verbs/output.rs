//! A verb's answer: a safetensors file that is whole or not there.

use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::TensorView;
use tempfile::NamedTempFile;

use super::VerbError;

/// Writes `tensors` beside `path`, then renames.
pub(super) fn write(path: &Path, tensors: Vec<(&str, TensorView<'_>)>) -> Result<(), VerbError> {
    let bytes = safetensors::serialize(tensors, None)?;
    place(path, &bytes).map_err(|source| VerbError::Write { path: path.to_owned(), source })
}

fn place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A name without a folder has an empty parent, which is no folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut aside = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    aside.write_all(bytes)?;
    aside.as_file().sync_all()?;
    aside.persist(path).map_err(|error| error.error)?;
    Ok(())
}
