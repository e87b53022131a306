//! Gates in words, the same in every output.

use crate::compare::Estimate;
use crate::compare::gate::{Bound, Gate, GateCheck, GateOutcome, GateReport, GateResult, GateUnit};

use super::super::format::{self, MISSING, Unit};

/// What a gate looks at, without the benchmark and the package.
pub(super) fn subject(gate: &Gate) -> String {
    let subject = gate.subject.as_deref();
    match gate.check {
        GateCheck::Required => "run".to_owned(),
        GateCheck::Complete if subject.is_some() => "records of the baseline".to_owned(),
        GateCheck::Complete => "records".to_owned(),
        GateCheck::Metric => format!("{} against the baseline", subject.unwrap_or(MISSING)),
        GateCheck::Value => subject.unwrap_or(MISSING).to_owned(),
        GateCheck::Broken if gate.unit == GateUnit::Share => "share of broken samples".to_owned(),
        GateCheck::Broken => "broken samples".to_owned(),
        GateCheck::Samples => "samples".to_owned(),
        GateCheck::Clusters => "clusters".to_owned(),
        GateCheck::Failed => "samples without an answer or a score".to_owned(),
        GateCheck::Unparsed => "unparsed answers".to_owned(),
        GateCheck::Latency => format!("time, {}", subject.unwrap_or(MISSING)),
        GateCheck::Size if gate.unit == GateUnit::Ratio => "size against the baseline".to_owned(),
        GateCheck::Size => "size".to_owned(),
        GateCheck::Memory if gate.unit == GateUnit::Ratio => "peak memory against the baseline".to_owned(),
        GateCheck::Memory => "peak memory".to_owned(),
    }
}

fn metric_unit(unit: GateUnit) -> Option<Unit> {
    match unit {
        GateUnit::Percent => Some(Unit::of(100.0)),
        GateUnit::Fraction => Some(Unit::of(1.0)),
        GateUnit::Points => Some(Unit { scale: 100.0, points: true }),
        GateUnit::Count | GateUnit::Share | GateUnit::Ratio | GateUnit::Bytes => None,
    }
}

/// A number of a gate without an interval.
fn number(gate: &Gate, value: f64) -> String {
    match gate.unit {
        GateUnit::Percent | GateUnit::Fraction | GateUnit::Points => {
            let unit = metric_unit(gate.unit).unwrap_or(Unit::of(1.0));
            let decimals = if unit.scale <= 1.0 { 3 } else { 1 };
            if gate.check == GateCheck::Metric {
                format!("{}{}", limit_number(value, decimals, format::signed), unit.difference_suffix())
            } else {
                format!("{}{}", limit_number(value, decimals, format::number), unit.suffix())
            }
        }
        GateUnit::Count => format::count(value.max(0.0) as usize),
        GateUnit::Share => format!("{} %", format::significant(100.0 * value)),
        GateUnit::Ratio => format!("×{}", format::number(value, 3)),
        GateUnit::Bytes => bytes(value),
    }
}

/// As many decimals as the number has beyond the usual ones, so that a limit is shown as it was written.
fn limit_number(value: f64, decimals: usize, write: fn(f64, usize) -> String) -> String {
    let exact = (decimals..decimals + 3).find(|digits| {
        let power = 10_f64.powi(*digits as i32);
        ((value * power).round() / power - value).abs() < 1e-9
    });
    write(value, exact.unwrap_or(decimals))
}

/// `1.5 GiB`, `12.3 MiB`, `812 bytes`.
pub(super) fn bytes(value: f64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(size, _)| value >= *size as f64) {
        Some((size, name)) => format!("{} {name}", format::significant(value / size as f64)),
        None => format!("{} bytes", format::number(value, 0)),
    }
}

/// `≥ −1.0 points`.
pub(super) fn limit(gate: &Gate) -> String {
    let sign = match gate.bound {
        Bound::AtLeast => "≥",
        Bound::AtMost => "≤",
    };
    gate.limit.map_or_else(|| MISSING.to_owned(), |limit| format!("{sign} {}", number(gate, limit)))
}

/// The number found, with its interval where it has one.
pub(super) fn found(gate: &Gate) -> String {
    let Some(value) = gate.found else { return MISSING.to_owned() };
    match (metric_unit(gate.unit), &gate.estimate) {
        (Some(unit), Some(estimate)) if gate.check == GateCheck::Metric => {
            let interval = match estimate.interval {
                Some(_) => format!(" [{}]", unit.difference_interval(estimate).replace(" to ", ", ")),
                None => String::new(),
            };
            format!("{}{interval}", unit.difference(estimate))
        }
        (Some(unit), Some(estimate)) => unit.value_and_half(estimate),
        (None, Some(Estimate { interval: Some([low, high]), .. })) => {
            format!("×{} [{}, {}]", format::number(value, 3), format::number(*low, 3), format::number(*high, 3))
        }
        _ => number(gate, value),
    }
}

/// The word for an outcome.
pub(super) fn outcome(outcome: GateOutcome) -> &'static str {
    match outcome {
        GateOutcome::Passed => "passed",
        GateOutcome::Failed => "failed",
        GateOutcome::Incomplete => "incomplete",
        GateOutcome::Skipped => "not gated",
    }
}

/// A symbol beside the word, so that colour is never the only carrier.
pub(super) fn symbol(outcome: GateOutcome) -> &'static str {
    match outcome {
        GateOutcome::Passed => "✓",
        GateOutcome::Failed => "✗",
        GateOutcome::Incomplete => "…",
        GateOutcome::Skipped => "·",
    }
}

/// Why: the verdict with its p-values, what these samples could have shown, how many would settle it, and the gate's note.
pub(super) fn reason(gate: &Gate) -> String {
    let mut parts = Vec::new();
    if let Some(verdict) = gate.verdict {
        let tests = match (gate.p_value, gate.adjusted_p_value) {
            (Some(p), Some(adjusted)) if adjusted != p => {
                format!(" (p {}, corrected {})", p_text(p), p_text(adjusted))
            }
            (Some(p), _) => format!(" (p {})", p_text(p)),
            _ => String::new(),
        };
        parts.push(format!("{}{tests}", format::verdict_word(verdict)));
    }
    if let (Some(effect), Some(unit)) = (gate.minimum_detectable_effect, metric_unit(gate.unit)) {
        let n = gate.estimate.map_or(0, |estimate| estimate.n);
        let samples = format::counted(n, "sample", "samples");
        parts.push(format!("{samples} can show differences from {}{}", unit.size(effect), unit.difference_suffix()));
    }
    if let Some(needed) = gate.samples_to_settle {
        parts.push(format!("{} would settle it", format::counted(needed, "sample", "samples")));
    }
    parts.extend(gate.note.clone());
    parts.join("; ")
}

fn p_text(p_value: f64) -> String {
    let text = format::p_value(Some(p_value));
    if text.starts_with('<') { text } else { format!("= {text}") }
}

/// The result in one sentence.
pub(super) fn headline(report: &GateReport) -> String {
    let (failed, passed) = (report.count(GateOutcome::Failed), report.count(GateOutcome::Passed));
    let open = report.count(GateOutcome::Incomplete);
    let judged = failed + passed + open;
    let of = |some: usize| format!("{} of {}", format::count(some), format::counted(judged, "gate", "gates"));
    let against = report.baseline.as_ref().map_or_else(String::new, |name| format!(" against {name}"));
    match report.result {
        GateResult::Passed if judged == 0 => format!("Nothing was gated{against}."),
        GateResult::Passed => format!("Passed{against}: {}.", of(passed)),
        GateResult::Incomplete => format!("Passed so far{against}, but incomplete: {} outstanding.", of(open)),
        GateResult::TooManyFailures => {
            format!("Failed{against}: too many samples without an answer, or answers that could not be parsed ({}).", of(failed))
        }
        GateResult::Failed => format!("Failed{against}: {}.", of(failed)),
    }
}

/// How the verdicts were reached, in a sentence or two.
pub(super) fn method(report: &GateReport) -> String {
    use crate::compare::gate::Correction;
    let family = format::counted(report.family, "metric", "metrics");
    let correction = match report.correction {
        Correction::Holm if report.family > 1 => {
            format!("“regressed” is corrected for {family} by Holm's method: 5 % for even one false alarm")
        }
        Correction::Holm => "“regressed” at 5 %".to_owned(),
        Correction::None => format!("“regressed” at 5 % for each of {family}, not corrected"),
    };
    let strict = if report.strict { "; strict: inconclusive metrics and missing runs fail" } else { "" };
    format!("Paired by sample, clustered by image; {correction}{strict}.")
}
