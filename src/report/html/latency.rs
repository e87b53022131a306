//! Speed: stages, percentiles, and against the base.

use maud::{Markup, html};

use crate::compare::{LatencyComparison, LatencyVerdict, Quantiles};

use super::super::charts;
use super::super::format::{self, MISSING};
use super::super::view::{BenchmarkView, View};
use super::{chart, is_long, said, scroll, stages_legend};

/// The section.
pub(super) fn section(view: &View<'_>) -> Markup {
    let stages: Vec<_> =
        view.benchmarks.iter().filter_map(|benchmark| Some((benchmark, charts::stages(view, benchmark)?))).collect();
    let percentiles: Vec<_> =
        view.benchmarks.iter().filter_map(|benchmark| Some((benchmark, charts::percentiles(view, benchmark)?))).collect();
    let compared = view.benchmarks.iter().any(|benchmark| benchmark.pairs.iter().any(|pair| pair.pair.latency.is_some()));
    html! {
        section #latency aria-labelledby="latency-heading" {
            h2 #latency-heading { "Latency" }
            @if compared {
                p.note { "Engine time against the base's on the same images: ratio and 95\u{a0}% interval, below 1 is faster. A verdict needs an interval \
                    beyond the noise band: what two runs of one package on this machine differ by." }
                (scroll("Engine time against the base", &ratios(view)))
            }
            @if stages.is_empty() {
                p { "The runs hold no timings." }
            } @else {
                h3 { "By stage" }
                p.note { "Mean milliseconds per question. The image is read and encoded once for all its questions, and its share is spread over \
                    them." }
                (stages_legend())
                div.panels {
                    @for (benchmark, drawing) in &stages { figure { h4 { (said(benchmark.title)) } (chart(drawing)) } }
                }
            }
            @if !percentiles.is_empty() {
                details.block {
                    summary { "Time to the first token: median, 90th and 99th percentile" }
                    div.panels {
                        @for (benchmark, drawing) in &percentiles { figure { h4 { (said(benchmark.title)) } (chart(drawing)) } }
                    }
                }
            }
            details.block {
                summary { "All times in a table" }
                p.note { "Milliseconds. Engine: all stages but the image's decoding and resizing. TTFT: time to first token, from reading the image; \
                    TPOT: time per output token after the first. “–” stands where a percentile needs more samples than there are." }
                (scroll("Latency by benchmark and package", &table(view)))
            }
        }
    }
}

/// The packages that are compared with a base, in order.
fn ratios(view: &View<'_>) -> Markup {
    let mut columns: Vec<usize> = view.benchmarks.iter().flat_map(|benchmark| &benchmark.pairs).map(|pair| pair.new).collect();
    columns.sort_unstable();
    columns.dedup();
    html! {
        table.glance.tight.few[columns.len() <= 3] {
            caption { "Engine time, new over base" }
            thead { tr {
                th scope="col" { "Benchmark" }
                @for package in &columns { th.n.package scope="col" { (said(view.package(*package))) } }
            } }
            tbody {
                @for benchmark in view.benchmarks.iter().filter(|benchmark| !benchmark.pairs.is_empty()) {
                    tr {
                        th.long[is_long(benchmark.title)] scope="row" { (said(benchmark.title)) }
                        @for package in &columns {
                            @match benchmark.pairs.iter().find(|pair| pair.new == *package).and_then(|pair| pair.pair.latency.as_ref()) {
                                Some(latency) => (ratio(latency)),
                                None => td.n.quiet { (MISSING) },
                            }
                        }
                    }
                }
            }
        }
    }
}

fn ratio(latency: &LatencyComparison) -> Markup {
    let class = match latency.verdict {
        LatencyVerdict::Slower => "n tint bad",
        LatencyVerdict::Faster => "n tint good",
        LatencyVerdict::WithinNoise | LatencyVerdict::TooFew => "n",
    };
    html! {
        td class=(class) {
            (format::significant(latency.ratio.value)) " ×"
            @if let Some([low, high]) = latency.ratio.interval {
                span.metric { (format::significant(low)) " to " (format::significant(high)) }
            }
            span.delta { (format::latency_symbol(latency.verdict)) " " (format::latency_word(latency.verdict)) }
        }
    }
}

/// Stages, TTFT and TPOT of every run.
fn table(view: &View<'_>) -> Markup {
    let memory = view.comparison.runs.iter().any(|run| run.peak_memory_bytes.is_some());
    html! {
        table.tight {
            thead {
                tr {
                    th rowspan="2" scope="col" { "Benchmark" }
                    th rowspan="2" scope="col" { "Package" }
                    th.span colspan="6" scope="colgroup" { "Mean per question" }
                    th.span colspan="3" scope="colgroup" { "TTFT" }
                    th.span colspan="2" scope="colgroup" { "TPOT" }
                    @if memory { th.n rowspan="2" scope="col" { "Peak memory" } }
                }
                tr {
                    @for stage in charts::STAGES { th.n scope="col" { (stage) } }
                    th.n scope="col" { "engine" }
                    @for name in ["median", "P90", "P99", "median", "P90"] { th.n scope="col" { (name) } }
                }
            }
            tbody {
                @for benchmark in &view.benchmarks {
                    @for (order, run) in benchmark.runs.iter().enumerate() {
                        @let latency = &run.run.latency;
                        tr.inner[order + 1 < benchmark.runs.len()] {
                            (benchmark_cell(benchmark, order))
                            td.name.long[is_long(view.package(run.package))] { (said(view.package(run.package))) }
                            @for stage in stages(charts::stages_per_question(run.run)) { td.n { (stage) } }
                            td.n { (format::milliseconds(latency.per_question_ms)) }
                            td.n { (format::median_ms(latency.ttft.as_ref())) }
                            td.n { (p90(latency.ttft.as_ref())) }
                            td.n { (format::milliseconds(latency.ttft.as_ref().and_then(|quantiles| quantiles.p99_ms))) }
                            td.n { (format::median_ms(latency.tpot.as_ref())) }
                            td.n { (p90(latency.tpot.as_ref())) }
                            @if memory { td.n { (run.run.peak_memory_bytes.map_or_else(|| MISSING.to_owned(), format::bytes)) } }
                        }
                    }
                }
            }
        }
    }
}

/// The row header of a benchmark; said aloud on every row, shown on its first.
pub(super) fn benchmark_cell(benchmark: &BenchmarkView<'_>, order: usize) -> Markup {
    html! {
        th.name.long[is_long(benchmark.title)] scope="row" {
            @if order == 0 { (said(benchmark.title)) } @else { span.aloud { (said(benchmark.title)) } }
        }
    }
}

fn stages(stages: Option<[f64; 5]>) -> [String; 5] {
    stages.map_or_else(|| [MISSING; 5].map(str::to_owned), |stages| stages.map(format::significant))
}

fn p90(quantiles: Option<&Quantiles>) -> String {
    format::milliseconds(quantiles.and_then(|quantiles| quantiles.p90_ms))
}
