//! `ask` with several images, earlier turns and tiled images, and a run over tiled images.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::path::{Path, PathBuf};

use common::{gauge, gauge_fails, gauge_json, gauge_output, root, text};
use llava_gauge::engine::{EngineOptions, OrtEngine, Request};
use llava_gauge::package::{Manifest, Package, TensorLocation, TileMerge, TileOrder, Tiling, UnpadRounding};
use llava_gauge::prompt::Prompter;
use llava_gauge::run::{PreparedImages, PrompterStop, segments};
use serde_json::{Value, json};

fn images() -> Vec<PathBuf> {
    let folder = root().join("benchmarks/pico/images");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

fn spans(answer: &Value) -> Vec<[u64; 2]> {
    serde_json::from_value(answer["image_spans"].clone()).unwrap()
}

/// What the answer says, without timings and file names.
fn said(answer: &Value) -> [&Value; 4] {
    ["prompt", "prompt_token_ids", "token_ids", "logprobs"].map(|field| &answer[field])
}

#[test]
fn several_images_stand_at_their_marks_or_first() {
    let images = images();
    let (one, two) = (text(&images[0]), text(&images[1]));
    let ask = |package: &str, prompt: &str| {
        gauge_json(&["ask", package, "--image", one, "--image", two, "--prompt", prompt, "--max-new-tokens", "4", "--json"])
    };
    let placed = ask("pico-llava-v1", "Is <image> like <image>?");
    assert!(placed["prompt"].as_str().unwrap().ends_with("USER: Is <image> like <image>? ASSISTANT:"), "{}", placed["prompt"]);
    let (first, second) = (spans(&placed)[0], spans(&placed)[1]);
    assert_eq!((first[1] - first[0], second[1] - second[0]), (64, 64));
    assert!(second[0] > first[1], "text stands between them");
    assert_eq!(
        placed["turns"],
        json!([{"role": "user", "text": "Is <image> like <image>?", "images": 2, "placement": "at-marks"}])
    );
    let files: Vec<&str> = placed["images"].as_array().unwrap().iter().map(|image| image["file"].as_str().unwrap()).collect();
    assert_eq!(files, [one, two]);
    assert_eq!((&placed["images"][1]["tiles"], &placed["images"][1]["rows"]), (&json!(1), &json!(64)));

    let before = ask("pico-llava-v1", "Is one like the other?");
    assert!(before["prompt"].as_str().unwrap().ends_with("USER: <image>\n<image>\nIs one like the other? ASSISTANT:"));
    // A chat template puts the parts of a question where it wants them: this one gathers the images, as LLaVA-1.5's does.
    let chat = ask("pico-llava-1.5", "Is <image> like <image>?");
    assert!(chat["prompt"].as_str().unwrap().contains("USER: <image>\n<image>\nIs  like ? ASSISTANT:"), "{}", chat["prompt"]);
    assert_eq!(spans(&chat).len(), 2);

    // Each image is seen where it stands: exchanged, the same prompt is answered with other probabilities.
    let exchanged = gauge_json(&[
        "ask",
        "pico-llava-v1",
        "--image",
        two,
        "--image",
        one,
        "--prompt",
        "Is <image> like <image>?",
        "--max-new-tokens",
        "4",
        "--json",
    ]);
    assert_eq!(exchanged["prompt_token_ids"], placed["prompt_token_ids"]);
    assert_ne!(exchanged["logprobs"], placed["logprobs"]);
}

#[test]
fn a_conversation_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let images = images();
    // Files are named from the folder of the conversation.
    std::fs::create_dir(folder.path().join("pictures")).unwrap();
    std::fs::copy(&images[0], folder.path().join("pictures/a.png")).unwrap();
    let file = folder.path().join("talk.json");
    let turns = json!([
        {"role": "user", "text": "What is this?", "images": ["pictures/a.png"]},
        {"role": "assistant", "text": "A red square."},
    ]);
    std::fs::write(&file, turns.to_string()).unwrap();
    let arguments = ["ask", "pico-llava-v1", "--conversation", text(&file), "--max-new-tokens", "4", "--json"];
    let answer = gauge_json(&[&arguments[..], &["--image", text(&images[1]), "--prompt", "And <image>?"]].concat());
    let prompt = answer["prompt"].as_str().unwrap();
    let expected = "USER: <image>\nWhat is this? ASSISTANT: A red square.</s>USER: And <image>? ASSISTANT:";
    assert!(prompt.ends_with(expected), "{prompt}");
    assert_eq!(answer["turns"].as_array().unwrap().len(), 3);
    assert_eq!(
        answer["turns"][1],
        json!({"role": "assistant", "text": "A red square.", "images": 0, "placement": "before-text"})
    );
    assert_eq!(spans(&answer).len(), 2);

    // The same conversation with its question in the file, and the same prompt raw, are answered alike.
    let mut whole = turns.as_array().unwrap().clone();
    whole.push(json!({"role": "user", "text": "And <image>?", "images": [images[1]]}));
    let whole_file = folder.path().join("whole.json");
    std::fs::write(&whole_file, Value::from(whole).to_string()).unwrap();
    let in_file = gauge_json(&["ask", "pico-llava-v1", "--conversation", text(&whole_file), "--max-new-tokens", "4", "--json"]);
    assert_eq!(said(&in_file), said(&answer));
    let raw = ["--image", text(&images[0]), "--image", text(&images[1]), "--raw-prompt", "--prompt", prompt];
    let raw = gauge_json(&[&["ask", "pico-llava-v1", "--max-new-tokens", "4", "--json"][..], &raw].concat());
    assert_eq!(said(&raw), said(&answer));
    assert_eq!(raw["turns"], json!([]));

    // What the earlier answer says is seen.
    std::fs::write(&file, turns.to_string().replace("red", "blue")).unwrap();
    let other = gauge_json(&[&arguments[..], &["--image", text(&images[1]), "--prompt", "And <image>?"]].concat());
    assert_ne!(other["logprobs"], answer["logprobs"]);
}

#[test]
fn conversations_that_cannot_be_asked_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    let image = images().remove(0);
    let user = |images: Value| json!({"role": "user", "text": "What?", "images": images});
    let answer = json!({"role": "assistant", "text": "Yes."});
    let question = ["--prompt", "And now?"];
    let with_image = ["--prompt", "And now?", "--image", text(&image)];
    let cases: [(Value, &[&str], i32, &str); 13] = [
        (json!([user(json!([]))]), &question, 96, "ends with a question"),
        (json!([user(json!([])), answer]), &[], 96, "does not end with a question"),
        (json!([]), &[], 96, "does not end with a question"),
        (json!([user(json!([]))]), &with_image[2..], 96, "--image belongs to the question of --prompt"),
        (json!([answer]), &question, 102, "must begin and end with a question"),
        (json!([user(json!([])), user(json!([])), user(json!([]))]), &[], 102, "must be of the assistant"),
        (json!([user(json!(["none.png"])), answer]), &question, 102, "none.png"),
        (json!([user(json!(["talk.json"])), answer]), &question, 102, "talk.json: not an image"),
        (
            json!([user(json!([])), {"role": "assistant", "text": "Yes.", "images": [image]}]),
            &question,
            102,
            "cannot show images",
        ),
        (json!([{"role": "system", "text": "Hi"}]), &question, 102, "unknown variant `system`"),
        (json!([{"role": "user", "text": "Hi", "picture": 1}]), &question, 102, "unknown field `picture`"),
        (json!({"role": "user"}), &question, 102, "talk.json: invalid type"),
        (
            json!([{"role": "user", "text": "<image> and <image>", "images": [image]}]),
            &[],
            102,
            "turn 0: the question has 2 image marks",
        ),
    ];
    for (turns, arguments, code, part) in cases {
        std::fs::write(&file, turns.to_string()).unwrap();
        let all = [&["ask", "pico-llava-1.5", "--conversation", text(&file)][..], arguments].concat();
        let error = gauge_fails(&all, code);
        assert!(error.contains(part), "{turns}: {error}");
    }
    std::fs::write(&file, "[").unwrap();
    assert!(gauge_fails(&["ask", "pico-llava-1.5", "--conversation", text(&file)], 102).contains("talk.json: EOF"));
    std::fs::write(&file, vec![b' '; 2 << 20]).unwrap();
    assert!(gauge_fails(&["ask", "pico-llava-1.5", "--conversation", text(&file)], 102).contains("talk.json"));
    let marks = gauge_fails(&["ask", "pico-llava-1.5", "--image", text(&image), "--prompt", "<image> or <image>?"], 96);
    assert!(marks.contains("has 2 image marks \"<image>\" for 1 images"), "{marks}");
    gauge(&["ask", "pico-llava-1.5", "--raw-prompt", "--conversation", text(&file)]).assert().code(2);
    gauge(&["ask", "pico-llava-1.5"]).assert().code(2);
}

/// A shipped package as if it were of an any-res checkpoint: four grids, and a row of its embedding table as newline.
fn tiled_package(folder: &Path, base: &str, only_single_images: bool) -> PathBuf {
    let source = Package::open(&root().join("exports").join(base)).unwrap();
    let package = folder.join(if only_single_images { "tiled-alone" } else { "tiled" });
    std::fs::create_dir(&package).unwrap();
    for file in &source.manifest.files {
        std::fs::copy(source.root.join(&file.name), package.join(&file.name)).unwrap();
    }
    let mut manifest: Manifest = source.manifest;
    manifest.name = "tiled".to_owned();
    let tile = manifest.vision.image_size as u32;
    let embedding = manifest.llm.embedding.clone();
    let width = manifest.llm.hidden_size;
    let bytes = width as u64 * embedding.dtype.bytes();
    manifest.projector.image_newline =
        Some(TensorLocation { offset: embedding.offset + 13 * bytes, bytes, shape: vec![width], ..embedding });
    manifest.image.tiling = Some(Tiling {
        pinpoints: [[1, 2], [2, 1], [1, 3], [3, 1]].map(|grid| grid.map(|side| side * tile)).to_vec(),
        tile,
        only_single_images,
        merge: TileMerge {
            order: TileOrder::SpatialUnpad,
            base_view: true,
            newline: true,
            maximum_tiles: None,
            max_pool: false,
            unpad_rounding: UnpadRounding::SevenDigits,
        },
    });
    std::fs::write(package.join("package.toml"), manifest.to_text().unwrap()).unwrap();
    package
}

/// A picture of this size: the beginning of a shipped one, repeated.
fn picture(folder: &Path, width: u32, height: u32) -> PathBuf {
    let path = folder.join(format!("{width}x{height}.png"));
    let shipped = image::open(&images()[0]).unwrap().to_rgb8();
    let picture = image::RgbImage::from_fn(width, height, |x, y| *shipped.get_pixel(x % shipped.width(), y % shipped.height()));
    picture.save(&path).unwrap();
    path
}

#[test]
fn tiled_images_have_rows_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let package = tiled_package(folder.path(), "pico-llava-1.5", false);
    let package = text(&package);
    // Width, height, tiles and rows: 8 rows a side, a line keeps its newline.
    let sizes = [(64, 128, 3, 64 + 16 * 9), (200, 100, 3, 64 + 8 * 17), (300, 100, 4, 64 + 8 * 25), (90, 100, 3, 64 + 8 * 9)];
    for (width, height, tiles, rows) in sizes {
        let file = picture(folder.path(), width, height);
        let arguments =
            ["ask", package, "--image", text(&file), "--prompt", "Describe the image.", "--max-new-tokens", "3", "--json"];
        let answer = gauge_json(&arguments);
        let shown = &answer["images"][0];
        assert_eq!((&shown["width"], &shown["height"]), (&json!(width), &json!(height)));
        assert_eq!((&shown["tiles"], &shown["rows"]), (&json!(tiles), &json!(rows)), "{width} x {height}");
        let span = spans(&answer)[0];
        assert_eq!(span[1] - span[0], rows, "{width} x {height}");
    }
    let (tall, wide) = (picture(folder.path(), 64, 128), picture(folder.path(), 200, 100));
    let two = ["--image", text(&tall), "--image", text(&wide), "--prompt", "Compare.", "--max-new-tokens", "3", "--json"];
    let rows = |answer: &Value| -> Vec<u64> {
        answer["images"].as_array().unwrap().iter().map(|image| image["rows"].as_u64().unwrap()).collect()
    };
    assert_eq!(rows(&gauge_json(&[&["ask", package][..], &two].concat())), [208, 200]);
    let single = tiled_package(folder.path(), "pico-llava-1.5", true);
    assert_eq!(rows(&gauge_json(&[&["ask", text(&single)][..], &two].concat())), [65, 65], "one tile and a newline each");

    let sliver = picture(folder.path(), 1, 4000);
    let answer = gauge_json(&["ask", package, "--image", text(&sliver), "--prompt", "a", "--max-new-tokens", "1", "--json"]);
    assert_eq!(answer["images"][0]["rows"], json!(64 + 8), "only newlines are left of it");
    let inspected = gauge_output(&["package", "inspect", package]);
    assert!(inspected.contains("any-res, 4 grids of 64 px, bicubic, spatial_unpad"), "{inspected}");
}

/// A safetensors file of these tensors: name, type, shape and little-endian bytes.
fn safetensors(metadata: &str, tensors: &[(String, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({"parity": metadata}));
    let mut end = 0;
    for (name, dtype, shape, bytes) in tensors {
        let begin = end;
        end += bytes.len();
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}));
    }
    let header = Value::from(header).to_string();
    let data: Vec<u8> = tensors.iter().flat_map(|(.., bytes)| bytes.clone()).collect();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// The replay itself, on a fixture of our own making: what it compares must fit together for tiled images, and what is changed
/// or missing must show. Whether the numbers are the reference's is for fixtures that the reference made.
#[test]
fn verification_replays_tiled_images() {
    let folder = tempfile::tempdir().unwrap();
    let root = tiled_package(folder.path(), "pico-llava-1.5", false);
    let package = Package::open(&root).unwrap();
    let prompter = Prompter::open(&package).unwrap();
    let mut engine = OrtEngine::load(&package, &EngineOptions::default()).unwrap();
    let files = [picture(folder.path(), 64, 128), picture(folder.path(), 300, 100)];
    let prepared = PreparedImages::load(&files, &package.manifest).unwrap();
    let prompt = prompter.render("Compare.", 2).unwrap();
    let tokenized = prompter.tokenize(&prompt).unwrap();
    let request =
        Request { segments: segments(&tokenized.pieces), max_new_tokens: 5, stop: &PrompterStop { prompter: &prompter } };
    let trace = engine.trace_single(&prepared.images, &request, None).unwrap();
    let (ids, _) = tokenized.expanded_ids(&prepared.rows, i64::from(package.manifest.prompt.image_token_id.unwrap())).unwrap();

    let floats = |values: &mut dyn Iterator<Item = f32>| values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let integers = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let pixels: Vec<_> = prepared.images.iter().map(|image| image.pixels.view()).collect();
    let pixels = ndarray::concatenate(ndarray::Axis(0), &pixels).unwrap();
    assert_eq!(pixels.shape(), [7, 3, 64, 64]);
    let (rows, width) = trace.image_rows.dim();
    let tokens: Vec<i64> = trace.token_ids.iter().map(|&id| i64::from(id)).collect();
    let mut tensors = vec![
        ("image_file.0".to_owned(), "U8", vec![], std::fs::read(&files[0]).unwrap()),
        ("image_file.1".to_owned(), "U8", vec![], std::fs::read(&files[1]).unwrap()),
        ("pixel_values".to_owned(), "F32", pixels.shape().to_vec(), floats(&mut pixels.iter().copied())),
        ("features".to_owned(), "F32", trace.features.shape().to_vec(), floats(&mut trace.features.iter().copied())),
        ("input_ids".to_owned(), "I64", vec![ids.len()], integers(&ids)),
        ("logits".to_owned(), "F32", trace.logits.shape().to_vec(), floats(&mut trace.logits.iter().copied())),
        ("token_ids".to_owned(), "I64", vec![tokens.len()], integers(&tokens)),
        ("image_embeds".to_owned(), "F32", vec![1, rows, width], floats(&mut trace.image_rows.iter().copied())),
    ];
    for (name, _, shape, bytes) in &mut tensors {
        *name = format!("case.0.{name}");
        if shape.is_empty() {
            shape.push(bytes.len());
        }
    }
    let metadata = json!({
        "format": 1, "reference": "itself", "cases": [{"name": "two", "prompt": prompt, "max_new_tokens": 5, "images": 2}],
    });
    let write = |tensors: &[_]| {
        std::fs::write(root.join("parity.safetensors"), safetensors(&metadata.to_string(), tensors)).unwrap();
    };
    write(&tensors);
    let report = gauge_json(&["package", "verify", text(&root), "--json"]);
    assert_eq!(report["passed"], true, "{report:#}");
    let case = &report["cases"][0];
    assert_eq!(case["prompt_tokens_equal"], true);
    assert!(case["image_embeds"]["max_absolute"].as_f64().unwrap() < 1e-4, "{case}");
    // The first value of the last merged row, by a tenth.
    let last = tensors.len() - 1;
    let at = (rows - 1) * width * 4;
    let changed = (trace.image_rows[[rows - 1, 0]] + 0.1).to_le_bytes();
    tensors[last].3[at..at + 4].copy_from_slice(&changed);
    write(&tensors);
    let report = gauge_json(&["package", "verify", text(&root), "--json"]);
    let difference = report["cases"][0]["image_embeds"]["max_absolute"].as_f64().unwrap();
    assert!((difference - 0.1).abs() < 1e-3, "{difference}");
    // Rows that were not merged are of another shape.
    tensors[last].2 = vec![rows, 1, width];
    write(&tensors);
    let error = gauge_fails(&["package", "verify", text(&root)], 102);
    assert!(error.contains("image_embeds: shape"), "{error}");
}

#[test]
fn a_run_over_tiled_images_counts_and_shares_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let package = tiled_package(folder.path(), "pico-llava-1.5", false);
    let run = |scheduling: &str| -> Vec<Value> {
        let output = folder.path().join(scheduling);
        gauge(&[
            "run",
            "--model",
            text(&package),
            "--benchmark",
            "pico-vqa",
            "--limit",
            "12",
            "--max-new-tokens",
            "4",
            "--output",
            text(&output),
            "--scheduling",
            scheduling,
        ])
        .assert()
        .success();
        let log = std::fs::read_to_string(output.join("tiled/pico-vqa/samples.jsonl")).unwrap();
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["record"].clone()).collect()
    };
    let (packed, alone) = (run("packed-tree"), run("one-by-one"));
    assert_eq!(packed.len(), 12);
    for (packed, alone) in packed.iter().zip(&alone) {
        assert_eq!(packed["token_ids"], alone["token_ids"]);
        assert_eq!(packed["failure"], Value::Null);
        // The pictures are square: a view and half of a grid of two.
        let rows = 64 + 8 * 9;
        let tokens = packed["prompt_tokens"].as_u64().unwrap();
        assert!((rows + 20..rows + 120).contains(&tokens), "{tokens}");
    }
}

#[test]
fn a_run_asks_conversations_with_images_at_their_marks() {
    let folder = tempfile::tempdir().unwrap();
    let (package, data) = (tiled_package(folder.path(), "pico-llava-v1", false), folder.path().join("data"));
    std::fs::create_dir(&data).unwrap();
    picture(&data, 64, 128);
    picture(&data, 300, 100);
    let rows = json!([
        {"id": "pair", "image": ["64x128.png", "300x100.png"], "conversations": [
            {"from": "human", "value": "Is <image> like <image>?"}, {"from": "gpt", "value": "no"}]},
        {"id": "turns", "image": ["64x128.png", "300x100.png"], "conversations": [
            {"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A sign."},
            {"from": "human", "value": "And <image>?"}, {"from": "gpt", "value": "another"}]},
        {"id": "plain", "image": ["64x128.png", "300x100.png"], "conversations": [
            {"from": "human", "value": "Compare."}, {"from": "gpt", "value": "no"}]},
        {"id": "text", "conversations": [{"from": "human", "value": "Hello."}, {"from": "gpt", "value": "no"}]},
        {"id": "sliver", "image": "none.png", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    ]);
    std::fs::write(data.join("questions.json"), rows.to_string()).unwrap();
    let toml = std::fs::read_to_string(root().join("tests/fixtures/benchmark/llava_conversations/benchmark.toml")).unwrap();
    let benchmark = data.join("talk.toml");
    std::fs::write(&benchmark, toml.replace("pictures/{image}", "{image}")).unwrap();
    let output = folder.path().join("runs");
    let arguments = ["run", "--model", text(&package), "--benchmark", text(&benchmark), "--output", text(&output)];
    gauge(&[&arguments[..], &["--max-failed", "50"]].concat()).assert().success();
    let log = std::fs::read_to_string(output.join("tiled/conversations-excerpt/samples.jsonl")).unwrap();
    let records: std::collections::BTreeMap<String, Value> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["record"].clone())
        .map(|record| (record["key"].as_str().unwrap().to_owned(), record))
        .collect();
    let prompt = |key: &str| records[key]["prompt"].as_str().unwrap();
    let instruction = "Answer the question using a single word or phrase.";
    assert!(prompt("pair").contains(&format!("Is <image> like <image>?\n{instruction}")), "{}", prompt("pair"));
    let turns = prompt("turns");
    let [first, answer, second] = ["What is this?", "A sign.", "And <image>?"].map(|part| turns.find(part).expect(turns));
    assert!(turns.find("<image>").unwrap() < first && first < answer && answer < second, "{turns}");
    assert_eq!(prompt("plain").matches("<image>").count(), 2);
    assert_eq!(prompt("text").matches("<image>").count(), 0);
    let rows = (64 + 16 * 9) + (64 + 8 * 25);
    for key in ["pair", "turns", "plain"] {
        assert!(records[key]["prompt_tokens"].as_u64().unwrap() > rows, "{key}");
        assert_eq!(records[key]["failure"], Value::Null, "{key}");
        assert_eq!(records[key]["timings"]["group"]["questions"], json!(3), "the three share their images");
    }
    assert!(records["text"]["prompt_tokens"].as_u64().unwrap() < 200);
    assert_eq!(records["sliver"]["failure"]["kind"], "image");

    // Asked alone, the conversation is answered alike.
    let talk = data.join("talk.json");
    let earlier = json!([
        {"role": "user", "text": "<image>\nWhat is this?", "images": ["64x128.png"]}, {"role": "assistant", "text": "A sign."},
    ]);
    std::fs::write(&talk, earlier.to_string()).unwrap();
    let question = format!("And <image>?\n{instruction}");
    let image = data.join("300x100.png");
    let asked = gauge_json(&[
        "ask",
        text(&package),
        "--conversation",
        text(&talk),
        "--image",
        text(&image),
        "--prompt",
        &question,
        "--max-new-tokens",
        "32",
        "--json",
    ]);
    assert_eq!(asked["prompt"], records["turns"]["prompt"]);
    assert_eq!(asked["token_ids"], records["turns"]["token_ids"]);
}
