//! One chart: lines over epochs, with axes, a grid and a legend.

use plotters::prelude::{
    BitMapBackend, Cartesian2d, ChartBuilder, ChartContext, Color as _, LineSeries, PathElement,
    SeriesLabelPosition, WHITE,
};
use plotters::style::{FontDesc, FontFamily, FontStyle, RGBColor, ShapeStyle, TextStyle};

use super::canvas::{Area, FONT, INK, SCALE};
use super::ticks::Axis;

/// Of the PNG file, in pixels.
pub(crate) const SIZE: (u32, u32) = (1000, 600);

/// Told apart by people who do not see red from green, too (Wong 2011: blue, vermilion).
const COLOURS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0)];
const GRID: RGBColor = RGBColor(226, 226, 226);
const FRAME: RGBColor = RGBColor(140, 140, 140);

/// Up to here each point gets a mark; beyond, marks would run into one another.
const MARKED_POINTS_MAX: usize = 40;

#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    /// What the vertical axis counts.
    pub(crate) unit: &'static str,
    /// The values lie in 0..=100 and usually rise.
    pub(crate) per_cent: bool,
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    /// Epoch and value; values that are not finite interrupt the line.
    pub(crate) points: Vec<(u32, f64)>,
}

impl Line {
    /// The pieces between values that are not finite.
    fn pieces(&self) -> impl Iterator<Item = Vec<(f64, f64)>> {
        self.points
            .split(|(_, value)| !value.is_finite())
            .filter(|piece| !piece.is_empty())
            .map(|piece| piece.iter().map(|(epoch, value)| (f64::from(*epoch), *value)).collect())
    }
}

pub(crate) fn draw(chart: &Chart, area: &Area<'_>) -> anyhow::Result<()> {
    let epochs = || chart.lines.iter().flat_map(|line| line.points.iter().map(|(epoch, _)| *epoch));
    let x = Axis::whole(epochs().min().unwrap_or(0), epochs().max().unwrap_or(0), 10);
    let bounds = if chart.per_cent { (0.0, 100.0) } else { (f64::NEG_INFINITY, f64::INFINITY) };
    let values = chart.lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value));
    let y = Axis::around(values, bounds, 6);

    let mut context = ChartBuilder::on(area)
        .margin(px(14))
        .margin_right(px(28))
        .caption(chart.title, text(27, FontStyle::Bold))
        .x_label_area_size(px(58))
        .y_label_area_size(px(84))
        .build_cartesian_2d(x, y)?;
    context
        .configure_mesh()
        .bold_line_style(GRID.stroke_width(SCALE))
        .axis_style(FRAME.stroke_width(SCALE))
        .max_light_lines(0)
        .x_desc("epoch")
        .y_desc(chart.unit)
        .label_style(text(19, FontStyle::Normal))
        .axis_desc_style(text(20, FontStyle::Normal))
        .draw()?;
    for (line, colour) in chart.lines.iter().zip(COLOURS) {
        draw_line(&mut context, line, colour)?;
    }
    if chart.lines.len() > 1 {
        let corner =
            if chart.per_cent { SeriesLabelPosition::LowerRight } else { SeriesLabelPosition::UpperRight };
        context
            .configure_series_labels()
            .position(corner)
            .margin(px(14))
            .legend_area_size(px(40))
            .background_style(WHITE.mix(0.9))
            .border_style(GRID.stroke_width(SCALE))
            .label_font(text(20, FontStyle::Normal))
            .draw()?;
    }
    Ok(())
}

fn draw_line(
    context: &mut ChartContext<'_, BitMapBackend<'_>, Cartesian2d<Axis, Axis>>,
    line: &Line,
    colour: RGBColor,
) -> anyhow::Result<()> {
    let style = ShapeStyle { color: colour.to_rgba(), filled: true, stroke_width: 5 * SCALE / 2 };
    let all_marked = line.points.len() <= MARKED_POINTS_MAX;
    for piece in line.pieces() {
        let mark = if all_marked || piece.len() == 1 { 4 * SCALE } else { 0 };
        context.draw_series(LineSeries::new(piece, style).point_size(mark))?;
    }
    // The legend's entry, also of a line that has no piece.
    context
        .draw_series(LineSeries::new(std::iter::empty(), style))?
        .label(line.name.as_str())
        .legend(move |(x, y)| PathElement::new([(x + px(4), y), (x + px(30), y)], style));
    Ok(())
}

fn text(size: u32, style: FontStyle) -> TextStyle<'static> {
    // Not `.into_font().style(…)`, which keeps the glyphs of the style before.
    FontDesc::new(FontFamily::Name(FONT), f64::from(size * SCALE), style).color(&INK)
}

/// Pixels of the PNG file in pixels of the drawing.
fn px(pixels: i32) -> i32 {
    pixels * SCALE.cast_signed()
}
