//! From files to rows of pixels: every picture is hashed, then decoded into a file that nobody else sees.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::broken::Broken;
use super::layout::Layout;
use super::memory::MemoryBudget;
use super::parallel;
use crate::data::canonical::Images;
use crate::data::pictures::{self, Picture, PictureError};
use crate::data::{DataError, DataProgress};

/// What a picture's file holds: its sha256, or why it cannot be read.
pub(super) type Content = Result<[u8; 32], PictureError>;

/// The bar moves at most so often: a call per picture would be most of the work for small ones.
const PICTURES_PER_REPORT: u64 = 50;

/// Counts towards the whole.
struct Counter<'a> {
    progress: &'a dyn DataProgress,
    done: u64,
}

impl<'a> Counter<'a> {
    fn begin(progress: &'a dyn DataProgress, work: &str, total: usize) -> Self {
        progress.begin_pictures(work, total as u64);
        Self { progress, done: 0 }
    }

    fn one_more(&mut self) {
        self.done += 1;
        if self.done.is_multiple_of(PICTURES_PER_REPORT) {
            self.progress.advance_pictures(self.done);
        }
    }
}

impl Drop for Counter<'_> {
    fn drop(&mut self) {
        self.progress.end_pictures();
    }
}

/// Reads every picture once, in the order of `layout`.
pub(super) fn hash(layout: &Layout, progress: &dyn DataProgress) -> Result<Vec<Content>, DataError> {
    let mut contents: Vec<Content> = layout.pictures.iter().map(|_| Err(PictureError::Empty)).collect();
    let mut counter = Counter::begin(progress, "reading pictures", contents.len());
    let work = |number: usize| {
        let (mut file, _) = pictures::open(&layout.path_of(number))?;
        let mut hasher = Sha256::new();
        io::copy(&mut file, &mut hasher)?;
        Ok(hasher.finalize().into())
    };
    parallel::for_each(contents.len(), work, |number, content| {
        contents[number] = content;
        counter.one_more();
        Ok::<_, DataError>(())
    })?;
    Ok(contents)
}

/// What became of a picture.
enum Decoded {
    Planes(Vec<u8>),
    Broken(PictureError),
    /// Its bytes are not those that were hashed.
    Changed,
}

/// Pictures as `[3, S, S]` bytes in a file without a name, row by row in the layout's order; rows of broken ones hold
/// nothing.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    image_bytes: usize,
}

/// Some of a spool's rows, in an order of their own.
#[derive(Debug)]
pub(super) struct SpoolRows<'a> {
    spool: &'a Spool,
    rows: &'a [usize],
}

impl Spool {
    /// Decodes all pictures, and returns the broken ones beside, in order. The file takes room in `folder`.
    pub(super) fn decode(
        layout: &Layout,
        contents: &[Content],
        image_size: u32,
        folder: &Path,
        progress: &dyn DataProgress,
    ) -> Result<(Self, Vec<Broken>), DataError> {
        let file = tempfile::tempfile_in(folder).map_err(DataError::io("write in", folder))?;
        let image_bytes = 3 * image_size as usize * image_size as usize;
        let mut spool = Self { file, image_bytes };
        let mut broken = Vec::new();
        let mut counter = Counter::begin(progress, "decoding pictures", contents.len());
        let memory = MemoryBudget::new();
        let work = |number: usize| match &contents[number] {
            Ok(digest) => decode_one(&layout.path_of(number), digest, image_size, &memory),
            // It is opened again, because its error cannot be copied; that it opens now is a change.
            Err(_) => match pictures::open(&layout.path_of(number)) {
                Ok(_) => Decoded::Changed,
                Err(error) => Decoded::Broken(error),
            },
        };
        parallel::for_each(contents.len(), work, |number, decoded| {
            match decoded {
                Decoded::Planes(planes) => {
                    spool.write(number, &planes).map_err(DataError::io("write in", folder))?;
                }
                Decoded::Broken(error) => {
                    broken.push(Broken::new(number, layout.shown(number), &error));
                }
                Decoded::Changed => return Err(DataError::Changed { path: layout.path_of(number) }),
            }
            counter.one_more();
            Ok(())
        })?;
        broken.sort_by_key(|broken| broken.picture);
        Ok((spool, broken))
    }

    fn write(&mut self, row: usize, planes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(row as u64 * self.image_bytes as u64))?;
        self.file.write_all(planes)
    }

    pub(super) fn rows<'a>(&'a self, rows: &'a [usize]) -> SpoolRows<'a> {
        SpoolRows { spool: self, rows }
    }
}

impl Images for SpoolRows<'_> {
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut file = &self.spool.file;
        let mut image = vec![0; self.spool.image_bytes];
        for &row in self.rows {
            file.seek(SeekFrom::Start(row as u64 * self.spool.image_bytes as u64))?;
            file.read_exact(&mut image)?;
            out.write_all(&image)?;
        }
        Ok(())
    }
}

fn decode_one(path: &Path, digest: &[u8; 32], image_size: u32, memory: &MemoryBudget) -> Decoded {
    let decoded = pictures::read(path).and_then(|bytes| {
        if Sha256::digest(&bytes)[..] != digest[..] {
            return Ok(None);
        }
        let picture = Picture::open(&bytes)?;
        let _taken = memory.take(picture.memory_bytes());
        picture.planes(image_size).map(Some)
    });
    match decoded {
        Ok(Some(planes)) => Decoded::Planes(planes),
        Ok(None) => Decoded::Changed,
        Err(error) => Decoded::Broken(error),
    }
}
