//! JUnit XML: one suite a benchmark, one case a gate.
//!
//! Elements and attributes are those of Jenkins' `junit-4.xsd` (xunit-plugin, dtkit-junit-model), which GitLab and the usual
//! GitHub actions read too: `testsuites`, `testsuite` (name, tests, failures, errors, skipped, timestamp), `testcase` (name,
//! classname), `failure` (type, message), `skipped`. A gate that is incomplete or not judged is a skipped case: the exit code
//! tells the two apart.

use std::fmt::Write as _;

use crate::compare::gate::{Gate, GateOutcome, GateReport};
use crate::guard::escape::xml;

use super::words;

/// The whole document.
pub(super) fn document(report: &GateReport, generated_at: &str) -> String {
    let mut suites: Vec<(&str, Vec<&Gate>)> = Vec::new();
    for gate in &report.gates {
        let name = gate.benchmark.as_deref().unwrap_or("packages");
        match suites.iter_mut().find(|(suite, _)| *suite == name) {
            Some((_, gates)) => gates.push(gate),
            None => suites.push((name, vec![gate])),
        }
    }
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let all: Vec<&Gate> = report.gates.iter().collect();
    let _ = writeln!(out, "<testsuites name=\"llava-gauge\" {}>", counts(&all));
    // The schema's time has no zone.
    let timestamp = xml(generated_at.trim_end_matches('Z'));
    for (name, gates) in suites {
        let _ = writeln!(out, "  <testsuite name=\"{}\" {} timestamp=\"{timestamp}\">", xml(name), counts(&gates));
        for gate in gates {
            case(&mut out, name, gate);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn counts(gates: &[&Gate]) -> String {
    let count = |outcome: GateOutcome| gates.iter().filter(|gate| gate.outcome == outcome).count();
    let skipped = count(GateOutcome::Skipped) + count(GateOutcome::Incomplete);
    format!("tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{skipped}\"", gates.len(), count(GateOutcome::Failed))
}

fn case(out: &mut String, suite: &str, gate: &Gate) {
    let package = gate.package.as_deref().map_or_else(String::new, |name| format!("{name}: "));
    let name = xml(&format!("{package}{}", words::subject(gate)));
    let _ = write!(out, "    <testcase classname=\"{}\" name=\"{name}\"", xml(suite));
    let reason = words::reason(gate);
    let numbers = format!("limit {}, found {}", words::limit(gate), words::found(gate));
    let text = if reason.is_empty() { numbers } else { format!("{numbers}: {reason}") };
    match gate.outcome {
        GateOutcome::Passed => {
            let _ = writeln!(out, "><system-out>{}</system-out></testcase>", xml(&text));
        }
        GateOutcome::Failed => {
            let _ = writeln!(
                out,
                "><failure type=\"{}\" message=\"{}\">{}</failure></testcase>",
                gate.check.as_str(),
                xml(&text),
                xml(&text)
            );
        }
        GateOutcome::Incomplete | GateOutcome::Skipped => {
            let message = format!("{}: {text}", words::outcome(gate.outcome));
            let _ = writeln!(out, "><skipped message=\"{}\"/></testcase>", xml(&message));
        }
    }
}
