//! A confusion matrix as a picture: a row per true class, a column per predicted one, darker where a larger share of the
//! class's samples lies.

use std::path::Path;

use anyhow::ensure;
use plotters::prelude::{Rectangle, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color as _, FontStyle, RGBColor};

use super::canvas::{Area, INK, px, write_png};
use super::lettering::{fitted, letters, upwards};
use crate::report::Confusion;

/// The matrix is about this wide, in pixels of the PNG file, unless cells become too large or too small for it.
const SIDE: u32 = 900;
const CELL_MAX: u32 = 60;
/// From here on a count fits into a cell.
const CELL_WITH_COUNT: u32 = 26;
/// A line of names takes this much; where cells are smaller, names are left out in between.
const NAME_HEIGHT: u32 = 13;
/// Names get as much room as the longest needs, up to this.
const NAME_WIDTH_MAX: u32 = 170;
const MARGIN: u32 = 16;
const TITLE_HEIGHT: u32 = 40;
/// For the words along an axis.
const AXIS_HEIGHT: u32 = 26;
/// Above, a cell would be less than a pixel of a picture that still fits on anything.
const CLASSES_MAX: usize = 2000;

const GRID: RGBColor = RGBColor(226, 226, 226);
/// The blue of the curves.
const FULL: RGBColor = RGBColor(0, 114, 178);

/// In pixels of the PNG file.
#[derive(Debug, Clone, Copy)]
struct Layout {
    classes: u32,
    cell: u32,
    /// Room for names, beside the matrix and below.
    names: u32,
    /// Every so many-th class is named.
    named_every: u32,
}

impl Layout {
    fn left(self) -> u32 {
        MARGIN + AXIS_HEIGHT + self.names
    }

    fn side(self) -> u32 {
        self.classes * self.cell
    }

    fn size(self) -> (u32, u32) {
        let width = self.left() + self.side() + MARGIN;
        // The title has to fit over a small matrix, too.
        (width.max(420), TITLE_HEIGHT + self.side() + self.names + AXIS_HEIGHT + MARGIN)
    }
}

/// Writes the matrix as a PNG file, with names and, where there is room, counts.
///
/// # Errors
///
/// No classes, more than 2000, or more or fewer than there are names; a file that cannot be written.
pub fn write_confusion(
    path: &Path,
    title: &str,
    confusion: &Confusion,
    classes: &[String],
) -> anyhow::Result<()> {
    let count = confusion.classes();
    ensure!(count == classes.len(), "{count} classes have {} names", classes.len());
    ensure!(
        (1..=CLASSES_MAX).contains(&count),
        "a confusion matrix is drawn of 1 to {CLASSES_MAX} classes, not {count}"
    );
    // At most CLASSES_MAX.
    let classes_drawn = count as u32;
    let cell = (SIDE / classes_drawn).clamp(1, CELL_MAX);
    let longest = classes.iter().map(|name| name.chars().count()).max().unwrap_or(0) as u32;
    let layout = Layout {
        classes: classes_drawn,
        cell,
        // About as wide as a wide letter.
        names: (longest * 9).clamp(20, NAME_WIDTH_MAX),
        named_every: NAME_HEIGHT.div_ceil(cell),
    };
    write_png(path, layout.size(), |area| {
        let style = letters(19, FontStyle::Bold, INK, (HPos::Left, VPos::Center));
        let title = fitted(area, title, &style, layout.size().0 - 2 * MARGIN)?;
        area.draw(&Text::new(title, (px(MARGIN), px(TITLE_HEIGHT / 2)), style))?;
        draw_cells(area, confusion, layout)?;
        draw_names(area, classes, layout)?;
        draw_axes(area, layout)
    })
}

fn draw_cells(area: &Area<'_>, confusion: &Confusion, layout: Layout) -> anyhow::Result<()> {
    let Layout { cell, .. } = layout;
    for (row, counts) in (0_u32..).zip(confusion.rows()) {
        let support: u64 = counts.iter().sum();
        for (column, count) in (0_u32..).zip(counts).filter(|(_, count)| **count > 0) {
            let share = *count as f64 / support as f64;
            let (left, top) = (layout.left() + column * cell, TITLE_HEIGHT + row * cell);
            // The second corner is where the next square starts: a filled rectangle ends before it.
            let corners = [(px(left), px(top)), (px(left + cell), px(top + cell))];
            area.draw(&Rectangle::new(corners, shade(share).filled()))?;
            if cell >= CELL_WITH_COUNT {
                let ink = if share > 0.5 { RGBColor(255, 255, 255) } else { INK };
                let style =
                    letters(count_size(cell, *count), FontStyle::Normal, ink, (HPos::Center, VPos::Center));
                let middle = (px(left + cell / 2), px(top + cell / 2));
                area.draw(&Text::new(count.to_string(), middle, style))?;
            }
        }
    }
    let (left, top) = (layout.left(), TITLE_HEIGHT);
    let lines = if cell >= 6 { layout.classes } else { 1 };
    for line in 0..=lines {
        let at = line * layout.side() / lines;
        let across = [(px(left), px(top + at)), (px(left + layout.side()), px(top + at) + 1)];
        let down = [(px(left + at), px(top)), (px(left + at) + 1, px(top + layout.side()))];
        for corners in [across, down] {
            area.draw(&Rectangle::new(corners, GRID.filled()))?;
        }
    }
    Ok(())
}

/// Letters small enough for all digits of a count.
fn count_size(cell: u32, count: u64) -> u32 {
    let digits = count.to_string().len() as u32;
    (cell * 3 / 2 / digits).clamp(8, 18)
}

/// From white to full colour. The least share is still seen beside white.
fn shade(share: f64) -> RGBColor {
    let weight = 0.06 + 0.94 * share;
    let mix = |full: u8| (255.0 - weight * (255.0 - f64::from(full))).round() as u8;
    RGBColor(mix(FULL.0), mix(FULL.1), mix(FULL.2))
}

fn draw_names(area: &Area<'_>, classes: &[String], layout: Layout) -> anyhow::Result<()> {
    let size = (layout.cell * layout.named_every / 2).clamp(NAME_HEIGHT - 2, 16);
    let beside = letters(size, FontStyle::Normal, INK, (HPos::Right, VPos::Center));
    let below = upwards(&beside);
    for (class, name) in (0_u32..).zip(classes).step_by(layout.named_every as usize) {
        let name = fitted(area, name, &beside, layout.names - 8)?;
        let middle = class * layout.cell + layout.cell / 2;
        let left = (px(layout.left() - 6), px(TITLE_HEIGHT + middle));
        area.draw(&Text::new(name.as_str(), left, beside.clone()))?;
        let foot = (px(layout.left() + middle), px(TITLE_HEIGHT + layout.side() + 6));
        area.draw(&Text::new(name.as_str(), foot, below.clone()))?;
    }
    Ok(())
}

fn draw_axes(area: &Area<'_>, layout: Layout) -> anyhow::Result<()> {
    let style = letters(17, FontStyle::Normal, INK, (HPos::Center, VPos::Center));
    let middle = layout.side() / 2;
    let foot = TITLE_HEIGHT + layout.side() + layout.names + AXIS_HEIGHT / 2;
    area.draw(&Text::new("predicted", (px(layout.left() + middle), px(foot)), style.clone()))?;
    let left = (px(MARGIN + AXIS_HEIGHT / 2), px(TITLE_HEIGHT + middle));
    area.draw(&Text::new("true", left, upwards(&style)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(counts: &[(usize, usize)], classes: &[String]) -> anyhow::Result<image::RgbImage> {
        let mut confusion = Confusion::new(classes.len());
        counts.iter().for_each(|(label, predicted)| confusion.count(*label, *predicted));
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("confusion.png");
        write_confusion(&path, "A title", &confusion, classes)?;
        Ok(image::open(path)?.to_rgb8())
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    fn colour(colour: RGBColor) -> [u8; 3] {
        [colour.0, colour.1, colour.2]
    }

    #[test]
    fn each_share_has_its_shade_in_its_cell() {
        let mut counts = vec![(0, 0); 3];
        counts.extend([(0, 1), (1, 1), (2, 0)]);
        let image = drawn(&counts, &names(4)).unwrap();
        let left = MARGIN + AXIS_HEIGHT + 7 * 9;
        // Beside the count, which stands in the middle.
        let at = |row: u32, column: u32| {
            image.get_pixel(left + column * CELL_MAX + 5, TITLE_HEIGHT + row * CELL_MAX + 5).0
        };
        assert_eq!(at(0, 0), colour(shade(0.75)));
        assert_eq!(at(0, 1), colour(shade(0.25)));
        assert_eq!(at(1, 1), colour(FULL));
        assert_eq!(at(2, 0), colour(FULL));
        for empty in [(0, 2), (1, 0), (3, 3), (3, 0)] {
            assert_eq!(at(empty.0, empty.1), [255; 3], "{empty:?}");
        }
    }

    #[test]
    fn any_number_of_classes_and_any_names_are_drawn_on_a_picture_of_bounded_size() {
        for count in [1, 2, 10, 37, 100, 450, 1000] {
            let all: Vec<(usize, usize)> = (0..count).map(|class| (class, class)).collect();
            let image = drawn(&all, &names(count)).unwrap();
            assert!(image.width().max(image.height()) < 1400, "{count}: {:?}", image.dimensions());
        }
        let odd = ["", "cat\n", "猫", "\u{202e}abc", &"W".repeat(400)].map(str::to_owned);
        assert!(drawn(&[(4, 0)], &odd).is_ok());
        assert!(drawn(&[], &[]).is_err());
        assert!(drawn(&[], &names(CLASSES_MAX + 1)).is_err());
    }
}
