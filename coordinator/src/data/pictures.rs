//! A picture file as a network wants it: planes R, G, B of a square, from whatever a camera or a program wrote.
//!
//! The content decides which format a file is in, never its name. What torchvision does with PIL's picture,
//! `Resize(size)` and `CenterCrop(size)`, is done here to the bit (see `resize`); beyond it, a picture is turned as
//! its EXIF data says, and what is transparent lies over white. A file that is cut short is an error, although
//! some decoders would fill the rest with grey: such pictures would be learned.

mod jpeg;
mod resize;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::error::{LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb, RgbImage};

/// Longer sides are refused: no camera makes them, and a file of a few bytes can claim any.
pub const SIDE_MAX: u32 = 16_384;

/// More bytes of pixels, as decoded, are refused.
pub const DECODED_BYTES_MAX: u64 = 512 << 20;

/// Larger files are not even read.
pub const FILE_BYTES_MAX: u64 = 512 << 20;

/// What files of pictures end in, in lower case; torchvision's `ImageFolder` looks for the same, but for GIF.
pub const EXTENSIONS: [&str; 10] = ["jpg", "jpeg", "png", "ppm", "pgm", "bmp", "tif", "tiff", "webp", "gif"];

/// Whether a file is called like a picture; what it holds is another question.
pub fn is_called_so(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&&*extension)
}

/// Changes with what this module makes of a file, so that pictures of an older version are not taken for its own.
pub(super) const VERSION: &str = "pictures 1";

/// Why a file gives no picture. Its text is one line that goes on from "FILE: ".
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("it is no file")]
    NoFile,
    #[error("it is empty (0 bytes)")]
    Empty,
    #[error("its {0} bytes are more than {FILE_BYTES_MAX}")]
    FileTooLarge(u64),
    #[error("it holds no picture, whatever its name says: JPEG, PNG, GIF, WebP, BMP, TIFF and PNM are known")]
    NoPicture,
    #[error("{0} is not supported: JPEG, PNG, GIF, WebP, BMP, TIFF and PNM are")]
    Unsupported(String),
    #[error("its {width}x{height} pixels are beyond the limit of {SIDE_MAX} a side and {} MiB decoded", DECODED_BYTES_MAX >> 20)]
    TooLarge { width: u32, height: u32 },
    #[error("it has no pixels ({width}x{height})")]
    NoPixels { width: u32, height: u32 },
    #[error("it is cut short")]
    Truncated,
    #[error("it is damaged: {0}")]
    Damaged(String),
}

impl PictureError {
    fn from_image(error: &ImageError) -> Self {
        match error {
            ImageError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Truncated,
            ImageError::Unsupported(error) => Self::Unsupported(one_line(&error.to_string())),
            error => Self::Damaged(one_line(&error.to_string())),
        }
    }
}

/// The text with control characters, line ends among them, as blanks, and not without end.
fn one_line(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    let shown: String = text.chars().take(CHARACTERS_MAX).collect();
    shown.replace(char::is_control, " ").trim_end().to_owned()
}

/// Decodes a file into `size` x `size` pixels: `[3, size, size]` bytes, planes R, G, B.
///
/// The shorter side becomes `size` (bilinear with antialiasing) and the middle of the longer one is cut out.
/// Grey, palette, CMYK and 16-bit pictures become RGB; animations give their first frame.
///
/// # Errors
///
/// [`PictureError`]: an unreadable, broken or unknown file, and one beyond the limits.
pub fn decode(path: &Path, size: u32) -> Result<Vec<u8>, PictureError> {
    Picture::open(&read(path)?)?.planes(size)
}

/// Opens a file that may hold a picture, and tells its length.
///
/// # Errors
///
/// Unreadable, empty, too large, or no regular file: reading a pipe would never end.
pub(super) fn open(path: &Path) -> Result<(impl Read + use<>, u64), PictureError> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(PictureError::NoFile);
    }
    match metadata.len() {
        0 => Err(PictureError::Empty),
        bytes if bytes > FILE_BYTES_MAX => Err(PictureError::FileTooLarge(bytes)),
        bytes => Ok((File::open(path)?.take(FILE_BYTES_MAX), bytes)),
    }
}

/// The bytes of a file that may hold a picture.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, PictureError> {
    let (mut file, size_bytes) = open(path)?;
    let mut bytes = Vec::with_capacity(size_bytes as usize);
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A picture whose header has been read, and which keeps the limits: its pixels can be had.
pub(super) struct Picture<'a> {
    decoder: Box<dyn ImageDecoder + 'a>,
}

impl<'a> Picture<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, PictureError> {
        if bytes.is_empty() {
            return Err(PictureError::Empty);
        }
        let format = format(bytes)?;
        if format == ImageFormat::Jpeg && !jpeg::reaches_its_end(bytes) {
            return Err(PictureError::Truncated);
        }
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        // For what decoders keep beside the picture. Its dimensions are checked below, where they can be told.
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(DECODED_BYTES_MAX);
        reader.limits(limits);
        let decoder = reader.into_decoder().map_err(|error| PictureError::from_image(&error))?;
        let (width, height) = decoder.dimensions();
        if width == 0 || height == 0 {
            return Err(PictureError::NoPixels { width, height });
        }
        if width.max(height) > SIDE_MAX || decoder.total_bytes() > DECODED_BYTES_MAX {
            return Err(PictureError::TooLarge { width, height });
        }
        Ok(Self { decoder: Box::new(decoder) })
    }

    /// About what decoding takes at its peak: the pixels as decoded and turned, the same as RGB, and what a
    /// progressive JPEG is gathered in.
    pub(super) fn memory_bytes(&self) -> u64 {
        let (width, height) = self.decoder.dimensions();
        2 * self.decoder.total_bytes() + 6 * u64::from(width) * u64::from(height)
    }

    /// `[3, size, size]` bytes.
    pub(super) fn planes(mut self, size: u32) -> Result<Vec<u8>, PictureError> {
        let (width, height) = self.decoder.dimensions();
        // EXIF data that makes no sense is no reason to refuse a picture.
        let orientation = self.decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(self.decoder).map_err(|error| match error {
            ImageError::Limits(limit) if is_memory(&limit) => PictureError::TooLarge { width, height },
            error => PictureError::from_image(&error),
        })?;
        image.apply_orientation(orientation);
        Ok(resize::middle_square(&rgb(image), size))
    }
}

fn is_memory(error: &LimitError) -> bool {
    matches!(error.kind(), LimitErrorKind::InsufficientMemory | LimitErrorKind::DimensionError)
}

fn format(bytes: &[u8]) -> Result<ImageFormat, PictureError> {
    // HEIF, AVIF and their kin: files that telephones write, and that are often renamed to .jpg.
    if let Some([b'f', b't', b'y', b'p', brand @ ..]) = bytes.get(4..12) {
        let mut name = "the format ".to_owned();
        let _ = write!(name, "{}", brand.escape_ascii());
        return Err(PictureError::Unsupported(name.trim_end().to_owned()));
    }
    image::guess_format(bytes).map_err(|_| PictureError::NoPicture)
}

/// Three channels of eight bits; what is transparent shows white behind it.
fn rgb(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0.map(u32::from);
        // A mean of two bytes, rounded, is one.
        Rgb([red, green, blue].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    })
}
