//! Where the time goes, and how it spreads.

use super::super::drawing::{Drawing, Paint};
use super::super::format;
use super::super::view::{BenchmarkView, View};
use super::{Panel, ROW};
use crate::compare::{LatencySummary, Quantiles, RunSummary};

/// The stages of a question in the order in which they run.
pub(in super::super) const STAGES: [&str; 5] = ["image", "vision", "projector", "prefill", "decode"];

/// Milliseconds per question by stage for every package on one benchmark, stacked.
pub(in super::super) fn stages(view: &View<'_>, benchmark: &BenchmarkView<'_>) -> Option<Drawing> {
    let bars: Vec<(usize, [f64; 5])> =
        benchmark.runs.iter().filter_map(|run| stages_per_question(run.run).map(|stages| (run.package, stages))).collect();
    let longest = bars.iter().map(|(_, stages)| stages.iter().sum::<f64>()).fold(0.0, f64::max);
    if bars.is_empty() || longest <= 0.0 || !longest.is_finite() {
        return None;
    }
    let described: Vec<String> = bars
        .iter()
        .map(|(package, stages)| {
            let parts: Vec<String> =
                STAGES.iter().zip(stages).map(|(name, value)| format!("{name} {}", format::significant(*value))).collect();
            format!("{} {}", view.package(*package), parts.join(", "))
        })
        .collect();
    let label = format!("{}, milliseconds per question by stage: {}", benchmark.title, described.join("; "));
    let mut panel = Panel::new(bars.len(), ROW, [0.0, longest * 1.02], "", label);
    for (row, (package, stages)) in bars.iter().enumerate() {
        panel.label(row, view.package(*package), &format!("{} ms", format::significant(stages.iter().sum())));
        let y = panel.y(row);
        let mut start = 0.0;
        for (stage, value) in stages.iter().enumerate() {
            let (left, right) = (panel.x(start), panel.x(start + value));
            if right - left > 0.05 {
                stage_area(&mut panel.drawing, stage, [left, y - 7.0], [right, y + 7.0]);
            }
            start += value;
        }
    }
    Some(panel.drawing)
}

/// A stage's area: its colour, and hatching where the colour alone could be mistaken for its neighbour's.
pub(in super::super) fn stage_area(drawing: &mut Drawing, stage: usize, from: [f64; 2], to: [f64; 2]) {
    drawing.rectangle(from, to, Paint::Stage(stage), 1.0);
    match stage {
        1 => drawing.hatch(from, to, 1.0, Paint::Page),
        3 => drawing.hatch(from, to, -1.0, Paint::Page),
        _ => {}
    }
}

/// Mean milliseconds per question in each of [`STAGES`]; `None` without any timing.
///
/// Stage quantiles are per image group, so a stage's total is mean × groups. The totals are divided by the number of
/// questions that makes the engine's stages add up to `per_question_ms`; where that is missing, by the records.
pub(in super::super) fn stages_per_question(run: &RunSummary) -> Option<[f64; 5]> {
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

/// How long the first token takes: median, and a line to the 90th and on to the 99th percentile where there are enough
/// samples for them.
pub(in super::super) fn percentiles(view: &View<'_>, benchmark: &BenchmarkView<'_>) -> Option<Drawing> {
    let rows: Vec<(usize, Quantiles)> = benchmark
        .runs
        .iter()
        .filter_map(|run| Some((run.package, run.run.latency.ttft?)))
        .filter(|(_, quantiles)| quantiles.p50_ms.is_finite() && quantiles.p50_ms >= 0.0)
        .collect();
    let upper = |quantiles: &Quantiles| {
        quantiles.p99_ms.or(quantiles.p90_ms).filter(|value| value.is_finite()).unwrap_or(quantiles.p50_ms)
    };
    let longest = rows.iter().map(|(_, quantiles)| upper(quantiles)).fold(0.0, f64::max);
    if longest <= 0.0 || !longest.is_finite() {
        return None;
    }
    let described: Vec<String> = rows
        .iter()
        .map(|(package, quantiles)| {
            let mut text = format!("{} median {}", view.package(*package), format::significant(quantiles.p50_ms));
            for (name, value) in [("P90", quantiles.p90_ms), ("P99", quantiles.p99_ms)] {
                if let Some(value) = value {
                    text.push_str(&format!(", {name} {}", format::significant(value)));
                }
            }
            text
        })
        .collect();
    let label = format!("{}, milliseconds to the first token: {}", benchmark.title, described.join("; "));
    let mut panel = Panel::new(rows.len(), ROW, [0.0, longest * 1.04], "", label);
    for (row, (package, quantiles)) in rows.iter().enumerate() {
        let paint = Paint::Series(*package);
        panel.label(row, view.package(*package), &format!("{} ms", format::significant(quantiles.p50_ms)));
        let y = panel.y(row);
        let x = panel.x(quantiles.p50_ms);
        let end = panel.x(upper(quantiles));
        panel.drawing.line(&[[x, y], [end, y]], paint, 1.5);
        for (value, half) in [(quantiles.p90_ms, 5.0), (quantiles.p99_ms, 3.0)] {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                let x = panel.x(value);
                panel.drawing.line(&[[x, y - half], [x, y + half]], paint, 2.0);
            }
        }
        panel.drawing.mark(*package, [x, y], 4.5, paint, 1.0);
    }
    Some(panel.drawing)
}
