//! Summaries and comparisons of hand-made runs, degenerate ones above all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop where it failed")]

mod compare_support;
#[path = "compare_support/determinism.rs"]
mod determinism;
#[path = "compare_support/latency.rs"]
mod latency;
#[path = "compare_support/many.rs"]
mod many;
#[path = "compare_support/refusals.rs"]
mod refusals;

use compare_support::{close, grid, metric, pair, run};
use llava_gauge::benchmark::{Contribution, Contributions, Reference};
use llava_gauge::compare::{CompareError, ScoredSample, Verdict, compare, summarise, summarise_scored};
use llava_gauge::store::{GroupTimings, Run, SampleTimings};
use proptest::prelude::*;

#[test]
fn a_mean_has_the_clustered_error_of_the_specification() {
    // Two questions on each of three images.
    let scores = [1.0, 1.0, 0.0, 1.0, 0.0, 0.0];
    let samples: Vec<_> = scores.iter().enumerate().map(|(index, score)| (index / 2, Some(*score))).collect();
    let summary = summarise(&run("a", &samples));
    let names: Vec<&str> = summary.metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names, ["accuracy", "error", "yes_ratio"]);
    let estimate = summary.metrics[0].estimate;
    assert!(close(estimate.value, 50.0));
    // Deviations sum to 1, 0 and −1 within images: sqrt(3/2 · 2)/6.
    let expected = 100.0 * 3.0_f64.sqrt() / 6.0;
    assert!(close(estimate.standard_error.unwrap(), expected), "{estimate:?}");
    // t(0.975, 2) = 4.3027 makes the interval wider than a share can be.
    assert_eq!(estimate.interval, Some([0.0, 100.0]));
    assert_eq!((estimate.n, estimate.clusters), (6, 3));
    let naive_squared = 6.0 / 5.0 * 6.0 * 0.25 / 36.0;
    assert!(close(estimate.design_effect.unwrap(), 3.0 / 36.0 / naive_squared));
    assert_eq!((summary.records, summary.failed, summary.unparsed), (6, 0, 0));
}

#[test]
fn ratios_and_means_over_categories_are_those_of_their_definitions() {
    // Confusion cells of six answers: TP, FP, FN, TN, TP, FN.
    let cells = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)];
    let contributions: Vec<Contributions> = cells
        .iter()
        .map(|(tp, fp, fn_)| {
            [
                ("f1".to_owned(), Contribution { numerator: 2.0 * tp, denominator: 2.0 * tp + fp + fn_ }),
                ("precision".to_owned(), Contribution { numerator: *tp, denominator: tp + fp }),
                ("empty".to_owned(), Contribution { numerator: 0.0, denominator: 0.0 }),
            ]
            .into()
        })
        .collect();
    let clusters = ["a", "a", "b", "b", "c", "c"];
    let categories = ["x", "y", "x", "y", "x", "y"];
    let samples: Vec<ScoredSample<'_>> = (0..6)
        .map(|index| ScoredSample {
            cluster: clusters[index],
            category: Some(categories[index]),
            contributions: &contributions[index],
        })
        .collect();
    let mut over_categories = metric("f1", Some(true), true);
    over_categories.mean_over_categories = true;
    let specs = [metric("precision", Some(true), false), metric("empty", Some(true), false), over_categories];
    let summaries = summarise_scored(&specs, &samples);
    // A metric without a value is left out, never 0.
    assert_eq!(summaries.iter().map(|summary| summary.name.as_str()).collect::<Vec<_>>(), ["f1", "precision"]);
    // Category x: TP, FN, TP gives 4/5; category y: FP, TN, FN gives 0/2.
    assert!(close(summaries[0].estimate.value, 40.0), "{:?}", summaries[0]);
    assert!(close(summaries[1].estimate.value, 100.0 * 2.0 / 3.0));
    let plain = summarise_scored(&[metric("f1", Some(true), true)], &samples);
    assert!(close(plain[0].estimate.value, 100.0 * 4.0 / 7.0));
    assert_eq!(summarise_scored(&specs, &[]), vec![]);
}

#[test]
fn runs_with_little_or_nothing_in_them_are_summarised_as_such() {
    let empty = summarise(&run("empty", &[]));
    assert_eq!((empty.records, empty.metrics.len(), empty.categories.len()), (0, 0, 0));
    assert_eq!((empty.latency.vision, empty.latency.per_question_ms), (None, None));

    let one = summarise(&run("one", &[(0, Some(1.0))])).metrics[0].estimate;
    assert_eq!((one.value, one.standard_error, one.interval, one.design_effect), (100.0, None, None, None));
    assert_eq!((one.n, one.clusters), (1, 1));

    let one_cluster = summarise(&grid("one cluster", 1, 10, |index| index % 2 == 0)).metrics[0].estimate;
    assert_eq!((one_cluster.value, one_cluster.standard_error, one_cluster.interval), (50.0, None, None));

    let failed = summarise(&run("failed", &[(0, None), (1, None)]));
    assert_eq!((failed.records, failed.failed, failed.metrics.len()), (2, 2, 0));

    let partly = summarise(&run("partly", &[(0, None), (1, Some(1.0)), (2, Some(0.0))]));
    assert_eq!((partly.failed, partly.metrics[0].estimate.n, partly.metrics[0].estimate.value), (1, 2, 50.0));

    // All right says less than "100 % ± 0": Wilson with 10 trials, for 10 images.
    let right = summarise(&grid("right", 10, 3, |_| true)).metrics[0].estimate;
    let [low, high] = right.interval.unwrap();
    let z2 = 1.959_963_984_540_054_f64.powi(2);
    assert!(close(low, 100.0 * 10.0 / (10.0 + z2)) && high == 100.0, "{low} {high}");
    assert_eq!((right.value, right.standard_error, right.design_effect), (100.0, Some(0.0), None));
}

#[test]
fn unparsed_answers_and_categories_are_counted() {
    let mut some = grid("some", 30, 2, |index| index % 4 != 0);
    for (index, record) in some.records.iter_mut().enumerate() {
        record.category = Some(["random", "adversarial"][index % 2].into());
        if index < 7 {
            record.parsed = None;
        }
    }
    let summary = summarise(&some);
    assert_eq!(summary.unparsed, 7);
    let categories: Vec<(&str, f64, usize)> = summary
        .categories
        .iter()
        .map(|category| (category.category.as_str(), category.estimate.value, category.estimate.n))
        .collect();
    assert_eq!(categories, [("adversarial", 100.0, 30), ("random", 50.0, 30)]);
}

#[test]
fn verdicts_follow_the_interval() {
    let good = grid("good", 100, 4, |index| index % 10 != 0);
    let verdicts = |base: &Run, new: &Run| -> Vec<Verdict> { pair(base, new).metrics.iter().map(|one| one.verdict).collect() };
    use Verdict::{Descriptive, Identical, Improved, Inconclusive, NoWorse, Regressed};

    let bad = grid("bad", 100, 4, |index| index % 10 > 2);
    assert_eq!(verdicts(&good, &bad), [Regressed, Regressed, Descriptive]);
    assert_eq!(verdicts(&bad, &good), [Improved, Improved, Descriptive]);
    assert_eq!(verdicts(&good, &good), [Identical, Identical, Descriptive]);
    let worse = pair(&good, &bad);
    assert_eq!((worse.paired, worse.fixed, worse.broken, worse.same), (400, 0, 80, 320));
    assert_eq!(worse.verdict(), Regressed);
    assert!(worse.primary().unwrap().p_value.unwrap() < 1e-9);
    assert!(close(worse.primary().unwrap().difference.value, -20.0));

    // One flip each way in 400: well within a point.
    let shuffled = grid("shuffled", 100, 4, |index| index % 10 != 0 && index != 17 || index == 50);
    let same = pair(&good, &shuffled);
    assert_eq!((same.verdict(), same.fixed, same.broken), (NoWorse, 1, 1));
    let keys: Vec<&str> = same.flips.iter().map(|flip| flip.key.as_str()).collect();
    assert_eq!(keys, ["q17", "q50"], "broken first");
    assert_eq!((same.flips[0].base.score, same.flips[0].new.score), (Some(1.0), Some(0.0)));

    // Many flips each way: nothing can be said, and what could have been seen is told.
    let noisy = grid("noisy", 100, 4, |index| index % 10 != 3);
    let unclear = pair(&good, &noisy);
    assert_eq!(unclear.verdict(), Inconclusive);
    let primary = unclear.primary().unwrap();
    let expected = primary.difference.standard_error.unwrap() * (1.984_216_951_508_683 + 0.845_223_632_609_5);
    assert!((primary.minimum_detectable_effect.unwrap() - expected).abs() < 1e-3, "{primary:?}");

    // The margin is in points; a wide one makes it "no worse".
    let comparison = compare(&[good, noisy], 10.0).unwrap();
    assert_eq!(comparison.pairs[0].verdict(), NoWorse);
}

#[test]
fn a_margin_counts_hundredths_of_the_scale() {
    let rescaled = |mut run: Run| {
        for spec in &mut run.header.benchmark.metrics {
            spec.scale = 1.0;
        }
        run
    };
    let base = rescaled(grid("base", 100, 4, |index| index % 10 != 0));
    let noisy = rescaled(grid("noisy", 100, 4, |index| index % 10 != 3));
    let found = pair(&base, &noisy);
    assert!(close(found.primary().unwrap().base.value, 0.9));
    // A margin of one whole unit would call anything "no worse".
    assert_eq!(found.verdict(), Verdict::Inconclusive);
    for margin in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(compare(&[base.clone(), noisy.clone()], margin), Err(CompareError::Margin { .. })));
    }
}

#[test]
fn differences_without_spread_are_not_taken_for_certainty() {
    // Every answer of two images broke: two clusters that agree are no proof.
    let two = pair(&grid("base", 2, 5, |_| true), &grid("new", 2, 5, |_| false));
    let primary = two.primary().unwrap();
    assert_eq!((primary.verdict, primary.p_value, primary.difference.interval), (Verdict::Inconclusive, Some(0.5), None));
    assert_eq!(primary.minimum_detectable_effect, None);
    // Eight are: 2·2^−8.
    let eight = pair(&grid("base", 8, 5, |_| true), &grid("new", 8, 5, |_| false));
    assert_eq!((eight.verdict(), eight.primary().unwrap().p_value), (Verdict::Regressed, Some(0.5_f64.powi(7))));
    assert_eq!(pair(&grid("base", 8, 5, |_| false), &grid("new", 8, 5, |_| true)).verdict(), Verdict::Improved);
    // One cluster says nothing at all.
    let one = pair(&grid("base", 1, 5, |_| true), &grid("new", 1, 5, |index| index > 0));
    let primary = one.primary().unwrap();
    assert_eq!((primary.verdict, primary.p_value, primary.difference.interval), (Verdict::Inconclusive, None, None));
    assert_eq!((one.broken, one.same), (1, 4));
    assert!(one.notes.iter().any(|note| note.contains("clusters is only 1:")), "{:?}", one.notes);
}

#[test]
fn equal_scores_are_bounded_not_proven() {
    let base = grid("base", 100, 3, |index| index % 7 != 0);
    let found = pair(&base, &base);
    let primary = found.primary().unwrap();
    assert_eq!((found.verdict(), primary.p_value, primary.difference.interval), (Verdict::Identical, Some(1.0), None));
    assert_eq!((found.same, found.flips.len()), (300, 0));
    // 1 − 0.05^(1/100) = 2.95 %.
    assert!(found.notes.iter().any(|note| note.contains("all 300 scores are equal") && note.contains("below 3.0 %")));
    assert!(found.notes.iter().any(|note| note.starts_with("both runs used the same package")));
}

#[test]
fn samples_that_failed_or_are_missing_are_left_out_and_told() {
    let base = run("base", &[(0, Some(1.0)), (1, None), (2, Some(0.0)), (3, Some(1.0))]);
    let mut new = run("new", &[(0, Some(1.0)), (1, Some(1.0)), (2, None), (3, Some(0.0))]);
    let found = pair(&base, &new);
    assert_eq!((found.paired, found.same, found.broken, found.fixed), (2, 1, 1, 0));
    assert_eq!(found.primary().unwrap().difference.n, 2);
    assert!(found.notes.iter().any(|note| note.starts_with("1 samples failed in the first run")));
    new.records.truncate(1);
    new.complete = false;
    let found = pair(&base, &new);
    assert_eq!(found.paired, 1);
    assert!(found.notes.contains(&"the second run is incomplete: 1 of 4 samples".to_owned()), "{:?}", found.notes);

    let nothing = run("nothing", &[(0, None), (1, None), (2, None), (3, None)]);
    let found = pair(&base, &nothing);
    assert_eq!((found.paired, found.metrics.len(), found.verdict()), (0, 0, Verdict::Inconclusive));
    assert!(found.notes.iter().any(|note| note == "no sample was answered in both runs"));
    assert!(found.notes.iter().any(|note| note.contains("accuracy has no value")));
    let found = pair(&run("a", &[]), &run("b", &[]));
    assert_eq!((found.paired, found.verdict()), (0, Verdict::Inconclusive));
}

#[test]
fn runs_of_other_samples_or_scorers_are_refused() {
    let base = grid("base", 5, 2, |_| true);
    let mut new = grid("new", 5, 2, |_| false);
    new.header.benchmark.samples_sha256 = "ff".repeat(32);
    new.header.benchmark.scorer = "yes-no/2".into();
    new.header.benchmark.metrics.pop();
    let error = compare(&[base.clone(), new], 1.0).unwrap_err();
    let CompareError::NotComparable { differences } = &error else { panic!("{error}") };
    let fields: Vec<&str> = differences.iter().map(|difference| difference.field.as_str()).collect();
    assert_eq!(fields, ["the hash of the sample set", "the scorer", "the definition of the metrics"]);
    assert!(error.to_string().contains("pope: the scorer is yes-no/1 in runs/base/pope and yes-no/2 in runs/new/pope"));

    // A header that claims the same samples does not help a log that holds others.
    let mut forged = grid("forged", 5, 2, |_| false);
    forged.records[3].reference = Reference::YesNo { yes: false };
    let error = compare(&[base, forged], 1.0).unwrap_err().to_string();
    assert!(error.contains("sample \"q3\""), "{error}");
}

#[test]
fn other_templates_settings_and_machines_are_compared_and_noted() {
    let base = grid("base", 30, 2, |index| index % 3 == 0);
    let mut new = grid("new", 30, 2, |index| index % 4 == 0);
    new.header.model.template = "chat-template".into();
    new.header.model.precision = "fp16/fp16/fp16".into();
    new.header.settings.intra_op_threads = 4;
    new.header.environment.runtime_version = "1.32.0".into();
    for record in &mut new.records {
        record.prompt_sha256 = "02".repeat(32);
        record.token_ids = vec![1; 5];
    }
    let found = pair(&base, &new);
    for expected in [
        "prompt template: vicuna_v1 in the first run, chat-template in the second",
        "precision: fp32/fp32/fp32 in the first run, fp16/fp16/fp16 in the second",
        "threads: 2 in the first run, 4 in the second",
        "ONNX Runtime: 1.31.1 in the first run, 1.32.0 in the second",
        "the rendered prompt differs in 60 of 60 samples",
        "answers have 5.0 tokens on average instead of 2.0, which changes decoding time",
    ] {
        assert!(found.notes.iter().any(|note| note == expected), "{expected}: {:?}", found.notes);
    }
    assert!(found.latency.is_some());
    new.header.environment.processor = "another".into();
    let found = pair(&base, &new);
    assert_eq!(found.latency, None);
    assert!(found.notes.contains(&"the machines differ, so times are not compared".to_owned()));
}

/// Gives every record its image's timings, as the conductor does.
fn with_group_times(mut run: Run, each: usize, vision_ms: impl Fn(usize) -> f64) -> Run {
    for (index, record) in run.records.iter_mut().enumerate() {
        record.timings.group = GroupTimings {
            questions: each,
            image_ms: 1000.0,
            vision_ms: vision_ms(index / each),
            decode_ms: 2.0,
            ..Default::default()
        };
    }
    run
}

#[test]
fn group_times_count_once_and_unsupported_percentiles_are_absent() {
    let timed = with_group_times(grid("a", 50, 6, |_| true), 6, |group| 10.0 + group as f64);
    let latency = summarise(&timed).latency;
    let vision = latency.vision.unwrap();
    assert_eq!((vision.n, vision.mean_ms, vision.p50_ms), (50, 34.5, 34.5));
    assert!(vision.p90_ms.is_some_and(|p90| close(p90, 54.1)), "50 groups support P90");
    assert_eq!(vision.p99_ms, None);
    assert_eq!(latency.ttft.unwrap().n, 300);
    // Reading images ahead is not engine time: (34.5 + 2)/6.
    assert!(close(latency.per_question_ms.unwrap(), 36.5 / 6.0));
    let few = summarise(&with_group_times(grid("a", 43, 1, |_| true), 1, |group| group as f64)).latency;
    assert_eq!(few.vision.unwrap().p90_ms, None);

    // An interrupted group ran twice, three questions each time.
    let mut interrupted = timed.clone();
    for (index, record) in interrupted.records.iter_mut().enumerate().take(6) {
        record.timings.group.questions = 3;
        record.timings.group.vision_ms = if index < 3 { 7.0 } else { 8.0 };
    }
    let latency = summarise(&interrupted).latency;
    assert_eq!(latency.vision.unwrap().n, 51);
    assert!(close(latency.per_question_ms.unwrap(), (50.0 * 36.5 - 12.0 + 7.0 + 8.0 + 4.0) / 300.0));

    // A sample that failed before its group ran has no times.
    let mut failed = with_group_times(run("f", &[(0, None)]), 1, |_| 1.0);
    failed.records[0].timings = SampleTimings::default();
    assert_eq!(summarise(&failed).latency.vision, None);
}

#[test]
fn the_latency_ratio_is_paired_by_images() {
    // Images take very different times; the second run takes 1.25 times as long on each, give or take up to 1 %.
    let time = |group: usize| 10.0 * (1 + group * group) as f64 - 2.0;
    let base = with_group_times(grid("base", 40, 2, |_| true), 2, time);
    let wobble = |group: usize| ((group as f64 - 19.5) / 1950.0).exp();
    let new = with_group_times(grid("new", 40, 2, |_| true), 2, |group| (time(group) + 2.0) * 1.25 * wobble(group) - 2.0);
    let ratio = pair(&base, &new).latency.unwrap().ratio;
    assert!(close(ratio.value, 1.25), "{ratio:?}");
    let [low, high] = ratio.interval.unwrap();
    assert!(1.24 < low && low < 1.25 && 1.25 < high && high < 1.26, "{ratio:?}");
    assert_eq!((ratio.n, ratio.clusters), (40, 40));
    // One image: a ratio, but no interval.
    let first = |run: &Run| {
        let mut run = run.clone();
        run.records.truncate(2);
        run
    };
    let single = pair(&first(&base), &first(&new)).latency.unwrap().ratio;
    assert_eq!((single.interval, single.n), (None, 1));
}

#[test]
fn each_later_run_meets_the_first_of_its_benchmark() {
    let vqa = |name: &str| {
        let mut run = grid(name, 5, 2, |index| index % 2 == 0);
        run.header.benchmark.name = "vqa".into();
        run
    };
    let pope = |name: &str| grid(name, 5, 2, |index| index % 3 == 0);
    let runs = [pope("a"), vqa("a"), pope("b"), pope("c"), vqa("b"), {
        let mut alone = pope("a");
        alone.header.benchmark.name = "refcoco".into();
        alone
    }];
    let comparison = compare(&runs, 1.0).unwrap();
    let order: Vec<(&str, &str)> =
        comparison.runs.iter().map(|run| (run.header.benchmark.name.as_str(), run.header.model.name.as_str())).collect();
    assert_eq!(order, [("pope", "a"), ("pope", "b"), ("pope", "c"), ("vqa", "a"), ("vqa", "b"), ("refcoco", "a")]);
    let pairs: Vec<(&str, &str, &str)> =
        comparison.pairs.iter().map(|pair| (pair.benchmark.as_str(), pair.base.as_str(), pair.new.as_str())).collect();
    assert_eq!(pairs, [("pope", "a", "b"), ("pope", "a", "c"), ("vqa", "a", "b")]);
    let nothing = compare(&[], 1.0).unwrap();
    assert_eq!((nothing.runs.len(), nothing.pairs.len()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_two_runs_compare_and_the_other_way_round_says_the_opposite(
        samples in prop::collection::vec(
            (0_usize..6, prop::option::weighted(0.9, 0.0_f64..=1.0), prop::option::weighted(0.9, 0.0_f64..=1.0)), 0..40)
    ) {
        let base = run("base", &samples.iter().map(|(cluster, base, _)| (*cluster, *base)).collect::<Vec<_>>());
        let new = run("new", &samples.iter().map(|(cluster, _, new)| (*cluster, *new)).collect::<Vec<_>>());
        let (there, back) = (pair(&base, &new), pair(&new, &base));
        prop_assert_eq!(there.paired, there.fixed + there.broken + there.same);
        prop_assert_eq!(there.flips.len(), there.fixed + there.broken);
        prop_assert_eq!((there.fixed, there.broken), (back.broken, back.fixed));
        prop_assert_eq!(there.metrics.len(), back.metrics.len());
        for (one, other) in there.metrics.iter().zip(&back.metrics) {
            prop_assert!((one.difference.value + other.difference.value).abs() < 1e-9);
            prop_assert_eq!(one.verdict == Verdict::Regressed, other.verdict == Verdict::Improved);
            prop_assert_eq!(one.verdict == Verdict::Identical, other.verdict == Verdict::Identical);
            prop_assert!((one.new.value - one.base.value - one.difference.value).abs() < 1e-9);
            prop_assert_eq!(one.test, other.test);
            prop_assert_eq!(one.p_value.is_some(), other.p_value.is_some());
            if let (Some(one), Some(other)) = (one.p_value, other.p_value) {
                prop_assert!((one - other).abs() < 1e-9 && (0.0..=1.0).contains(&one));
            }
            if let (Some([low, high]), Some([other_low, other_high])) = (one.difference.interval, other.difference.interval) {
                prop_assert!((low + other_high).abs() < 1e-9 && (high + other_low).abs() < 1e-9);
                prop_assert!(-100.0 <= low && low <= high && high <= 100.0);
            }
            // A single comparison is its own family.
            prop_assert_eq!(one.uncorrected_verdict, None);
        }
    }
}
