//! Hand-made runs.
#![allow(clippy::unwrap_used, reason = "a test that fails should stop where it failed")]

use std::path::PathBuf;

use llava_gauge::benchmark::{Contribution, Contributions, MetricSpec, Reference};
use llava_gauge::compare::{Comparison, PairComparison, compare};
use llava_gauge::store::{
    BenchmarkIdentity, Environment, Failure, GroupTimings, ModelIdentity, Run, RunHeader, RunSettings, SampleRecord,
    SampleTimings,
};

pub fn metric(name: &str, higher_is_better: Option<bool>, primary: bool) -> MetricSpec {
    MetricSpec {
        name: name.into(),
        scale: 100.0,
        higher_is_better,
        primary,
        mean_over_categories: false,
        sum_over_categories: false,
        points: false,
    }
}

/// A run of samples given as cluster and score; `None` is a failed sample.
pub fn run(name: &str, samples: &[(usize, Option<f64>)]) -> Run {
    let records: Vec<SampleRecord> = samples
        .iter()
        .enumerate()
        .map(|(index, (cluster, score))| {
            let mut contributions = Contributions::new();
            if let Some(score) = score {
                let gain = Contribution { numerator: *score, denominator: 1.0 };
                let loss = Contribution { numerator: 1.0 - score, denominator: 1.0 };
                contributions.insert("accuracy".into(), gain);
                contributions.insert("error".into(), loss);
                contributions.insert("yes_ratio".into(), loss);
            }
            SampleRecord {
                key: format!("q{index}"),
                cluster: format!("image{cluster}"),
                category: None,
                images: vec![format!("image{cluster}.png")],
                question: format!("Question {index}?"),
                prompt: "USER: <image>".into(),
                prompt_sha256: "01".repeat(32),
                prompt_tokens: 30,
                reference: Reference::YesNo { yes: true },
                token_ids: vec![1, 2],
                text: format!("{score:?}"),
                log_probability: -0.5,
                stop_reason: "eos".into(),
                parsed: score.map(|score| score.to_string()),
                score: *score,
                contributions,
                detail: serde_json::Value::Null,
                failure: score.is_none().then(|| Failure { kind: "engine".into(), message: "no".into() }),
                timings: SampleTimings {
                    ttft_ms: 10.0,
                    tpot_ms: Some(2.0),
                    group: GroupTimings { questions: 1, vision_ms: 5.0 + index as f64, decode_ms: 1.0, ..Default::default() },
                },
            }
        })
        .collect();
    Run {
        directory: PathBuf::from(format!("runs/{name}/pope")),
        header: RunHeader {
            memory: None,
            execution: None,
            format: 1,
            started: "2025-11-23T07:00:00Z".into(),
            tag: None,
            commit: None,
            model: ModelIdentity {
                name: name.into(),
                identity: format!("identity of {name}"),
                precision: "fp32/fp32/fp32".into(),
                template: "vicuna_v1".into(),
                image_recipe: "pad 64px bicubic".into(),
                weight_bytes: None,
                quantisation: Vec::new(),
                flavor: None,
            },
            benchmark: BenchmarkIdentity {
                name: "pope".into(),
                title: "POPE".into(),
                scorer: "yes-no/1".into(),
                samples_sha256: "cd".repeat(32),
                samples: records.len(),
                samples_available: records.len(),
                data_root: "data".into(),
                // The primary one stands second to see it move to the front.
                metrics: vec![
                    metric("error", Some(false), false),
                    metric("accuracy", Some(true), true),
                    metric("yes_ratio", None, false),
                ],
                data: None,
            },
            settings: RunSettings {
                max_new_tokens: 16,
                provider: "cpu".into(),
                intra_op_threads: 2,
                scheduling: "packed-tree".into(),
                scheduling_reason: None,
                prompt_sha256: None,
                answering: None,
                ..Default::default()
            },
            environment: Environment {
                program_version: "0.1.0".into(),
                runtime_version: "1.31.1".into(),
                runtime_sha256: "ef".repeat(32),
                platform: "linux x86_64".into(),
                processor: "a processor".into(),
                physical_cores: 2,
                memory_bytes: 1 << 34,
            },
        },
        records,
        complete: true,
        notes: vec![],
        judge: None,
    }
}

/// `clusters` images with `each` questions, of which the ones that `right` accepts are right.
pub fn grid(name: &str, clusters: usize, each: usize, right: impl Fn(usize) -> bool) -> Run {
    let samples: Vec<_> = (0..clusters * each).map(|index| (index / each, Some(f64::from(u8::from(right(index)))))).collect();
    run(name, &samples)
}

#[track_caller]
pub fn pair(base: &Run, new: &Run) -> PairComparison {
    let comparison = compare(&[base.clone(), new.clone()], 1.0).unwrap();
    // Every comparison can be written and read back; JSON has no NaN, which would come back as an error.
    let text = serde_json::to_string(&comparison).unwrap();
    assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), comparison);
    comparison.pairs.into_iter().next().unwrap()
}

pub fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-9
}
