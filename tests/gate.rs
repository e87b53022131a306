//! Gates: each kind passes and fails, as a library and on the command line; what they print and export.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod gate_support;

use common::{gauge, gauge_fails, gauge_json, text};
use gate_support::{bad, good, grid, run, write};
use llava_gauge::compare::gate::{
    Contest, Gate, GateCheck, GateError, GateOutcome, GateReport, GateResult, Policy, against_baseline, gate,
};
use llava_gauge::compare::{CompareOptions, Verdict};
use llava_gauge::store::Run;

fn contest(base: &[Run], new: &[Run]) -> Contest {
    against_baseline(base, new, None, &CompareOptions::default()).unwrap()
}

#[track_caller]
fn judged(base: &Run, new: &Run, policy: &str) -> GateReport {
    gate(&contest(std::slice::from_ref(base), std::slice::from_ref(new)), &Policy::parse(policy).unwrap(), Some("main")).unwrap()
}

#[track_caller]
fn only(report: &GateReport, check: GateCheck) -> &Gate {
    let found: Vec<&Gate> = report.gates.iter().filter(|gate| gate.check == check).collect();
    assert_eq!(found.len(), 1, "{report:#?}");
    found[0]
}

#[test]
fn a_regression_fails_and_its_absence_passes() {
    let report = judged(&good("a", "pope"), &bad("b", "pope"), "");
    assert_eq!(report.result, GateResult::Failed);
    let metric = only(&report, GateCheck::Metric);
    assert_eq!((metric.outcome, metric.verdict), (GateOutcome::Failed, Some(Verdict::Regressed)));
    // A gate on one metric needs no correction, and its number is that of the comparison.
    assert_eq!(metric.p_value, metric.adjusted_p_value);
    assert_eq!(metric.found, Some(metric.estimate.unwrap().value));
    assert_eq!((metric.limit, report.family), (Some(-1.0), 1));

    let report = judged(&good("a", "pope"), &good("b", "pope"), "");
    assert_eq!(report.result, GateResult::Passed);
    assert_eq!(only(&report, GateCheck::Metric).verdict, Some(Verdict::Identical));

    let report = judged(&bad("a", "pope"), &good("b", "pope"), "");
    assert_eq!(only(&report, GateCheck::Metric).verdict, Some(Verdict::Improved));
    assert_eq!(report.result, GateResult::Passed);
}

/// 40 images of five questions, of which one answer each turns on eight images: four become wrong, four right.
fn undecided() -> (Run, Run) {
    let base = grid("a", "pope", 40, 5, |index| index % 25 != 0);
    let new = grid("b", "pope", 40, 5, |index| index % 25 != 5);
    (base, new)
}

#[test]
fn an_undecided_difference_passes_unless_strict() {
    let (base, new) = undecided();
    let report = judged(&base, &new, "");
    let metric = only(&report, GateCheck::Metric);
    assert_eq!((metric.outcome, metric.verdict), (GateOutcome::Passed, Some(Verdict::Inconclusive)));
    // What would settle it: the effect that can be seen falls with the square root of the samples.
    let effect = metric.minimum_detectable_effect.unwrap();
    let needed = metric.samples_to_settle.unwrap();
    assert!(effect > 1.0 && needed > 200, "{metric:#?}");
    let report = judged(&base, &new, "strict = true");
    assert_eq!((report.result, only(&report, GateCheck::Metric).outcome), (GateResult::Failed, GateOutcome::Failed));
    let report = judged(&base, &new, "[defaults]\nfail_on = [\"regressed\", \"inconclusive\"]");
    assert_eq!(report.result, GateResult::Failed);
    // A margin that the interval keeps within.
    let report = judged(&base, &new, "strict = true\n[benchmark.pope]\nmargin = 10");
    let metric = only(&report, GateCheck::Metric);
    assert_eq!((metric.verdict, metric.limit, report.result), (Some(Verdict::NoWorse), Some(-10.0), GateResult::Passed));
    let report = judged(&good("a", "pope"), &bad("b", "pope"), "[defaults]\nfail_on = []");
    assert_eq!(report.result, GateResult::Passed);
}

#[test]
fn a_metric_of_which_less_is_better_is_gated_the_other_way_round() {
    let policy = "[benchmark.pope.metric.error]\nmargin = 2.5";
    let report = judged(&good("a", "pope"), &bad("b", "pope"), policy);
    let error = report.gates.iter().find(|gate| gate.subject.as_deref() == Some("error")).unwrap();
    assert_eq!((error.outcome, error.limit), (GateOutcome::Failed, Some(2.5)));
    assert!(error.found.unwrap() > 0.0);
    let report = judged(&bad("a", "pope"), &good("b", "pope"), policy);
    assert_eq!(report.result, GateResult::Passed);
    // Two metrics, one family: Holm doubles the smaller p-value.
    assert_eq!(report.family, 2);
    let error = report.gates.iter().find(|gate| gate.subject.as_deref() == Some("error")).unwrap();
    assert!((error.adjusted_p_value.unwrap() / error.p_value.unwrap() - 2.0).abs() < 1e-9);
}

#[test]
fn a_weak_regression_among_many_gates_is_corrected() {
    // Of 40 images, `lost` lose one question: a p-value between 0.01 and 0.05 alone.
    let names = ["a1", "a2", "a3", "a4", "a5", "a6"];
    let base: Vec<Run> = names.iter().map(|name| good("base", name)).collect();
    let new: Vec<Run> = names
        .iter()
        .map(|name| {
            let lost = if *name == "a3" { 5 } else { 0 };
            grid("new", name, 40, 5, |index| index % 4 != 3 && !(index % 20 == 0 && index / 20 < lost))
        })
        .collect();
    let contest = contest(&base, &new);
    let find = |report: &GateReport| {
        report
            .gates
            .iter()
            .find(|gate| gate.benchmark.as_deref() == Some("a3") && gate.check == GateCheck::Metric)
            .unwrap()
            .clone()
    };
    let corrected = gate(&contest, &Policy::default(), None).unwrap();
    let metric = find(&corrected);
    let alone = metric.p_value.unwrap();
    assert!((0.01..0.05).contains(&alone), "{metric:#?}");
    assert!((metric.adjusted_p_value.unwrap() - (6.0 * alone).min(1.0)).abs() < 1e-12);
    assert_ne!(metric.verdict, Some(Verdict::Regressed));
    assert!(metric.note.as_ref().unwrap().contains("chance"), "{metric:#?}");
    assert_eq!(corrected.result, GateResult::Passed);
    let uncorrected = gate(&contest, &Policy::parse("correction = \"none\"").unwrap(), None).unwrap();
    assert_eq!(find(&uncorrected).verdict, Some(Verdict::Regressed));
    assert_eq!(uncorrected.result, GateResult::Failed);
}

/// Each kind of limit: a policy that the pair keeps to, one that it breaks, and the gate that breaks.
#[test]
fn every_limit_passes_and_fails() {
    let mut heavy = bad("b", "pope");
    heavy.header.model.weight_bytes = Some(12_000_000);
    for record in &mut heavy.records {
        record.timings.group.peak_memory_bytes = Some(3 << 30);
        record.timings.group.vision_ms *= 1.5;
        record.timings.ttft_ms *= 1.3;
    }
    heavy.records[0].parsed = None;
    let mut base = good("a", "pope");
    for record in &mut base.records {
        record.timings.group.peak_memory_bytes = Some(2 << 30);
    }
    let lax = "[defaults]\nfail_on = []\n";
    let cases = [
        ("minimum_samples = 200", "minimum_samples = 201", GateCheck::Samples),
        ("minimum_clusters = 40", "minimum_clusters = 41", GateCheck::Clusters),
        ("max_broken = 20", "max_broken = 10", GateCheck::Broken),
        ("max_broken_share = 0.1", "max_broken_share = 0.05", GateCheck::Broken),
        ("max_unparsed_share = 0.005", "max_unparsed_share = 0.004", GateCheck::Unparsed),
        ("latency.vision = 1.6", "latency.vision = 1.4", GateCheck::Latency),
        ("latency.ttft = 1.35", "latency.ttft = 1.25", GateCheck::Latency),
        ("latency.total = 1.5", "latency.total = 1.3", GateCheck::Latency),
        ("size.max_bytes = 12000000", "size.max_bytes = 11999999", GateCheck::Size),
        ("size.max_ratio = 1.2", "size.max_ratio = 1.1", GateCheck::Size),
        ("memory.max_bytes = 3221225472", "memory.max_bytes = 3221225471", GateCheck::Memory),
        ("memory.max_ratio = 1.5", "memory.max_ratio = 1.4", GateCheck::Memory),
    ];
    for (kept, broken, check) in cases {
        let report = judged(&base, &heavy, &format!("{lax}{kept}"));
        assert_eq!(only(&report, check).outcome, GateOutcome::Passed, "{kept}: {report:#?}");
        assert_eq!(report.result, GateResult::Passed, "{kept}");
        let report = judged(&base, &heavy, &format!("{lax}{broken}"));
        assert_eq!(only(&report, check).outcome, GateOutcome::Failed, "{broken}: {report:#?}");
        let expected = if check == GateCheck::Unparsed { GateResult::TooManyFailures } else { GateResult::Failed };
        assert_eq!(report.result, expected, "{broken}");
    }
    // Limits on the value itself are of one benchmark.
    for (limit, outcome) in [
        ("at_least = 60", GateOutcome::Passed),
        ("at_least = 75.5", GateOutcome::Failed),
        ("at_most = 75.5", GateOutcome::Passed),
        ("at_most = 60", GateOutcome::Failed),
    ] {
        let report = judged(&base, &heavy, &format!("[benchmark.pope]\nfail_on = []\n{limit}"));
        assert_eq!(only(&report, GateCheck::Value).outcome, outcome, "{limit}");
    }
}

#[test]
fn samples_without_an_answer_are_counted() {
    let mut samples: Vec<_> = (0..200).map(|index| (index / 5, Some(f64::from(u8::from(index % 4 != 3))))).collect();
    for sample in samples.iter_mut().take(3) {
        sample.1 = None;
    }
    let new = run("b", "pope", &samples);
    // 1.5 % is more than the 1 % that are allowed by default.
    let report = judged(&good("a", "pope"), &new, "");
    assert_eq!(report.result, GateResult::TooManyFailures);
    assert_eq!(only(&report, GateCheck::Failed).found, Some(0.015));
    assert_eq!(judged(&good("a", "pope"), &new, "[defaults]\nmax_failed_share = 0.015").result, GateResult::Passed);
    // A gate that failed for another reason too is a failed gate.
    let report = judged(&good("a", "pope"), &new, "[benchmark.pope]\nat_least = 99");
    assert_eq!(report.result, GateResult::Failed);
}

#[test]
fn times_of_other_machines_are_not_gated_and_it_is_said() {
    let base = good("a", "pope");
    let mut new = good("b", "pope");
    new.header.environment.processor = "another processor".into();
    for record in &mut new.records {
        record.timings.group.vision_ms *= 9.0;
    }
    let report = judged(&base, &new, "[defaults.latency]\ntotal = 1.1");
    let latency = only(&report, GateCheck::Latency);
    assert_eq!(latency.outcome, GateOutcome::Skipped);
    assert!(latency.note.as_ref().unwrap().contains("another machine"), "{latency:#?}");
    assert_eq!(report.result, GateResult::Passed);
}

#[test]
fn times_within_the_noise_pass_a_limit_below_it() {
    let base = good("a", "pope");
    let mut new = good("b", "pope");
    for record in &mut new.records {
        record.timings.group.vision_ms *= 1.01;
    }
    let report = judged(&base, &new, "[defaults.latency]\ntotal = 1.0\nvision = 1.0");
    for gate in report.gates.iter().filter(|gate| gate.check == GateCheck::Latency) {
        assert_eq!(gate.outcome, GateOutcome::Passed, "{gate:#?}");
        assert!(gate.note.as_ref().unwrap().contains("beyond the limit"), "{gate:#?}");
    }
}

#[test]
fn missing_runs_and_outstanding_samples_are_incomplete() {
    let base = [good("a", "pope"), good("a", "gqa")];
    let report = gate(&contest(&base, &[good("b", "pope")]), &Policy::default(), None).unwrap();
    assert_eq!(report.result, GateResult::Incomplete);
    assert_eq!(only(&report, GateCheck::Required).benchmark.as_deref(), Some("gqa"));
    for policy in ["missing = \"fail\"", "strict = true"] {
        let report = gate(&contest(&base, &[good("b", "pope")]), &Policy::parse(policy).unwrap(), None).unwrap();
        assert_eq!(report.result, GateResult::Failed, "{policy}");
    }
    let report = gate(&contest(&base, &[good("b", "pope")]), &Policy::parse("required = [\"pope\"]").unwrap(), None).unwrap();
    assert_eq!(report.result, GateResult::Passed);
    // A section of the policy that no run answers is no typo that nobody sees.
    let report = judged(&good("a", "pope"), &good("b", "pope"), "[benchmark.poppe]\nmargin = 2");
    assert_eq!(only(&report, GateCheck::Required).benchmark.as_deref(), Some("poppe"));

    let mut part = good("b", "pope");
    part.records.truncate(150);
    part.complete = false;
    let report = judged(&good("a", "pope"), &part, "[benchmark.pope]\nminimum_samples = 200\nat_least = 10\nmax_broken = 3");
    assert_eq!(report.result, GateResult::Incomplete);
    for check in [GateCheck::Complete, GateCheck::Metric, GateCheck::Samples, GateCheck::Value, GateCheck::Broken] {
        assert_eq!(only(&report, check).outcome, GateOutcome::Incomplete, "{check:?}");
    }
    // What is broken already cannot be mended by the rest.
    let mut part = bad("b", "pope");
    part.records.truncate(150);
    part.complete = false;
    let report = judged(&good("a", "pope"), &part, "[defaults]\nmax_broken = 3");
    assert_eq!(only(&report, GateCheck::Broken).outcome, GateOutcome::Failed);
}

#[test]
fn runs_are_measured_by_the_package_of_their_name() {
    let base = [good("small", "pope"), bad("large", "pope")];
    let new = [good("small", "pope"), good("large", "pope")];
    let contest = contest(&base, &new);
    let report = gate(&contest, &Policy::default(), None).unwrap();
    let verdict = |package: &str| {
        let of = |gate: &&Gate| gate.check == GateCheck::Metric && gate.package.as_deref() == Some(package);
        report.gates.iter().find(of).unwrap().verdict
    };
    assert_eq!((verdict("small"), verdict("large")), (Some(Verdict::Identical), Some(Verdict::Improved)));
    let other = [good("other", "pope")];
    assert!(matches!(against_baseline(&base, &other, None, &CompareOptions::default()), Err(GateError::Ambiguous { .. })));
    let named = against_baseline(&base, &other, Some("large"), &CompareOptions::default()).unwrap();
    let report = gate(&named, &Policy::default(), None).unwrap();
    assert_eq!(only(&report, GateCheck::Metric).verdict, Some(Verdict::Improved));
    let error = against_baseline(&base, &other, Some("huge"), &CompareOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "the baseline has no run of a package named \"huge\"; found large, small");
}

#[test]
fn a_policy_says_what_is_wrong_with_it() {
    let cases = [
        ("margn = 1", "unknown field `margn`"),
        ("[defaults]\nmargin = \"one\"", "invalid type: string \"one\", expected f64"),
        ("[defaults]\nmargin = -1", "defaults.margin: expected 0 or more points, found -1"),
        ("[defaults]\nmax_failed_share = 3", "defaults.max_failed_share: expected a share between 0 and 1, found 3"),
        ("[defaults.latency]\ntotal = 0", "defaults.latency.total: expected a ratio above 0, such as 1.1 for 10 % more, found 0"),
        ("[defaults]\nat_least = 3", "defaults.at_least: expected no value here"),
        ("[defaults.metric.f1]\nmargin = 3", "defaults.metric: expected no metric here"),
        (
            "[benchmark.pope.metric.f1]\nat_least = 3\nat_most = 2",
            "benchmark.pope.metric.f1.at_least: expected no more than at_most",
        ),
        ("format = 2", "format: expected 1, the format of this program, found 2"),
        ("[defaults]\nfail_on = [\"worse\"]", "unknown variant `worse`, expected `regressed` or `inconclusive`"),
        ("correction = \"bonferroni\"", "unknown variant `bonferroni`, expected `holm` or `none`"),
    ];
    for (text, expected) in cases {
        let error = Policy::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let policy = Policy::parse("[benchmark.pope.metric.f1]\nmargin = 3").unwrap();
    let error = gate(&contest(&[good("a", "pope")], &[good("b", "pope")]), &policy, None).unwrap_err();
    assert_eq!(error.to_string(), "benchmark.pope.metric.f1: expected a metric of pope (accuracy, error), found \"f1\"");
}

#[test]
fn the_command_line_passes_fails_and_prints_json() {
    let folder = tempfile::tempdir().unwrap();
    let (base, new) = (folder.path().join("base"), folder.path().join("new"));
    write(&good("a", "pope"), &base);
    write(&bad("b", "pope"), &new);
    let arguments = ["gate", text(&new), "--baseline", text(&base)];
    let assert = gauge(&arguments).assert().code(100);
    let shown = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert!(shown.starts_with("Failed against") && shown.contains("✗ failed"), "{shown}");
    assert!(shown.contains("regressed (p < 0.001)"), "{shown}");
    let output = gauge(&[&arguments[..], &["--json"]].concat()).assert().code(100).get_output().stdout.clone();
    let json: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!((&json["format"], &json["result"]), (&1.into(), &"failed".into()));
    assert_eq!(json["gates"][1]["verdict"], "regressed");
    let passed = gauge_json(&["gate", text(&base), "--baseline", text(&base), "--json"]);
    assert_eq!(passed["result"], "passed");
    // Limits alone need no baseline.
    let policy = folder.path().join("gate.toml");
    std::fs::write(&policy, "[benchmark.pope]\nat_least = 99\n").unwrap();
    gauge(&["gate", text(&new), "--no-baseline", "--policy", text(&policy)]).assert().code(100);
    gauge(&["gate", text(&new)]).assert().code(2);
    std::fs::write(&policy, "[benchmark.pope]\nat_leest = 99\n").unwrap();
    let error = gauge_fails(&["gate", text(&new), "--no-baseline", "--policy", text(&policy)], 96);
    assert!(error.contains("gate.toml") && error.contains("line 2") && error.contains("at_leest"), "{error}");
}
