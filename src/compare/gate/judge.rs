//! From a contest and a policy to gates.

use super::super::metric::{corrected, margin_in_units, settling};
use super::super::{Estimate, PairComparison, PairedMetric, RunSummary, Verdict};
use super::limits::{latency, memory, runs_and_samples, size};
use super::{
    Bound, Contender, Contest, Correction, FailOn, Gate, GateCheck, GateError, GateOutcome, GateReport, GateResult, GateUnit,
    MetricRules, Missing, Policy, Rules,
};
use crate::benchmark::MetricSpec;
use crate::stats::holm;

/// Judges the new runs of a contest. `baseline` is the name under which it is known.
///
/// "Regressed" needs the interval of the paired difference on the worse side of zero and, unless the policy says otherwise, a
/// p-value that Holm's method, over all metrics that are gated, still finds at most 5 %. "No worse" needs an interval that
/// reaches no further than the margin; no correction is needed for that, as every gate must pass.
pub fn gate(contest: &Contest, policy: &Policy, baseline: Option<&str>) -> Result<GateReport, GateError> {
    let mut gates = required(contest, policy);
    let p_values = family(contest, policy)?;
    let adjusted = match policy.correction {
        Correction::Holm => holm(&p_values),
        Correction::None => p_values.clone(),
    };
    let mut adjusted = adjusted.into_iter();
    for subject in subjects(contest) {
        let rules = policy.rules(subject.benchmark());
        runs_and_samples(&subject, &rules, &mut gates);
        for (metric, spec) in gated_metrics(&subject, &rules)? {
            let own = rules.metric(&spec.name, spec.primary);
            let adjusted = metric.and_then(tested).and_then(|_| adjusted.next());
            gates.push(metric_gate(policy, &subject, metric, spec, &own, adjusted));
            gates.extend(value_gates(&subject, spec, &own));
        }
        if let Some(pair) = subject.pair {
            broken(&subject, pair, &rules, &mut gates);
        }
        latency(&subject, &rules.latency, &mut gates);
        size(&subject, &rules.size, &mut gates);
        memory(&subject, &rules.memory, &mut gates);
    }
    Ok(GateReport {
        format: 1,
        result: result(&gates),
        baseline: baseline.map(str::to_owned),
        strict: policy.strict,
        correction: policy.correction,
        family: p_values.len(),
        gates,
    })
}

/// A new run with everything that it is judged by.
pub(super) struct Subject<'a> {
    pub new: &'a RunSummary,
    pub base: Option<&'a RunSummary>,
    pub pair: Option<&'a PairComparison>,
}

impl Subject<'_> {
    pub fn benchmark(&self) -> &str {
        &self.new.header.benchmark.name
    }

    /// A gate on this run that has not been judged yet.
    pub fn gate(&self, check: GateCheck, subject: Option<&str>, unit: GateUnit, limit: f64) -> Gate {
        Gate {
            benchmark: Some(self.benchmark().to_owned()),
            package: Some(self.new.header.model.name.clone()),
            base: self.base.map(|base| base.header.model.name.clone()),
            ..blank(check, subject, unit, Some(limit))
        }
    }

    /// Whether samples of the new run are outstanding.
    pub fn outstanding(&self) -> bool {
        !self.new.complete
    }
}

/// A gate of nothing yet.
pub(super) fn blank(check: GateCheck, subject: Option<&str>, unit: GateUnit, limit: Option<f64>) -> Gate {
    Gate {
        check,
        benchmark: None,
        package: None,
        base: None,
        subject: subject.map(str::to_owned),
        bound: Bound::AtMost,
        limit,
        found: None,
        unit,
        outcome: GateOutcome::Skipped,
        verdict: None,
        estimate: None,
        p_value: None,
        adjusted_p_value: None,
        minimum_detectable_effect: None,
        samples_to_settle: None,
        note: None,
    }
}

fn subjects(contest: &Contest) -> Vec<Subject<'_>> {
    let runs = &contest.comparison.runs;
    let subject = |contender: &Contender| {
        Some(Subject {
            new: runs.get(contender.new)?,
            base: contender.base.and_then(|base| runs.get(base)),
            pair: contender.pair.and_then(|pair| contest.comparison.pairs.get(pair)),
        })
    };
    contest.contenders.iter().filter_map(subject).collect()
}

/// The benchmarks that must have been run and were not.
fn required(contest: &Contest, policy: &Policy) -> Vec<Gate> {
    let ran: Vec<(&str, &str)> = subjects(contest)
        .iter()
        .map(|subject| (subject.new.header.benchmark.name.as_str(), subject.new.header.model.name.as_str()))
        .collect();
    let mut packages: Vec<&str> = ran.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    let has = |benchmark: &str, package: Option<&str>| {
        ran.iter().any(|(name, of)| *name == benchmark && package.is_none_or(|package| package == *of))
    };
    // Each with the package that must have run it, if it must be a certain one.
    let mut wanted: Vec<(&str, Option<&str>)> = match &policy.required {
        Some(names) => names.iter().flat_map(|name| packages.iter().map(|package| (name.as_str(), Some(*package)))).collect(),
        None => contest
            .baseline
            .iter()
            .map(|(benchmark, package)| (benchmark.as_str(), packages.iter().copied().find(|name| name == package)))
            .collect(),
    };
    wanted.extend(policy.benchmark.keys().map(|name| (name.as_str(), None)));
    let mut gates: Vec<Gate> = Vec::new();
    for (benchmark, package) in wanted {
        let mut gate = blank(GateCheck::Required, None, GateUnit::Count, Some(1.0));
        (gate.benchmark, gate.package) = (Some(benchmark.to_owned()), package.map(str::to_owned));
        let known = |other: &Gate| other.benchmark == gate.benchmark && (package.is_none() || other.package == gate.package);
        if has(benchmark, package) || gates.iter().any(known) {
            continue;
        }
        let fails = policy.strict || policy.missing == Missing::Fail;
        gate.outcome = if fails { GateOutcome::Failed } else { GateOutcome::Incomplete };
        (gate.bound, gate.found) = (Bound::AtLeast, Some(0.0));
        gate.note = Some("no run of this benchmark was given".to_owned());
        gates.push(gate);
    }
    gates
}

/// The metrics of a run that are gated: the primary one, and those that the policy names.
fn gated_metrics<'a>(subject: &Subject<'a>, rules: &Rules) -> Result<Vec<(Option<&'a PairedMetric>, &'a MetricSpec)>, GateError> {
    let specs = &subject.new.header.benchmark.metrics;
    if let Some(unknown) = rules.metric.keys().find(|name| specs.iter().all(|spec| spec.name != **name)) {
        return Err(GateError::UnknownMetric {
            benchmark: subject.benchmark().to_owned(),
            metric: unknown.clone(),
            known: specs.iter().map(|spec| spec.name.clone()).collect(),
        });
    }
    let paired = |spec: &MetricSpec| subject.pair.and_then(|pair| pair.metrics.iter().find(|metric| metric.name == spec.name));
    let gated = specs.iter().filter(|spec| spec.primary || rules.metric.contains_key(&spec.name));
    Ok(gated.map(|spec| (paired(spec), spec)).collect())
}

/// The p-value of a metric that can regress.
fn tested(metric: &PairedMetric) -> Option<f64> {
    metric.higher_is_better?;
    metric.p_value
}

/// The p-values of all gated metrics, in the order in which they are gated.
fn family(contest: &Contest, policy: &Policy) -> Result<Vec<f64>, GateError> {
    let mut p_values = Vec::new();
    for subject in subjects(contest) {
        let metrics = gated_metrics(&subject, &policy.rules(subject.benchmark()))?;
        p_values.extend(metrics.into_iter().filter_map(|(metric, _)| metric.and_then(tested)));
    }
    Ok(p_values)
}

pub(super) fn unit_of(spec: &MetricSpec) -> GateUnit {
    if spec.points || spec.sum_over_categories {
        GateUnit::Points
    } else if spec.scale == 100.0 {
        GateUnit::Percent
    } else {
        GateUnit::Fraction
    }
}

fn metric_gate(
    policy: &Policy,
    subject: &Subject<'_>,
    metric: Option<&PairedMetric>,
    spec: &MetricSpec,
    rules: &MetricRules,
    adjusted: Option<f64>,
) -> Gate {
    let margin = margin_in_units(spec, rules.margin_points());
    let mut gate = subject.gate(GateCheck::Metric, Some(&spec.name), unit_of(spec), -margin);
    gate.bound = Bound::AtLeast;
    if spec.higher_is_better == Some(false) {
        (gate.bound, gate.limit) = (Bound::AtMost, Some(margin));
    }
    let Some(metric) = metric else {
        let (outcome, note) = match (subject.pair, subject.outstanding()) {
            (None, _) => (GateOutcome::Skipped, "the baseline has no run of this benchmark"),
            (_, true) => (GateOutcome::Incomplete, "the metric has no value yet"),
            _ => (GateOutcome::Failed, "the metric has no value in both runs, so nothing shows that it is no worse"),
        };
        (gate.outcome, gate.note) = (outcome, Some(note.to_owned()));
        return gate;
    };
    let verdict = verdict(metric, margin, adjusted);
    gate.found = Some(metric.difference.value);
    gate.estimate = Some(metric.difference);
    gate.verdict = Some(verdict);
    gate.p_value = metric.p_value;
    gate.adjusted_p_value = adjusted;
    gate.minimum_detectable_effect = metric.minimum_detectable_effect;
    let fails = match verdict {
        Verdict::Regressed => rules.fails_on(FailOn::Regressed, policy.strict),
        Verdict::Inconclusive => rules.fails_on(FailOn::Inconclusive, policy.strict),
        Verdict::Improved | Verdict::NoWorse | Verdict::Identical | Verdict::Descriptive => false,
    };
    gate.outcome = match (fails, subject.outstanding() || subject.base.is_some_and(|base| !base.complete)) {
        // What is regressed on the samples so far fails, whatever the rest says; what lacks samples may yet get them.
        (true, true) if verdict != Verdict::Regressed => GateOutcome::Incomplete,
        (true, _) => GateOutcome::Failed,
        (false, true) => GateOutcome::Incomplete,
        (false, false) if verdict == Verdict::Descriptive => GateOutcome::Skipped,
        (false, false) => GateOutcome::Passed,
    };
    gate.samples_to_settle = settling(spec, &metric.difference, rules.margin_points(), verdict);
    gate.note = match verdict {
        Verdict::Descriptive => Some("the metric has no direction".to_owned()),
        Verdict::Regressed => None,
        _ if metric.own_verdict() == Verdict::Regressed => {
            Some("alone it would count as regressed; among so many gates it may be chance".to_owned())
        }
        _ => None,
    };
    gate
}

/// The verdict for a margin of the policy in the metric's units, and a p-value corrected for the gates.
fn verdict(metric: &PairedMetric, margin: f64, adjusted: Option<f64>) -> Verdict {
    let own = match (metric.own_verdict(), metric.difference.interval) {
        // Only these two depend on the margin, which the policy may have set otherwise than the comparison.
        (Verdict::NoWorse | Verdict::Inconclusive, Some([low, high])) => {
            let worst = if metric.higher_is_better == Some(false) { -high } else { low };
            if worst > -margin { Verdict::NoWorse } else { Verdict::Inconclusive }
        }
        (own, _) => own,
    };
    adjusted.map_or(own, |adjusted| corrected(own, &metric.difference, adjusted))
}

/// Limits on the value itself.
fn value_gates(subject: &Subject<'_>, spec: &MetricSpec, rules: &MetricRules) -> Vec<Gate> {
    let estimate = subject.new.metrics.iter().find(|metric| metric.name == spec.name).map(|metric| metric.estimate);
    let limits = [(Bound::AtLeast, rules.at_least), (Bound::AtMost, rules.at_most)];
    let gate = |(bound, limit): (Bound, Option<f64>)| {
        let mut gate = subject.gate(GateCheck::Value, Some(&spec.name), unit_of(spec), limit?);
        gate.bound = bound;
        gate.found = estimate.map(|estimate: Estimate| estimate.value);
        gate.estimate = estimate;
        match gate.found {
            Some(_) => decide(&mut gate, subject.outstanding()),
            None => {
                gate.outcome = if subject.outstanding() { GateOutcome::Incomplete } else { GateOutcome::Failed };
                gate.note = Some("the metric has no value".to_owned());
            }
        }
        Some(gate)
    };
    limits.into_iter().filter_map(gate).collect()
}

fn broken(subject: &Subject<'_>, pair: &PairComparison, rules: &Rules, gates: &mut Vec<Gate>) {
    let paired = pair.paired as f64;
    let share = if pair.paired == 0 { 0.0 } else { pair.broken as f64 / paired };
    let limits = [
        (GateUnit::Count, rules.max_broken.map(|limit| limit as f64), pair.broken as f64),
        (GateUnit::Share, rules.max_broken_share, share),
    ];
    for (unit, limit, found) in limits {
        let Some(limit) = limit else { continue };
        let mut gate = subject.gate(GateCheck::Broken, None, unit, limit);
        gate.found = Some(found);
        decide(&mut gate, subject.outstanding());
        gates.push(gate);
    }
}

/// Compares the number of a gate with its limit. What is within it passes only when nothing is outstanding; beyond a largest
/// number it fails in any case.
pub(super) fn decide(gate: &mut Gate, outstanding: bool) {
    let (Some(limit), Some(found)) = (gate.limit, gate.found) else { return };
    let within = match gate.bound {
        Bound::AtLeast => found >= limit,
        Bound::AtMost => found <= limit,
    };
    // Counts and bytes can only grow.
    let final_already = gate.bound == Bound::AtMost && matches!(gate.unit, GateUnit::Count | GateUnit::Bytes);
    gate.outcome = match (within, outstanding) {
        (false, false) => GateOutcome::Failed,
        (false, true) if final_already => GateOutcome::Failed,
        (true, false) => GateOutcome::Passed,
        (_, true) => GateOutcome::Incomplete,
    };
}

fn result(gates: &[Gate]) -> GateResult {
    let failed: Vec<&Gate> = gates.iter().filter(|gate| gate.outcome == GateOutcome::Failed).collect();
    if failed.iter().any(|gate| !matches!(gate.check, GateCheck::Failed | GateCheck::Unparsed)) {
        GateResult::Failed
    } else if !failed.is_empty() {
        GateResult::TooManyFailures
    } else if gates.iter().any(|gate| gate.outcome == GateOutcome::Incomplete) {
        GateResult::Incomplete
    } else {
        GateResult::Passed
    }
}
