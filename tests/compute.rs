//! Exports that compute in 16 bits, for GPUs: what is in the files, and that graphs compute what those in 32 bits do. ONNX Runtime's
//! processor kernels run fp16 graphs by widening where they have no kernel, so that all but the last step of rounding is the GPU's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first thing that is not as it should be")]

mod common;
mod export_support;

use std::fs;
use std::path::{Path, PathBuf};

use common::{gauge, gauge_fails, root, text};
use export_support::{copy_folder, fixture, read_tensors};
use llava_gauge::engine::{
    ChoiceGroup, ChoiceRequest, Engine, EngineOptions, GroupAnswer, ImageGroup, ImageTiles, OrtEngine, Request, Schedule,
    Scheduling, Segment, StopReason, StopRule, WindowSink, cache_bytes_per_token,
};
use llava_gauge::export::{ExportOptions, StagePrecisionChoice, export};
use llava_gauge::onnx::{inspect_file, proto::data_type};
use llava_gauge::package::{Compute, GraphFlavor, Package, Precision, TensorDtype};
use ndarray::{Array2, Array4};

struct Never;

impl StopRule for Never {
    fn check(&self, _: &[u32]) -> Option<StopReason> {
        None
    }
}

/// Precisions of an export that computes in this type.
fn computing(compute: Compute) -> StagePrecisionChoice {
    StagePrecisionChoice { compute: Some(compute), ..StagePrecisionChoice::default() }
}

fn exported(checkpoint: &Path, output: &Path, flavor: GraphFlavor, precision: StagePrecisionChoice) -> Package {
    let options = ExportOptions { precision, flavor, ..ExportOptions::new(checkpoint, output) };
    export(&options).unwrap_or_else(|error| panic!("{}: {error}", checkpoint.display()))
}

/// A copy of a shipped checkpoint without the package that lies beside it.
fn shipped_checkpoint(name: &str, to: &Path) -> PathBuf {
    copy_folder(&root().join("exports").join(name), to);
    for file in ["package.toml", "weights.safetensors", "vision.onnx", "projector.onnx", "llm.onnx", "parity.safetensors"] {
        fs::remove_file(to.join(file)).unwrap();
    }
    to.to_path_buf()
}

fn options(scheduling: Scheduling) -> EngineOptions {
    EngineOptions { scheduling, intra_op_threads: 2, ..EngineOptions::default() }
}

fn image(package: &Package, seed: usize) -> ImageTiles {
    let side = package.manifest.vision.image_size;
    let pixel = |channel, y, x| ((channel * 64 + y * 7 + x * 3 + 11 * seed) as f32).sin();
    let pixels = Array4::from_shape_fn((1, 3, side, side), |(_, channel, y, x)| pixel(channel, y, x));
    ImageTiles { pixels, width: side as u32, height: side as u32 }
}

fn segments(question: &[u32]) -> Vec<Segment> {
    vec![Segment::Tokens(vec![1, 5, 9, 4]), Segment::Image(0), Segment::Tokens(question.to_vec())]
}

/// The logits of four steps after a prompt with an image, `[4, vocabulary]`.
fn logits(package: &Package) -> Array2<f32> {
    let mut engine = OrtEngine::load(package, &options(Scheduling::PackedTree)).unwrap();
    let request = Request { segments: segments(&[7, 3, 8, 6, 2]), max_new_tokens: 4, stop: &Never };
    engine.trace_single(&[image(package, 0)], &request, Some(&[3, 4, 5, 6])).unwrap().logits
}

/// The norm of the difference over that of the reference.
fn relative(found: &Array2<f32>, reference: &Array2<f32>) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    norm(&mut (found - reference).iter().copied()) / norm(&mut reference.iter().copied())
}

#[test]
fn checkpoints_in_16_bits_are_used_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("nested-fp16-tied", Compute::Fp16, data_type::FLOAT16, Precision::Fp16),
        ("transformers5-bf16-sharded", Compute::Bf16, data_type::BFLOAT16, Precision::Bf16),
    ];
    for (name, compute, element, precision) in cases {
        for flavor in GraphFlavor::ALL {
            let output = folder.path().join(format!("{name}-{}", flavor.as_str()));
            let package = exported(&fixture(name), &output, flavor, computing(compute));
            // Norms, biases and tables too: all that is written is what no checkpoint has.
            let written: Vec<String> = read_tensors(&output.join("weights.safetensors"))
                .into_iter()
                .map(|tensor| tensor.name)
                .filter(|name| !name.starts_with("padding."))
                .collect();
            assert_eq!(written, ["llm.rotary.cos", "llm.rotary.sin"], "{name}");
            let manifest = &package.manifest;
            assert_eq!([manifest.vision.compute, manifest.projector.compute, manifest.llm.compute], [Some(compute); 3]);
            assert_eq!([manifest.precision.vision, manifest.precision.projector, manifest.precision.llm], [precision; 3]);
            assert_eq!(manifest.llm.cache_dtype(), compute.dtype());

            let graph = inspect_file(&package.path("llm.onnx").unwrap()).unwrap();
            for port in graph.inputs.iter().chain(&graph.outputs) {
                let cache = port.name.starts_with("past_key_values.") || port.name.starts_with("present.");
                let float = ["inputs_embeds", "attention_bias", "logits"].contains(&port.name.as_str());
                assert!(!cache || port.element == element, "{}: {}", port.name, port.element);
                assert!(!float || port.element == data_type::FLOAT, "{}: {}", port.name, port.element);
            }
            let turned_outside =
                graph.operators.contains("com.microsoft.RotaryEmbedding") || graph.operators.contains("RotaryEmbedding");
            assert!(turned_outside, "{:?}", graph.operators);
            for file in ["vision.onnx", "projector.onnx"] {
                let graph = inspect_file(&package.path(file).unwrap()).unwrap();
                assert!(graph.inputs.iter().chain(&graph.outputs).all(|port| port.element == data_type::FLOAT), "{file}");
            }
            let again = exported(
                &fixture(name),
                &folder.path().join(format!("{name}-{}-again", flavor.as_str())),
                flavor,
                computing(compute),
            );
            assert_eq!(fs::read(again.root.join("llm.onnx")).unwrap(), fs::read(output.join("llm.onnx")).unwrap());
        }
    }
}

/// Each value is rounded to 11 bits, some dozens of times one after another: errors of some thousandths. A graph that computed in 32
/// bits would have errors of the weights alone, or none where the checkpoint is in fp16.
#[test]
fn graphs_in_16_bits_compute_what_those_in_32_bits_do() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = shipped_checkpoint("pico-llava-1.5", &folder.path().join("shipped"));
    for (case, checkpoint) in
        [("tied", fixture("nested-fp16-tied")), ("odd", fixture("transformers4-fp32")), ("shipped", shipped)]
    {
        let plain = StagePrecisionChoice { all: Some(Precision::Fp16), ..StagePrecisionChoice::default() };
        let reference = exported(&checkpoint, &folder.path().join(format!("{case}-fp32")), GraphFlavor::Contrib, plain);
        let reference = logits(&reference);
        for flavor in GraphFlavor::ALL {
            let output = folder.path().join(format!("{case}-{}", flavor.as_str()));
            let package = exported(&checkpoint, &output, flavor, computing(Compute::Fp16));
            let error = relative(&logits(&package), &reference);
            assert!(error < 1e-2, "{case} {}: the logits differ by {error:e} of their norm", flavor.as_str());
            assert!(error > 1e-5, "{case} {}: nothing was rounded ({error:e})", flavor.as_str());
        }
    }
}

/// An export in fp16 is as near the truth as transformers' own fp16 (`fixtures/compute/make_expected.py`).
#[test]
fn errors_are_those_of_transformers_in_16_bits() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = shipped_checkpoint("pico-llava-1.5", &folder.path().join("shipped"));
    let expected: serde_json::Value = serde_json::from_str(include_str!("fixtures/compute/expected.json")).unwrap();
    let of = |name: &str| {
        let rows: Vec<Vec<f32>> = serde_json::from_value(expected[name].clone()).unwrap();
        Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
    };
    let (full, half) = (of("float32"), of("float16"));
    let theirs = relative(&half, &full);
    assert!(theirs > 1e-4, "{theirs:e}");
    for flavor in GraphFlavor::ALL {
        let package = exported(&shipped, &folder.path().join(flavor.as_str()), flavor, computing(Compute::Fp16));
        let ours = relative(&logits(&package), &full);
        assert!(ours < 1.5 * theirs, "{}: {ours:e} of the norm, transformers {theirs:e}", flavor.as_str());
    }
}

/// Codes are the same; scales and activations are rounded to 11 bits.
#[test]
fn weights_in_blocks_are_multiplied_in_16_bits_too() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = fixture("transformers4-fp32");
    for (name, precision) in [("int4", Precision::Int4), ("int8-weights", Precision::Int8Weights)] {
        for (flavor, accuracy_level) in [(GraphFlavor::Contrib, Some(0)), (GraphFlavor::Standard, None)] {
            let path = |what: &str| folder.path().join(format!("{name}-{}-{what}", flavor.as_str()));
            let wide = StagePrecisionChoice { llm: Some(precision), accuracy_level, ..StagePrecisionChoice::default() };
            let narrow = StagePrecisionChoice { compute: Some(Compute::Fp16), ..wide.clone() };
            let wide = exported(&checkpoint, &path("wide"), flavor, wide);
            let narrow = exported(&checkpoint, &path("narrow"), flavor, narrow);
            assert_eq!((narrow.manifest.precision.vision, narrow.manifest.precision.llm), (Precision::Fp16, precision));
            let error = relative(&logits(&narrow), &logits(&wide));
            assert!(error < 2e-2, "{name} {}: the logits differ by {error:e} of their norm", flavor.as_str());
        }
    }
}

fn generated(answer: &GroupAnswer) -> Vec<(Vec<u32>, Vec<f32>)> {
    let of = |one: &Result<llava_gauge::engine::Generation, _>| {
        let one = one.as_ref().unwrap();
        (one.token_ids.clone(), one.log_probabilities.clone())
    };
    answer.answers.iter().map(of).collect()
}

#[derive(Default)]
struct Recorder(Vec<(usize, GroupAnswer)>);

impl WindowSink for Recorder {
    fn finished(&mut self, index: usize, answer: GroupAnswer) {
        self.0.push((index, answer));
    }

    fn stopped(&self) -> bool {
        false
    }
}

/// Keys and values in 16 bits, in every way of scheduling: packed, alone, and copied to slots that decode across images.
#[test]
fn caches_in_16_bits_hold_what_was_put_into_them() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = shipped_checkpoint("pico-llava-1.5", &folder.path().join("shipped"));
    for flavor in GraphFlavor::ALL {
        let package = exported(&shipped, &folder.path().join(flavor.as_str()), flavor, computing(Compute::Fp16));
        let stage = &package.manifest.llm;
        assert_eq!(cache_bytes_per_token(stage), 2 * 2 * stage.layers * stage.key_value_heads * stage.head_size);
        let questions: [&[u32]; 3] = [&[7, 3, 8, 6, 2], &[9, 9, 4], &[12, 5, 6, 30, 21, 17, 8]];
        let images = [[image(&package, 0)], [image(&package, 1)]];
        let requests = || -> Vec<Request<'static>> {
            questions.iter().map(|asked| Request { segments: segments(asked), max_new_tokens: 6, stop: &Never }).collect()
        };
        let mut packed = OrtEngine::load(&package, &options(Scheduling::PackedTree)).unwrap();
        let mut alone = OrtEngine::load(&package, &options(Scheduling::OneByOne)).unwrap();
        let mut across = OrtEngine::load(&package, &options(Scheduling::AcrossImages)).unwrap();
        assert!(across.takes_batches());
        across.set_schedule(&Schedule {
            scheduling: Scheduling::AcrossImages,
            reason: None,
            slots: 2,
            window_groups: 2,
            cache_tokens: 2_000,
        });
        let all = [requests(), requests()];
        let groups: Vec<ImageGroup<'_>> =
            images.iter().zip(&all).map(|(images, requests)| ImageGroup { images, requests }).collect();
        let mut recorder = Recorder::default();
        across.answer_window(&groups, &mut recorder).unwrap();
        recorder.0.sort_by_key(|(index, _)| *index);
        for (group, (_, crossed)) in groups.iter().zip(&recorder.0) {
            let expected = generated(&alone.answer(group).unwrap());
            for found in [generated(&packed.answer(group).unwrap()), generated(crossed)] {
                for ((tokens, numbers), (expected_tokens, expected_numbers)) in found.iter().zip(&expected) {
                    assert_eq!(tokens, expected_tokens, "{}", flavor.as_str());
                    for (number, expected) in numbers.iter().zip(expected_numbers) {
                        // The same numbers rounded to 11 bits in other orders, on logits of order 10.
                        assert!((number - expected).abs() < 0.05, "{}: {number} {expected}", flavor.as_str());
                    }
                }
            }
        }
        // Given answers, as branches of a pack and each alone.
        let candidates = vec![vec![3, 4, 5], vec![6], vec![8, 2]];
        let asked: Vec<ChoiceRequest> =
            questions.iter().map(|asked| ChoiceRequest { segments: segments(asked), candidates: candidates.clone() }).collect();
        let group = ChoiceGroup { images: &images[0], requests: &asked };
        let (packed, alone) = (packed.likelihoods(&group).unwrap(), alone.likelihoods(&group).unwrap());
        for (packed, alone) in packed.answers.iter().zip(&alone.answers) {
            let (packed, alone) = (packed.as_ref().unwrap(), alone.as_ref().unwrap());
            for (packed, alone) in packed.log_probabilities.iter().flatten().zip(alone.log_probabilities.iter().flatten()) {
                assert!((packed - alone).abs() < 0.05, "{}: {packed} {alone}", flavor.as_str());
            }
        }
    }
}

#[test]
fn what_cannot_compute_in_16_bits_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("package");
    let (llava, clip) = (fixture("transformers4-fp32"), root().join("exports/pico-clip"));
    let cases: [(&Path, &[&str], &str); 5] = [
        (&llava, &["--precision", "fp32", "--compute", "fp16"], "fp16, int8-weights or int4 with --compute fp16"),
        (&llava, &["--precision", "bf16", "--compute", "fp16"], "--vision bf16"),
        (&llava, &["--llm", "int8", "--compute", "bf16"], "--llm int8"),
        (&llava, &["--head", "fp16", "--compute", "bf16"], "--head fp16"),
        (&clip, &["--compute", "fp16"], "--compute fp16"),
    ];
    for (checkpoint, options, expected) in cases {
        let arguments = [&["export", text(checkpoint), "-o", text(&output)], options].concat();
        let message = gauge_fails(&arguments, 96);
        assert!(message.contains(expected), "{options:?}: {message}");
        assert!(!output.exists());
    }
    // The processor has no kernels for it, and says so before it reads a weight.
    gauge(&["export", text(&llava), "-o", text(&output), "--compute", "bf16"]).assert().success();
    let message = gauge_fails(&["bench", text(&output), "--test", "img"], 102);
    assert!(message.contains("computes in bf16") && message.contains("--provider cuda"), "{message}");
}

/// A manifest that says otherwise than its graph is found before ONNX Runtime sees either.
#[test]
fn the_cache_type_of_a_manifest_is_held_against_the_graph() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("package");
    let package = exported(&fixture("transformers4-fp32"), &output, GraphFlavor::Contrib, computing(Compute::Fp16));
    assert_eq!(package.manifest.llm.embedding.dtype, TensorDtype::F32, "rows are looked up as the checkpoint has them");
    let text = fs::read_to_string(output.join("package.toml")).unwrap();
    let (before, llm) = text.split_once("[llm]").unwrap();
    for (changed, expected) in [("compute = \"bf16\"", "expected bf16"), ("", "expected f32")] {
        let changed = format!("{before}[llm]{}", llm.replacen("compute = \"fp16\"", changed, 1));
        fs::write(output.join("package.toml"), changed).unwrap();
        let message = Package::open(&output).unwrap_err().to_string();
        assert!(
            message.contains("past_key_values.0.key") && message.contains("f16 [") && message.contains(expected),
            "{message}"
        );
    }
}
