//! What a reader should know before believing a comparison.

use super::determinism;
use super::pair::Pair;
use super::refusal::{answering, cut_off};
use super::summary::is_answered;
use super::{PairComparison, PairedMetric, Verdict};
use crate::benchmark::MetricSpec;
use crate::stats::zero_events_upper_bound;
use crate::store::{JudgeIdentity, Run};

/// Below this many clusters a t interval is a rough guide.
pub(super) const FEW_CLUSTERS: usize = 20;

/// A change of the mean answer length that makes times hard to compare.
const LENGTH_DRIFT: f64 = 0.10;

/// Whether two runs were made on machines that look alike, so that their times may be compared.
pub(super) fn same_machine(base: &Run, new: &Run) -> bool {
    let (left, right) = (&base.header.environment, &new.header.environment);
    (&left.platform, &left.processor, left.physical_cores) == (&right.platform, &right.processor, right.physical_cores)
}

/// All notes of a pair, the ones on scores first.
pub(super) fn of_pair(base: &Run, new: &Run, pairs: &[Pair<'_>], specs: &[&MetricSpec], metrics: &[PairedMetric]) -> Vec<String> {
    let mut notes = Vec::new();
    samples(&mut notes, base, new, pairs);
    scores(&mut notes, specs, metrics);
    if predictions(&mut notes, base, new) {
        same_package(&mut notes, base, new);
        return notes;
    }
    models(&mut notes, base, new, pairs);
    conditions(&mut notes, base, new);
    determinism::note(&mut notes, base, new, pairs);
    lengths(&mut notes, pairs);
    notes
}

/// Says where correction for the other primary metrics took a verdict back: what one metric shows by itself is neither hidden
/// nor taken for proven.
pub(super) fn of_correction(pair: &mut PairComparison, tests: usize) {
    for metric in &pair.metrics {
        let (Some(own), Some(p_value), Some(adjusted)) = (metric.uncorrected_verdict, metric.p_value, metric.adjusted_p_value)
        else {
            continue;
        };
        let word = if own == Verdict::Regressed { "worse" } else { "better" };
        pair.notes.push(format!(
            "{} alone would be {word} (p = {p_value:.3}), but of {tests} primary metrics one may look so by chance: corrected by \
             Holm's method p is {adjusted:.3}",
            metric.name
        ));
    }
}

fn samples(notes: &mut Vec<String>, base: &Run, new: &Run, pairs: &[Pair<'_>]) {
    for (which, run) in [("first", base), ("second", new)] {
        if !run.complete {
            let planned = run.header.benchmark.samples;
            notes.push(format!("the {which} run is incomplete: {} of {planned} samples", run.records.len()));
        }
        let failed = run.records.iter().filter(|record| record.failure.is_some()).count();
        if failed > 0 {
            notes.push(format!("{failed} samples failed in the {which} run; samples that failed in either are left out"));
        }
        let unscored = run.records.iter().filter(|record| !is_answered(record)).count() - failed;
        if unscored > 0 {
            notes
                .push(format!("{unscored} answers have no score in the {which} run; samples without one in either are left out"));
        }
        if !run.notes.is_empty() {
            notes.push(format!("the log of the {which} run has {} damaged, repeated or unfinished lines", run.notes.len()));
        }
    }
    if pairs.is_empty() {
        notes.push("no sample was answered in both runs".to_owned());
    }
}

fn scores(notes: &mut Vec<String>, specs: &[&MetricSpec], metrics: &[PairedMetric]) {
    let Some(primary) = metrics.iter().find(|metric| metric.primary) else {
        if let Some(spec) = specs.iter().find(|spec| spec.primary) {
            notes.push(format!("{} has no value in both runs, so nothing can be said about them", spec.name));
        }
        return;
    };
    let clusters = primary.difference.clusters;
    if primary.verdict == Verdict::Identical {
        // The unit is the cluster: the questions of one image may well change together.
        let bound = 100.0 * zero_events_upper_bound(clusters as u64);
        notes.push(format!(
            "all {} scores are equal; that only bounds the share of clusters with a changed score below {bound:.1} % ({clusters} \
             clusters, 95 % confidence)",
            primary.difference.n
        ));
    } else if clusters < FEW_CLUSTERS {
        notes.push(format!("the number of clusters is only {clusters}: intervals from so few are a rough guide"));
    }
}

/// Adds a note if the values differ.
fn differing<T: PartialEq + ToString>(notes: &mut Vec<String>, what: &str, base: &T, new: &T) {
    if base != new {
        notes.push(format!("{what}: {} in the first run, {} in the second", base.to_string(), new.to_string()));
    }
}

fn same_package(notes: &mut Vec<String>, base: &Run, new: &Run) {
    let (left, right) = (&base.header.model, &new.header.model);
    let short = |identity: &str| identity.get(..12).unwrap_or(identity).to_owned();
    if left.identity == right.identity {
        notes.push(format!("both runs used the same package, {}", short(&left.identity)));
    } else if left.name == right.name {
        differing(notes, &format!("two packages are named {}", left.name), &short(&left.identity), &short(&right.identity));
    }
}

fn models(notes: &mut Vec<String>, base: &Run, new: &Run, pairs: &[Pair<'_>]) {
    same_package(notes, base, new);
    let (left, right) = (&base.header.model, &new.header.model);
    differing(notes, "precision", &left.precision, &right.precision);
    let operators = |flavor: &Option<String>| flavor.clone().unwrap_or_else(|| "contrib".to_owned());
    differing(notes, "operators", &operators(&left.flavor), &operators(&right.flavor));
    differing(notes, "prompt template", &left.template, &right.template);
    differing(notes, "image recipe", &left.image_recipe, &right.image_recipe);
    if base.judge.is_some() != new.judge.is_some() {
        let word = |run: &Run| if run.judge.is_some() { "judged" } else { "not judged" }.to_owned();
        differing(notes, "the answers are", &word(base), &word(new));
    }
    if let (Some(left), Some(right)) = (&base.judge, &new.judge) {
        let reported = |judge: &JudgeIdentity| judge.reported_models.join(", ");
        differing(notes, "the judge's model as it reports itself", &reported(left), &reported(right));
    }
    let unlike = pairs.iter().filter(|(base, new)| base.prompt_sha256 != new.prompt_sha256).count();
    if unlike > 0 {
        notes.push(format!("the rendered prompt differs in {unlike} of {} samples", pairs.len()));
    }
}

/// Notes a run whose answers were made elsewhere; gives whether there is one.
fn predictions(notes: &mut Vec<String>, base: &Run, new: &Run) -> bool {
    let of_predictions = [base, new].map(|run| run.header.is_of_predictions());
    let which = match of_predictions {
        [false, false] => return false,
        [true, true] => "both runs",
        [true, false] => "the first run",
        [false, true] => "the second run",
    };
    notes.push(format!(
        "the answers of {which} were made elsewhere: how they were asked for, and how fast they came, is not known"
    ));
    true
}

fn conditions(notes: &mut Vec<String>, base: &Run, new: &Run) {
    let (left, right) = (&base.header.settings, &new.header.settings);
    differing(notes, "how answers are had", &answering(left), &answering(right));
    let met = match cut_off(base) + cut_off(new) {
        0 => "no answer".to_owned(),
        count => format!("{count} answers"),
    };
    differing(notes, &format!("longest answer in tokens, which {met} met"), &left.max_new_tokens, &right.max_new_tokens);
    differing(notes, "execution provider", &left.provider_text(), &right.provider_text());
    differing(notes, "threads", &left.intra_op_threads, &right.intra_op_threads);
    differing(notes, "scheduling of questions", &left.scheduling, &right.scheduling);
    let weights = |low_memory| if low_memory { "mapped files (low memory)" } else { "packed for this processor" };
    differing(notes, "weights", &weights(left.low_memory), &weights(right.low_memory));
    let end = |decided| if decided { "as soon as they decide their score" } else { "where the model ends them" };
    differing(notes, "answers end", &end(left.stop_when_decided), &end(right.stop_when_decided));
    let (left, right) = (&base.header.environment, &new.header.environment);
    differing(notes, "program version", &left.program_version, &right.program_version);
    differing(notes, "ONNX Runtime", &left.runtime_version, &right.runtime_version);
    if left.runtime_version == right.runtime_version && left.runtime_sha256 != right.runtime_sha256 {
        notes.push("the ONNX Runtime libraries are different builds of one version".to_owned());
    }
    differing(notes, "platform", &left.platform, &right.platform);
    differing(notes, "processor", &left.processor, &right.processor);
    differing(notes, "physical cores", &left.physical_cores, &right.physical_cores);
    if !same_machine(base, new) {
        notes.push("the machines differ, so times are not compared".to_owned());
    }
}

fn lengths(notes: &mut Vec<String>, pairs: &[Pair<'_>]) {
    let mean_tokens = |side: fn(&Pair<'_>) -> usize| pairs.iter().map(side).sum::<usize>() as f64 / pairs.len() as f64;
    let base = mean_tokens(|(base, _)| base.token_ids.len());
    let new = mean_tokens(|(_, new)| new.token_ids.len());
    if base > 0.0 && (new / base - 1.0).abs() > LENGTH_DRIFT {
        notes.push(format!("answers have {new:.1} tokens on average instead of {base:.1}, which changes decoding time"));
    }
}
