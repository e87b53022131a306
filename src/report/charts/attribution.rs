//! Which stage made the difference.

use super::super::drawing::{Anchor, Dash, Drawing, Paint};
use super::super::format::{self, Unit};
use super::{AXIS, LABELS, Panel, ROW, TOP, WIDTH, range_around_zero, ticks};
use crate::compare::{BenchmarkAttribution, LayerDivergence, Stage, StageDivergence};

/// The Shapley value of every stage and the whole difference, bars from zero with 95 % intervals.
pub(in super::super) fn shapley(benchmark: &BenchmarkAttribution, unit: Unit) -> Option<Drawing> {
    let mut rows: Vec<(&str, &crate::compare::Estimate)> =
        benchmark.stages.iter().map(|stage| (stage.stage.as_str(), &stage.contribution)).collect();
    rows.push(("whole", &benchmark.difference));
    rows.retain(|(_, estimate)| estimate.value.is_finite());
    if rows.is_empty() {
        return None;
    }
    let ends = rows.iter().flat_map(|(_, estimate)| {
        let [low, high] = estimate.interval.unwrap_or([estimate.value; 2]);
        [estimate.value, low, high]
    });
    let range = range_around_zero(ends, 0.5);
    let described: Vec<String> = rows
        .iter()
        .map(|(name, estimate)| format!("{name} {} ({})", unit.difference(estimate), unit.difference_interval(estimate)))
        .collect();
    let label = format!("{}, what each stage contributes to the difference: {}", benchmark.title, described.join("; "));
    let mut panel = Panel::new(rows.len(), ROW, range, "", label);
    let bottom = panel.y(rows.len()) - ROW / 2.0;
    let zero = panel.x(0.0);
    for (row, (name, estimate)) in rows.iter().enumerate() {
        panel.label(row, name, &unit.difference(estimate));
        let y = panel.y(row);
        let x = panel.x(estimate.value);
        let paint = if *name == "whole" { Paint::Muted } else { stage_paint(name) };
        let (from, to) = ([zero.min(x), y - 7.0], [zero.max(x), y + 7.0]);
        panel.drawing.rectangle(from, to, paint, if *name == "whole" { 0.5 } else { 0.8 });
        if *name == "vision" {
            panel.drawing.hatch(from, to, 1.0, Paint::Page);
        }
        if let Some(interval) = estimate.interval.filter(|ends| ends.iter().all(|end| end.is_finite())) {
            panel.interval(y, interval, Paint::Ink, 3.0);
        }
    }
    panel.drawing.line(&[[zero, TOP], [zero, bottom]], Paint::Ink, 1.0);
    Some(panel.drawing)
}

fn stage_paint(name: &str) -> Paint {
    match name {
        "vision" => Paint::Stage(1),
        "projector" => Paint::Stage(2),
        _ => Paint::Stage(4),
    }
}

/// How far the hidden states lie apart after each layer of a stage.
pub(in super::super) fn layers(divergence: &StageDivergence, stage: Stage) -> Option<Drawing> {
    const HEIGHT: f64 = 170.0;
    let layers: Vec<&LayerDivergence> = divergence
        .layers
        .iter()
        .filter(|layer| {
            layer.stage == stage && layer.divergence.relative_error.is_finite() && layer.alone.relative_error.is_finite()
        })
        .collect();
    let errors = layers.iter().flat_map(|layer| [layer.divergence.relative_error, layer.alone.relative_error]);
    let highest = errors.fold(0.0, f64::max);
    let (first, last) = (layers.first()?.layer as f64, layers.last()?.layer as f64);
    if layers.len() < 2 || last <= first || !highest.is_finite() {
        return None;
    }
    let highest = highest.max(1e-9) * 1.1;
    let left = LABELS / 2.0;
    let x = |layer: usize| left + (layer as f64 - first) / (last - first) * (WIDTH - left - 16.0);
    let y = |error: f64| HEIGHT - AXIS - error / highest * (HEIGHT - AXIS - TOP - 4.0);
    let described: Vec<String> = layers
        .iter()
        .map(|layer| {
            let errors = [layer.divergence.relative_error, layer.alone.relative_error].map(format::significant);
            format!("{} {} (alone {})", layer.layer, errors[0], errors[1])
        })
        .collect();
    let label = format!("Relative error of the hidden states of {} after each layer: {}", stage.as_str(), described.join("; "));
    let mut drawing = Drawing::new(WIDTH, HEIGHT, label);
    let (marks, decimals) = ticks([0.0, highest]);
    for mark in marks {
        drawing.line(&[[left, y(mark)], [WIDTH - 16.0, y(mark)]], Paint::Grid, 1.0);
        drawing.text([left - 6.0, y(mark)], format::number(mark, decimals), 11.0, Paint::Muted, Anchor::End);
    }
    let every = layers.len().div_ceil(8).max(1);
    for layer in layers.iter().step_by(every) {
        drawing.text([x(layer.layer), HEIGHT - AXIS + 12.0], layer.layer.to_string(), 11.0, Paint::Muted, Anchor::Middle);
    }
    let points: Vec<[f64; 2]> = layers.iter().map(|layer| [x(layer.layer), y(layer.divergence.relative_error)]).collect();
    let paint = stage_paint(stage.as_str());
    let alone: Vec<[f64; 2]> = layers.iter().map(|layer| [x(layer.layer), y(layer.alone.relative_error)]).collect();
    drawing.dashed(&alone, Paint::Ink, 1.5, Dash::Long);
    drawing.line(&points, paint, 2.0);
    for point in points {
        drawing.mark(0, point, 3.0, paint, 1.0);
    }
    Some(drawing)
}
