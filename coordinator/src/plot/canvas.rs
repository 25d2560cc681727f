//! Where pictures are drawn: an RGB buffer with the compiled-in font, and its way into a PNG file.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Context as _;
use image::{ImageFormat, Rgb, RgbImage};
use plotters::coord::Shift;
use plotters::prelude::{BitMapBackend, DrawingArea, IntoDrawingArea as _, WHITE};
use plotters::style::{FontStyle, RGBColor, register_font};

use crate::durable;

pub(crate) type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// What plotters knows the font by.
pub(crate) const FONT: &str = "lockstep";

/// Of titles, labels and numbers.
pub(crate) const INK: RGBColor = RGBColor(38, 38, 38);

/// Pixels of the drawing per pixel of the file and side: plotters draws jagged lines, the mean of four
/// pixels is smooth.
pub(crate) const SCALE: u32 = 2;

/// Pixels of the PNG file in pixels of the drawing.
pub(crate) fn px(pixels: u32) -> i32 {
    (pixels * SCALE).cast_signed()
}

/// Draws on a white area and puts it at `path` as a PNG file of `size` (width, height) pixels. The area
/// is [`SCALE`] times as large.
pub(crate) fn write_png(
    path: &Path,
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    register_fonts()?;
    let large = (size.0 * SCALE, size.1 * SCALE);
    let mut drawing = RgbImage::new(large.0, large.1);
    {
        let area = BitMapBackend::with_buffer(&mut drawing, large).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    let mut bytes = Cursor::new(Vec::new());
    reduced(&drawing, size).write_to(&mut bytes, ImageFormat::Png)?;
    // Not fsynced: a picture can be drawn again.
    let aside = durable::aside(path);
    fs::write(&aside, bytes.into_inner())
        .and_then(|()| fs::rename(&aside, path))
        .inspect_err(|_| drop(fs::remove_file(&aside)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Each pixel the mean of [`SCALE`] × [`SCALE`] drawn ones.
fn reduced(drawing: &RgbImage, size: (u32, u32)) -> RgbImage {
    RgbImage::from_fn(size.0, size.1, |x, y| {
        let mut sums = [0_u32; 3];
        for i in 0..SCALE * SCALE {
            let pixel = drawing.get_pixel(x * SCALE + i % SCALE, y * SCALE + i / SCALE);
            sums.iter_mut().zip(pixel.0).for_each(|(sum, value)| *sum += u32::from(value));
        }
        // A mean of bytes is one.
        Rgb(sums.map(|sum| (sum / (SCALE * SCALE)) as u8))
    })
}

fn register_fonts() -> anyhow::Result<()> {
    static DONE: OnceLock<bool> = OnceLock::new();
    let done = *DONE.get_or_init(|| {
        register_font(FONT, FontStyle::Normal, notosans::REGULAR_TTF).is_ok()
            && register_font(FONT, FontStyle::Bold, notosans::BOLD_TTF).is_ok()
    });
    anyhow::ensure!(done, "the compiled-in font is damaged");
    Ok(())
}
