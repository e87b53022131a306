//! Graphs of standard operators alone: that there are no others, and that they compute what the fused operators compute, however
//! questions are run. What transformers answers is compared in `parity.rs`, what codes stand for in `precision.rs`. The tests need
//! ONNX Runtime, as those in `engine.rs` do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first thing that is not as it should be")]

mod common;
mod export_support;

use std::fs;
use std::path::{Path, PathBuf};

use common::{gauge, gauge_json, gauge_output, root, text};
use export_support::{Scratch, fixture, read_tensors};
use half::bf16;
use llava_gauge::engine::{
    Engine, EngineOptions, GroupAnswer, ImageGroup, ImageTiles, LayerProbe, OrtEngine, Request, RequestFailure, Schedule,
    Scheduling, Segment, StopReason, StopRule, WindowSink,
};
use llava_gauge::export::{ExportOptions, StagePrecisionChoice, export};
use llava_gauge::onnx::{ModelHeader, STANDARD_FLAVOR_OPSET, inspect_file};
use llava_gauge::package::{GraphFlavor, Package, Precision, StageName, layered_stage};
use ndarray::{Array2, Array4};

/// Rounding of sums of a few dozen numbers in another order, through two or three layers.
const TOLERANCE: f32 = 1e-4;

/// Operators of version 24 of the standard set that the graphs may have; all are in the specification.
const STANDARD_OPERATORS: [&str; 34] = [
    "Abs",
    "Add",
    "ArgMax",
    "Attention",
    "Cast",
    "Concat",
    "Conv",
    "DequantizeLinear",
    "Div",
    "Equal",
    "Expand",
    "Gather",
    "GatherND",
    "Gelu",
    "Gemm",
    "Identity",
    "LayerNormalization",
    "MatMulInteger",
    "Max",
    "Mul",
    "QuantizeLinear",
    "RMSNormalization",
    "Range",
    "ReduceMax",
    "Reshape",
    "RotaryEmbedding",
    "ScatterND",
    "Shape",
    "Sigmoid",
    "Slice",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
];

fn recorded(name: &str) -> PathBuf {
    root().join("tests/parity/recorded").join(name)
}

/// A Mistral with a window, two heads over one of keys and CLIP's tower; a Qwen2 with biases and SigLIP's; a LLaMA.
fn checkpoints() -> [PathBuf; 3] {
    [recorded("recorded-mistral-window"), recorded("recorded-interleave"), fixture("transformers4-fp32")]
}

fn exported(checkpoint: &Path, output: &Path, flavor: GraphFlavor, precision: &StagePrecisionChoice) -> Package {
    let options = ExportOptions { flavor, precision: precision.clone(), ..ExportOptions::new(checkpoint, output) };
    export(&options).unwrap_or_else(|error| panic!("{}: {precision:?}: {error}", checkpoint.display()))
}

/// The same checkpoint in both flavours, in fp32.
fn pair(checkpoint: &Path, folder: &Path) -> [Package; 2] {
    GraphFlavor::ALL.map(|flavor| {
        let output = folder.join(checkpoint.file_name().unwrap()).join(flavor.as_str());
        exported(checkpoint, &output, flavor, &StagePrecisionChoice::default())
    })
}

fn headers(package: &Package) -> Vec<ModelHeader> {
    let manifest = &package.manifest;
    let graphs = [&manifest.vision.graph, &manifest.projector.graph, &manifest.llm.graph];
    graphs.map(|graph| inspect_file(&package.path(graph).unwrap()).unwrap()).to_vec()
}

fn assert_standard(header: &ModelHeader, what: &str) {
    let opsets: Vec<(&str, i64)> = header.opsets.iter().map(|(domain, version)| (domain.as_str(), *version)).collect();
    assert_eq!(opsets, [("", STANDARD_FLAVOR_OPSET)], "{what}");
    for operator in &header.operators {
        assert!(STANDARD_OPERATORS.contains(&operator.as_str()), "{what}: {operator}");
    }
}

#[test]
fn every_precision_has_standard_operators_alone() {
    let folder = tempfile::tempdir().unwrap();
    let all = |precision| StagePrecisionChoice { all: Some(precision), ..StagePrecisionChoice::default() };
    let choices = [
        ("fp32", StagePrecisionChoice::default()),
        ("bf16", all(Precision::Bf16)),
        ("int8", all(Precision::Int8)),
        ("int8-weights", all(Precision::Int8Weights)),
        ("int4", all(Precision::Int4)),
    ];
    for checkpoint in checkpoints().into_iter().chain([fixture("original-linear")]) {
        let case = checkpoint.file_name().unwrap().to_str().unwrap().to_owned();
        for (name, choice) in &choices {
            let output = folder.path().join(format!("{case}-{name}"));
            let package = exported(&checkpoint, &output, GraphFlavor::Standard, choice);
            assert_eq!(package.manifest.llm.flavor, "standard");
            for header in headers(&package) {
                assert_standard(&header, &format!("{case} {name}"));
            }
            let fused = exported(&checkpoint, &output.with_extension("contrib"), GraphFlavor::Contrib, choice);
            assert_eq!(fused.manifest.llm.flavor, "contrib");
            let operators: Vec<String> = headers(&fused).into_iter().flat_map(|header| header.operators).collect();
            assert!(operators.iter().any(|operator| operator.starts_with("com.microsoft.")), "{operators:?}");
            assert_ne!(fused.identity, package.identity);
        }
    }
}

/// Both flavours lay out a file of weights alike: in floating-point types they have the same bytes, in fewer bits other codes in the
/// same places.
#[test]
fn both_flavours_store_weights_alike() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = fixture("transformers4-fp32");
    for (precision, same_bytes) in
        [(Precision::Fp32, true), (Precision::Fp16, true), (Precision::Int8, true), (Precision::Int4, false)]
    {
        let choice = StagePrecisionChoice { all: Some(precision), ..StagePrecisionChoice::default() };
        let [fused, standard] = GraphFlavor::ALL.map(|flavor| {
            let output = folder.path().join(format!("{}-{}", precision.as_str(), flavor.as_str()));
            let package = exported(&checkpoint, &output, flavor, &choice);
            let record = package.manifest.quantisation.clone();
            let level = record.and_then(|record| record.llm).and_then(|part| part.accuracy_level);
            assert_eq!(level, (precision == Precision::Int4 && flavor == GraphFlavor::Contrib).then_some(4));
            (fs::read(output.join("weights.safetensors")).unwrap(), read_tensors(&output.join("weights.safetensors")))
        });
        assert_eq!(fused.0 == standard.0, same_bytes, "{precision:?}");
        assert_eq!(fused.0.len(), standard.0.len());
        for (fused, standard) in fused.1.iter().zip(&standard.1) {
            assert_eq!((&fused.name, &fused.shape, fused.data.len()), (&standard.name, &standard.shape, standard.data.len()));
            let scales = standard.name.ends_with(".scales") && precision == Precision::Int4;
            let positive = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap()) > 0.0;
            assert!(!scales || standard.data.chunks_exact(4).all(positive), "{}", standard.name);
        }
    }
}

struct Never;

impl StopRule for Never {
    fn check(&self, _: &[u32]) -> Option<StopReason> {
        None
    }
}

fn engine_of(package: &Package) -> OrtEngine {
    let options = EngineOptions { intra_op_threads: 2, ..EngineOptions::default() };
    OrtEngine::load(package, &options).unwrap()
}

fn image(side: usize, seed: usize) -> ImageTiles {
    let value = |channel: usize, y: usize, x: usize| (0.37 * (channel * 64 + y * 8 + x) as f64 + seed as f64).sin() as f32;
    let pixels = Array4::from_shape_fn((1, 3, side, side), |(_, channel, y, x)| value(channel, y, x));
    ImageTiles { pixels, width: side as u32, height: side as u32 }
}

/// Questions of one image: tokens after it, and longest answers.
type Asked = Vec<(Vec<u32>, usize)>;

/// Some, of tokens that a vocabulary of this size has.
fn groups(vocabulary: usize) -> Vec<Asked> {
    let mut groups: Vec<Asked> = vec![
        vec![(vec![20, 21, 22, 7], 12), (vec![33], 5), (vec![40, 41, 42, 43, 44, 45, 46, 47], 9)],
        vec![(vec![60, 3, 17, 25, 91], 14)],
        vec![(vec![12, 13], 3), (vec![12, 14, 70], 16)],
        vec![(vec![101, 102, 103, 11, 12, 13, 14, 15, 16, 17, 18, 19], 7), (vec![80, 81], 1)],
        vec![(vec![50, 51, 52], 11), (vec![50, 51, 53], 11), (vec![50, 54], 11), (vec![55], 11)],
    ];
    groups.iter_mut().flatten().flat_map(|(tokens, _)| tokens).for_each(|token| *token %= vocabulary as u32);
    groups
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

/// What groups of questions, each with an image of its own, are answered, in their order.
fn ask(engine: &mut OrtEngine, schedule: &Schedule, side: usize, groups: &[Asked]) -> Vec<GroupAnswer> {
    engine.set_schedule(schedule);
    let images: Vec<[ImageTiles; 1]> = (0..groups.len()).map(|seed| [image(side, seed)]).collect();
    let segments = |tokens: &[u32]| vec![Segment::Tokens(vec![1, 5, 9, 14]), Segment::Image(0), Segment::Tokens(tokens.to_vec())];
    let requests: Vec<Vec<Request<'_>>> = groups
        .iter()
        .map(|group| {
            let request = |(tokens, max_new_tokens): &(Vec<u32>, usize)| Request {
                segments: segments(tokens),
                max_new_tokens: *max_new_tokens,
                stop: &Never,
            };
            group.iter().map(request).collect()
        })
        .collect();
    let window: Vec<ImageGroup<'_>> =
        images.iter().zip(&requests).map(|(images, requests)| ImageGroup { images, requests }).collect();
    let mut recorder = Recorder::default();
    engine.answer_window(&window, &mut recorder).unwrap();
    recorder.0.sort_by_key(|(index, _)| *index);
    recorder.0.into_iter().map(|(_, answer)| answer).collect()
}

fn whole(scheduling: Scheduling) -> Schedule {
    Schedule { scheduling, ..Schedule::default() }
}

fn across(slots: usize) -> Schedule {
    let scheduling = Scheduling::AcrossImages;
    Schedule { scheduling, reason: None, slots, window_groups: 64, cache_tokens: usize::MAX }
}

fn assert_equal(found: &[GroupAnswer], expected: &[GroupAnswer], what: &str) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected).flat_map(|(one, other)| one.answers.iter().zip(&other.answers)) {
        let (found, expected) = (found.as_ref().unwrap(), expected.as_ref().unwrap());
        assert_eq!(found.token_ids, expected.token_ids, "{what}");
        for (one, other) in found.log_probabilities.iter().zip(&expected.log_probabilities) {
            assert!((one - other).abs() < TOLERANCE, "{what}: {one} {other}");
        }
    }
}

/// Packed, alone and across images, with a window, biases and several heads over one: the answers of the fused operators, one by one.
#[test]
fn every_way_of_running_gives_the_answers_of_the_fused_operators() {
    let folder = tempfile::tempdir().unwrap();
    for checkpoint in checkpoints() {
        let [fused, standard] = pair(&checkpoint, folder.path());
        let side = fused.manifest.vision.image_size;
        let groups = groups(fused.manifest.llm.vocabulary_size);
        let expected = ask(&mut engine_of(&fused), &whole(Scheduling::OneByOne), side, &groups);
        let mut engine = engine_of(&standard);
        let ways = [whole(Scheduling::OneByOne), whole(Scheduling::PackedTree), across(2), across(5), across(16)];
        for way in ways {
            let found = ask(&mut engine, &way, side, &groups);
            assert_equal(&found, &expected, &format!("{} {:?} {}", checkpoint.display(), way.scheduling, way.slots));
        }
    }
}

/// A sequence whose logits stop being finite leaves numbers that are none in its slot, and whoever takes the slot next must not see
/// them: hidden or not, they would spread.
#[test]
fn a_slot_keeps_nothing_of_the_sequence_before() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = Scratch::recorded("recorded-mistral-window");
    let clean =
        exported(&scratch.checkpoint, &folder.path().join("clean"), GraphFlavor::Standard, &StagePrecisionChoice::default());
    let side = clean.manifest.vision.image_size;
    // The first has the longest prompt and answer, so that it is seated first and the others are shorter.
    let mut groups: Vec<Asked> = vec![vec![((20..50).collect(), 20)]];
    groups.extend((0..7).map(|seed| vec![(vec![60 + seed, 70 + seed], 12), (vec![80 + seed], 9)]));
    let schedule = across(2);
    let expected = ask(&mut engine_of(&clean), &schedule, side, &groups);
    let tokens = |answer: &GroupAnswer| -> Vec<u32> {
        answer.answers.iter().flat_map(|answer| answer.as_ref().unwrap().token_ids.clone()).collect()
    };
    let others: Vec<u32> = expected[1..].iter().flat_map(tokens).collect();
    let asked: Vec<u32> = groups.iter().flatten().flat_map(|(tokens, _)| tokens.clone()).chain([1, 5, 9, 14]).collect();
    let first = tokens(&expected[0]);
    let own = first.iter().take(first.len() - 1).find(|token| !others.contains(token) && !asked.contains(token));
    let own = *own.expect("a token that only the first answer has") as usize;

    // The row of that token is not a number from now on.
    scratch.edit_tensors(|tensors| {
        let table = tensors.iter_mut().find(|tensor| tensor.name.ends_with("embed_tokens.weight")).unwrap();
        assert_eq!(table.dtype, "BF16");
        let width = table.shape[1] * 2;
        table.data[own * width..(own + 1) * width].chunks_exact_mut(2).for_each(|number| {
            number.copy_from_slice(&bf16::NAN.to_le_bytes());
        });
    });
    for flavor in GraphFlavor::ALL {
        let broken =
            exported(&scratch.checkpoint, &folder.path().join(flavor.as_str()), flavor, &StagePrecisionChoice::default());
        let found = ask(&mut engine_of(&broken), &schedule, side, &groups);
        assert!(matches!(found[0].answers[0], Err(RequestFailure::NonFiniteLogits { step: 1.. })), "{:?}", found[0].answers);
        assert_equal(&found[1..], &expected[1..], flavor.as_str());
    }
}

/// Hidden states after each layer, and of layers that start from given states, are those of the fused operators.
#[test]
fn both_flavours_can_be_opened_at_their_layers() {
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions { intra_op_threads: 2, ..EngineOptions::default() };
    let close = |one: &Array2<f32>, other: &Array2<f32>| one.iter().zip(other).all(|(one, other)| (one - other).abs() < 1e-3);
    for checkpoint in checkpoints() {
        let packages = pair(&checkpoint, folder.path());
        let (side, width) = (packages[0].manifest.vision.image_size, packages[0].manifest.llm.hidden_size);
        let rows = Array2::from_shape_fn((11, width), |(row, column)| (0.3 * (row * width + column) as f32).sin());
        let pixels = image(side, 3).pixels;
        let states = |package: &Package, stage: StageName, given: &[Array2<f32>]| {
            let model = layered_stage(package, stage, !given.is_empty()).unwrap().unwrap();
            let mut probe = LayerProbe::load(package, stage, model, &options).unwrap();
            match stage {
                StageName::Vision => probe.vision(pixels.view(), given).unwrap(),
                _ => probe.language(&rows, given).unwrap(),
            }
        };
        for stage in [StageName::Vision, StageName::Llm] {
            let [fused, standard] = packages.each_ref().map(|package| states(package, stage, &[]));
            assert!(fused.len() >= 2 && fused.len() == standard.len(), "{} {}", fused.len(), standard.len());
            assert!(fused.iter().zip(&standard).all(|(fused, standard)| close(fused, standard)), "{stage:?}");
            assert!(!close(&fused[0], &fused[1]), "layers do something");
            // States of other layers than those before: what is given is what counts.
            let given: Vec<Array2<f32>> = fused[..fused.len() - 1].iter().map(|state| state * 0.5).collect();
            let [fused, standard] = packages.each_ref().map(|package| states(package, stage, &given));
            assert!(fused.iter().zip(&standard).all(|(fused, standard)| close(fused, standard)), "{stage:?} given");
        }
    }
}

/// Weights in fewer bits: the flavours round differently, so that both are compared with 32 bits.
#[test]
fn fewer_bits_lose_as_little_in_either_flavour() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = root().join("exports/pico-llava-1.5");
    let logits = |package: &Package| {
        let side = package.manifest.vision.image_size;
        let segments = vec![Segment::Tokens(vec![1, 5, 9, 4]), Segment::Image(0), Segment::Tokens(vec![7, 3, 8, 6, 2])];
        let request = Request { segments, max_new_tokens: 4, stop: &Never };
        engine_of(package).trace_single(&[image(side, 0)], &request, Some(&[3, 4, 5, 6])).unwrap().logits
    };
    let distance = |one: &Array2<f32>, other: &Array2<f32>| {
        let norm = |values: &Array2<f32>| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        norm(&(one - other)) / norm(other)
    };
    let of = |name: &str, flavor, precision: Precision, accuracy_level| {
        let choice = StagePrecisionChoice { all: Some(precision), accuracy_level, ..StagePrecisionChoice::default() };
        logits(&exported(&checkpoint, &folder.path().join(name), flavor, &choice))
    };
    let full = of("fp32", GraphFlavor::Contrib, Precision::Fp32, None);
    let standard = of("fp32-standard", GraphFlavor::Standard, Precision::Fp32, None);
    let error = distance(&standard, &full);
    assert!(error < 1e-5, "{error:e}");
    // Integer products are the same; what follows them is rounded elsewhere.
    let fused = of("int8", GraphFlavor::Contrib, Precision::Int8, None);
    let standard = of("int8-standard", GraphFlavor::Standard, Precision::Int8, None);
    let error = distance(&standard, &fused);
    assert!(error < 0.02 && distance(&standard, &full) > 1e-4, "{error:e}");
    for (precision, limit) in [(Precision::Int8Weights, 0.05), (Precision::Int4, 0.5)] {
        let name = precision.as_str();
        let fused = distance(&of(name, GraphFlavor::Contrib, precision, Some(0)), &full);
        let standard = distance(&of(&format!("{name}-standard"), GraphFlavor::Standard, precision, None), &full);
        // Steps are up to a seventh larger. What is left of rounding errors after four layers is chance: a few logits of one prompt
        // may well differ by twice as much, but not by the order of magnitude that a wrong scale or code would make.
        assert!(standard < 3.0 * fused && standard < limit && standard > 1e-5, "{name}: {standard:e}, fused {fused:e}");
    }
}

#[test]
fn exports_inspections_and_runs_tell_the_flavour() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("standard");
    let checkpoint = root().join("exports/pico-llava-1.5");
    let line = gauge_output(&["export", text(&checkpoint), "-o", text(&output), "--flavor", "standard"]);
    assert!(line.contains("fp32/fp32/fp32, standard operators"), "{line}");
    let shown = gauge_output(&["package", "inspect", text(&output)]);
    assert!(shown.contains("operators  standard: standard ones alone"), "{shown}");
    let shown = gauge_output(&["package", "inspect", "pico-llava-1.5"]);
    assert!(shown.contains("operators  contrib: "), "{shown}");
    let manifest = gauge_json(&["package", "inspect", text(&output), "--json"]);
    assert_eq!(manifest["manifest"]["llm"]["flavor"], "standard");

    let runs = folder.path().join("runs");
    let arguments = ["run", "--model", text(&output), "--benchmark", "pico-vqa", "--limit", "6", "-o", text(&runs)];
    gauge(&arguments).assert().success();
    let header = fs::read_dir(&runs).unwrap().flat_map(|one| fs::read_dir(one.unwrap().path()).unwrap());
    let header = header.map(|entry| entry.unwrap().path().join("run.json")).find(|path| path.is_file()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&fs::read(header).unwrap()).unwrap();
    assert_eq!(header["model"]["flavor"], "standard", "{header:#}");
}

/// A CLIP package has both flavours, too.
#[test]
fn clip_packages_may_have_standard_operators_alone() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = root().join("exports/pico-clip");
    for precision in ["fp32", "int4"] {
        let output = folder.path().join(precision);
        gauge(&["export", text(&shipped), "-o", text(&output), "--flavor", "standard", "--precision", precision])
            .assert()
            .success();
        let report = gauge_json(&["package", "verify", text(&output), "--reference", text(&shipped), "--json"]);
        assert_eq!(report["passed"], true, "{report:#}");
        for graph in ["vision.onnx", "text.onnx"] {
            assert_standard(&inspect_file(&output.join(graph)).unwrap(), graph);
        }
        let shown = gauge_output(&["package", "inspect", text(&output)]);
        assert!(shown.contains("operators  standard"), "{shown}");
        let manifest = fs::read_to_string(output.join("package.toml")).unwrap();
        assert!(manifest.contains("flavor = \"standard\""), "{manifest}");
    }
    let earlier = fs::read_to_string(shipped.join("package.toml")).unwrap();
    assert!(!earlier.contains("flavor"), "packages of the usual flavour keep their bytes");
}
