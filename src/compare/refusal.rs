//! What forbids comparing two runs.

use std::collections::HashSet;

use super::RunDifference;
use super::pair::{paired, prompt_difference};
use super::summary::is_answered;
use crate::benchmark::MetricSpec;
use crate::store::{JudgeIdentity, Run, RunSettings, SampleRecord};

/// Why an answer ended that was cut off at the longest length.
const CUT_OFF: &str = "max_new_tokens";

/// Everything that must be equal in two runs and is not: the samples and how the benchmark words them, how answers are had and
/// scored, who judged. Packages, their templates and image recipes, machines and libraries may differ; and how answers are had,
/// if `across_settings`.
pub(super) fn differences(base: &Run, new: &Run, across_settings: bool) -> Vec<RunDifference> {
    let mut found = Vec::new();
    samples(&mut found, base, new);
    let (left, right) = (&base.header.benchmark, &new.header.benchmark);
    if left.scorer != right.scorer {
        found.push(difference(base, new, "the scorer", left.scorer.clone(), right.scorer.clone()));
    }
    if left.metrics != right.metrics {
        let names = |metrics: &[MetricSpec]| format!("{:?}", metrics.iter().map(|metric| &metric.name).collect::<Vec<_>>());
        found.push(difference(base, new, "the definition of the metrics", names(&left.metrics), names(&right.metrics)));
    }
    if let (Some(left), Some(right)) = (&base.judge, &new.judge)
        && !left.judges_like(right)
    {
        // Judges differ from each other by more than models do: their scores say nothing about each other.
        let described = |judge: &JudgeIdentity| format!("{} ({}; {})", judge.model, judge.rule, judge.settings);
        found.push(difference(base, new, "the judge", described(left), described(right)));
    }
    if !across_settings {
        settings(&mut found, base, new);
    }
    found
}

fn difference(base: &Run, new: &Run, field: &str, base_value: String, new_value: String) -> RunDifference {
    RunDifference {
        benchmark: base.header.benchmark.name.clone(),
        base: base.directory.display().to_string(),
        new: new.directory.display().to_string(),
        field: field.to_owned(),
        base_value,
        new_value,
        prompts: None,
    }
}

fn samples(found: &mut Vec<RunDifference>, base: &Run, new: &Run) {
    let (left, right) = (&base.header.benchmark, &new.header.benchmark);
    let unlike = left.samples_sha256 != right.samples_sha256;
    if unlike {
        let described = |hash: &str, samples: usize| format!("{} ({samples} samples)", hash.get(..12).unwrap_or(hash));
        found.push(difference(
            base,
            new,
            "the hash of the sample set",
            described(&left.samples_sha256, left.samples),
            described(&right.samples_sha256, right.samples),
        ));
        // An unfinished run lacks samples without having others.
        if base.complete && new.complete {
            let (left, right) = (only_in(base, new), only_in(new, base));
            if left.is_some() || right.is_some() {
                let described = |only: Option<(usize, &str)>| match only {
                    Some((count, first)) => format!("with {count} that the other run has not, the first being {first:?}"),
                    None => "without any that the other run has not".to_owned(),
                };
                found.push(difference(base, new, "the sample set", described(left), described(right)));
            }
        }
    }
    // Where the hashes agree the records must too, unless somebody changed a file; the first one says enough.
    let both = paired(base, new, |_| true);
    let told_apart = both.iter().find(|(left, right)| {
        (&left.question, &left.reference, &left.cluster, &left.category)
            != (&right.question, &right.reference, &right.cluster, &right.category)
    });
    if let Some((left, right)) = told_apart {
        let described =
            |record: &SampleRecord| format!("{:?} with {:?} of {:?}", record.question, record.reference, record.cluster);
        found.push(difference(base, new, &format!("sample {:?}", left.key), described(left), described(right)));
    } else if unlike && let Some(prompts) = prompt_difference(&both) {
        // The same questions and references, so it is the words in which the benchmark asks.
        let field = format!("the prompt of sample {:?} (as of {} samples)", prompts.key, prompts.samples);
        let quoted = |prompt: &str| format!("{prompt:?}");
        let (left, right) = (quoted(&prompts.base), quoted(&prompts.new));
        found.push(RunDifference { prompts: Some(prompts), ..difference(base, new, &field, left, right) });
    }
}

/// How the answers of a run are had, in words.
pub(super) fn answering(settings: &RunSettings) -> String {
    settings.answering.clone().unwrap_or_else(|| "generated".to_owned())
}

/// Answers of a run that were cut off at the longest length.
pub(super) fn cut_off(run: &Run) -> usize {
    run.records.iter().filter(|record| is_answered(record) && record.stop_reason == CUT_OFF).count()
}

/// How many records of a run the other has not, and the key of the first.
fn only_in<'a>(run: &'a Run, other: &Run) -> Option<(usize, &'a str)> {
    let known: HashSet<&str> = other.records.iter().map(|record| record.key.as_str()).collect();
    let mut only = run.records.iter().map(|record| record.key.as_str()).filter(|key| !known.contains(key));
    let first = only.next()?;
    Some((1 + only.count(), first))
}

fn settings(found: &mut Vec<RunDifference>, base: &Run, new: &Run) {
    // How answers that were made elsewhere were had is not known.
    if base.header.is_of_predictions() || new.header.is_of_predictions() {
        return;
    }
    let (left, right) = (&base.header.settings, &new.header.settings);
    if left.answering != right.answering {
        found.push(difference(base, new, "the way in which answers are had", answering(left), answering(right)));
    }
    if left.max_new_tokens != right.max_new_tokens {
        let (left_cut, right_cut) = (cut_off(base), cut_off(new));
        // A limit that no answer meets changes none.
        if left_cut + right_cut > 0 {
            let described = |limit: usize, cut: usize| format!("{limit} tokens, which cut off {cut} answers");
            let (left, right) = (described(left.max_new_tokens, left_cut), described(right.max_new_tokens, right_cut));
            found.push(difference(base, new, "the longest answer", left, right));
        }
    }
}
