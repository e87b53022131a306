//! Limits that are no verdict on a metric: samples, times, sizes, memory.

use super::super::{LatencySummary, LatencyVerdict, Quantiles, RunSummary};
use super::judge::{Subject, decide};
use super::{Bound, Gate, GateCheck, GateOutcome, GateUnit, LatencyLimits, Rules, SizeLimits};

/// Fewest image groups (or questions) on each side for a comparison of medians.
const FEWEST_FOR_MEDIANS: usize = 30;

/// Gates on the run as such: whether it is whole, how many samples it has, how many of them failed.
pub(super) fn runs_and_samples(subject: &Subject<'_>, rules: &Rules, gates: &mut Vec<Gate>) {
    let planned = subject.new.header.benchmark.samples;
    if subject.outstanding() {
        let mut gate = subject.gate(GateCheck::Complete, None, GateUnit::Count, planned as f64);
        (gate.bound, gate.found) = (Bound::AtLeast, Some(subject.new.records as f64));
        gate.outcome = GateOutcome::Incomplete;
        gate.note = Some("samples of the run are outstanding: the same command continues it".to_owned());
        gates.push(gate);
    }
    if let Some(base) = subject.base.filter(|base| !base.complete) {
        let mut gate = subject.gate(GateCheck::Complete, Some("baseline"), GateUnit::Count, base.header.benchmark.samples as f64);
        (gate.bound, gate.found) = (Bound::AtLeast, Some(base.records as f64));
        gate.outcome = GateOutcome::Incomplete;
        gate.note = Some("samples of the baseline's run are outstanding".to_owned());
        gates.push(gate);
    }
    samples(subject, rules, gates);
    let records = subject.new.records as f64;
    let share = |count: usize| if records > 0.0 { count as f64 / records } else { 0.0 };
    let mut failed = subject.gate(GateCheck::Failed, None, GateUnit::Share, rules.failed_share());
    failed.found = Some(share(subject.new.failed + subject.new.unscored));
    decide(&mut failed, subject.outstanding());
    gates.push(failed);
    if let Some(limit) = rules.max_unparsed_share {
        let mut unparsed = subject.gate(GateCheck::Unparsed, None, GateUnit::Share, limit);
        unparsed.found = Some(share(subject.new.unparsed));
        decide(&mut unparsed, subject.outstanding());
        gates.push(unparsed);
    }
}

fn samples(subject: &Subject<'_>, rules: &Rules, gates: &mut Vec<Gate>) {
    // Of the paired difference where there is one, of the run itself otherwise.
    let counts = match subject.pair {
        Some(pair) => pair.primary().map(|metric| (metric.difference.n, metric.difference.clusters)),
        None => {
            subject.new.metrics.iter().find(|metric| metric.primary).map(|metric| (metric.estimate.n, metric.estimate.clusters))
        }
    };
    let (n, clusters) = counts.unwrap_or_default();
    let limits = [(GateCheck::Samples, rules.minimum_samples, n), (GateCheck::Clusters, rules.minimum_clusters, clusters)];
    for (check, limit, found) in limits {
        let Some(limit) = limit else { continue };
        let mut gate = subject.gate(check, None, GateUnit::Count, limit as f64);
        (gate.bound, gate.found) = (Bound::AtLeast, Some(found as f64));
        decide(&mut gate, subject.outstanding());
        gates.push(gate);
    }
}

type Pick = fn(&LatencySummary) -> Option<Quantiles>;

/// Gates on times. Without a comparison of times (other machines) they are not judged, because such ratios say nothing about
/// the packages.
pub(super) fn latency(subject: &Subject<'_>, limits: &LatencyLimits, gates: &mut Vec<Gate>) {
    if let Some(limit) = limits.total {
        gates.push(total(subject, limit));
    }
    let stages: [(&str, Option<f64>, Pick); 7] = [
        ("image", limits.image, |latency| latency.image),
        ("vision", limits.vision, |latency| latency.vision),
        ("projector", limits.projector, |latency| latency.projector),
        ("prefill", limits.prefill, |latency| latency.prefill),
        ("decode", limits.decode, |latency| latency.decode),
        ("ttft", limits.ttft, |latency| latency.ttft),
        ("tpot", limits.tpot, |latency| latency.tpot),
    ];
    for (name, limit, pick) in stages {
        if let Some(limit) = limit {
            gates.push(stage(subject, name, limit, pick));
        }
    }
}

fn skipped(mut gate: Gate, note: &str) -> Gate {
    gate.note = Some(note.to_owned());
    gate
}

/// Why times are not compared, if they are not.
fn not_comparable(subject: &Subject<'_>) -> Option<&'static str> {
    match subject.pair {
        None => Some("the baseline has no run of this benchmark"),
        Some(pair) if pair.latency.is_none() => {
            Some("the times of these runs cannot be compared (another machine, or no times), so they are not gated")
        }
        Some(_) => None,
    }
}

fn total(subject: &Subject<'_>, limit: f64) -> Gate {
    let mut gate = subject.gate(GateCheck::Latency, Some("total"), GateUnit::Ratio, limit);
    if let Some(reason) = not_comparable(subject) {
        return skipped(gate, reason);
    }
    let Some(latency) = subject.pair.and_then(|pair| pair.latency.as_ref()) else { return gate };
    gate.found = Some(latency.ratio.value);
    gate.estimate = Some(latency.ratio);
    gate.p_value = latency.p_value;
    if latency.unpaired {
        // Without pairs a machine whose speed wanders looks like a slower package.
        return skipped(gate, "the runs have too few images in common to pair their times, so they are not gated");
    }
    let beyond = latency.ratio.value > limit;
    gate.outcome = match latency.verdict {
        LatencyVerdict::TooFew => return skipped(gate, "too few image groups for a verdict on times"),
        LatencyVerdict::Slower if beyond => GateOutcome::Failed,
        LatencyVerdict::WithinNoise if beyond => {
            gate.note = Some("beyond the limit, but within what two runs of one package differ by, or by chance".to_owned());
            GateOutcome::Passed
        }
        _ => GateOutcome::Passed,
    };
    gate
}

/// A stage by its medians: it fails where the ratio is beyond both the limit and the noise band.
fn stage(subject: &Subject<'_>, name: &str, limit: f64, pick: Pick) -> Gate {
    let mut gate = subject.gate(GateCheck::Latency, Some(name), GateUnit::Ratio, limit);
    if let Some(reason) = not_comparable(subject) {
        return skipped(gate, reason);
    }
    let quantiles = |run: &RunSummary| pick(&run.latency).filter(|quantiles| quantiles.p50_ms > 0.0);
    let (Some(base), Some(new)) = (subject.base.and_then(quantiles), quantiles(subject.new)) else {
        return skipped(gate, "this stage has no times in both runs");
    };
    let ratio = new.p50_ms / base.p50_ms;
    gate.found = Some(ratio);
    if base.n.min(new.n) < FEWEST_FOR_MEDIANS {
        return skipped(gate, "fewer than 30 times on a side: medians of so few are not gated");
    }
    let band = subject.pair.and_then(|pair| pair.latency.as_ref()).map_or(0.0, |latency| latency.noise_band);
    gate.outcome = match (ratio > limit, ratio > 1.0 + band) {
        (true, true) => GateOutcome::Failed,
        (true, false) => {
            gate.note = Some("beyond the limit, but within what two runs of one package differ by".to_owned());
            GateOutcome::Passed
        }
        _ => GateOutcome::Passed,
    };
    gate
}

/// Gates on the bytes of a package's weights, once a package.
pub(super) fn size(subject: &Subject<'_>, limits: &SizeLimits, gates: &mut Vec<Gate>) {
    let bytes = |run: &RunSummary| run.header.model.weight_bytes;
    of_bytes(subject, GateCheck::Size, limits, bytes, "the run does not say how large its package is", gates);
}

/// Gates on the most memory that the process held.
pub(super) fn memory(subject: &Subject<'_>, limits: &SizeLimits, gates: &mut Vec<Gate>) {
    let bytes = |run: &RunSummary| run.peak_memory_bytes;
    of_bytes(subject, GateCheck::Memory, limits, bytes, "the run does not say how much memory was held", gates);
}

fn of_bytes(
    subject: &Subject<'_>,
    check: GateCheck,
    limits: &SizeLimits,
    bytes: fn(&RunSummary) -> Option<u64>,
    unknown: &str,
    gates: &mut Vec<Gate>,
) {
    let new = bytes(subject.new).map(|bytes| bytes as f64);
    let base = subject.base.and_then(bytes).map(|bytes| bytes as f64).filter(|bytes| *bytes > 0.0);
    let both = [
        (GateUnit::Bytes, limits.max_bytes.map(|limit| limit as f64), new),
        (GateUnit::Ratio, limits.max_ratio, new.zip(base).map(|(new, base)| new / base)),
    ];
    for (unit, limit, found) in both {
        let Some(limit) = limit else { continue };
        let mut gate = Gate { found, ..subject.gate(check, None, unit, limit) };
        match found {
            // A package does not grow by samples that are outstanding; memory may.
            Some(_) => decide(&mut gate, check == GateCheck::Memory && subject.outstanding()),
            None if subject.base.is_none() && unit == GateUnit::Ratio => {
                gate = skipped(gate, "the baseline has no run of this benchmark")
            }
            None => gate = skipped(gate, unknown),
        }
        // The size of a package is the same on every benchmark.
        let known = |other: &Gate| {
            check == GateCheck::Size
                && (other.check, other.unit, &other.package, &other.base, other.limit)
                    == (check, unit, &gate.package, &gate.base, gate.limit)
        };
        if !gates.iter().any(known) {
            gates.push(gate);
        }
    }
}
