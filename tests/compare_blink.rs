//! From prediction files alone to a verdict: `score --output`, then `compare`, against an independent computation
//! (`tests/fixtures/compare/make_blink.py`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::path::{Path, PathBuf};

use common::{gauge, gauge_fails, gauge_json, gauge_output, root, text};
use serde_json::Value;
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/compare").join(name)
}

fn expected(which: &str) -> Value {
    let text = std::fs::read_to_string(fixture("blink.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[which].clone()
}

fn shared_data() -> Option<PathBuf> {
    let found = ["../shared/data", "../../shared/data"].iter().map(|place| root().join(place)).find(|place| place.is_dir());
    if found.is_none() {
        eprintln!("skipped: no folder ../shared/data with the real data files");
    }
    found
}

/// `score` of a prediction file into `runs`.
fn score(benchmark: &str, data: &Path, predictions: &Path, runs: &Path, name: &str) -> Value {
    let arguments = [
        "score",
        benchmark,
        "--data",
        text(data),
        "--predictions",
        text(predictions),
        "--output",
        text(runs),
        "--name",
        name,
        "--tag",
        "published",
        "--json",
    ];
    gauge_json(&arguments)
}

#[track_caller]
fn close(found: &Value, expected: &Value, what: &str) {
    let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{what}: {found} instead of {expected}");
}

#[track_caller]
fn same_difference(found: &Value, expected: &Value, what: &str) {
    close(&found["base"]["value"], &expected["base"], what);
    close(&found["new"]["value"], &expected["new"], what);
    let difference = &found["difference"];
    close(&difference["value"], &expected["difference"], what);
    assert_eq!(difference["n"], expected["n"]);
    if expected["standard_error"].as_f64().unwrap() > 0.0 {
        close(&difference["standard_error"], &expected["standard_error"], what);
        for end in 0..2 {
            close(&difference["interval"][end], &expected["interval"][end], what);
        }
    }
}

/// Everything that the independent computation says of a pair.
fn check(pair: &Value, expected: &Value) {
    for count in ["fixed", "broken", "same"] {
        assert_eq!(pair[count], expected[count], "{count}");
    }
    let metric = |name: &str| pair["metrics"].as_array().unwrap().iter().find(|metric| metric["name"] == name).unwrap().clone();
    let primary = metric("mean_task_accuracy");
    let known = &expected["mean_task_accuracy"];
    same_difference(&primary, known, "mean over tasks");
    assert_eq!((primary["primary"].as_bool(), primary["test"].as_str()), (Some(true), Some("paired-t")));
    close(&primary["p_value"], &known["t_p_value"], "p of the mean over tasks");
    close(&primary["minimum_detectable_effect"], &known["minimum_detectable_effect"], "smallest effect");
    // Only one primary metric is compared.
    assert_eq!(primary["adjusted_p_value"], primary["p_value"]);
    let bootstrap = &expected["mean_task_accuracy_bootstrap"];
    for end in 0..2 {
        let deviation = bootstrap["deviation_of_2000"][end].as_f64().unwrap();
        let distance = primary["bootstrap_interval"][end].as_f64().unwrap() - bootstrap["bounds"][end].as_f64().unwrap();
        // Two thousand resamples against the mean of forty such bootstraps: four standard deviations.
        assert!(distance.abs() <= 4.0 * deviation, "end {end} of the bootstrap interval is {distance} off, {deviation}");
    }
    let accuracy = metric("accuracy");
    same_difference(&accuracy, &expected["accuracy"], "accuracy");
    assert_eq!(accuracy["test"], "mcnemar-mid-p");
    close(&accuracy["p_value"], &expected["accuracy"]["mid_p"], "p of the accuracy");
    let (found, known) = (pair["categories"].as_array().unwrap(), expected["categories"].as_array().unwrap());
    assert_eq!(found.len(), known.len());
    for (found, known) in found.iter().zip(known) {
        let name = known["category"].as_str().unwrap();
        assert_eq!(found["category"], name);
        same_difference(found, known, name);
        close(&found["p_value"], &known["p_value"], name);
        close(&found["adjusted_p_value"], &known["adjusted_p_value"], name);
    }
}

#[test]
fn the_published_predictions_of_llava_compare_as_computed_independently() {
    let Some(shared) = shared_data() else { return };
    let folder = TempDir::new().unwrap();
    let data = shared.join("blink");
    for (name, published) in [("llava_v1.5_7b", "37.13"), ("llava_v1.5_13b", "42.66")] {
        let scores = score("blink_val_extracted", &data, &data.join(format!("{name}.json")), folder.path(), name);
        let value = scores["metrics"]["mean_task_accuracy"]["value"].as_f64().unwrap();
        assert_eq!(format!("{value:.2}"), published);
    }
    let runs = text(folder.path());
    let compared = gauge_json(&["compare", runs, "--base", "llava_v1.5_7b", "--json"]);
    let pair = &compared["pairs"][0];
    assert_eq!((pair["base"].as_str(), pair["new"].as_str()), (Some("llava_v1.5_7b"), Some("llava_v1.5_13b")));
    check(pair, &expected("published"));
    assert_eq!(pair["metrics"][0]["verdict"], "improved");
    let told = gauge_output(&["compare", runs, "--base", "llava_v1.5_7b", "--categories", "--flips", "2"]);
    assert!(told.starts_with("llava_v1.5_13b is better than llava_v1.5_7b on the one benchmark.\n"), "{told}");
    for line in ["+5.5", "312 fixed, 198 broken, 1391 same", "▲ improved", "Jigsaw", "2 of 510"] {
        assert!(told.contains(line), "{line}:\n{told}");
    }
}

/// The same on data that are here, and what may be done with runs of predictions.
#[test]
fn predictions_alone_become_runs_like_any_other() {
    let folder = TempDir::new().unwrap();
    let (benchmark, data) = (fixture("small.toml"), fixture("small"));
    let benchmark = text(&benchmark);
    let runs = folder.path().join("runs");
    for name in ["base", "new"] {
        let scores = score(benchmark, &data, &data.join(format!("{name}.json")), &runs, name);
        let written = runs.join(name).join("small");
        assert_eq!(scores["run"], text(&written));
        assert!(["run.json", "samples.jsonl", "summary.json"].iter().all(|file| written.join(file).is_file()));
        // The same again is no harm.
        let before = std::fs::read(written.join("samples.jsonl")).unwrap();
        assert_eq!(score(benchmark, &data, &data.join(format!("{name}.json")), &runs, name), scores);
        assert_eq!(std::fs::read(written.join("samples.jsonl")).unwrap(), before);
    }
    let directory = text(&runs);
    let compared = gauge_json(&["compare", directory, "--base", "base", "--json"]);
    let pair = &compared["pairs"][0];
    check(pair, &expected("small"));
    assert_eq!((pair["metrics"][0]["verdict"].as_str(), &pair["latency"]), (Some("improved"), &Value::Null));
    assert!(pair["notes"][0].as_str().unwrap().contains("were made elsewhere"), "{pair}");
    // The other way round it is a regression, and two differences without verdict stay so.
    let back = gauge_json(&["compare", directory, "--base", "new", "--json"]);
    assert_eq!(back["pairs"][0]["metrics"][0]["verdict"], "regressed");
    let header = std::fs::read_to_string(runs.join("base/small/run.json")).unwrap();
    let header: Value = serde_json::from_str(&header).unwrap();
    assert_eq!((header["settings"]["provider"].as_str(), header["tag"].as_str()), (Some("predictions"), Some("published")));

    // Another file under the same name is another run.
    let other = ["score", benchmark, "--data", text(&data), "--predictions", text(&data.join("new.json"))].map(str::to_owned);
    let into = |name: &str, expected_code: i32| {
        let mut arguments: Vec<&str> = other.iter().map(String::as_str).collect();
        arguments.extend(["--output", directory, "--name", name]);
        gauge_fails(&arguments, expected_code)
    };
    assert!(into("base", 106).contains("model.identity"));
    std::fs::create_dir_all(runs.join("mine/small")).unwrap();
    std::fs::write(runs.join("mine/small/notes.txt"), "mine").unwrap();
    assert!(into("mine", 96).contains("is no run directory: it holds \"notes.txt\""));
    assert!(into("../up", 96).contains("--name"));
    std::fs::remove_dir_all(runs.join("mine")).unwrap();

    // What reads runs reads these.
    gauge_output(&["rescore", directory]);
    let report = folder.path().join("report");
    gauge_output(&["report", directory, "--output", text(&report)]);
    assert!(report.join("index.html").is_file());

    // Nothing can be asked of answers alone.
    let refusal = gauge_fails(&["run", "--model", "pico-llava-1.5", "--benchmark", benchmark, "--output", directory], 96);
    assert!(refusal.contains("only score answers that were made elsewhere"), "{refusal}");
}

#[test]
fn a_missing_prediction_is_an_empty_answer_in_the_run_too() {
    let folder = TempDir::new().unwrap();
    let (benchmark, data) = (fixture("small.toml"), fixture("small"));
    let all: Value = serde_json::from_str(&std::fs::read_to_string(data.join("base.json")).unwrap()).unwrap();
    let mut fewer = all.as_object().unwrap().clone();
    fewer.remove("val_Shape_7");
    let file = folder.path().join("fewer.json");
    std::fs::write(&file, Value::Object(fewer).to_string()).unwrap();
    let runs = folder.path().join("runs");
    let arguments =
        ["score", text(&benchmark), "--data", text(&data), "--predictions", text(&file), "-o", text(&runs), "--name", "x"];
    // Refused before anything is written.
    gauge(&arguments).assert().code(102);
    assert!(!runs.exists());
    let mut allowed = arguments.to_vec();
    allowed.push("--allow-missing");
    gauge_output(&allowed);
    let log = std::fs::read_to_string(runs.join("x/small/samples.jsonl")).unwrap();
    let line: Value = serde_json::from_str(log.lines().find(|line| line.contains("val_Shape_7\"")).unwrap()).unwrap();
    assert_eq!((line["record"]["text"].as_str(), line["record"]["stop_reason"].as_str()), (Some(""), Some("missing")));
    assert_eq!(line["record"]["score"], 0.0);
}

#[test]
fn runs_of_other_references_are_refused_and_say_which() {
    let folder = TempDir::new().unwrap();
    let benchmark = fixture("small.toml");
    let runs = folder.path().join("runs");
    score(text(&benchmark), &fixture("small"), &fixture("small/base.json"), &runs, "base");
    let other = folder.path().join("small");
    std::fs::create_dir(&other).unwrap();
    let answers = std::fs::read_to_string(fixture("small/val_answers.json")).unwrap();
    let line = answers.lines().find(|line| line.contains("\"val_Shape_3\"")).unwrap();
    let changed = if line.contains("(A)") { line.replace("(A)", "(B)") } else { "\"val_Shape_3\": \"(A)\",".to_owned() };
    std::fs::write(other.join("val_answers.json"), answers.replace(line, &changed)).unwrap();
    score(text(&benchmark), &other, &fixture("small/new.json"), &runs, "new");
    let refusal = gauge_fails(&["compare", text(&runs)], 104);
    for part in ["the hash of the sample set is ", "sample \"val_Shape_3\" is ", "runs/base/small", "runs/new/small"] {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
    let output = gauge(&["compare", text(&runs), "--json"]).assert().code(104).get_output().stdout.clone();
    let said: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(said["format"], 1);
    let fields: Vec<&str> = said["not_comparable"].as_array().unwrap().iter().map(|one| one["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["the hash of the sample set", "sample \"val_Shape_3\""]);
}
