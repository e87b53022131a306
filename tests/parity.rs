//! Exports recorded random-weight checkpoints and asks them: the greedy tokens must be the ones that transformers gave.
//! `tests/parity/random_configurations.py` made the records and compares many more configurations where Python has
//! transformers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::path::{Path, PathBuf};

use common::{gauge, gauge_json, root, text};
use serde_json::Value;

/// Rounding of a few dozen fp32 sums in another order; a wrong weight, position or pixel moves log-probabilities by tenths.
const LOGPROB_TOLERANCE: f64 = 2e-3;

fn recorded() -> PathBuf {
    root().join("tests/parity/recorded")
}

/// Both have the same arithmetic, from other operators.
const FLAVORS: [&str; 2] = ["contrib", "standard"];

fn export(name: &str, flavor: &str, folder: &Path) -> PathBuf {
    let checkpoint = recorded().join(name);
    let package = folder.join(name);
    let mut arguments = vec!["export", text(&checkpoint), "-o", text(&package), "--flavor", flavor];
    let tower = checkpoint.join("vision-tower");
    if tower.join("model.safetensors").exists() {
        arguments.extend(["--vision-tower", text(&tower)]);
    }
    gauge(&arguments).assert().success();
    package
}

fn answers_like_the_reference(name: &str) {
    FLAVORS.into_iter().for_each(|flavor| flavor_answers_like_the_reference(name, flavor));
}

fn flavor_answers_like_the_reference(checkpoint: &str, flavor: &str) {
    let folder = tempfile::tempdir().unwrap();
    let package = export(checkpoint, flavor, folder.path());
    let name = format!("{checkpoint} ({flavor})");
    let record: Value = serde_json::from_slice(&std::fs::read(recorded().join(format!("{checkpoint}.json"))).unwrap()).unwrap();
    let limit = record["max_new_tokens"].to_string();
    let cases = record["cases"].as_array().unwrap();
    assert!(cases.len() >= 8, "8 prompts each, found {}", cases.len());
    for case in cases {
        let images = case["images"].as_array().unwrap().iter();
        let images: Vec<PathBuf> = images.map(|name| recorded().join(name.as_str().unwrap())).collect();
        let prompt = case["prompt"].as_str().unwrap();
        let mut arguments = vec!["ask", text(&package), "--prompt", prompt];
        arguments.extend(images.iter().flat_map(|image| ["--image", text(image)]));
        arguments.extend(["--raw-prompt", "--max-new-tokens", &limit, "--json"]);
        let answer = gauge_json(&arguments);
        assert_eq!(answer["prompt_token_ids"], case["prompt_token_ids"], "{name}: {prompt:?}");
        assert_eq!(answer["token_ids"], case["token_ids"], "{name}: {prompt:?}");
        let numbers = |value: &Value| -> Vec<f64> { value.as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).collect() };
        for (own, reference) in numbers(&answer["logprobs"]).into_iter().zip(numbers(&case["logprobs"])) {
            assert!((own - reference).abs() < LOGPROB_TOLERANCE, "{name}: {prompt:?}: {own} instead of {reference}");
        }
    }
}

#[test]
fn a_hugging_face_checkpoint_in_shards_answers_like_transformers() {
    answers_like_the_reference("recorded-hf");
}

#[test]
fn an_original_checkpoint_with_its_own_tower_folder_answers_like_its_reference() {
    answers_like_the_reference("recorded-original");
}

#[test]
fn a_window_smaller_than_the_prompt_answers_like_transformers() {
    answers_like_the_reference("recorded-mistral-window");
}

#[test]
fn scaled_rotary_tables_answer_like_transformers() {
    answers_like_the_reference("recorded-yarn");
}

#[test]
fn two_images_before_siglip_and_qwen2_answer_like_transformers() {
    answers_like_the_reference("recorded-interleave");
}

#[test]
fn tiles_of_llava_next_answer_like_transformers() {
    answers_like_the_reference("recorded-next");
}

#[test]
fn tiles_and_several_images_of_one_vision_answer_like_transformers() {
    answers_like_the_reference("recorded-onevision");
    answers_like_the_reference("recorded-onevision-images");
}

#[test]
fn tiles_in_the_original_formats_answer_like_llava() {
    answers_like_the_reference("recorded-original-next");
    answers_like_the_reference("recorded-original-onevision");
}

#[test]
fn the_first_release_answers_like_llava() {
    answers_like_the_reference("recorded-original-v0");
}

#[test]
fn shipped_packages_pass_verification() {
    for package in ["pico-llava-1.5", "pico-llava-1.5-stage1", "pico-llava-v1", "pico-llava-next", "pico-llava-med"] {
        let report = gauge_json(&["package", "verify", package, "--json"]);
        assert_eq!(report["passed"], true, "{package}: {report:#}");
        assert_eq!(report["tokens"], report["tokens_equal"], "{package}");
        // One package has every awkward image; the others show that their own weights and format are replayed.
        let fewest = if package == "pico-llava-1.5" { 7 } else { 2 };
        assert!(report["cases"].as_array().unwrap().len() >= fewest, "{package}");
        gauge(&["package", "inspect", package, "--hashes"]).assert().success();
    }
}

/// What the shipped packages were compared with, answered by standard operators alone.
#[test]
fn shipped_checkpoints_pass_verification_with_standard_operators() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["pico-llava-1.5", "pico-llava-v1", "pico-llava-next", "pico-llava-med"] {
        let (checkpoint, package) = (root().join("exports").join(name), folder.path().join(name));
        gauge(&["export", text(&checkpoint), "-o", text(&package), "--flavor", "standard"]).assert().success();
        let report = gauge_json(&["package", "verify", text(&package), "--reference", name, "--json"]);
        assert_eq!(report["passed"], true, "{name}: {report:#}");
        assert_eq!(report["tokens"], report["tokens_equal"], "{name}");
        assert!(report["relative_logit_error_limit"].is_null(), "{name} is held to the limits of 32 bits: {report:#}");
    }
}

#[test]
fn a_changed_weight_fails_verification() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("package");
    let shipped = root().join("exports/pico-llava-1.5");
    std::fs::create_dir(&package).unwrap();
    for entry in std::fs::read_dir(&shipped).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, package.join(path.file_name().unwrap())).unwrap();
        }
    }
    gauge(&["package", "verify", text(&package)]).assert().success();
    // The last bytes of the file belong to some tensor of floats; a large number there must show.
    let weights = package.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let end = bytes.len() - 400 * 4;
    for chunk in bytes[end..].chunks_exact_mut(4) {
        chunk.copy_from_slice(&3.0_f32.to_le_bytes());
    }
    std::fs::write(&weights, bytes).unwrap();
    gauge(&["package", "verify", text(&package)]).assert().code(101);
    gauge(&["package", "inspect", text(&package), "--hashes"]).assert().code(102);
}

#[test]
fn exporting_twice_gives_identical_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    for output in [&one, &two] {
        let checkpoint = root().join("exports/pico-llava-1.5");
        gauge(&["export", text(&checkpoint), "-o", text(output), "--name", "same"]).assert().success();
    }
    let mut names: Vec<_> = std::fs::read_dir(&one).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.iter().any(|name| name == "package.toml") && names.iter().any(|name| name == "llm.onnx"));
    for name in names {
        assert!(std::fs::read(one.join(&name)).unwrap() == std::fs::read(two.join(&name)).unwrap(), "{name:?} differs");
    }
}
