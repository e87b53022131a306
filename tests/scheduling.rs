//! Decoding across images: the same answers as alone, whatever decodes beside them, in any budget; and runs that are made so.
//! The tests need ONNX Runtime, as those in `engine.rs` do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy allows them in test functions but not in their helpers")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{gauge_fails, root, text};
use llava_gauge::engine::{
    Engine, EngineOptions, GroupAnswer, ImageGroup, ImageTiles, OrtEngine, Request, RequestFailure, Schedule, Scheduling,
    Segment, StopReason, StopRule, WindowSink,
};
use llava_gauge::onnx::proto::{DimensionValue, ModelProto};
use llava_gauge::package::Package;
use ndarray::Array4;
use proptest::prelude::*;
use prost::Message;
use serde_json::Value;

/// The embedding row of this token is not finite.
const NAN_TOKEN: u32 = 96;

fn tiny() -> Package {
    Package::open(&root().join("tests/fixtures/engine/tiny")).unwrap()
}

fn engine_of(package: &Package, scheduling: Scheduling) -> OrtEngine {
    let options = EngineOptions { scheduling, intra_op_threads: 2, ..EngineOptions::default() };
    OrtEngine::load(package, &options).unwrap()
}

fn across(engine: &mut OrtEngine, slots: usize, cache_tokens: usize) {
    engine.set_schedule(&Schedule { scheduling: Scheduling::AcrossImages, reason: None, slots, window_groups: 64, cache_tokens });
}

/// The images that `fixtures/engine/make_tiny.py` uses.
fn image(seed: usize) -> ImageTiles {
    let value = |channel, y, x| (0.37 * (channel * 64 + y * 8 + x) as f64 + seed as f64).sin() as f32;
    let pixels = Array4::from_shape_fn((1, 3, 8, 8), |(_, channel, y, x)| value(channel, y, x));
    ImageTiles { pixels, width: 8, height: 8 }
}

struct Never;

impl StopRule for Never {
    fn check(&self, _: &[u32]) -> Option<StopReason> {
        None
    }
}

/// Questions of one image: tokens after it, and longest answers.
type Asked = Vec<(Vec<u32>, usize)>;

fn requests(questions: &Asked) -> Vec<Request<'static>> {
    let segments =
        |tokens: &Vec<u32>| vec![Segment::Tokens(vec![1, 5, 9, 14]), Segment::Image(0), Segment::Tokens(tokens.clone())];
    let request = |(tokens, max_new_tokens): &(Vec<u32>, usize)| Request {
        segments: segments(tokens),
        max_new_tokens: *max_new_tokens,
        stop: &Never,
    };
    questions.iter().map(request).collect()
}

#[derive(Default)]
struct Recorder {
    answers: Vec<(usize, GroupAnswer)>,
    stop_after: Option<usize>,
}

impl WindowSink for Recorder {
    fn finished(&mut self, index: usize, answer: GroupAnswer) {
        self.answers.push((index, answer));
    }

    fn stopped(&self) -> bool {
        self.stop_after.is_some_and(|groups| self.answers.len() >= groups)
    }
}

/// What a window of groups, each with an image of its own, is answered, in the order in which groups finish.
fn ask_window(engine: &mut OrtEngine, groups: &[Asked], stop_after: Option<usize>) -> Vec<(usize, GroupAnswer)> {
    let images: Vec<[ImageTiles; 1]> = (0..groups.len()).map(|seed| [image(seed)]).collect();
    let requests: Vec<Vec<Request<'_>>> = groups.iter().map(requests).collect();
    let window: Vec<ImageGroup<'_>> =
        images.iter().zip(&requests).map(|(images, requests)| ImageGroup { images, requests }).collect();
    let mut recorder = Recorder { stop_after, ..Recorder::default() };
    engine.answer_window(&window, &mut recorder).unwrap();
    recorder.answers
}

/// The same in the order of the window.
fn in_order(mut answers: Vec<(usize, GroupAnswer)>) -> Vec<GroupAnswer> {
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn tokens(answers: &[GroupAnswer]) -> Vec<Vec<Vec<u32>>> {
    let of = |answer: &GroupAnswer| answer.answers.iter().map(|one| one.as_ref().unwrap().token_ids.clone()).collect();
    answers.iter().map(of).collect()
}

fn bits(answers: &[GroupAnswer]) -> Vec<Vec<Vec<u32>>> {
    let of = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect();
    let of = |answer: &GroupAnswer| answer.answers.iter().map(|one| of(&one.as_ref().unwrap().log_probabilities)).collect();
    answers.iter().map(of).collect()
}

fn question() -> impl Strategy<Value = (Vec<u32>, usize)> {
    (prop::collection::vec(0_u32..95, 1..9), 1_usize..14)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random prompts, answer lengths, numbers of slots and budgets: across images, in a packed tree and one by one the tokens
    /// are the same, and the numbers differ by the rounding of the same sums.
    #[test]
    fn every_way_gives_the_same_answers(
        groups in prop::collection::vec(prop::collection::vec(question(), 1..5), 1..6),
        slots in 2_usize..8,
        cache_tokens in 60_usize..400,
    ) {
        thread_local! {
            static ENGINE: std::cell::RefCell<OrtEngine> = std::cell::RefCell::new(engine_of(&tiny(), Scheduling::PackedTree));
        }
        ENGINE.with_borrow_mut(|engine| {
            let whole = |scheduling| Schedule { scheduling, ..Schedule::default() };
            engine.set_schedule(&whole(Scheduling::OneByOne));
            let alone = in_order(ask_window(engine, &groups, None));
            engine.set_schedule(&whole(Scheduling::PackedTree));
            let packed = in_order(ask_window(engine, &groups, None));
            across(engine, slots, usize::MAX);
            let free = in_order(ask_window(engine, &groups, None));
            across(engine, slots, cache_tokens);
            let bounded = in_order(ask_window(engine, &groups, None));
            for found in [&packed, &free, &bounded] {
                prop_assert_eq!(tokens(found), tokens(&alone));
                for (found, alone) in found.iter().zip(&alone).flat_map(|(found, alone)| found.answers.iter().zip(&alone.answers)) {
                    let (found, alone) = (found.as_ref().unwrap(), alone.as_ref().unwrap());
                    for (one, other) in found.log_probabilities.iter().zip(&alone.log_probabilities) {
                        prop_assert!((one - other).abs() < 1e-4, "{one} {other}");
                    }
                    prop_assert_eq!(found.decoded_tokens, alone.decoded_tokens);
                }
            }
            // Prompts run as in the packed tree, so that first tokens have the same bits.
            for (free, packed) in bits(&free).iter().flatten().zip(bits(&packed).iter().flatten()) {
                prop_assert_eq!(free.first(), packed.first());
            }
            Ok(())
        })?;
    }
}

#[test]
fn the_same_window_is_always_answered_in_the_same_order_with_the_same_bits() {
    let mut engine = engine_of(&tiny(), Scheduling::PackedTree);
    across(&mut engine, 3, usize::MAX);
    let group = |seed: u32, lengths: &[usize]| -> Asked {
        lengths.iter().enumerate().map(|(index, &length)| (vec![20 + seed, 3 + index as u32], length)).collect()
    };
    let groups = [group(0, &[9, 2]), group(1, &[3]), group(2, &[12]), group(3, &[1, 1]), group(4, &[5])];
    let first = ask_window(&mut engine, &groups, None);
    let second = ask_window(&mut engine, &groups, None);
    let order = |answers: &[(usize, GroupAnswer)]| answers.iter().map(|(index, _)| *index).collect::<Vec<_>>();
    // Groups start by their longest answers: 2 and 0, which take all slots, then 4, 1 and 3 in the slot that gets free first.
    assert_eq!(order(&first), [4, 1, 3, 0, 2]);
    assert_eq!(order(&first), order(&second));
    let (first, second) = (in_order(first), in_order(second));
    assert_eq!(bits(&first), bits(&second));
    for (answer, asked) in first.iter().zip(&groups) {
        let longest = asked.iter().map(|(_, length)| *length).max().unwrap();
        assert!(answer.timings.decode_steps >= longest - 1 && answer.timings.vision_ms > 0.0, "{:?}", answer.timings);
        assert_eq!(answer.timings.decode_ms > 0.0, longest > 1);
        for (answer, (_, length)) in answer.answers.iter().zip(asked) {
            assert_eq!(answer.as_ref().unwrap().decoded_tokens, *length);
        }
    }
    // The steps that groups share are parted among them: the sum is no more than the time that passed.
    let started = std::time::Instant::now();
    let answers = ask_window(&mut engine, &groups, None);
    let all: f64 = answers.iter().map(|(_, answer)| answer.timings.decode_ms + answer.timings.prefill_ms).sum();
    assert!(all <= started.elapsed().as_secs_f64() * 1e3);
    // A reversed window gives the same answers.
    let reversed: Vec<Asked> = groups.iter().rev().cloned().collect();
    across(&mut engine, 2, 300);
    let images: Vec<[ImageTiles; 1]> = (0..groups.len()).rev().map(|seed| [image(seed)]).collect();
    let requests: Vec<Vec<Request<'_>>> = reversed.iter().map(requests).collect();
    let window: Vec<ImageGroup<'_>> =
        images.iter().zip(&requests).map(|(images, requests)| ImageGroup { images, requests }).collect();
    let mut recorder = Recorder::default();
    engine.answer_window(&window, &mut recorder).unwrap();
    let mut back = tokens(&in_order(recorder.answers));
    back.reverse();
    assert_eq!(back, tokens(&first));
}

#[test]
fn a_question_that_is_not_finite_fails_alone() {
    let mut engine = engine_of(&tiny(), Scheduling::PackedTree);
    across(&mut engine, 4, usize::MAX);
    let good = |seed: u32| -> Asked { vec![(vec![20 + seed, 3, 7], 6), (vec![40 + seed, 8, 2], 6)] };
    let bad = vec![(vec![20, NAN_TOKEN, 7], 6), (vec![40, 8, 2], 6)];
    let expected = in_order(ask_window(&mut engine, &[good(0), good(1), good(2)], None));
    let found = in_order(ask_window(&mut engine, &[bad, good(1), good(2)], None));
    assert!(matches!(found[0].answers[0], Err(RequestFailure::NonFiniteLogits { step: 0 })));
    assert_eq!(found[0].answers[1].as_ref().unwrap().token_ids, expected[0].answers[1].as_ref().unwrap().token_ids);
    assert_eq!(tokens(&found[1..]), tokens(&expected[1..]));
}

#[test]
fn what_cannot_fit_the_budget_fails_alone_and_a_stopped_window_ends() {
    let mut engine = engine_of(&tiny(), Scheduling::PackedTree);
    across(&mut engine, 4, 30);
    // Eight rows before the question, and what follows.
    let groups: Vec<Asked> = vec![vec![(vec![20, 3], 4)], vec![(vec![21, 3], 30)], vec![(vec![22, 3], 5), (vec![23, 4], 20)]];
    let found = in_order(ask_window(&mut engine, &groups, None));
    assert!(found[0].answers[0].is_ok() && found[2].answers[0].is_ok() && found[2].answers[1].is_ok());
    let failure = found[1].answers[0].as_ref().unwrap_err();
    assert_eq!(failure.kind(), "memory");
    assert!(failure.to_string().contains("10 tokens and 30 new ones need more memory"), "{failure}");
    assert!(failure.to_string().contains("30 tokens of 256 bytes"), "{failure}");

    across(&mut engine, 2, usize::MAX);
    let groups: Vec<Asked> = (0..6).map(|seed| vec![(vec![20 + seed, 3], 4)]).collect();
    assert_eq!(ask_window(&mut engine, &groups, Some(2)).len(), 2);
    assert_eq!(ask_window(&mut engine, &groups, Some(0)).len(), 0);
    assert_eq!(ask_window(&mut engine, &groups, None).len(), 6);
}

/// The tiny package as it was exported before graphs took several sequences: the same graph with a batch of one.
fn earlier_package(folder: &Path) -> Package {
    let source = root().join("tests/fixtures/engine/tiny");
    for entry in std::fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let graph = folder.join("llm.onnx");
    let bytes = std::fs::read(&graph).unwrap();
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    let inside = model.graph.as_mut().unwrap();
    for info in inside.input.iter_mut().chain(&mut inside.output) {
        let shape = info.r#type.as_mut().and_then(|of| of.tensor_type.as_mut()).and_then(|of| of.shape.as_mut());
        for dimension in shape.into_iter().flat_map(|shape| &mut shape.dim) {
            if dimension.value == Some(DimensionValue::DimParam("batch".to_owned())) {
                dimension.value = Some(DimensionValue::DimValue(1));
            }
        }
    }
    let earlier = model.encode_to_vec();
    std::fs::write(&graph, &earlier).unwrap();
    let manifest = folder.join("package.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let (old, new) = (format!("bytes = {}", bytes.len()), format!("bytes = {}", earlier.len()));
    assert!(text.contains(&old));
    std::fs::write(&manifest, text.replace(&old, &new)).unwrap();
    Package::open(folder).unwrap()
}

#[test]
fn packages_that_were_exported_earlier_keep_running() {
    let folder = tempfile::tempdir().unwrap();
    let mut earlier = engine_of(&earlier_package(folder.path()), Scheduling::PackedTree);
    let mut engine = engine_of(&tiny(), Scheduling::PackedTree);
    assert!(engine.takes_batches() && !earlier.takes_batches());
    let groups: Vec<Asked> = (0..3).map(|seed| vec![(vec![20 + seed, 3], 6), (vec![9, 30 + seed], 6)]).collect();
    let [before, after] = [&mut earlier, &mut engine].map(|engine| in_order(ask_window(engine, &groups, None)));
    assert_eq!(bits(&before), bits(&after), "a batch of one computes as it always did");
}

/// Runs packages on a benchmark and gives the records by key, and standard error.
fn run(output: &Path, more: &[&str]) -> (BTreeMap<String, Value>, String) {
    let mut arguments = vec!["run", "--model", "pico-llava-1.5", "-o", text(output)];
    arguments.extend(more);
    // `gauge` asks for no progress, with which the line about memory would go too.
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("llava-gauge");
    let done = command.current_dir(root()).env("NO_COLOR", "1").args(arguments).assert().success();
    let stderr = String::from_utf8(done.get_output().stderr.clone()).unwrap();
    let mut records = BTreeMap::new();
    for entry in std::fs::read_dir(output.join("pico-llava-1.5")).unwrap() {
        let log = std::fs::read_to_string(entry.unwrap().path().join("samples.jsonl")).unwrap();
        for line in log.lines() {
            let record = serde_json::from_str::<Value>(line).unwrap()["record"].clone();
            records.insert(record["key"].as_str().unwrap().to_owned(), record);
        }
    }
    (records, stderr)
}

fn header(output: &Path, benchmark: &str) -> Value {
    serde_json::from_slice(&std::fs::read(output.join("pico-llava-1.5").join(benchmark).join("run.json")).unwrap()).unwrap()
}

/// The same tokens and score, and log-probabilities that differ by no more than 1e-4 a token.
fn same_answer(found: &Value, expected: &Value, what: &str) {
    assert_eq!(found["token_ids"], expected["token_ids"], "{what}");
    assert_eq!(found["score"], expected["score"], "{what}");
    let number = |record: &Value| record["log_probability"].as_f64().unwrap();
    let tokens = found["token_ids"].as_array().unwrap().len().max(1) as f64;
    let difference = (number(found) - number(expected)).abs();
    assert!(difference <= 1e-4 * tokens, "{what}: {difference} over {tokens} tokens");
}

/// Answers do not depend on what decodes together: one by one, packed, across images with several budgets, and with another
/// number of threads, the shipped package says the same to every question, and the log-probability of an answer differs by no more
/// than 1e-4 a token.
#[test]
fn runs_do_not_depend_on_batches_budgets_or_threads() {
    let folder = tempfile::tempdir().unwrap();
    for (benchmark, limit) in [("pico-caption", "24"), ("pico-vqa", "60"), ("pico-textvqa", "40")] {
        let ask = |name: &str, more: &[&str]| {
            let mut arguments = vec!["--benchmark", benchmark, "--limit", limit];
            arguments.extend(more);
            run(&folder.path().join(format!("{benchmark}-{name}")), &arguments).0
        };
        let expected = ask("alone", &["--scheduling", "one-by-one"]);
        assert!(expected.len() >= 20 && expected.values().all(|record| record["failure"].is_null()));
        for (name, more) in [
            ("auto", &[][..]),
            ("packed", &["--scheduling", "packed-tree", "--threads", "1"]),
            ("across", &["--scheduling", "across-images"]),
            ("across-few", &["--scheduling", "across-images", "--kv-memory", "1500kB"]),
            ("across-one-thread", &["--scheduling", "across-images", "--kv-memory", "3MiB", "--threads", "1"]),
        ] {
            let found = ask(name, more);
            assert_eq!(found.len(), expected.len(), "{benchmark} {name}");
            for (key, record) in &found {
                same_answer(record, &expected[key], &format!("{benchmark} {name} {key}"));
            }
        }
    }
}

/// A copy of a shipped benchmark whose samples stand in the opposite order, and with them the images that decode together.
fn reversed(folder: &Path, benchmark: &str, files: &[(&str, &[&str])]) -> std::path::PathBuf {
    let shipped = root().join("benchmarks");
    for (file, lists) in files {
        let mut content: Value = serde_json::from_slice(&std::fs::read(shipped.join("pico").join(file)).unwrap()).unwrap();
        for list in *lists {
            content[list].as_array_mut().unwrap().reverse();
        }
        std::fs::write(folder.join(file), content.to_string()).unwrap();
    }
    let text = std::fs::read_to_string(shipped.join(format!("{benchmark}.toml"))).unwrap();
    let text = text.replace("root = \"pico\"", "root = \".\"");
    // Images must lie below the data folder.
    std::fs::create_dir_all(folder.join("images")).unwrap();
    for image in std::fs::read_dir(shipped.join("pico/images")).unwrap().map(Result::unwrap) {
        std::fs::copy(image.path(), folder.join("images").join(image.file_name())).unwrap();
    }
    let path = folder.join(format!("{benchmark}.toml"));
    std::fs::write(&path, text).unwrap();
    path
}

/// The order of the samples decides which decode together and which questions stand first in a pack, and changes no answer.
#[test]
fn runs_do_not_depend_on_the_order_of_the_samples() {
    let folder = tempfile::tempdir().unwrap();
    let questions: &[(&str, &[&str])] =
        &[("v2_OpenEnded_pico_val_questions.json", &["questions"]), ("v2_pico_val_annotations.json", &["annotations"])];
    for (benchmark, files, scheduling) in [
        ("pico-caption", &[("captions_pico_val.json", &["images", "annotations"][..])][..], "across-images"),
        ("pico-textvqa", &[("TextVQA_0.5.1_pico_val.json", &["data"][..])][..], "across-images"),
        ("pico-vqa", questions, "packed-tree"),
    ] {
        let ask = |name: &str, benchmark: &str| {
            run(&folder.path().join(name), &["--benchmark", benchmark, "--scheduling", scheduling]).0
        };
        let expected = ask(&format!("{benchmark}-stored"), benchmark);
        let opposite = reversed(folder.path(), benchmark, files);
        let found = ask(&format!("{benchmark}-reversed"), text(&opposite));
        assert!(expected.len() >= 125 && found.keys().eq(expected.keys()), "{benchmark}");
        for (key, record) in &found {
            same_answer(record, &expected[key], &format!("{benchmark} {key}"));
        }
    }
}

#[test]
fn memory_is_planned_stated_and_kept_when_a_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("runs");
    let arguments = ["--benchmark", "pico-caption", "--limit", "6", "--kv-memory", "3MiB"];
    let (records, stderr) = run(&output, &arguments);
    assert_eq!(records.len(), 6);
    let line = stderr.lines().find(|line| line.contains("memory: weights")).unwrap_or_else(|| panic!("{stderr}"));
    for part in ["across-images", "sequences at once", "of at most 3.0 MiB", "free "] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let begun = header(&output, "pico-caption");
    assert_eq!(begun["settings"]["scheduling"], "across-images");
    assert!(begun["settings"]["scheduling_reason"].as_str().unwrap().contains("less work"));
    assert_eq!(begun["memory"]["kv_memory_bytes"], 3 << 20);
    let slots = begun["memory"]["slots"].as_u64().unwrap();
    assert!(slots > 1 && begun["memory"]["cache_bytes"].as_u64().unwrap() <= 3 << 20);

    // Again without saying how much: as it was begun.
    let (_, stderr) = run(&output, &arguments[..4]);
    assert!(stderr.contains("of at most 3.0 MiB"), "{stderr}");
    assert_eq!(header(&output, "pico-caption"), begun);

    // Too little for a single question: each fails by itself, and the program says what to do.
    let small = folder.path().join("small");
    let all = ["run", "--model", "pico-llava-1.5", "-o", text(&small), "--benchmark", "pico-caption", "--limit", "6"];
    gauge_fails(&[&all[..], &["--kv-memory", "100kB"]].concat(), 101);
    let log = std::fs::read_to_string(small.join("pico-llava-1.5/pico-caption/samples.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 6);
    assert!(log.lines().all(|line| line.contains("--kv-memory") && line.contains("\"memory\"")), "{log}");

    let stderr = gauge_fails(&[&all[..], &["--kv-memory", "much"]].concat(), 2);
    assert!(stderr.contains("expected a size such as 2GiB"), "{stderr}");
}
