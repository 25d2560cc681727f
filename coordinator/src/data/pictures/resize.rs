//! Pillow's bilinear resizing, to the bit, of the square that is wanted and nothing beside it.
//!
//! A model that was trained on torchvision's `Resize` sees other pixels after any other resizer, if only by a level
//! or two; so the arithmetic of Pillow's `Resample.c` (version 13) is kept: a triangle as wide as a target pixel,
//! never narrower than two source pixels; weights in 22 bits; one pass along the rows and one along the columns,
//! with bytes between them. Only the middle square is computed: a picture of 16,384 by 1 pixels would be millions
//! wide when resized.

use image::RgbImage;

const CHANNELS: usize = 3;

/// Of the weights, below the point; what Pillow leaves beside eight bits of colour and two of overshoot.
const WEIGHT_BITS: u32 = 32 - 8 - 2;

/// Half of the last place that is kept: sums begin with it.
const ROUNDING: i32 = 1 << (WEIGHT_BITS - 1);

/// The source pixels behind one target pixel along one axis.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// One axis of the square that is wanted.
struct Axis {
    /// Pixels of the source, and of the whole resized picture.
    input: u64,
    output: u64,
    /// For every pixel of the square.
    taps: Vec<Taps>,
}

/// The picture with its shorter side at `size`, as `Resize(size)` makes it, and of it the middle, as
/// `CenterCrop(size)` cuts it out: `[3, size, size]`, planes R, G, B.
pub(super) fn middle_square(image: &RgbImage, size: u32) -> Vec<u8> {
    if size == 0 {
        return Vec::new();
    }
    let (width, height) = image.dimensions();
    let shorter = width.min(height);
    let (columns, rows) = (Axis::new(width, shorter, size), Axis::new(height, shorter, size));
    let (pixels, width, size) = (image.as_raw(), width as usize, size as usize);
    let square = if shrinks_more(&rows, &columns) {
        let low = along_columns(pixels, width, 0, &rows.taps);
        along_rows(&low, width, &columns.taps)
    } else {
        // Rows that no target row needs are left out.
        let top = rows.taps.first().map_or(0, |taps| taps.first);
        let bottom = rows.taps.last().map_or(0, |taps| taps.first + taps.weights.len());
        let lines = &pixels[top * CHANNELS * width..bottom * CHANNELS * width];
        let narrow = along_rows(lines, width, &columns.taps);
        along_columns(&narrow, size, top, &rows.taps)
    };
    (0..CHANNELS).flat_map(|channel| square.iter().skip(channel).step_by(CHANNELS).copied()).collect()
}

/// Whether Pillow goes along the columns first; bytes between the passes make a difference of a level.
fn shrinks_more(rows: &Axis, columns: &Axis) -> bool {
    let lost = |axis: &Axis| axis.input.cast_signed() - axis.output.cast_signed();
    lost(rows) > 0 && lost(rows) > 2 * lost(columns)
}

/// Each line of `width` pixels becomes one of as many as there are `columns`.
fn along_rows(pixels: &[u8], width: usize, columns: &[Taps]) -> Vec<u8> {
    let mut narrow = Vec::with_capacity(pixels.len() / width * columns.len());
    for line in pixels.chunks_exact(CHANNELS * width) {
        for taps in columns {
            let mut sums = [ROUNDING; CHANNELS];
            let pixels = line[CHANNELS * taps.first..].chunks_exact(CHANNELS);
            for (pixel, &weight) in pixels.zip(&taps.weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            narrow.extend(sums.map(byte));
        }
    }
    narrow
}

/// Lines of `width` pixels, of which the first is line `top` of the source, become as many as there are `rows`.
fn along_columns(pixels: &[u8], width: usize, top: usize, rows: &[Taps]) -> Vec<u8> {
    let mut low = Vec::with_capacity(CHANNELS * width * rows.len());
    let mut sums = vec![0; CHANNELS * width];
    for taps in rows {
        sums.fill(ROUNDING);
        let lines = pixels.chunks_exact(CHANNELS * width).skip(taps.first - top);
        for (line, &weight) in lines.zip(&taps.weights) {
            for (sum, &value) in sums.iter_mut().zip(line) {
                *sum += i32::from(value) * weight;
            }
        }
        low.extend(sums.iter().copied().map(byte));
    }
    low
}

fn byte(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

impl Axis {
    /// The middle `size` target pixels along an axis of `input` pixels, of a picture whose shorter side is `shorter`.
    fn new(input: u32, shorter: u32, size: u32) -> Self {
        // torchvision cuts the fraction off, and so does an integer division.
        let output = u64::from(size) * u64::from(input) / u64::from(shorter);
        let first = half_to_even(output - u64::from(size));
        let scale = f64::from(input) / output as f64;
        let taps = (first..first + u64::from(size)).map(|target| taps(input, scale, target)).collect();
        Self { input: input.into(), output, taps }
    }
}

/// Half of `number`, rounded as Python's `round` does.
fn half_to_even(number: u64) -> u64 {
    let half = number / 2;
    half + (number % 2) * (half % 2)
}

fn taps(input: u32, scale: f64, target: u64) -> Taps {
    let support = scale.max(1.0);
    let center = (target as f64 + 0.5) * scale;
    // Casts cut off towards zero, in C as here.
    let first = ((center - support + 0.5) as i64).max(0) as usize;
    let end = ((center + support + 0.5) as i64).clamp(0, i64::from(input)) as usize;
    let triangle = |source: usize| {
        let distance = (source as f64 - center + 0.5) * (1.0 / support);
        (1.0 - distance.abs()).max(0.0)
    };
    let weights: Vec<f64> = (first..end).map(triangle).collect();
    let sum: f64 = weights.iter().sum();
    let fixed = |weight: f64| (0.5 + weight / sum * f64::from(1 << WEIGHT_BITS)) as i32;
    Taps { first, weights: weights.into_iter().map(fixed).collect() }
}
