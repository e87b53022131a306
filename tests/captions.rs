//! Captions against pycocoevalcap: recorded words and scores (`fixtures/score`, made by running its code and Stanford's
//! tokeniser), and the readers of files of captions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::Path;

use llava_gauge::benchmark::{Contribution, Reference, ScorerRule, ScorerSpec};
use llava_gauge::score::{Answered, SampleScore, complete, metrics, needs_all_answers, ptb_caption, score};
use serde_json::Value;

fn fixture(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/score").join(name);
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Recorded texts with their words.
fn texts() -> Vec<(String, String)> {
    let pair = |row: &Value| {
        let text = |index: usize| row.get(index).and_then(Value::as_str).map(str::to_owned);
        (text(0).unwrap(), text(1).or_else(|| text(0)).unwrap())
    };
    fixture("caption_tokens.jsonl").iter().map(pair).collect()
}

#[test]
fn words_are_those_of_stanford_s_tokeniser() {
    let texts = texts();
    assert!(texts.len() >= 2000, "{}", texts.len());
    for (text, expected) in &texts {
        assert_eq!(ptb_caption(text), *expected, "{text:?}");
    }
}

const CAPTION: ScorerRule = ScorerRule::Caption;

/// Scores captions with their references, all of them together.
fn score_all(cases: &[(String, Reference)]) -> Vec<SampleScore> {
    let scorer = ScorerSpec::new(CAPTION);
    let clusters: Vec<String> = (0..cases.len()).map(|index| index.to_string()).collect();
    let mut answers: Vec<Answered<'_>> = cases
        .iter()
        .zip(&clusters)
        .map(|((text, reference), cluster)| Answered {
            cluster,
            category: None,
            reference,
            text,
            score: score(&scorer, reference, text),
        })
        .collect();
    complete(&scorer, &mut answers);
    answers.into_iter().map(|answer| answer.score).collect()
}

fn ratio(scores: &[SampleScore], metric: &str) -> f64 {
    let (numerator, denominator) = scores.iter().fold((0.0, 0.0), |(numerator, denominator), score| {
        let Contribution { numerator: n, denominator: d } = score.contributions[metric];
        (numerator + n, denominator + d)
    });
    numerator / denominator
}

#[test]
fn scores_of_captions_and_corpora_are_those_of_pycocoevalcap() {
    let texts = texts();
    let mut lines = fixture("caption_scores.jsonl").into_iter();
    let mut compared = 0;
    while let Some(group) = lines.next() {
        let name = group["name"].as_str().unwrap();
        let cases: Vec<Value> = lines.by_ref().take(group["cases"].as_u64().unwrap() as usize).collect();
        let text = |number: &Value| texts[number.as_u64().unwrap() as usize].0.clone();
        let answers: Vec<(String, Reference)> = cases
            .iter()
            .map(|case| (text(&case[0]), Reference::Answers { answers: case[1].as_array().unwrap().iter().map(text).collect() }))
            .collect();
        let scores = score_all(&answers);
        for (case, scored) in cases.iter().zip(&scores) {
            let detail = |name: &str| scored.detail[name].as_f64().unwrap();
            let found = [detail("cider"), detail("rouge_l")]
                .into_iter()
                .chain((0..4).map(|index| scored.detail["sentence_bleu"][index].as_f64().unwrap()));
            for (index, found) in found.enumerate() {
                let expected = case[index + 2].as_f64().unwrap();
                assert!((found - expected).abs() <= 1e-9, "{name}, {case}, number {index}: {found} for {expected}");
            }
            assert_eq!(scored.contributions["cider"].numerator, detail("cider"));
            compared += 1;
        }
        for (metric, expected) in group["corpus"].as_object().unwrap() {
            let (found, expected) = (ratio(&scores, metric), expected.as_f64().unwrap());
            assert!((found - expected).abs() <= 1e-9, "{name}, {metric}: {found} for {expected}");
        }
    }
    assert!(compared >= 1300, "{compared}");
}

#[test]
fn the_metrics_are_cider_bleu_and_rouge() {
    let scorer = ScorerSpec::new(CAPTION);
    assert!(needs_all_answers(&scorer.rule));
    let names: Vec<String> = metrics(&scorer).into_iter().map(|metric| metric.name).collect();
    assert_eq!(names, ["cider", "bleu4", "bleu3", "bleu2", "bleu1", "rouge_l"]);
}

#[test]
#[ignore = "needs a file of texts and what the reference makes of them, named by CAPTION_PAIRS"]
fn any_file_of_pairs() {
    let path = std::env::var("CAPTION_PAIRS").unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let (mut cases, mut wrong) = (0, 0);
    for line in text.lines() {
        let [text, expected]: [String; 2] = serde_json::from_str(line).unwrap();
        cases += 1;
        let found = ptb_caption(&text);
        if found != expected {
            wrong += 1;
            if wrong <= 60 {
                println!("{text:?}\n  expected {expected:?}\n  found    {found:?}");
            }
        }
    }
    println!("{wrong} of {cases} differ");
    assert_eq!(wrong, 0);
}

/// `CAPTION_IMAGES=40504 cargo test --release --test captions -- --ignored --nocapture as_many` measures as many images as COCO's
/// val2014 has, with five references each.
#[test]
#[ignore = "a measurement"]
fn as_many_captions_as_coco_has() {
    let images: usize = std::env::var("CAPTION_IMAGES").map_or(2000, |count| count.parse().unwrap());
    let captions: Vec<String> = texts().into_iter().take(1000).map(|(text, _)| text).collect();
    // Captions differ in a few words, so that n-grams are as many as real ones.
    let caption = |index: usize| {
        let (first, second) =
            (&captions[index % captions.len()], &captions[(index * 7 + index / captions.len()) % captions.len()]);
        let half = |text: &str| text.split(' ').take(6).collect::<Vec<_>>().join(" ");
        format!("{} {}", half(first), half(second))
    };
    let answers: Vec<(String, Reference)> = (0..images)
        .map(|index| {
            let references = (1..=5).map(|other| caption(index * 5 + other)).collect();
            (caption(index * 5), Reference::Answers { answers: references })
        })
        .collect();
    let begin = std::time::Instant::now();
    let scores = score_all(&answers);
    println!("{images} images in {:.1} s, CIDEr {:.4}", begin.elapsed().as_secs_f64(), ratio(&scores, "cider"));
}
