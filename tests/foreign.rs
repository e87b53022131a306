//! Packages that other programs wrote. `tests/fixtures/foreign/make_foreign.py` made them all of one random checkpoint, with
//! the interfaces of each layout, and recorded what transformers answers: so must each of them, and our own package.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod export_support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{gauge, gauge_fails, gauge_json, gauge_output, root, text};
use export_support::{copy_folder, edit_json};
use llava_gauge::onnx::proto::{
    DimensionProto, DimensionValue, ModelProto, NodeProto, StringStringEntryProto, TensorProto, ValueInfoProto, data_type,
};
use llava_gauge::store::Run;
use prost::Message;
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/foreign").join(name)
}

/// A copy of a layout that a test may change.
struct Copy {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Copy {
    fn of(name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&fixture(name), &folder.path().join(name));
        Self { folder, name }
    }

    /// The transformers.js layout with another decoder in full precision.
    fn with_decoder(name: &str) -> Self {
        let copy = Self::of("transformers-js");
        fs::copy(fixture(&format!("decoders/{name}.onnx")), copy.path(DECODER)).unwrap();
        copy
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root().join(file)
    }

    fn edit_graph(&self, file: &str, change: impl FnOnce(&mut ModelProto)) {
        let mut model = ModelProto::decode(fs::read(self.path(file)).unwrap().as_slice()).unwrap();
        change(&mut model);
        fs::write(self.path(file), model.encode_to_vec()).unwrap();
    }

    /// The refusal that `package inspect` and `ask` both end in.
    fn refusal(&self, arguments: &[&str]) -> String {
        let root = self.root();
        let inspected = gauge_fails(&[&["package", "inspect", text(&root)], arguments].concat(), 102);
        let image = fixture("image0.png");
        let asked = [&["ask", text(&root), "--image", text(&image), "--prompt", "no"], arguments].concat();
        assert_eq!(gauge_fails(&asked, 102), inspected);
        assert!(!inspected.contains("panicked"), "{inspected}");
        inspected
    }
}

const DECODER: &str = "onnx/decoder_model_merged.onnx";
const VISION: &str = "onnx/vision_encoder.onnx";
const EMBEDDING: &str = "onnx/embed_tokens.onnx";

/// Every way of running, with what its graphs allow.
fn packages() -> Vec<(Copy, &'static [&'static str], &'static str, &'static str)> {
    let batch = "answers are decoded in a batch; tried and proven at load";
    vec![
        (Copy::of("transformers-js"), &[][..], "shared-prefix", batch),
        (Copy::of("transformers-js"), &["--variant", "fp16"], "shared-prefix", batch),
        (Copy::of("genai"), &[], "shared-prefix", "(grouped-query attention); answers are decoded in a batch"),
        (Copy::of("mobius"), &[], "shared-prefix", batch),
        (Copy::with_decoder("attention_bias"), &[], "packed-tree", "takes position_ids and attention_bias; tried and proven"),
        (Copy::with_decoder("last_row"), &[], "shared-prefix", batch),
        (Copy::with_decoder("logits_to_keep"), &[], "shared-prefix", batch),
        (Copy::with_decoder("use_cache_branch"), &[], "shared-prefix", batch),
        (Copy::with_decoder("positions_by_length"), &[], "shared-prefix", "decoded one at a time, as a batch of two gives other"),
        (Copy::with_decoder("one_row_after_past"), &[], "one-by-one", "a run of several tokens after cached ones gives other"),
        (Copy::with_decoder("no_cache"), &[], "one-by-one", "no past_key_values: each token runs its whole sequence again"),
    ]
}

fn images(case: &Value) -> Vec<&str> {
    case["images"].as_array().unwrap().iter().map(|image| image.as_str().unwrap()).collect()
}

/// The longest answer in tokens, and all cases; the last two are of two images.
fn expected() -> (String, Vec<Value>) {
    let record: Value = serde_json::from_slice(&fs::read(fixture("expected.json")).unwrap()).unwrap();
    (record["new_tokens"].to_string(), record["cases"].as_array().unwrap().clone())
}

/// Generated ids as transformers counts them: with the token that ended the answer.
fn with_end(token_ids: &[u32], stop_reason: &str) -> Vec<u32> {
    let mut ids = token_ids.to_vec();
    if stop_reason == "eos" {
        ids.push(2);
    }
    ids
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn every_layout_answers_like_transformers() {
    let (limit, cases) = expected();
    for (index, (copy, variant, scheduling, reason)) in packages().into_iter().enumerate() {
        // Each package gets some of the cases here, one of them of two images, and all of one image in a benchmark below.
        let (of_one, of_two) = cases.split_at(cases.len() - 2);
        for case in of_one.iter().skip(index % 3).step_by(5).chain([&of_two[index % 2]]) {
            let root = copy.root();
            let images: Vec<PathBuf> = images(case).iter().map(|image| fixture(image)).collect();
            let mut arguments = vec!["ask", text(&root), "--prompt", case["question"].as_str().unwrap()];
            images.iter().for_each(|image| arguments.extend(["--image", text(image)]));
            let answer = gauge_json(&[&arguments[..], &["--max-new-tokens", &limit, "--json"], variant].concat());
            assert_eq!(answer["prompt_token_ids"], case["prompt_token_ids"]);
            let found = with_end(&numbers(&answer["token_ids"]), answer["stop_reason"].as_str().unwrap());
            assert_eq!(found, numbers(&case["token_ids"]), "{root:?} {variant:?}");
            assert_eq!(answer["scheduling"]["name"], scheduling, "{root:?} {variant:?}");
            let why = answer["scheduling"]["reason"].as_str().unwrap();
            assert!(why.contains(reason), "{root:?}: {reason:?} is not in {why:?}");
            assert!(answer["timings_ms"].get("projector").is_none(), "its time is in the vision graph's");
        }
    }
}

/// A benchmark of all recorded cases: several questions about each image.
fn benchmark(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    fs::create_dir_all(&data).unwrap();
    let mut lines = String::new();
    for (index, case) in expected().1.iter().enumerate() {
        let &[image] = images(case).as_slice() else { continue };
        fs::copy(fixture(image), data.join(image)).unwrap();
        let line = json!({"question_id": index, "image": image, "text": case["question"], "label": "yes"});
        lines += &format!("{line}\n");
    }
    fs::write(data.join("all.json"), lines).unwrap();
    let path = folder.join("cases.toml");
    let toml = r#"
name = "cases"
title = "Recorded cases"
licence = "Apache-2.0"
source = "made by tests/foreign.rs"
[data]
root = "data"
format = "pope"
splits = [{ name = "all", file = "all.json" }]
image = "{image}"
[prompt]
template = "{question}"
source = "none"
[generation]
max_new_tokens = 8
[scorer]
kind = "pope"
primary_metric = "f1"
"#;
    fs::write(&path, toml).unwrap();
    path
}

fn run(package: &Path, benchmark: &Path, output: &Path, more: &[&str]) -> Run {
    let arguments = ["run", "--model", text(package), "--benchmark", text(benchmark), "-o", text(output)];
    gauge(&[&arguments[..], &["--max-failed", "100"], more].concat()).assert().success();
    let mut runs = llava_gauge::store::discover(&[output.to_path_buf()]).unwrap();
    assert_eq!(runs.len(), 1);
    Run::open(&runs.remove(0)).unwrap()
}

fn assert_answers(run: &Run, but_for: &str) {
    let cases = expected().1;
    assert_eq!(run.records.len(), cases.iter().filter(|case| images(case).len() == 1).count());
    for record in &run.records {
        let case = &cases[record.key.rsplit('/').next().unwrap().parse::<usize>().unwrap()];
        if !but_for.is_empty() && case["question"].as_str().unwrap().contains(but_for) {
            assert_eq!(record.failure.as_ref().map(|failure| failure.kind.as_str()), Some("non_finite"), "{}", record.key);
            continue;
        }
        assert_eq!(record.failure, None, "{}", record.key);
        let found = with_end(&record.token_ids, &record.stop_reason);
        assert_eq!(found, numbers(&case["token_ids"]), "{} of {}", record.key, run.header.model.name);
        assert_eq!(record.prompt_tokens, case["prompt_token_ids"].as_array().unwrap().len());
    }
}

#[test]
fn every_layout_runs_a_benchmark_like_transformers_and_like_our_own_package() {
    let folder = tempfile::tempdir().unwrap();
    let benchmark = benchmark(folder.path());
    let own = folder.path().join("own");
    gauge(&["export", text(&fixture("checkpoint")), "-o", text(&own)]).assert().success();
    let own = run(&own, &benchmark, &folder.path().join("runs-own"), &[]);
    assert_answers(&own, "");
    assert_eq!((own.header.settings.scheduling.as_str(), &own.header.settings.scheduling_reason), ("packed-tree", &None));
    let by_key = |run: &Run| -> BTreeMap<String, Vec<u32>> {
        run.records.iter().map(|record| (record.key.clone(), record.token_ids.clone())).collect()
    };
    for (index, (copy, variant, scheduling, reason)) in packages().into_iter().enumerate() {
        let output = folder.path().join(format!("runs-{index}"));
        let run = run(&copy.root(), &benchmark, &output, variant);
        assert_answers(&run, "");
        assert_eq!(by_key(&run), by_key(&own));
        let header = &run.header;
        assert_eq!(header.settings.scheduling, scheduling);
        assert!(header.settings.scheduling_reason.as_ref().unwrap().contains(reason));
        assert_eq!(header.model.precision.split('/').nth(1), Some("in vision"));
        let prompt_tokens: usize = run.records.iter().map(|record| record.prompt_tokens).sum();
        for record in &run.records {
            assert_eq!(record.timings.group.projector_ms, 0.0);
            // "USER: <image>" is shared by the four questions of an image: nine rows with the four of the image.
            let shares = record.timings.group.prefill_tokens * 3 < prompt_tokens;
            assert_eq!(shares, scheduling != "one-by-one", "{:?}", record.timings.group);
        }
    }
}

#[test]
fn the_reason_is_in_the_report_and_runs_continue() {
    let folder = tempfile::tempdir().unwrap();
    let benchmark = benchmark(folder.path());
    let package = fixture("genai");
    let output = folder.path().join("runs");
    let first = run(&package, &benchmark, &output, &[]);
    let again = run(&package, &benchmark, &output, &[]);
    assert_eq!((&first.header, &first.records), (&again.header, &again.records));
    let report = folder.path().join("report");
    gauge(&["report", text(&output), "-o", text(&report)]).assert().success();
    for file in ["index.html", "report.md", "results.json"] {
        let text = fs::read_to_string(report.join(file)).unwrap();
        assert!(text.contains("grouped-query attention"), "{file}");
    }
    // Two packages, one of them another program's, are compared like any others.
    let other = folder.path().join("other-runs");
    run(&fixture("mobius"), &benchmark, &other, &[]);
    let table = gauge_output(&["compare", text(&output), text(&other)]);
    assert!(table.contains("genai") && table.contains("mobius"), "{table}");
}

#[test]
fn one_by_one_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let benchmark = benchmark(folder.path());
    for copy in [Copy::of("genai"), Copy::with_decoder("attention_bias")] {
        let output = folder.path().join(format!("runs-{}", copy.name));
        let run = run(&copy.root(), &benchmark, &output, &["--scheduling", "one-by-one"]);
        assert_answers(&run, "");
        assert_eq!(run.header.settings.scheduling, "one-by-one");
        assert_eq!(run.header.settings.scheduling_reason.as_deref(), Some("as asked for"));
    }
}

/// A graph that quantises by the range of all rows of a run gives a question the answer that it has alone.
#[test]
fn what_quantises_as_it_runs_shares_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let benchmark = benchmark(folder.path());
    let copy = Copy::of("transformers-js");
    fs::copy(fixture("decoders/dynamic_int8.onnx"), copy.path("onnx/decoder_model_merged_quantized.onnx")).unwrap();
    let variant = ["--variant", "decoder_model_merged=q8"];
    let grouped = run(&copy.root(), &benchmark, &folder.path().join("grouped"), &variant);
    let alone =
        run(&copy.root(), &benchmark, &folder.path().join("alone"), &[&variant[..], &["--scheduling", "one-by-one"]].concat());
    assert_eq!((grouped.header.model.precision.as_str(), grouped.records.len()), ("fp32/in vision/q8", 12));
    assert_eq!(grouped.header.settings.scheduling, "one-by-one");
    let reason = grouped.header.settings.scheduling_reason.as_deref().unwrap();
    assert!(reason.contains("would change each other's answers"), "{reason}");
    for (one, other) in grouped.records.iter().zip(&alone.records) {
        assert_eq!((&one.key, &one.token_ids, &one.failure), (&other.key, &other.token_ids, &None));
        assert_eq!(one.log_probability, other.log_probability);
    }
}

#[test]
fn a_number_that_is_none_fails_its_own_questions() {
    let folder = tempfile::tempdir().unwrap();
    let benchmark = benchmark(folder.path());
    let copies = [
        Copy::of("transformers-js"),
        Copy::with_decoder("attention_bias"),
        Copy::with_decoder("positions_by_length"),
        Copy::with_decoder("no_cache"),
    ];
    for (index, copy) in copies.iter().enumerate() {
        // The row of "red", which stands in half of the questions and in no answer. The self-check at load meets it as well
        // and must look for other tokens.
        copy.edit_graph(EMBEDDING, |model| {
            let table = model.graph.as_mut().unwrap().initializer.iter_mut().find(|tensor| tensor.dims == [24, 16]).unwrap();
            let bytes = table.raw_data.as_mut().unwrap();
            bytes[14 * 64..14 * 64 + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        });
        let run = run(&copy.root(), &benchmark, &folder.path().join(format!("runs-{index}")), &[]);
        assert_answers(&run, "red");
        let scheduling = ["shared-prefix", "packed-tree", "shared-prefix", "one-by-one"][index];
        assert_eq!(run.header.settings.scheduling, scheduling, "{:?}", run.header.settings.scheduling_reason);
    }
}

#[test]
fn a_parity_fixture_is_replayed() {
    let report = gauge_json(&["package", "verify", text(&fixture("transformers-js")), "--json"]);
    assert_eq!((&report["passed"], &report["tokens"]), (&json!(true), &report["tokens_equal"]), "{report:#}");
    assert!(report["cases"].as_array().unwrap().iter().all(|case| case["features"].is_null()));
    // In 16 bits the logits are off by more than a full-precision package may be, and by no more than 16 bits explain.
    let report = gauge_json(&["package", "verify", text(&fixture("transformers-js")), "--variant", "fp16", "--json"]);
    assert_eq!((&report["passed"], &report["tokens"]), (&json!(true), &report["tokens_equal"]), "{report:#}");
    let number = |name: &str| report[name].as_f64().unwrap();
    assert!(number("max_logit_error") > number("max_logit_error_limit"));
    assert!(number("relative_logit_error") <= number("relative_logit_error_limit"));
}

#[test]
fn precisions_are_chosen_and_shown() {
    let copy = Copy::of("transformers-js");
    let inspect = |more: &[&str]| gauge_json(&[&["package", "inspect", text(&copy.root()), "--json"], more].concat());
    let manifest = |more: &[&str]| inspect(more)["manifest"].clone();
    let full = manifest(&[]);
    assert_eq!((&full["name"], &full["precision"]["llm"]), (&json!("transformers-js"), &json!("fp32")));
    assert!(full["foreign"]["choice"].as_str().unwrap().starts_with("fp32, the most exact that all graphs have"));
    let half = manifest(&["--variant", "fp16"]);
    assert_eq!((&half["name"], &half["precision"]["vision"]), (&json!("transformers-js-fp16"), &json!("fp16")));
    assert_eq!(half["foreign"]["decoder"]["cache"]["dtype"], "f16");
    assert_eq!(half["foreign"]["decoder"]["inputs_embeds"]["dtype"], "f32");
    let mixed = manifest(&["--variant", "decoder_model_merged=fp16"]);
    assert_eq!(mixed["name"], "transformers-js-fp32-fp32-fp16");
    assert_eq!(mixed["llm"]["graph"], "onnx/decoder_model_merged_fp16.onnx");
    assert_ne!(inspect(&[])["identity"], inspect(&["--variant", "fp16"])["identity"]);

    // Without a common precision the publisher's advice decides, then the most exact of each.
    fs::remove_file(copy.path(VISION)).unwrap();
    fs::rename(copy.path("onnx/decoder_model_merged_fp16.onnx"), copy.path("onnx/decoder_model_merged_q4f16.onnx")).unwrap();
    let graphs = |manifest: &Value| {
        [&manifest["vision"]["graph"], &manifest["llm"]["graph"]].map(|name| name.as_str().unwrap().to_owned())
    };
    assert_eq!(graphs(&manifest(&[])), ["onnx/vision_encoder_fp16.onnx", DECODER]);
    edit_json(&copy.path("config.json"), |config| {
        config.insert("transformers.js_config".into(), json!({"dtype": {"decoder_model_merged": "q4f16"}}));
    });
    let advised = manifest(&[]);
    assert_eq!(graphs(&advised), ["onnx/vision_encoder_fp16.onnx", "onnx/decoder_model_merged_q4f16.onnx"]);
    assert!(advised["foreign"]["choice"].as_str().unwrap().contains("transformers.js_config advises"));

    let copy = Copy::of("transformers-js");
    for (variant, part) in [("q4", "vision_encoder: fp32 fp16"), ("embed=fp16", "\"embed=fp16\""), ("embed_tokens=q4", "\"q4\"")]
    {
        let message = copy.refusal(&["--variant", variant]);
        assert!(message.contains("--variant") && message.contains(part), "{message}");
    }
    let message = Copy::of("genai").refusal(&["--variant", "fp16"]);
    assert!(message.contains("only the transformers.js layout"), "{message}");
    let message = gauge_fails(&["package", "inspect", "pico-llava-1.5", "--variant", "fp16"], 96);
    assert!(message.contains("has one precision"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_snapshot_of_a_cache_runs_in_place() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let repository = folder.path().join("models--someone--tiny-llava");
    let (blobs, snapshot) = (repository.join("blobs"), repository.join("snapshots/0123abcd"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(snapshot.join("onnx")).unwrap();
    let mut count = 0;
    for (inner, up) in [("", "../../blobs"), ("onnx", "../../../blobs")] {
        for entry in fs::read_dir(fixture("transformers-js").join(inner)).unwrap().map(|entry| entry.unwrap()) {
            if entry.file_type().unwrap().is_file() {
                count += 1;
                fs::copy(entry.path(), blobs.join(count.to_string())).unwrap();
                symlink(format!("{up}/{count}"), snapshot.join(inner).join(entry.file_name())).unwrap();
            }
        }
    }
    let (limit, cases) = expected();
    let image = fixture(images(&cases[0])[0]);
    let question = cases[0]["question"].as_str().unwrap();
    let arguments = ["ask", text(&snapshot), "--image", text(&image), "--prompt", question, "--max-new-tokens", &limit, "--json"];
    let answer = gauge_json(&arguments);
    assert_eq!(answer["package"], "tiny-llava");
    assert_eq!(
        with_end(&numbers(&answer["token_ids"]), answer["stop_reason"].as_str().unwrap()),
        numbers(&cases[0]["token_ids"])
    );
    // Another repository's blobs are none of its own.
    fs::create_dir_all(folder.path().join("models--other--one/blobs")).unwrap();
    fs::copy(blobs.join("1"), folder.path().join("models--other--one/blobs/1")).unwrap();
    fs::remove_file(snapshot.join("config.json")).unwrap();
    symlink("../../../models--other--one/blobs/1", snapshot.join("config.json")).unwrap();
    gauge_fails(&["package", "inspect", text(&snapshot)], 102);
}

fn port<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut Vec<DimensionProto> {
    let graph = model.graph.as_mut().unwrap();
    let port = graph.input.iter_mut().chain(&mut graph.output).find(|port| port.name.as_deref() == Some(name)).unwrap();
    &mut port.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap().dim
}

fn fixed(size: i64) -> DimensionProto {
    DimensionProto { value: Some(DimensionValue::DimValue(size)) }
}

fn rename(model: &mut ModelProto, from: &str, to: &str) {
    let graph = model.graph.as_mut().unwrap();
    for port in graph.input.iter_mut().chain(&mut graph.output) {
        if port.name.as_deref() == Some(from) {
            port.name = Some(to.to_owned());
        }
    }
}

fn another_input(model: &mut ModelProto, name: &str) {
    let graph = model.graph.as_mut().unwrap();
    let mut copy: ValueInfoProto = graph.input[0].clone();
    copy.name = Some(name.to_owned());
    graph.input.push(copy);
}

/// What cannot run is refused by name: file, field, what it is and what it should be.
#[test]
fn what_cannot_run_is_refused_by_name() {
    type Change = fn(&Copy);
    let cases: Vec<(&str, &'static str, Change, &[&str])> = vec![
        (
            "static cache",
            "transformers-js",
            |copy| copy.edit_graph(DECODER, |model| port(model, "past_key_values.0.key")[2] = fixed(64)),
            &[DECODER, "past_key_values.0.key", "for 64 rows exactly", "static cache"],
        ),
        (
            "mRoPE",
            "transformers-js",
            |copy| copy.edit_graph(DECODER, |model| port(model, "position_ids").insert(0, fixed(3))),
            &[DECODER, "position_ids", "of rank 3", "mRoPE"],
        ),
        (
            "any-res tiles",
            "transformers-js",
            |copy| copy.edit_graph(VISION, |model| port(model, "pixel_values").insert(1, fixed(5))),
            &[VISION, "pixel_values", "of rank 5", "any-res"],
        ),
        (
            "image sizes",
            "transformers-js",
            |copy| copy.edit_graph(VISION, |model| another_input(model, "image_sizes")),
            &[VISION, "image_sizes", "any-res"],
        ),
        (
            "a text model",
            "transformers-js",
            |copy| copy.edit_graph(DECODER, |model| rename(model, "inputs_embeds", "input_ids")),
            &[DECODER, "inputs_embeds", "text model"],
        ),
        (
            "an unknown input",
            "transformers-js",
            |copy| copy.edit_graph(DECODER, |model| another_input(model, "encoder_hidden_states")),
            &[DECODER, "encoder_hidden_states", "does not know"],
        ),
        (
            "half a cache",
            "transformers-js",
            |copy| copy.edit_graph(DECODER, |model| rename(model, "present.1.value", "other")),
            &[DECODER, "present.1.value", "missing"],
        ),
        (
            "no vision graph",
            "transformers-js",
            |copy| {
                ["", "_fp16"]
                    .iter()
                    .for_each(|sfx| fs::remove_file(copy.path(&format!("onnx/vision_encoder{sfx}.onnx"))).unwrap())
            },
            &["onnx", "graph vision_encoder", "missing"],
        ),
        (
            "no external data",
            "transformers-js",
            |copy| fs::remove_file(copy.path("onnx/decoder_model_merged.onnx_data")).unwrap(),
            &[DECODER, "external_data.location", "decoder_model_merged.onnx_data", "not there"],
        ),
        (
            "short external data",
            "transformers-js",
            |copy| fs::write(copy.path("onnx/decoder_model_merged.onnx_data"), [0; 100]).unwrap(),
            &[DECODER, "external_data.offset", "inside the 100 bytes"],
        ),
        (
            "external data outside",
            "transformers-js",
            |copy| {
                fs::copy(copy.path("onnx/decoder_model_merged.onnx_data"), copy.path("data")).unwrap();
                copy.edit_graph(DECODER, |model| {
                    for tensor in &mut model.graph.as_mut().unwrap().initializer {
                        for entry in tensor.external_data.iter_mut().filter(|entry| entry.key.as_deref() == Some("location")) {
                            entry.value = Some("../data".to_owned());
                        }
                    }
                });
            },
            &[DECODER, "external_data.location", "../data", "below"],
        ),
        (
            "an absolute location",
            "mobius",
            |copy| {
                copy.edit_graph("decoder/model.onnx", |model| {
                    let entry =
                        |key: &str, value: &str| StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) };
                    let tensor = TensorProto {
                        dims: vec![1],
                        data_type: Some(data_type::FLOAT),
                        name: Some("secret".to_owned()),
                        data_location: Some(1),
                        external_data: vec![entry("location", "/etc/hostname")],
                        ..TensorProto::default()
                    };
                    model.graph.as_mut().unwrap().initializer.push(tensor);
                });
            },
            &["decoder/model.onnx", "external_data.location of \"secret\"", "/etc/hostname"],
        ),
        (
            "embedded code",
            "mobius",
            |copy| {
                copy.edit_graph("embedding/model.onnx", |model| {
                    let node = NodeProto { op_type: Some("PyOp".to_owned()), ..NodeProto::default() };
                    model.graph.as_mut().unwrap().node.push(node);
                });
            },
            &["embedding/model.onnx", "PyOp"],
        ),
        (
            "not a graph",
            "mobius",
            |copy| fs::write(copy.path("decoder/model.onnx"), "text").unwrap(),
            &["decoder/model.onnx", "not an ONNX model"],
        ),
        (
            "an empty graph",
            "mobius",
            |copy| fs::write(copy.path("decoder/model.onnx"), "").unwrap(),
            &["decoder/model.onnx", "empty"],
        ),
        (
            "mobius without embedding",
            "mobius",
            |copy| fs::remove_file(copy.path("embedding/model.onnx")).unwrap(),
            &["graph embedding", "missing"],
        ),
        (
            "text alone",
            "genai",
            |copy| {
                edit_json(&copy.path("genai_config.json"), |json| drop(json["model"].as_object_mut().unwrap().remove("vision")))
            },
            &["genai_config.json", "model.vision", "text alone"],
        ),
        (
            "a pipeline",
            "genai",
            |copy| edit_json(&copy.path("genai_config.json"), |json| json["model"]["decoder"]["pipeline"] = json!([{"a": {}}])),
            &["genai_config.json", "model.decoder.pipeline", "several pieces"],
        ),
        (
            "a graph that is not there",
            "genai",
            |copy| edit_json(&copy.path("genai_config.json"), |json| json["model"]["vision"]["filename"] = json!("eyes.onnx")),
            &["genai_config.json", "model.vision.filename", "eyes.onnx"],
        ),
        (
            "a graph outside",
            "genai",
            |copy| edit_json(&copy.path("genai_config.json"), |json| json["model"]["vision"]["filename"] = json!("../v.onnx")),
            &["../v.onnx", "plain path below"],
        ),
        (
            "names without a layer",
            "genai",
            |copy| {
                edit_json(&copy.path("genai_config.json"), |json| {
                    json["model"]["decoder"]["inputs"]["past_key_names"] = json!("past")
                })
            },
            &["genai_config.json", "model.decoder.inputs.past_key_names", "%d"],
        ),
        (
            "genai without config.json",
            "genai",
            |copy| fs::remove_file(copy.path("config.json")).unwrap(),
            &["no config.json", "image token"],
        ),
        (
            "steps of onnxruntime-extensions",
            "genai",
            |copy| {
                fs::remove_file(copy.path("preprocessor_config.json")).unwrap();
                let steps = json!({"name": "image_processing", "transforms": [{"operation": {"type": "DecodeImage"}}]});
                edit_json(&copy.path("processor_config.json"), |json| drop(json.insert("processor".into(), steps)));
            },
            &["processor_config.json", "processor", "preprocessor_config.json"],
        ),
        (
            "another kind of model",
            "transformers-js",
            |copy| edit_json(&copy.path("config.json"), |json| drop(json.insert("model_type".into(), json!("qwen2_vl")))),
            &["config.json", "model_type", "qwen2_vl"],
        ),
        (
            "an any-res checkpoint",
            "transformers-js",
            |copy| {
                let pinpoints = json!([[8, 16], [16, 8]]);
                edit_json(&copy.path("config.json"), |json| {
                    json.insert("model_type".into(), json!("llava_next"));
                    json.insert("architectures".into(), json!(["LlavaNextForConditionalGeneration"]));
                    json.insert("image_grid_pinpoints".into(), pinpoints.clone());
                });
                edit_json(&copy.path("preprocessor_config.json"), |json| {
                    json.insert("image_processor_type".into(), json!("LlavaNextImageProcessor"));
                    json.insert("image_grid_pinpoints".into(), pinpoints);
                });
            },
            &["config.json", "is not supported"],
        ),
        (
            "an original configuration",
            "transformers-js",
            |copy| {
                edit_json(&copy.path("config.json"), |json| {
                    json.insert("architectures".into(), json!(["LlavaLlamaForCausalLM"]));
                    json.insert("mm_vision_tower".into(), json!("openai/clip-vit-large-patch14-336"));
                });
            },
            &["config.json", "architectures", "LlavaForConditionalGeneration"],
        ),
        (
            "other layers",
            "transformers-js",
            |copy| edit_json(&copy.path("config.json"), |json| json["text_config"]["num_hidden_layers"] = json!(3)),
            &["config.json", "text_config.num_hidden_layers is 3", "expected 2", DECODER],
        ),
        (
            "another vocabulary",
            "transformers-js",
            |copy| edit_json(&copy.path("config.json"), |json| json["text_config"]["vocab_size"] = json!(32)),
            &["config.json", "text_config.vocab_size is 32", "expected 24"],
        ),
        (
            "other patches",
            "transformers-js",
            |copy| edit_json(&copy.path("config.json"), |json| json["vision_config"]["patch_size"] = json!(2)),
            &["config.json", "patch_size", "expected 4", VISION],
        ),
        (
            "another image size",
            "transformers-js",
            |copy| edit_json(&copy.path("config.json"), |json| json["vision_config"]["image_size"] = json!(12)),
            &["config.json", "vision_config.image_size is 12", "expected 8"],
        ),
        ("no tokenizer", "transformers-js", |copy| fs::remove_file(copy.path("tokenizer.json")).unwrap(), &["tokenizer.json"]),
    ];
    for (what, layout, change, parts) in cases {
        let copy = Copy::of(layout);
        change(&copy);
        let message = copy.refusal(&[]);
        for part in parts {
            assert!(message.contains(part), "{what}: {part:?} is not in {message:?}");
        }
        assert_eq!(message.lines().count(), 1, "{what}: {message}");
    }
}

#[test]
fn a_folder_of_text_graphs_and_an_empty_one_are_told_apart() {
    let copy = Copy::of("transformers-js");
    for file in fs::read_dir(copy.path("onnx")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert!(copy.refusal(&[]).contains("no graphs in the layout of transformers.js, onnxruntime-genai or mobius"));
    fs::copy(fixture("mobius/decoder/model.onnx"), copy.path("onnx/model.onnx")).unwrap();
    let message = copy.refusal(&[]);
    assert!(message.contains("model.onnx") && message.contains("a language model alone"), "{message}");
}

/// A graph whose header is in order and which ONNX Runtime refuses is the package's fault, not the program's.
#[test]
fn a_graph_that_does_not_load_is_refused_by_name() {
    let copy = Copy::of("mobius");
    copy.edit_graph("decoder/model.onnx", |model| {
        model.graph.as_mut().unwrap().node[0].op_type = Some("NoSuchOperator".to_owned());
    });
    let (root, image) = (copy.root(), fixture("image0.png"));
    let message = gauge_fails(&["ask", text(&root), "--image", text(&image), "--prompt", "no"], 102);
    assert!(message.contains("decoder/model.onnx") && message.contains("NoSuchOperator"), "{message}");
}
