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
            assert_eq!(left.absolute_maximum, right.absolute_maximum, "{:?}", left.weights);
            assert_eq!(left.mean_square, right.mean_square, "{:?}", left.weights);
            assert_eq!(gram(left), gram(right), "{:?}", left.weights);
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
