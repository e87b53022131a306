//! Random checkpoints: the same bytes for the same seed, the tensors of the real thing, and a folder that is whole or not there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{gauge, gauge_fails, gauge_json, gauge_output, root, text};
use llava_gauge::export::export;
use llava_gauge::export::synth::{NumberType, SHARD_BYTES, SynthError, SynthOptions, known_shapes, synth};
use llava_gauge::export::{ExportOptions, stage_shapes};
use llava_gauge::package::safetensors::SafetensorsFile;
use serde_json::{Value, json};

fn options(like: &str, output: &Path) -> SynthOptions {
    SynthOptions {
        like: like.to_owned(),
        output: output.to_path_buf(),
        number_type: None,
        seed: 0,
        outliers: false,
        shard_bytes: SHARD_BYTES,
        threads: None,
        free_bytes: |_| None,
        progress: None,
    }
}

/// Name and content of every file of a folder.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn a_seed_means_the_same_bytes_on_any_number_of_threads() {
    let scratch = tempfile::tempdir().unwrap();
    let make = |name: &str, threads: usize, seed: u64| {
        let folder = scratch.path().join(name);
        synth(&SynthOptions { threads: Some(threads), seed, ..options("pico", &folder) }).unwrap();
        content(&folder)
    };
    let one = make("one", 1, 3);
    assert!(one == make("five", 5, 3));
    let other = make("other", 1, 4);
    assert!(one["model.safetensors"] != other["model.safetensors"]);
    assert!(one["tokenizer.json"] == other["tokenizer.json"]);
    // Nothing of the work is left beside the folders.
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 3);
}

/// The tensors of a plan, in its order, as `name [sizes]`, from configuration and index alone: nothing of 14 GB is written.
fn planned(name: &str) -> Vec<String> {
    llava_gauge::export::synth::planned_tensors(name)
        .unwrap()
        .into_iter()
        .map(|(name, shape)| format!("{name} {}", json!(shape).to_string().replace(',', ", ")))
        .collect()
}

/// The lists were made by `tests/fixtures/synth/make_tensor_lists.py` from the classes of transformers.
#[test]
fn shapes_have_the_tensors_that_transformers_lays_out() {
    for name in ["llava-1.5-7b", "llava-1.6-mistral-7b", "onevision-0.5b"] {
        let path = root().join(format!("tests/fixtures/synth/{name}.tensors.txt"));
        let expected: Vec<String> = std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
        let found = planned(name);
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(found, expected, "{name}, tensor {index}");
        }
        assert_eq!(found.len(), expected.len(), "{name}");
    }
}

#[test]
fn shards_and_index_agree() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("sharded");
    let made =
        synth(&SynthOptions { shard_bytes: 600_000, number_type: Some(NumberType::Bf16), ..options("pico", &folder) }).unwrap();
    assert!(made.shards > 2);
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join("model.safetensors.index.json")).unwrap()).unwrap();
    let places = index["weight_map"].as_object().unwrap();
    assert_eq!(places.len(), made.tensors);
    let mut bytes = 0;
    for number in 1..=made.shards {
        let name = format!("model-{number:05}-of-{:05}.safetensors", made.shards);
        let file = SafetensorsFile::open(&folder.join(&name)).unwrap();
        assert!(file.tensors.len() == 1 || file.tensors.iter().map(|tensor| tensor.bytes).sum::<u64>() <= 600_000);
        for tensor in &file.tensors {
            assert_eq!(places[&tensor.key], name.as_str());
            assert_eq!(tensor.dtype, "BF16");
            bytes += tensor.bytes;
        }
    }
    assert_eq!(index["metadata"]["total_size"], bytes);
    let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["dtype"], "bfloat16");
}

#[test]
fn what_is_made_can_be_exported_and_asked() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("pico");
    let made = gauge_json(&["synth", "--like", "pico", "-o", text(&folder), "--json"]);
    assert_eq!((made["format"].as_u64(), made["dtype"].as_str()), (Some(1), Some("fp32")));
    let package = export(&ExportOptions::new(&folder, scratch.path().join("package"))).unwrap();
    assert_eq!(package.manifest.prompt.image_token_id, Some(1000));
    assert_eq!(package.manifest.prompt.eos_token_ids, [2]);
    assert_eq!(package.manifest.prompt.bos_token_id, Some(1));
    let shapes = stage_shapes(&package.root).unwrap();
    assert_eq!((shapes.llm.hidden, shapes.llm.wide, shapes.vision.rows, shapes.vision.layers), (128, 352, 17, 2));
}

#[test]
fn outliers_change_activations_and_not_answers() {
    let scratch = tempfile::tempdir().unwrap();
    let read = |name: &str, outliers: bool| {
        let folder = scratch.path().join(name);
        synth(&SynthOptions { outliers, ..options("pico", &folder) }).unwrap();
        let file = llava_gauge::package::TensorFile::open(&folder.join("model.safetensors")).unwrap();
        let of = |key: &str| -> Vec<f32> {
            let bytes = file.bytes(key, "F32").unwrap().1;
            bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        let layer = "language_model.model.layers.1";
        ["input_layernorm", "self_attn.q_proj", "self_attn.o_proj"].map(|part| of(&format!("{layer}.{part}.weight")))
    };
    let [plain_norm, plain_query, plain_output] = read("plain", false);
    let [norm, query, output] = read("outliers", true);
    let channels: Vec<usize> = (0..128).filter(|&channel| norm[channel] != plain_norm[channel]).collect();
    assert_eq!(channels, [16, 48, 80, 112]);
    for channel in channels {
        assert_eq!(norm[channel], plain_norm[channel] * 30.0);
        // The product of both is what it was.
        for row in 0..128 {
            let (found, plain) = (query[row * 128 + channel] * 30.0, plain_query[row * 128 + channel]);
            assert!((found - plain).abs() <= plain.abs() * 1e-6);
        }
    }
    assert_eq!(output, plain_output);
}

#[test]
fn a_full_disk_is_told_before_anything_is_written() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("seven");
    let small = SynthOptions { free_bytes: |_| Some(1_000_000_000), ..options("llava-1.5-7b", &folder) };
    match synth(&small).unwrap_err() {
        SynthError::DiskSpace { needed_bytes, free_bytes: 1_000_000_000, .. } => {
            // 7,063,427,072 parameters of two bytes, and less than 2 MB of small files.
            assert!((14_126_854_144..14_129_000_000).contains(&needed_bytes), "{needed_bytes}");
        }
        other => panic!("{other}"),
    }
    // Nobody has this disk: the program looks itself.
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(root().join("src/export/synth/shapes/pico.json")).unwrap()).unwrap();
    config["text_config"]["intermediate_size"] = 16_777_216.into();
    config["text_config"]["hidden_size"] = 4_194_304.into();
    config["text_config"]["num_attention_heads"] = 4_096.into();
    let huge = scratch.path().join("huge.json");
    std::fs::write(&huge, config.to_string()).unwrap();
    let message = gauge_fails(&["synth", "--like", text(&huge), "-o", text(&folder)], 110);
    assert!(message.contains("GB are free"), "{message}");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "only huge.json");
}

#[test]
fn nothing_is_overwritten_and_faults_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("there");
    std::fs::create_dir(&folder).unwrap();
    let message = gauge_fails(&["synth", "--like", "pico", "-o", text(&folder)], 96);
    assert!(message.contains("never overwritten"), "{message}");
    assert!(std::fs::read_dir(&folder).unwrap().next().is_none());
    let fresh = scratch.path().join("fresh");
    let message = gauge_fails(&["synth", "--like", "llava-9", "-o", text(&fresh)], 96);
    assert!(message.contains("llava-1.5-7b"), "{message}");
    let pico: Value = serde_json::from_slice(&std::fs::read(root().join("src/export/synth/shapes/pico.json")).unwrap()).unwrap();
    for (pointer, value, part) in [
        ("/text_config/num_attention_heads", json!(0), "text_config.num_attention_heads"),
        ("/text_config/eos_token_id", json!(1), "must be different tokens"),
        ("/text_config/bos_token_id", json!(70_000), "less than vocab_size"),
        ("/image_token_index", json!(20), "too few words"),
        ("/dtype", json!("int8"), "dtype"),
        ("/model_type", json!("bert"), "model_type"),
    ] {
        let mut config = pico.clone();
        *config.pointer_mut(pointer).unwrap() = value;
        let path = scratch.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let message = gauge_fails(&["synth", "--like", text(&path), "-o", text(&fresh)], 102);
        assert!(message.contains(part), "{pointer}: {message}");
        assert!(!fresh.exists());
    }
    // What a killed run left is replaced, and does not become part of the checkpoint.
    let left = scratch.path().join(".llava-gauge-partial-fresh");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("half"), "x").unwrap();
    gauge(&["synth", "--like", "pico", "-o", text(&fresh)]).assert().success();
    assert!(!left.exists() && !fresh.join("half").exists() && fresh.join("model.safetensors").exists());
}

#[test]
fn shapes_are_listed() {
    let listed = gauge_output(&["synth", "--list"]);
    for shape in known_shapes() {
        assert!(listed.lines().any(|line| line.starts_with(shape.name)), "{}", shape.name);
    }
    assert_eq!(gauge_json(&["synth", "--list", "--json"])["shapes"].as_array().unwrap().len(), known_shapes().len());
}
