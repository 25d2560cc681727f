//! A sheet of samples with their classes below: the quickest check that data is what one thinks it is.

use std::path::Path;

use anyhow::ensure;
use plotters::prelude::{IntoFont as _, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, RGBColor, TextStyle};

use super::canvas::{Area, FONT, INK, SCALE, write_png};

/// Pixels of a sample's side.
const SIDE: u32 = 32;
const SAMPLE_BYTES: usize = 3 * (SIDE * SIDE) as usize;
/// Each pixel of a sample becomes a square of this side: visible, and not blurred into something nicer.
const ZOOM: u32 = 3;
const COLUMNS: u32 = 8;
/// Between pictures and around them.
const GAP: u32 = 10;
const NAME_HEIGHT: u32 = 20;
const CELL: (u32, u32) = (SIDE * ZOOM + GAP, SIDE * ZOOM + NAME_HEIGHT + GAP);
/// More would make a sheet that nobody looks through, and a picture of unbounded size.
const SAMPLES_MAX: usize = 1024;

/// Writes a PNG sheet of samples, eight in a row, each with its class's name.
///
/// `images` are `[N, 3, 32, 32]` bytes, `labels` N class numbers; a class without a name shows its number.
///
/// # Errors
///
/// No samples, or more than 1024; lengths that do not fit together; a file that cannot be written.
pub fn write_samples(path: &Path, images: &[u8], labels: &[usize], classes: &[String]) -> anyhow::Result<()> {
    let count = labels.len();
    ensure!((1..=SAMPLES_MAX).contains(&count), "a sheet shows 1 to {SAMPLES_MAX} samples, not {count}");
    let bytes = images.len();
    ensure!(bytes == count * SAMPLE_BYTES, "{count} samples of {SAMPLE_BYTES} bytes are not {bytes} bytes");
    // At most SAMPLES_MAX, checked above.
    let columns = COLUMNS.min(count as u32);
    let rows = (count as u32).div_ceil(COLUMNS);
    let size = (columns * CELL.0 + GAP, rows * CELL.1 + GAP);
    write_png(path, size, |area| {
        let cells = (0_u32..).zip(images.chunks_exact(SAMPLE_BYTES)).zip(labels);
        for ((index, image), label) in cells {
            let corner = (GAP + index % COLUMNS * CELL.0, GAP + index / COLUMNS * CELL.1);
            draw_image(area, image, corner)?;
            let name = classes.get(*label).map_or_else(|| label.to_string(), Clone::clone);
            draw_name(area, &name, corner)?;
        }
        Ok(())
    })
}

fn draw_image(area: &Area<'_>, image: &[u8], corner: (u32, u32)) -> anyhow::Result<()> {
    let plane = (SIDE * SIDE) as usize;
    for pixel in 0..SIDE * SIDE {
        let at = pixel as usize;
        let colour = RGBColor(image[at], image[plane + at], image[2 * plane + at]);
        let left = corner.0 + pixel % SIDE * ZOOM;
        let top = corner.1 + pixel / SIDE * ZOOM;
        // The second corner is where the next square starts: a filled rectangle ends before it.
        let corners = [(px(left), px(top)), (px(left + ZOOM), px(top + ZOOM))];
        area.draw(&Rectangle::new(corners, colour.filled()))?;
    }
    Ok(())
}

/// Centred below the picture; what is too long ends in an ellipsis.
fn draw_name(area: &Area<'_>, name: &str, corner: (u32, u32)) -> anyhow::Result<()> {
    let style = TextStyle::from((FONT, f64::from(17 * SCALE)).into_font())
        .color(&INK)
        .pos(Pos::new(HPos::Center, VPos::Center));
    let room = (SIDE * ZOOM + GAP / 2) * SCALE;
    let mut letters: Vec<char> = name.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    let mut shown: String = letters.iter().collect();
    while letters.pop().is_some() && area.estimate_text_size(&shown, &style)?.0 > room {
        shown = letters.iter().chain(['…'].iter()).collect();
    }
    let middle = (px(corner.0 + SIDE * ZOOM / 2), px(corner.1 + SIDE * ZOOM + NAME_HEIGHT / 2 + 1));
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
    fn plain(count: usize) -> Vec<u8> {
        (0..count)
            .flat_map(|sample| (0..3).map(move |plane| if plane == sample % 3 { 200 } else { 10 }))
            .flat_map(|value| std::iter::repeat_n(value, (SIDE * SIDE) as usize))
            .collect()
    }

    fn sheet(count: usize, labels: &[usize], classes: &[&str]) -> anyhow::Result<image::RgbImage> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("samples.png");
        let classes: Vec<String> = classes.iter().map(|name| (*name).to_owned()).collect();
        write_samples(&path, &plain(count), labels, &classes)?;
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
            for (dx, dy) in [(0, 0), (SIDE * ZOOM - 1, SIDE * ZOOM - 1)] {
                let pixel = picture.get_pixel(GAP + column * CELL.0 + dx, GAP + row * CELL.1 + dy);
                assert_eq!(pixel.0, wanted, "sample {sample}");
            }
        }
        for outside in [(0, 0), (GAP + SIDE * ZOOM, GAP), (GAP - 1, GAP), (GAP, GAP - 1)] {
            assert_eq!(picture.get_pixel(outside.0, outside.1).0, [255; 3], "{outside:?}");
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
        assert!(sheet(2, &[0], &[]).is_err());
        assert!(sheet(1, &[0, 1], &[]).is_err());
    }
}
