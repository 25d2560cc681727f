//! Pictures made here and by PIL: each format, each kind of colour, each way of being broken, and resizing by digest.

use std::io::Cursor;

use image::{DynamicImage, ImageBuffer, Luma, LumaA, Rgba};
use sha2::{Digest, Sha256};

use super::*;

/// PIL's, of one colour: cyan 0, magenta 128, yellow 255, black 0, the numbers inverted as Adobe has it.
const CMYK_JPEG: &str = "ffd8ffee000e41646f626500640000000000ffdb004300010101010101010101010101010101010101010101010101010101\
    01010101010101010101010101010101010101010101010101010101010101010101010101ffc00014080008000804431100\
    4d11005911004b1100ffc4001600010101000000000000000000000000000a040bffc4001410010000000000000000000000\
    0000000000ffda000e0443004d0059004b00003f007f09d9ff009fc3ffd9";

/// PIL's, of palette entry 0, which is (200, 10, 20), in one bit a pixel.
const PALETTE_PNG: &str = "89504e470d0a1a0a0000000d49484452000000080000000401030000008903ecb300000006504c5445c80a14000000cd17fd\
    7f0000000b4944415478da63608000000008000124fc04720000000049454e44ae426082";

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn plain(width: u32, height: u32, colour: [u8; 3]) -> DynamicImage {
    RgbImage::from_pixel(width, height, Rgb(colour)).into()
}

fn planes(bytes: &[u8], size: u32) -> Result<Vec<u8>, PictureError> {
    Picture::open(bytes)?.planes(size)
}

/// The one colour of a picture's planes, each value at most `off` beside the wanted one.
#[track_caller]
fn assert_colour(bytes: &[u8], wanted: [u8; 3], off: u8) {
    let planes = planes(bytes, 4).unwrap();
    assert_eq!(planes.len(), 3 * 16);
    for (plane, wanted) in planes.chunks_exact(16).zip(wanted) {
        assert!(plane.iter().all(|value| value.abs_diff(wanted) <= off), "{plane:?} is not {wanted}");
    }
}

const FORMATS: [ImageFormat; 7] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::Gif,
    ImageFormat::WebP,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
    ImageFormat::Pnm,
];

#[test]
fn every_format_gives_its_colours_whatever_the_file_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("picture.jpg");
    for format in FORMATS {
        let bytes = encoded(&plain(9, 7, [200, 60, 20]), format);
        assert_colour(&bytes, [200, 60, 20], if format == ImageFormat::Jpeg { 2 } else { 0 });
        fs::write(&path, &bytes).unwrap();
        assert_eq!(decode(&path, 4).unwrap(), planes(&bytes, 4).unwrap(), "{format:?}");
    }
}

#[test]
fn grey_palette_and_16_bit_pictures_become_rgb() {
    let grey = ImageBuffer::from_pixel(5, 5, Luma([90u8]));
    assert_colour(&encoded(&grey.clone().into(), ImageFormat::Png), [90; 3], 0);
    assert_colour(&encoded(&grey.into(), ImageFormat::Jpeg), [90; 3], 1);
    assert_colour(&hex::decode(PALETTE_PNG).unwrap(), [200, 10, 20], 0);
    let deep = ImageBuffer::from_pixel(5, 5, Luma([90u16 * 257]));
    assert_colour(&encoded(&deep.into(), ImageFormat::Png), [90; 3], 0);
    let deep = ImageBuffer::from_pixel(5, 5, Rgb([200u16 * 257, 60 * 257 + 100, 20 * 257]));
    assert_colour(&encoded(&deep.into(), ImageFormat::Png), [200, 60, 20], 0);
}

#[test]
fn what_is_transparent_lies_over_white() {
    let half = ImageBuffer::from_pixel(5, 5, Rgba([200u8, 0, 100, 51]));
    assert_colour(&encoded(&half.into(), ImageFormat::Png), [244, 204, 224], 0);
    let nothing = ImageBuffer::from_pixel(5, 5, LumaA([0u8, 0]));
    assert_colour(&encoded(&nothing.into(), ImageFormat::Png), [255; 3], 0);
    let deep = ImageBuffer::from_pixel(5, 5, Rgba([0u16, 0, 0, u16::MAX]));
    assert_colour(&encoded(&deep.into(), ImageFormat::Png), [0; 3], 0);
}

#[test]
fn cmyk_jpegs_give_the_colours_that_pil_gives() {
    assert_colour(&hex::decode(CMYK_JPEG).unwrap(), [255, 127, 0], 1);
}

/// By digests of what `CenterCrop(size)(Resize(size)(picture))` of torchvision 0.26 with Pillow 13 gives.
#[test]
fn resizing_gives_the_bytes_that_torchvision_gives() {
    for (width, height, size, wanted) in [
        (37, 23, 16, "3d9a7ca212f7c31c"),
        (23, 61, 16, "6ad90d9316081a8b"),
        (9, 5, 32, "5dc9fb9191b3ebec"),
        (16, 17, 16, "1401bdc03652e10d"),
        (300, 7, 8, "4e31c36581ff04bf"),
    ] {
        let image = RgbImage::from_fn(width, height, |x, y| {
            let values = [x * 31 + y * 17 + x * y, x * x + y * 7, y * y * 3 + x * 5];
            Rgb(values.map(|value| (value % 256) as u8))
        });
        let planes = resize::middle_square(&image, size);
        let digest = hex::encode(Sha256::digest(&planes));
        assert_eq!(digest[..16], *wanted, "{width}x{height} to {size}");
    }
}

#[test]
fn the_middle_of_the_longer_side_is_kept() {
    let wide = RgbImage::from_fn(90, 30, |x, _| Rgb([[9, 9, 9], [200, 0, 0], [9, 9, 9]][x as usize / 30]));
    assert_eq!(
        planes(&encoded(&wide.into(), ImageFormat::Png), 30).unwrap(),
        [vec![200; 900], vec![0; 1800]].concat()
    );
    let line = encoded(&plain(SIDE_MAX, 1, [1, 2, 3]), ImageFormat::Png);
    assert_eq!(planes(&line, 64).unwrap().len(), 3 * 64 * 64);
}

/// A JPEG file whose EXIF data says how to turn it.
fn turned(image: &DynamicImage, orientation: u8) -> Vec<u8> {
    let jpeg = encoded(image, ImageFormat::Jpeg);
    let mut exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    [&jpeg[..2], &exif, &jpeg[2..]].concat()
}

#[test]
fn pictures_are_turned_as_their_exif_data_says() {
    // Dark on the left, bright on the right.
    let image = RgbImage::from_fn(32, 32, |x, _| Rgb([if x < 16 { 10 } else { 240 }; 3])).into();
    let corners = |orientation: u8| {
        let planes = planes(&turned(&image, orientation), 32).unwrap();
        [0, 31, 31 * 32].map(|at| planes[at] > 128) // top left, top right, bottom left
    };
    assert_eq!(corners(1), [false, true, false]);
    assert_eq!(corners(2), [true, false, true], "mirrored");
    assert_eq!(corners(3), [true, false, true], "upside down");
    assert_eq!(corners(6), [false, false, true], "turned clockwise");
    assert_eq!(corners(8), [true, true, false], "turned counterclockwise");
    assert_eq!(corners(200), [false, true, false], "nonsense is passed over");
}

#[test]
fn broken_files_are_told_apart_each_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let told = |bytes: &[u8]| {
        let path = dir.path().join("broken.jpg");
        fs::write(&path, bytes).unwrap();
        let text = decode(&path, 8).unwrap_err().to_string();
        assert!(!text.contains('\n') && !text.is_empty(), "{text}");
        text
    };
    assert_eq!(told(b""), "it is empty (0 bytes)");
    assert!(told(b"<html>\n404 not found</html>").starts_with("it holds no picture"));
    assert!(told(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").contains("heic is not supported"));
    assert_eq!(decode(dir.path(), 8).unwrap_err().to_string(), "it is no file");
    let missing = decode(&dir.path().join("missing.jpg"), 8).unwrap_err().to_string();
    assert!(missing.starts_with("it cannot be read: "), "{missing}");
}

#[test]
fn a_file_that_is_cut_short_is_no_picture_in_any_format() {
    let image =
        RgbImage::from_fn(40, 30, |x, y| Rgb([x, y, x * y].map(|value| (value * 7 % 256) as u8))).into();
    for format in FORMATS {
        let whole = encoded(&image, format);
        assert!(planes(&whole, 8).is_ok(), "{format:?}");
        for length in [1, 2, 3].map(|quarters| whole.len() * quarters / 4) {
            assert!(planes(&whole[..length], 8).is_err(), "{format:?}, {length} of {} bytes", whole.len());
        }
    }
    let jpeg = encoded(&image, ImageFormat::Jpeg);
    let error = planes(&jpeg[..jpeg.len() - 2], 8).unwrap_err().to_string();
    assert_eq!(error, "it is cut short");
}

/// A PNG file that claims these dimensions; its checksum is right.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut png = encoded(&plain(1, 1, [0; 3]), ImageFormat::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = !0_u32;
    for byte in &png[12..29] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    png[29..33].copy_from_slice(&(!crc).to_be_bytes());
    png
}

#[test]
fn huge_pictures_are_refused_before_memory_is_taken_for_them() {
    assert!(planes(&claiming(1, 1), 8).is_ok());
    for (width, height) in [(SIDE_MAX + 1, 1), (1, 2_000_000_000), (16_000, 16_000)] {
        let error = planes(&claiming(width, height), 8).unwrap_err();
        assert!(matches!(error, PictureError::TooLarge { .. }), "{width}x{height}: {error}");
        assert!(error.to_string().contains(&format!("{width}x{height}")), "{error}");
    }
    assert!(planes(&claiming(0, 5), 8).is_err());
}

#[test]
fn damaged_files_end_in_an_error_or_in_pixels_and_never_in_a_panic() {
    let image =
        RgbImage::from_fn(24, 20, |x, y| Rgb([x, y, x ^ y].map(|value| (value * 11 % 256) as u8))).into();
    for format in FORMATS {
        let whole = encoded(&image, format);
        for at in 0..whole.len().min(1_500) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            damaged[at / 2] = damaged[at / 2].wrapping_add(101);
            if let Ok(planes) = planes(&damaged, 8) {
                assert_eq!(planes.len(), 3 * 64);
            }
        }
    }
}
