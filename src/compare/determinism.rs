//! How far the answers of two runs would come again by themselves, and what that says about a difference.

use super::PairDeterminism;
use super::pair::Pair;
use crate::store::{DeterminismClass, MemoryPlan, Run, RunSettings};

/// The classes of two runs and how many of their answers differ; `None` if the class of either is not known.
pub(super) fn of_pair(base: &Run, new: &Run, pairs: &[Pair<'_>]) -> Option<PairDeterminism> {
    Some(PairDeterminism {
        base: base.header.determinism()?,
        new: new.header.determinism()?,
        same_package: base.header.model.identity == new.header.model.identity,
        same_conditions: same_conditions(base, new),
        differing_answers: pairs.iter().filter(|pair| differ(pair)).count(),
    })
}

fn differ((base, new): &Pair<'_>) -> bool {
    base.token_ids != new.token_ids || base.text != new.text
}

/// Whether everything that is recorded of what answers depend on is the same: package, questions, settings, machine and
/// libraries.
fn same_conditions(base: &Run, new: &Run) -> bool {
    let (left, right) = (&base.header, &new.header);
    let settings = |settings: &RunSettings| RunSettings { scheduling_reason: None, ..settings.clone() };
    let of_machine = |run: &Run| {
        let environment = &run.header.environment;
        [
            environment.program_version.clone(),
            environment.runtime_sha256.clone(),
            environment.platform.clone(),
            environment.processor.clone(),
        ]
    };
    // What is planned decides which questions run together, and with that the last bits of logits.
    let planned = |memory: &Option<MemoryPlan>| memory.map(|memory| (memory.cache_bytes, memory.slots));
    left.model.identity == right.model.identity
        && left.benchmark.samples_sha256 == right.benchmark.samples_sha256
        && settings(&left.settings) == settings(&right.settings)
        && of_machine(base) == of_machine(new)
        && planned(&left.memory) == planned(&right.memory)
}

/// Adds what a reader should know.
pub(super) fn note(notes: &mut Vec<String>, base: &Run, new: &Run, pairs: &[Pair<'_>]) {
    let Some(found) = of_pair(base, new, pairs) else { return };
    if pairs.is_empty() {
        return;
    }
    let (differing, all) = (found.differing_answers, pairs.len());
    let class = found.base.max(found.new);
    if found.base != found.new {
        let named = |class: DeterminismClass| format!("{} ({})", class.as_str(), class.meaning());
        notes.push(format!(
            "the runs are of determinism class {} and {}: {}",
            named(found.base),
            named(found.new),
            below_noise(class)
        ));
    } else if class != DeterminismClass::D0 && found.same_package {
        let share = differing as f64 / all as f64;
        let judged = match class.noise() {
            Some(noise) if share <= noise => {
                format!("no more than the {} % that class {} explains", 100.0 * noise, class.as_str())
            }
            Some(noise) => format!("more than the {} % that class {} explains", 100.0 * noise, class.as_str()),
            None => format!("which class {} explains only if the engines were built anew", class.as_str()),
        };
        notes.push(format!("{differing} of {all} answers differ between two runs of one package, {judged}"));
    } else if class != DeterminismClass::D0 {
        notes.push(format!(
            "both runs are of determinism class {} ({}): {}",
            class.as_str(),
            class.meaning(),
            below_noise(class)
        ));
    } else if found.same_conditions && differing > 0 {
        let first = pairs.iter().find(|pair| differ(pair)).map_or("", |(base, _)| base.key.as_str());
        notes.push(format!(
            "{differing} of {all} answers differ, the first being {first:?}, though package, settings, machine and libraries are the \
             same and class D0 promises the same answers: something that is not recorded was another, or a run was changed"
        ));
    }
}

fn below_noise(class: DeterminismClass) -> String {
    match class.noise() {
        Some(noise) => {
            format!("differences below the class's noise, {} % of the answers, are not the checkpoint's", 100.0 * noise)
        }
        None => "differences as small as an engine built anew makes are not the checkpoint's".to_owned(),
    }
}
