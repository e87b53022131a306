//! Drawings as PNG, painted by plotters' bitmap backend.

use std::io::Cursor;

use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle, register_font};

use super::super::drawing::{Anchor, Drawing, Paint, Shape};
use crate::guard::escape;

/// DejaVu Sans, the Latin, Greek and Cyrillic letters and the symbols that charts use; its licence lies beside it. Other
/// letters are painted as a box; the SVG files have them all.
const FONT: &[u8] = include_bytes!("DejaVuSans-subset.ttf");
const FAMILY: &str = "llava-gauge";
/// Height of the font from ascent to descent over the size of its em.
const HEIGHT_PER_EM: f64 = 1.164;

/// Pixels of the file per CSS pixel.
const SCALE: usize = 2;
/// Pixels painted per pixel of the file and direction; averaged, they smooth edges.
const SAMPLES: usize = 2;
/// Most pixels painted; drawings that would need more are painted without smoothing, at their own size.
const MOST_PIXELS: f64 = 120e6;

/// The drawing as PNG on white, at twice its size.
pub(super) fn png(drawing: &Drawing) -> Result<Vec<u8>, String> {
    register_font(FAMILY, FontStyle::Normal, FONT).map_err(|_| "the font of the plots cannot be read".to_owned())?;
    let fine = (SCALE * SAMPLES) as f64;
    let (scale, samples) = if drawing.width * drawing.height * fine * fine <= MOST_PIXELS { (fine, SAMPLES) } else { (1.0, 1) };
    let side = |length: f64| ((length * scale / samples as f64).ceil().clamp(1.0, 30_000.0)) as usize;
    let (width, height) = (side(drawing.width), side(drawing.height));
    let (wide, high) = (width * samples, height * samples);
    let mut buffer = vec![255_u8; wide * high * 3];
    paint(drawing, &mut buffer, (wide as u32, high as u32), scale)?;
    let painted = image::RgbImage::from_raw(wide as u32, high as u32, buffer).ok_or("the plot has no size")?;
    let painted = image::DynamicImage::from(painted);
    // Means over squares of painted pixels.
    let image = if samples == 1 { painted } else { painted.thumbnail_exact(width as u32, height as u32) };
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).map_err(|error| error.to_string())?;
    Ok(bytes.into_inner())
}

fn color(paint: Paint) -> RGBColor {
    let rgb = paint.rgb();
    RGBColor((rgb >> 16) as u8, (rgb >> 8) as u8, rgb as u8)
}

fn paint(drawing: &Drawing, buffer: &mut [u8], size: (u32, u32), scale: f64) -> Result<(), String> {
    let mut backend = BitMapBackend::with_buffer(buffer, size);
    let at = |[x, y]: [f64; 2]| ((x * scale).round() as i32, (y * scale).round() as i32);
    for shape in &drawing.shapes {
        let painted = match shape {
            Shape::Line { points, paint, width, dash } => {
                let style = ShapeStyle::from(&color(*paint)).stroke_width((width * scale).round().max(1.0) as u32);
                match dash.lengths() {
                    None => backend.draw_path(points.iter().map(|point| at(*point)), &style),
                    Some(lengths) => dashes(points, lengths)
                        .into_iter()
                        .try_for_each(|[from, to]| backend.draw_path([at(from), at(to)], &style)),
                }
            }
            Shape::Area { points, paint, opacity } => {
                let style = ShapeStyle::from(&color(*paint).mix(*opacity)).filled();
                backend.fill_polygon(points.iter().map(|point| at(*point)), &style)
            }
            Shape::Disc { centre, radius, paint, opacity } => {
                let style = ShapeStyle::from(&color(*paint).mix(*opacity)).filled();
                backend.draw_circle(at(*centre), (radius * scale).round().max(1.0) as u32, &style, true)
            }
            Shape::Text { at: place, text, size, paint, anchor } => {
                let horizontal = match anchor {
                    Anchor::Start => HPos::Left,
                    Anchor::Middle => HPos::Center,
                    Anchor::End => HPos::Right,
                };
                let font = (FAMILY, size * scale * HEIGHT_PER_EM).into_font();
                let color = color(*paint);
                let style = TextStyle::from(font).color(&color).pos(Pos::new(horizontal, VPos::Center));
                // The backend centres the box of the letters' em, which stands above their middle.
                let [x, y] = *place;
                backend.draw_text(&escape::terminal(text), &style, at([x, y + 0.2 * size]))
            }
        };
        painted.map_err(|error| error.to_string())?;
    }
    backend.present().map_err(|error| error.to_string())
}

/// The drawn pieces of a line with a pattern.
fn dashes(points: &[[f64; 2]], [drawn, left_out]: [f64; 2]) -> Vec<[[f64; 2]; 2]> {
    let mut pieces = Vec::new();
    let mut phase = 0.0;
    for pair in points.windows(2) {
        let [from, to] = pair else { continue };
        let length = (to[0] - from[0]).hypot(to[1] - from[1]);
        if !(length > 0.0 && length.is_finite()) {
            continue;
        }
        let along = |distance: f64| {
            let share = distance / length;
            [from[0] + (to[0] - from[0]) * share, from[1] + (to[1] - from[1]) * share]
        };
        let mut start = -phase;
        while start < length {
            if start + drawn > 0.0 {
                pieces.push([along(start.max(0.0)), along((start + drawn).min(length))]);
            }
            start += drawn + left_out;
        }
        phase = (phase + length) % (drawn + left_out);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_shows_its_colours_where_they_are() {
        let mut drawing = Drawing::new(40.0, 20.0, String::new());
        drawing.rectangle([0.0, 0.0], [20.0, 20.0], Paint::Bad, 1.0);
        drawing.text([30.0, 10.0], "MMM", 12.0, Paint::Ink, Anchor::Middle);
        let image = image::load_from_memory(&png(&drawing).unwrap()).unwrap().to_rgb8();
        assert_eq!(image.dimensions(), (80, 40));
        assert_eq!(image.get_pixel(20, 20).0, [0xB3, 0x26, 0x1E]);
        assert_eq!(image.get_pixel(78, 2).0, [255, 255, 255]);
        let dark = image.enumerate_pixels().filter(|(x, _, pixel)| *x > 42 && pixel.0[0] < 100).count();
        assert!(dark > 50, "the text has {dark} dark pixels");
    }

    #[test]
    fn dashes_cover_their_share_of_a_line() {
        let pieces = dashes(&[[0.0, 0.0], [9.0, 0.0], [9.0, 90.0]], [6.0, 3.0]);
        let drawn: f64 = pieces.iter().map(|[from, to]| (to[0] - from[0]).hypot(to[1] - from[1])).sum();
        assert!((drawn - 66.0).abs() < 1e-9, "{drawn}");
        assert!(dashes(&[[1.0, 1.0], [1.0, 1.0]], [6.0, 3.0]).is_empty());
    }
}
