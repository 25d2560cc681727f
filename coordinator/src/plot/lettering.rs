//! Words in pictures: one size of letters for one purpose, cut to the room there is.

use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, FontDesc, FontFamily, FontStyle, FontTransform, RGBColor, TextStyle};

use super::canvas::{Area, FONT, SCALE};

/// Letters of `size` pixels of the PNG file.
pub(crate) fn letters(
    size: u32,
    style: FontStyle,
    colour: RGBColor,
    anchor: (HPos, VPos),
) -> TextStyle<'static> {
    // Not `.into_font().style(…)`, which keeps the glyphs of the style before.
    let font = FontDesc::new(FontFamily::Name(FONT), f64::from(size * SCALE), style);
    let mut style = TextStyle::from(font).pos(Pos::new(anchor.0, anchor.1));
    style.color = colour.to_backend_color();
    style
}

/// The same, read from below.
pub(crate) fn upwards(style: &TextStyle<'static>) -> TextStyle<'static> {
    style.transform(FontTransform::Rotate270)
}

/// `text` without line ends and the like; what is wider than `room` pixels of the PNG file ends in an ellipsis.
pub(crate) fn fitted(
    area: &Area<'_>,
    text: &str,
    style: &TextStyle<'_>,
    room: u32,
) -> anyhow::Result<String> {
    let width = |text: &str| area.estimate_text_size(text, style).map(|size| size.0);
    let whole = text.replace(char::is_control, " ");
    if width(&whole)? <= room * SCALE {
        return Ok(whole);
    }
    let letters: Vec<char> = whole.chars().collect();
    // The longest beginning that fits: names may have any length, and measuring is slow.
    let (mut fits, mut too_long) = (0, letters.len());
    while too_long - fits > 1 {
        let middle = usize::midpoint(fits, too_long);
        let cut: String = letters[..middle].iter().chain(['…'].iter()).collect();
        if width(&cut)? <= room * SCALE { fits = middle } else { too_long = middle }
    }
    Ok(letters[..fits].iter().chain(['…'].iter()).collect())
}
