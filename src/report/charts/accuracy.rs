//! Accuracy with intervals.

use super::super::drawing::{Drawing, Paint};
use super::super::view::{BenchmarkView, View};
use super::{Panel, ROW, padded_range, tick_suffix};

/// The primary metric of every package on one benchmark: a point with its 95 % interval.
pub(in super::super) fn accuracy(view: &View<'_>, benchmark: &BenchmarkView<'_>) -> Option<Drawing> {
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
    let range = padded_range(points.iter().flat_map(|(_, value, [low, high], _)| [*value, *low, *high]), unit)?;
    let described: Vec<String> =
        points.iter().map(|(package, .., text)| format!("{} {text}{}", view.package(*package), unit.suffix())).collect();
    let label = format!("{}, {name}, with 95 % intervals: {}", benchmark.title, described.join("; "));
    let mut panel = Panel::new(points.len(), ROW, range, tick_suffix(unit), label);
    for (row, (package, value, interval, text)) in points.iter().enumerate() {
        let paint = Paint::Series(*package);
        panel.label(row, view.package(*package), text);
        let y = panel.y(row);
        panel.interval(y, *interval, paint, 4.0);
        let x = panel.x(*value);
        panel.drawing.mark(*package, [x, y], 4.5, paint, 1.0);
    }
    Some(panel.drawing)
}
