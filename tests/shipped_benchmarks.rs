//! Every data set that the project ships, end to end: read, asked of a shipped checkpoint, scored, and scored again from
//! perfect answers.

#![allow(clippy::unwrap_used, clippy::panic)] // A helper of a test fails as a test does.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use llava_gauge::benchmark::{Benchmark, DataChoice, Reference, Sample, option_letter};
use serde_json::{Value, json};

fn gauge(arguments: &[&str]) -> Output {
    let output = Command::cargo_bin("llava-gauge")
        .unwrap()
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["--no-progress"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_slice(&gauge(arguments).stdout).unwrap()
}

/// Shipped benchmarks that are asked in words, the metric by which they are judged, and what perfect answers get.
const ASKED: [(&str, &str, f64); 11] = [
    ("pico-vqa", "vqa_accuracy", 100.0),
    ("pico-pope", "f1", 100.0),
    ("pico-textvqa", "vqa_accuracy", 100.0),
    ("pico-fineprint", "vqa_accuracy", 100.0),
    ("pico-refcoco", "acc@0.5", 100.0),
    ("pico-vqa-rad", "open_closed_mean", 100.0),
    // Five categories of perception with 200 points each.
    ("pico-mme", "perception", 1000.0),
    ("pico-mmbench", "circular_accuracy", 100.0),
    ("pico-mmbench-likelihood", "acc_mean", f64::NAN),
    ("pico-caption", "cider", f64::NAN),
    ("pico-nlvr2", "accuracy", 100.0),
];

/// The answer that gets the highest score, as a model would write it.
fn perfect(benchmark: &str, sample: &Sample) -> String {
    match &sample.reference {
        Reference::Answers { answers } => {
            let count = |answer: &String| answers.iter().filter(|other| *other == answer).count();
            answers.iter().max_by_key(|answer| count(answer)).unwrap().clone()
        }
        Reference::YesNo { yes } if benchmark == "pico-nlvr2" => if *yes { "True" } else { "False" }.to_owned(),
        Reference::YesNo { yes } => if *yes { "Yes" } else { "No" }.to_owned(),
        Reference::Choice { answer, .. } => option_letter(*answer),
        Reference::OpenOrClosed { answer, .. } => answer.clone(),
        Reference::Region { region, width, height } => {
            let side = f64::from(*width.max(height));
            let (left, top) = ((side - f64::from(*width)) / 2.0, (side - f64::from(*height)) / 2.0);
            let [x1, x2] = [region.x1, region.x2].map(|x| (x + left.floor()) / side);
            let [y1, y2] = [region.y1, region.y2].map(|y| (y + top.floor()) / side);
            format!("[{x1:.4}, {y1:.4}, {x2:.4}, {y2:.4}]")
        }
        other => panic!("{benchmark} has {other:?}"),
    }
}

#[test]
fn every_shipped_set_is_asked_and_scored() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().to_str().unwrap();
    let names: Vec<&str> = ASKED.iter().map(|(name, ..)| *name).collect();
    let arguments = [&["run", "--model", "pico-llava-1.5", "--limit", "12", "--json", "-o", runs, "--benchmark"], &names[..]];
    let summary = json_of(&arguments.concat());
    let found = summary["runs"].as_array().unwrap();
    assert_eq!(found.len(), ASKED.len());
    for (run, (name, primary, _)) in found.iter().zip(ASKED) {
        let header = &run["header"];
        assert_eq!(header["benchmark"]["name"], name);
        assert_eq!((&run["records"], &run["failed"], &run["unscored"]), (&json!(12), &json!(0), &json!(0)), "{name}");
        let metric = &run["metrics"][0];
        assert_eq!((&metric["name"], &metric["primary"]), (&json!(primary), &json!(true)), "{name}");
        assert!(metric["estimate"]["value"].as_f64().is_some_and(f64::is_finite), "{name}: {metric}");
        assert_eq!(header["settings"]["prompt_sha256"].as_str().map(str::len), Some(64), "{name}");
        // Scoring the stored answers again changes nothing.
        let directory = Path::new(runs).join("pico-llava-1.5").join(name);
        let again = json_of(&["rescore", directory.to_str().unwrap(), "--json"]);
        assert_eq!(again["runs"][0]["metrics"], run["metrics"], "{name}");
    }
    // Two kinds of answers ask in two ways, and only the words decide.
    let hash = |index: usize| found[index]["header"]["settings"]["prompt_sha256"].clone();
    assert_eq!(hash(0), hash(1), "VQAv2 and POPE are asked alike");
    assert_ne!(hash(0), hash(4), "RefCOCO is asked otherwise");
}

#[test]
fn perfect_answers_get_full_marks() {
    let folder = tempfile::tempdir().unwrap();
    for (name, primary, full) in ASKED.into_iter().filter(|(_, _, full)| full.is_finite()) {
        let benchmark = Benchmark::load(name, None).unwrap();
        let lines: Vec<String> = benchmark
            .samples
            .iter()
            .map(|sample| json!({ "key": sample.key, "text": perfect(name, sample) }).to_string() + "\n")
            .collect();
        let file = folder.path().join(format!("{name}.jsonl"));
        std::fs::write(&file, lines.concat()).unwrap();
        let scores = json_of(&["score", name, "--predictions", file.to_str().unwrap(), "--json"]);
        let value = scores["metrics"][primary]["value"].as_f64().unwrap();
        // Annotators of the VQA sets disagree here and there, so that no single answer is right to all.
        let least = if matches!(name, "pico-vqa" | "pico-textvqa" | "pico-fineprint") { 0.95 * full } else { full };
        assert!((least..=full + 1e-9).contains(&value), "{name}: {primary} {value}, expected {full}");
    }
}

#[test]
fn the_same_questions_come_from_every_form_of_the_data() {
    let of = |form: &str| {
        let choice = DataChoice { form: Some(form), ..DataChoice::default() };
        Benchmark::load_chosen("pico-mmbench", &choice).unwrap()
    };
    let (table, parquet) = (of("vlmevalkit-tsv"), of("parquet"));
    assert_eq!(table.samples_sha256(), parquet.samples_sha256());
    let keys = |benchmark: &Benchmark| benchmark.samples.iter().map(|sample| sample.cluster.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&table), keys(&parquet));
    // Rotations of a question share its picture, which is then encoded once.
    for benchmark in [&table, &parquet] {
        let images: std::collections::HashSet<_> = benchmark.samples.iter().map(|sample| &sample.images).collect();
        assert_eq!((benchmark.samples.len(), images.len()), (211, 60));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut answers = Vec::new();
    for form in ["vlmevalkit-tsv", "parquet"] {
        let runs = folder.path().join(form);
        let runs = runs.to_str().unwrap();
        gauge(&["run", "--model", "pico-llava-1.5", "--benchmark", "pico-mmbench", "--form", form, "--limit", "24", "-o", runs]);
        let log = std::fs::read_to_string(Path::new(runs).join("pico-llava-1.5/pico-mmbench/samples.jsonl")).unwrap();
        let records = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["record"].take());
        answers.push(records.map(|record| (record["key"].clone(), record["token_ids"].clone())).collect::<Vec<_>>());
    }
    assert_eq!(answers[0], answers[1], "the pictures are the same");
    assert_eq!(answers[0].len(), 24);
}

#[test]
fn likelihood_answers_better_than_letters_of_a_model_that_knows_none() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().to_str().unwrap();
    let benchmarks = ["pico-mmbench", "pico-mmbench-likelihood"];
    let arguments =
        [&["run", "--model", "pico-llava-1.5", "--limit", "60", "--json", "-o", runs, "--benchmark"], &benchmarks[..]];
    let summary = json_of(&arguments.concat());
    let metric = |run: usize, name: &str| {
        let metrics = summary["runs"][run]["metrics"].as_array().unwrap();
        metrics.iter().find(|metric| metric["name"] == name).unwrap()["estimate"]["value"].as_f64().unwrap()
    };
    // The checkpoint answers in words and was never shown letters.
    assert!(metric(1, "acc_mean") > metric(0, "accuracy") + 20.0);
}
