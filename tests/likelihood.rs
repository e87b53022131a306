//! Answers chosen by likelihood: the numbers are those of transformers, in one packed run or one by one, on our own graphs or
//! another program's; the choices are those of the reference implementations; runs record what can be compared again.
//! `parity/likelihoods.py` and `fixtures/score/make_likelihood_scores.py` made the records.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod export_support;

use std::path::{Path, PathBuf};

use common::{gauge, gauge_fails, gauge_json, root, text};
use export_support::copy_folder;
use llava_gauge::benchmark::{BenchmarkSpec, Normalisation, Reference, ScorerRule, ScorerSpec};
use llava_gauge::engine::{
    ChoiceGroup, ChoiceRequest, Engine, EngineError, EngineOptions, ImageTiles, LikelihoodAnswer, LoadedEngine, MockAnswer,
    MockEngine, OrtEngine, RequestFailure, Scheduling, Segment,
};
use llava_gauge::package::Package;
use llava_gauge::prompt::{Prompter, Turn};
use llava_gauge::run::{PreparedImages, segments};
use llava_gauge::score::{Candidate, most_likely, score};
use llava_gauge::store::Run;
use ndarray::Array4;
use serde::Deserialize;
use serde_json::Value;

/// What was agreed for one token, in natural-log probability.
const TOLERANCE: f32 = 1e-4;

fn options(scheduling: Scheduling) -> EngineOptions {
    EngineOptions { scheduling, intra_op_threads: 2, ..EngineOptions::default() }
}

#[derive(Deserialize)]
struct Recorded {
    packages: std::collections::BTreeMap<String, Vec<Case>>,
}

#[derive(Deserialize)]
struct Case {
    image: String,
    question: String,
    prompt: String,
    end_of_sequence: bool,
    candidates: Vec<RecordedCandidate>,
}

#[derive(Deserialize)]
struct RecordedCandidate {
    text: String,
    token_ids: Vec<u32>,
    log_probabilities: Vec<f32>,
}

fn recorded() -> Recorded {
    serde_json::from_slice(&std::fs::read(root().join("tests/fixtures/likelihood/transformers.json")).unwrap()).unwrap()
}

/// Chosen places by every normalisation.
fn choices(texts: &[String], numbers: &[Vec<f32>]) -> Vec<usize> {
    let candidate = |(text, numbers): (&String, &Vec<f32>)| Candidate {
        text: text.clone(),
        tokens: numbers.len(),
        log_probability: numbers.iter().map(|&number| f64::from(number)).sum(),
    };
    let candidates: Vec<Candidate> = texts.iter().zip(numbers).map(candidate).collect();
    let all = [Normalisation::Sum, Normalisation::Mean, Normalisation::PerCharacter];
    all.into_iter().map(|normalisation| most_likely(&candidates, normalisation).unwrap().0).collect()
}

#[test]
fn shipped_packages_give_the_log_probabilities_of_transformers() {
    for (name, cases) in recorded().packages {
        let package = Package::open(&root().join("exports").join(&name)).unwrap();
        let prompter = Prompter::open(&package).unwrap();
        let mut engines = [Scheduling::PackedTree, Scheduling::OneByOne]
            .map(|scheduling| LoadedEngine::load(&package, &options(scheduling)).unwrap());
        let mut tokens = 0;
        let mut largest = 0.0_f32;
        for image in ["pico_fine_000000000003.png", "pico_one_00007.png"] {
            let cases: Vec<&Case> = cases.iter().filter(|case| case.image == image).collect();
            let prepared = PreparedImages::load(&[root().join("benchmarks/pico/images").join(image)], &package.manifest).unwrap();
            let mut requests = Vec::new();
            for case in &cases {
                let turns = [Turn::user(&case.question, 1)];
                let rendered = prompter.render_conversation(&turns).unwrap();
                assert_eq!(rendered, case.prompt, "{name}");
                let texts: Vec<String> = case.candidates.iter().map(|candidate| candidate.text.clone()).collect();
                let made = prompter.continuations(&turns, &rendered, &texts, case.end_of_sequence).unwrap();
                for (ids, candidate) in made.candidates.iter().zip(&case.candidates) {
                    assert_eq!(ids, &candidate.token_ids, "{name}: {:?}", candidate.text);
                }
                requests.push(ChoiceRequest { segments: segments(&made.prompt.pieces), candidates: made.candidates });
            }
            let group = ChoiceGroup { images: &prepared.images, requests: &requests };
            let answers: Vec<LikelihoodAnswer> = engines.iter_mut().map(|engine| engine.likelihoods(&group).unwrap()).collect();
            for answer in &answers {
                for (case, found) in cases.iter().zip(&answer.answers) {
                    let found = &found.as_ref().unwrap().log_probabilities;
                    let reference: Vec<Vec<f32>> =
                        case.candidates.iter().map(|candidate| candidate.log_probabilities.clone()).collect();
                    assert_eq!(found.len(), reference.len());
                    for (found, expected) in found.iter().flatten().zip(reference.iter().flatten()) {
                        largest = largest.max((found - expected).abs());
                        assert!((found - expected).abs() < TOLERANCE, "{name}: {found} instead of {expected}");
                    }
                    tokens += found.iter().flatten().count();
                    let texts: Vec<String> = case.candidates.iter().map(|candidate| candidate.text.clone()).collect();
                    assert_eq!(choices(&texts, found), choices(&texts, &reference), "{name}: {}", case.question);
                }
            }
            // The image and the prompt's beginning run once for all candidates of all questions of the image.
            let [packed, alone] = answers.as_slice() else { panic!("two engines") };
            assert!(packed.timings.prefill_tokens * 4 < alone.timings.prefill_tokens, "{name}: {:?}", packed.timings);
            assert_eq!((packed.timings.decode_steps, packed.timings.decode_ms), (0, 0.0));
            assert!(packed.timings.vision_ms > 0.0 && packed.timings.prefill_ms > 0.0);
        }
        assert!(tokens >= 280, "{name}: {tokens}");
        eprintln!("{name}: {tokens} tokens, largest difference {largest:.1e}");
    }
}

fn tiny(scheduling: Scheduling, max_packed_tokens: usize) -> OrtEngine {
    let package = Package::open(&root().join("tests/fixtures/engine/tiny")).unwrap();
    OrtEngine::load(&package, &EngineOptions { max_packed_tokens, ..options(scheduling) }).unwrap()
}

fn picture(seed: usize) -> ImageTiles {
    let pixels = Array4::from_shape_fn((1, 3, 8, 8), |(_, channel, y, x)| {
        (0.37 * (channel * 64 + y * 8 + x) as f64 + seed as f64).sin() as f32
    });
    ImageTiles { pixels, width: 8, height: 8 }
}

fn asked(suffix: &[u32], candidates: &[&[u32]]) -> ChoiceRequest {
    ChoiceRequest {
        segments: vec![Segment::Tokens(vec![1, 5, 9, 14]), Segment::Image(0), Segment::Tokens(suffix.to_vec())],
        candidates: candidates.iter().map(|candidate| candidate.to_vec()).collect(),
    }
}

fn ranked(engine: &mut dyn Engine, requests: &[ChoiceRequest]) -> LikelihoodAnswer {
    let images = [picture(0), picture(1)];
    engine.likelihoods(&ChoiceGroup { images: &images, requests }).unwrap()
}

fn numbers(answer: &LikelihoodAnswer) -> Vec<Vec<Vec<f32>>> {
    answer.answers.iter().map(|answer| answer.as_ref().unwrap().log_probabilities.clone()).collect()
}

fn assert_close(found: &LikelihoodAnswer, expected: &LikelihoodAnswer) {
    let (found, expected) = (numbers(found), numbers(expected));
    let shape = |all: &[Vec<Vec<f32>>]| -> Vec<Vec<usize>> {
        all.iter().map(|candidates| candidates.iter().map(Vec::len).collect()).collect()
    };
    assert_eq!(shape(&found), shape(&expected));
    for (found, expected) in found.iter().flatten().flatten().zip(expected.iter().flatten().flatten()) {
        assert!((found - expected).abs() < TOLERANCE, "{found} {expected}");
    }
}

#[test]
fn packs_of_any_size_and_prompts_of_any_kind_give_the_same_numbers() {
    let system = Segment::Tokens(vec![1, 5, 9, 14]);
    let two_images = |order: [usize; 2]| ChoiceRequest {
        segments: vec![system.clone(), Segment::Image(order[0]), Segment::Image(order[1]), Segment::Tokens(vec![7])],
        candidates: vec![vec![3, 4], vec![20]],
    };
    let bare = ChoiceRequest { segments: vec![Segment::Tokens(vec![2])], candidates: vec![vec![3, 4, 5], vec![6, 7]] };
    let groups: Vec<Vec<ChoiceRequest>> = vec![
        vec![asked(&[20, 21], &[&[3], &[4], &[5], &[6]]), asked(&[22], &[&[7, 8, 9], &[10, 11]]), asked(&[20, 21, 30], &[&[1]])],
        // One question alone, of one-token candidates and of longer ones; equal prompts; a prompt that begins another.
        vec![asked(&[20, 21], &[&[3], &[4]])],
        vec![asked(&[20, 21], &[&[3, 9, 9, 9], &[4, 8], &[3, 9, 9, 8]])],
        vec![asked(&[20], &[&[3, 4]]), asked(&[20], &[&[5, 6]]), asked(&[20, 22], &[&[5, 6], &[7]])],
        // Two images in both orders, and prompts that share nothing, or only one row.
        vec![two_images([0, 1]), two_images([1, 0]), asked(&[7], &[&[3, 4]])],
        vec![bare.clone(), asked(&[20], &[&[3, 4], &[5, 6, 7]])],
        vec![bare],
    ];
    let mut reference = tiny(Scheduling::OneByOne, 1024);
    for group in &groups {
        let expected = ranked(&mut reference, group);
        for max_packed_tokens in [1, 5, 9, 1024] {
            assert_close(&ranked(&mut tiny(Scheduling::PackedTree, max_packed_tokens), group), &expected);
        }
    }
    // An empty group has no answers.
    assert!(ranked(&mut reference, &[]).answers.is_empty());
}

#[test]
fn a_longer_candidate_begins_with_the_numbers_of_a_shorter_one() {
    let group = [asked(&[20, 21], &[&[3, 9, 9, 9], &[3, 9], &[3]])];
    for scheduling in [Scheduling::PackedTree, Scheduling::OneByOne] {
        let answer = numbers(&ranked(&mut tiny(scheduling, 1024), &group)).remove(0);
        for (shorter, length) in [(&answer[1], 2), (&answer[2], 1)] {
            for (one, other) in answer[0][..length].iter().zip(shorter) {
                assert!((one - other).abs() < 1e-5, "{one} {other}");
            }
        }
    }
}

#[test]
fn one_packed_run_needs_few_rows() {
    let questions = [asked(&[20, 21], &[&[3], &[4], &[5], &[6]]), asked(&[22], &[&[7, 8, 9], &[10, 11]])];
    let answer = ranked(&mut tiny(Scheduling::PackedTree, 1024), &questions);
    // Eight rows of system text and image; the two questions; letters have no rows of their own, the others one fewer each than
    // tokens.
    assert_eq!(answer.timings.prefill_tokens, 8 + 2 + 1 + 2 + 1);
    let alone = ranked(&mut tiny(Scheduling::OneByOne, 1024), &questions);
    assert_eq!(alone.timings.prefill_tokens, 4 * 10 + (9 + 2) + (9 + 1));
    assert!(answer.answers.iter().all(|answer| answer.as_ref().unwrap().ready_ms > 0.0));
}

/// The embedding row of this token of the tiny package is not finite.
const NAN_TOKEN: u32 = 96;

#[test]
fn a_number_that_is_none_fails_its_own_question() {
    let questions = [
        asked(&[20, 21], &[&[3], &[4, 5]]),
        asked(&[22], &[&[7, 8], &[10, NAN_TOKEN, 11]]),
        // The last token of a candidate is predicted and not fed.
        asked(&[23], &[&[7, NAN_TOKEN], &[8]]),
        asked(&[NAN_TOKEN], &[&[7], &[8]]),
        asked(&[24], &[&[7, 8], &[9]]),
    ];
    let innocent = [questions[0].clone(), questions[2].clone(), questions[4].clone()];
    for scheduling in [Scheduling::PackedTree, Scheduling::OneByOne] {
        let expected = ranked(&mut tiny(scheduling, 1024), &innocent);
        let mut found = ranked(&mut tiny(scheduling, 1024), &questions);
        assert_eq!(found.answers.remove(3), Err(RequestFailure::NonFiniteLogits { step: 0 }), "{scheduling:?}");
        // Within a run a NaN spreads to every row, so that the step is the first of the run.
        assert_eq!(found.answers.remove(1), Err(RequestFailure::NonFiniteLogits { step: 0 }), "{scheduling:?}");
        assert_close(&found, &expected);
    }
}

#[test]
fn a_question_that_is_too_long_fails_alone() {
    let long: Vec<u32> = (0..180).map(|index| index % 90).collect();
    let good = [asked(&[20], &[&[3], &[4, 5]]), asked(&[22], &[&[7, 8, 9]])];
    for scheduling in [Scheduling::PackedTree, Scheduling::OneByOne] {
        let mut engine = tiny(scheduling, 1024);
        let expected = ranked(&mut engine, &good);
        let too_long = asked(&long, &[&[3], &[3, 4, 5, 6, 7]]);
        let mut found = ranked(&mut engine, &[good[0].clone(), too_long, good[1].clone()]);
        let failure = RequestFailure::TooLong { prompt_tokens: 188, max_new_tokens: 5, limit_tokens: 192 };
        assert_eq!(found.answers.remove(1), Err(failure), "{scheduling:?}");
        assert_close(&found, &expected);
        // Exactly full still runs, its candidates in as many packs as they need.
        let full = asked(&long[..179], &[&[3, 4, 5, 6, 7], &[8, 9, 10, 11, 12], &[1]]);
        let found = ranked(&mut engine, &[full.clone(), good[1].clone()]);
        assert_close(&found, &ranked(&mut tiny(Scheduling::OneByOne, 1024), &[full, good[1].clone()]));
    }
}

#[test]
fn malformed_candidates_are_named() {
    let mut engine = tiny(Scheduling::PackedTree, 1024);
    let good = asked(&[20], &[&[3]]);
    for (bad, expected) in [
        (asked(&[20], &[]), "there is no candidate"),
        (asked(&[20], &[&[3], &[]]), "candidate 1 has no token"),
        (asked(&[20], &[&[3, 97]]), "token 97 of candidate 0 is beyond the vocabulary of 97"),
        (asked(&[97], &[&[3]]), "token 97 is beyond the vocabulary of 97"),
        (ChoiceRequest { segments: vec![], candidates: vec![vec![1]] }, "the prompt is empty"),
        (ChoiceRequest { segments: vec![Segment::Image(7)], candidates: vec![vec![1]] }, "image 7 is beyond the 2 of its group"),
    ] {
        let images = [picture(0), picture(1)];
        match engine.likelihoods(&ChoiceGroup { images: &images, requests: &[good.clone(), bad] }) {
            Err(EngineError::Request { index: 1, message }) => assert_eq!(message, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn an_engine_may_have_no_likelihoods_or_scripted_ones() {
    let plain = || MockEngine::new(|_, _| Ok(Ok(MockAnswer::new([5]))));
    let request = [asked(&[20], &[&[3], &[4, 5]])];
    let group = ChoiceGroup { images: &[], requests: &request };
    assert!(plain().likelihoods(&group).unwrap_err().to_string().contains("the script has none"));
    let script = |request: &ChoiceRequest| Ok(request.candidates.iter().map(|tokens| vec![-0.5; tokens.len()]).collect());
    assert_eq!(numbers(&plain().with_likelihoods(script).likelihoods(&group).unwrap()), [[vec![-0.5], vec![-0.5, -0.5]]]);
}

#[test]
fn packages_of_other_programs_give_the_numbers_of_our_own() {
    let fixtures = root().join("tests/fixtures/foreign");
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    gauge(&["export", text(&fixtures.join("checkpoint")), "-o", text(&own)]).assert().success();
    let own = Package::open(&own).unwrap();
    let prompter = Prompter::open(&own).unwrap();
    let images = PreparedImages::load(&[fixtures.join("image0.png")], &own.manifest).unwrap();
    let ranked = |engine: &mut LoadedEngine, requests: &[ChoiceRequest]| {
        engine.likelihoods(&ChoiceGroup { images: &images.images, requests }).unwrap()
    };
    let requests: Vec<ChoiceRequest> = [("no", &["red", "a long answer", "A"][..]), ("What is it?", &["Yes", "No"])]
        .into_iter()
        .map(|(question, texts)| {
            let turns = [Turn::user(question, 1)];
            let rendered = prompter.render_conversation(&turns).unwrap();
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let made = prompter.continuations(&turns, &rendered, &texts, true).unwrap();
            ChoiceRequest { segments: segments(&made.prompt.pieces), candidates: made.candidates }
        })
        .collect();
    let expected = ranked(&mut LoadedEngine::load(&own, &options(Scheduling::OneByOne)).unwrap(), &requests);
    assert_close(&ranked(&mut LoadedEngine::load(&own, &options(Scheduling::PackedTree)).unwrap(), &requests), &expected);

    let layouts = ["transformers-js", "genai", "mobius"].map(|name| (name, None));
    let decoders = [
        "attention_bias",
        "last_row",
        "logits_to_keep",
        "use_cache_branch",
        "positions_by_length",
        "one_row_after_past",
        "no_cache",
    ];
    let mut schemes = std::collections::BTreeSet::new();
    for (layout, decoder) in layouts.into_iter().chain(decoders.map(|decoder| ("transformers-js", Some(decoder)))) {
        let copy = folder.path().join(format!("{layout}-{}", decoder.unwrap_or("own")));
        copy_folder(&fixtures.join(layout), &copy);
        if let Some(decoder) = decoder {
            let target = copy.join("onnx/decoder_model_merged.onnx");
            std::fs::copy(fixtures.join(format!("decoders/{decoder}.onnx")), target).unwrap();
        }
        let package = llava_gauge::export::adopt(&copy, None).unwrap();
        for scheduling in [Scheduling::PackedTree, Scheduling::OneByOne] {
            let mut engine = LoadedEngine::load(&package, &options(scheduling)).unwrap();
            schemes.insert(engine.scheduling().0);
            assert_close(&ranked(&mut engine, &requests), &expected);
            assert_close(&ranked(&mut engine, &requests[..1]), &ranked_first(&expected));
        }
    }
    assert_eq!(schemes.into_iter().collect::<Vec<_>>(), ["one-by-one", "packed-tree", "shared-prefix"]);
}

fn ranked_first(answer: &LikelihoodAnswer) -> LikelihoodAnswer {
    LikelihoodAnswer { answers: answer.answers[..1].to_vec(), timings: answer.timings }
}

/// Places of the candidates' texts, their tokens, their log-probabilities, the right one, and the scores as digits.
type ChoiceCase = (Vec<usize>, Vec<usize>, Vec<f64>, usize, String);

#[derive(Deserialize)]
struct Choices {
    texts: Vec<String>,
    cases: Vec<ChoiceCase>,
}

#[test]
fn choices_are_those_of_the_reference_implementations() {
    let path = root().join("tests/fixtures/score/official_likelihood.json");
    let Choices { texts, cases } = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(cases.len() >= 1000);
    let mut sums = [[0.0; 2]; 3];
    for (places, tokens, values, gold, digits) in &cases {
        let candidates: Vec<Candidate> = places
            .iter()
            .zip(tokens.iter().zip(values))
            .map(|(&place, (&tokens, &log_probability))| Candidate { text: texts[place].clone(), tokens, log_probability })
            .collect();
        let listed = serde_json::to_string(&candidates).unwrap();
        let options = candidates.iter().map(|candidate| candidate.text.clone()).collect();
        let reference = Reference::Choice { options, answer: *gold };
        for (index, (metric, digit)) in ["acc", "acc_norm", "acc_mean"].into_iter().zip(digits.chars()).enumerate() {
            let scorer = ScorerSpec { rule: ScorerRule::ChoiceLikelihood, primary_metric: metric.to_owned() };
            let scored = score(&scorer, &reference, &listed);
            let expected = f64::from(digit.to_digit(10).unwrap());
            assert_eq!(scored.value, Some(expected), "{metric} of {listed}, right is {gold}");
            assert_eq!(scored.contributions[metric].numerator, expected);
            sums[index][0] += scored.contributions[metric].numerator / scored.contributions[metric].denominator;
            sums[index][1] += expected;
        }
    }
    for [found, expected] in sums {
        assert!((found - expected).abs() / (cases.len() as f64) < 1e-9);
    }
}

fn run(benchmark: &str, output: &Path, more: &[&str]) -> Run {
    let arguments = ["run", "--model", "pico-llava-1.5", "--benchmark", benchmark, "--limit", "24", "-o", text(output)];
    gauge(&[&arguments[..], more].concat()).assert().success();
    let mut runs = llava_gauge::store::discover(&[output.to_path_buf()]).unwrap();
    assert_eq!(runs.len(), 1);
    Run::open(&runs.remove(0)).unwrap()
}

fn candidates_of(record: &llava_gauge::store::SampleRecord) -> Vec<Candidate> {
    serde_json::from_value(record.detail["candidates"].clone()).unwrap()
}

#[test]
fn a_run_chooses_and_records_what_can_be_compared_again() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("packed");
    let packed = run("pico-pope", &output, &["--choices", "likelihood"]);
    assert_eq!(packed.header.settings.answering.as_deref(), Some("likelihood of letters, sum"));
    assert_eq!(packed.header.benchmark.scorer, "pope-official/1");
    assert!(packed.complete && packed.records.len() == 24);
    for record in &packed.records {
        let candidates = candidates_of(record);
        let texts: Vec<&str> = candidates.iter().map(|candidate| candidate.text.as_str()).collect();
        assert_eq!((texts.as_slice(), record.stop_reason.as_str()), (&["Yes", "No"][..], "likelihood"));
        let (place, margin) = most_likely(&candidates, Normalisation::Sum).unwrap();
        assert_eq!((record.text.as_str(), record.log_probability), (texts[place], candidates[place].log_probability));
        assert!((record.detail["margin"].as_f64().unwrap() - margin).abs() < 1e-6);
        assert_eq!(record.token_ids.len(), candidates[place].tokens);
        assert_eq!((record.timings.group.decode_steps, record.timings.tpot_ms), (0, None));
        assert!(record.timings.ttft_ms > 0.0);
    }
    // One by one and with another comparison the same numbers are had.
    let alone = run("pico-pope", &folder.path().join("alone"), &["--choices", "likelihood", "--scheduling", "one-by-one"]);
    for (packed, alone) in packed.records.iter().zip(&alone.records) {
        assert_eq!((&packed.key, &packed.text), (&alone.key, &alone.text));
        for (one, other) in candidates_of(packed).iter().zip(candidates_of(alone)) {
            assert!((one.log_probability - other.log_probability).abs() < 1e-3 && one.tokens == other.tokens);
        }
    }
    // Another comparison needs no model.
    let directory = text(&packed.directory).to_owned();
    let rescored = gauge_json(&["rescore", &directory, "--scorer", "choice-likelihood", "--json"]);
    let metrics = rescored["runs"][0]["metrics"].to_string();
    assert!(["\"acc\"", "\"acc_norm\"", "\"acc_mean\""].iter().all(|name| metrics.contains(name)), "{metrics}");
    let applied = Run::open(&packed.directory).unwrap();
    assert_eq!(applied.header.benchmark.scorer, "choice-likelihood/1");
    for (record, before) in applied.records.iter().zip(&packed.records) {
        assert_eq!(candidates_of(record), candidates_of(before), "the likelihoods are kept");
        assert_eq!(record.parsed.as_deref(), Some(before.text.as_str()));
        assert_eq!(record.contributions.len(), 3);
    }
    // The same command continues; one that would answer otherwise is refused.
    let again = run("pico-pope", &output, &["--choices", "likelihood"]);
    assert_eq!(again.records.len(), 24);
    let other = ["run", "--model", "pico-llava-1.5", "--benchmark", "pico-pope", "--limit", "24", "-o", text(&output)];
    let message = gauge_fails(&other, 106);
    assert!(message.contains("answering"), "{message}");
}

#[test]
fn generated_answers_cannot_be_compared_by_likelihood() {
    let folder = tempfile::tempdir().unwrap();
    let generated = run("pico-pope", folder.path(), &[]);
    assert_eq!(generated.header.settings.answering, None);
    let message = gauge_fails(&["rescore", text(&generated.directory), "--scorer", "choice-likelihood"], 102);
    assert!(message.contains("cannot score generated answers"), "{message}");
    let arguments = |benchmark| ["run", "--model", "pico-llava-1.5", "--benchmark", benchmark, "-o", text(folder.path())];
    for (benchmark, more, part) in [
        ("pico-vqa", &["--choices", "likelihood"][..], "of which pico-vqa has none"),
        ("pico-pope", &["--normalise", "mean"], "of use with --choices likelihood only"),
        ("pico-pope", &["--choices", "generate", "--candidates", "texts"], "of use with --choices likelihood only"),
    ] {
        let message = gauge_fails(&[&arguments(benchmark)[..], more].concat(), 96);
        assert!(message.contains(part), "{message}");
    }
}

const TOML: &str = r#"
name = "chosen"
title = "Chosen"
licence = "Apache-2.0"
source = "made by tests/likelihood.rs"
[data]
root = "pico"
format = "pope"
splits = [{ name = "random", file = "pope/coco_pope_random.json" }]
image = "images/{image}"
[prompt]
template = "{question}\nAnswer the question using a single word or phrase."
source = "LLaVA-1.5"
[generation]
answer = "likelihood"
normalise = "per-character"
candidates = "texts"
end_of_sequence = true
[scorer]
kind = "choice-likelihood"
"#;

#[test]
fn a_benchmark_file_says_how_answers_are_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chosen.toml");
    std::fs::write(&path, TOML).unwrap();
    let data = root().join("benchmarks/pico");
    let found = run(text(&path), &folder.path().join("runs"), &["--data", text(&data)]);
    let answering = found.header.settings.answering.as_deref();
    assert_eq!(answering, Some("likelihood of texts with the end of sequence, per-character"));
    assert_eq!(found.header.benchmark.scorer, "choice-likelihood/1");
    let primary: Vec<&str> =
        found.header.benchmark.metrics.iter().filter(|metric| metric.primary).map(|metric| metric.name.as_str()).collect();
    assert_eq!(primary, ["acc_norm"]);
    for record in &found.records {
        let candidates = candidates_of(record);
        let (place, _) = most_likely(&candidates, Normalisation::PerCharacter).unwrap();
        let Reference::YesNo { yes } = record.reference else { panic!("{:?}", record.reference) };
        assert_eq!(record.score, Some(f64::from(u8::from((place == 0) == yes))));
        assert_eq!(record.token_ids.last(), Some(&2), "the end of the answer is a part of it");
    }
}

#[test]
fn what_a_benchmark_file_cannot_mean_is_named() {
    let refusal = |from: &str, to: &str| {
        let toml = TOML.replace(from, to);
        assert_ne!(toml, TOML, "{from}");
        BenchmarkSpec::parse(&toml, Path::new("chosen.toml")).unwrap_err().to_string()
    };
    assert!(BenchmarkSpec::parse(TOML, Path::new("chosen.toml")).is_ok());
    for (from, to, part) in [
        ("answer = \"likelihood\"", "answer = \"guess\"", "unknown variant `guess`"),
        ("per-character", "per-word", "unknown variant `per-word`"),
        (
            "answer = \"likelihood\"\n",
            "max_new_tokens = 8\n",
            "line 16, column 13: the field `normalise` has no use with answers",
        ),
        (
            "[generation]\nanswer = \"likelihood\"\nnormalise = \"per-character\"\ncandidates = \"texts\"\nend_of_sequence = true\n",
            "[generation]\nanswer = \"generate\"\n",
            "`generation` needs the field `max_new_tokens`",
        ),
        (
            "answer = \"likelihood\"\nnormalise = \"per-character\"\ncandidates = \"texts\"\nend_of_sequence = true\n",
            "max_new_tokens = 8\n",
            "the scorer `choice-likelihood` needs `answer = \"likelihood\"`",
        ),
        ("kind = \"choice-likelihood\"\n", "kind = \"choice-likelihood\"\nprimary_metric = \"acc\"\n", "expected \"acc_norm\""),
        ("answer = \"likelihood\"\n", "answer = \"likelihood\"\nmax_new_tokens = 0\n", "expected 1 to 4096 new tokens, found 0"),
    ] {
        let message = refusal(from, to);
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn differing_ways_of_answering_are_told_when_compared() {
    let folder = tempfile::tempdir().unwrap();
    let generated = run("pico-pope", &folder.path().join("generated"), &[]);
    let chosen = run("pico-pope", &folder.path().join("chosen"), &["--choices", "likelihood"]);
    let directories: Vec<PathBuf> = vec![generated.directory, chosen.directory];
    let both = [text(&directories[0]), text(&directories[1])];
    let refusal = gauge_fails(&["compare", both[0], both[1]], 104);
    assert!(refusal.contains("the way in which answers are had is generated in "), "{refusal}");
    let compared: Value = gauge_json(&["compare", both[0], both[1], "--across-settings", "--json"]);
    let notes = compared["pairs"][0]["notes"].to_string();
    assert!(notes.contains("how answers are had") && notes.contains("likelihood of letters, sum"), "{notes}");
}

const CHOICES: &str = r#"
name = "options"
title = "Options"
licence = "Apache-2.0"
source = "made by tests/likelihood.rs"
[[data]]
root = "."
format = "table"
files = ["options.tsv"]
key = "{index}"
cluster = "{image}"
question = "{question}"
images = ["{image}"]
[data.reference]
kind = "choice"
options = ["A", "B", "C", "D"]
answer = "answer"
[prompt]
template = "{question}\n{options}\nAnswer with the option's letter from the given choices directly."
source = "LLaVA-1.5"
[generation]
answer = "likelihood"
candidates = "texts"
normalise = "mean"
[scorer]
kind = "choice-likelihood"
"#;

/// A benchmark of options in `folder`, with some questions about each of two pictures.
fn options_benchmark(folder: &Path, rows: &[&str]) -> PathBuf {
    for name in ["pico_one_00007.png", "pico_one_00008.png"] {
        std::fs::copy(root().join("benchmarks/pico/images").join(name), folder.join(name)).unwrap();
    }
    let table = format!("index\timage\tquestion\tA\tB\tC\tD\tanswer\n{}\n", rows.join("\n"));
    std::fs::write(folder.join("options.tsv"), table).unwrap();
    let path = folder.join("options.toml");
    std::fs::write(&path, CHOICES).unwrap();
    path
}

#[test]
fn options_are_ranked_by_text_or_by_letter() {
    let folder = tempfile::tempdir().unwrap();
    let benchmark = options_benchmark(
        folder.path(),
        &[
            "1\tpico_one_00007.png\tWhat color is the shape?\tred\tblue\tgreen\tyellow\tB",
            "2\tpico_one_00007.png\tHow many shapes are in the image?\tone\ttwo or more of them\t\t\tA",
            "3\tpico_one_00007.png\tIs it naïve 🦊?\tyes, it is\tno\tnobody knows\t\tC",
            "4\tpico_one_00008.png\tWhat color is the shape?\tred\tblue\tgreen\tyellow\tD",
        ],
    );
    let texts = run(text(&benchmark), &folder.path().join("texts"), &[]);
    assert_eq!(texts.header.settings.answering.as_deref(), Some("likelihood of texts, mean"));
    assert_eq!(texts.records.len(), 4);
    for record in &texts.records {
        let Reference::Choice { options, answer } = &record.reference else { panic!("{:?}", record.reference) };
        let candidates = candidates_of(record);
        let named: Vec<&String> = candidates.iter().map(|candidate| &candidate.text).collect();
        assert_eq!(named, options.iter().collect::<Vec<_>>());
        let (place, _) = most_likely(&candidates, Normalisation::Mean).unwrap();
        // The answer is the letter, as a model is asked to write it; what it stands for is what was understood.
        assert_eq!(record.text, ["A", "B", "C", "D"][place]);
        assert_eq!((record.parsed.as_ref(), record.score), (Some(&options[place]), Some(f64::from(u8::from(place == *answer)))));
    }
    let letters = run(text(&benchmark), &folder.path().join("letters"), &["--candidates", "letters", "--normalise", "sum"]);
    assert_eq!(letters.header.settings.answering.as_deref(), Some("likelihood of letters, sum"));
    for record in &letters.records {
        let Reference::Choice { options, .. } = &record.reference else { panic!("{:?}", record.reference) };
        let named: Vec<String> = candidates_of(record).into_iter().map(|candidate| candidate.text).collect();
        assert_eq!(named, ["A", "B", "C", "D"][..options.len()]);
        assert_eq!(record.parsed.as_ref(), Some(&record.text));
    }
    let primary = |run: &Run| run.header.benchmark.metrics.iter().find(|metric| metric.primary).unwrap().name.clone();
    assert_eq!((primary(&texts), primary(&letters)), ("acc_mean".to_owned(), "acc".to_owned()));
    // Nothing of a run of likelihoods can be generated with this scorer.
    let output = folder.path().join("generated");
    let arguments = ["run", "--model", "pico-llava-1.5", "--benchmark", text(&benchmark), "-o", text(&output)];
    let message = gauge_fails(&[&arguments[..], &["--choices", "generate"]].concat(), 96);
    assert!(message.contains("reads likelihoods and no generated answers"), "{message}");
    // Submitted as SEED-Bench wants it.
    let target = folder.path().join("submission.jsonl");
    gauge(&["submit", text(&texts.directory), "--format", "seed-bench", "-o", text(&target)]).assert().success();
    let first = std::fs::read_to_string(&target).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(first, format!("{{\"question_id\": \"1\", \"prediction\": \"{}\"}}", texts.records[0].text));
}

#[test]
fn an_option_that_cannot_be_a_candidate_fails_its_own_question() {
    let folder = tempfile::tempdir().unwrap();
    let benchmark = options_benchmark(
        folder.path(),
        &[
            "1\tpico_one_00007.png\tWhat?\tred\ta <image> of it\tgreen\tyellow\tA",
            "2\tpico_one_00007.png\tWhat?\tred\tblue\t\t\tA",
        ],
    );
    // Without the options in the prompt, which an image mark would spoil for generated answers too.
    std::fs::write(&benchmark, CHOICES.replace("{question}\\n{options}", "{question}")).unwrap();
    let found = run(text(&benchmark), &folder.path().join("runs"), &["--max-failed", "100"]);
    let failure = found.records[0].failure.as_ref().unwrap();
    assert!(failure.kind == "prompt" && failure.message.contains("candidate 1:"), "{failure:?}");
    assert!(found.records[1].failure.is_none() && found.records[1].text.len() == 1);
}

#[test]
fn seed_bench_is_ranked_by_the_texts_of_its_options() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("SEED-Bench-image");
    std::fs::create_dir(&pictures).unwrap();
    std::fs::copy(root().join("benchmarks/pico/images/pico_one_00007.png"), pictures.join("1454426_2591111986")).unwrap();
    let question = |id: &str, data_type: &str| {
        serde_json::json!({
            "question_id": id, "question": "What color is the shape?", "choice_a": "red", "choice_b": "blue", "choice_c": "dark green",
            "choice_d": "yellow", "answer": "B", "data_type": data_type, "data_id": "1454426_2591111986", "question_type_id": 3,
        })
    };
    let questions = serde_json::json!({
        "question_type": { "Instance Attributes": 3 },
        "questions": [question("101669", "image"), question("v1", "video"), question("104933", "image")],
    });
    std::fs::write(folder.path().join("SEED-Bench.json"), questions.to_string()).unwrap();
    let found = run("seed_bench_likelihood", &folder.path().join("runs"), &["--data", text(folder.path())]);
    let answering = found.header.settings.answering.as_deref();
    assert_eq!(answering, Some("likelihood of texts with the end of sequence, mean"));
    let keys: Vec<&str> = found.records.iter().map(|record| record.key.as_str()).collect();
    assert_eq!(keys, ["101669", "104933"]);
    for record in &found.records {
        assert!(record.failure.is_none(), "{:?}", record.failure);
        assert!(record.prompt.ends_with("What color is the shape? ASSISTANT:"), "the options are not shown: {}", record.prompt);
        let texts: Vec<String> = candidates_of(record).into_iter().map(|candidate| candidate.text).collect();
        assert_eq!(texts, ["red", "blue", "dark green", "yellow"]);
        assert_eq!(record.token_ids.last(), Some(&2));
    }
    let output = gauge(&["submit", text(&found.directory)]).assert().success().get_output().stdout.clone();
    let lines = std::fs::read_to_string(String::from_utf8(output).unwrap().trim()).unwrap();
    let expected: String = found
        .records
        .iter()
        .map(|record| format!("{{\"question_id\": \"{}\", \"prediction\": \"{}\"}}\n", record.key, record.text))
        .collect();
    assert_eq!(lines, expected);
}
