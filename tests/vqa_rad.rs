//! VQA-RAD: the release's format with what may be wrong in it, and the scores of LLaVA-Med's own evaluation
//! (`fixtures/score/llava_med.json`, made by running its Python code).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::Path;

use llava_gauge::benchmark::{Benchmark, BenchmarkSpec, Reference, ScorerRule, ScorerSpec, predictions};
use llava_gauge::compare::{ScoredSample, summarise_scored};
use llava_gauge::score::{closed_is_right, med_normalise, metrics, score, word_overlap};
use serde_json::{Value, json};

const TOML: &str = r#"
name = "rad"
title = "RAD"
licence = "CC0 1.0"
source = "made for this test"

[data]
root = "."
format = "vqa-rad"
questions = "rad.json"
phrase_types = ["test_freeform", "test_para"]
image = "images/{image}"

[prompt]
template = "{question}"
source = "LLaVA-Med"

[generation]
max_new_tokens = 32

[scorer]
kind = "llava-med"
"#;

fn row(qid: Value, answer: Value, answer_type: &str, phrase_type: &str) -> Value {
    json!({
        "qid": qid, "image_name": "synpic1.jpg", "image_organ": "CHEST", "answer": answer, "answer_type": answer_type,
        "question_type": "PRES", "question": "Is it there?", "phrase_type": phrase_type, "modality": "X-Ray",
    })
}

/// Loads rows as a benchmark; the error has the folder's own path cut out.
fn load(toml: &str, rows: &Value) -> Result<Benchmark, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("benchmark.toml");
    std::fs::write(&path, toml).unwrap();
    std::fs::write(folder.path().join("rad.json"), rows.to_string()).unwrap();
    Benchmark::load(path.to_str().unwrap(), None)
        .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn the_test_split_is_read_with_the_quirks_of_the_release() {
    let rows = json!([
        row(json!(1), json!("Yes"), "CLOSED", "test_freeform"),
        row(json!("2"), json!(3), "OPEN ", "test_para"),
        row(json!(3), json!("left"), "OPEN", "freeform"),
        row(json!(4), json!("no"), "CLOSED", "test_para "),
    ]);
    let benchmark = load(TOML, &rows).unwrap();
    let found: Vec<_> =
        benchmark.samples.iter().map(|sample| (sample.key.as_str(), sample.category.as_deref().unwrap())).collect();
    assert_eq!(found, [("1", "closed"), ("2", "open"), ("4", "closed")], "training questions are left out");
    assert_eq!(benchmark.samples[1].reference, Reference::OpenOrClosed { answer: "3".to_owned(), open: true });
    assert_eq!(benchmark.samples[0].prompt, "Is it there?");
    assert_eq!(benchmark.samples[0].cluster, "synpic1.jpg");
    assert!(benchmark.samples[0].images[0].file().unwrap().ends_with("images/synpic1.jpg"));
    assert!(!benchmark.spec.compares_embeddings());
    let all = load(&TOML.replace("phrase_types = [\"test_freeform\", \"test_para\"]\n", ""), &rows).unwrap();
    assert_eq!(all.samples.len(), 4);
}

#[test]
fn rows_as_llava_med_keeps_them_are_read() {
    let row = |id: &str, turns: &str, kind: &str| {
        json!({
            "id": id, "image": "a.jpg", "answer_type": kind,
            turns: [{"from": "human", "value": "What is it?\n<image>"}, {"from": "gpt", "value": "Lung "}],
        })
    };
    let toml = TOML.replace("phrase_types = [\"test_freeform\", \"test_para\"]\n", "");
    let rows = json!([row("x1", "conversations", "OPEN"), row("x2", "conversatons", "yes/no")]);
    let benchmark = load(&toml, &rows).unwrap();
    assert_eq!(benchmark.samples[0].question, "What is it?");
    let reference = |open| Reference::OpenOrClosed { answer: "Lung ".to_owned(), open };
    let found: Vec<_> = benchmark.samples.iter().map(|sample| (sample.key.as_str(), sample.reference.clone())).collect();
    assert_eq!(found, [("x1", reference(true)), ("x2", reference(false))]);
    let mut short = row("x1", "conversations", "OPEN");
    short["conversations"] = json!([{"value": "What?"}]);
    let message = load(&toml, &json!([short])).unwrap_err();
    assert!(message.contains("row 1, field `conversations`") && message.contains("1 turns"), "{message}");
}

#[test]
fn wrong_rows_are_refused_with_row_and_field() {
    let good = || row(json!(1), json!("Yes"), "CLOSED", "test_para");
    let with = |field: &str, value: Value| {
        let mut changed = good();
        changed["qid"] = json!(2);
        changed[field] = value;
        json!([good(), changed])
    };
    for (rows, parts) in [
        (with("answer_type", json!("YES/NO")), &["row 2", "`answer_type`", "OPEN or CLOSED", "YES/NO"][..]),
        (with("answer", json!(["a"])), &["row 2", "`answer`", "a text or a number"]),
        (with("answer", json!(null)), &["row 2", "`answer`"]),
        (with("qid", json!(1)), &["row 2", "`qid`", "each question once", "row 1"]),
        (with("image_name", json!("../../etc/passwd")), &["row 2", "`image_name`", "below the data folder"]),
        (with("question", json!(5)), &["row 2", "`question`"]),
        (with("phrase_type", json!(7)), &["row 2", "`phrase_type`"]),
        (json!([row(json!(1), json!("Yes"), "CLOSED", "para")]), &["rad.json", "at least one row", "0 rows"]),
        (json!({}), &["rad.json", "a JSON array"]),
        (json!([3]), &["row 1", "a JSON object"]),
    ] {
        let message = load(TOML, &rows).unwrap_err();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
    let counted = TOML.replace("image = ", "rows = [451]\nimage = ");
    assert!(load(&counted, &json!([good()])).unwrap_err().contains("expected 451 rows, found 1 rows"));
}

#[test]
fn wrong_specifications_are_refused_with_their_place() {
    for (from, to, part) in [
        ("kind = \"llava-med\"", "kind = \"vqa\"\nvariant = \"official\"", "cannot score data of this format"),
        (
            "kind = \"llava-med\"",
            "kind = \"llava-med\"\nvariant = \"official\"",
            "`variant` has no use with the scorer `llava-med`",
        ),
        ("questions = \"rad.json\"\n", "", "the format `vqa-rad` needs the field `questions`"),
        ("questions = ", "captions = \"x\"\nquestions = ", "`captions` has no use with the format `vqa-rad`"),
        ("[generation]\nmax_new_tokens = 32\n", "", "the format `vqa-rad` needs the field `generation`"),
        ("[prompt]\ntemplate = \"{question}\"\nsource = \"LLaVA-Med\"\n", "", "the format `vqa-rad` needs the field `prompt`"),
        ("images/{image}", "images/{image_id}", "expected {image}"),
    ] {
        assert!(TOML.contains(from), "{from}");
        let message = load(&TOML.replacen(from, to, 1), &json!([])).unwrap_err();
        assert!(message.contains(part) && message.contains("line "), "{part:?} is not in {message:?}");
    }
}

#[test]
fn scores_equal_llava_med_s_evaluation_to_the_last_bit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/score/llava_med.json");
    let cases: Vec<Vec<Value>> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(cases.len() >= 200);
    let scorer = ScorerSpec::new(ScorerRule::LlavaMed);
    let (mut open_cases, mut right) = (0, 0);
    for case in &cases {
        let open = case[0].as_bool().unwrap();
        let (reference, prediction) = (case[1].as_str().unwrap(), case[2].as_str().unwrap());
        assert_eq!(med_normalise(&prediction.to_lowercase()), case[3].as_str().unwrap(), "{prediction:?}");
        let scored = score(&scorer, &Reference::OpenOrClosed { answer: reference.to_owned(), open }, prediction);
        let shown = format!("{prediction:?} for {reference:?}");
        if open {
            open_cases += 1;
            let found = word_overlap(prediction, reference);
            let numbers = [found.recall, found.precision, found.f1, found.exact_match];
            for (number, (expected, metric)) in
                numbers.iter().zip(case[4..].iter().zip(["open_recall", "open_precision", "open_f1", "open_exact_match"]))
            {
                // The evaluation prints per cent.
                assert_eq!(number * 100.0, expected.as_f64().unwrap(), "{metric} of {shown}");
                assert_eq!(scored.contributions[metric].numerator, *number, "{shown}");
            }
            assert!(!scored.contributions.contains_key("closed_accuracy"));
            assert_eq!(scored.value, Some(found.recall));
        } else {
            let expected = case[4].as_f64().unwrap() == 100.0;
            right += usize::from(expected);
            assert_eq!(closed_is_right(prediction, reference), expected, "{shown}");
            assert_eq!(scored.contributions["closed_accuracy"].numerator, f64::from(u8::from(expected)));
            assert!(!scored.contributions.contains_key("open_recall"));
        }
    }
    assert!(open_cases > 60 && right > 20 && right < cases.len() - open_cases, "{open_cases} open, {right} right");
}

#[test]
fn totals_are_means_within_open_and_closed_and_their_mean() {
    let rows = json!([
        row(json!(1), json!("yes"), "CLOSED", "test_para"),
        row(json!(2), json!("no"), "CLOSED", "test_para"),
        row(json!(3), json!("left lung"), "OPEN", "test_para"),
    ]);
    let benchmark = load(TOML, &rows).unwrap();
    let scorer = &benchmark.spec.scorer;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.jsonl");
    let answers = [(1, "Yes."), (2, "I cannot say"), (3, "the lung")];
    let text: String = answers.iter().map(|(id, text)| format!("{}\n", json!({"question_id": id, "text": text}))).collect();
    std::fs::write(&path, text).unwrap();
    let found = predictions::read(&path, &benchmark, false).unwrap();
    let scored: Vec<_> = benchmark
        .samples
        .iter()
        .zip(&found.found)
        .map(|(sample, prediction)| (sample, score(scorer, &sample.reference, &prediction.text)))
        .collect();
    // "I cannot say" has `no` in it: the rule counts it as right, and it counts as understood.
    let parsed: Vec<bool> = scored.iter().map(|(_, score)| score.parsed.is_some()).collect();
    assert_eq!(parsed, [true; 3]);
    let samples: Vec<ScoredSample<'_>> = scored
        .iter()
        .map(|(sample, score)| ScoredSample {
            cluster: &sample.cluster,
            category: sample.category.as_deref(),
            contributions: &score.contributions,
        })
        .collect();
    let summary = summarise_scored(&metrics(scorer), &samples);
    let values: Vec<(&str, f64)> = summary.iter().map(|metric| (metric.name.as_str(), metric.estimate.value)).collect();
    let expected = [
        ("open_closed_mean", 75.0),
        ("open_recall", 50.0),
        ("closed_accuracy", 100.0),
        ("open_precision", 100.0),
        ("open_f1", 200.0 / 3.0),
        ("open_exact_match", 100.0),
    ];
    assert_eq!(values.len(), expected.len());
    for ((name, value), (expected_name, expected)) in values.iter().zip(expected) {
        assert!(*name == expected_name && (value - expected).abs() < 1e-9, "{name} {value} instead of {expected}");
    }
}

#[test]
fn the_real_test_questions_are_those_that_llava_med_counts() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/medvqa/vqa_rad_testset.json");
    let Ok(text) = std::fs::read_to_string(&shared) else {
        eprintln!("skipped: no folder ../shared/data with the real data files");
        return;
    };
    // That file has the test questions only and marks them otherwise.
    let toml = TOML
        .replace("[\"test_freeform\", \"test_para\"]", "[\"freeform\", \"para\"]")
        .replace("image = ", "rows = [451]\nimage = ");
    let benchmark = load(&toml, &serde_json::from_str(&text).unwrap()).unwrap();
    let open = benchmark.samples.iter().filter(|sample| sample.category.as_deref() == Some("open")).count();
    assert_eq!((benchmark.samples.len(), open), (451, 179));
    let official = BenchmarkSpec::list().unwrap().into_iter().find(|spec| spec.name == "vqa_rad").unwrap();
    assert_eq!(official.scorer.primary_metric, "open_closed_mean");
    // Gold answers: every open-ended one is recalled; of the closed-ended ones those that are no yes or no are wrong by rule.
    let gold = |sample: &llava_gauge::benchmark::Sample| match &sample.reference {
        Reference::OpenOrClosed { answer, .. } => score(&benchmark.spec.scorer, &sample.reference, answer).value,
        other => panic!("{other:?}"),
    };
    assert!(
        benchmark
            .samples
            .iter()
            .filter(|sample| sample.category.as_deref() == Some("open"))
            .all(|sample| gold(sample) == Some(1.0))
    );
}
