//! Shapley values of stages on hand-made runs, against an independent computation
//! (`tests/fixtures/attribution/make_attribution.py`).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop where it failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llava_gauge::benchmark::{Contribution, Contributions, MetricSpec, Reference};
use llava_gauge::compare::{
    Attribution, AttributionError, BenchmarkAttribution, Estimate, MixRun, Side, Stage, attribute_benchmark,
};
use llava_gauge::store::{
    BenchmarkIdentity, Environment, ModelIdentity, Run, RunHeader, RunSettings, SampleRecord, SampleTimings,
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    mean_over_categories: bool,
    free: Vec<usize>,
    samples: Vec<Sample>,
    n: usize,
    scores: BTreeMap<String, f64>,
    stages: Vec<Expected>,
    difference: Expected,
}

/// A sample with its numerator and denominator in each mix, by the mask of the stages that are new.
#[derive(Clone, Debug, Deserialize)]
struct Sample {
    cluster: String,
    category: String,
    mixes: BTreeMap<String, Option<[f64; 2]>>,
}

#[derive(Deserialize)]
struct Expected {
    value: f64,
    standard_error: f64,
    interval: [f64; 2],
}

fn sides(mask: usize) -> [Side; 3] {
    [0, 1, 2].map(|stage| if mask >> stage & 1 == 1 { Side::New } else { Side::Base })
}

/// The run of the mix with these new stages.
fn run(samples: &[Sample], mask: usize, mean_over_categories: bool) -> Run {
    let records: Vec<SampleRecord> = samples
        .iter()
        .enumerate()
        .map(|(index, sample)| {
            let contribution = sample.mixes[&mask.to_string()];
            let mut contributions = Contributions::new();
            if let Some([numerator, denominator]) = contribution {
                contributions.insert("accuracy".into(), Contribution { numerator, denominator });
            }
            SampleRecord {
                key: format!("q{index}"),
                cluster: sample.cluster.clone(),
                category: Some(sample.category.clone()),
                images: Vec::new(),
                question: String::new(),
                prompt: String::new(),
                prompt_sha256: String::new(),
                prompt_tokens: 0,
                reference: Reference::YesNo { yes: true },
                token_ids: Vec::new(),
                text: String::new(),
                log_probability: 0.0,
                stop_reason: "eos".into(),
                parsed: None,
                score: contribution.map(|[numerator, _]| numerator),
                contributions,
                detail: serde_json::Value::Null,
                failure: None,
                timings: SampleTimings::default(),
            }
        })
        .collect();
    let accuracy = MetricSpec {
        name: "accuracy".into(),
        scale: 100.0,
        higher_is_better: Some(true),
        primary: true,
        mean_over_categories,
        sum_over_categories: false,
        points: false,
    };
    Run {
        directory: PathBuf::from("run"),
        header: RunHeader {
            memory: None,
            execution: None,
            format: 1,
            started: "2025-11-23T07:00:00Z".into(),
            tag: None,
            commit: None,
            model: ModelIdentity {
                name: "mix".into(),
                identity: "identity".into(),
                precision: "fp32/fp32/fp32".into(),
                template: "vicuna_v1".into(),
                image_recipe: "pad".into(),
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
                metrics: vec![accuracy],
                data: None,
            },
            settings: RunSettings {
                max_new_tokens: 16,
                provider: "cpu".into(),
                intra_op_threads: 1,
                scheduling: "packed-tree".into(),
                scheduling_reason: None,
                prompt_sha256: None,
                answering: None,
                ..Default::default()
            },
            environment: Environment {
                program_version: "0".into(),
                runtime_version: "0".into(),
                runtime_sha256: "0".into(),
                platform: "linux".into(),
                processor: "p".into(),
                physical_cores: 1,
                memory_bytes: 1,
            },
        },
        records,
        complete: true,
        notes: Vec::new(),
        judge: None,
    }
}

/// The attribution of samples whose mixes are those of the `free` stages.
fn attributed(samples: &[Sample], free: &[usize], mean: bool) -> Result<BenchmarkAttribution, AttributionError> {
    let masks: Vec<usize> = (0..8).filter(|mask| (0..3).all(|stage| mask >> stage & 1 == 0 || free.contains(&stage))).collect();
    let runs: Vec<Run> = masks.iter().map(|mask| run(samples, *mask, mean)).collect();
    // The order of the mixes does not matter.
    let mixes: Vec<MixRun<'_>> = masks.iter().zip(&runs).rev().map(|(mask, run)| MixRun { sides: sides(*mask), run }).collect();
    let equal: Vec<Stage> = (0..3).filter(|stage| !free.contains(stage)).map(|stage| Stage::ALL[stage]).collect();
    attribute_benchmark(&mixes, &equal)
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/attribution/attribution.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Both sides compute in double precision and sum in other orders.
const TOLERANCE: f64 = 1e-9;

fn assert_estimate(found: &Estimate, expected: &Expected, what: &str) {
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < TOLERANCE, "{what}: {found}, expected {expected}");
    close(found.value, expected.value);
    close(found.standard_error.unwrap(), expected.standard_error);
    let [low, high] = found.interval.unwrap();
    close(low, expected.interval[0]);
    close(high, expected.interval[1]);
}

#[test]
fn values_and_intervals_are_those_of_the_independent_computation() {
    let cases = cases();
    assert_eq!(cases.len(), 6);
    for case in &cases {
        let found = attributed(&case.samples, &case.free, case.mean_over_categories).unwrap();
        assert_eq!(found.n, case.n, "{}", case.name);
        assert!(found.percent);
        assert_estimate(&found.difference, &case.difference, &case.name);
        for (stage, expected) in found.stages.iter().zip(&case.stages) {
            assert_estimate(&stage.contribution, expected, &format!("{} {:?}", case.name, stage.stage));
        }
        assert_eq!(found.mixes.len(), case.scores.len());
        for mix in &found.mixes {
            let new = [mix.vision, mix.projector, mix.llm].map(|side| side == Side::New);
            let mask = new.iter().enumerate().map(|(stage, new)| usize::from(*new) << stage).sum::<usize>();
            let expected = case.scores[&mask.to_string()];
            assert!((mix.estimate.value - expected).abs() < TOLERANCE, "{}: {mask}", case.name);
        }
        let ends = [found.mixes.first().unwrap(), found.mixes.last().unwrap()].map(|mix| mix.estimate.value);
        assert!((ends[1] - ends[0] - found.difference.value).abs() < TOLERANCE);
        // Shares only where there is something to divide.
        let [low, high] = case.difference.interval;
        let divisible = low > 0.0 || high < 0.0;
        assert!(found.stages.iter().all(|stage| stage.share.is_some() == divisible), "{}", case.name);
        if divisible {
            assert!((found.stages.iter().filter_map(|stage| stage.share).sum::<f64>() - 1.0).abs() < TOLERANCE);
        }
        let left_out = case.samples.len() - case.n;
        assert!(found.notes[0].starts_with(&format!("{left_out} of {} samples", case.samples.len())), "{:?}", found.notes);
    }
    assert!(cases.iter().any(|case| case.difference.interval[0] < 0.0 && case.difference.interval[1] > 0.0));
}

#[test]
fn a_missing_mix_and_a_metric_without_value_are_named() {
    let case = &cases()[0];
    let runs: Vec<Run> = (0..7).map(|mask| run(&case.samples, mask, false)).collect();
    let mixes: Vec<MixRun<'_>> = runs.iter().enumerate().map(|(mask, run)| MixRun { sides: sides(mask), run }).collect();
    let error = attribute_benchmark(&mixes, &[]).unwrap_err().to_string();
    assert!(error.contains("vision new, projector new, llm new") && error.contains("pope"), "{error}");
    let mut samples = case.samples[..2].to_vec();
    for sample in &mut samples {
        sample.mixes.insert("3".into(), None);
    }
    let error = attributed(&samples, &[0, 1, 2], false).unwrap_err().to_string();
    assert!(error.contains("0 samples") && error.contains("accuracy"), "{error}");
    assert!(attribute_benchmark(&[], &Stage::ALL).is_err());
}

#[test]
fn without_spread_there_is_no_interval_and_many_clusters_are_needed_for_a_share() {
    let always = |clusters: usize| -> Vec<Sample> {
        let mixes =
            (0..8).map(|mask: usize| (mask.to_string(), Some([f64::from(mask & 2 == 0), 1.0]))).collect::<BTreeMap<_, _>>();
        (0..clusters).map(|at| Sample { cluster: at.to_string(), category: String::new(), mixes: mixes.clone() }).collect()
    };
    let few = attributed(&always(4), &[0, 1, 2], false).unwrap();
    assert_eq!((few.difference.value, few.difference.interval), (-100.0, None));
    assert!(few.stages.iter().all(|stage| stage.share.is_none()), "four clusters may all point one way by chance (1 in 8)");
    let many = attributed(&always(8), &[0, 1, 2], false).unwrap();
    let shares: Vec<f64> = many.stages.iter().map(|stage| stage.share.unwrap()).collect();
    assert_eq!(shares, [0.0, 1.0, 0.0]);
}

#[test]
fn the_sample_for_the_report_is_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/report/attribution.json");
    let attribution: Attribution = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(attribution.format, 1);
    for benchmark in &attribution.benchmarks {
        let sum: f64 = benchmark.stages.iter().map(|stage| stage.contribution.value).sum();
        assert!((sum - benchmark.difference.value).abs() < TOLERANCE, "{}", benchmark.benchmark);
    }
}

/// Samples of three questions an image with right and wrong answers in every mix.
fn any_samples() -> impl Strategy<Value = Vec<Sample>> {
    prop::collection::vec(prop::array::uniform8(any::<bool>()), 6..24).prop_map(|rows| {
        let sample = |(index, row): (usize, [bool; 8])| Sample {
            cluster: (index / 3).to_string(),
            category: String::new(),
            mixes: row.iter().enumerate().map(|(mask, right)| (mask.to_string(), Some([f64::from(*right), 1.0]))).collect(),
        };
        rows.into_iter().enumerate().map(sample).collect()
    })
}

/// The same samples with each mix's answers in the place of another's.
fn with_masks(samples: &[Sample], place: impl Fn(usize) -> usize) -> Vec<Sample> {
    let moved = |sample: &Sample| Sample {
        mixes: (0..8).map(|mask| (mask.to_string(), sample.mixes[&place(mask).to_string()])).collect(),
        ..sample.clone()
    };
    samples.iter().map(moved).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parts_sum_to_the_whole_and_change_sign_with_the_sides(samples in any_samples()) {
        let found = attributed(&samples, &[0, 1, 2], false).unwrap();
        let sum: f64 = found.stages.iter().map(|stage| stage.contribution.value).sum();
        prop_assert!((sum - found.difference.value).abs() < TOLERANCE);
        let swapped = attributed(&with_masks(&samples, |mask| 7 - mask), &[0, 1, 2], false).unwrap();
        for (one, other) in found.stages.iter().zip(&swapped.stages) {
            prop_assert!((one.contribution.value + other.contribution.value).abs() < TOLERANCE);
            let errors = (one.contribution.standard_error.unwrap(), other.contribution.standard_error.unwrap());
            prop_assert!((errors.0 - errors.1).abs() < TOLERANCE);
        }
    }

    /// A stage that never changes anything gets nothing, whether it was swapped or not.
    #[test]
    fn a_stage_without_effect_gets_nothing(samples in any_samples()) {
        let idle = with_masks(&samples, |mask| mask & 5);
        let swapped = attributed(&idle, &[0, 1, 2], false).unwrap();
        let equal = attributed(&idle, &[0, 2], false).unwrap();
        prop_assert!(swapped.stages[1].contribution.value.abs() < TOLERANCE);
        prop_assert_eq!(equal.stages[1].contribution.value, 0.0);
        prop_assert_eq!(equal.stages[1].contribution.interval, Some([0.0, 0.0]));
        for stage in [0, 2] {
            let (one, other) = (swapped.stages[stage].contribution, equal.stages[stage].contribution);
            prop_assert!((one.value - other.value).abs() < TOLERANCE);
        }
    }
}
