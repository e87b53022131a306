//! A radar chart over the benchmarks, drawn as SVG by hand. It shows shape only; the numbers stand in the tables.

use maud::{Markup, html};

use crate::guard::escape;

use super::charts;
use super::format;
use super::view::View;

const SIZE: f64 = 460.0;
const HEIGHT: f64 = 310.0;
const RADIUS: f64 = 116.0;

/// One axis: a benchmark whose primary metric has a direction “higher is better”.
struct Axis<'a> {
    title: &'a str,
    /// What lies on the outer ring.
    full: f64,
    /// By package.
    values: Vec<Option<f64>>,
}

/// The chart and the sentence that says how to read it; `None` with fewer than three axes, for which a radar has no
/// shape.
pub(super) fn chart(view: &View<'_>) -> Option<(Markup, String)> {
    let axes: Vec<Axis<'_>> = view.benchmarks.iter().filter_map(|benchmark| axis(view, benchmark)).collect();
    if axes.len() < 3 {
        return None;
    }
    let count = axes.len();
    let direction = |index: usize| {
        let angle = std::f64::consts::TAU * index as f64 / count as f64 - std::f64::consts::FRAC_PI_2;
        (angle.cos(), angle.sin())
    };
    let (center_x, center_y) = (SIZE / 2.0, HEIGHT / 2.0);
    let point = |index: usize, share: f64| {
        let (x, y) = direction(index);
        (center_x + x * RADIUS * share, center_y + y * RADIUS * share)
    };
    let ring = |share: f64| path((0..count).map(|index| point(index, share)));
    let described: Vec<String> = axes.iter().map(|axis| describe(view, axis)).collect();
    let label = escape::visible(&format!("Radar chart. {}", described.join("; ")));

    let markup = html! {
        svg.chart.radar role="img" aria-label=(label) viewBox=(format!("0 0 {SIZE} {HEIGHT}")) width=(SIZE) height=(HEIGHT) {
            @for share in [0.25, 0.5, 0.75, 1.0] { path.grid d=(ring(share)) {} }
            @for (index, axis) in axes.iter().enumerate() {
                @let (x, y) = point(index, 1.0);
                @let (label_x, label_y) = point(index, 1.13);
                @let (cosine, _) = direction(index);
                line.grid x1=(px(center_x)) y1=(px(center_y)) x2=(px(x)) y2=(px(y)) {}
                text x=(px(label_x)) y=(px(label_y)) dy="0.35em" text-anchor=(anchor(cosine)) {
                    (escape::shorten(&escape::terminal(axis.title), 16))
                }
            }
            @for share in [50, 100] {
                @let (x, y) = point(0, f64::from(share) / 100.0);
                text.tick x=(px(x + 4.0)) y=(px(y + 11.0)) { (share) }
            }
            @for (package, _) in view.packages.iter().enumerate() {
                // A package that did not run every benchmark has points but no closed shape.
                @let color = charts::hex(charts::series(package));
                @let known: Vec<(f64, f64)> = axes.iter().enumerate()
                    .filter_map(|(index, axis)| share(axis, package).map(|share| point(index, share)))
                    .collect();
                @if known.len() == count {
                    path.shape d=(path(known.iter().copied())) fill=(color) stroke=(color) stroke-dasharray=(dashes(package)) {}
                }
                @for (x, y) in known {
                    @match package % 3 {
                        0 => circle cx=(px(x)) cy=(px(y)) r="4" fill=(color) {},
                        1 => rect x=(px(x - 3.5)) y=(px(y - 3.5)) width="7" height="7" fill=(color) {},
                        _ => path d=(path([(x, y - 5.0), (x + 5.0, y), (x, y + 5.0), (x - 5.0, y)].into_iter())) fill=(color) {},
                    }
                }
            }
        }
    };
    let relative = axes.iter().any(|axis| axis.full != 100.0);
    let mut reading = "Centre 0, outer ring 100 %.".to_owned();
    if relative {
        reading.push_str(" Metrics that are not per cent are shown as a share of the best package's value.");
    }
    if count < view.benchmarks.len() {
        reading.push_str(" Benchmarks without a “higher is better” metric are left out.");
    }
    Some((markup, reading))
}

fn axis<'a>(view: &View<'_>, benchmark: &super::view::BenchmarkView<'a>) -> Option<Axis<'a>> {
    let name = benchmark.primary_name();
    let first = benchmark.runs.iter().find_map(|run| run.metric(name))?;
    if first.higher_is_better != Some(true) {
        return None;
    }
    let values: Vec<Option<f64>> = (0..view.packages.len())
        .map(|package| benchmark.run_of(package).and_then(|run| run.metric(name)).map(|metric| metric.estimate.value))
        .map(|value| value.filter(|value| value.is_finite()))
        .collect();
    let best = values.iter().flatten().copied().fold(0.0, f64::max);
    let full = if benchmark.unit(name).is_percent() { 100.0 } else { best };
    (full > 0.0 && values.iter().any(Option::is_some)).then_some(Axis { title: benchmark.title, full, values })
}

fn share(axis: &Axis<'_>, package: usize) -> Option<f64> {
    axis.values.get(package).copied().flatten().map(|value| (value / axis.full).clamp(0.0, 1.0))
}

fn describe(view: &View<'_>, axis: &Axis<'_>) -> String {
    let values: Vec<String> = axis
        .values
        .iter()
        .enumerate()
        .filter_map(|(package, value)| value.map(|value| format!("{} {}", view.package(package), format::number(value, 1))))
        .collect();
    format!("{}: {}", axis.title, values.join(", "))
}

/// Line patterns of the packages.
pub(super) fn dashes(package: usize) -> &'static str {
    match package % 3 {
        0 => "none",
        1 => "6 3",
        _ => "2 2.5",
    }
}

fn anchor(cosine: f64) -> &'static str {
    if cosine > 0.2 {
        "start"
    } else if cosine < -0.2 {
        "end"
    } else {
        "middle"
    }
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let steps: Vec<String> = points.map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    format!("M{}Z", steps.join("L"))
}
