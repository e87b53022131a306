//! How many samples a benchmark needs before a drop can be seen, from what past runs show.

use serde::Serialize;

use super::summary::is_answered;
use super::{CompareError, Comparison, Estimate, RunSummary, compare};
use crate::benchmark::MetricSpec;
use crate::stats::{
    MeasuredError, dense_clusters, detection_probability, intraclass_correlation, mean, minimum_detectable_effect,
    samples_for_effect,
};
use crate::store::Run;

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct PowerSettings {
    /// Level of the two-sided test.
    pub alpha: f64,
    /// Probability with which a drop is to be found.
    pub power: f64,
    /// Drops in points: hundredths of a metric's full scale.
    pub drops: Vec<f64>,
    /// Share of samples whose outcome changes between two packages, where no two runs tell it.
    pub discordance: f64,
}

/// Where the spread of a difference comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerBasis {
    /// Measured between two runs.
    Measured,
    /// One run's spread and cluster effect with an assumed discordance.
    Assumed,
}

/// What one drop needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DropPower {
    /// The drop in points: hundredths of the metric's full scale.
    pub points: f64,
    /// The drop in the metric's units.
    pub effect: f64,
    /// Samples needed; `None` where no number would do.
    pub samples: Option<u64>,
    /// Images (clusters) that they belong to, with as many questions each as there were.
    pub images: Option<u64>,
    /// Whether the samples of the runs are that many.
    pub runs_suffice: bool,
    /// Whether the whole benchmark has that many.
    pub benchmark_suffices: bool,
    /// Probability with which the samples of the runs find the drop.
    pub detection_probability: Option<f64>,
}

/// The plan for one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchmarkPower {
    /// Benchmark name.
    pub benchmark: String,
    /// Its primary metric.
    pub metric: String,
    /// What the metric is multiplied by: 100 for per cent.
    pub scale: f64,
    /// Whether the metric counts points of some kind and no per cent.
    pub points: bool,
    /// Name of the first package.
    pub base: String,
    /// Name of the second package, where two runs were given.
    pub new: Option<String>,
    /// Where the spread comes from.
    pub basis: PowerBasis,
    /// Samples on which it rests.
    pub samples: usize,
    /// Images (clusters) on which it rests.
    pub images: usize,
    /// Samples of the whole benchmark.
    pub samples_available: usize,
    /// Mean score of the first run's samples, from 0 to 1.
    pub mean_score: Option<f64>,
    /// Share of samples whose score differs between two packages, measured or assumed.
    pub discordance: f64,
    /// Samples whose score rose, where two runs were given.
    pub fixed: Option<usize>,
    /// Samples whose score fell.
    pub broken: Option<usize>,
    /// By how much clusters multiply the variance: of the difference where measured, otherwise of the first run's metric.
    pub design_effect: Option<f64>,
    /// Intraclass correlation of the first run's scores, where images have several questions.
    pub intraclass_correlation: Option<f64>,
    /// Clustered standard error of a difference on these samples, in the metric's units.
    pub standard_error: Option<f64>,
    /// The smallest drop that these samples find with the power asked for, in the metric's units.
    pub minimum_detectable_effect: Option<f64>,
    /// One entry a drop, in the order asked for; empty where nothing can be planned.
    pub drops: Vec<DropPower>,
    /// What the plan assumes, and what a reader should know.
    pub notes: Vec<String>,
}

/// The answer to `power`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PowerPlan {
    /// Format version, now 1.
    pub format: u32,
    /// Level of the two-sided test.
    pub alpha: f64,
    /// Probability with which a drop is to be found.
    pub power: f64,
    /// One entry for each later run of a benchmark against its first, or for the only one.
    pub benchmarks: Vec<BenchmarkPower>,
}

/// Plans every benchmark that the runs hold. The first run of a benchmark is the base; each later one is paired with it and
/// tells discordance and cluster effect. A benchmark with one run takes the cluster effect of its own scores and the assumed
/// discordance. Fails where [`compare`] does.
pub fn plan_power(runs: &[Run], settings: &PowerSettings) -> Result<PowerPlan, CompareError> {
    let comparison = compare(runs, super::DEFAULT_MARGIN)?;
    let mut benchmarks: Vec<BenchmarkPower> = Vec::new();
    for summary in &comparison.runs {
        let name = &summary.header.benchmark.name;
        if benchmarks.iter().any(|done| done.benchmark == *name) {
            continue;
        }
        let Some(run) = runs.iter().find(|run| run.header == summary.header) else { continue };
        let own = own_spread(run);
        let mut paired = from_pairs(&comparison, summary, &own, settings);
        if paired.is_empty() {
            let unmeasured = start(summary, &own, settings);
            paired.extend(unmeasured.map(|started| assumed(started, summary, &own, settings)));
        }
        benchmarks.extend(paired);
    }
    Ok(PowerPlan { format: 1, alpha: settings.alpha, power: settings.power, benchmarks })
}

/// What one run's scores say.
struct OwnSpread {
    mean: Option<f64>,
    /// Sample variance, with n − 1.
    variance: Option<f64>,
    correlation: Option<f64>,
}

fn own_spread(run: &Run) -> OwnSpread {
    let answered: Vec<(&str, f64)> = run
        .records
        .iter()
        .filter(|record| is_answered(record))
        .filter_map(|record| Some((record.cluster.as_str(), record.score.filter(|score| score.is_finite())?)))
        .collect();
    let scores: Vec<f64> = answered.iter().map(|(_, score)| *score).collect();
    let centre = mean(&scores);
    let variance = centre
        .filter(|_| scores.len() > 1)
        .map(|centre| scores.iter().map(|score| (score - centre).powi(2)).sum::<f64>() / (scores.len() - 1) as f64);
    let clusters = dense_clusters(answered.iter().map(|(cluster, _)| *cluster));
    // Scores beyond 0 to 1 (a judge's grades) are no shares of right answers.
    let shares = scores.iter().all(|score| (0.0..=1.0).contains(score));
    OwnSpread {
        mean: centre.filter(|_| shares),
        variance: variance.filter(|_| shares),
        correlation: intraclass_correlation(&scores, &clusters).map(|likeness| likeness.correlation),
    }
}

fn primary_of(summary: &RunSummary) -> Option<&MetricSpec> {
    summary.header.benchmark.metrics.iter().find(|metric| metric.primary)
}

/// Everything that does not depend on where the spread comes from; `None` for a benchmark without a primary metric.
fn start(summary: &RunSummary, own: &OwnSpread, settings: &PowerSettings) -> Option<BenchmarkPower> {
    let metric = primary_of(summary)?;
    let estimate = summary.metrics.iter().find(|found| found.primary).map(|found| found.estimate);
    let mut notes = Vec::new();
    if !summary.complete {
        let planned = summary.header.benchmark.samples;
        notes.push(format!("the run of {} is incomplete: {} of {planned} samples", summary.header.model.name, summary.records));
    }
    if summary.failed > 0 {
        notes.push(format!("{} samples of {} failed and take no part", summary.failed, summary.header.model.name));
    }
    Some(BenchmarkPower {
        benchmark: summary.header.benchmark.name.clone(),
        metric: metric.name.clone(),
        scale: metric.scale,
        points: metric.points || metric.sum_over_categories,
        base: summary.header.model.name.clone(),
        new: None,
        basis: PowerBasis::Assumed,
        samples: estimate.map_or(0, |estimate| estimate.n),
        images: estimate.map_or(0, |estimate| estimate.clusters),
        samples_available: summary.header.benchmark.samples_available,
        mean_score: own.mean,
        discordance: settings.discordance,
        fixed: None,
        broken: None,
        design_effect: estimate.and_then(|estimate| estimate.design_effect),
        intraclass_correlation: own.correlation,
        standard_error: None,
        minimum_detectable_effect: None,
        drops: Vec::new(),
        notes,
    })
}

/// One plan for each pair of this benchmark whose base is the run.
fn from_pairs(comparison: &Comparison, summary: &RunSummary, own: &OwnSpread, settings: &PowerSettings) -> Vec<BenchmarkPower> {
    let benchmark = &summary.header.benchmark.name;
    let mut plans = Vec::new();
    for pair in comparison.pairs.iter().filter(|pair| pair.benchmark == *benchmark) {
        let Some(mut plan) = start(summary, own, settings) else { continue };
        plan.new = Some(pair.new.clone());
        (plan.fixed, plan.broken) = (Some(pair.fixed), Some(pair.broken));
        let changed = pair.fixed + pair.broken;
        let difference = pair.primary().map(|metric| metric.difference);
        let spread =
            difference.and_then(|difference| Some((difference, difference.standard_error.filter(|error| *error > 0.0)?)));
        plans.push(match spread {
            Some((difference, error)) if changed > 0 && pair.paired > 0 => {
                plan.basis = PowerBasis::Measured;
                plan.discordance = changed as f64 / pair.paired as f64;
                plan.design_effect = difference.design_effect;
                measured(plan, &difference, error, settings)
            }
            _ => {
                plan.notes.push(format!(
                    "the score of {changed} of {} samples differs between {} and {}: too few to tell a spread, so the \
                     discordance is assumed",
                    pair.paired, pair.base, pair.new
                ));
                assumed(plan, summary, own, settings)
            }
        });
    }
    plans
}

fn measured(mut plan: BenchmarkPower, difference: &Estimate, error: f64, settings: &PowerSettings) -> BenchmarkPower {
    (plan.samples, plan.images) = (difference.n, difference.clusters);
    fill(&mut plan, error, settings);
    plan
}

/// The standard error of a difference when a share `d` of outcomes changes: the metric's own standard error times
/// `√(d/s²)`, s² the variance of the scores. For a mean of scores that is `√(deff·d/n)`; for other metrics (F1, means over
/// categories) it says that the difference spreads like the metric itself.
fn assumed(mut plan: BenchmarkPower, summary: &RunSummary, own: &OwnSpread, settings: &PowerSettings) -> BenchmarkPower {
    let estimate = summary.metrics.iter().find(|metric| metric.primary).map(|metric| metric.estimate);
    let own_error = estimate.and_then(|estimate| estimate.standard_error).filter(|error| *error > 0.0);
    let (Some(error), Some(variance)) = (own_error, own.variance.filter(|variance| *variance > 0.0)) else {
        plan.notes.push(
            "nothing can be planned from one run whose scores do not spread or are no shares of right answers: give two runs"
                .to_owned(),
        );
        return plan;
    };
    plan.discordance = settings.discordance;
    let unrelated = 2.0 * variance;
    if plan.discordance > unrelated {
        plan.discordance = unrelated;
        plan.notes.push(format!(
            "assumed: {:.1} % of the scores change, as between two unrelated packages of this accuracy; the {:.1} % asked for \
             would be more than that",
            100.0 * unrelated,
            100.0 * settings.discordance
        ));
    } else {
        plan.notes.push(format!("assumed: {:.1} % of the scores change between the packages", 100.0 * plan.discordance));
    }
    plan.notes.push("assumed: images make differences as alike as they make this run's scores; two runs would tell".to_owned());
    let error = error * (plan.discordance / variance).sqrt();
    fill(&mut plan, error, settings);
    plan
}

/// Error, smallest drop and what each drop needs. A drop of δ needs a share of at least δ of the scores to change, so where the
/// discordance is smaller its variance is raised to that.
fn fill(plan: &mut BenchmarkPower, error: f64, settings: &PowerSettings) {
    let PowerSettings { alpha, power, .. } = *settings;
    let point = plan.scale.abs() / 100.0;
    let is_share = !plan.points;
    let raised = |points: f64| if is_share { (points / 100.0 / plan.discordance).max(1.0).sqrt() } else { 1.0 };
    let degrees = plan.images as f64 - 1.0;
    plan.standard_error = Some(error);
    plan.minimum_detectable_effect = minimum_detectable_effect(error, Some(degrees), alpha, power).map(|effect| {
        // Where it exceeds the discordance it must hold with the raised error: m = k·SE·√(m/d), so m = (k·SE)²/d.
        let discordance = plan.discordance * 100.0 * point;
        if is_share && effect > discordance { effect * effect / discordance } else { effect }
    });
    plan.drops = settings
        .drops
        .iter()
        .map(|points| {
            let effect = points * point;
            let error = error * raised(*points);
            let on = MeasuredError { standard_error: error, samples: plan.samples as u64, clusters: plan.images as u64 };
            let needed = samples_for_effect(on, effect, alpha, power);
            DropPower {
                points: *points,
                effect,
                samples: needed.map(|needed| needed.samples),
                images: needed.map(|needed| needed.clusters),
                runs_suffice: needed.is_some_and(|needed| needed.clusters <= plan.images as u64),
                benchmark_suffices: needed.is_some_and(|needed| {
                    needed.clusters <= plan.images as u64 || needed.samples <= plan.samples_available as u64
                }),
                detection_probability: detection_probability(error, degrees, alpha, effect),
            }
        })
        .collect();
}
