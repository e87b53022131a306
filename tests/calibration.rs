//! Calibration: what goes into the linear layers of a shipped package, quantised exports that it guides, and how far packages of one
//! checkpoint lie apart. Reference values are those of transformers (`tests/fixtures/calibration/make_statistics.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::{gauge_fails, gauge_json, gauge_output, root, text};
use llava_gauge::benchmark::{Benchmark, OwnData};
use llava_gauge::calibration::{CalibrationError, CalibrationInput, Collected, Collection, collect};
use llava_gauge::engine::EngineOptions;
use llava_gauge::package::{Package, StageName};
use llava_gauge::run::Plan;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    max_new_tokens: usize,
    inputs: BTreeMap<String, ReferenceInput>,
}

#[derive(Deserialize)]
struct ReferenceInput {
    rows: u64,
    absolute_maximum: Vec<f32>,
    mean_square: Vec<f32>,
    gram: Vec<f32>,
}

fn fixture(name: &str) -> std::path::PathBuf {
    root().join("tests/fixtures/calibration").join(name)
}

fn questions() -> Benchmark {
    Benchmark::own(&OwnData { file: &fixture("questions.jsonl"), metric: "vqa", prompt: None }).unwrap()
}

fn pico() -> Package {
    Package::open(&root().join("exports/pico-llava-1.5")).unwrap()
}

/// Collects everything with all matrices, which are held in so much memory.
fn collected(folder: &Path, gram_memory_bytes: u64, threads: usize, stop: bool) -> Result<Collected, CalibrationError> {
    let benchmark = questions();
    let plan = Plan::new(&benchmark.samples, None);
    let collection = Collection {
        benchmark: &benchmark,
        plan: &plan,
        max_new_tokens: 8,
        wanted: &|_, _| Some(true),
        gram_memory_bytes,
        gram_file: &folder.join("grams"),
        stop: &AtomicBool::new(stop),
        progress: &|done, total| assert!(done <= total),
    };
    collect(&pico(), &EngineOptions { intra_op_threads: threads, ..EngineOptions::default() }, &collection)
}

fn gram(input: &CalibrationInput) -> Vec<f32> {
    let place = input.gram.as_ref().unwrap();
    let bytes = std::fs::read(&place.file).unwrap();
    let (start, count) = (usize::try_from(place.offset).unwrap(), input.absolute_maximum.len().pow(2));
    bytes[start..start + 4 * count].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn close(found: f32, expected: f32, scale: f32, what: &str) {
    // Both programs compute in 32 bits with other orders of summation, through four layers of rows whose largest numbers are a few
    // hundred times their smallest: a relative difference of the activations of some 1e-5, as the parity fixtures show, squared.
    assert!((found - expected).abs() <= 2e-4 * scale, "{what}: {found}, expected {expected}");
}

#[test]
fn statistics_are_those_that_hooks_in_transformers_see() {
    let folder = tempfile::tempdir().unwrap();
    let found = collected(folder.path(), 1 << 30, 2, false).unwrap();
    let reference: Reference = serde_json::from_slice(&std::fs::read(fixture("statistics.json")).unwrap()).unwrap();
    assert_eq!(reference.max_new_tokens, 8);
    assert_eq!((found.samples, found.left_out.len()), (4, 0));
    for (layer, expected) in &reference.inputs {
        let weight = format!("{layer}.weight");
        let input = found.inputs.iter().find(|input| input.weights.contains(&weight)).unwrap_or_else(|| panic!("no {layer}"));
        assert_eq!(input.rows, expected.rows, "{layer}");
        let largest = expected.absolute_maximum.iter().copied().fold(0.0, f32::max);
        let strongest = expected.mean_square.iter().copied().fold(0.0, f32::max);
        assert_eq!(input.absolute_maximum.len(), expected.absolute_maximum.len(), "{layer}");
        for (found, expected) in input.absolute_maximum.iter().zip(&expected.absolute_maximum) {
            close(*found, *expected, largest, layer);
        }
        for (found, expected) in input.mean_square.iter().zip(&expected.mean_square) {
            close(*found, *expected, strongest, layer);
        }
        let (width, matrix) = (input.absolute_maximum.len(), gram(input));
        for (index, expected) in expected.gram.iter().enumerate() {
            close(matrix[index / 6 * width + index % 6], *expected, strongest, layer);
        }
        for (place, square) in input.mean_square.iter().enumerate() {
            // The same squares, summed by another kernel.
            assert!((matrix[place * (width + 1)] - square).abs() <= 1e-5 * strongest, "{layer}: the diagonal holds mean squares");
        }
    }
}

#[test]
fn neither_passes_nor_threads_change_what_is_found() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let once = collected(folders[0].path(), 1 << 30, 1, false).unwrap();
    // Room for one matrix at a time.
    let by_layer = collected(folders[1].path(), 1, 1, false).unwrap();
    let threads = collected(folders[2].path(), 1 << 30, 2, false).unwrap();
    assert_eq!(once.keys_sha256, by_layer.keys_sha256);
    for other in [by_layer, threads] {
        assert_eq!(once.inputs.len(), other.inputs.len());
        for (left, right) in once.inputs.iter().zip(&other.inputs) {
            assert_eq!((&left.weights, left.rows), (&right.weights, right.rows));
            let parts = [
                (left.absolute_maximum.clone(), right.absolute_maximum.clone()),
                (left.mean_square.clone(), right.mean_square.clone()),
                (gram(left), gram(right)),
            ];
            for (left_values, right_values) in parts {
                // The runtime fuses another graph for each pass, and shares rows among other threads, in other ways: that moves
                // last bits, through four layers.
                let largest = left_values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                let limit = 1e-5 * largest;
                for (left_value, right_value) in left_values.iter().zip(&right_values) {
                    assert!((left_value - right_value).abs() <= limit, "{:?}: {left_value} {right_value}", left.weights);
                }
            }
        }
    }
}

#[test]
fn only_what_is_wanted_is_collected() {
    let (folder, benchmark) = (tempfile::tempdir().unwrap(), questions());
    let plan = Plan::new(&benchmark.samples, Some(2));
    let wanted = |stage: StageName, weight: &str| {
        (stage == StageName::Llm && weight.contains(".mlp.")).then(|| weight.contains("down_proj"))
    };
    let collection = Collection {
        benchmark: &benchmark,
        plan: &plan,
        max_new_tokens: 4,
        wanted: &wanted,
        gram_memory_bytes: 1 << 30,
        gram_file: &folder.path().join("grams"),
        stop: &AtomicBool::new(false),
        progress: &|_, _| {},
    };
    let found = collect(&pico(), &EngineOptions::default(), &collection).unwrap();
    assert_eq!(found.samples, 2);
    assert_eq!(found.inputs.len(), 8, "gate/up and down of four layers");
    for input in &found.inputs {
        assert_eq!(input.gram.is_some(), input.weights[0].contains("down_proj"), "{:?}", input.weights);
    }
}

#[test]
fn a_stop_signal_ends_a_collection() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(collected(folder.path(), 1 << 30, 1, true), Err(CalibrationError::Interrupted)));
}

#[test]
fn a_package_agrees_with_itself_and_not_with_another() {
    let arguments = ["package", "compare", "pico-llava-1.5", "pico-llava-1.5", "pico-llava-1.5-stage1"];
    let found = gauge_json(&[&arguments[..], &["--benchmark", "pico-vqa", "--limit", "12", "--json"]].concat());
    assert_eq!((&found["format"], &found["samples"]), (&1.into(), &12.into()));
    let packages = found["packages"].as_array().unwrap();
    assert!(packages[0]["agreement"].is_null());
    let itself = &packages[1]["agreement"];
    assert_eq!(itself["first_token_max_kl"], 0.0);
    assert_eq!((&itself["logit_max_error"], &itself["led_tokens"]["share"]), (&0.0.into(), &1.0.into()));
    let other = &packages[2]["agreement"];
    assert!(other["first_token_mean_kl"].as_f64().unwrap() > 0.1, "{other}");
    assert!(other["led_tokens"]["share"].as_f64().unwrap() < 1.0);
    assert!(packages[0]["disk_bytes"].as_u64().unwrap() > 6_000_000);
    let table = gauge_output(&[&arguments[..], &["--benchmark", "pico-vqa", "--limit", "4"]].concat());
    assert!(table.contains("mean KL") && table.contains("base"), "{table}");
}

#[test]
fn packages_that_cannot_be_compared_are_refused() {
    let compare = ["package", "compare", "pico-llava-1.5"];
    let error = gauge_fails(&[&compare[..], &["pico-llava-1.5", "--benchmark", "no-such-benchmark"]].concat(), 96);
    assert!(error.contains("no-such-benchmark"), "{error}");
    let error = gauge_fails(&[&compare[..], &["pico-llava-1.5", "--benchmark", "pico-zeroshot"]].concat(), 96);
    assert!(error.contains("compares embeddings"), "{error}");
    let error = gauge_fails(&[&compare[..], &["pico-llava-med", "--benchmark", "pico-vqa"]].concat(), 104);
    assert!(error.contains("cannot be compared token by token"), "{error}");
    gauge_fails(&[&compare[..], &["pico-llava-1.5", "--benchmark", "pico-vqa", "--limit", "0"]].concat(), 2);
}

#[test]
fn missing_pictures_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("questions.jsonl");
    std::fs::write(&file, "{\"image\": \"gone.png\", \"question\": \"What?\", \"answer\": \"x\"}\n").unwrap();
    let given = ["package", "compare", "pico-llava-1.5", "pico-llava-1.5", "--data", text(&file), "--metric", "vqa"];
    let error = gauge_fails(&given, 102);
    assert!(error.contains("gone.png"), "{error}");
}

/// Exports pico-llava-1.5 and gives the manifest.
fn exported(output: &Path, options: &[&str]) -> serde_json::Value {
    gauge_json(&[&["export", "exports/pico-llava-1.5", "--output", text(output), "--json"], options].concat())
}

/// What `package compare` says of one package against the shipped fp32 one.
fn agreement(packages: &[&Path], benchmark: &str, limit: &str) -> Vec<serde_json::Value> {
    let packages: Vec<&str> = packages.iter().map(|package| text(package)).collect();
    let compare = ["package", "compare", "pico-llava-1.5"];
    let asked = ["--benchmark", benchmark, "--limit", limit, "--json"];
    let found = gauge_json(&[&compare[..], &packages, &asked].concat());
    found["packages"].as_array().unwrap()[1..].iter().map(|package| package["agreement"].clone()).collect()
}

/// Names in a folder, hidden ones included.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn calibrated_int4_is_nearer_to_fp32_and_always_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let int4 = ["--llm", "int4", "--block-size", "128"];
    let calibrate = ["--calibrate", "pico-vqa:48"];
    exported(&at("plain"), &int4);
    let manifest = exported(&at("guided"), &[&int4[..], &calibrate].concat());
    let again = exported(&at("again"), &[&["--name", "guided"], &int4[..], &calibrate].concat());
    let record = &manifest["quantisation"];
    assert_eq!(record["llm"]["method"], "error-feedback");
    assert_eq!((&record["calibration"]["benchmark"], &record["calibration"]["samples"]), (&"pico-vqa".into(), &48.into()));
    assert_eq!(record["calibration"]["keys_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(manifest["files"], again["files"], "the same command gives the same bytes");
    assert_eq!(names(folder.path()), ["again", "guided", "plain"], "nothing temporary stays behind");
    // On questions that the calibration did not see.
    let found = agreement(&[&at("plain"), &at("guided")], "pico-pope", "96");
    let kl = |found: &serde_json::Value| found["first_token_mean_kl"].as_f64().unwrap();
    // Measured: 0.22 of it.
    assert!(kl(&found[1]) < 0.5 * kl(&found[0]), "{} is not below half of {}", kl(&found[1]), kl(&found[0]));
}

#[test]
fn smoothed_int8_is_another_way_to_the_same_answers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let manifest = exported(&at("smooth"), &["--precision", "int8", "--calibrate", "pico-vqa:8", "--smoothing", "0.6"]);
    assert_eq!(manifest["quantisation"]["llm"]["smoothing"], 0.6);
    assert_eq!(manifest["quantisation"]["vision"]["smoothing"], 0.6);
    assert!(manifest["quantisation"]["projector"]["smoothing"].is_null());
    exported(&at("plain"), &["--precision", "int8"]);
    let bytes = |name: &str| std::fs::read(at(name).join("weights.safetensors")).unwrap();
    assert_ne!(bytes("smooth"), bytes("plain"));
    let found = agreement(&[&at("smooth")], "pico-vqa", "12");
    // Rounding to 8 bits: an error of the logits of some per cent of their spread, as without smoothing. Factors that went to only one
    // of a norm and its weights would make it as large as the logits themselves.
    let error = found[0]["logit_relative_error"].as_f64().unwrap();
    assert!(error < 0.1, "{error}");
}

#[test]
fn calibrations_that_cannot_be_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("package");
    let refused = |options: &[&str], code: i32| {
        let given = [&["export", "exports/pico-llava-1.5", "--output", text(&output)], options].concat();
        let error = gauge_fails(&given, code);
        assert_eq!(names(folder.path()), [""; 0], "{options:?}");
        error
    };
    let int4 = ["--precision", "int4"];
    let error = refused(&[&int4[..], &["--calibrate", "no-such:8"]].concat(), 96);
    assert!(error.contains("no-such"), "{error}");
    let error = refused(&[&int4[..], &["--calibrate", "pico-vqa:0"]].concat(), 2);
    assert!(error.contains("at least 1"), "{error}");
    let error = refused(&[&int4[..], &["--calibrate", "pico-zeroshot:8"]].concat(), 96);
    assert!(error.contains("compares embeddings"), "{error}");
    let error = refused(&["--precision", "fp16", "--calibrate", "pico-vqa:8"], 96);
    assert!(error.contains("int8 and int4"), "{error}");
    let error = refused(&["--precision", "int8", "--calibrate", "pico-vqa:8", "--method", "gptq"], 96);
    assert!(error.contains("--method"), "{error}");
    let error = refused(&[&int4[..], &["--method", "gptq"]].concat(), 2);
    assert!(error.contains("--calibrate"), "{error}");
    let error = refused(&["--precision", "int8", "--calibrate", "pico-vqa:8", "--smoothing", "2"], 2);
    assert!(error.contains("0 to 1"), "{error}");
    let error = refused(&[&int4[..], &["--calibrate", "pico-vqa:8", "--calibrate-from", "pico-clip"]].concat(), 102);
    assert!(error.contains("clip"), "{error}");

    let questions = folder.path().join("questions.jsonl");
    std::fs::write(&questions, "{\"image\": \"gone.png\", \"question\": \"What?\", \"answer\": \"x\"}\n").unwrap();
    let data = ["--calibrate", "8", "--data", text(&questions), "--metric", "vqa"];
    let given = [&["export", "exports/pico-llava-1.5", "--output", text(&output)], &int4[..], &data].concat();
    let error = gauge_fails(&given, 102);
    assert!(error.contains("none of the 1 samples") && error.contains("gone.png"), "{error}");
    assert_eq!(names(folder.path()), ["questions.jsonl"]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_calibration_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("package");
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("llava-gauge"))
        .current_dir(root())
        .args([
            "export",
            "exports/pico-llava-1.5",
            "--precision",
            "int4",
            "--calibrate",
            "pico-pope:3000",
            "--output",
            text(&output),
        ])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Its folder shows that signals are awaited.
    while names(folder.path()).is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be interrupted");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(folder.path()), [""; 0]);
}
