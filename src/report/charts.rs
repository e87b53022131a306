//! Accuracy and latency charts as SVG, one small panel per benchmark, by plotters.
//!
//! Panels are drawn at twice their shown size (plotters places everything on whole pixels) in the colours of the light
//! page; the style sheet maps those colours to the dark page's by attribute selectors.

use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::compare::{LatencySummary, RunSummary};
use crate::guard::escape;

use super::format::{self, Unit};
use super::types::ReportError;
use super::view::{BenchmarkView, View};

/// Shown width of a panel in CSS pixels.
const WIDTH: u32 = 360;
/// Pixels drawn per CSS pixel.
const SCALE: u32 = 2;
const ROW: u32 = 26;
const TOP: u32 = 6;
const AXIS: u32 = 26;
const LABELS: u32 = 112;
const VALUES: u32 = 84;

/// Colours of the packages: Okabe and Ito's, told apart with every common colour blindness. Repeated beyond six.
pub(super) const SERIES: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0x8C, 0x6D, 0x1F),
    RGBColor(0x56, 0xB4, 0xE9),
];
const INK: RGBColor = RGBColor(0x1F, 0x23, 0x28);
const MUTED: RGBColor = RGBColor(0x59, 0x63, 0x6E);
const GRID: RGBColor = RGBColor(0xD8, 0xDE, 0xE4);

/// The stages of a question in the order in which they run: name, colour, and where its quantiles stand.
pub(super) const STAGES: [(&str, RGBColor); 5] = [
    ("image", RGBColor(0x8B, 0x94, 0x9E)),
    ("vision", RGBColor(0x3B, 0x82, 0xC4)),
    ("projector", RGBColor(0xB8, 0x5C, 0x9E)),
    ("prefill", RGBColor(0xE0, 0x9F, 0x3E)),
    ("decode", RGBColor(0x2A, 0x8F, 0x6D)),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The primary metric of every package on one benchmark: a point with its 95 % interval.
pub(super) fn accuracy(view: &View<'_>, benchmark: &BenchmarkView<'_>) -> Result<Option<Markup>, ReportError> {
    let name = benchmark.primary_name();
    let unit = benchmark.unit(name);
    let points: Vec<(usize, f64, [f64; 2], String)> = benchmark
        .runs
        .iter()
        .filter_map(|run| {
            let estimate = &run.metric(name)?.estimate;
            let interval = estimate.interval.unwrap_or([estimate.value, estimate.value]);
            let finite = estimate.value.is_finite() && interval.iter().all(|bound| bound.is_finite());
            finite.then(|| (run.package, estimate.value, interval, unit.value(estimate)))
        })
        .collect();
    let Some(range) = padded_range(points.iter().flat_map(|(_, value, [low, high], _)| [*value, *low, *high]), unit) else {
        return Ok(None);
    };
    let described: Vec<String> =
        points.iter().map(|(package, .., text)| format!("{} {text}{}", view.package(*package), unit.suffix())).collect();
    let label = format!("{}, {name}, with 95 % intervals: {}", benchmark.title, described.join("; "));
    let height = TOP + ROW * points.len() as u32 + AXIS;
    let svg = draw(height, benchmark.title, |area| {
        axis(area, range, points.len() as u32, unit)?;
        for (row, (package, value, [low, high], text)) in points.iter().enumerate() {
            let y = row_middle(row);
            let color = series(*package);
            area.draw(&Text::new(fit(view.package(*package)), at(LABELS - 8, y), font(12, INK, HPos::Right)))?;
            let (x, x_low, x_high) = (position(*value, range), position(*low, range), position(*high, range));
            let line = color.stroke_width(2 * SCALE);
            area.draw(&PathElement::new(vec![(x_low, y), (x_high, y)], line))?;
            for end in [x_low, x_high] {
                area.draw(&PathElement::new(vec![(end, y - 8), (end, y + 8)], line))?;
            }
            marker(area, *package, (x, y), color)?;
            area.draw(&Text::new(text.clone(), at(WIDTH - 2, y), font(12, INK, HPos::Right)))?;
        }
        Ok(())
    })?;
    Ok(Some(figure(&label, &svg)))
}

/// Milliseconds per question by stage for every package on one benchmark, stacked.
pub(super) fn latency(view: &View<'_>, benchmark: &BenchmarkView<'_>) -> Result<Option<Markup>, ReportError> {
    let bars: Vec<(usize, [f64; 5])> =
        benchmark.runs.iter().filter_map(|run| stages_per_question(run.run).map(|stages| (run.package, stages))).collect();
    let longest = bars.iter().map(|(_, stages)| stages.iter().sum::<f64>()).fold(0.0, f64::max);
    if bars.is_empty() || longest <= 0.0 {
        return Ok(None);
    }
    let range = [0.0, longest * 1.02];
    let described: Vec<String> = bars
        .iter()
        .map(|(package, stages)| {
            let parts: Vec<String> =
                STAGES.iter().zip(stages).map(|((name, _), value)| format!("{name} {}", format::significant(*value))).collect();
            format!("{} {}", view.package(*package), parts.join(", "))
        })
        .collect();
    let label = format!("{}, milliseconds per question by stage: {}", benchmark.title, described.join("; "));
    let height = TOP + ROW * bars.len() as u32 + AXIS;
    let svg = draw(height, benchmark.title, |area| {
        axis(area, range, bars.len() as u32, Unit::of(10.0))?;
        for (row, (package, stages)) in bars.iter().enumerate() {
            let y = row_middle(row);
            area.draw(&Text::new(fit(view.package(*package)), at(LABELS - 8, y), font(12, INK, HPos::Right)))?;
            let mut start = 0.0;
            for ((_, color), value) in STAGES.iter().zip(stages) {
                let (left, right) = (position(start, range), position(start + value, range));
                if right > left {
                    area.draw(&Rectangle::new([(left, y - 14), (right, y + 14)], color.filled()))?;
                }
                start += value;
            }
            let total = format!("{} ms", format::significant(stages.iter().sum()));
            area.draw(&Text::new(total, at(WIDTH - 2, y), font(12, INK, HPos::Right)))?;
        }
        Ok(())
    })?;
    Ok(Some(figure(&label, &svg)))
}

/// Mean milliseconds per question in each of [`STAGES`]; `None` without any timing.
///
/// Stage quantiles are per image group, so a stage's total is mean × groups. The totals are divided by the number of
/// questions that makes the engine's stages add up to `per_question_ms`; where that is missing, by the records.
pub(super) fn stages_per_question(run: &RunSummary) -> Option<[f64; 5]> {
    let LatencySummary { image, vision, projector, prefill, decode, per_question_ms, .. } = &run.latency;
    let totals = [image, vision, projector, prefill, decode]
        .map(|stage| stage.as_ref().map_or(0.0, |quantiles| quantiles.mean_ms * quantiles.n as f64))
        .map(|total| if total.is_finite() { total.max(0.0) } else { 0.0 });
    let engine: f64 = totals.iter().skip(1).sum();
    let questions = match per_question_ms {
        Some(per_question) if *per_question > 0.0 && engine > 0.0 => engine / per_question,
        _ => run.records as f64,
    };
    (questions > 0.0 && totals.iter().sum::<f64>() > 0.0).then(|| totals.map(|total| total / questions))
}

/// A colour of a package.
pub(super) fn series(package: usize) -> RGBColor {
    SERIES.get(package % SERIES.len()).copied().unwrap_or(INK)
}

/// `#0072B2`.
pub(super) fn hex(color: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2)
}

fn figure(label: &str, svg: &str) -> Markup {
    // The backend begins with `<svg `, and escapes every text and attribute that it was given.
    let body = svg.strip_prefix("<svg ").unwrap_or_default();
    let label = html! { (escape::visible(label)) }.into_string();
    PreEscaped(format!("<svg class=\"chart\" role=\"img\" aria-label=\"{label}\" {body}"))
}

fn draw(
    height: u32,
    chart: &str,
    paint: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<String, ReportError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH * SCALE, height * SCALE)).into_drawing_area();
        paint(&area)
            .and_then(|()| area.present().map_err(Into::into))
            .map_err(|error| ReportError::Chart { chart: chart.to_owned(), message: error.to_string() })?;
    }
    Ok(svg)
}

/// The horizontal axis below the rows: ticks at round numbers and light grid lines.
fn axis(area: &Area<'_>, range: [f64; 2], rows: u32, unit: Unit) -> Result<(), Box<dyn std::error::Error>> {
    let (top, bottom) = ((TOP * SCALE) as i32, ((TOP + ROW * rows) * SCALE) as i32);
    let (ticks, decimals) = ticks(range);
    for tick in ticks {
        let x = position(tick, range);
        area.draw(&PathElement::new(vec![(x, top), (x, bottom)], GRID.stroke_width(SCALE)))?;
        let suffix = if unit.is_percent() { " %" } else { "" };
        let style = font(11, MUTED, HPos::Center);
        area.draw(&Text::new(format!("{}{suffix}", format::number(tick, decimals)), (x, bottom + 22), style))?;
    }
    Ok(())
}

/// Three to six round numbers within a range, and how many decimals they need.
fn ticks([low, high]: [f64; 2]) -> (Vec<f64>, usize) {
    let rough = (high - low) / 3.5;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * magnitude).find(|step| *step >= rough).unwrap_or(magnitude);
    let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 6.0) as usize;
    let first = (low / step).ceil();
    let ticks = (0..8).map(|index| (first + f64::from(index)) * step).take_while(|tick| *tick <= high + step * 1e-9);
    (ticks.collect(), decimals)
}

/// The range of the values with some air, kept within 0 to 100 for per cent, and wide enough not to blow up noise.
fn padded_range(values: impl Iterator<Item = f64>, unit: Unit) -> Option<[f64; 2]> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if !(low.is_finite() && high.is_finite()) {
        return None;
    }
    let least = if unit.is_percent() { 4.0 } else { (high.abs() * 0.04).max(1e-6) };
    let air = ((high - low) * 0.08).max((least - (high - low)) / 2.0);
    let (mut low, mut high) = (low - air, high + air);
    if unit.is_percent() && low < 0.0 && high <= 100.0 {
        low = low.max(-1.0);
    }
    if unit.is_percent() && high > 100.0 && low >= 0.0 {
        high = high.min(101.0);
    }
    (high > low).then_some([low, high])
}

fn position(value: f64, [low, high]: [f64; 2]) -> i32 {
    let (left, right) = (f64::from(LABELS * SCALE), f64::from((WIDTH - VALUES) * SCALE));
    (left + (value - low) / (high - low) * (right - left)).round() as i32
}

fn row_middle(row: usize) -> i32 {
    ((TOP + ROW * row as u32 + ROW / 2) * SCALE) as i32
}

fn at(x: u32, y: i32) -> (i32, i32) {
    ((x * SCALE) as i32, y)
}

/// A text style; `size` in CSS pixels. The backend divides sizes by 1.24 on their way to `font-size`.
fn font(size: u32, color: RGBColor, horizontal: HPos) -> TextStyle<'static> {
    let pixels = f64::from(size * SCALE) * 1.24;
    TextStyle {
        font: ("sans-serif", pixels).into_font(),
        color: color.to_backend_color(),
        pos: Pos::new(horizontal, VPos::Center),
    }
}

/// A package's name in the space of the labels.
fn fit(name: &str) -> String {
    escape::shorten_middle(&escape::terminal(name), 16)
}

/// The mark of a package: shapes differ as well as colours.
fn marker(area: &Area<'_>, package: usize, center: (i32, i32), color: RGBColor) -> Result<(), Box<dyn std::error::Error>> {
    match package % 3 {
        0 => area.draw(&Circle::new(center, 9, color.filled()))?,
        1 => area.draw(&Rectangle::new([(center.0 - 8, center.1 - 8), (center.0 + 8, center.1 + 8)], color.filled()))?,
        _ => area.draw(&Polygon::new(
            vec![(center.0, center.1 - 11), (center.0 + 11, center.1), (center.0, center.1 + 11), (center.0 - 11, center.1)],
            color,
        ))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks([0.0, 100.0]), (vec![0.0, 50.0, 100.0], 0));
        assert_eq!(ticks([78.2, 91.7]).0, [80.0, 85.0, 90.0]);
        for range in [[0.0, 1e-3], [99.6, 100.2], [-3.0, 5.0], [1234.0, 1567.0]] {
            let (ticks, _) = ticks(range);
            assert!((2..=6).contains(&ticks.len()), "{range:?}: {ticks:?}");
        }
    }

    #[test]
    fn ranges_keep_noise_small() {
        let unit = Unit::of(100.0);
        let [low, high] = padded_range([84.0, 84.1].into_iter(), unit).unwrap();
        assert!(high - low >= 4.0, "{low} {high}");
        assert_eq!(padded_range([99.0, 100.0].into_iter(), unit).unwrap()[1], 101.0);
        assert!(padded_range([f64::NAN].into_iter(), unit).is_none());
        assert!(padded_range(std::iter::empty(), unit).is_none());
    }
}
