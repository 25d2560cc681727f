//! A sheet of pictures with captions below: what a model got wrong, or what augmentation makes of samples.

use std::path::Path;

use anyhow::ensure;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use plotters::element::BitMapElement;
use plotters::prelude::Text;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{FontStyle, RGBColor};

use super::canvas::{Area, INK, SCALE, px, write_png};
use super::lettering::{fitted, letters};

/// Smaller pictures are enlarged to at least this side, by whole pixels: visible, and not blurred into something nicer.
const SIDE_MIN: u32 = 96;
/// Larger ones are reduced to it.
const SIDE_MAX: u32 = 256;
/// The same for sheets of more than `LARGE_TILES_MAX` tiles: those are looked through, not into, and drawing takes
/// memory for every pixel.
const SIDE_MAX_OF_MANY: u32 = 128;
const LARGE_TILES_MAX: usize = 100;
/// A sheet wider than this does not fit a screen; a single tile may.
const WIDTH_MAX: u32 = 1200;
/// Between tiles and around them.
const GAP: u32 = 12;
/// Between the pictures of a tile.
const PAIR_GAP: u32 = 4;
const TITLE_HEIGHT: u32 = 34;
const LINE_HEIGHT: u32 = 19;
/// More would make a sheet that nobody looks through, and a picture of unbounded size.
const TILES_MAX: usize = 1024;

/// A picture as it lies in data sets: planes R, G, B, `[3, side, side]` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub side: u32,
    pub planes: Vec<u8>,
}

impl Picture {
    /// Pictures that lie one after another, `[N, 3, side, side]` bytes.
    #[must_use]
    pub fn all(side: u32, planes: &[u8]) -> Vec<Self> {
        let bytes = 3 * side as usize * side as usize;
        // No picture has no pixels, and a chunk of nothing is not allowed.
        planes.chunks_exact(bytes.max(1)).map(|planes| Self { side, planes: planes.to_vec() }).collect()
    }
}

/// How a caption is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Wrong,
}

/// A line below a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    pub text: String,
    pub tone: Tone,
}

/// Pictures side by side, and what is to be said of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    pub pictures: Vec<Picture>,
    pub captions: Vec<Caption>,
}

impl Tile {
    /// Views of one thing, with its name below.
    #[must_use]
    pub fn named(pictures: Vec<Picture>, name: &str) -> Self {
        Self { pictures, captions: vec![Caption { text: name.to_owned(), tone: Tone::Plain }] }
    }
}

/// Where everything lies, in pixels of the PNG file.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    columns: u32,
    rows: u32,
    /// A tile without the gap that follows it.
    tile: (u32, u32),
    /// The side of every picture, however many pixels it has of its own: what is to be compared is equally large.
    side: u32,
}

impl Layout {
    /// Places as large as the largest picture, as many as the largest tile has.
    fn of(tiles: &[Tile]) -> Self {
        let most = if tiles.len() > LARGE_TILES_MAX { SIDE_MAX_OF_MANY } else { SIDE_MAX };
        let pictures = tiles.iter().flat_map(|tile| &tile.pictures);
        let sides = pictures.map(|picture| shown_side(picture.side, most));
        let side = sides.max().unwrap_or(SIDE_MIN);
        let pictures = tiles.iter().map(|tile| tile.pictures.len()).max().unwrap_or(0).max(1) as u32;
        let lines = tiles.iter().map(|tile| tile.captions.len()).max().unwrap_or(0) as u32;
        let tile = (pictures * (side + PAIR_GAP) - PAIR_GAP, side + lines * LINE_HEIGHT);
        let count = tiles.len().max(1) as u32;
        let columns = ((WIDTH_MAX - GAP) / (tile.0 + GAP)).clamp(1, count);
        Self { columns, rows: count.div_ceil(columns), tile, side }
    }

    /// Of the whole sheet.
    fn size(&self) -> (u32, u32) {
        let width = self.columns * (self.tile.0 + GAP) + GAP;
        (width, TITLE_HEIGHT + self.rows * (self.tile.1 + GAP) + GAP)
    }

    /// The upper left corner of a tile.
    fn corner(&self, index: u32) -> (u32, u32) {
        let (column, row) = (index % self.columns, index / self.columns);
        (GAP + column * (self.tile.0 + GAP), TITLE_HEIGHT + GAP + row * (self.tile.1 + GAP))
    }
}

/// Writes a PNG sheet of tiles, row by row. Pictures may be of different sizes; a text too long for its place ends in an
/// ellipsis. No tiles give a sheet with nothing but its title.
///
/// # Errors
///
/// More than 1024 tiles; a picture whose bytes do not fit its side; a file that cannot be written.
pub fn write_gallery(path: &Path, title: &str, tiles: &[Tile]) -> anyhow::Result<()> {
    ensure!(tiles.len() <= TILES_MAX, "a sheet shows at most {TILES_MAX} pictures, not {}", tiles.len());
    for Picture { side, planes } in tiles.iter().flat_map(|tile| &tile.pictures) {
        let bytes = 3 * *side as usize * *side as usize;
        ensure!(*side > 0 && planes.len() == bytes, "{} bytes are no picture of side {side}", planes.len());
    }
    let layout = Layout::of(tiles);
    let (width, height) = layout.size();
    // Room for the title where there are few pictures.
    let size = (width.max(400), height);
    write_png(path, size, |area| {
        let style = letters(19, FontStyle::Bold, INK, (HPos::Left, VPos::Center));
        let title = fitted(area, title, &style, size.0 - 2 * GAP)?;
        area.draw(&Text::new(title, (px(GAP), px(TITLE_HEIGHT / 2 + 4)), style))?;
        (0_u32..)
            .zip(tiles)
            .try_for_each(|(index, tile)| draw_tile(area, tile, layout.corner(index), &layout))
    })
}

fn draw_tile(area: &Area<'_>, tile: &Tile, corner: (u32, u32), layout: &Layout) -> anyhow::Result<()> {
    for (index, picture) in (0_u32..).zip(&tile.pictures) {
        let drawn = drawn(picture, layout.side * SCALE);
        let at = (px(corner.0 + index * (layout.side + PAIR_GAP)), px(corner.1));
        let size = drawn.dimensions();
        let element = BitMapElement::<_>::with_owned_buffer(at, size, drawn.into_raw());
        area.draw(&element.ok_or_else(|| anyhow::anyhow!("a picture does not fill its place"))?)?;
    }
    for (line, caption) in (0_u32..).zip(&tile.captions) {
        let colour = match caption.tone {
            Tone::Plain => INK,
            // The vermilion of the curves.
            Tone::Wrong => RGBColor(213, 94, 0),
        };
        let style = letters(15, FontStyle::Normal, colour, (HPos::Center, VPos::Center));
        let text = fitted(area, &caption.text, &style, layout.tile.0 + GAP / 2)?;
        let middle = corner.1 + layout.side + line * LINE_HEIGHT + LINE_HEIGHT / 2 + 1;
        area.draw(&Text::new(text, (px(corner.0 + layout.tile.0 / 2), px(middle)), style))?;
    }
    Ok(())
}

/// Pixels of the PNG file, `most` at the most, that a picture's side takes where no other is larger.
fn shown_side(side: u32, most: u32) -> u32 {
    let enlarged = side.saturating_mul(SIDE_MIN.div_ceil(side));
    if enlarged > most { most.min(side.max(SIDE_MIN)) } else { enlarged }
}

/// The picture as large as its place is, in pixels of the drawing.
fn drawn(picture: &Picture, shown: u32) -> RgbImage {
    let Picture { side, planes } = picture;
    let plane = (*side * *side) as usize;
    let image = RgbImage::from_fn(*side, *side, |x, y| {
        let at = (y * side + x) as usize;
        Rgb([planes[at], planes[plane + at], planes[2 * plane + at]])
    });
    let filter = if shown.is_multiple_of(*side) { FilterType::Nearest } else { FilterType::Triangle };
    imageops::resize(&image, shown, shown, filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(side: u32, colour: [u8; 3]) -> Picture {
        let planes = colour.iter().flat_map(|value| vec![*value; (side * side) as usize]).collect();
        Picture { side, planes }
    }

    fn tile(pictures: Vec<Picture>, captions: &[&str]) -> Tile {
        let caption = |text: &&str| Caption { text: (*text).to_owned(), tone: Tone::Wrong };
        Tile { pictures, captions: captions.iter().map(caption).collect() }
    }

    fn sheet(tiles: &[Tile]) -> anyhow::Result<RgbImage> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("sheet.png");
        write_gallery(&path, "A title that is much too long for a sheet of this width, really", tiles)?;
        Ok(image::open(path)?.to_rgb8())
    }

    #[test]
    fn every_picture_lies_in_its_place_in_its_colours() {
        let tiles: Vec<Tile> =
            (0..30).map(|index| tile(vec![plain(32, [index * 8, 9, 200])], &["x"])).collect();
        let layout = Layout::of(&tiles);
        assert_eq!((layout.columns, layout.rows, layout.side), (11, 3, 96));
        let sheet = sheet(&tiles).unwrap();
        assert_eq!(sheet.dimensions(), layout.size());
        for index in [0, 10, 11, 29] {
            let (left, top) = layout.corner(index);
            for (dx, dy) in [(0, 0), (95, 95), (50, 0)] {
                let pixel = sheet.get_pixel(left + dx, top + dy).0;
                assert_eq!(pixel, [index as u8 * 8, 9, 200], "{index}");
            }
            assert_eq!(sheet.get_pixel(left - 1, top).0, [255; 3]);
            assert_eq!(sheet.get_pixel(left + 96, top + 95).0, [255; 3]);
        }
    }

    #[test]
    fn pictures_of_any_size_are_seen_whole() {
        let pictures = [1, 7, 33, 96, 100, 224, 300, 512].map(|side| plain(side, [200, 0, 0]));
        for picture in &pictures {
            let shown = shown_side(picture.side, SIDE_MAX);
            assert!((SIDE_MIN..=SIDE_MAX).contains(&shown), "{} is shown as {shown}", picture.side);
            let sheet = sheet(&[tile(vec![picture.clone()], &[])]).unwrap();
            let red = sheet.pixels().filter(|pixel| pixel.0 == [200, 0, 0]).count();
            assert_eq!(red, (shown * shown) as usize, "{}", picture.side);
        }
        // Pairs of which one half has more pixels than the other.
        let tiles = [tile(vec![pictures[0].clone(), pictures[5].clone()], &["a"]), tile(vec![], &["b"])];
        let layout = Layout::of(&tiles);
        assert_eq!((layout.side, layout.tile), (224, (224 * 2 + PAIR_GAP, 224 + LINE_HEIGHT)));
        assert_eq!(sheet(&tiles).unwrap().dimensions(), layout.size());
    }

    #[test]
    fn a_sheet_of_many_shows_them_small() {
        let pair = tile(vec![plain(224, [9; 3]), plain(512, [9; 3])], &["x"]);
        assert_eq!(Layout::of(&vec![pair.clone(); LARGE_TILES_MAX]).side, SIDE_MAX);
        let (width, height) = Layout::of(&vec![pair; TILES_MAX]).size();
        assert!(width <= WIDTH_MAX && width * height < 50_000_000, "{width} by {height} pixels");
        for side in [1, 32, 50, 64, 95, 96, 97, 128, 200] {
            assert!((SIDE_MIN..=SIDE_MAX_OF_MANY).contains(&shown_side(side, SIDE_MAX_OF_MANY)), "{side}");
        }
    }

    #[test]
    fn pictures_are_cut_where_the_next_begins() {
        let planes: Vec<u8> = (0..24).collect();
        let pictures = Picture::all(2, &planes);
        assert_eq!((pictures.len(), pictures[1].side), (2, 2));
        assert_eq!(pictures[1].planes, planes[12..]);
        assert_eq!(Picture::all(0, &[]), []);
    }

    #[test]
    fn names_of_any_kind_and_length_stay_in_their_places() {
        let long = "W".repeat(3000);
        let names =
            ["", "cat\n", "猫", "\u{202e}abc", long.as_str(), "two words that do not fit into a picture"];
        let tiles: Vec<Tile> =
            names.iter().map(|name| tile(vec![plain(32, [9; 3])], &[name, "dog 99 %"])).collect();
        let layout = Layout::of(&tiles);
        let sheet = sheet(&tiles).unwrap();
        assert_eq!(sheet.dimensions(), layout.size());
        // Between two tiles nothing is written.
        let column = layout.corner(1).0 - GAP / 2;
        for y in TITLE_HEIGHT + GAP..sheet.height() {
            assert_eq!(sheet.get_pixel(column, y).0, [255; 3], "{y}");
        }
    }

    #[test]
    fn a_sheet_of_nothing_is_a_sheet_and_wrong_pictures_are_refused() {
        assert_eq!(sheet(&[]).unwrap().width(), 400);
        let short = Picture { side: 4, planes: vec![0; 47] };
        assert!(sheet(&[tile(vec![short], &[])]).is_err());
        assert!(sheet(&[tile(vec![Picture { side: 0, planes: vec![] }], &[])]).is_err());
        assert!(sheet(&vec![tile(vec![], &[]); TILES_MAX + 1]).is_err());
    }
}
