//! What gates export for continuous integration, read back by strict readers, with hostile text in every field.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
#[path = "fixtures/report/demo.rs"]
#[allow(dead_code, reason = "no images are drawn here")]
mod demo;
mod gate_support;
#[path = "fixtures/report/hostile.rs"]
mod hostile;

use common::{gauge, gauge_fails, text};
use gate_support::{bad, good, grid, write};
use llava_gauge::compare::gate::{Contender, Contest, GateReport, Policy, against_baseline, gate};
use llava_gauge::compare::{CompareOptions, Comparison};
use llava_gauge::report::ci::{EXPORT_FORMATS, ExportFormat, ExportInput, export, table};
use llava_gauge::store::Run;
use serde_json::Value;

const MADE: &str = "2026-11-25T09:00:00Z";

fn exported(format: ExportFormat, contest: &Contest, report: &GateReport, title: &str) -> String {
    let runs: Vec<usize> = contest.contenders.iter().map(|contender| contender.new).collect();
    let input = ExportInput { comparison: &contest.comparison, runs: &runs, gates: Some(report), title, generated_at: MADE };
    String::from_utf8(export(format, &input).unwrap()).unwrap()
}

fn policy() -> Policy {
    let text = "[defaults]\nmax_broken = 3\nminimum_clusters = 30\nlatency.total = 1.1\nlatency.vision = 1.1\nsize.max_ratio = 1.1\n\
                memory.max_bytes = 1000\n[benchmark.pope]\nat_least = 50\n[benchmark.absent]\nmargin = 2\n";
    Policy::parse(text).unwrap()
}

/// A regression, an improvement, a benchmark that the baseline lacks, and one that was not run.
fn mixed() -> (Contest, GateReport) {
    let base: [Run; 3] = [good("a", "pope"), bad("a", "gqa"), good("a", "vqa")];
    let new: [Run; 3] = [bad("b", "pope"), good("b", "gqa"), grid("b", "mme", 40, 5, |index| index % 3 == 0)];
    let contest = against_baseline(&base, &new, None, &CompareOptions::default()).unwrap();
    let report = gate(&contest, &policy(), Some("main")).unwrap();
    (contest, report)
}

#[test]
fn the_same_gates_as_table_junit_and_summary() {
    let (contest, report) = mixed();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("fixtures/gate/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| {
        insta::assert_snapshot!("table.txt", table(&report, false));
        insta::assert_snapshot!("junit.xml", exported(ExportFormat::Junit, &contest, &report, "nightly"));
        insta::assert_snapshot!("summary.md", exported(ExportFormat::Github, &contest, &report, "nightly"));
        insta::assert_snapshot!("bigger.json", exported(ExportFormat::BenchmarkBigger, &contest, &report, "nightly"));
        insta::assert_snapshot!("bmf.json", exported(ExportFormat::Bencher, &contest, &report, "nightly"));
        insta::assert_snapshot!("lm-eval.json", exported(ExportFormat::LmEval, &contest, &report, "nightly"));
    });
    let summary = exported(ExportFormat::Github, &contest, &report, "nightly");
    let comment = exported(ExportFormat::GithubComment, &contest, &report, "nightly");
    assert_eq!(comment, format!("<!-- llava-gauge:report -->\n{summary}"));
    assert!(summary.starts_with("### ❌ nightly: Failed against main: "), "{summary}");
}

#[test]
fn junit_counts_its_cases() {
    let (contest, report) = mixed();
    let xml = exported(ExportFormat::Junit, &contest, &report, "nightly");
    let document = roxmltree::Document::parse(&xml).unwrap();
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "testsuites");
    let number = |node: roxmltree::Node<'_, '_>, name: &str| node.attribute(name).unwrap().parse::<usize>().unwrap();
    let cases = |node: roxmltree::Node<'_, '_>, child: &str| {
        node.descendants()
            .filter(|node| node.has_tag_name("testcase") && node.children().any(|one| one.has_tag_name(child)))
            .count()
    };
    let suites: Vec<_> = root.children().filter(|node| node.is_element()).collect();
    assert_eq!(
        suites.iter().map(|suite| suite.attribute("name").unwrap()).collect::<Vec<_>>(),
        ["vqa", "absent", "pope", "gqa", "mme"]
    );
    for node in suites.into_iter().chain([root]) {
        let all = node.descendants().filter(|node| node.has_tag_name("testcase")).count();
        assert_eq!(number(node, "tests"), all);
        assert_eq!(number(node, "failures"), cases(node, "failure"));
        assert_eq!(number(node, "skipped"), cases(node, "skipped"));
        assert_eq!(number(node, "errors"), 0);
    }
    assert_eq!(number(root, "tests"), report.gates.len());
}

/// The hostile demo as a contest: every pair of a benchmark's first run and another.
fn hostile_contest(comparison: Comparison) -> Contest {
    let mut contenders = Vec::new();
    for (pair, paired) in comparison.pairs.iter().enumerate() {
        let place = |name: &str| {
            comparison.runs.iter().position(|run| run.header.benchmark.name == paired.benchmark && run.header.model.name == name)
        };
        contenders.push(Contender { new: place(&paired.new).unwrap(), base: place(&paired.base), pair: Some(pair) });
    }
    let baseline = comparison.runs.iter().map(|run| (run.header.benchmark.name.clone(), run.header.model.name.clone())).collect();
    Contest { comparison, contenders, baseline }
}

/// Payloads of the reports, and texts that XML cannot hold.
fn payloads() -> Vec<String> {
    let controls: String = ('\0'..='\u{1f}').chain(['\u{7f}', '\u{85}', '\u{9b}', '\u{fffe}', '\u{ffff}', '\u{202e}']).collect();
    let more = [controls, "\u{1b}[31mred\u{1b}[0m\u{1b}]8;;http://evil.invalid\u{7}".to_owned(), "x".repeat(5_000)];
    hostile::PAYLOADS.iter().map(|payload| (*payload).to_owned()).chain(more).collect()
}

#[test]
fn every_hostile_string_in_every_field_stays_text() {
    for payload in payloads() {
        let contest = hostile_contest(hostile::demo_with(|_| payload.clone()).comparison);
        let mut policy = policy();
        policy.required = Some(vec![payload.clone()]);
        policy.benchmark.clear();
        let report = gate(&contest, &policy, Some(&payload)).unwrap();
        let xml = exported(ExportFormat::Junit, &contest, &report, &payload);
        let document = roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{payload:?}: {error}\n{xml}"));
        let names: Vec<&str> =
            document.descendants().filter(|node| node.is_element()).map(|node| node.tag_name().name()).collect();
        let allowed = ["testsuites", "testsuite", "testcase", "failure", "skipped", "system-out"];
        assert!(names.iter().all(|name| allowed.contains(name)), "{payload:?}: {names:?}");
        assert_eq!(names.iter().filter(|name| **name == "testcase").count(), report.gates.len());

        let shown = table(&report, false);
        assert!(!shown.chars().any(|character| character.is_control() && character != '\n'), "{payload:?}: {shown:?}");
        for format in [ExportFormat::Github, ExportFormat::GithubComment, ExportFormat::Markdown] {
            let markdown = exported(format, &contest, &report, &payload);
            // The only elements are our own, and nothing is fetched or linked.
            for (start, _) in markdown.match_indices('<') {
                let rest = &markdown[start..];
                let own = ["<details>", "</details>", "<summary>", "</summary>", "<!-- llava-gauge:report -->"];
                assert!(own.iter().any(|tag| rest.starts_with(tag)), "{payload:?}: {}", &rest[..rest.len().min(80)]);
            }
            assert!(!markdown.replace("\\]", "").contains("](") && !markdown.contains("http://"), "{payload:?}");
        }
        for format in [ExportFormat::BenchmarkBigger, ExportFormat::BenchmarkSmaller, ExportFormat::Bencher, ExportFormat::Json] {
            let json: Value = serde_json::from_str(&exported(format, &contest, &report, &payload)).unwrap();
            assert!(json.is_array() || json.is_object());
        }
    }
}

#[test]
fn a_summary_keeps_within_its_limit_and_says_what_it_left_out() {
    // So many flips with such long answers that neither limit holds them.
    let base = grid("a", "pope", 1_000, 4, |_| true);
    let mut new = grid("b", "pope", 1_000, 4, |_| false);
    for record in &mut new.records {
        record.text = "|`<é".repeat(100);
    }
    let contest = against_baseline(&[base, good("a", "gqa")], &[new, bad("b", "gqa")], None, &CompareOptions::default()).unwrap();
    let report = gate(&contest, &Policy::default(), None).unwrap();
    for (format, limit) in [(ExportFormat::Github, 1 << 20), (ExportFormat::GithubComment, 65_536)] {
        let markdown = exported(format, &contest, &report, "nightly");
        assert!(markdown.len() <= limit && markdown.len() > limit / 2, "{} bytes", markdown.len());
        assert!(markdown.contains("Left out to stay within") && markdown.contains("broken"), "{format:?}");
        assert_eq!(markdown.matches("<details>").count(), markdown.matches("</details>").count());
        // How it was judged stands before the samples, and is not crowded out.
        assert!(markdown.contains("Paired by sample"));
    }
}

/// JSON Schema of bencher.dev/bmf.json in words: objects of objects of objects with a number `value`.
#[test]
fn trackers_read_what_is_written() {
    let (contest, report) = mixed();
    let parse = |format| -> Value { serde_json::from_str(&exported(format, &contest, &report, "nightly")).unwrap() };
    for format in [ExportFormat::BenchmarkBigger, ExportFormat::BenchmarkSmaller] {
        let list = parse(format);
        let mut names = Vec::new();
        for entry in list.as_array().unwrap() {
            assert!(entry["unit"].is_string() && entry["value"].is_number() && entry["extra"].is_string(), "{entry}");
            names.push(entry["name"].as_str().unwrap().to_owned());
        }
        assert!(names.iter().any(|name| name == "b / pope / accuracy") == (format == ExportFormat::BenchmarkBigger));
        assert!(names.iter().all(|name| name.starts_with("b / ")), "runs of the baseline are no new data: {names:?}");
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
    for (_, measures) in parse(ExportFormat::Bencher).as_object().unwrap() {
        for (name, metric) in measures.as_object().unwrap() {
            assert!(name.chars().count() <= 64);
            let value = metric["value"].as_f64().unwrap();
            if let Some(low) = metric.get("lower_value") {
                assert!(low.as_f64().unwrap() <= value && value <= metric["upper_value"].as_f64().unwrap());
            }
        }
    }
    let results = parse(ExportFormat::LmEval);
    let accuracy = results["results"]["pope"]["accuracy,none"].as_f64().unwrap();
    let expected = contest.comparison.runs.iter().find(|run| run.header.model.name == "b").unwrap().metrics[0].estimate.value;
    assert!((accuracy - expected / 100.0).abs() < 1e-12);
    assert_eq!(results["higher_is_better"]["pope"]["error"], false);
    assert_eq!(results["n-samples"]["pope"], serde_json::json!({"original": 200, "effective": 200}));
    assert_eq!(results["versions"]["pope"], 1.0);
}

#[test]
fn exports_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let (base, new, out) = (folder.path().join("base"), folder.path().join("new"), folder.path().join("out"));
    write(&good("a", "pope"), &base);
    write(&good("b", "pope"), &new);
    let mut arguments: Vec<String> = ["gate", text(&new), "--baseline", text(&base)].map(str::to_owned).to_vec();
    for (name, _) in EXPORT_FORMATS {
        arguments.extend(["--export".to_owned(), format!("{name}={}", out.join(name).display())]);
    }
    let borrowed: Vec<&str> = arguments.iter().map(String::as_str).collect();
    gauge(&borrowed).assert().code(0);
    let mut written: Vec<String> =
        std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    written.sort();
    let mut expected: Vec<String> = EXPORT_FORMATS.iter().map(|(name, _)| (*name).to_owned()).collect();
    expected.sort();
    assert_eq!(written, expected);
    // One export to standard output takes the table's place there.
    let piped = ["gate", text(&new), "--baseline", text(&base), "--export", "junit=-"];
    let output = gauge(&piped).assert().code(0).get_output().clone();
    roxmltree::Document::parse(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Passed"));
    gauge_fails(&[&piped[..], &["--json"]].concat(), 96);
    let error = gauge_fails(&["gate", "x", "--baseline", "x", "--export", "junitt=-"], 2);
    assert!(error.contains("junitt") && error.contains("github-comment"), "{error}");
    // What GitHub collects is added to, everything else is replaced.
    let collected = folder.path().join("collected.md");
    let again = ["gate", text(&new), "--baseline", text(&base), "--export", &format!("github={}", collected.display())];
    for _ in 0..2 {
        gauge(&again).env("GITHUB_STEP_SUMMARY", &collected).assert().code(0);
    }
    assert_eq!(std::fs::read_to_string(&collected).unwrap().matches("### ✅").count(), 2);
    gauge(&again).assert().code(0);
    assert_eq!(std::fs::read_to_string(&collected).unwrap().matches("### ✅").count(), 1);
    let blocked = format!("junit={}/x/y", text(&base.join("a/pope/run.json")));
    gauge_fails(&["gate", text(&new), "--baseline", text(&base), "--export", &blocked], 110);
}
