//! A data set that needs no download: ten kinds of drawn shapes, 32 by 32 pixels in colour.
//!
//! It must be learnable in minutes and yet need a network. Colours, place, size and turn are random and say
//! nothing about the class, so a linear classifier on the pixels has little to hold on to, while a small
//! convolutional network sees outlines at once. A sample is a function of (seed, split, index) alone, drawn
//! with additions, multiplications, divisions and square roots only: those give the same bits everywhere,
//! which sines and cosines of the platform's library do not.

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use super::canonical::{Records, Split};
use super::{DataError, SplitName};

const TRAIN_DEFAULT: usize = 8_000;
const TEST_DEFAULT: usize = 2_000;

/// As many as CIFAR-10 has pictures, and more than ten shapes need.
const SAMPLES_MAX: usize = 60_000;

/// Changes with the drawing, so that no two versions draw different pictures from one key.
const KEY_TAG: &[u8; 8] = b"shapes 1";

/// What decides how hard the set is. Lengths are in pixels, brightness in steps of 255.
///
/// Measured with these on the default 8,000 / 2,000: ridge regression on the pixels 20 %; torchvision's ResNet-18
/// from scratch (SGD 0.01, momentum 0.9, batch 64, cosine) 61 % after one epoch, 89 % after three, 97 % after five.
mod difficulty {
    /// Half the extent of a shape.
    pub(super) const RADIUS: std::ops::Range<f32> = 9.5..13.0;
    /// How far the middle may lie from the picture's.
    pub(super) const SHIFT: f32 = 3.0;
    /// Tangent of the largest turn, to either side.
    pub(super) const TURN: f32 = 0.6;
    /// Least distance between the shape's colour and the background's, as a length in RGB.
    pub(super) const CONTRAST_MIN: f32 = 140.0;
    /// How far the background's colour drifts from one edge to the other, per channel.
    pub(super) const GRADIENT: f32 = 40.0;
    /// Most that noise adds to or takes from a channel; it is triangular, so a third of it is common.
    pub(super) const NOISE: f32 = 24.0;
    /// Small discs in other colours, under the shape.
    pub(super) const DISTRACTORS_MAX: u32 = 2;
    pub(super) const DISTRACTOR_RADIUS: std::ops::Range<f32> = 1.0..2.5;
}

/// Pixels of a picture's side.
const SIDE: usize = 32;

const IMAGE_BYTES: usize = 3 * SIDE * SIDE;

const CLASSES: usize = 10;

/// Samples a side within a pixel: enough to smooth edges.
const SUBPIXELS: usize = 2;

#[derive(Debug, Clone, Copy)]
enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Cross,
    Ring,
    Heart,
    Crescent,
    Arrow,
    Stripes,
}

impl Shape {
    /// By label. No two become each other when turned, as a square and a diamond would.
    const ALL: [(Self, &'static str); CLASSES] = [
        (Self::Circle, "circle"),
        (Self::Square, "square"),
        (Self::Triangle, "triangle"),
        (Self::Star, "star"),
        (Self::Cross, "cross"),
        (Self::Ring, "ring"),
        (Self::Heart, "heart"),
        (Self::Crescent, "crescent"),
        (Self::Arrow, "arrow"),
        (Self::Stripes, "stripes"),
    ];

    /// Whether a point is in the shape, which fits into the circle of radius 1.
    fn contains(self, x: f32, y: f32) -> bool {
        let square = |r: f32| r * r;
        match self {
            Self::Circle => x * x + y * y <= square(0.85),
            Self::Square => x.abs().max(y.abs()) <= 0.7,
            Self::Triangle => y >= -0.5 && 0.866 * x.abs() + 0.5 * y <= 0.5,
            Self::Star => in_star(x, y),
            Self::Cross => x.abs().min(y.abs()) <= 0.25 && x.abs().max(y.abs()) <= 0.9,
            Self::Ring => (square(0.5)..=square(0.9)).contains(&(x * x + y * y)),
            Self::Heart => {
                let (x, y) = (1.35 * x, 1.35 * y + 0.15);
                let f = x * x + y * y - 1.0;
                f * f * f <= x * x * y * y * y
            }
            Self::Crescent => x * x + y * y <= square(0.95) && square(x - 0.45) + y * y > square(0.75),
            Self::Arrow => {
                let shaft = (-0.95..=0.1).contains(&x) && y.abs() <= 0.2;
                shaft || (x >= 0.0 && y.abs() <= 0.75 * (0.95 - x))
            }
            Self::Stripes => x.abs() <= 0.7 && (y.abs() <= 0.16 || (0.4..=0.72).contains(&y.abs())),
        }
    }
}

/// A five-pointed star, folded into one of its ten mirrored wedges: the outline is a single line there.
fn in_star(x: f32, y: f32) -> bool {
    // Directions of the mirror lines, 36 degrees apart: cosines and sines as written constants.
    const COS_36: f32 = 0.809_017;
    const SIN_36: f32 = 0.587_785_25;
    let (mut x, mut y) = (x.abs(), y);
    for (nx, ny) in [(COS_36, -SIN_36), (-COS_36, -SIN_36)] {
        let beyond = (nx * x + ny * y).max(0.0);
        x -= 2.0 * beyond * nx;
        y -= 2.0 * beyond * ny;
    }
    // From the tip (0, 1) to the inner corner at radius 0.42, 36 degrees on.
    let (cx, cy) = (0.42 * SIN_36, 0.42 * COS_36);
    cx * (y - 1.0) - (cy - 1.0) * x.abs() <= 0.0
}

/// Draws both splits. Class names are in label order; labels are balanced and take turns.
pub(super) fn generate(seed: u64, train: Option<usize>, test: Option<usize>) -> Result<Records, DataError> {
    let classes = Shape::ALL.map(|(_, name)| name.to_owned()).to_vec();
    let split = |name: SplitName, asked: Option<usize>, default: usize| {
        let count = asked.unwrap_or(default);
        if count > SAMPLES_MAX {
            return Err(DataError::Limit { split: name, asked: count, available: SAMPLES_MAX });
        }
        let mut split = Split::with_capacity(count, IMAGE_BYTES);
        for index in 0..count {
            let label = index % CLASSES;
            draw(Shape::ALL[label].0, keyed(seed, name, index), &mut split.images);
            split.labels.push(label as u16);
        }
        Ok(split)
    };
    let train = split(SplitName::Train, train, TRAIN_DEFAULT)?;
    let test = split(SplitName::Test, test, TEST_DEFAULT)?;
    Ok(Records { classes, image_size: SIDE as u32, train, test })
}

/// The sample's own randomness.
fn keyed(seed: u64, split: SplitName, index: usize) -> Random {
    let mut key = [0; 32];
    key[..8].copy_from_slice(KEY_TAG);
    key[8..16].copy_from_slice(&seed.to_le_bytes());
    key[16..24].copy_from_slice(&(split as u64).to_le_bytes());
    key[24..].copy_from_slice(&(index as u64).to_le_bytes());
    Random(ChaCha8Rng::from_seed(key))
}

struct Random(ChaCha8Rng);

impl Random {
    /// Uniform in [0, 1).
    fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    fn within(&mut self, range: std::ops::Range<f32>) -> f32 {
        range.start + (range.end - range.start) * self.unit()
    }

    fn color(&mut self) -> [f32; 3] {
        [(); 3].map(|()| self.within(0.0..255.0))
    }

    /// A uniform direction, as (cosine, sine).
    fn direction(&mut self) -> (f32, f32) {
        loop {
            let (x, y) = (self.within(-1.0..1.0), self.within(-1.0..1.0));
            if (0.01..=1.0).contains(&(x * x + y * y)) {
                return normalized(x, y);
            }
        }
    }
}

/// The direction of a vector, as (cosine, sine).
fn normalized(x: f32, y: f32) -> (f32, f32) {
    let length = (x * x + y * y).sqrt();
    (x / length, y / length)
}

/// A planar picture in floating point.
struct Canvas(Vec<[f32; 3]>);

impl Canvas {
    /// One colour drifting into another across the picture.
    fn background(color: [f32; 3], random: &mut Random) -> Self {
        let drift = [(); 3].map(|()| random.within(-difficulty::GRADIENT..difficulty::GRADIENT));
        let (dx, dy) = random.direction();
        let pixel = |i: usize| {
            let along = (dx * (coordinate(i % SIDE)) + dy * coordinate(i / SIDE)) / SIDE as f32;
            [0, 1, 2].map(|c| color[c] + drift[c] * along)
        };
        Self((0..SIDE * SIDE).map(pixel).collect())
    }

    /// Paints where `inside` holds, edges smoothed. Coordinates count in pixels from the picture's middle;
    /// only what lies within `radius` of (x, y) is looked at.
    fn paint(&mut self, (x, y): (f32, f32), radius: f32, color: [f32; 3], inside: impl Fn(f32, f32) -> bool) {
        for (i, pixel) in self.0.iter_mut().enumerate() {
            let (px, py) = (coordinate(i % SIDE) - x, coordinate(i / SIDE) - y);
            if px.abs().max(py.abs()) > radius + 1.0 {
                continue;
            }
            let mut hits = 0;
            for sub in 0..SUBPIXELS * SUBPIXELS {
                let at = |n: usize| (n as f32 + 0.5) / SUBPIXELS as f32 - 0.5;
                hits += u32::from(inside(px + at(sub % SUBPIXELS), py + at(sub / SUBPIXELS)));
            }
            let cover = hits as f32 / (SUBPIXELS * SUBPIXELS) as f32;
            for c in 0..3 {
                pixel[c] += cover * (color[c] - pixel[c]);
            }
        }
    }

    /// Adds noise and appends the planes R, G, B.
    fn finish(self, random: &mut Random, out: &mut Vec<u8>) {
        let mut bytes = vec![0; 2 * 3 * SIDE * SIDE];
        random.0.fill_bytes(&mut bytes);
        for c in 0..3 {
            for (i, pixel) in self.0.iter().enumerate() {
                let at = 2 * (c * SIDE * SIDE + i);
                let noise = (f32::from(bytes[at]) + f32::from(bytes[at + 1]) - 255.0) / 255.0;
                out.push((pixel[c] + difficulty::NOISE * noise + 0.5).clamp(0.0, 255.0) as u8);
            }
        }
    }
}

/// A row's or column's distance from the picture's middle.
fn coordinate(index: usize) -> f32 {
    index as f32 + 0.5 - SIDE as f32 / 2.0
}

fn draw(shape: Shape, mut random: Random, out: &mut Vec<u8>) {
    let (back, front) = contrasting_colors(&mut random);
    let mut canvas = Canvas::background(back, &mut random);
    for _ in 0..random.0.next_u32() % (difficulty::DISTRACTORS_MAX + 1) {
        let half = SIDE as f32 / 2.0;
        let center = (random.within(-half..half), random.within(-half..half));
        let radius = random.within(difficulty::DISTRACTOR_RADIUS);
        let color = random.color();
        canvas.paint(center, radius, color, |x, y| x * x + y * y <= radius * radius);
    }
    let shift = difficulty::SHIFT;
    let center = (random.within(-shift..shift), random.within(-shift..shift));
    let radius = random.within(difficulty::RADIUS);
    let turn = random.within(-difficulty::TURN..difficulty::TURN);
    let (cos, sin) = normalized(1.0, turn);
    canvas.paint(center, radius, front, |x, y| {
        shape.contains((cos * x + sin * y) / radius, (cos * y - sin * x) / radius)
    });
    canvas.finish(&mut random, out);
}

/// A background and a foreground that can be told apart; either may be the brighter one.
fn contrasting_colors(random: &mut Random) -> ([f32; 3], [f32; 3]) {
    loop {
        let (back, front) = (random.color(), random.color());
        let distance_squared: f32 = (0..3).map(|c| (back[c] - front[c]) * (back[c] - front[c])).sum();
        if distance_squared >= difficulty::CONTRAST_MIN * difficulty::CONTRAST_MIN {
            return (back, front);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::canonical::Contents;
    use crate::data::{DataName, fixtures};

    #[test]
    fn a_seed_draws_the_same_bytes_on_every_machine() {
        let (_dir, cache) = fixtures::cache();
        let digest = |seed| {
            let records = generate(seed, Some(40), Some(20)).unwrap();
            Contents::of(DataName::Shapes, &records).store(&cache).unwrap()
        };
        assert_eq!(digest(7), "993904c28fa9b948bfdec263fec8368d592a2a97c165f5c4816a9c0ed1a1f5a0");
        assert_ne!(digest(7), digest(8));
    }

    #[test]
    fn a_sample_depends_on_its_index_and_not_on_how_many_are_drawn() {
        let few = generate(1, Some(20), Some(10)).unwrap();
        let many = generate(1, Some(50), Some(10)).unwrap();
        assert_eq!(few.train.images, many.train.images[..20 * IMAGE_BYTES]);
        assert_ne!(few.train.images[..IMAGE_BYTES], few.test.images[..IMAGE_BYTES], "splits differ");
    }

    #[test]
    fn labels_are_balanced_and_take_turns() {
        let records = generate(1, Some(25), Some(10)).unwrap();
        assert_eq!(records.train.labels[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
        assert_eq!(records.test.labels, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(records.classes.len(), CLASSES);
    }

    #[test]
    fn every_shape_covers_a_fair_part_of_its_circle_and_stays_inside() {
        for (shape, name) in Shape::ALL {
            let steps = || (-60i8..=60).map(|i| f32::from(i) / 40.0);
            let inside: Vec<(f32, f32)> = steps()
                .flat_map(|y| steps().map(move |x| (x, y)))
                .filter(|&(x, y)| shape.contains(x, y))
                .collect();
            assert!(inside.iter().all(|(x, y)| x * x + y * y <= 1.05), "{name} leaves its circle");
            assert!(
                (900..4_000).contains(&inside.len()),
                "{name} has {} of about 5,000 points",
                inside.len()
            );
        }
    }

    #[test]
    fn more_than_the_generator_offers_is_refused() {
        assert!(matches!(generate(1, Some(SAMPLES_MAX + 1), None), Err(DataError::Limit { .. })));
    }

    /// What makes the set worth training a network on.
    #[test]
    fn a_linear_classifier_on_the_pixels_stays_far_from_solving_it() {
        let records = generate(3, Some(2_000), Some(1_000)).unwrap();
        let weights = train_linear(&records.train, 6);
        let correct = samples(&records.test)
            .filter(|(pixels, label)| {
                let scores = scores(&weights, pixels);
                (0..CLASSES).max_by(|&a, &b| scores[a].total_cmp(&scores[b])) == Some(*label)
            })
            .count();
        let accuracy = correct as f32 / records.test.labels.len() as f32;
        assert!((0.1..0.5).contains(&accuracy), "accuracy {accuracy}");
    }

    type Weights = Vec<[f32; CLASSES]>; // by pixel; the last row is the bias

    fn samples(split: &Split) -> impl Iterator<Item = (Vec<f32>, usize)> {
        split.images.chunks_exact(IMAGE_BYTES).zip(&split.labels).map(|(image, &label)| {
            let pixels = image.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0);
            (pixels.chain([1.0]).collect(), usize::from(label))
        })
    }

    fn scores(weights: &Weights, pixels: &[f32]) -> [f32; CLASSES] {
        let mut scores = [0.0; CLASSES];
        for (pixel, row) in pixels.iter().zip(weights) {
            for class in 0..CLASSES {
                scores[class] += pixel * row[class];
            }
        }
        scores
    }

    /// Softmax regression by plain stochastic gradient descent.
    fn train_linear(split: &Split, epochs: i32) -> Weights {
        let mut weights = vec![[0.0; CLASSES]; IMAGE_BYTES + 1];
        for epoch in 0..epochs {
            let rate = 0.001 / (1 + epoch) as f32;
            for (pixels, label) in samples(split) {
                let scores = scores(&weights, &pixels);
                let top = scores.iter().copied().fold(f32::MIN, f32::max);
                let exp = scores.map(|score| (score - top).exp());
                let sum: f32 = exp.iter().sum();
                let mut gradient = exp.map(|e| e / sum);
                gradient[label] -= 1.0;
                for (pixel, row) in pixels.iter().zip(&mut weights) {
                    for class in 0..CLASSES {
                        row[class] -= rate * pixel * gradient[class];
                    }
                }
            }
        }
        weights
    }
}
