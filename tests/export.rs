//! Exports of small checkpoints in every layout, made with transformers by `tests/fixtures/export/make_checkpoints.py`.
//! That the graphs compute what transformers computes is shown by `tests/parity/`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first thing that is not as it should be")]

mod export_support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use export_support::{Scratch, contents, copy_folder, fixture, read_tensors, write_tensors};
use llava_gauge::export::{ExportError, ExportOptions, ExportProgress, export};
use llava_gauge::onnx::inspect_file;
use llava_gauge::onnx::proto::{AttributeProto, ModelProto, data_type};
use llava_gauge::package::{
    AspectMode, GraphFlavor, Package, PromptTemplate, ResizeRule, SourceFormat, TensorDtype, TokenizationMode,
};
use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const CHECKPOINTS: [&str; 5] =
    ["transformers4-fp32", "transformers5-bf16-sharded", "nested-fp16-tied", "original-linear", "original-mlp"];

fn options(name: &str, output: &Path) -> ExportOptions {
    let mut options = ExportOptions::new(fixture(name), output);
    options.vision_tower = (name == "original-mlp").then(|| fixture("original-mlp-tower"));
    options
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Every tensor that the graphs name, with the bytes that stand there.
fn graph_tensors(package: &Package) -> BTreeMap<String, Vec<u8>> {
    let manifest = &package.manifest;
    let mut tensors = BTreeMap::new();
    for graph in [&manifest.vision.graph, &manifest.projector.graph, &manifest.llm.graph] {
        for tensor in inspect_file(&package.path(graph).unwrap()).unwrap().external {
            let file = fs::read(package.path(&tensor.file).unwrap()).unwrap();
            let (begin, end) = (tensor.offset as usize, (tensor.offset + tensor.bytes) as usize);
            tensors.insert(tensor.name, file[begin..end].to_vec());
        }
    }
    tensors
}

/// The embedding table widened to 32 bits.
fn embedding(package: &Package) -> Vec<u8> {
    let place = &package.manifest.llm.embedding;
    let file = fs::read(package.path(&place.file).unwrap()).unwrap();
    let bytes = &file[place.offset as usize..(place.offset + place.bytes) as usize];
    match place.dtype {
        TensorDtype::F32 => bytes.to_vec(),
        TensorDtype::Bf16 => bytes.chunks(2).flat_map(|pair| [0, 0, pair[0], pair[1]]).collect(),
        TensorDtype::F16 | TensorDtype::I8 => panic!("no checkpoint here has an untied table in half precision or 8 bits"),
    }
}

#[test]
fn packages_hold_the_numbers_of_their_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    for name in CHECKPOINTS {
        let package = export(&options(name, &folder.path().join(name))).unwrap_or_else(|error| panic!("{name}: {error}"));
        package.verify_hashes().unwrap();
        let expected = fs::read(fixture(&format!("{name}.expected.json"))).unwrap();
        let expected: BTreeMap<String, String> = serde_json::from_slice(&expected).unwrap();
        let mut found: BTreeMap<String, String> =
            graph_tensors(&package).into_iter().map(|(name, bytes)| (name, digest(&bytes))).collect();
        assert!(found.remove("llm.rotary.cos").is_some() && found.remove("llm.rotary.sin").is_some());
        let table = digest(&embedding(&package));
        if let Some(tied) = found.insert("llm.embed_tokens.weight".to_owned(), table.clone()) {
            assert_eq!(tied, table, "{name}");
        }
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn manifests_say_what_the_checkpoints_are() {
    let folder = tempfile::tempdir().unwrap();
    let manifests: BTreeMap<&str, _> =
        CHECKPOINTS.iter().map(|name| (*name, export(&options(name, &folder.path().join(name))).unwrap().manifest)).collect();
    let old = &manifests["transformers4-fp32"];
    assert_eq!((old.name.as_str(), old.source.format), ("transformers4-fp32", SourceFormat::HuggingFace));
    assert_eq!((old.vision.tokens_per_image, old.vision.feature_layer, old.vision.feature_select.as_str()), (4, -2, "patch"));
    assert_eq!((old.llm.attention_heads, old.llm.key_value_heads, old.llm.head_size), (2, 1, 16));
    assert_eq!((old.llm.maximum_positions, old.prompt.context_tokens), (512, 512));
    assert_eq!((old.llm.embedding.file.as_str(), old.llm.embedding.dtype), ("model.safetensors", TensorDtype::F32));
    assert_eq!(old.prompt.template, PromptTemplate::ChatTemplate("prompt_template.jinja".to_owned()));
    assert_eq!((old.prompt.tokenization, old.prompt.image_token_id), (TokenizationMode::WholeString, Some(13)));
    assert_eq!((old.prompt.bos_token_id, old.prompt.eos_token_ids.as_slice()), (Some(1), &[2][..]));
    assert_eq!(
        (old.image.aspect, old.image.resize, old.image.centre_crop),
        (AspectMode::Square, Some(ResizeRule::ShortestEdge(8)), Some([8, 8]))
    );

    let new = &manifests["transformers5-bf16-sharded"];
    assert_eq!(new.source.checkpoint_dtype, "BF16");
    assert_eq!(new.prompt.template, PromptTemplate::ChatTemplate("chat_template.jinja".to_owned()));
    assert_eq!((new.image.aspect, new.image.pad_colour), (AspectMode::Pad, [122, 116, 104]));
    assert_eq!((new.llm.embedding.file.as_str(), new.llm.embedding.dtype), ("weights.safetensors", TensorDtype::Bf16));
    assert!(!new.files.iter().any(|file| file.name.starts_with("model-")), "no graph points into the 16-bit shards");

    let nested = &manifests["nested-fp16-tied"];
    assert_eq!((nested.vision.tokens_per_image, nested.vision.feature_select.as_str()), (5, "cls_patch"));
    assert_eq!((nested.llm.embedding.file.as_str(), nested.llm.embedding.dtype), ("weights.safetensors", TensorDtype::F32));

    let linear = &manifests["original-linear"];
    assert_eq!((linear.source.format, linear.projector.kind.as_str()), (SourceFormat::Original, "linear"));
    assert_eq!(linear.prompt.template, PromptTemplate::Conversation("llava_v1".to_owned()));
    assert_eq!((linear.prompt.tokenization, linear.prompt.image_token_id), (TokenizationMode::Chunks, None));
    assert_eq!((linear.image.aspect, linear.prompt.context_tokens), (AspectMode::Square, 384));

    let mlp = &manifests["original-mlp"];
    assert_eq!((mlp.projector.kind.as_str(), mlp.image.aspect), ("mlp2x_gelu", AspectMode::Pad));
    assert_eq!(mlp.prompt.template, PromptTemplate::Conversation("vicuna_v1".to_owned()));
}

#[test]
fn the_same_checkpoint_always_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for name in CHECKPOINTS {
        let [first, second] = ["a", "b"].map(|parent| folder.path().join(parent).join(name));
        let [one, two] = [&first, &second].map(|output| export(&options(name, output)).unwrap());
        assert_eq!(one.identity, two.identity, "{name}");
        assert_eq!(contents(&first), contents(&second), "{name}");
        // Again into the same folder: nothing to refuse, nothing to change.
        assert_eq!(export(&options(name, &first)).unwrap().identity, one.identity);
        assert_eq!(contents(&first), contents(&second), "{name}");
        let renamed = folder.path().join("c").join(name).join("another-name");
        let three = export(&options(name, &renamed)).unwrap().manifest;
        assert_eq!(llava_gauge::package::Manifest { name: name.to_owned(), ..three }, one.manifest);
    }
}

#[test]
fn an_export_in_place_equals_one_elsewhere_and_keeps_the_checkpoint() {
    for name in ["transformers4-fp32", "nested-fp16-tied"] {
        let scratch = Scratch::of(name);
        let before = contents(&scratch.checkpoint);
        let elsewhere = scratch.export().unwrap();
        assert_eq!(contents(&scratch.checkpoint), before, "exporting elsewhere changed the checkpoint");
        let mut options = ExportOptions::new(&scratch.checkpoint, &scratch.checkpoint);
        options.name = Some("package".to_owned());
        assert_eq!(export(&options).unwrap().identity, elsewhere.identity);
        let after: BTreeMap<_, _> = contents(&scratch.checkpoint).into_iter().collect();
        for (file, bytes) in before {
            assert_eq!(after[&file], bytes, "{file}");
        }
        assert!(after.keys().all(|file| !file.starts_with(".llava-gauge")), "temporary files are left");
        // The package in it is no part of the checkpoint.
        assert_eq!(export(&options).unwrap().identity, elsewhere.identity);
    }
}

#[cfg(unix)]
#[test]
fn weights_are_linked_and_hugging_face_caches_are_followed() {
    use std::os::unix::fs::{MetadataExt, symlink};
    let scratch = Scratch::of("transformers4-fp32");
    let cache = scratch.checkpoint.with_file_name("snapshot");
    fs::create_dir(&cache).unwrap();
    for (name, _) in contents(&scratch.checkpoint) {
        symlink(scratch.checkpoint.join(&name), cache.join(&name)).unwrap();
    }
    let package = export(&ExportOptions::new(&cache, &scratch.package)).unwrap();
    let [weights, blob] = [package.root.join("model.safetensors"), scratch.checkpoint.join("model.safetensors")]
        .map(|path| fs::symlink_metadata(path).unwrap());
    assert!(weights.is_file() && weights.ino() == blob.ino(), "one file under two names");
    assert!(fs::symlink_metadata(package.root.join("tokenizer.json")).unwrap().is_file());
    let message = export(&ExportOptions::new(&cache, &cache)).unwrap_err().to_string();
    assert!(message.contains("symbolic link") && message.contains("another folder"), "{message}");
    assert!(!cache.join("package.toml").exists());
}

#[test]
fn progress_is_told_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let mut options = options("transformers5-bf16-sharded", &folder.path().join("p"));
    let send = std::sync::Mutex::new(send);
    options.progress = Some(Box::new(move |progress| send.lock().unwrap().send(progress).unwrap()));
    export(&options).unwrap();
    drop(options);
    let steps: Vec<ExportProgress> = receive.iter().collect();
    assert_eq!(steps.first(), Some(&ExportProgress::Reading));
    assert_eq!(steps.last(), Some(&ExportProgress::Finishing));
    let last = steps.iter().rev().find_map(|step| match step {
        ExportProgress::Writing { done_bytes, total_bytes } => Some((*done_bytes, *total_bytes)),
        _ => None,
    });
    let (done, total) = last.unwrap();
    assert_eq!(done, total);
    assert_eq!(total, fs::metadata(folder.path().join("p/weights.safetensors")).unwrap().len());
}

/// Every configuration value that would be run unfaithfully is refused with its file, key and value.
#[test]
fn unsupported_configurations_are_named() {
    let hf = "transformers4-fp32";
    /// Checkpoint, file, path of the key, value, parts of the message.
    type Case<'a> = (&'a str, &'a str, &'a [&'a str], Value, &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (hf, "config.json", &["model_type"], json!("video_llava"), &["config.json: model_type = \"video_llava\"", "llava_next"]),
        (
            hf,
            "config.json",
            &["architectures"],
            json!(["LlavaMptForCausalLM"]),
            &["architectures", "LlavaMptForCausalLM", "LlavaMistralForCausalLM"],
        ),
        (hf, "config.json", &["quantization_config"], json!({"bits": 4}), &["quantization_config"]),
        (hf, "config.json", &["text_config", "model_type"], json!("gemma"), &["text_config.model_type = \"gemma\"", "llama"]),
        (hf, "config.json", &["text_config", "hidden_act"], json!("gelu"), &["text_config.hidden_act = \"gelu\"", "silu"]),
        (hf, "config.json", &["text_config", "sliding_window"], json!(4096), &["text_config.sliding_window = 4096"]),
        (
            hf,
            "config.json",
            &["text_config", "rope_scaling"],
            json!({"type": "dynamic", "factor": 2.0}),
            &["rope_scaling.type = \"dynamic\"", "linear"],
        ),
        (hf, "config.json", &["text_config", "rope_scaling"], json!({"type": "linear"}), &["rope_scaling.factor is absent"]),
        (hf, "config.json", &["text_config", "head_dim"], json!(24), &["text_config.head_dim = 24", "multiple of 16"]),
        (hf, "config.json", &["text_config", "num_key_value_heads"], json!(3), &["num_key_value_heads is 3", "divisor"]),
        (
            hf,
            "config.json",
            &["text_config", "hidden_size"],
            json!("wide"),
            &["text_config.hidden_size is \"wide\"", "whole number"],
        ),
        (hf, "config.json", &["text_config", "num_hidden_layers"], json!(0), &["text_config.num_hidden_layers is 0"]),
        (hf, "config.json", &["text_config"], json!(7), &["text_config is 7, expected an object"]),
        (hf, "config.json", &["vision_config", "model_type"], json!("dinov2"), &["vision_config.model_type = \"dinov2\""]),
        (
            hf,
            "config.json",
            &["vision_config", "model_type"],
            json!("siglip_vision_model"),
            &["vision_feature_select_strategy = \"default\"", "no class token"],
        ),
        (hf, "config.json", &["text_config", "partial_rotary_factor"], json!(0.5), &["text_config.partial_rotary_factor = 0.5"]),
        (
            hf,
            "config.json",
            &["vision_config", "hidden_act"],
            json!("relu"),
            &["vision_config.hidden_act = \"relu\"", "quick_gelu"],
        ),
        (hf, "config.json", &["vision_config", "num_channels"], json!(4), &["vision_config.num_channels = 4"]),
        (hf, "config.json", &["vision_feature_layer"], json!([-2, -5]), &["vision_feature_layer = [-2,-5]", "not a list"]),
        (hf, "config.json", &["vision_feature_layer"], json!(-5), &["vision_feature_layer is -5", "3 layers"]),
        (hf, "config.json", &["vision_feature_select_strategy"], json!("mean"), &["vision_feature_select_strategy = \"mean\""]),
        (hf, "config.json", &["projector_hidden_act"], json!("silu"), &["projector_hidden_act = \"silu\"", "gelu"]),
        (hf, "config.json", &["image_token_index"], json!(7), &["tokenizer.json", "<image>", "13", "id 7"]),
        (hf, "preprocessor_config.json", &["crop_size"], json!(224), &["preprocessor_config.json: crop_size = 224", "8 x 8"]),
        (hf, "preprocessor_config.json", &["resample"], json!(4), &["resample = 4", "bicubic"]),
        (hf, "preprocessor_config.json", &["size"], json!({"longest_edge": 8}), &["size", "shortest_edge"]),
        (hf, "preprocessor_config.json", &["image_mean"], json!([0.5]), &["image_mean is [0.5]", "three numbers"]),
        (hf, "preprocessor_config.json", &["image_std"], json!([0.5, 0.0, 0.5]), &["image_std", "positive"]),
        (
            hf,
            "preprocessor_config.json",
            &["image_processor_type"],
            json!("LlavaNextImageProcessorFast"),
            &["image_processor_type = \"LlavaNextImageProcessorFast\"", "CLIPImageProcessor"],
        ),
        (hf, "preprocessor_config.json", &["do_center_crop"], json!(false), &["size", "8 x 8"]),
        (hf, "preprocessor_config.json", &["do_pad"], json!(true), &["do_pad = true", "LlavaImageProcessor"]),
        (hf, "generation_config.json", &["eos_token_id"], json!("</s>"), &["generation_config.json", "eos_token_id is \"</s>\""]),
        (
            "original-linear",
            "config.json",
            &["mm_projector_type"],
            json!("mlp2x_res2x_gelu"),
            &["mm_projector_type = \"mlp2x_res2x_gelu\"", "mlp2x_gelu"],
        ),
        ("original-linear", "config.json", &["mm_projector_type"], json!("pooler"), &["mm_projector_type = \"pooler\""]),
        ("original-linear", "config.json", &["mm_projector_type"], json!("ldpnet"), &["mm_projector_type = \"ldpnet\""]),
        ("original-linear", "config.json", &["mm_projector_type"], json!("mlp0x_gelu"), &["mm_projector_type = \"mlp0x_gelu\""]),
        ("original-linear", "config.json", &["mm_projector_type"], json!("identity"), &["hidden_size is 16, expected 8"]),
        ("original-linear", "config.json", &["mm_resampler_type"], json!("qformer"), &["mm_resampler_type = \"qformer\""]),
        (
            "original-linear",
            "config.json",
            &["image_aspect_ratio"],
            json!("highres"),
            &["image_aspect_ratio = \"highres\"", "pad"],
        ),
        ("original-linear", "config.json", &["image_aspect_ratio"], json!("anyres"), &["image_grid_pinpoints is absent"]),
        ("original-linear", "config.json", &["mm_vision_select_feature"], json!("cls"), &["mm_vision_select_feature = \"cls\""]),
        (
            "original-linear",
            "config.json",
            &["mm_vision_tower"],
            json!("google/siglip-so400m"),
            &["mm_vision_tower", "--vision-tower"],
        ),
        ("original-linear", "config.json", &["s2"], json!(true), &["s2 = true"]),
        (
            "original-linear",
            "vision-tower/config.json",
            &["model_type"],
            json!("dinov2"),
            &["vision-tower", "model_type = \"dinov2\""],
        ),
    ];
    for (checkpoint, file, path, value, parts) in cases {
        let scratch = Scratch::of(checkpoint);
        scratch.set(file, path, value.clone());
        let message = scratch.refusal();
        for part in *parts {
            assert!(message.contains(part), "{path:?} = {value}: {part:?} is not in {message:?}");
        }
    }
}

#[test]
fn broken_checkpoints_are_named() {
    let scratch = || Scratch::of("transformers4-fp32");
    let refused = |scratch: &Scratch, parts: &[&str]| {
        let message = scratch.refusal();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    };
    let weights = |scratch: &Scratch| scratch.checkpoint.join("model.safetensors");

    let missing = scratch();
    missing.edit_tensors(|tensors| tensors.retain(|tensor| !tensor.name.ends_with("layers.1.mlp.up_proj.weight")));
    refused(&missing, &["language_model.model.layers.1.mlp.up_proj.weight", "[24, 16]", "missing"]);

    let extra = scratch();
    extra.edit_tensors(|tensors| {
        let mut copy = tensors[0].clone();
        copy.name = "language_model.model.layers.2.extra".to_owned();
        tensors.push(copy);
    });
    refused(&extra, &["unexpected tensor \"language_model.model.layers.2.extra\"", "model.safetensors"]);

    let shaped = scratch();
    shaped.set("config.json", &["text_config", "intermediate_size"], json!(32));
    refused(&shaped, &["gate_proj.weight", "[24, 16]", "expected [32, 16]"]);

    let twice = scratch();
    twice.edit_tensors(|tensors| {
        let mut copy = tensors.iter().find(|tensor| tensor.name.ends_with("lm_head.weight")).unwrap().clone();
        copy.name = "lm_head.weight".to_owned();
        tensors.push(copy);
    });
    refused(&twice, &["\"language_model.lm_head.weight\"", "\"lm_head.weight\"", "two names"]);

    let integers = scratch();
    integers.edit_tensors(|tensors| {
        let tensor = tensors.iter_mut().find(|tensor| tensor.name.ends_with("lm_head.weight")).unwrap();
        tensor.dtype = "I32".to_owned();
    });
    refused(&integers, &["lm_head.weight", "I32", "F32, F16 or BF16"]);

    let truncated = scratch();
    let bytes = fs::read(weights(&truncated)).unwrap();
    fs::write(weights(&truncated), &bytes[..bytes.len() - 5]).unwrap();
    refused(&truncated, &["model.safetensors is truncated", &(bytes.len() - 5).to_string(), &bytes.len().to_string()]);

    let longer = scratch();
    fs::write(weights(&longer), [&bytes[..], &[0; 3]].concat()).unwrap();
    refused(&longer, &["model.safetensors", "tensors end at byte"]);

    let absent = scratch();
    fs::remove_file(weights(&absent)).unwrap();
    fs::write(absent.checkpoint.join("pytorch_model.bin"), b"pickle").unwrap();
    refused(&absent, &["pytorch_model.bin is not a file of torch.save"]);

    let tokenizer = scratch();
    fs::rename(tokenizer.checkpoint.join("tokenizer.json"), tokenizer.checkpoint.join("tokenizer.model")).unwrap();
    refused(&tokenizer, &["tokenizer.model", "SentencePiece"]);
    fs::remove_file(tokenizer.checkpoint.join("tokenizer.model")).unwrap();
    refused(&tokenizer, &["has no tokenizer.json or tokenizer.model"]);

    let config = scratch();
    fs::write(config.checkpoint.join("config.json"), "{").unwrap();
    refused(&config, &["config.json is not readable"]);
    fs::remove_file(config.checkpoint.join("config.json")).unwrap();
    refused(&config, &["has no config.json"]);

    let shard = Scratch::of("transformers5-bf16-sharded");
    fs::remove_file(shard.checkpoint.join("model-00002-of-00002.safetensors")).unwrap();
    refused(&shard, &["has no model-00002-of-00002.safetensors", "index"]);
    shard.edit("model.safetensors.index.json", |root| {
        root["weight_map"]["language_model.lm_head.weight"] = json!("../model.safetensors");
    });
    refused(&shard, &["weight_map.language_model.lm_head.weight", "../model.safetensors"]);

    let tower = Scratch::of("original-mlp");
    refused(&tower, &["mm_vision_tower", "--vision-tower"]);
}

#[test]
fn buffers_and_unused_parts_are_no_fault() {
    let scratch = Scratch::of("transformers4-fp32");
    let identity = scratch.export().unwrap();
    scratch.edit_tensors(|tensors| {
        let extra =
            |name: &str, tensor: &export_support::Tensor| export_support::Tensor { name: name.to_owned(), ..tensor.clone() };
        let source = tensors[0].clone();
        tensors.push(extra("language_model.model.layers.0.self_attn.rotary_emb.inv_freq", &source));
        tensors.push(extra("vision_tower.vision_model.embeddings.position_ids", &source));
        tensors.push(extra("image_newline", &source));
        // The layer after the selected one, and the norm after all of them, are never looked at.
        tensors
            .retain(|tensor| !tensor.name.contains("vision_model.encoder.layers.2.") && !tensor.name.contains("post_layernorm"));
    });
    fs::remove_dir_all(&scratch.package).unwrap();
    let trimmed = scratch.export().unwrap();
    assert_eq!(graph_tensors(&identity).len(), graph_tensors(&trimmed).len());
}

#[test]
fn a_tied_head_must_be_the_embedding_table() {
    let tied = Scratch::of("transformers4-fp32");
    tied.set("config.json", &["text_config", "tie_word_embeddings"], json!(true));
    let message = tied.refusal();
    assert!(message.contains("lm_head.weight") && message.contains("tie_word_embeddings"), "{message}");
    tied.edit_tensors(|tensors| {
        let table = tensors.iter().find(|tensor| tensor.name.ends_with("embed_tokens.weight")).unwrap().data.clone();
        tensors.iter_mut().find(|tensor| tensor.name.ends_with("lm_head.weight")).unwrap().data = table;
    });
    tied.export().unwrap();
    tied.edit_tensors(|tensors| tensors.retain(|tensor| !tensor.name.ends_with("lm_head.weight")));
    fs::remove_dir_all(&tied.package).unwrap();
    let package = tied.export().unwrap();
    assert!(graph_tensors(&package).contains_key("llm.embed_tokens.weight"));
}

#[test]
fn another_package_is_replaced_only_by_force_and_foreign_weights_never() {
    let scratch = Scratch::of("transformers4-fp32");
    let first = scratch.export().unwrap();
    scratch.set("generation_config.json", &["eos_token_id"], json!([2, 5]));
    let message = scratch.export().unwrap_err().to_string();
    assert!(message.contains("package.toml exists and differs") && message.contains("--force"), "{message}");
    assert_eq!(Package::open(&scratch.package).unwrap().identity, first.identity);
    let mut options = scratch.options();
    options.force = true;
    let second = export(&options).unwrap();
    assert_ne!(second.identity, first.identity);
    assert_eq!(second.manifest.prompt.eos_token_ids, [2, 5]);

    // The weights of another checkpoint stand in the way.
    scratch.edit_tensors(|tensors| tensors[0].data[0] ^= 1);
    fs::remove_file(scratch.package.join("model.safetensors")).unwrap();
    fs::write(scratch.package.join("model.safetensors"), b"somebody else's").unwrap();
    let message = export(&options).unwrap_err().to_string();
    assert!(message.contains("model.safetensors exists and differs"), "{message}");
    assert_eq!(fs::read(scratch.package.join("model.safetensors")).unwrap(), b"somebody else's");

    let busy = Scratch::of("transformers4-fp32");
    fs::create_dir(&busy.package).unwrap();
    let lock = fs::File::create(busy.package.join(".llava-gauge-export.lock")).unwrap();
    lock.lock().unwrap();
    assert!(matches!(busy.export(), Err(ExportError::Busy { .. })));
    lock.unlock().unwrap();
    busy.export().unwrap();
}

#[test]
fn recipes_follow_the_checkpoint_and_the_options() {
    let scratch = Scratch::of("transformers4-fp32");
    scratch.set("preprocessor_config.json", &["size"], json!(8));
    scratch.set("preprocessor_config.json", &["crop_size"], json!(8));
    scratch.set("preprocessor_config.json", &["rescale_factor"], json!("absent"));
    scratch.set("generation_config.json", &["stop_strings"], json!(["USER:"]));
    let mut options = scratch.options();
    options.image_aspect = Some(AspectMode::Pad);
    options.conversation = Some("llava_v0".to_owned());
    options.name = Some("other name".to_owned());
    let manifest = export(&options).unwrap().manifest;
    assert_eq!((manifest.image.resize, manifest.image.centre_crop), (Some(ResizeRule::ShortestEdge(8)), Some([8, 8])));
    assert_eq!((manifest.image.aspect, manifest.image.rescale_factor), (AspectMode::Pad, Some(1.0 / 255.0)));
    assert!(manifest.image.origin.contains("overridden: pad"), "{}", manifest.image.origin);
    assert_eq!(manifest.prompt.template, PromptTemplate::Conversation("llava_v0".to_owned()));
    assert_eq!(manifest.prompt.stop_strings, ["###", "USER:"]);
    assert_eq!(manifest.name, "other name");

    options.name = Some("../elsewhere".to_owned());
    let message = export(&options).unwrap_err().to_string();
    assert!(message.contains("../elsewhere") && message.contains("--name"), "{message}");
    options.conversation = Some("vicuna_v9".to_owned());
    let message = export(&options).unwrap_err().to_string();
    assert!(message.contains("vicuna_v9") && message.contains("vicuna_v1"), "{message}");

    // No processor says how: the tower's own size, as CLIP would.
    let bare = Scratch::of("transformers4-fp32");
    for file in ["preprocessor_config.json", "processor_config.json", "chat_template.json", "generation_config.json"] {
        fs::remove_file(bare.checkpoint.join(file)).unwrap();
    }
    let manifest = bare.export().unwrap().manifest;
    assert_eq!(manifest.image.resize, Some(ResizeRule::ShortestEdge(8)));
    assert_eq!(manifest.prompt.template, PromptTemplate::Conversation("vicuna_v1".to_owned()));
    assert_eq!(manifest.prompt.eos_token_ids, [2]);

    // The tokenizer's own template, one of several.
    let tokenizer = Scratch::of("transformers4-fp32");
    fs::remove_file(tokenizer.checkpoint.join("chat_template.json")).unwrap();
    let templates = json!([{"name": "tools", "template": "t"}, {"name": "default", "template": "{{ messages }}"}]);
    tokenizer.set("tokenizer_config.json", &["chat_template"], templates);
    tokenizer.set("tokenizer_config.json", &["add_bos_token"], json!(false));
    let package = tokenizer.export().unwrap();
    assert_eq!(fs::read_to_string(package.path("prompt_template.jinja").unwrap()).unwrap(), "{{ messages }}");
    assert_eq!(package.manifest.prompt.bos_token_id, None);
}

#[test]
fn original_towers_are_found_where_they_are() {
    // Beside the weights, as a folder of the checkpoint.
    let beside = Scratch::of("original-mlp");
    copy_folder(&fixture("original-mlp-tower"), &beside.checkpoint.join("vit"));
    beside.set("config.json", &["mm_vision_tower"], json!("vit"));
    let package = beside.export().unwrap();
    let elsewhere = export(&options("original-mlp", &beside.checkpoint.with_file_name("b").join("package"))).unwrap();
    assert_eq!(graph_tensors(&package), graph_tensors(&elsewhere));

    // Inside the weights, with the well-known name of the tower: sizes are those of CLIP ViT-L/14-336, which these are not.
    let inside = Scratch::of("original-linear");
    inside.set("config.json", &["mm_vision_tower"], json!("openai/clip-vit-large-patch14-336"));
    let message = inside.refusal();
    assert!(message.contains("[8, 3, 4, 4]") || message.contains("[1024]"), "{message}");

    // A path out of the checkpoint is not followed.
    inside.set("config.json", &["mm_vision_tower"], json!("../checkpoint/vision-tower"));
    assert!(inside.refusal().contains("--vision-tower"));

    // A second tower would be ignored.
    let second = Scratch::of("original-linear");
    let mut options = second.options();
    options.vision_tower = Some(fixture("original-mlp-tower"));
    let message = export(&options).unwrap_err().to_string();
    assert!(message.contains("--vision-tower") && message.contains("holds its own weights"), "{message}");

    // A 32-bit tower of its own is linked under a name of its own.
    let linked = Scratch::of("original-mlp");
    let tower = linked.checkpoint.with_file_name("tower");
    copy_folder(&fixture("original-mlp-tower"), &tower);
    let mut tensors = read_tensors(&tower.join("model.safetensors"));
    for tensor in tensors.iter_mut().filter(|tensor| tensor.dtype == "BF16") {
        tensor.dtype = "F32".to_owned();
        tensor.data = tensor.data.chunks(2).flat_map(|pair| [0, 0, pair[0], pair[1]]).collect();
    }
    write_tensors(&tower.join("model.safetensors"), &tensors);
    let mut options = linked.options();
    options.vision_tower = Some(tower);
    let wide = export(&options).unwrap();
    assert!(wide.manifest.files.iter().any(|file| file.name == "vision_tower.safetensors"));
    assert_eq!(graph_tensors(&wide), graph_tensors(&elsewhere));
}

/// The graphs as text: an unmeant change of a single edge shows here, and a meant one is reviewed here.
#[test]
fn graphs_are_as_reviewed() {
    let folder = tempfile::tempdir().unwrap();
    for (flavor, prefix) in [(GraphFlavor::Contrib, ""), (GraphFlavor::Standard, "standard_")] {
        let output = folder.path().join(flavor.as_str());
        let package = export(&ExportOptions { flavor, ..options("transformers4-fp32", &output) }).unwrap();
        for name in ["vision", "projector", "llm"] {
            let bytes = fs::read(package.path(&format!("{name}.onnx")).unwrap()).unwrap();
            insta::assert_snapshot!(format!("{prefix}{name}"), graph_text(&bytes));
        }
    }
}

fn graph_text(bytes: &[u8]) -> String {
    let graph = ModelProto::decode(bytes).unwrap().graph.unwrap();
    let mut text = String::new();
    for node in &graph.node {
        let attributes: Vec<String> = node.attribute.iter().map(shown).collect();
        let (operator, inputs, outputs) = (node.op_type.as_deref().unwrap(), node.input.join(", "), node.output.join(", "));
        text += &format!("{outputs} = {operator}({inputs}) {}\n", attributes.join(" "));
    }
    for tensor in graph.initializer.iter().filter(|tensor| tensor.external_data.is_empty()) {
        let values: Vec<String> = if tensor.data_type() == data_type::FLOAT {
            let values = tensor.raw_data().chunks(4).map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap()));
            values.map(|value| value.to_string()).collect()
        } else {
            let values = tensor.raw_data().chunks(8).map(|chunk| i64::from_le_bytes(chunk.try_into().unwrap()));
            values.map(|value| value.to_string()).collect()
        };
        text += &format!("{} = [{}]\n", tensor.name(), values.join(", "));
    }
    text
}

fn shown(attribute: &AttributeProto) -> String {
    let value = match (attribute.i, attribute.f) {
        (Some(value), _) => value.to_string(),
        (_, Some(value)) => value.to_string(),
        _ => format!("{:?}", attribute.ints),
    };
    format!("{}={value}", attribute.name())
}
