//! Pictures of no data set, decoded as a folder's are: in parallel, within the same memory.

use std::path::PathBuf;

use super::memory::MemoryBudget;
use super::parallel;
use crate::data::pictures::{self, Picture, PictureError};

/// Decodes `files` into `[3, size, size]` bytes each, and calls `receive` with each one's number and what became of it,
/// in any order. The first error of `receive` ends it.
///
/// # Errors
///
/// Those of `receive`.
pub fn decode_all<E>(
    files: &[PathBuf],
    size: u32,
    receive: impl FnMut(usize, Result<Vec<u8>, PictureError>) -> Result<(), E>,
) -> Result<(), E> {
    let memory = MemoryBudget::new();
    let decode = |number: usize| {
        let bytes = pictures::read(&files[number])?;
        let picture = Picture::open(&bytes)?;
        let _taken = memory.take(picture.memory_bytes());
        picture.planes(size)
    };
    parallel::for_each(files.len(), decode, receive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_decoded_as_it_would_be_alone() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..9).map(|number| folder.path().join(format!("{number}.png"))).collect();
        for (number, file) in (0_u8..).zip(&files).skip(1) {
            image::RgbImage::from_pixel(9, 12, image::Rgb([number, 2, 3])).save(file).unwrap();
        }
        let mut seen = vec![None; files.len()];
        let outcome = decode_all(&files, 8, |number, picture| {
            seen[number] = Some(picture.ok());
            Ok::<_, ()>(())
        });
        assert_eq!(outcome, Ok(()));
        for (file, picture) in files.iter().zip(&seen) {
            assert_eq!(picture, &Some(pictures::decode(file, 8).ok()), "{}", file.display());
        }
        assert!(seen[0] == Some(None) && seen[1].is_some());
        assert_eq!(decode_all(&files, 8, |_, _| Err("enough")), Err("enough"));
    }
}
