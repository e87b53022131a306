//! Where the time went, and how two runs compare in it.

use std::collections::{BTreeMap, HashSet};

use super::noise::Bands;
use super::{Estimate, LatencyComparison, LatencySummary, LatencyVerdict, Quantiles};
use crate::stats::{mean, quantile_of_sorted, sorted, supported_quantile, t_interval, t_two_sided_p_value};
use crate::store::{GroupTimings, Run, SampleRecord};

/// A spread of logarithms below this is rounding.
const ROUNDING: f64 = 1e-12;

/// The distinct image groups of a run: every question of a group carries the group's timings, which count once. An
/// interrupted run can have two groups of the same images; both were really run.
fn groups(records: &[SampleRecord]) -> Vec<(&[String], GroupTimings)> {
    let mut seen = HashSet::new();
    let mut groups = Vec::new();
    for record in records {
        let group = record.timings.group;
        if group.questions == 0 {
            // A sample that failed before its group ran.
            continue;
        }
        let stages = [group.image_ms, group.vision_ms, group.projector_ms, group.prefill_ms, group.decode_ms];
        if seen.insert((record.images.as_slice(), group.questions, stages.map(f64::to_bits))) {
            groups.push((record.images.as_slice(), group));
        }
    }
    groups
}

/// Milliseconds that the engine spent on a group: all stages but the image files, which are read ahead of it.
fn engine_ms(group: &GroupTimings) -> f64 {
    group.vision_ms + group.projector_ms + group.prefill_ms + group.decode_ms
}

fn quantiles(values: impl IntoIterator<Item = f64>) -> Option<Quantiles> {
    let ascending = sorted(&values.into_iter().collect::<Vec<_>>());
    Some(Quantiles {
        n: ascending.len(),
        mean_ms: mean(&ascending)?,
        p50_ms: quantile_of_sorted(&ascending, 0.5)?,
        p90_ms: supported_quantile(&ascending, 0.9),
        p99_ms: supported_quantile(&ascending, 0.99),
    })
}

/// Quantiles of every stage over groups, and of TTFT and TPOT over answered samples.
pub(super) fn summarise(records: &[SampleRecord], answered: &[&SampleRecord]) -> LatencySummary {
    let groups = groups(records);
    let stage = |pick: fn(&GroupTimings) -> f64| quantiles(groups.iter().map(|(_, group)| pick(group)));
    let questions: usize = groups.iter().map(|(_, group)| group.questions).sum();
    let total_ms: f64 = groups.iter().map(|(_, group)| engine_ms(group)).sum();
    LatencySummary {
        image: stage(|group| group.image_ms),
        vision: stage(|group| group.vision_ms),
        projector: stage(|group| group.projector_ms),
        prefill: stage(|group| group.prefill_ms),
        decode: stage(|group| group.decode_ms),
        // Answers that were made elsewhere have no times.
        ttft: quantiles(answered.iter().filter(|record| record.timings.group.questions > 0).map(|record| record.timings.ttft_ms)),
        tpot: quantiles(answered.iter().filter_map(|record| record.timings.tpot_ms)),
        per_question_ms: (questions > 0).then(|| total_ms / questions as f64),
    }
}

/// Engine time and questions by images.
fn by_images(records: &[SampleRecord]) -> BTreeMap<&[String], (f64, usize)> {
    let mut sums: BTreeMap<&[String], (f64, usize)> = BTreeMap::new();
    for (images, group) in groups(records) {
        let (ms, questions) = sums.entry(images).or_default();
        *ms += engine_ms(&group);
        *questions += group.questions;
    }
    sums
}

/// Fewest pairs for a verdict: with 4 no exact two-sided test can be below 0.05 (reliability of small samples).
const FEWEST_PAIRS: usize = 5;

/// Level of a verdict on speed. Below the 5 % of scores, so that of 100 runs compared with their like no more than one alarms
/// by chance, whatever the band.
const ALPHA: f64 = 0.01;

/// Share of the ratios that is cut off at either end before they are averaged: a spike of the machine says nothing of the
/// package.
const TRIMMED: f64 = 0.2;

/// Logarithms of the ratios new/base of engine time, one for each group of images on which both runs answered equally many
/// questions.
pub(super) fn log_ratios(base: &[SampleRecord], new: &[SampleRecord]) -> Vec<f64> {
    let (base, new) = (by_images(base), by_images(new));
    base.iter()
        .filter_map(|(images, (base_ms, base_questions))| {
            let (new_ms, new_questions) = new.get(images)?;
            let logarithm = (new_ms / base_ms).ln();
            (base_questions == new_questions && logarithm.is_finite()).then_some(logarithm)
        })
        .collect()
}

/// A trimmed mean with its error.
pub(super) struct Trimmed {
    pub mean: f64,
    /// Standard error and degrees of freedom; `None` where too few values are left.
    error: Option<(f64, f64)>,
}

/// The mean without the fifth at either end, and its standard error from the winsorised variance, `sqrt((n − 1)·s_w² / (h·(h −
/// 1)))` with h values left and h − 1 degrees of freedom (Tukey and McLaughlin 1963; Yuen 1974). `None` of nothing.
pub(super) fn trimmed(values: &[f64]) -> Option<Trimmed> {
    let ascending = sorted(values);
    let cut = (TRIMMED * ascending.len() as f64).floor() as usize;
    let kept = ascending.get(cut..ascending.len() - cut)?;
    let trimmed_mean = mean(kept)?;
    let (lowest, highest) = (*kept.first()?, *kept.last()?);
    let winsorised: Vec<f64> = ascending.iter().map(|value| value.clamp(lowest, highest)).collect();
    let centre = mean(&winsorised)?;
    let squares: f64 = winsorised.iter().map(|value| (value - centre).powi(2)).sum();
    let left = kept.len() as f64;
    let error = (kept.len() >= 2).then(|| ((squares / (left * (left - 1.0))).sqrt(), left - 1.0));
    Some(Trimmed { mean: trimmed_mean, error })
}

/// Compares the speed of two runs on one machine, by the images that both answered equally many questions about; `None` where
/// either has no times.
pub(super) fn compare(base: &Run, new: &Run, bands: &Bands<'_>) -> Option<LatencyComparison> {
    let logarithms = log_ratios(&base.records, &new.records);
    let Trimmed { mean: centre, error } = trimmed(&logarithms)?;
    let n = logarithms.len();
    let interval = error
        .and_then(|(standard_error, degrees)| t_interval(centre, standard_error, degrees, super::estimate::LEVEL))
        .map(|ends| ends.map(f64::exp));
    let p_value = error.and_then(|(standard_error, degrees)| match standard_error > ROUNDING {
        true => t_two_sided_p_value(centre / standard_error, degrees),
        // All alike: what is left is that they all point one way.
        false if centre.abs() <= ROUNDING => Some(1.0),
        false => Some(0.5_f64.powi(n.min(1_000) as i32 - 1)),
    });
    let (noise_band, noise_pairs) = bands.of(base, new);
    let ratio = Estimate {
        value: centre.exp(),
        // Delta method: the error of exp(x) is exp(x) times that of x.
        standard_error: error.map(|(standard_error, _)| centre.exp() * standard_error),
        interval,
        n,
        clusters: n,
        design_effect: None,
    };
    let verdict = if n < FEWEST_PAIRS { LatencyVerdict::TooFew } else { verdict(ratio.value, p_value, noise_band) };
    Some(LatencyComparison { ratio, p_value, unpaired: false, noise_band, noise_pairs, verdict })
}

/// A ratio is told from 1 by being outside the band of ratios that mean nothing, and not by chance.
fn verdict(ratio: f64, p_value: Option<f64>, noise_band: f64) -> LatencyVerdict {
    match p_value {
        None => LatencyVerdict::TooFew,
        Some(p_value) if p_value > ALPHA => LatencyVerdict::WithinNoise,
        Some(_) if ratio > 1.0 + noise_band => LatencyVerdict::Slower,
        Some(_) if ratio < 1.0 / (1.0 + noise_band) => LatencyVerdict::Faster,
        Some(_) => LatencyVerdict::WithinNoise,
    }
}
