//! CLIP packages as a user meets them: exported, verified against transformers, asked, run on zero-shot and retrieval benchmarks
//! with the results of CLIP_benchmark, and refused where they do not fit.
//!
//! `tests/parity/clip_parity.py` made the checkpoints and their fixtures, `tests/fixtures/clip/make_expected.py` the data set and
//! what CLIP_benchmark says of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod export_support;

use std::path::{Path, PathBuf};

use common::{gauge, gauge_fails, gauge_json, gauge_output, results_without_timings, root, text};
use export_support::{copy_folder, edit_json, read_tensors, write_tensors};
use serde_json::{Value, json};

fn recorded(name: &str) -> PathBuf {
    root().join("tests/parity/recorded-clip").join(name)
}

fn data() -> PathBuf {
    root().join("tests/fixtures/clip")
}

/// Exports a recorded checkpoint, its parity fixture beside it.
fn export(name: &str, folder: &Path) -> PathBuf {
    let package = folder.join(name);
    gauge(&["export", text(&recorded(name)), "-o", text(&package)]).assert().success();
    std::fs::copy(recorded(name).join("parity.safetensors"), package.join("parity.safetensors")).unwrap();
    package
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn recorded_checkpoints_embed_and_rank_like_transformers() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["plain", "legacy-fp16"] {
        let package = export(name, folder.path());
        let report = gauge_json(&["package", "verify", text(&package), "--json"]);
        assert_eq!(report["passed"], true, "{report:#}");
        assert_eq!((&report["images"], &report["texts"], &report["ranks_equal"]), (&json!(4), &json!(9), &json!(13)));
        assert_eq!(report["texts_with_equal_tokens"], 9, "{name}");
        // Embeddings of size 1 from a few dozen fp32 sums; a wrong row, mask or weight moves them by tenths.
        for stage in ["image_embeds", "text_embeds"] {
            assert!(number(&report[stage]["max_absolute"]) < 1e-4, "{name} {stage}: {report:#}");
        }
        assert_eq!(number(&report["pixels"]["max_absolute"]), 0.0, "PNG files have no rounding of their own");
    }
}

#[test]
fn manifests_say_what_the_checkpoints_are() {
    let folder = tempfile::tempdir().unwrap();
    let plain = gauge_json(&["package", "inspect", text(&export("plain", folder.path())), "--hashes", "--json"]);
    let manifest = &plain["manifest"];
    assert_eq!((&manifest["kind"], &manifest["projection_size"]), (&json!("clip"), &json!(12)));
    assert_eq!(manifest["text"]["pooling"], json!({ "first-eos": 529 }));
    assert_eq!(manifest["text"]["maximum_tokens"], 77);
    assert!((number(&manifest["logit_scale"]) - 2.6592).abs() < 1e-6, "{manifest}");
    let names: Vec<&str> = manifest["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"model.safetensors") && !names.contains(&"weights.safetensors"), "fp32 weights stay where they are");
    let legacy = gauge_json(&["package", "inspect", text(&export("legacy-fp16", folder.path())), "--json"]);
    let manifest = &legacy["manifest"];
    assert_eq!((&manifest["text"]["pooling"], &manifest["source"]["checkpoint_dtype"]), (&json!("largest-id"), &json!("F16")));
    assert_eq!(manifest["precision"], json!({ "vision": "fp32", "text": "fp32" }));
    let names: Vec<&str> = manifest["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"weights.safetensors") && names.contains(&"tokenizer.json"), "{names:?}");
    let shown = gauge_output(&["package", "inspect", text(&folder.path().join("plain"))]);
    for part in ["CLIP", "first token 529", "2 layers × 16", "fp32/fp32"] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
}

#[test]
fn exporting_twice_gives_the_same_package_and_another_one_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (one, checkpoint) = (folder.path().join("one"), recorded("plain"));
    let export = |extra: &[&str]| {
        let mut arguments = vec!["export", text(&checkpoint), "-o", text(&one)];
        arguments.extend(extra);
        gauge(&arguments).assert()
    };
    export(&["--name", "same"]).success();
    let before = export_support::contents(&one);
    export(&["--name", "same"]).success();
    assert_eq!(export_support::contents(&one), before);
    export(&["--name", "other"]).code(102);
    assert_eq!(export_support::contents(&one), before);
    export(&["--name", "other", "--force"]).success();
    // A checkpoint may become its own package.
    let own = folder.path().join("own");
    copy_folder(&checkpoint, &own);
    gauge(&["export", text(&own), "-o", text(&own)]).assert().success();
    gauge(&["package", "verify", text(&own)]).assert().success();
}

#[test]
fn a_changed_weight_fails_verification() {
    let folder = tempfile::tempdir().unwrap();
    let package = export("plain", folder.path());
    let path = package.join("model.safetensors");
    let mut tensors = read_tensors(&path);
    let projection = tensors.iter_mut().find(|tensor| tensor.name == "text_projection.weight").unwrap();
    for number in projection.data.chunks_exact_mut(4).take(12) {
        number.copy_from_slice(&3.0_f32.to_le_bytes());
    }
    // A new file of the same length: the package's may be a hard link to the checkpoint's.
    let mut bytes = std::fs::read(&path).unwrap();
    let old = read_tensors(&path);
    let place = old.iter().find(|tensor| tensor.name == "text_projection.weight").unwrap();
    let changed = tensors.iter().find(|tensor| tensor.name == "text_projection.weight").unwrap();
    let at = bytes.windows(place.data.len()).position(|window| window == place.data).unwrap();
    bytes[at..at + changed.data.len()].copy_from_slice(&changed.data);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    gauge(&["package", "verify", text(&package)]).assert().code(101);
    gauge(&["package", "inspect", text(&package), "--hashes"]).assert().code(102);
    std::fs::remove_file(package.join("parity.safetensors")).unwrap();
    let error = gauge_fails(&["package", "verify", text(&package)], 102);
    assert!(error.contains("no parity fixture"), "{error}");
}

#[test]
fn classify_orders_labels_by_probability() {
    let folder = tempfile::tempdir().unwrap();
    let package = export("plain", folder.path());
    let image = data().join("images/00.png");
    let mut arguments = vec!["classify", text(&package), "--image", text(&image), "--label", "red circle", "green box", "a cat"];
    let answer = gauge_json(&[&arguments[..], &["--json"]].concat());
    let labels = answer["images"][0]["labels"].as_array().unwrap();
    assert_eq!(labels.len(), 3);
    let probabilities: Vec<f64> = labels.iter().map(|label| number(&label["probability"])).collect();
    assert!(
        (probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9 && probabilities.is_sorted_by(|a, b| a >= b),
        "{probabilities:?}"
    );
    let first = labels[0]["label"].as_str().unwrap();
    assert!(gauge_output(&arguments).lines().next().unwrap().ends_with(first));
    // The softmax of cosines times e^logit_scale.
    let cosine = |index: usize| number(&labels[index]["cosine"]);
    let ratio = ((cosine(1) - cosine(0)) * 2.6592_f64.exp()).exp();
    assert!((probabilities[1] / probabilities[0] - ratio).abs() < 1e-5);
    arguments.extend(["--template", "a photo of a {c}.", "{}"]);
    let templated = gauge_json(&[&arguments[..], &["--json"]].concat());
    assert_eq!(templated["templates"], json!(["a photo of a {c}.", "{}"]));
    assert_ne!(templated["images"], answer["images"]);
    arguments.push("a photo");
    assert!(gauge_fails(&arguments, 96).contains("{c}"));
}

/// Runs a package on both benchmarks and returns the folder of its runs.
fn run_both(package: &Path, data: &Path, runs: &Path) {
    let benchmarks = ["zero_shot.toml", "retrieval.toml"].map(|name| data.join(name));
    let [zero_shot, retrieval] = benchmarks.each_ref().map(|path| text(path));
    gauge(&["run", "--model", text(package), "--benchmark", zero_shot, retrieval, "-o", text(runs)]).assert().success();
}

/// Values of a run's metrics.
fn metrics(run: &Path) -> Value {
    let summary: Value = serde_json::from_slice(&std::fs::read(run.join("summary.json")).unwrap()).unwrap();
    let values = summary["metrics"].as_array().unwrap().iter();
    values.map(|metric| (metric["name"].as_str().unwrap().to_owned(), metric["estimate"]["value"].clone())).collect()
}

#[test]
fn runs_give_the_metrics_of_clip_benchmark() {
    let folder = tempfile::tempdir().unwrap();
    let package = export("plain", folder.path());
    let runs = folder.path().join("runs");
    run_both(&package, &data(), &runs);
    let expected: Value = serde_json::from_slice(&std::fs::read(data().join("expected.json")).unwrap()).unwrap();
    for (run, part) in [("shapes-zero-shot", "classification"), ("shapes-retrieval", "retrieval")] {
        let found = metrics(&runs.join("plain").join(run));
        for (metric, value) in expected[part].as_object().unwrap() {
            // CLIP_benchmark averages in 32 bits.
            let difference = number(&found[metric]) - 100.0 * number(value);
            assert!(difference.abs() < 1e-4, "{run} {metric}: {} instead of {value}", found[metric]);
        }
    }
    let found = metrics(&runs.join("plain/shapes-retrieval"));
    let mean = (number(&found["text_retrieval_recall@5"]) + number(&found["image_retrieval_recall@5"])) / 2.0;
    assert!((number(&found["recall@5"]) - mean).abs() < 1e-9, "{found}");

    // Every class of every picture, in the reference's order and with its logits.
    let log = std::fs::read_to_string(runs.join("plain/shapes-zero-shot/samples.jsonl")).unwrap();
    let names: Value = serde_json::from_slice(&std::fs::read(data().join("class_names.json")).unwrap()).unwrap();
    for (line, logits) in log.lines().zip(expected["logits"].as_array().unwrap()) {
        let record = &serde_json::from_str::<Value>(line).unwrap()["record"];
        let mut pairs: Vec<(&str, f64)> = names["shapes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .zip(logits.as_array().unwrap().iter().map(number))
            .collect();
        pairs.sort_by(|a, b| b.1.total_cmp(&a.1));
        let found: Vec<&str> =
            record["detail"]["ranking"].as_array().unwrap().iter().map(|label| label.as_str().unwrap()).collect();
        assert_eq!(found, pairs.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        assert_eq!(record["text"], pairs[0].0);
        for (found, (_, expected)) in record["detail"]["scores"].as_array().unwrap().iter().zip(&pairs) {
            assert!((number(found) - expected).abs() < 1e-3, "{found} instead of {expected}");
        }
    }

    // Scored again from the log, without a model.
    for (toml, run) in [("zero_shot.toml", "shapes-zero-shot"), ("retrieval.toml", "shapes-retrieval")] {
        let predictions = runs.join("plain").join(run).join("samples.jsonl");
        let scores = gauge_json(&["score", text(&data().join(toml)), "--predictions", text(&predictions), "--json"]);
        for (metric, value) in metrics(&runs.join("plain").join(run)).as_object().unwrap() {
            assert_eq!(&scores["metrics"][metric]["value"], value, "{run} {metric}");
        }
    }
}

#[test]
fn runs_compare_and_report_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    for name in ["plain", "legacy-fp16"] {
        run_both(&export(name, folder.path()), &data(), &runs);
    }
    let comparison = gauge_json(&["compare", text(&runs), "--base", "plain", "--json"]);
    assert_eq!(comparison["pairs"].as_array().unwrap().len(), 2, "{comparison:#}");
    let primary: Vec<&Value> = comparison["pairs"].as_array().unwrap().iter().map(|pair| &pair["metrics"][0]["name"]).collect();
    assert!(primary.contains(&&json!("acc@1")) && primary.contains(&&json!("recall@1")), "{primary:?}");
    let report = folder.path().join("report");
    gauge(&["report", text(&runs), "-o", text(&report)]).assert().success();
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    for part in [
        "Shapes, zero-shot",
        "mean_per_class_recall",
        "text_retrieval_recall@5",
        "of 7 classes",
        "image-to-text",
        "right one at rank",
    ] {
        assert!(page.contains(part), "{part:?} is not in the page");
    }
}

#[test]
fn a_continued_run_ends_like_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let package = export("plain", folder.path());
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    run_both(&package, &data(), &whole);
    run_both(&package, &data(), &broken);
    for run in ["shapes-zero-shot", "shapes-retrieval"] {
        let run = broken.join("plain").join(run);
        std::fs::remove_file(run.join("summary.json")).unwrap();
        let log = std::fs::read_to_string(run.join("samples.jsonl")).unwrap();
        // A group of retrieval samples is cut apart, and the last line is torn.
        std::fs::write(run.join("samples.jsonl"), log.lines().take(4).collect::<Vec<_>>().join("\n")).unwrap();
    }
    run_both(&package, &data(), &broken);
    assert_eq!(results_without_timings(&whole), results_without_timings(&broken));
}

#[test]
fn a_limit_takes_fewer_queries_and_keeps_all_candidates() {
    let folder = tempfile::tempdir().unwrap();
    let (package, runs) = (export("plain", folder.path()), folder.path().join("runs"));
    run_both(&package, &data(), &runs.join("whole"));
    let toml = data().join("retrieval.toml");
    let output = runs.join("part");
    let arguments = ["run", "--model", text(&package), "--benchmark", text(&toml), "-o", text(&output), "--limit", "6"];
    gauge(&arguments).assert().success();
    let records = |folder: &str| -> std::collections::BTreeMap<String, Value> {
        let log = std::fs::read_to_string(runs.join(folder).join("plain/shapes-retrieval/samples.jsonl")).unwrap();
        let record = |line: &str| serde_json::from_str::<Value>(line).unwrap()["record"].clone();
        log.lines().map(record).map(|record| (record["key"].as_str().unwrap().to_owned(), record["detail"].clone())).collect()
    };
    let (whole, part) = (records("whole"), records("part"));
    assert_eq!(part.len(), 6);
    assert!(part.iter().all(|(key, detail)| &whole[key] == detail), "the same answers as among all");
}

#[test]
fn a_broken_image_fails_its_own_samples_only() {
    let folder = tempfile::tempdir().unwrap();
    let package = export("plain", folder.path());
    let data_copy = folder.path().join("data");
    copy_folder(&data(), &data_copy);
    std::fs::write(data_copy.join("images/03.png"), b"no picture").unwrap();
    let runs = folder.path().join("runs");
    let benchmark = |name: &str| data_copy.join(name);
    for (toml, failed) in [("zero_shot.toml", "1"), ("retrieval.toml", "captions")] {
        let toml = benchmark(toml);
        let arguments = ["run", "--model", text(&package), "--benchmark", text(&toml), "-o", text(&runs), "--max-failed", "50"];
        let summary = gauge_json(&[&arguments[..], &["--json"]].concat());
        let found = summary["runs"][0]["failed"].as_u64().unwrap();
        assert!(if failed == "1" { found == 1 } else { found >= 2 }, "{found} failed");
    }
    let log = std::fs::read_to_string(runs.join("plain/shapes-retrieval/samples.jsonl")).unwrap();
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["record"].clone()).collect();
    let of_broken = |record: &Value| record["cluster"] == "03.png";
    assert!(records.iter().filter(|record| of_broken(record)).all(|record| record["failure"]["kind"] == "image"));
    for record in records.iter().filter(|record| !of_broken(record)) {
        assert!(record["failure"].is_null() && !record["detail"]["ranking"].as_array().unwrap().contains(&json!("03.png")));
    }
}

#[test]
fn kinds_that_do_not_fit_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (package, runs) = (export("plain", folder.path()), folder.path().join("runs"));
    let (zero_shot, image) = (data().join("zero_shot.toml"), data().join("images/00.png"));
    let (clip, output, zero_shot) = (text(&package), text(&runs), text(&zero_shot));
    for (arguments, code, parts) in [
        (
            &["run", "--model", clip, "--benchmark", "pico-vqa", "-o", output][..],
            96,
            &["CLIP package", "pico-vqa", "needs a LLaVA package"][..],
        ),
        (
            &["run", "--model", "pico-llava-1.5", "--benchmark", zero_shot, "-o", output],
            96,
            &["LLaVA package", "shapes-zero-shot", "needs a CLIP package"],
        ),
        (
            &["run", "--model", "pico-llava-1.5", clip, "--benchmark", zero_shot, "-o", output],
            96,
            &["pico-llava-1.5", "needs a CLIP package"],
        ),
        (
            &["ask", clip, "--image", text(&image), "--prompt", "What?"],
            102,
            &["CLIP package", "`classify`", "a LLaVA package is needed"],
        ),
        (
            &["classify", "pico-llava-1.5", "--image", text(&image), "--label", "x"],
            102,
            &["LLaVA package", "a CLIP package is needed"],
        ),
        (&["classify", clip, "--image", "nowhere.png", "--label", "x"], 102, &["nowhere.png"]),
    ] {
        let error = gauge_fails(arguments, code);
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
        assert_eq!(error.trim().lines().count(), 1, "one error, found {error}");
    }
    assert!(!runs.exists(), "nothing ran");
}

/// A recorded checkpoint that a test spoils, and the message of the refusal.
fn refused(name: &str, spoil: impl FnOnce(&Path), extra: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, package) = (folder.path().join("checkpoint"), folder.path().join("package"));
    copy_folder(&recorded(name), &checkpoint);
    spoil(&checkpoint);
    let mut arguments = vec!["export", text(&checkpoint), "-o", text(&package)];
    arguments.extend(extra);
    let error = gauge_fails(&arguments, 102);
    assert!(!package.join("package.toml").exists(), "a refused export left a package");
    error
}

#[test]
fn checkpoints_that_cannot_be_run_faithfully_are_refused() {
    let set = |path: &[&str], value: Value| {
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        move |checkpoint: &Path| {
            edit_json(&checkpoint.join("config.json"), |config| match path.as_slice() {
                [key] => drop(config.insert(key.clone(), value)),
                [parent, key] => drop(config[parent].as_object_mut().unwrap().insert(key.clone(), value)),
                _ => panic!("{path:?}"),
            });
        }
    };
    let cases: [(Vec<&str>, Value, &[&str]); 15] = [
        (vec!["model_type"], json!("siglip"), &["model_type", "siglip", "CLIPModel"]),
        (vec!["model_type"], json!("clip_vision_model"), &["model_type", "clip_vision_model", "CLIPModel"]),
        (vec!["architectures"], json!(["CLIPForImageClassification"]), &["architectures", "CLIPModel"]),
        (vec!["quantization_config"], json!({"quant_method": "gptq"}), &["quantization_config", "not quantised"]),
        (vec!["text_config", "model_type"], json!("siglip_text_model"), &["text_config.model_type", "clip_text_model"]),
        (vec!["text_config", "hidden_act"], json!("gelu_new"), &["text_config.hidden_act", "quick_gelu, gelu"]),
        (vec!["text_config", "eos_token_id"], json!(530), &["text_config.eos_token_id", "below vocab_size = 530"]),
        (vec!["text_config", "eos_token_id"], json!([1, 2]), &["text_config.eos_token_id"]),
        (
            vec!["text_config", "num_attention_heads"],
            json!(3),
            &["text_config.num_attention_heads", "a divisor of hidden_size = 16"],
        ),
        (vec!["text_config", "max_position_embeddings"], json!(1), &["max_position_embeddings"]),
        (vec!["text_config", "vocab_size"], json!(531), &["token_embedding.weight", "[530, 16]", "[531, 16]"]),
        (vec!["vision_config", "image_size"], json!(39), &["crop_size", "39 x 39"]),
        (vec!["vision_config", "num_channels"], json!(1), &["vision_config.num_channels"]),
        (vec!["vision_config", "patch_size"], json!(64), &["vision_config.image_size"]),
        (vec!["projection_dim"], json!(16), &["visual_projection.weight", "[12, 24]", "[16, 24]"]),
    ];
    for (path, value, parts) in cases {
        let error = refused("plain", set(&path, value.clone()), &[]);
        for part in parts {
            assert!(error.contains(part), "{path:?} = {value}: {part:?} is not in {error}");
        }
    }
}

#[test]
fn damaged_checkpoint_files_are_refused() {
    let tensors = |change: fn(&mut Vec<export_support::Tensor>)| {
        move |checkpoint: &Path| {
            let path = checkpoint.join("model.safetensors");
            let mut tensors = read_tensors(&path);
            change(&mut tensors);
            write_tensors(&path, &tensors);
        }
    };
    let error = refused("plain", tensors(|all| all.retain(|tensor| tensor.name != "text_model.final_layer_norm.bias")), &[]);
    assert!(error.contains("\"text_model.final_layer_norm.bias\"") && error.contains("missing"), "{error}");
    let error = refused("plain", tensors(|all| all.retain(|tensor| tensor.name != "logit_scale")), &[]);
    assert!(error.contains("\"logit_scale\"") && error.contains("missing"), "{error}");
    let error = refused("plain", tensors(|all| all[0].name = "text_model.surprise".to_owned()), &[]);
    assert!(error.contains("missing") || error.contains("surprise"), "{error}");
    let extra = move |checkpoint: &Path| {
        let path = checkpoint.join("model.safetensors");
        let mut all = read_tensors(&path);
        let copy = all.iter().find(|tensor| tensor.name == "visual_projection.weight").unwrap().clone();
        all.push(export_support::Tensor { name: "classifier.weight".to_owned(), ..copy });
        write_tensors(&path, &all);
    };
    let error = refused("plain", extra, &[]);
    assert!(error.contains("unexpected tensor") && error.contains("classifier.weight"), "{error}");
    let hot = tensors(|all| {
        let scale = all.iter_mut().find(|tensor| tensor.name == "logit_scale").unwrap();
        scale.data = f32::INFINITY.to_le_bytes().to_vec();
    });
    let error = refused("plain", hot, &[]);
    assert!(error.contains("logit_scale") && error.contains("logarithm"), "{error}");
    let cut = |checkpoint: &Path| {
        let path = checkpoint.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 5]).unwrap();
    };
    assert!(refused("plain", cut, &[]).contains("truncated"));

    let remove = |name: &'static str| move |checkpoint: &Path| std::fs::remove_file(checkpoint.join(name)).unwrap();
    assert!(refused("plain", remove("tokenizer.json"), &[]).contains("vocab.json and merges.txt"));
    assert!(refused("legacy-fp16", remove("merges.txt"), &[]).contains("vocab.json and merges.txt"));
    assert!(refused("plain", remove("model.safetensors"), &[]).contains("model.safetensors"));
    let write = |name: &'static str, content: &'static str| {
        move |checkpoint: &Path| std::fs::write(checkpoint.join(name), content).unwrap()
    };
    let error = refused("legacy-fp16", write("merges.txt", "#version: 0.2\nt h\nqq zz\n"), &[]);
    assert!(error.contains("merges.txt") && error.contains("line 3") && error.contains("qq"), "{error}");
    let error = refused("legacy-fp16", write("merges.txt", "t h e\n"), &[]);
    assert!(error.contains("line 1") && error.contains("two tokens"), "{error}");
    let error = refused("legacy-fp16", write("vocab.json", "{\"a\": -1}"), &[]);
    assert!(error.contains("vocab.json") && error.contains("-1"), "{error}");
    let error = refused("legacy-fp16", write("vocab.json", "{\"a\": 1}"), &[]);
    assert!(error.contains("merges.txt") || error.contains("bos_token"), "{error}");
    assert!(refused("plain", write("tokenizer.json", "[]"), &[]).contains("tokenizer.json"));
    assert!(refused("plain", write("config.json", "{"), &[]).contains("config.json"));

    let error = refused("plain", |_| {}, &["--conversation", "llava_v1"]);
    assert!(error.contains("--conversation") && error.contains("CLIP itself"), "{error}");
    let tower = recorded("plain");
    let error = refused("plain", |_| {}, &["--vision-tower", text(&tower)]);
    assert!(error.contains("--vision-tower") && error.contains("CLIP itself"), "{error}");
}

#[test]
fn packages_that_somebody_changed_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let package = export("plain", folder.path());
    let path = package.join("package.toml");
    let manifest = std::fs::read_to_string(&path).unwrap();
    for (from, to, parts) in [
        ("kind = \"clip\"", "kind = \"blip\"", &["kind", "blip", "\"clip\""][..]),
        ("kind = \"clip\"\n", "", &["package.toml"]),
        ("format = 1", "format = 9", &["format", "9"]),
        ("projection_size = 12", "projection_size = 13", &["vision.onnx", "image_embeds", "13"]),
        ("projection_size = 12", "projection_size = 0", &["projection_size", "1 to"]),
        ("image_size = 32", "image_size = 33", &["vision.onnx", "pixel_values"]),
        ("maximum_tokens = 77", "maximum_tokens = 70000", &["text.maximum_tokens"]),
        ("graph = \"text.onnx\"", "graph = \"../text.onnx\"", &["../text.onnx"]),
        ("name = \"tokenizer.json\"", "name = \"tokenizer2.json\"", &["tokenizer2.json"]),
        ("projection_size = 12", "surprise = 1\nprojection_size = 12", &["surprise"]),
    ] {
        assert!(manifest.contains(from), "{from}");
        std::fs::write(&path, manifest.replacen(from, to, 1)).unwrap();
        let error = gauge_fails(&["package", "inspect", text(&package)], 102);
        for part in parts {
            assert!(error.contains(part), "{to:?}: {part:?} is not in {error}");
        }
    }
    let scale = manifest.lines().find(|line| line.starts_with("logit_scale")).unwrap();
    std::fs::write(&path, manifest.replacen(scale, "logit_scale = 1e9", 1)).unwrap();
    assert!(gauge_fails(&["package", "inspect", text(&package)], 102).contains("logit_scale"));
}

#[test]
fn a_stop_signal_ends_a_run_and_keeps_what_is_stored() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use llava_gauge::benchmark::Benchmark;
    use llava_gauge::engine::{ClipEncoder, EngineOptions};
    use llava_gauge::package::ClipPackage;
    use llava_gauge::prompt::ClipTokenizer;
    use llava_gauge::run::{ClipConductor, Outcome, Plan, Progress, ProgressUpdate};
    use llava_gauge::store::{Run, RunWriter};

    /// Sets the signal once so many samples are recorded, or at the first batch of texts.
    struct StopAfter<'a>(Option<usize>, &'a AtomicBool);

    impl Progress for StopAfter<'_> {
        fn update(&mut self, update: &ProgressUpdate) {
            if self.0.is_some_and(|records| update.recorded >= records) {
                self.1.store(true, Ordering::Relaxed);
            }
        }

        fn texts(&mut self, done: usize, total: usize) {
            assert!(done < total);
            if self.0.is_none() {
                self.1.store(true, Ordering::Relaxed);
            }
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let root = export("plain", folder.path());
    run_both(&root, &data(), &folder.path().join("whole"));
    let package = ClipPackage::open(&root).unwrap();
    let mut encoder = ClipEncoder::load(&package, &EngineOptions::default()).unwrap();
    let tokenizer = ClipTokenizer::open(&package).unwrap();
    for (toml, name) in [("zero_shot.toml", "shapes-zero-shot"), ("retrieval.toml", "shapes-retrieval")] {
        let benchmark = Benchmark::load(text(&data().join(toml)), None).unwrap();
        let plan = Plan::new(&benchmark.samples, None);
        let header = Run::open(&folder.path().join("whole/plain").join(name)).unwrap().header;
        for (stop_after, at_most) in [(None, 0), (Some(3), 6)] {
            let directory = folder.path().join(format!("{name}-{at_most}"));
            let (mut writer, recovered) = RunWriter::open_or_resume(&directory, &header).unwrap();
            let stop = AtomicBool::new(false);
            let recipe = &package.manifest.image;
            let conductor =
                ClipConductor { benchmark: &benchmark, plan: &plan, tokenizer: &tokenizer, image_recipe: recipe, stop: &stop };
            let outcome = conductor.run(&mut encoder, &mut writer, &recovered, &mut StopAfter(stop_after, &stop)).unwrap();
            assert_eq!(outcome, Outcome::Interrupted, "{name}");
            drop(writer);
            let stored = Run::open(&directory).unwrap().records.len();
            assert!(stored >= stop_after.unwrap_or(0) && stored <= at_most, "{name}: {stored} records");
        }
    }
}
