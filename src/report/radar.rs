//! A radar chart over the benchmarks. It shows shape only; the numbers stand in the tables.

use super::drawing::{Anchor, Dash, Drawing, Paint, Shape};
use super::format;
use super::view::{BenchmarkView, View};
use crate::guard::escape;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 330.0;
const RADIUS: f64 = 118.0;

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
pub(super) fn chart(view: &View<'_>) -> Option<(Drawing, String)> {
    // Benchmarks that only a minority ran would leave every shape open.
    let most = view.benchmarks.iter().map(|benchmark| benchmark.runs.len()).max().unwrap_or(0);
    let shared = view.benchmarks.iter().filter(|benchmark| 2 * benchmark.runs.len() > most);
    let axes: Vec<Axis<'_>> = shared.filter_map(|benchmark| axis(view, benchmark)).collect();
    if axes.len() < 3 {
        return None;
    }
    let count = axes.len();
    let direction = |index: usize| {
        let angle = std::f64::consts::TAU * index as f64 / count as f64 - std::f64::consts::FRAC_PI_2;
        [angle.cos(), angle.sin()]
    };
    let point = |index: usize, share: f64| {
        let [x, y] = direction(index);
        [WIDTH / 2.0 + x * RADIUS * share, HEIGHT / 2.0 + y * RADIUS * share]
    };
    let ring = |share: f64| (0..=count).map(|index| point(index % count, share)).collect::<Vec<_>>();
    let described: Vec<String> = axes.iter().map(|axis| describe(view, axis)).collect();
    let mut drawing = Drawing::new(WIDTH, HEIGHT, format!("Radar chart. {}", described.join("; ")));
    for share in [0.25, 0.5, 0.75, 1.0] {
        drawing.line(&ring(share), Paint::Grid, 1.0);
    }
    for (index, axis) in axes.iter().enumerate() {
        drawing.line(&[[WIDTH / 2.0, HEIGHT / 2.0], point(index, 1.0)], Paint::Grid, 1.0);
        let [cosine, _] = direction(index);
        let anchor = if cosine > 0.2 {
            Anchor::Start
        } else if cosine < -0.2 {
            Anchor::End
        } else {
            Anchor::Middle
        };
        let at = point(index, 1.11);
        let room = match anchor {
            Anchor::Start => WIDTH - at[0],
            Anchor::End => at[0],
            Anchor::Middle => 180.0,
        };
        let characters = (room / (11.5 * 0.56)).max(4.0) as usize;
        drawing.text(at, escape::shorten(&escape::terminal(axis.title), characters), 11.5, Paint::Ink, anchor);
    }
    for share in [50, 100] {
        let [x, y] = point(0, f64::from(share) / 100.0);
        drawing.text([x + 4.0, y + 8.0], share.to_string(), 10.0, Paint::Muted, Anchor::Start);
    }
    for package in 0..view.packages.len() {
        let known: Vec<[f64; 2]> =
            axes.iter().enumerate().filter_map(|(index, axis)| share(axis, package).map(|share| point(index, share))).collect();
        let paint = Paint::Series(package);
        // A package that did not run every benchmark has points but no closed shape.
        if known.len() == count {
            drawing.shapes.push(Shape::Area { points: known.clone(), paint, opacity: 0.07 });
            let closed: Vec<[f64; 2]> = known.iter().chain(known.first()).copied().collect();
            drawing.dashed(&closed, paint, 2.0, Dash::of_package(package));
        }
        for at in known {
            drawing.mark(package, at, 4.0, paint, 1.0);
        }
    }
    let mut reading = "Centre 0, outer ring 100 %.".to_owned();
    if axes.iter().any(|axis| axis.full != 100.0) {
        reading.push_str(" Metrics that are not per cent are shown as a share of the best package's value.");
    }
    if count < view.benchmarks.len() {
        reading.push_str(" Benchmarks that few packages ran, or without a “higher is better” metric, are left out.");
    }
    Some((drawing, reading))
}

fn axis<'a>(view: &View<'_>, benchmark: &BenchmarkView<'a>) -> Option<Axis<'a>> {
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

/// The line pattern of a package as the `stroke-dasharray` of its boxes and lines.
pub(super) fn dashes(package: usize) -> &'static str {
    match Dash::of_package(package) {
        Dash::Solid => "none",
        Dash::Long => "6 3",
        Dash::Short => "2 2.5",
    }
}

/// The packages with the names of their marks, for a plot that stands alone.
pub(super) fn legend(view: &View<'_>) -> String {
    let marks = ["●", "■", "◆", "▲", "▼", "+"];
    let named = view.packages.iter().zip(marks.iter().cycle()).map(|(package, mark)| format!("{mark} {package}"));
    named.collect::<Vec<_>>().join("   ")
}
