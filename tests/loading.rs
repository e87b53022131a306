//! How weights are held (`--low-memory`, `--prepacked-cache`), answers that end once they decide their score, and what the program
//! itself takes of the time: through the program, on shipped packages.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::path::{Path, PathBuf};

use common::{gauge, gauge_fails, gauge_json, gauge_output, results_without_timings, root, text};
use llava_gauge::benchmark::BenchmarkSpec;
use llava_gauge::store::{Run, SampleRecord};

/// Runs the smallest package on a benchmark and gives the folder of its run.
fn run(output: &Path, benchmark: &str, more: &[&str]) -> PathBuf {
    let arguments = ["run", "--model", "pico-llava-1.5", "--benchmark", benchmark, "--limit", "40", "-o", text(output)];
    gauge(&[&arguments, more].concat()).assert().success();
    output.join("pico-llava-1.5").join(benchmark)
}

fn records(run: &Path) -> Vec<SampleRecord> {
    Run::open(run).unwrap().records
}

#[test]
fn runs_from_the_prepacked_cache_have_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let [plain, made, used] = ["plain", "made", "used"].map(|name| folder.path().join(name));
    run(&plain, "pico-vqa", &[]);
    run(&made, "pico-vqa", &["--prepacked-cache", text(&cache)]);
    let packed = gauge_json(&["doctor", "--json", "--prepacked-cache", text(&cache)])["prepacked_cache"].clone();
    let graphs = packed["graphs"].as_array().unwrap();
    let mut names: Vec<&str> = graphs.iter().map(|graph| graph["graph"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["llm.onnx", "projector.onnx", "vision.onnx"]);
    assert!(packed["bytes"].as_u64().unwrap() > 0);
    run(&used, "pico-vqa", &["--prepacked-cache", text(&cache)]);
    let expected = results_without_timings(&plain);
    assert!(!expected.is_empty());
    assert_eq!(results_without_timings(&made), expected, "log-probabilities included");
    assert_eq!(results_without_timings(&used), expected);

    let listed = gauge_output(&["doctor", "--prepacked-cache", text(&cache)]);
    assert!(listed.contains("vision.onnx of ") && listed.contains("pico-llava-1.5"), "{listed}");
    let cleared = gauge_json(&["doctor", "--clear-prepacked-cache", "--json", "--prepacked-cache", text(&cache)]);
    assert_eq!((&cleared["format"], &cleared["removed_graphs"]), (&1.into(), &3.into()));
    let packed = gauge_json(&["doctor", "--json", "--prepacked-cache", text(&cache)])["prepacked_cache"].clone();
    assert_eq!(packed["graphs"].as_array().unwrap().len(), 0);
}

#[test]
fn a_run_with_low_memory_says_so_and_answers_alike() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, low] = ["plain", "low"].map(|name| folder.path().join(name));
    let (plain_run, low_run) = (run(&plain, "pico-vqa", &[]), run(&low, "pico-vqa", &["--low-memory"]));
    let header: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(low_run.join("run.json")).unwrap()).unwrap();
    assert_eq!(header["settings"]["low_memory"], true);
    let header: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(plain_run.join("run.json")).unwrap()).unwrap();
    assert!(header["settings"].get("low_memory").is_none(), "as headers were before there was a choice");
    let (plain_records, low_records) = (records(&plain_run), records(&low_run));
    assert_eq!(plain_records.len(), low_records.len());
    for (plain, low) in plain_records.iter().zip(&low_records) {
        assert_eq!((&plain.text, &plain.token_ids), (&low.text, &low.token_ids));
        // Unpacked products are summed in another order: the last bits of the logits, a sum over a few tokens.
        assert!((plain.log_probability - low.log_probability).abs() < 1e-3, "{} {}", plain.log_probability, low.log_probability);
    }
    let compared = gauge_output(&["compare", text(&plain_run), text(&low_run), "--json"]);
    assert!(compared.contains("weights: packed for this processor in the first run, mapped files (low memory)"), "{compared}");
    // The other way of computing must not finish a run that was begun in one.
    let arguments = ["run", "--model", "pico-llava-1.5", "--benchmark", "pico-vqa", "--limit", "40", "-o", text(&plain)];
    let error = gauge_fails(&[arguments.as_slice(), &["--low-memory"]].concat(), 106);
    assert!(error.contains("low_memory"), "{error}");
}

#[test]
fn there_is_nothing_to_cache_in_low_memory() {
    let arguments = ["doctor", "--low-memory", "--prepacked-cache", "auto"];
    let error = gauge_fails(&arguments, 96);
    assert!(error.contains("--low-memory") && error.contains("--prepacked-cache"), "{error}");
}

#[test]
fn answers_that_end_once_decided_score_the_same() {
    for benchmark in ["pico-pope", "pico-mme"] {
        let folder = tempfile::tempdir().unwrap();
        let [whole, early] = ["whole", "early"].map(|name| folder.path().join(name));
        let (whole_run, early_run) = (run(&whole, benchmark, &[]), run(&early, benchmark, &["--stop-when-decided"]));
        let (mut whole_records, mut early_records) = (records(&whole_run), records(&early_run));
        // Where images decode together, those whose answers end early are stored early.
        for records in [&mut whole_records, &mut early_records] {
            records.sort_by(|left, right| left.key.cmp(&right.key));
        }
        assert_eq!(whole_records.len(), early_records.len());
        for (whole, early) in whole_records.iter().zip(&early_records) {
            assert_eq!((&whole.key, &whole.parsed, whole.score), (&early.key, &early.parsed, early.score));
            assert_eq!((&whole.contributions, &whole.detail), (&early.contributions, &early.detail));
            assert!(whole.token_ids.starts_with(&early.token_ids), "{:?} {:?}", whole.token_ids, early.token_ids);
        }
        let header: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(early_run.join("run.json")).unwrap()).unwrap();
        assert_eq!(header["settings"]["stop_when_decided"], true);
        let compared = gauge_output(&["compare", text(&whole_run), text(&early_run), "--json"]);
        assert!(compared.contains("as soon as they decide their score"), "{compared}");
        if benchmark == "pico-mme" {
            assert!(early_records.iter().any(|record| record.stop_reason == "decided"));
            // What the answer would have gone on to say is lost to other rules.
            let error = gauge_fails(&["rescore", text(&early_run), "--scorer", "mme-lmms"], 102);
            assert!(error.contains("mme-official"), "{error}");
            gauge(&["rescore", text(&early_run), "--scorer", "mme-official"]).assert().success();
        }
    }
}

#[test]
fn only_rules_that_read_the_beginning_can_stop() {
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        ["run", "--model", "pico-llava-1.5", "--benchmark", "pico-vqa", "--stop-when-decided", "-o", text(folder.path())];
    let error = gauge_fails(&arguments, 96);
    assert!(error.contains("vqa-official"), "{error}");
    let spec = |name: &str| {
        let toml = std::fs::read_to_string(root().join("benchmarks").join(format!("{name}.toml"))).unwrap();
        BenchmarkSpec::parse(&toml.replace("[generation]", "[generation]\nstop_when_decided = true"), Path::new("own.toml"))
    };
    assert!(spec("pope").unwrap().stop_when_decided);
    let error = spec("textvqa").unwrap_err().to_string();
    assert!(error.contains("own.toml") && error.contains("stop_when_decided") && error.contains("textvqa-m4c/1"), "{error}");
    // What ships asks for whole answers.
    assert!(BenchmarkSpec::list().unwrap().iter().all(|spec| !spec.stop_when_decided));
}

#[test]
fn a_run_says_what_the_program_itself_took() {
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        ["run", "--model", "pico-llava-1.5", "--benchmark", "pico-pope", "--limit", "24", "-o", text(folder.path()), "--json"];
    let summaries = gauge_json(&arguments);
    let share = &summaries["runs"][0]["latency"]["harness"];
    let part = |name: &str| share[name].as_f64().unwrap();
    assert!((0.0..1.0).contains(&part("harness")) && (0.0..1.0).contains(&part("image_wait")), "{share}");
    assert!(part("harness") > 0.0 && part("harness_ms_per_sample") > 0.0, "{share}");
    for record in records(&folder.path().join("pico-llava-1.5/pico-pope")) {
        assert!(record.timings.group.harness_ms.is_some() && record.timings.group.image_wait_ms.is_some());
    }
}
