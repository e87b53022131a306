//! Where the time went, and how two runs compare in it.

use std::collections::{BTreeMap, HashSet};

use super::estimate::LEVEL;
use super::noise::Bands;
use super::{Estimate, HarnessShare, LatencyComparison, LatencySummary, LatencyVerdict, Quantiles};
use crate::stats::{SignedRank, mann_whitney, mean, quantile_of_sorted, signed_rank, sorted, supported_quantile};
use crate::store::{GroupTimings, Run, SampleRecord};

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
        harness: harness_share(&groups),
    }
}

/// What the program itself took, of the groups that recorded it.
fn harness_share(groups: &[(&[String], GroupTimings)]) -> Option<HarnessShare> {
    let (mut whole_ms, mut image_wait_ms, mut harness_ms, mut questions) = (0.0, 0.0, 0.0, 0);
    for (_, group) in groups {
        let (Some(waited), Some(harness)) = (group.image_wait_ms, group.harness_ms) else { continue };
        image_wait_ms += waited;
        harness_ms += harness;
        whole_ms += waited + harness + engine_ms(group);
        questions += group.questions;
    }
    (whole_ms > 0.0 && questions > 0).then(|| HarnessShare {
        harness: harness_ms / whole_ms,
        image_wait: image_wait_ms / whole_ms,
        harness_ms_per_sample: harness_ms / questions as f64,
    })
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

/// Fewest pairs of images for a verdict: with 8 the signs of all pointing one way are told from chance at 1 %.
const FEWEST_PAIRS: usize = 8;

/// Fewest groups on either side for a verdict without pairs: the exact test of 5 against 5 can reach 1 %.
const FEWEST_UNPAIRED: usize = 5;

/// Level of a verdict on speed. Below the 5 % of scores, so that of 100 runs compared with their like no more than one alarms
/// by chance, whatever the band.
const ALPHA: f64 = 0.01;

/// Logarithms of the ratios new/base of engine time, one for each group of images on which both runs answered equally many
/// questions.
fn log_ratios(base: &[SampleRecord], new: &[SampleRecord]) -> Vec<f64> {
    let (base, new) = (by_images(base), by_images(new));
    base.iter()
        .filter_map(|(images, (base_ms, base_questions))| {
            let (new_ms, new_questions) = new.get(images)?;
            let logarithm = (new_ms / base_ms).ln();
            (base_questions == new_questions && logarithm.is_finite()).then_some(logarithm)
        })
        .collect()
}

/// The centre of the logarithms of two runs' ratios; `None` where they have no images in common.
pub(super) fn log_ratio(base: &Run, new: &Run) -> Option<f64> {
    signed_rank(&log_ratios(&base.records, &new.records), LEVEL).map(|found| found.location)
}

/// Compares the speed of two runs on one machine, by the images that both answered equally many questions about: the signed
/// ranks of the logarithms of the ratios, which a spike of the machine moves no further than any other large value. Where too
/// few images are in common, the times per question of all groups are compared without pairs. `None` where either run has no
/// times.
pub(super) fn compare(base: &Run, new: &Run, bands: &Bands<'_>) -> Option<LatencyComparison> {
    let (noise_band, noise_pairs) = bands.of(base, new);
    let logarithms = log_ratios(&base.records, &new.records);
    if logarithms.len() < FEWEST_PAIRS
        && let Some((estimate, p_value)) = unpaired(base, new)
    {
        let verdict = verdict(&estimate, p_value, noise_band);
        return Some(LatencyComparison {
            ratio: estimate,
            p_value: Some(p_value),
            unpaired: true,
            noise_band,
            noise_pairs,
            verdict,
        });
    }
    let SignedRank { location, interval, p_value, n } = signed_rank(&logarithms, LEVEL)?;
    let ratio = ratio(location, interval, n);
    let verdict = if n < FEWEST_PAIRS { LatencyVerdict::TooFew } else { verdict(&ratio, p_value, noise_band) };
    Some(LatencyComparison { ratio, p_value: Some(p_value), unpaired: false, noise_band, noise_pairs, verdict })
}

/// The ratio of a logarithm. Its standard error is not estimated: the interval comes without one.
fn ratio(logarithm: f64, interval: Option<[f64; 2]>, n: usize) -> Estimate {
    Estimate {
        value: logarithm.exp(),
        standard_error: None,
        interval: interval.map(|ends| ends.map(f64::exp)),
        n,
        clusters: n,
        design_effect: None,
    }
}

/// Logarithms of the engine time per question of all groups.
fn per_question(run: &Run) -> Vec<f64> {
    let groups = groups(&run.records);
    let logarithms = groups.iter().map(|(_, group)| (engine_ms(group) / group.questions as f64).ln());
    logarithms.filter(|logarithm| logarithm.is_finite()).collect()
}

/// The ratio that best lines up the times of two runs (Hodges and Lehmann: the median of all ratios of one to the other), and
/// the p-value of Mann and Whitney's test; `None` with too few groups on either side.
fn unpaired(base: &Run, new: &Run) -> Option<(Estimate, f64)> {
    let (left, right) = (per_question(base), per_question(new));
    if left.len().min(right.len()) < FEWEST_UNPAIRED {
        return None;
    }
    let p_value = mann_whitney(&left, &right)?.p_value;
    // Groups beyond so many add nothing to a median of all ratios but time.
    let thinned = |values: &[f64]| {
        let ascending = sorted(values);
        let step = ascending.len().div_ceil(MOST_UNPAIRED);
        ascending.into_iter().step_by(step.max(1)).collect::<Vec<f64>>()
    };
    let (few_left, few_right) = (thinned(&left), thinned(&right));
    let all: Vec<f64> = few_right.iter().flat_map(|new| few_left.iter().map(move |base| new - base)).collect();
    let centre = quantile_of_sorted(&sorted(&all), 0.5)?;
    Some((ratio(centre, None, left.len().min(right.len())), p_value))
}

/// Groups of a run that take part in the ratio without pairs, evenly over the ordered ones.
const MOST_UNPAIRED: usize = 1_000;

/// A ratio is told from 1 if it is not so by chance and lies, with its whole interval, outside the band of ratios that mean
/// nothing. (With the ratio alone outside the band, two runs of one package on a machine whose speed wanders were called unlike in
/// 2.5 % of simulated pairs.) Without pairs there is no interval, and the ratio itself must lie outside.
fn verdict(ratio: &Estimate, p_value: f64, noise_band: f64) -> LatencyVerdict {
    let [low, high] = ratio.interval.unwrap_or([ratio.value; 2]);
    if p_value > ALPHA {
        LatencyVerdict::WithinNoise
    } else if low > 1.0 + noise_band {
        LatencyVerdict::Slower
    } else if high < 1.0 / (1.0 + noise_band) {
        LatencyVerdict::Faster
    } else {
        LatencyVerdict::WithinNoise
    }
}
