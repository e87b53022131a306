//! What is said of many comparisons at once: Holm's correction over all pairs, and all runs of a benchmark against each other.

use super::metric::{compare_metric, corrected, settling};
use super::pair::paired;
use super::summary::{is_answered, primary_first};
use super::{BenchmarkMatrix, MatrixCell, PairComparison, RankedRun, Verdict};
use crate::benchmark::MetricSpec;
use crate::stats::holm;
use crate::store::Run;

/// Fewest runs of a benchmark for a matrix: two are a pair.
const FEWEST_RUNS: usize = 3;

/// Corrects the verdicts on the primary metrics of all pairs for each other (Holm; family-wise error 5 %) and gives their
/// number. `specs` are the metrics of each pair's benchmark. The family holds every primary metric with a direction and a
/// p-value, equal runs included: which tests belong to it is not for their results to say.
pub(super) fn correct(pairs: &mut [PairComparison], specs: &[&[MetricSpec]], margin: f64) -> usize {
    let mut family: Vec<(&MetricSpec, &mut super::PairedMetric)> = Vec::new();
    for (pair, specs) in pairs.iter_mut().zip(specs) {
        for metric in pair.metrics.iter_mut().filter(|metric| metric.primary && metric.higher_is_better.is_some()) {
            let spec = specs.iter().find(|spec| spec.name == metric.name);
            family.extend(spec.filter(|_| metric.p_value.is_some()).map(|spec| (spec, metric)));
        }
    }
    let p_values: Vec<f64> = family.iter().map(|(_, metric)| metric.p_value.unwrap_or(1.0)).collect();
    for ((spec, metric), adjusted) in family.iter_mut().zip(holm(&p_values)) {
        metric.adjusted_p_value = Some(adjusted);
        let verdict = corrected(metric.verdict, &metric.difference, adjusted);
        if verdict != metric.verdict {
            metric.uncorrected_verdict = Some(metric.verdict);
            metric.verdict = verdict;
            metric.samples_to_settle = settling(spec, &metric.difference, margin, verdict);
        }
    }
    family.len()
}

/// All pairs of the runs of one benchmark, corrected for each other, and the ranking that follows; `None` for fewer than three
/// runs, or where the primary metric has a value in no pair.
pub(super) fn matrix(runs: &[&Run], margin: f64) -> Option<BenchmarkMatrix> {
    let first = runs.first().filter(|_| runs.len() >= FEWEST_RUNS)?;
    let spec = primary_first(&first.header.benchmark.metrics).into_iter().find(|metric| metric.primary)?;
    let mut cells = Vec::new();
    let mut p_values = Vec::new();
    for (base, left) in runs.iter().enumerate() {
        for (new, right) in runs.iter().enumerate().skip(base + 1) {
            let pairs = paired(left, right, is_answered);
            let Some(metric) = compare_metric(spec, &pairs, margin) else { continue };
            p_values.push(metric.p_value.unwrap_or(f64::NAN));
            let (difference, verdict) = (metric.difference, metric.verdict);
            cells.push(MatrixCell { base, new, difference, adjusted_p_value: None, verdict });
        }
    }
    for (cell, adjusted) in cells.iter_mut().zip(holm(&p_values)) {
        // Without a p-value the verdict is inconclusive already.
        cell.adjusted_p_value = Some(adjusted).filter(|adjusted| adjusted.is_finite());
        cell.verdict = cell.adjusted_p_value.map_or(cell.verdict, |adjusted| corrected(cell.verdict, &cell.difference, adjusted));
    }
    (!cells.is_empty()).then(|| BenchmarkMatrix {
        benchmark: first.header.benchmark.name.clone(),
        metric: spec.name.clone(),
        packages: runs.iter().map(|run| run.header.model.name.clone()).collect(),
        ranking: ranking(runs.len(), &cells),
        cells,
    })
}

/// Ranks by what is beyond doubt. Best rank first, then best worst rank, then the order of the runs.
fn ranking(runs: usize, cells: &[MatrixCell]) -> Vec<RankedRun> {
    let mut ranking: Vec<RankedRun> = (0..runs)
        .map(|run| {
            let beaten_by = |cell: &&MatrixCell| match cell.verdict {
                Verdict::Regressed => cell.new == run,
                Verdict::Improved => cell.base == run,
                _ => false,
            };
            let beats = |cell: &&MatrixCell| match cell.verdict {
                Verdict::Regressed => cell.base == run,
                Verdict::Improved => cell.new == run,
                _ => false,
            };
            let better = cells.iter().filter(beaten_by).count();
            let worse = cells.iter().filter(beats).count();
            RankedRun { run, rank: 1 + better, worst_rank: runs - worse }
        })
        .collect();
    ranking.sort_by_key(|ranked| (ranked.rank, ranked.worst_rank, ranked.run));
    ranking
}
