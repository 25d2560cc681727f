//! The pictures of a run as PNG files: how loss, accuracy and learning rate went, and what samples look like.
//!
//! Drawn in memory, written aside and renamed, so that a viewer never meets half a picture. The font is
//! compiled in: containers have none.

mod canvas;
mod confusion;
mod curve;
mod gallery;
mod lettering;
mod ticks;

use std::path::Path;

use curve::{Chart, Line};

pub use confusion::write_confusion;
pub use gallery::{Caption, Picture, Tile, Tone, write_gallery};

/// What one epoch adds to the curves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochPoint {
    /// 0-based, as in the run's files.
    pub epoch: u32,
    pub lr: f64,
    pub train_loss: f64,
    /// In 0..=1, like every accuracy.
    pub train_acc: f64,
    pub eval_loss: f64,
    pub eval_acc: f64,
}

/// Writes `loss.png`, `accuracy.png` and `lr.png` into `dir`, which is created where missing.
/// `eval_name` says what was evaluated: `val` or `test`.
///
/// Values that are not finite are left out of the lines; no points at all give empty axes.
///
/// # Errors
///
/// A folder that cannot be written, or a failure of the drawing library.
pub fn write_curves(dir: &Path, points: &[EpochPoint], eval_name: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let line = |name: &str, value: fn(&EpochPoint) -> f64| Line {
        name: name.to_owned(),
        points: points.iter().map(|point| (point.epoch, value(point))).collect(),
    };
    let charts = [
        Chart {
            file: "loss.png",
            title: "Loss",
            unit: "cross-entropy",
            per_cent: false,
            lines: vec![line("train", |point| point.train_loss), line(eval_name, |point| point.eval_loss)],
        },
        Chart {
            file: "accuracy.png",
            title: "Accuracy",
            unit: "top-1, %",
            per_cent: true,
            lines: vec![
                line("train", |point| 100.0 * point.train_acc),
                line(eval_name, |point| 100.0 * point.eval_acc),
            ],
        },
        Chart {
            file: "lr.png",
            title: "Learning rate",
            unit: "learning rate",
            per_cent: false,
            lines: vec![line("lr", |point| point.lr)],
        },
    ];
    for chart in charts {
        canvas::write_png(&dir.join(chart.file), curve::SIZE, |area| curve::draw(&chart, area))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(epochs: u32) -> Vec<EpochPoint> {
        (0..epochs)
            .map(|epoch| {
                let t = f64::from(epoch) / 100.0;
                EpochPoint {
                    epoch,
                    lr: 0.001 * (1.0 + (std::f64::consts::PI * t / 2.0).cos()) / 2.0,
                    train_loss: 0.3 + 2.0 * (-4.0 * t).exp(),
                    train_acc: 0.9 - 0.75 * (-4.0 * t).exp(),
                    eval_loss: 0.6 + 1.7 * (-4.0 * t).exp() + 0.03 * f64::from(epoch * 7 % 5),
                    eval_acc: 0.8 - 0.6 * (-4.0 * t).exp() - 0.01 * f64::from(epoch * 7 % 5),
                }
            })
            .collect()
    }

    fn written(points: &[EpochPoint]) -> Vec<image::RgbImage> {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("plots");
        write_curves(&dir, points, "val").unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["accuracy.png", "loss.png", "lr.png"], "nothing else may stay behind");
        names.iter().map(|name| image::open(dir.join(name)).unwrap().to_rgb8()).collect()
    }

    #[test]
    fn curves_are_pictures_of_the_promised_size_with_something_on_them() {
        for picture in written(&run(100)) {
            assert_eq!(picture.dimensions(), curve::SIZE);
            let colours: std::collections::BTreeSet<_> = picture.pixels().map(|pixel| pixel.0).collect();
            assert!(colours.len() > 10, "only {} colours", colours.len());
        }
    }

    #[test]
    fn no_value_makes_the_drawing_fail() {
        let with = |value: f64| EpochPoint {
            epoch: 3,
            lr: value,
            train_loss: value,
            train_acc: value,
            eval_loss: value,
            eval_acc: value,
        };
        let last = EpochPoint { epoch: u32::MAX, ..with(1.0) };
        for value in [0.0, 1.0, -1.0, 1e-300, 1e300, f64::MAX, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            written(&[with(value)]);
            written(&[with(0.5), with(value), last]);
        }
        written(&[]);
        written(&[with(f64::MIN), with(f64::MAX)]);
    }

    #[test]
    fn the_same_points_give_the_same_pictures() {
        assert_eq!(written(&run(6)), written(&run(6)));
    }
}
