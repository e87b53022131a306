//! Hand-made runs, in memory and on disk, for the tests of gates and baselines.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};

use llava_gauge::benchmark::{Contribution, Contributions, MetricSpec, Reference};
use llava_gauge::store::{
    BenchmarkIdentity, Environment, Failure, GroupTimings, ModelIdentity, Run, RunHeader, RunSettings, RunWriter, SampleRecord,
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

/// One sample: its image and its score; `None` is a failed sample.
pub type Scored = (usize, Option<f64>);

fn record(index: usize, cluster: usize, score: Option<f64>) -> SampleRecord {
    let mut contributions = Contributions::new();
    if let Some(score) = score {
        contributions.insert("accuracy".into(), Contribution { numerator: score, denominator: 1.0 });
        contributions.insert("error".into(), Contribution { numerator: 1.0 - score, denominator: 1.0 });
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
        text: if score == Some(1.0) { "yes".into() } else { "no".into() },
        log_probability: -0.5,
        stop_reason: "eos".into(),
        parsed: score.map(|score| score.to_string()),
        score,
        contributions,
        detail: serde_json::Value::Null,
        failure: score.is_none().then(|| Failure { kind: "engine".into(), message: "no".into() }),
        timings: SampleTimings {
            ttft_ms: 10.0,
            tpot_ms: Some(2.0),
            group: GroupTimings {
                questions: 1,
                vision_ms: 5.0 + (index % 7) as f64 * 0.01,
                decode_ms: 1.0,
                ..Default::default()
            },
        },
    }
}

/// A run of a package on a benchmark whose metrics are `accuracy` (primary) and `error`.
pub fn run(package: &str, benchmark: &str, samples: &[Scored]) -> Run {
    let records: Vec<SampleRecord> =
        samples.iter().enumerate().map(|(index, (cluster, score))| record(index, *cluster, *score)).collect();
    Run {
        directory: PathBuf::from(format!("runs/{package}/{benchmark}")),
        header: RunHeader {
            memory: None,
            execution: None,
            format: 1,
            started: "2026-11-23T07:00:00Z".into(),
            tag: None,
            commit: None,
            model: ModelIdentity {
                name: package.into(),
                identity: format!("identity of {package}"),
                precision: "fp32/fp32/fp32".into(),
                template: "vicuna_v1".into(),
                image_recipe: "pad 64px bicubic".into(),
                weight_bytes: Some(10_000_000),
                quantisation: Vec::new(),
                flavor: None,
            },
            benchmark: BenchmarkIdentity {
                name: benchmark.into(),
                title: benchmark.to_uppercase(),
                scorer: "yes-no/1".into(),
                samples_sha256: "cd".repeat(32),
                samples: records.len(),
                samples_available: records.len(),
                data_root: "data".into(),
                metrics: vec![metric("accuracy", Some(true), true), metric("error", Some(false), false)],
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
pub fn grid(package: &str, benchmark: &str, clusters: usize, each: usize, right: impl Fn(usize) -> bool) -> Run {
    let samples: Vec<Scored> =
        (0..clusters * each).map(|index| (index / each, Some(f64::from(u8::from(right(index)))))).collect();
    run(package, benchmark, &samples)
}

/// The usual base: three of four right on 40 images with 5 questions.
pub fn good(package: &str, benchmark: &str) -> Run {
    grid(package, benchmark, 40, 5, |index| index % 4 != 3)
}

/// Clearly worse than [`good`]: on each second image one question more is wrong.
pub fn bad(package: &str, benchmark: &str) -> Run {
    grid(package, benchmark, 40, 5, |index| index % 4 != 3 && index % 10 != 0)
}

/// Writes a run into `folder/PACKAGE/BENCHMARK` and returns that.
pub fn write(run: &Run, folder: &Path) -> PathBuf {
    let directory = folder.join(&run.header.model.name).join(&run.header.benchmark.name);
    let (mut writer, _) = RunWriter::open_or_resume(&directory, &run.header).unwrap();
    writer.append(&run.records).unwrap();
    if run.records.len() == run.header.benchmark.samples {
        writer.finish(b"{}").unwrap();
    }
    directory
}
