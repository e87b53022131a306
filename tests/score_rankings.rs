//! Zero-shot classification and retrieval against CLIP_benchmark's code, recorded by `fixtures/score/make_ranking_scores.py`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::Path;

use llava_gauge::benchmark::{Reference, RetrievalDirection, ScorerRule, ScorerSpec};
use llava_gauge::compare::{ScoredSample, summarise_scored};
use llava_gauge::score::{SampleScore, metrics, score};
use serde_json::Value;

#[test]
fn rankings_count_as_in_clip_benchmark() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/score/rankings.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let sets = lines.next().unwrap();
    let queries: Vec<Value> = lines.collect();
    assert!(queries.iter().filter(|query| sets[query[0].as_u64().unwrap() as usize]["kind"] == "zero-shot").count() >= 1000);
    assert!(queries.len() >= 2120, "as many of retrieval");
    for (index, set) in sets.as_array().unwrap().iter().enumerate() {
        let candidates = set["candidates"].as_u64().unwrap() as usize;
        let direction = match set["kind"].as_str().unwrap() {
            "zero-shot" => None,
            "text-to-image" => Some(RetrievalDirection::TextToImage),
            _ => Some(RetrievalDirection::ImageToText),
        };
        let scorer = ScorerSpec::new(if direction.is_none() { ScorerRule::ZeroShot } else { ScorerRule::Retrieval });
        let mut scored: Vec<(String, SampleScore)> = Vec::new();
        for query in queries.iter().filter(|query| query[0] == index) {
            let ranking: Vec<String> = query[2].as_array().unwrap().iter().map(Value::to_string).collect();
            let (category, reference) = match direction {
                None => (query[1].to_string(), Reference::Class { label: query[1].to_string(), classes: candidates }),
                Some(direction) => {
                    let relevant = query[1].as_array().unwrap().iter().map(Value::to_string).collect();
                    (direction.as_str().to_owned(), Reference::Retrieval { direction, relevant, candidates })
                }
            };
            scored.push((category, score(&scorer, &reference, &ranking.join("\n"))));
        }
        let samples: Vec<ScoredSample<'_>> = scored
            .iter()
            .map(|(category, score)| ScoredSample {
                cluster: category,
                category: Some(category),
                contributions: &score.contributions,
            })
            .collect();
        let found = summarise_scored(&metrics(&scorer), &samples);
        let names = ["acc@1", "acc@5", "mean_per_class_recall", "recall@1", "recall@5", "recall@10"];
        let mut compared = 0;
        for name in names.into_iter().filter(|name| set.get(*name).is_some()) {
            let found = found.iter().find(|metric| metric.name == name).map(|metric| metric.estimate.value);
            match set[name].as_f64() {
                Some(expected) => {
                    assert!((found.unwrap() - 100.0 * expected).abs() < 1e-9, "{name} of {set}: {found:?}");
                }
                None => assert_eq!(found, None, "{name} of {set}"),
            }
            compared += 1;
        }
        assert_eq!(compared, 3);
    }
}
