//! A sheet of samples with their classes below: the quickest check that data is what one thinks it is.

use std::path::Path;

use anyhow::{Context as _, ensure};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use plotters::element::BitMapElement;
use plotters::prelude::{IntoFont as _, Text};
use plotters::style::TextStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::canvas::{Area, FONT, INK, SCALE, write_png};

/// Samples of at most this side are enlarged to about it, each pixel a square: visible, and not blurred into
/// something nicer.
const SIDE_MIN: u32 = 96;
/// Larger ones are shrunk to it: a sheet is looked through, not into.
const SIDE_MAX: u32 = 128;
const COLUMNS: u32 = 8;
/// Between pictures and around them.
const GAP: u32 = 10;
const NAME_HEIGHT: u32 = 20;
/// More would make a sheet that nobody looks through, and a picture of unbounded size.
const SAMPLES_MAX: usize = 1024;

/// Writes a PNG sheet of samples, eight in a row, each with its class's name.
///
/// `images` are `[N, 3, S, S]` bytes of any side S, `labels` N class numbers; a class without a name shows its
/// number.
///
/// # Errors
///
/// No samples, or more than 1024; lengths that do not fit together; a file that cannot be written.
pub fn write_samples(path: &Path, images: &[u8], labels: &[usize], classes: &[String]) -> anyhow::Result<()> {
    let count = labels.len();
    ensure!((1..=SAMPLES_MAX).contains(&count), "a sheet shows 1 to {SAMPLES_MAX} samples, not {count}");
    let side = side(images.len(), count).with_context(|| {
        format!("{} bytes are not {count} square samples of three channels", images.len())
    })?;
    let shown = shown_side(side);
    let cell = (shown + GAP, shown + NAME_HEIGHT + GAP);
    // At most SAMPLES_MAX, checked above.
    let columns = COLUMNS.min(count as u32);
    let rows = (count as u32).div_ceil(COLUMNS);
    let size = (columns * cell.0 + GAP, rows * cell.1 + GAP);
    write_png(path, size, |area| {
        let cells = (0_u32..).zip(images.chunks_exact(images.len() / count)).zip(labels);
        for ((index, image), label) in cells {
            let corner = (GAP + index % COLUMNS * cell.0, GAP + index / COLUMNS * cell.1);
            draw_image(area, picture(image, side), shown, corner)?;
            let name = classes.get(*label).map_or_else(|| label.to_string(), Clone::clone);
            draw_name(area, &name, shown, corner)?;
        }
        Ok(())
    })
}

/// The side of each of `count` square samples of three channels that are `bytes` long together.
fn side(bytes: usize, count: usize) -> Option<u32> {
    let side = (bytes / count / 3).isqrt();
    let fits = side > 0 && side * side * 3 * count == bytes;
    u32::try_from(side).ok().filter(|_| fits)
}

/// Pixels of the file that a sample's side takes.
fn shown_side(side: u32) -> u32 {
    if side > SIDE_MAX { SIDE_MAX } else { side * (SIDE_MIN / side).max(1) }
}

/// A sample as a picture, from its planes.
fn picture(planes: &[u8], side: u32) -> RgbImage {
    let plane = planes.len() / 3;
    RgbImage::from_fn(side, side, |x, y| {
        let at = (y * side + x) as usize;
        Rgb([planes[at], planes[plane + at], planes[2 * plane + at]])
    })
}

fn draw_image(area: &Area<'_>, picture: RgbImage, shown: u32, corner: (u32, u32)) -> anyhow::Result<()> {
    let filter = if picture.width() > shown { FilterType::Triangle } else { FilterType::Nearest };
    let side = shown * SCALE;
    let drawn = imageops::resize(&picture, side, side, filter).into_raw();
    let element: Option<BitMapElement<'_, _>> =
        BitMapElement::with_owned_buffer((px(corner.0), px(corner.1)), (side, side), drawn);
    area.draw(&element.context("a sample's pixels are as many as its sides say")?)?;
    Ok(())
}

/// Centred below the picture; what is too long ends in an ellipsis.
fn draw_name(area: &Area<'_>, name: &str, shown_side: u32, corner: (u32, u32)) -> anyhow::Result<()> {
    let style = TextStyle::from((FONT, f64::from(17 * SCALE)).into_font())
        .color(&INK)
        .pos(Pos::new(HPos::Center, VPos::Center));
    let room = (shown_side + GAP / 2) * SCALE;
    let mut letters: Vec<char> = name.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    let mut shown: String = letters.iter().collect();
    while letters.pop().is_some() && area.estimate_text_size(&shown, &style)?.0 > room {
        shown = letters.iter().chain(['…'].iter()).collect();
    }
    let middle = (px(corner.0 + shown_side / 2), px(corner.1 + shown_side + NAME_HEIGHT / 2 + 1));
    area.draw(&Text::new(shown, middle, style))?;
    Ok(())
}

/// Pixels of the PNG file in pixels of the drawing.
fn px(pixels: u32) -> i32 {
    (pixels * SCALE).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A red, a green, a blue, … sample each.
    fn plain(count: usize, side: u32) -> Vec<u8> {
        (0..count)
            .flat_map(|sample| (0..3).map(move |plane| if plane == sample % 3 { 200 } else { 10 }))
            .flat_map(|value| std::iter::repeat_n(value, (side * side) as usize))
            .collect()
    }

    /// Pixels that a sample takes on the sheet, and where the next one begins.
    const SHOWN: u32 = 96;
    const CELL: (u32, u32) = (SHOWN + GAP, SHOWN + NAME_HEIGHT + GAP);

    fn sheet(count: usize, labels: &[usize], classes: &[&str]) -> anyhow::Result<RgbImage> {
        sheet_of(plain(count, 32), labels, classes)
    }

    fn sheet_of(images: Vec<u8>, labels: &[usize], classes: &[&str]) -> anyhow::Result<RgbImage> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("samples.png");
        let classes: Vec<String> = classes.iter().map(|name| (*name).to_owned()).collect();
        write_samples(&path, &images, labels, &classes)?;
        Ok(image::open(path)?.to_rgb8())
    }

    #[test]
    fn every_sample_lies_in_its_place_in_its_colours() {
        let labels: Vec<usize> = (0..11).collect();
        let picture = sheet(11, &labels, &["aeroplane", "a name much too long for its picture"]).unwrap();
        assert_eq!(picture.dimensions(), (8 * CELL.0 + GAP, 2 * CELL.1 + GAP));
        for (sample, column, row) in [(0, 0, 0), (7, 7, 0), (8, 0, 1), (10, 2, 1)] {
            let mut wanted = [10; 3];
            wanted[sample % 3] = 200;
            for (dx, dy) in [(0, 0), (SHOWN - 1, SHOWN - 1)] {
                let pixel = picture.get_pixel(GAP + column * CELL.0 + dx, GAP + row * CELL.1 + dy);
                assert_eq!(pixel.0, wanted, "sample {sample}");
            }
        }
        for outside in [(0, 0), (GAP + SHOWN, GAP), (GAP - 1, GAP), (GAP, GAP - 1)] {
            assert_eq!(picture.get_pixel(outside.0, outside.1).0, [255; 3], "{outside:?}");
        }
    }

    #[test]
    fn samples_of_any_size_are_shown_in_one_that_can_be_looked_at() {
        for (side, shown) in
            [(1, 96), (8, 96), (32, 96), (64, 64), (100, 100), (128, 128), (224, 128), (512, 128)]
        {
            let picture = sheet_of(plain(2, side), &[0, 1], &["a", "b"]).unwrap();
            assert_eq!(picture.width(), 2 * (shown + GAP) + GAP, "{side}");
            for (x, wanted) in [(GAP, [200, 10, 10]), (2 * GAP + 2 * shown - 1, [10, 200, 10])] {
                assert_eq!(picture.get_pixel(x, GAP).0, wanted, "{side}");
                assert_eq!(picture.get_pixel(x, GAP + shown - 1).0, wanted, "{side}");
                assert_eq!(picture.get_pixel(x, GAP + shown).0, [255; 3], "{side}");
            }
        }
    }

    #[test]
    fn names_of_any_kind_are_drawn() {
        for name in ["", "cat\n", "猫", "\u{202e}abc", "WWWWWWWWWWWWWWWWWWWWWWWWWWW"] {
            assert_eq!(sheet(1, &[0], &[name]).unwrap().dimensions(), (CELL.0 + GAP, CELL.1 + GAP));
        }
    }

    #[test]
    fn samples_that_do_not_fit_their_labels_are_refused() {
        assert!(sheet(0, &[], &[]).is_err());
        assert!(sheet(2, &[0], &[]).is_err(), "two samples with one label");
        assert!(sheet_of(plain(1, 32), &[0, 1], &[]).is_err());
        assert!(sheet_of(vec![0; 3 * 32 * 31], &[0], &[]).is_err());
        assert!(sheet_of(vec![], &[0], &[]).is_err());
    }
}
