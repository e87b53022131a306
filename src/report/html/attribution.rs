//! Which stage made the difference: stage swapping and direct comparison of the stages.

use maud::{Markup, html};

use crate::compare::{
    Attribution, BenchmarkAttribution, DivergenceStart, Side, Stage, StageDivergence, TensorDivergence, TokenDivergence,
};

use super::super::charts;
use super::super::format::{self, MISSING, Unit};
use super::super::view::View;
use super::{chart, prose, said, scroll};

/// The section; nothing without an attribution.
pub(super) fn section(view: &View<'_>, attributions: &[Attribution]) -> Markup {
    if attributions.is_empty() {
        return html! {};
    }
    html! {
        section #attribution aria-labelledby="attribution-heading" {
            h2 #attribution-heading { "Which stage is to blame" }
            p.note { "Packages mixed from the stages of both were run on the same samples. A stage's contribution is its Shapley value: what \
                replacing it changes, averaged over all orders in which the stages can be replaced. The contributions sum to the whole \
                difference." }
            @for attribution in attributions {
                h3 { (said(&attribution.new)) " against " (said(&attribution.base)) }
                @if !attribution.equal_stages.is_empty() {
                    @let equal: Vec<&str> = attribution.equal_stages.iter().map(|stage| stage.as_str()).collect();
                    p { "Equal in both, so not to blame: " b { (equal.join(", ")) } "." }
                }
                @for benchmark in &attribution.benchmarks { (one(view, benchmark)) }
                @if let Some(divergence) = &attribution.divergence { (divergences(divergence)) }
                @if !attribution.notes.is_empty() { ul.plain { @for note in &attribution.notes { li { (prose(note)) } } } }
            }
        }
    }
}

/// How an attribution's numbers are written.
pub(in super::super) fn unit_of(view: &View<'_>, benchmark: &BenchmarkAttribution) -> Unit {
    let known = view.benchmarks.iter().find(|known| known.name == benchmark.benchmark);
    known.map_or(Unit { scale: 100.0, points: !benchmark.percent }, |known| known.unit(&benchmark.metric))
}

/// The stage with the largest part of a difference that is there, in a sentence.
pub(in super::super) fn blame(benchmark: &BenchmarkAttribution, unit: Unit) -> String {
    let whole = format!(
        "{}: {}{} in all ({})",
        benchmark.title,
        unit.difference(&benchmark.difference),
        unit.difference_suffix(),
        unit.difference_interval(&benchmark.difference)
    );
    let largest = benchmark
        .stages
        .iter()
        .filter_map(|stage| Some((stage, stage.share.filter(|share| share.is_finite())?)))
        .max_by(|(_, left), (_, right)| left.total_cmp(right));
    match largest {
        Some((stage, share)) => {
            format!("{whole}, of which {} % lie with the {}.", format::number(100.0 * share, 0), stage_name(stage.stage))
        }
        None => format!("{whole}, not clearly different from 0, so there is nothing to divide."),
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Vision => "vision encoder",
        Stage::Projector => "projector",
        Stage::Llm => "language model",
    }
}

fn one(view: &View<'_>, benchmark: &BenchmarkAttribution) -> Markup {
    let unit = unit_of(view, benchmark);
    let stages = html! {
        table.tight {
            caption { (said(&benchmark.metric)) ", " (format::counted(benchmark.n, "sample", "samples")) " that every mix answered" }
            thead { tr {
                th scope="col" { "Stage" }
                th.n scope="col" { "Contribution" }
                th.n scope="col" { "95\u{a0}% interval" }
                th.n scope="col" { "Share" }
            } }
            tbody {
                @for stage in &benchmark.stages {
                    tr {
                        th scope="row" { (stage_name(stage.stage)) }
                        td.n { (unit.difference(&stage.contribution)) }
                        td.n { (unit.difference_interval(&stage.contribution)) }
                        td.n { (share(stage.share)) }
                    }
                }
                tr {
                    th scope="row" { "whole difference" }
                    td.n { (unit.difference(&benchmark.difference)) }
                    td.n { (unit.difference_interval(&benchmark.difference)) }
                    td.n {}
                }
            }
        }
    };
    let mixes = html! {
        table.tight {
            thead { tr {
                @for name in ["Vision", "Projector", "LLM"] { th scope="col" { (name) } }
                th.n scope="col" { "Score" }
            } }
            tbody {
                @for mix in &benchmark.mixes {
                    tr {
                        @for side in [mix.vision, mix.projector, mix.llm] { td { (side_name(side)) } }
                        td.n { (unit.value_and_half(&mix.estimate)) (unit.suffix()) }
                    }
                }
            }
        }
    };
    html! {
        h4 { (said(&benchmark.title)) }
        p { (prose(&blame(benchmark, unit))) }
        div.beside {
            @if let Some(drawing) = charts::shapley(benchmark, unit) { figure { (chart(&drawing)) } }
            (scroll("Contributions of the stages", &stages))
        }
        details {
            summary { "Scores of the " (benchmark.mixes.len()) " mixes" }
            (scroll("Scores of the mixes", &mixes))
        }
        @if !benchmark.notes.is_empty() { ul.plain { @for note in &benchmark.notes { li { (prose(note)) } } } }
    }
}

pub(in super::super) fn share(share: Option<f64>) -> String {
    match share.filter(|share| share.is_finite()) {
        Some(share) => format!("{} %", format::number(100.0 * share, 0)),
        None => MISSING.to_owned(),
    }
}

fn side_name(side: Side) -> Markup {
    match side {
        Side::Base => html! { "base" },
        Side::New => html! { b { "● new" } },
    }
}

fn divergences(divergence: &StageDivergence) -> Markup {
    let table = html! {
        table.tight {
            caption { "On " (format::counted(divergence.images, "image", "images")) ", each stage with the base package's input" }
            thead { tr {
                th scope="col" { "Stage" }
                th.n scope="col" { "Mean cosine" }
                th.n scope="col" { "Smallest cosine" }
                th.n scope="col" { "Relative error" }
                th.n scope="col" { "Mean KL, nats" }
                th.n scope="col" { "Largest KL" }
                th.n scope="col" { "Same first token" }
            } }
            tbody {
                (tensor_row("vision encoder", &divergence.vision))
                (tensor_row("projector", &divergence.projector))
                (token_row("language model", &divergence.llm))
                (token_row("whole package", &divergence.whole))
            }
        }
    };
    let layers: Vec<_> = Stage::ALL.into_iter().filter_map(|stage| Some((stage, charts::layers(divergence, stage)?))).collect();
    html! {
        h4 { "How far the stages' outputs lie apart" }
        (scroll("Divergence by stage", &table))
        @for start in &divergence.starts { p { (start_sentence(start)) } }
        @if !layers.is_empty() {
            p.note { "Relative error of the hidden states after each layer. Broken line: of the layer alone, from the base package's hidden states, \
                so that nothing that earlier layers did is in it." }
            div.panels { @for (stage, drawing) in &layers { figure { h4 { (stage_name(*stage)) } (chart(drawing)) } } }
        }
    }
}

/// Where two versions of a stage part.
pub(in super::super) fn start_sentence(start: &DivergenceStart) -> String {
    let (stage, first, largest) = (stage_name(start.stage), start.first, start.largest);
    if first == largest {
        format!("The {stage} parts at layer {first}, counted from 0, which also differs most.")
    } else {
        format!("The {stage} parts at layer {first}, counted from 0; layer {largest} differs most.")
    }
}

fn tensor_row(name: &str, divergence: &TensorDivergence) -> Markup {
    html! {
        tr {
            th scope="row" { (name) }
            td.n { (format::number(divergence.mean_cosine, 4)) }
            td.n { (format::number(divergence.min_cosine, 4)) }
            td.n { (format::significant(divergence.relative_error)) }
            @for _ in 0..3 { td.n.quiet { (MISSING) } }
        }
    }
}

fn token_row(name: &str, divergence: &TokenDivergence) -> Markup {
    html! {
        tr {
            th scope="row" { (name) }
            @for _ in 0..3 { td.n.quiet { (MISSING) } }
            td.n { (format::significant(divergence.mean_kl)) }
            td.n { (format::significant(divergence.max_kl)) }
            td.n { (format::number(100.0 * divergence.top1_agreement, 1)) "\u{a0}%" }
        }
    }
}
