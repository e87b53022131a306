//! How much of a difference each stage makes: Shapley values of the scores of mixed packages.
//!
//! The mixes are a game of the stages that differ: `v(S)` is the score with the stages `S` from the new package. A stage's Shapley
//! value is `φ_i = Σ_{S ∌ i} |S|!·(n−1−|S|)!/n! · (v(S ∪ i) − v(S))`, the mean over all orders of replacing the stages of what
//! replacing this one changes (Shapley 1953, "A value for n-person games"). It is the only division that is symmetric, gives
//! nothing to a stage that never changes anything, and sums to the whole difference. As it is linear in the scores, so are its
//! influences, and its clustered error is that of any other paired difference.

use std::collections::HashMap;

use super::estimate::{Column, bounded, estimated};
use super::summary::{is_answered, primary_first};
use super::{BenchmarkAttribution, Estimate, MixedScore, Side, Stage, StageContribution};
use crate::benchmark::{Contribution, MetricSpec};
use crate::stats::{Linearised, dense_clusters};
use crate::store::{Run, SampleRecord};

/// Level below which an error probability counts as proof.
const SIGNIFICANCE: f64 = 0.05;

/// The run of one mix.
#[derive(Clone, Copy, Debug)]
pub struct MixRun<'a> {
    /// Where each stage came from, in the order of the flow; a stage that is equal in both packages counts as the base's.
    pub sides: [Side; 3],
    /// Its answers.
    pub run: &'a Run,
}

/// Why nothing can be attributed.
#[derive(Debug, thiserror::Error)]
pub enum AttributionError {
    /// A mix was not run.
    #[error("{benchmark}: the mix of {mix} is missing; stage swapping needs every mix of the stages that differ")]
    MissingMix {
        /// Benchmark name.
        benchmark: String,
        /// Stages and where they come from.
        mix: String,
    },
    /// The metric has no value on what is left.
    #[error("{benchmark}: {metric} has no value on the {samples} samples that every mix answered")]
    NoValue {
        /// Benchmark name.
        benchmark: String,
        /// Metric name.
        metric: String,
        /// Samples left.
        samples: usize,
    },
}

/// Divides the difference of the primary metric between base and new among the stages. `mixes` holds every mix of the stages that
/// are not in `equal`, in any order; samples that some mix did not answer are left out of all.
pub fn attribute_benchmark(mixes: &[MixRun<'_>], equal: &[Stage]) -> Result<BenchmarkAttribution, AttributionError> {
    let free: Vec<usize> =
        (0..Stage::ALL.len()).filter(|at| Stage::ALL.get(*at).is_some_and(|stage| !equal.contains(stage))).collect();
    let benchmark = mixes.first().map(|mix| mix.run.header.benchmark.name.clone()).unwrap_or_default();
    let mut ordered = Vec::with_capacity(1 << free.len());
    for mask in 0..1_usize << free.len() {
        let mut sides = [Side::Base; 3];
        for (bit, at) in free.iter().enumerate() {
            if let (Some(side), true) = (sides.get_mut(*at), mask >> bit & 1 == 1) {
                *side = Side::New;
            }
        }
        let found = mixes.iter().find(|mix| mix.sides == sides);
        let missing = || AttributionError::MissingMix { benchmark: benchmark.clone(), mix: mix_name(sides) };
        ordered.push(*found.ok_or_else(missing)?);
    }
    let Some(base) = ordered.first() else {
        return Err(AttributionError::MissingMix { benchmark, mix: mix_name([Side::Base; 3]) });
    };
    let header = &base.run.header.benchmark;
    let Some(metric) = primary_first(&header.metrics).first().copied() else {
        return Err(AttributionError::NoValue { benchmark, metric: "the primary metric".to_owned(), samples: 0 });
    };

    let rows = common_samples(&ordered, metric);
    let clusters = dense_clusters(rows.iter().map(|row| row.record.cluster.as_str()));
    let categories = dense_clusters(rows.iter().map(|row| row.record.category.as_deref()));
    let no_value =
        || AttributionError::NoValue { benchmark: benchmark.clone(), metric: metric.name.clone(), samples: rows.len() };
    let mut scores = Vec::with_capacity(ordered.len());
    let mut shown = Vec::with_capacity(ordered.len());
    for (place, mix) in ordered.iter().enumerate() {
        let column = Column::new(rows.iter().filter_map(|row| row.contributions.get(place).copied()));
        let linearised = column.linearised(metric, &categories).ok_or_else(no_value)?;
        let estimate = bounded(estimated(linearised.clone(), &clusters, metric.scale), &column, metric);
        let [vision, projector, llm] = mix.sides;
        shown.push(MixedScore { vision, projector, llm, estimate });
        scores.push(linearised);
    }
    let whole = scores.last().zip(scores.first()).and_then(|(new, base)| new.minus(base)).ok_or_else(no_value)?;
    let difference = of_difference(whole, &clusters, metric.scale);
    let parts = shapley_values(&scores, free.len());
    let divisible = differs(&difference);
    let mut stages = Vec::with_capacity(Stage::ALL.len());
    for (at, stage) in Stage::ALL.into_iter().enumerate() {
        let part = free.iter().position(|free| *free == at).and_then(|bit| parts.get(bit).cloned());
        let part = part.unwrap_or_else(|| Linearised { value: 0.0, influence: vec![0.0; rows.len()] });
        let contribution = of_difference(part, &clusters, metric.scale);
        let share = divisible.then(|| contribution.value / difference.value);
        stages.push(StageContribution { stage, contribution, share });
    }
    // Base first and new last, the vision encoder's side changing slowest.
    shown.sort_by_key(|mix| [mix.vision, mix.projector, mix.llm].map(|side| side == Side::New));
    Ok(BenchmarkAttribution {
        title: header.title.clone(),
        metric: metric.name.clone(),
        higher_is_better: metric.higher_is_better,
        percent: metric.scale == 100.0 && !metric.points,
        n: rows.len(),
        mixes: shown,
        difference,
        stages,
        notes: notes(&ordered, rows.len(), divisible),
        benchmark,
    })
}

/// Shapley value of each of `players` players, player `i` being bit `i` of the place in `values`, which holds the value of every
/// coalition. Empty if there are not as many values, or not on the same samples.
fn shapley_values(values: &[Linearised], players: usize) -> Vec<Linearised> {
    let mut found = Vec::with_capacity(players);
    if values.len() != 1 << players {
        return found;
    }
    let samples = values.first().map_or(0, |value| value.influence.len());
    let factorial = |number: usize| (1..=number).map(|factor| factor as f64).product::<f64>();
    for player in 0..players {
        let mut sum = Linearised { value: 0.0, influence: vec![0.0; samples] };
        for without in (0..values.len()).filter(|coalition| coalition >> player & 1 == 0) {
            let size = without.count_ones() as usize;
            let weight = factorial(size) * factorial(players - 1 - size) / factorial(players);
            let step = values.get(without | 1 << player).zip(values.get(without)).and_then(|(with, without)| with.minus(without));
            let Some(step) = step.filter(|step| step.influence.len() == samples) else { return Vec::new() };
            sum.value += weight * step.value;
            sum.influence.iter_mut().zip(&step.influence).for_each(|(sum, step)| *sum += weight * step);
        }
        found.push(sum);
    }
    found
}

/// An estimate of a difference. Where all clusters differ by the same amount there is no spread that tells how far to trust it.
fn of_difference(linearised: Linearised, clusters: &[usize], scale: f64) -> Estimate {
    let mut estimate = estimated(linearised, clusters, scale);
    if estimate.standard_error == Some(0.0) && estimate.value != 0.0 {
        estimate.interval = None;
    }
    estimate
}

/// Whether a difference is more than its interval allows for. Without spread, C clusters all point the same way, which has
/// probability `2·2^−C` where there is no difference (the sign test).
fn differs(difference: &Estimate) -> bool {
    match difference.interval {
        Some([low, high]) => low > 0.0 || high < 0.0,
        None => {
            let told = difference.standard_error.is_some() && difference.value != 0.0;
            told && 0.5_f64.powi(difference.clusters.min(1_000) as i32 - 1) <= SIGNIFICANCE
        }
    }
}

/// A sample that every mix answered, with its contribution in each.
struct Row<'a> {
    record: &'a SampleRecord,
    contributions: Vec<Contribution>,
}

fn common_samples<'a>(mixes: &[MixRun<'a>], metric: &MetricSpec) -> Vec<Row<'a>> {
    let answers: Vec<HashMap<&str, Contribution>> = mixes
        .iter()
        .map(|mix| {
            let answered = mix.run.records.iter().filter(|record| is_answered(record));
            answered.filter_map(|record| Some((record.key.as_str(), *record.contributions.get(&metric.name)?))).collect()
        })
        .collect();
    let records = mixes.first().map(|mix| mix.run.records.as_slice()).unwrap_or_default();
    let row = |record: &'a SampleRecord| {
        let contributions: Option<Vec<Contribution>> =
            answers.iter().map(|answers| answers.get(record.key.as_str()).copied()).collect();
        Some(Row { record, contributions: contributions? })
    };
    records.iter().filter_map(row).collect()
}

fn notes(mixes: &[MixRun<'_>], n: usize, divisible: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let records = mixes.iter().map(|mix| mix.run.records.len()).max().unwrap_or(0);
    if n < records {
        notes.push(format!("{} of {records} samples have no scored answer in some mix and are left out of all", records - n));
    }
    if mixes.iter().any(|mix| !mix.run.complete) {
        notes.push("some mix is not complete".to_owned());
    }
    if mixes.len() > 1 && !divisible {
        notes.push("the difference is within its interval of 0, so that no shares are given".to_owned());
    }
    notes
}

/// `vision base, projector new, llm base`.
fn mix_name(sides: [Side; 3]) -> String {
    let parts = Stage::ALL.iter().zip(sides).map(|(stage, side)| format!("{} {}", stage.as_str(), side.as_str()));
    parts.collect::<Vec<_>>().join(", ")
}
