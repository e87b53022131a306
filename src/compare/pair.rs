//! Two runs of one benchmark, paired by sample key.

use std::collections::HashMap;

use super::metric::{categories, compare_metric};
use super::summary::{is_answered, primary_first};
use super::{
    CompareError, Comparison, Flip, FlipSide, PairComparison, PairedMetric, PromptDifference, RunDifference, bootstrap,
    determinism, latency, matrix, noise, notes, refusal, summarise,
};
use crate::benchmark::MetricSpec;
use crate::store::{Run, SampleRecord};

/// Margin δ where none is given, in points.
pub const DEFAULT_MARGIN: f64 = 1.0;

/// A sample answered in both runs.
pub(super) type Pair<'a> = (&'a SampleRecord, &'a SampleRecord);

/// How runs are compared.
#[derive(Clone, Copy, Debug)]
pub struct CompareOptions<'a> {
    /// δ in points (see [`Comparison::margin`]).
    pub margin: f64,
    /// Earlier runs, of which those of one package on the machine of a pair tell how far its times scatter by themselves. The
    /// compared runs count without being named here.
    pub history: &'a [Run],
    /// Whether runs are compared although their answers were had in another way (generated, by likelihood) or cut off at another
    /// length; it is noted then. Otherwise they are refused.
    pub across_settings: bool,
}

impl Default for CompareOptions<'_> {
    fn default() -> Self {
        Self { margin: DEFAULT_MARGIN, history: &[], across_settings: false }
    }
}

/// [`compare_with`] a margin and no earlier runs.
pub fn compare(runs: &[Run], margin: f64) -> Result<Comparison, CompareError> {
    compare_with(runs, &CompareOptions { margin, ..CompareOptions::default() })
}

/// Summarises every run and pairs each later run of a benchmark with its first, in the order given; three runs of a benchmark
/// and more are also compared with each other.
///
/// Runs of one benchmark must hold the same samples, asked in the same words of the benchmark and scored alike; packages, prompt
/// templates, settings that change no answer, and machines may differ and are noted.
///
/// # Errors
/// Runs that differ in what must be equal, with everything that differs; a margin that is no size.
pub fn compare_with(runs: &[Run], options: &CompareOptions<'_>) -> Result<Comparison, CompareError> {
    let margin = options.margin;
    if !(margin.is_finite() && margin >= 0.0) {
        return Err(CompareError::Margin { found: margin });
    }
    let mut benchmarks: Vec<Vec<&Run>> = Vec::new();
    for run in runs {
        let same =
            |group: &&mut Vec<&Run>| group.first().is_some_and(|first| first.header.benchmark.name == run.header.benchmark.name);
        match benchmarks.iter_mut().find(same) {
            Some(group) => group.push(run),
            None => benchmarks.push(vec![run]),
        }
    }
    let with_first: Vec<(&Run, &Run)> = benchmarks
        .iter()
        .filter_map(|group| group.split_first())
        .flat_map(|(base, later)| later.iter().map(|new| (*base, *new)))
        .collect();
    let mut differences: Vec<RunDifference> =
        with_first.iter().flat_map(|(base, new)| refusal::differences(base, new, options.across_settings)).collect();
    if differences.is_empty() {
        // What the first run leaves open (it has no judge, or met no limit) may still tell two later ones apart.
        let later = benchmarks.iter().flat_map(|group| pairs_of(group.get(1..).unwrap_or_default()));
        differences = later.flat_map(|(base, new)| refusal::differences(base, new, options.across_settings)).collect();
    }
    if !differences.is_empty() {
        return Err(CompareError::NotComparable { differences });
    }
    let bands = noise::Bands::new(runs, options.history);
    let mut pairs: Vec<PairComparison> = with_first.iter().map(|(base, new)| compare_pair(base, new, margin, &bands)).collect();
    let specs: Vec<&[MetricSpec]> = with_first.iter().map(|(base, _)| base.header.benchmark.metrics.as_slice()).collect();
    let corrected_tests = matrix::correct(&mut pairs, &specs, margin);
    for pair in &mut pairs {
        notes::of_correction(pair, corrected_tests);
    }
    Ok(Comparison {
        format: 1,
        margin,
        runs: benchmarks.iter().flatten().map(|run| summarise(run)).collect(),
        pairs,
        corrected_tests,
        matrices: benchmarks.iter().filter_map(|group| matrix::matrix(group, margin)).collect(),
    })
}

/// Every two of some runs.
fn pairs_of<'a>(runs: &[&'a Run]) -> Vec<(&'a Run, &'a Run)> {
    let first = |(index, base): (usize, &&'a Run)| (index, *base);
    let with_later = |(index, base)| runs.iter().skip(index + 1).map(move |new| (base, *new));
    runs.iter().enumerate().map(first).flat_map(with_later).collect()
}

/// The samples that both runs hold and `keep` accepts on both sides, in the order of the first run.
pub(super) fn paired<'a>(base: &'a Run, new: &'a Run, keep: impl Fn(&SampleRecord) -> bool) -> Vec<Pair<'a>> {
    let by_key: HashMap<&str, &SampleRecord> = new.records.iter().map(|record| (record.key.as_str(), record)).collect();
    let both = base.records.iter().filter_map(|record| Some((record, *by_key.get(record.key.as_str())?)));
    both.filter(|(base, new)| keep(base) && keep(new)).collect()
}

fn compare_pair(base: &Run, new: &Run, margin: f64, bands: &noise::Bands<'_>) -> PairComparison {
    let pairs = paired(base, new, is_answered);
    let specs = primary_first(&base.header.benchmark.metrics);
    let mut metrics: Vec<PairedMetric> = specs.iter().filter_map(|metric| compare_metric(metric, &pairs, margin)).collect();
    for metric in &mut metrics {
        if let Some(spec) = specs.iter().find(|spec| spec.name == metric.name) {
            metric.bootstrap_interval = bootstrap::interval(spec, &pairs);
        }
    }
    let broken = flips(&pairs, |base, new| new < base);
    let fixed = flips(&pairs, |base, new| new > base);
    let primary = specs.iter().find(|metric| metric.primary);
    PairComparison {
        benchmark: base.header.benchmark.name.clone(),
        base: base.header.model.name.clone(),
        new: new.header.model.name.clone(),
        paired: pairs.len(),
        fixed: fixed.len(),
        broken: broken.len(),
        same: pairs.len() - fixed.len() - broken.len(),
        notes: notes::of_pair(base, new, &pairs, &specs, &metrics),
        metrics,
        flips: broken.into_iter().chain(fixed).collect(),
        categories: primary.map_or_else(Vec::new, |metric| categories(metric, &pairs, margin)),
        latency: if notes::same_machine(base, new) { latency::compare(base, new, bands) } else { None },
        prompt_difference: prompt_difference(&pairs),
        determinism: determinism::of_pair(base, new, &pairs),
    }
}

/// The pairs whose headline scores stand in the given relation, in sample order.
fn flips(pairs: &[Pair<'_>], relation: impl Fn(f64, f64) -> bool) -> Vec<Flip> {
    let side = |record: &SampleRecord| FlipSide { text: record.text.clone(), parsed: record.parsed.clone(), score: record.score };
    pairs
        .iter()
        .filter(|(base, new)| base.score.zip(new.score).is_some_and(|(base, new)| relation(base, new)))
        .map(|(base, new)| Flip { key: base.key.clone(), question: base.question.clone(), base: side(base), new: side(new) })
        .collect()
}

/// The first pair whose rendered prompts read otherwise. Prompts that are not recorded differ from none.
pub(super) fn prompt_difference(pairs: &[Pair<'_>]) -> Option<PromptDifference> {
    let recorded = |record: &SampleRecord| !record.prompt.is_empty();
    let differ = |(base, new): &&Pair<'_>| base.prompt != new.prompt && recorded(base) && recorded(new);
    let mut differing = pairs.iter().filter(differ);
    let (base, new) = differing.next()?;
    Some(PromptDifference {
        key: base.key.clone(),
        samples: 1 + differing.count(),
        base: base.prompt.clone(),
        new: new.prompt.clone(),
    })
}
