//! Checkpoints as people have them: files of torch.save, deltas, LoRA adapters, projectors alone. The expected tensors are
//! the reference's own (`tests/fixtures/checkpoints/make_checkpoints.py`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first thing that is not as it should be")]

mod common;
mod export_support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{gauge_json, root, text};
use export_support::{Tensor, contents, copy_folder, fixture, read_tensors, torch_file, write_tensors};
use llava_gauge::export::{ExportError, ExportOptions, export};
use llava_gauge::onnx::inspect_file;
use llava_gauge::package::{Package, TensorDtype};
use serde_json::json;

fn checkpoint(name: &str) -> PathBuf {
    root().join("tests/fixtures/checkpoints").join(name)
}

fn options(name: &str, base: Option<&str>, output: &Path) -> ExportOptions {
    let mut options = ExportOptions::new(checkpoint(name), output);
    options.base = base.map(checkpoint);
    options.vision_tower = Some(fixture("original-mlp-tower"));
    options
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// Every tensor that the graphs name and the embedding table, in 32 bits.
fn weights(package: &Package) -> BTreeMap<String, Vec<f32>> {
    let manifest = &package.manifest;
    let mut tensors = BTreeMap::new();
    for graph in [&manifest.vision.graph, &manifest.projector.graph, &manifest.llm.graph] {
        for tensor in inspect_file(&package.path(graph).unwrap()).unwrap().external {
            let file = fs::read(package.path(&tensor.file).unwrap()).unwrap();
            tensors.insert(tensor.name, numbers(&file[tensor.offset as usize..(tensor.offset + tensor.bytes) as usize]));
        }
    }
    let place = &manifest.llm.embedding;
    let file = fs::read(package.path(&place.file).unwrap()).unwrap();
    let bytes = &file[place.offset as usize..(place.offset + place.bytes) as usize];
    let table = match place.dtype {
        TensorDtype::F32 => numbers(bytes),
        TensorDtype::F16 => bytes.chunks_exact(2).map(|pair| half::f16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect(),
        TensorDtype::Bf16 => bytes.chunks_exact(2).map(|pair| half::bf16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect(),
        TensorDtype::I8 => panic!("no checkpoint here has a table in 8 bits"),
    };
    tensors.insert("llm.embed_tokens.weight".to_owned(), table);
    tensors
}

/// Exports, and compares every tensor of projector and language model with the reference's; gives the largest relative
/// difference and how many numbers differ.
fn compared(name: &str, base: Option<&str>) -> (f32, usize) {
    let folder = tempfile::tempdir().unwrap();
    let package = export(&options(name, base, &folder.path().join("package"))).unwrap_or_else(|error| panic!("{name}: {error}"));
    package.verify_hashes().unwrap();
    let mut found = weights(&package);
    found.retain(|name, _| !name.starts_with("vision.") && !name.starts_with("llm.rotary."));
    let expected: BTreeMap<String, Vec<f32>> = read_tensors(&checkpoint(&format!("{name}.expected.safetensors")))
        .into_iter()
        .map(|tensor| (tensor.name, numbers(&tensor.data)))
        .collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
    let (mut worst, mut unequal) = (0_f32, 0);
    for (key, values) in &found {
        assert_eq!(values.len(), expected[key].len(), "{name}: {key}");
        for (own, reference) in values.iter().zip(&expected[key]) {
            unequal += usize::from(own != reference);
            worst = worst.max((own - reference).abs() / reference.abs().max(0.01));
        }
    }
    (worst, unequal)
}

#[test]
fn torch_files_hold_what_was_saved() {
    assert_eq!(compared("bin-sharded", None), (0.0, 0));
    assert_eq!(compared("bin-legacy", None), (0.0, 0));
}

#[test]
fn a_delta_is_added_as_apply_delta_adds_it() {
    assert_eq!(compared("llava-delta-v0", Some("base-fp16")), (0.0, 0));
}

/// The order in which the products of one row are summed is not torch's, so that a sum can differ in its last bits: by
/// 2^-22 of the numbers here in 32 bits, and by the last bit of half precision where it lies between two halves.
#[test]
fn adapters_are_merged_as_peft_merges_them() {
    let (worst, unequal) = compared("lora-fp16", Some("base-fp16"));
    assert!(worst <= 1.0 / 1024.0 && unequal <= 4, "{worst} {unequal}");
    let (worst, _) = compared("lora-rank-pattern", Some("base-fp32"));
    assert!(worst <= 2e-6, "{worst}");
}

#[test]
fn a_projector_alone_stands_on_its_base() {
    assert_eq!(compared("projector", Some("base-fp16")), (0.0, 0));
}

#[test]
fn unmerged_weights_stay_in_place_and_the_rest_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let package = export(&options("lora-rank-pattern", Some("base-fp32"), &folder.path().join("p"))).unwrap();
    let names: Vec<&str> = package.manifest.files.iter().map(|file| file.name.as_str()).collect();
    assert!(names.contains(&"base-model.safetensors") && names.contains(&"weights.safetensors"), "{names:?}");
    let graph = inspect_file(&package.path("llm.onnx").unwrap()).unwrap();
    let file = |name: &str| graph.external.iter().find(|tensor| tensor.name == name).unwrap().file.clone();
    assert_eq!(file("llm.layers.0.self_attn.k_proj.weight"), "base-model.safetensors");
    assert_eq!(file("llm.layers.0.self_attn.q_proj.weight"), "weights.safetensors");
    let package = export(&options("bin-sharded", None, &folder.path().join("q"))).unwrap();
    let graph = inspect_file(&package.path("llm.onnx").unwrap()).unwrap();
    let file = |name: &str| graph.external.iter().find(|tensor| tensor.name == name).unwrap().file.clone();
    assert!(file("llm.layers.0.mlp.gate_proj.weight").ends_with(".bin"));
    assert_eq!(file("llm.layers.0.mlp.up_proj.weight"), "weights.safetensors", "a transposed view is put in order");
    // The same again gives the same bytes.
    let again = export(&options("bin-sharded", None, &folder.path().join("again/q"))).unwrap();
    assert_eq!(again.identity, package.identity);
    assert_eq!(contents(&again.root), contents(&package.root));
}

/// ONNX Runtime reads weights inside a .bin as well as inside safetensors, and answers the same.
#[test]
fn a_package_that_points_into_torch_files_answers_like_one_of_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = root().join("tests/parity/recorded");
    let pickled = folder.path().join("pickled");
    copy_folder(&recorded.join("recorded-original"), &pickled);
    let weights = pickled.join("model.safetensors");
    let wide = |tensor: Tensor| Tensor {
        data: match tensor.dtype.as_str() {
            "BF16" => tensor.data.chunks(2).flat_map(|pair| [0, 0, pair[0], pair[1]]).collect(),
            _ => tensor.data,
        },
        dtype: "F32".to_owned(),
        ..tensor
    };
    let tensors: Vec<Tensor> = read_tensors(&weights).into_iter().map(wide).collect();
    fs::write(pickled.join("pytorch_model.bin"), torch_file(&tensors)).unwrap();
    fs::remove_file(weights).unwrap();
    let mut answers = Vec::new();
    for (name, source) in [("a", recorded.join("recorded-original")), ("b", pickled)] {
        let mut options = ExportOptions::new(&source, folder.path().join(name));
        let tower = source.join("vision-tower");
        options.vision_tower = tower.join("model.safetensors").exists().then_some(tower);
        let package = export(&options).unwrap();
        let image = recorded.join("image-1.png");
        let arguments = ["ask", text(&package.root), "--image", text(&image), "--prompt", "what is this"];
        let answer = gauge_json(&[&arguments[..], &["--max-new-tokens", "8", "--json"]].concat());
        let bins = package.manifest.files.iter().filter(|file| file.name.ends_with(".bin")).count();
        answers.push((answer["token_ids"].clone(), answer["logprobs"].clone(), bins));
    }
    assert_eq!((&answers[0].0, &answers[0].1), (&answers[1].0, &answers[1].1));
    assert_eq!((answers[0].2, answers[1].2), (0, 1));
}

#[test]
fn a_vision_tower_by_torch_save_is_the_same_tower() {
    let folder = tempfile::tempdir().unwrap();
    let tower = folder.path().join("tower");
    copy_folder(&fixture("original-mlp-tower"), &tower);
    let tensors = read_tensors(&tower.join("model.safetensors"));
    fs::write(tower.join("pytorch_model.bin"), torch_file(&tensors)).unwrap();
    fs::remove_file(tower.join("model.safetensors")).unwrap();
    let mut options = options("bin-legacy", None, &folder.path().join("a"));
    let expected = weights(&export(&options).unwrap());
    (options.vision_tower, options.output) = (Some(tower), folder.path().join("b"));
    assert_eq!(weights(&export(&options).unwrap()), expected);
}

/// An adapter for transformers' own format has no config.json; everything but the merged weights is the base's.
#[test]
fn an_adapter_of_a_hugging_face_checkpoint_takes_its_base_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = folder.path().join("adapter");
    fs::create_dir(&adapter).unwrap();
    let settings = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 3, "target_modules": ["up_proj"], "bias": "none"});
    fs::write(adapter.join("adapter_config.json"), settings.to_string()).unwrap();
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let module = "base_model.model.language_model.model.layers.1.mlp.up_proj";
    let (up, down): (Vec<f32>, Vec<f32>) = ((0..24).map(|i| i as f32).collect(), (0..16).map(|i| 0.5 * i as f32).collect());
    let matrices = [("lora_A", vec![1, 16], bytes(&down)), ("lora_B", vec![24, 1], bytes(&up))];
    let tensors: Vec<Tensor> = matrices
        .into_iter()
        .map(|(part, shape, data)| Tensor { name: format!("{module}.{part}.weight"), dtype: "F32".to_owned(), shape, data })
        .collect();
    write_tensors(&adapter.join("adapter_model.safetensors"), &tensors);
    let base = fixture("transformers4-fp32");
    let mut options = ExportOptions::new(&adapter, folder.path().join("merged"));
    options.base = Some(base.clone());
    let merged = weights(&export(&options).unwrap());
    let plain = weights(&export(&ExportOptions::new(base, folder.path().join("plain"))).unwrap());
    for (name, values) in &plain {
        if name == "llm.layers.1.mlp.up_proj.weight" {
            let expected: Vec<f32> =
                values.iter().enumerate().map(|(i, value)| value + (up[i / 16] * down[i % 16]) * 3.0).collect();
            assert_eq!(merged[name], expected);
        } else {
            assert_eq!(&merged[name], values, "{name}");
        }
    }
}

#[test]
fn a_base_is_asked_for_and_refused_where_it_has_no_use() {
    let folder = tempfile::tempdir().unwrap();
    for (name, parts) in [
        ("llava-delta-v0", ["delta", "--base"]),
        ("lora-fp16", ["LoRA adapter", "somewhere/base"]),
        ("projector", ["projector", "somewhere/vicuna"]),
    ] {
        let error = export(&options(name, None, &folder.path().join("p"))).unwrap_err();
        assert!(matches!(error, ExportError::NeedsBase { .. }), "{error}");
        let message = error.to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let error = export(&options("bin-legacy", Some("base-fp16"), &folder.path().join("p"))).unwrap_err();
    assert!(matches!(error, ExportError::UnusedBase { .. }), "{error}");
    assert!(!folder.path().join("p").exists());
    // A delta whose folder was renamed is still one if its configuration says so and a base is given.
    let renamed = folder.path().join("renamed");
    copy_folder(&checkpoint("llava-delta-v0"), &renamed);
    export_support::edit_json(&renamed.join("config.json"), |config| {
        config.insert("_name_or_path".to_owned(), json!("someone/llava-7b-delta-v0"));
    });
    let mut options = options("llava-delta-v0", Some("base-fp16"), &folder.path().join("q"));
    let direct = weights(&export(&options).unwrap());
    (options.checkpoint, options.output) = (renamed, folder.path().join("r"));
    assert_eq!(weights(&export(&options).unwrap()), direct);
}

/// A prompt's chunks get the ids that transformers' slow tokenizer gave them.
#[test]
fn a_sentencepiece_model_tokenises_prompts_as_the_slow_tokenizer() {
    let recorded: serde_json::Value =
        serde_json::from_slice(&fs::read(export_support::root_fixture("sentencepiece/recorded.json")).unwrap()).unwrap();
    let chunks = ["A chat between a curious user and an assistant. USER: ", "\nDescribe the image in detail. ASSISTANT:"];
    for case in ["llama-legacy", "llama-new"] {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("checkpoint");
        copy_folder(&fixture("original-mlp"), &source);
        fs::remove_file(source.join("tokenizer.json")).unwrap();
        fs::copy(export_support::root_fixture("sentencepiece/llama.model"), source.join("tokenizer.model")).unwrap();
        fs::write(source.join("tokenizer_config.json"), recorded[case]["files"]["tokenizer_config.json"].to_string()).unwrap();
        export_support::edit_json(&source.join("config.json"), |config| drop(config.insert("vocab_size".to_owned(), json!(560))));
        let weights = source.join("model.safetensors");
        let mut tensors = read_tensors(&weights);
        for tensor in tensors.iter_mut().filter(|tensor| tensor.shape == [16, 16] && !tensor.name.contains("layers")) {
            if !tensor.name.contains("projector") {
                tensor.shape[0] = 560;
                tensor.data.resize(560 * 16 * 2, 0);
            }
        }
        write_tensors(&weights, &tensors);
        // Into the checkpoint's own folder, twice: the written tokenizer.json is then the checkpoint's.
        let mut options = ExportOptions::new(&source, &source);
        options.vision_tower = Some(fixture("original-mlp-tower"));
        options.name = Some("package".to_owned());
        let package = export(&options).unwrap();
        assert_eq!(export(&options).unwrap().identity, package.identity);
        let image = root().join("tests/parity/recorded/image-1.png");
        let prompt = chunks.join("<image>");
        let arguments = ["ask", text(&source), "--image", text(&image), "--raw-prompt", "--prompt", &prompt];
        let answer = gauge_json(&[&arguments[..], &["--max-new-tokens", "1", "--json"]].concat());
        let ids = |text: &str| {
            let texts = recorded[case]["texts"].as_array().unwrap();
            texts.iter().find(|entry| entry["text"] == text).unwrap()["ids"].as_array().unwrap().clone()
        };
        let [first, second] = chunks.map(ids);
        let rows = vec![json!(-200); 4];
        assert_eq!(answer["prompt_token_ids"], json!([&first[..], &rows, &second[1..]].concat()), "{case}");
    }
}
