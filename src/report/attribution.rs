//! Stage attribution as aligned text.

use crate::compare::{
    Attribution, BenchmarkAttribution, Estimate, MixedScore, Side, Stage, StageDivergence, TensorDivergence, TokenDivergence,
};
use crate::guard::escape;

use super::format::{self, MISSING, Unit};
use super::terminal::layout::{left, paint, right, wrap};

const NARROWEST: usize = 40;

/// What stage swapping found, as text: per benchmark a sentence, the scores of the mixes and each stage's part of the difference;
/// then how far the stages lie apart on the same input. Widths and colours are as in [`super::terminal::comparison`].
pub fn terminal(attribution: &Attribution, width: usize, colour: bool) -> String {
    let width = width.max(NARROWEST);
    let mut lines = Vec::new();
    for benchmark in &attribution.benchmarks {
        let text = format!("{}: {}", benchmark.benchmark, sentence(attribution, benchmark));
        lines.extend(wrap(&escape::terminal(&text), width, "  ").into_iter().map(|line| paint(&line, "1", colour)));
    }
    for benchmark in &attribution.benchmarks {
        lines.push(String::new());
        benchmark_tables(benchmark, width, colour, &mut lines);
    }
    if let Some(divergence) = &attribution.divergence {
        lines.push(String::new());
        divergence_table(divergence, colour, &mut lines);
    }
    if !attribution.notes.is_empty() {
        lines.push(String::new());
        lines.push(paint("Notes", "1", colour));
        notes(&attribution.notes, width, &mut lines);
    }
    let mut text = lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

/// What swapping the stages says about one benchmark, in a sentence.
pub(super) fn sentence(attribution: &Attribution, benchmark: &BenchmarkAttribution) -> String {
    let (unit, difference) = (unit(benchmark), &benchmark.difference);
    if attribution.equal_stages.len() == Stage::ALL.len() {
        return format!("all stages of {} and {} are equal", attribution.base, attribution.new);
    }
    let change = format!("{}{}", unit.difference(difference), unit.difference_suffix());
    let largest =
        benchmark.stages.iter().filter_map(|stage| Some((stage, stage.share?))).max_by(|left, right| left.1.total_cmp(&right.1));
    let Some((stage, share)) = largest else {
        return format!(
            "{} differs from {} by {change}, which is within its interval: no stage is to blame",
            attribution.new, attribution.base
        );
    };
    // The verb says which way.
    let size = Estimate { value: difference.value.abs(), ..*difference };
    let change =
        if benchmark.higher_is_better.is_some() { format!("{}{}", unit.value(&size), unit.difference_suffix()) } else { change };
    let verb = match (benchmark.higher_is_better, difference.value < 0.0) {
        (Some(higher_is_better), falls) if higher_is_better == falls => "loses",
        (Some(_), _) => "gains",
        (None, _) => "changes",
    };
    format!(
        "{} {verb} {change} against {}, {} % of it by the {} ({}{})",
        attribution.new,
        attribution.base,
        format::number(100.0 * share, 0),
        stage_title(stage.stage),
        unit.difference(&stage.contribution),
        unit.difference_suffix()
    )
}

/// A stage for people.
pub(super) fn stage_title(stage: Stage) -> &'static str {
    match stage {
        Stage::Vision => "vision encoder",
        Stage::Projector => "projector",
        Stage::Llm => "language model",
    }
}

fn unit(benchmark: &BenchmarkAttribution) -> Unit {
    // Only per cent are told apart from other scales here: a fraction's values show it by themselves.
    let fraction = benchmark.mixes.iter().all(|mix| mix.estimate.value.abs() <= 1.0);
    let scale = if benchmark.percent {
        100.0
    } else if fraction {
        1.0
    } else {
        100.0
    };
    Unit { scale, points: !benchmark.percent }
}

fn benchmark_tables(benchmark: &BenchmarkAttribution, width: usize, colour: bool, lines: &mut Vec<String>) {
    let unit = unit(benchmark);
    let n = format::counted(benchmark.n, "sample", "samples");
    let clusters = format::counted(benchmark.difference.clusters, "cluster", "clusters");
    let title = format!("{} {}{}, {n} in {clusters}", benchmark.benchmark, benchmark.metric, unit.suffix());
    lines.extend(wrap(&escape::terminal(&title), width, "  ").into_iter().map(|line| paint(&line, "1", colour)));
    lines.push("  vision  projector  llm    score".to_owned());
    for MixedScore { vision, projector, llm, estimate } in &benchmark.mixes {
        let side = |side: &Side, width| left(side.as_str(), width);
        lines.push(format!("  {}{}{}{}", side(vision, 8), side(projector, 11), side(llm, 7), unit.value_and_half(estimate)));
    }
    lines.push(format!("  {}{}  {}  {}", left("stage", 18), right("part", 8), right("95 % interval", 20), right("share", 6)));
    let mut row = |name: &str, estimate: &Estimate, share: Option<f64>| {
        let share = share.map_or_else(|| MISSING.to_owned(), |share| format!("{} %", format::number(100.0 * share, 0)));
        let (part, interval) = (unit.difference(estimate), unit.difference_interval(estimate));
        lines.push(format!("  {}{}  {}  {}", left(name, 18), right(&part, 8), right(&interval, 20), right(&share, 6)));
    };
    for stage in &benchmark.stages {
        row(stage_title(stage.stage), &stage.contribution, stage.share);
    }
    row("whole difference", &benchmark.difference, benchmark.stages.iter().map(|stage| stage.share).sum());
    notes(&benchmark.notes, width, lines);
}

fn notes(notes: &[String], width: usize, lines: &mut Vec<String>) {
    for note in notes {
        lines.extend(wrap(&escape::terminal(&format!("  ! {note}")), width, "    "));
    }
}

fn divergence_table(divergence: &StageDivergence, colour: bool, lines: &mut Vec<String>) {
    let images = format::counted(divergence.images, "image", "images");
    lines.push(paint(&format!("Stages on the same input, that of the base package; {images}"), "1", colour));
    lines.push(format!(
        "  {}{}{}{}",
        left("", 18),
        right("mean cosine", 12),
        right("min cosine", 12),
        right("relative error", 16)
    ));
    for (stage, rows) in [(Stage::Vision, &divergence.vision), (Stage::Projector, &divergence.projector)] {
        lines.push(format!("  {}{}", left(stage_title(stage), 18), tensor_columns(rows)));
    }
    lines.push(format!(
        "  {}{}{}{}",
        left("first token", 18),
        right("mean KL", 12),
        right("largest KL", 12),
        right("same token", 16)
    ));
    for (name, tokens) in [(stage_title(Stage::Llm), &divergence.llm), ("whole packages", &divergence.whole)] {
        lines.push(format!("  {}{}", left(name, 18), token_columns(tokens)));
    }
    if divergence.layers.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push(paint("Layers: all up to here, and each by itself on the base's hidden states", "1", colour));
    let header =
        [("mean cosine", 12), ("relative error", 16), ("by itself", 12)].map(|(name, width)| right(name, width)).concat();
    lines.push(format!("  {}{header}", left("", 22)));
    for layer in &divergence.layers {
        let name = format!("{} layer {}", layer.stage.as_str(), layer.layer);
        let start = divergence.starts.iter().find(|start| start.stage == layer.stage);
        let mark = match start {
            Some(start) if start.first == layer.layer && start.largest == layer.layer => "  ◀ starts here, largest",
            Some(start) if start.first == layer.layer => "  ◀ starts here",
            Some(start) if start.largest == layer.layer => "  ◀ largest",
            _ => "",
        };
        lines.push(format!(
            "  {}{}{}{}{mark}",
            left(&name, 22),
            right(&format::number(layer.divergence.mean_cosine, 5), 12),
            right(&format::significant(layer.divergence.relative_error), 16),
            right(&format::significant(layer.alone.relative_error), 12)
        ));
    }
}

fn tensor_columns(rows: &TensorDivergence) -> String {
    let cosines = [rows.mean_cosine, rows.min_cosine].map(|cosine| right(&format::number(cosine, 5), 12)).concat();
    format!("{cosines}{}", right(&format::significant(rows.relative_error), 16))
}

fn token_columns(tokens: &TokenDivergence) -> String {
    let divergences = [tokens.mean_kl, tokens.max_kl].map(|value| right(&format::significant(value), 12)).concat();
    format!("{divergences}{}", right(&format!("{} %", format::number(100.0 * tokens.top1_agreement, 1)), 16))
}
