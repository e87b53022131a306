//! Paired differences: a table for every pair of packages.

use maud::{Markup, html};

use crate::compare::{PairedMetric, PairedTest, PromptDifference, Verdict, WordChange, word_changes};

use super::super::format::{self, MISSING};
use super::super::view::{BenchmarkView, Contest, PairView, View};
use super::verdict::headline_tag;
use super::{glance, is_long, prose, said, scroll, tag};

/// Longest prompt that is shown, in characters.
const PROMPT: usize = 4000;

type Row<'r, 'a> = (&'r BenchmarkView<'a>, &'r PairView<'a>, &'a PairedMetric);

/// The section.
pub(super) fn section(view: &View<'_>) -> Markup {
    let contests = view.contests();
    html! {
        section #differences aria-labelledby="differences-heading" {
            h2 #differences-heading { "Paired differences" }
            p.note { "New minus base over the samples that both answered, so that what is hard for both does not count. Fixed and broken \
                are samples whose score rose and fell." }
            @for (place, contest) in contests.iter().enumerate() {
                @let title = format!("{} against {}", view.package(contest.new), view.package(contest.base));
                @if contests.len() == 1 {
                    h3 #{"against-" (place)} { (said(&title)) }
                    (one(view, contest, &title))
                } @else {
                    details.block #{"against-" (place)} open[place == 0] {
                        summary { (headline_tag(contest)) " " (said(&title)) }
                        (one(view, contest, &title))
                    }
                }
            }
            (words(view))
        }
    }
}

fn one(view: &View<'_>, contest: &Contest<'_>, title: &str) -> Markup {
    let pairs: Vec<(&BenchmarkView<'_>, &PairView<'_>)> = view
        .benchmarks
        .iter()
        .flat_map(|benchmark| benchmark.pairs.iter().map(move |pair| (benchmark, pair)))
        .filter(|(_, pair)| (pair.base, pair.new) == (contest.base, contest.new))
        .collect();
    let chosen = |primary: bool| -> Vec<Row<'_, '_>> {
        let metrics = pairs.iter().flat_map(|(benchmark, pair)| {
            let main = pair.primary().map(|metric| metric.name.as_str());
            let metrics = pair.pair.metrics.iter().filter(move |metric| (Some(metric.name.as_str()) == main) == primary);
            metrics.map(move |metric| (*benchmark, *pair, metric))
        });
        metrics.collect()
    };
    let others = chosen(false);
    let prompts: Vec<(&str, &PromptDifference)> =
        pairs.iter().filter_map(|(benchmark, pair)| Some((benchmark.title, pair.pair.prompt_difference.as_ref()?))).collect();
    html! {
        (scroll(&format!("Paired differences, {title}"), &table(view, &chosen(true), true)))
        @if !others.is_empty() {
            details {
                summary { "The other metrics " span.quiet { (others.len()) } }
                (scroll(&format!("Paired differences of the other metrics, {title}"), &table(view, &others, false)))
            }
        }
        @if let Some((benchmark, first)) = prompts.first() {
            details {
                summary { "How the prompts differ " span.quiet { "on " (format::counted(prompts.len(), "benchmark", "benchmarks")) } }
                (prompt(benchmark, first))
            }
        }
    }
}

fn table(view: &View<'_>, rows: &[Row<'_, '_>], primary: bool) -> Markup {
    let shared = glance::shared_reach(
        rows.iter().map(|(benchmark, _, metric)| (benchmark.unit(&metric.name), *metric)),
        view.comparison.margin,
    );
    html! {
        table.tight.stack {
            thead { tr {
                th scope="col" { "Benchmark, metric" }
                th scope="col" { "Verdict" }
                th.n scope="col" { "Difference" span.metric { "95\u{a0}% interval" } }
                th.forest-head scope="col" { span aria-hidden="true" { "worse ← 0 → better" } span.aloud { "As a line" } }
                th.n scope="col" { "Base → new" }
                th.n scope="col" { "p" @if primary { span.metric { "corrected" } } }
                th.n scope="col" { abbr title="Minimum detectable effect" { "MDE" } }
                @if primary { th.n scope="col" { "Fixed, broken" span.metric { "same" } } }
            } }
            tbody {
                @for (benchmark, pair, metric) in rows {
                    @let unit = benchmark.unit(&metric.name);
                    tr {
                        th.long[is_long(benchmark.title) || is_long(&metric.name)] scope="row" {
                            (glance::benchmark_name(benchmark.title, &metric.name, unit))
                        }
                        td {
                            (tag(metric.verdict))
                            @if metric.own_verdict() != metric.verdict {
                                span.metric { (format::verdict_word(metric.own_verdict())) " if alone" }
                            }
                        }
                        td.n data-label="Difference" {
                            (glance::difference(unit, metric))
                            @if let Some([low, high]) = metric.bootstrap_interval {
                                span.metric { "bootstrap " (unit.ends(low, high, &metric.difference)) }
                            }
                        }
                        td.forest-cell { (glance::forest(unit, metric, view.comparison.margin, shared)) }
                        td.n data-label="Base → new" { (unit.value(&metric.base)) " → " (unit.value(&metric.new)) }
                        td.n data-label="p" {
                            (format::p_value(metric.p_value))
                            @if metric.adjusted_p_value.is_some() { span.metric { (format::p_value(metric.adjusted_p_value)) } }
                        }
                        td.n data-label="MDE" {
                            (metric.minimum_detectable_effect.map_or_else(|| MISSING.to_owned(), |effect| unit.size(effect)))
                            @if let Some(samples) = metric.samples_to_settle {
                                span.metric { "settled by " (format::count(samples)) }
                            }
                        }
                        @if primary {
                            td.n data-label="Fixed, broken" {
                                (format::count(pair.pair.fixed)) ", " (format::count(pair.pair.broken))
                                span.metric { (format::count(pair.pair.same)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Both prompts of the first sample in which they differ, with what only one of them has marked.
fn prompt(benchmark: &str, difference: &PromptDifference) -> Markup {
    let short = |text: &str| text.chars().take(PROMPT).collect::<String>();
    html! {
        p.note {
            (said(benchmark)) ": " (format::counted(difference.samples, "sample", "samples")) " with other prompts, the first is "
            code { (said(&difference.key)) } ". " del { "Only in base" } ", " ins { "only in new" } "."
        }
        p.prompt {
            @for change in word_changes(&short(&difference.base), &short(&difference.new)) {
                @match change {
                    WordChange::Same(text) => (said(&text)),
                    WordChange::Removed(text) => del { (said(&text)) },
                    WordChange::Added(text) => ins { (said(&text)) },
                }
            }
        }
    }
}

/// What the verdicts and columns mean.
fn words(view: &View<'_>) -> Markup {
    let margin = format::number(view.comparison.margin, 1);
    let tests: Vec<PairedTest> =
        view.comparison.pairs.iter().flat_map(|pair| &pair.metrics).filter_map(|metric| metric.test).collect();
    html! {
        details.words {
            summary { "What the words and columns mean" }
            dl {
                div { dt { (tag(Verdict::Regressed)) " " (tag(Verdict::Improved)) } dd { "The whole 95\u{a0}% interval of the difference lies on one side of zero, and \
                    the p-value, corrected for all primary metrics of all pairs (Holm), is at most 0.05." } }
                div { dt { (tag(Verdict::NoWorse)) } dd { "The interval reaches at most " (margin) " beyond zero on the worse side (the shaded \
                    band): a larger loss is excluded." } }
                div { dt { (tag(Verdict::Inconclusive)) } dd { "Neither. That is not “equal”: the samples do not tell." } }
                div { dt { (tag(Verdict::Identical)) } dd { "Every score is equal." } }
                div { dt { "MDE" } dd { "Minimum detectable effect: the smallest difference that this many samples detect with 80\u{a0}% power at \
                    the 5\u{a0}% level. “Settled by” is the number of samples that would tell a difference as large as the margin." } }
                @if !tests.is_empty() {
                    div { dt { "p" } dd { (prose(&tests_sentence(&tests))) } }
                }
            }
        }
    }
}

fn tests_sentence(tests: &[PairedTest]) -> String {
    let named = [
        (PairedTest::PairedT, "Student's t of the difference over its clustered standard error"),
        (PairedTest::McnemarMidP, "McNemar's mid-p test where every sample is a cluster of its own and scores are 0 or 1"),
        (PairedTest::SignFlip, "flipping the signs of the clusters' differences where clusters are few"),
        (PairedTest::Sign, "the sign test over clusters where all differ by the same amount"),
    ];
    let used: Vec<&str> = named.iter().filter(|(test, _)| tests.contains(test)).map(|(_, name)| *name).collect();
    format!("Two-sided p-values: {}.", used.join("; "))
}
