//! What the export makes of the configurations of LLaVA-NeXT, OneVision, Interleave and their original formats, and what it
//! refuses. That the packages answer as their references do is shown by `tests/parity.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first thing that is not as it should be")]

mod export_support;

use export_support::{Scratch, Tensor};
use llava_gauge::export::export;
use llava_gauge::package::{
    AspectMode, Manifest, PromptTemplate, ResizeRule, SourceFormat, TileOrder, TokenizationMode, UnpadRounding,
};
use serde_json::{Value, json};

fn manifest(name: &str) -> Manifest {
    Scratch::recorded(name).export().unwrap_or_else(|error| panic!("{name}: {error}")).manifest
}

#[test]
fn llava_next_is_tiled_as_transformers_tiles() {
    let next = manifest("recorded-next");
    assert_eq!((next.source.version.as_deref(), next.source.format), (Some("NeXT"), SourceFormat::HuggingFace));
    let tiling = next.image.tiling.unwrap();
    assert_eq!(tiling.pinpoints, [[16, 32], [32, 16], [32, 32], [48, 16], [16, 48]]);
    assert_eq!((tiling.tile, tiling.only_single_images), (16, false));
    let merge = tiling.merge;
    assert_eq!((merge.order, merge.base_view, merge.newline), (TileOrder::SpatialUnpad, true, true));
    assert_eq!((merge.maximum_tiles, merge.max_pool, merge.unpad_rounding), (None, false, UnpadRounding::SevenDigits));
    let newline = next.projector.image_newline.unwrap();
    assert_eq!((newline.shape.as_slice(), newline.file.as_str()), (&[next.llm.hidden_size][..], "weights.safetensors"));
    assert_eq!((next.image.resize, next.image.centre_crop), (Some(ResizeRule::ShortestEdge(16)), Some([16, 16])));
    assert_eq!((next.llm.sliding_window, next.vision.feature_select.as_str()), (None, "patch"));
}

#[test]
fn one_vision_pads_one_of_several_images() {
    let one_vision = manifest("recorded-onevision");
    assert_eq!(one_vision.source.version.as_deref(), Some("OneVision"));
    assert_eq!((one_vision.vision.feature_layer, one_vision.vision.feature_select.as_str()), (-1, "full"));
    assert_eq!((one_vision.image.aspect, one_vision.image.pad_colour), (AspectMode::Pad, [127; 3]));
    assert_eq!(one_vision.image.resize, Some(ResizeRule::Exact { height: 16, width: 16 }));
    assert_eq!((one_vision.image.centre_crop, one_vision.image.mean), (None, Some([0.5; 3])));
    let tiling = one_vision.image.tiling.unwrap();
    assert_eq!((tiling.pinpoints.len(), tiling.only_single_images, tiling.merge.maximum_tiles), (36, true, Some(9)));
    assert_eq!((one_vision.prompt.bos_token_id, one_vision.prompt.tokenization), (None, TokenizationMode::WholeString));
}

#[test]
fn interleave_and_mistral_are_read() {
    let interleave = manifest("recorded-interleave");
    assert_eq!(interleave.source.version.as_deref(), Some("Interleave"));
    assert_eq!((interleave.image.tiling, interleave.projector.image_newline), (None, None));
    assert_eq!(interleave.image.resize, Some(ResizeRule::Exact { height: 24, width: 24 }));
    let mistral = manifest("recorded-mistral-window");
    assert_eq!((mistral.llm.sliding_window, mistral.source.version.as_deref()), (Some(13), Some("1.5")));
}

#[test]
fn original_formats_bring_their_templates_and_rounding() {
    let next = manifest("recorded-original-next");
    assert_eq!((next.source.version.as_deref(), next.source.format), (Some("NeXT"), SourceFormat::Original));
    let tiling = next.image.tiling.unwrap();
    // Written as (width, height).
    assert_eq!(tiling.pinpoints, [[32, 16], [16, 32], [32, 32], [16, 48], [48, 16]]);
    assert_eq!((tiling.only_single_images, tiling.merge.unpad_rounding), (false, UnpadRounding::Truncate));
    assert_eq!(next.prompt.template, PromptTemplate::Conversation("vicuna_v1".to_owned()));

    let one_vision = manifest("recorded-original-onevision");
    assert_eq!(one_vision.source.version.as_deref(), Some("OneVision"));
    // Three layers, of which LLaVA-NeXT removes the last.
    assert_eq!((one_vision.vision.feature_layer, one_vision.vision.feature_select.as_str()), (-2, "full"));
    assert_eq!(one_vision.prompt.template, PromptTemplate::Conversation("qwen_1_5".to_owned()));
    assert!(one_vision.image.origin.contains("SigLipImageProcessor"), "{}", one_vision.image.origin);

    let first = manifest("recorded-original-v0");
    assert_eq!(first.source.version.as_deref(), Some("v0"));
    assert_eq!(first.prompt.template, PromptTemplate::Conversation("simple".to_owned()));
    assert!(first.prompt.image_start_end);
}

#[test]
fn an_aspect_override_leaves_tiles_out() {
    let scratch = Scratch::recorded("recorded-original-next");
    let mut options = scratch.options();
    options.image_aspect = Some(AspectMode::Pad);
    let image = export(&options).unwrap().manifest.image;
    assert_eq!((image.aspect, image.tiling), (AspectMode::Pad, None));
    assert!(image.origin.contains("aspect overridden: pad, without tiles"), "{}", image.origin);
}

#[test]
fn a_pooling_head_and_an_unused_newline_are_no_fault() {
    let scratch = Scratch::recorded("recorded-interleave");
    scratch.edit_tensors(|tensors| {
        let number = |name: &str| Tensor { name: name.to_owned(), dtype: "F32".to_owned(), shape: vec![1], data: vec![0; 4] };
        tensors.push(number("vision_tower.head.probe"));
        tensors.push(number("image_newline"));
    });
    scratch.export().unwrap();
}

#[test]
fn what_tiles_cannot_be_is_named() {
    let (next, one_vision) = ("recorded-next", "recorded-onevision");
    let (original, siglip) = ("recorded-original-next", "recorded-original-onevision");
    let pixels = "processor_config.json";
    /// Checkpoint, file, path of the key, value, parts of the message.
    type Case<'a> = (&'a str, &'a str, &'a [&'a str], Value, &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        (next, "config.json", &["image_grid_pinpoints"], json!([[16, 30]]), &["image_grid_pinpoints is [[16,30]]", "16 pixels"]),
        (next, "config.json", &["image_grid_pinpoints"], json!("absent"), &["image_grid_pinpoints is absent"]),
        (next, "config.json", &["image_grid_pinpoints"], json!([[16, 32]]), &[pixels, "image_processor.image_grid_pinpoints"]),
        (next, "config.json", &["image_grid_pinpoints"], json!("anyres"), &["image_grid_pinpoints is \"anyres\""]),
        (next, "config.json", &["use_image_newline_parameter"], json!(false), &["use_image_newline_parameter = false"]),
        (
            next,
            "config.json",
            &["vision_feature_select_strategy"],
            json!("full"),
            &["vision_feature_select_strategy", "class token"],
        ),
        (next, pixels, &["image_processor", "image_grid_pinpoints"], json!([[16, 16]]), &[pixels, "image_grid_pinpoints"]),
        (next, pixels, &["image_processor", "image_processor_type"], json!("CLIPImageProcessor"), &["CLIPImageProcessor"]),
        (next, pixels, &["image_processor", "size"], json!({"shortest_edge": 17}), &["size", "16"]),
        (next, pixels, &["image_processor", "do_resize"], json!(false), &["do_resize = false", "tiles"]),
        (next, "config.json", &["text_config", "layer_types"], json!(["full_attention"]), &["text_config.layer_types"]),
        (next, "config.json", &["text_config", "sliding_window"], json!(-1), &["text_config.sliding_window is -1"]),
        (
            one_vision,
            "config.json",
            &["vision_aspect_ratio"],
            json!("anyres"),
            &["vision_aspect_ratio = \"anyres\"", "anyres_max_N"],
        ),
        (
            one_vision,
            "config.json",
            &["vision_aspect_ratio"],
            json!("anyres_max_4"),
            &[pixels, "vision_aspect_ratio", "anyres_max_4"],
        ),
        (one_vision, "config.json", &["vision_feature_select_strategy"], json!("default"), &["default", "no class token"]),
        (
            one_vision,
            "config.json",
            &["text_config", "model_type"],
            json!("qwen2_moe"),
            &["text_config.model_type = \"qwen2_moe\""],
        ),
        (one_vision, "config.json", &["image_token_index"], json!(3), &["tokenizer.json", "<image>"]),
        (original, "config.json", &["image_grid_pinpoints"], json!("[(16, 30)]"), &["image_grid_pinpoints"]),
        (original, "config.json", &["mm_patch_merge_type"], json!("spatial_avg"), &["mm_patch_merge_type = \"spatial_avg\""]),
        (original, "config.json", &["image_aspect_ratio"], json!("crop_split"), &["image_aspect_ratio = \"crop_split\""]),
        (
            original,
            "config.json",
            &["mm_vision_select_feature"],
            json!("cls_patch"),
            &["mm_vision_select_feature", "class token"],
        ),
        (original, "vision-tower/preprocessor_config.json", &["resample"], json!(2), &["resample", "preprocessor"]),
        (siglip, "config.json", &["image_aspect_ratio"], json!("pad"), &["mm_patch_merge_type = \"spatial_unpad\""]),
        (siglip, "config.json", &["use_sliding_window"], json!(true), &["use_sliding_window"]),
    ];
    for (checkpoint, file, path, value, parts) in cases {
        let scratch = Scratch::recorded(checkpoint);
        scratch.set(file, path, value.clone());
        if *path == ["use_sliding_window"] {
            scratch.set(file, &["max_window_layers"], json!(1));
            scratch.set(file, &["sliding_window"], json!(64));
            scratch.set(file, &["layer_types"], json!("absent"));
        }
        let message = scratch.refusal();
        for part in *parts {
            assert!(message.contains(part), "{checkpoint}: {path:?} = {value}: {part:?} is not in {message:?}");
        }
    }
}

#[test]
fn a_newline_that_is_missing_or_of_another_width_is_named() {
    for (checkpoint, key) in [("recorded-next", "image_newline"), ("recorded-original-next", "model.image_newline")] {
        let missing = Scratch::recorded(checkpoint);
        missing.edit_tensors(|tensors| tensors.retain(|tensor| tensor.name != key));
        let message = missing.refusal();
        assert!(message.contains(&format!("tensor \"{key}\"")) && message.contains("is missing"), "{message}");
        let narrow = Scratch::recorded(checkpoint);
        narrow.edit_tensors(|tensors| {
            let newline = tensors.iter_mut().find(|tensor| tensor.name == key).unwrap();
            newline.shape = vec![newline.shape[0] / 2];
            newline.data.truncate(newline.data.len() / 2);
        });
        let message = narrow.refusal();
        assert!(message.contains(&format!("tensor \"{key}\" has shape [16], expected [32]")), "{message}");
    }
}

/// Every key of every configuration file, replaced by values that it should not have, a few of them each: an error or a
/// package, never a panic.
#[test]
fn no_value_of_any_key_panics() {
    let values = [
        json!(null),
        json!(-1),
        json!(0),
        json!(1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("anyres_max_9"),
        json!([]),
        json!([[0, 0], [4294967295_u64, 1]]),
        json!({"type": "yarn", "rope_type": "longrope", "factor": 1e-300}),
    ];
    let mut exports = 0;
    for checkpoint in ["recorded-next", "recorded-onevision", "recorded-original-next", "recorded-original-onevision"] {
        let scratch = Scratch::recorded(checkpoint);
        for file in ["config.json", "processor_config.json", "generation_config.json", "tokenizer_config.json"] {
            let path = scratch.checkpoint.join(file);
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let original: Value = serde_json::from_str(&text).unwrap();
            let mut pointers = Vec::new();
            keys_of(&original, "", &mut pointers);
            for (index, pointer) in pointers.into_iter().enumerate() {
                for value in values.iter().cycle().skip(2 * index).take(2) {
                    let mut changed = original.clone();
                    *changed.pointer_mut(&pointer).unwrap() = value.clone();
                    std::fs::write(&path, changed.to_string()).unwrap();
                    let mut options = scratch.options();
                    options.force = true;
                    exports += usize::from(export(&options).is_ok());
                }
            }
            std::fs::write(&path, text).unwrap();
        }
    }
    assert!(exports > 50, "many keys do not matter, found {exports} packages");
}

/// JSON pointers of all keys of nested objects.
fn keys_of(value: &Value, prefix: &str, found: &mut Vec<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let pointer = format!("{prefix}/{key}");
        keys_of(value, &pointer, found);
        found.push(pointer);
    }
}
