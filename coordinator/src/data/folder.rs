//! A person's own pictures, a folder for each class: found, checked, decoded in parallel, stored once.
//!
//! Decoding takes minutes where reading takes seconds, so a small file in the cache says under which digest the
//! pictures were stored. It is found by the contents of every picture and all that the result depends on, never by
//! names and dates alone: whoever replaces a picture trains on the new one.
//!
//! A folder may hold more than the memory does. Each picture is written to a file without a name as soon as it is
//! decoded, and copied from there into the canonical file, so what is held is a few pictures per thread.

mod broken;
mod decode;
mod index;
mod layout;
mod loose;
mod memory;
mod parallel;
mod split;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use broken::Broken;
pub use loose::decode_all;

use super::canonical::{Contents, Part};
use super::{BlobCache, DataError, DataName, DataProgress, DataRequest, SplitName};
use decode::Spool;
use index::{Index, Key};
use layout::Layout;

/// What a folder is to be made into.
pub(super) struct FolderRequest<'a> {
    path: &'a Path,
    /// Pixels of a side.
    image_size: u32,
    test_fraction: f64,
    skip_broken: bool,
    seed: u64,
}

impl<'a> FolderRequest<'a> {
    pub(super) fn of(request: &DataRequest, path: &'a Path) -> Self {
        Self {
            path,
            image_size: request.image_size,
            test_fraction: request.test_fraction,
            skip_broken: request.skip_broken,
            seed: request.seed,
        }
    }
}

/// Puts the folder's pictures into the cache, unless they are there already, and returns their digest and what a
/// person should know.
pub(super) fn store(
    request: &FolderRequest<'_>,
    cache: &BlobCache,
    progress: &dyn DataProgress,
) -> Result<(String, Vec<String>), DataError> {
    let layout = Layout::find(request.path)?;
    let contents = decode::hash(&layout, progress)?;
    let key = Key::of(request, &layout, &contents);
    let index = match Index::find(&key, cache)? {
        Some(index) => {
            checked(&index.broken, request, &layout)?;
            index
        }
        None => decode_and_store(request, &layout, &contents, &key, cache, progress)?,
    };
    let notes = notes(request, &layout, &index);
    Ok((index.digest, notes))
}

fn decode_and_store(
    request: &FolderRequest<'_>,
    layout: &Layout,
    contents: &[decode::Content],
    key: &Key,
    cache: &BlobCache,
    progress: &dyn DataProgress,
) -> Result<Index, DataError> {
    let (spool, broken) = Spool::decode(layout, contents, request.image_size, cache.dir(), progress)?;
    checked(&broken, request, layout)?;
    let rows = split::rows(request, layout, &broken)?;
    let labels = |split: SplitName| -> Vec<u16> {
        rows.of(split).iter().map(|&row| layout.pictures[row].class).collect()
    };
    let (train_labels, test_labels) = (labels(SplitName::Train), labels(SplitName::Test));
    let (train_images, test_images) = (spool.rows(&rows.train), spool.rows(&rows.test));
    let contents = Contents {
        name: DataName::Folder,
        classes: &layout.classes,
        image_size: request.image_size,
        train: Part { images: &train_images, labels: &train_labels },
        test: Part { images: &test_images, labels: &test_labels },
    };
    let index =
        Index { digest: contents.store(cache)?, train: train_labels.len(), test: test_labels.len(), broken };
    index.write(key, cache)?;
    Ok(index)
}

fn checked(broken: &[Broken], request: &FolderRequest<'_>, layout: &Layout) -> Result<(), DataError> {
    if broken.is_empty() || request.skip_broken {
        return Ok(());
    }
    Err(DataError::BrokenPictures {
        folder: request.path.to_owned(),
        total: layout.pictures.len(),
        broken: broken.to_vec(),
    })
}

fn notes(request: &FolderRequest<'_>, layout: &Layout, index: &Index) -> Vec<String> {
    let mut notes = layout.notes();
    if layout.test_folder.is_none() {
        notes.push(format!(
            "{} of {} pictures are the test split: {} of each class, drawn by the seed",
            index.test,
            index.train + index.test,
            request.test_fraction
        ));
    }
    if !index.broken.is_empty() {
        let number = index.broken.len();
        let pictures = if number == 1 { "picture" } else { "pictures" };
        notes.push(format!("skipped {number} broken {pictures}:{}", Broken::lines(&index.broken)));
    }
    notes
}
