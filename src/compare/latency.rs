//! Where the time went, and how two runs compare in it.

use std::collections::{BTreeMap, HashSet};

use super::{Estimate, LatencyComparison, LatencySummary, LatencyVerdict, Quantiles};
use crate::stats::{
    clustered_standard_error, mean, quantile_of_sorted, sorted, supported_quantile, t_interval, t_two_sided_p_value,
};
use crate::store::{GroupTimings, SampleRecord};

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
        ttft: quantiles(answered.iter().map(|record| record.timings.ttft_ms)),
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

/// Half width of the noise band where no earlier runs tell it: 3 %.
const DEFAULT_NOISE_BAND: f64 = 0.03;

/// Fewest pairs for a verdict: with 4 no exact two-sided test can be below 0.05 (reliability of small samples).
const FEWEST_PAIRS: usize = 5;

/// Compares the speed of two runs by the geometric mean over images of the ratio new/base of engine time, with a t interval of
/// its logarithm. Only images on which both runs answered equally many questions count; `None` if there are none.
pub(super) fn compare(base: &[SampleRecord], new: &[SampleRecord]) -> Option<LatencyComparison> {
    let (base, new) = (by_images(base), by_images(new));
    let logarithms: Vec<f64> = base
        .iter()
        .filter_map(|(images, (base_ms, base_questions))| {
            let (new_ms, new_questions) = new.get(images)?;
            let logarithm = (new_ms / base_ms).ln();
            (base_questions == new_questions && logarithm.is_finite()).then_some(logarithm)
        })
        .collect();
    let centre = mean(&logarithms)?;
    let n = logarithms.len();
    let influence: Vec<f64> = logarithms.iter().map(|logarithm| (logarithm - centre) / n as f64).collect();
    let own: Vec<usize> = (0..n).collect();
    let error = clustered_standard_error(&influence, &own);
    let interval = error
        .and_then(|error| t_interval(centre, error.standard_error, error.degrees_of_freedom, super::estimate::LEVEL))
        .map(|ends| ends.map(f64::exp));
    let p_value = error.and_then(|error| match error.standard_error > 0.0 {
        true => t_two_sided_p_value(centre / error.standard_error, error.degrees_of_freedom),
        false => None,
    });
    let noise_band = DEFAULT_NOISE_BAND;
    let verdict = match interval {
        Some(_) if n < FEWEST_PAIRS => LatencyVerdict::TooFew,
        Some([low, _]) if low > 1.0 + noise_band => LatencyVerdict::Slower,
        Some([_, high]) if high < 1.0 / (1.0 + noise_band) => LatencyVerdict::Faster,
        Some(_) => LatencyVerdict::WithinNoise,
        None => LatencyVerdict::TooFew,
    };
    let ratio = Estimate {
        value: centre.exp(),
        // Delta method: the error of exp(x) is exp(x) times that of x.
        standard_error: error.map(|error| centre.exp() * error.standard_error),
        interval,
        n,
        clusters: n,
        design_effect: None,
    };
    Some(LatencyComparison { ratio, p_value, noise_band, noise_pairs: 0, verdict })
}
