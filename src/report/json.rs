//! `results.json`.

use std::path::Path;

use crate::compare::Comparison;

use super::types::ReportError;

/// The comparison as JSON, readable by `serde_json` as a [`Comparison`] again.
///
/// Schema, format 1 (every value is already multiplied by its metric's scale; a missing number is `null`):
///
/// ```text
/// format                      1; a reader refuses higher ones
/// margin                      δ of the verdict "no-worse", in the metric's units
/// runs[]                      one per run, by benchmark and then in the order given
///   header                    as in run.json: format, started, model, benchmark, settings, environment;
///                             benchmark.data_root holds only the folder's own name, not where it lies
///   complete, records, failed, unparsed
///   unscored                  answers without a score: no judge has read them, or their reference is withheld
///   judge                     absent, or who judged: model, endpoint, rule, settings, unparsed_replies, failed_replies,
///                             prompt_tokens, reply_tokens, reported_models, cached_replies, cost
///   metrics[]                 name, primary, higher_is_better, estimate
///   categories[]              category, estimate (of the primary metric)
///   latency                   image, vision, projector, prefill, decode (per image group), ttft, tpot (per question):
///                             {n, mean_ms, p50_ms, p90_ms, p99_ms} or null; per_question_ms
/// pairs[]                     each later run of a benchmark against its first
///   benchmark, base, new      names
///   paired, fixed, broken, same
///   metrics[]                 name, primary, higher_is_better, base, new, difference (estimates), p_value,
///                             test: paired-t | mcnemar-mid-p | sign-flip | sign,
///                             minimum_detectable_effect,
///                             adjusted_p_value (Holm, over the primary metrics of all pairs; of primary metrics only),
///                             bootstrap_interval: [low, high] (metrics that are no plain mean), samples_to_settle,
///                             verdict: regressed | improved | no-worse | inconclusive | identical | descriptive,
///                             uncorrected_verdict (where correction changed it); fields in this list without a value are
///                             absent, p_value and minimum_detectable_effect null
///   flips[]                   key, question, base, new: {text, parsed, score}
///   categories[]              category, base, new, difference (estimates), p_value, adjusted_p_value
///   latency                   null or {ratio (estimate), p_value, unpaired (absent or true), noise_band, noise_pairs, verdict};
///                             verdict: slower | faster | within-noise | too-few
///   prompt_difference         absent, or {key, samples, base, new}
///   notes[]                   texts
/// corrected_tests             how many verdicts are corrected for each other
/// matrices[]                  absent, or for each benchmark of three runs and more: benchmark, metric, packages[],
///                             cells[]: {base, new (places in packages), difference (estimate), adjusted_p_value, verdict},
///                             ranking[]: {run, rank, worst_rank}, best first
/// estimate                    {value, standard_error, interval: [low, high], n, clusters, design_effect}
/// ```
pub(super) fn document(comparison: &Comparison) -> Result<Vec<u8>, ReportError> {
    let mut published = comparison.clone();
    for run in &mut published.runs {
        // Where the data lies tells a user's name and disk to whoever reads the report.
        let root = &mut run.header.benchmark.data_root;
        *root = Path::new(root.as_str()).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    }
    let content = |error: serde_json::Error| ReportError::Content { name: "results.json", message: error.to_string() };
    let mut bytes = serde_json::to_vec_pretty(&published).map_err(content)?;
    bytes.push(b'\n');
    Ok(bytes)
}
