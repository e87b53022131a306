//! The statistics against SciPy, statsmodels and numpy (`fixtures/stats/make_goldens.py`), and against simulation.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop where it failed")]

use llava_gauge::stats::{
    Generator, Linearised, cluster_bootstrap, cluster_sums, clustered_standard_error, dense_clusters, mcnemar_exact,
    mcnemar_mid_p, minimum_detectable_effect, naive_standard_error, normal_quantile, quantile_of_sorted, sign_flip_p_value,
    smallest_sample_for_quantile, sorted, supported_quantile, t_interval, t_quantile, t_two_sided_p_value, wilson_interval,
    zero_events_upper_bound,
};
use proptest::prelude::*;
use serde_json::Value;

fn goldens() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/stats/goldens.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn indices(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as usize).collect()
}

/// Equal to 1e-9, relative for numbers above 1: the promise of the specification.
#[track_caller]
fn close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{what}: expected {expected}, found {found}");
}

#[test]
fn distributions_agree_with_scipy() {
    let goldens = goldens();
    for row in goldens["t_quantile"].as_array().unwrap() {
        let row = numbers(row);
        close(t_quantile(row[0], row[1]).unwrap(), row[2], &format!("t quantile of {} with {} df", row[0], row[1]));
    }
    for row in goldens["t_p_value"].as_array().unwrap() {
        let row = numbers(row);
        let found = t_two_sided_p_value(row[0], row[1]).unwrap();
        // Tail probabilities must also hold relatively: 1e-30 and 0 are not the same evidence.
        assert!((found - row[2]).abs() <= 1e-9 * row[2], "t {} with {} df: expected {}, found {found}", row[0], row[1], row[2]);
    }
    for row in goldens["normal_quantile"].as_array().unwrap() {
        let row = numbers(row);
        close(normal_quantile(row[0]).unwrap(), row[1], "normal quantile");
    }
}

#[test]
fn proportions_agree_with_statsmodels() {
    let goldens = goldens();
    for row in goldens["wilson"].as_array().unwrap() {
        let row = numbers(row);
        let [low, high] = wilson_interval(row[0] as u64, row[1] as u64, 0.95).unwrap();
        close(low, row[2], "Wilson, lower end");
        close(high, row[3], "Wilson, upper end");
    }
    for row in goldens["mcnemar"].as_array().unwrap() {
        let row = numbers(row);
        close(mcnemar_exact(row[0] as u64, row[1] as u64), row[2], "exact McNemar");
        close(mcnemar_mid_p(row[0] as u64, row[1] as u64), row[3], "mid-p McNemar");
    }
    assert_eq!((mcnemar_exact(0, 0), mcnemar_mid_p(0, 0)), (1.0, 1.0));
    assert_eq!((wilson_interval(0, 0, 0.95), wilson_interval(2, 1, 0.95)), (None, None));
    // The rule of three: 0 of 1,000 allows 0.3 %.
    close(zero_events_upper_bound(1000), 1.0 - 0.05_f64.powf(0.001), "rule of three");
    assert!((zero_events_upper_bound(1000) - 0.003).abs() < 1e-5);
    assert_eq!(zero_events_upper_bound(0), 1.0);
}

#[test]
fn quantiles_agree_with_numpy_and_refuse_small_samples() {
    let goldens = goldens();
    for case in goldens["quantile"].as_array().unwrap() {
        let values = sorted(&numbers(&case["values"]));
        let found = quantile_of_sorted(&values, case["probability"].as_f64().unwrap()).unwrap();
        close(found, case["expected"].as_f64().unwrap(), "quantile");
    }
    let smallest = [0.9, 0.95, 0.97, 0.99, 0.999].map(smallest_sample_for_quantile);
    assert_eq!(smallest, [44, 90, 152, 459, 4603]);
    let values: Vec<f64> = (0..44).map(f64::from).collect();
    assert_eq!(supported_quantile(&values[..43], 0.9), None);
    assert!(supported_quantile(&values, 0.9).is_some());
    assert_eq!(quantile_of_sorted(&[], 0.5), None);
}

#[track_caller]
fn check_estimate(estimate: &Linearised, clusters: &[usize], expected: &Value, what: &str) {
    let error = clustered_standard_error(&estimate.influence, clusters).unwrap();
    close(estimate.value, expected["value"].as_f64().unwrap(), what);
    close(error.standard_error, expected["standard_error"].as_f64().unwrap(), what);
    assert_eq!(error.clusters as u64, expected["clusters"].as_u64().unwrap());
    let interval = t_interval(estimate.value, error.standard_error, error.degrees_of_freedom, 0.95).unwrap();
    for (found, expected) in interval.into_iter().zip(numbers(&expected["interval"])) {
        close(found, expected, what);
    }
    let p_value = t_two_sided_p_value(estimate.value / error.standard_error, error.degrees_of_freedom).unwrap();
    close(p_value, expected["p_value"].as_f64().unwrap(), what);
}

#[test]
fn clustered_estimates_agree_with_statsmodels() {
    for case in goldens()["estimates"].as_array().unwrap() {
        let (base, new, denominators) = (numbers(&case["base"]), numbers(&case["new"]), numbers(&case["denominators"]));
        let clusters = indices(&case["clusters"]);
        let ratio = Linearised::ratio_of_sums(&base, &denominators).unwrap();
        check_estimate(&ratio, &clusters, &case["ratio"], "ratio of sums");
        close(
            naive_standard_error(&ratio.influence).unwrap(),
            case["naive_standard_error"].as_f64().unwrap(),
            "naive standard error",
        );
        let by_category = Linearised::mean_over_categories(&base, &denominators, &indices(&case["categories"])).unwrap();
        check_estimate(&by_category, &clusters, &case["mean_over_categories"], "mean over categories");
        let plain = Linearised::ratio_of_sums(&base, &vec![1.0; base.len()]).unwrap();
        check_estimate(&plain, &clusters, &case["plain_mean"], "mean");
        let difference = Linearised::ratio_of_sums(&new, &denominators).unwrap().minus(&ratio).unwrap();
        check_estimate(&difference, &clusters, &case["difference"], "paired difference");
    }
}

#[test]
fn resampling_agrees_with_an_independent_implementation() {
    let goldens = goldens();
    let mut generator = Generator::new(goldens["xoshiro"]["seed"].as_u64().unwrap());
    let drawn: Vec<usize> = (0..20).map(|_| generator.below(1000)).collect();
    assert_eq!(drawn, indices(&goldens["xoshiro"]["expected"]));
    for case in goldens["bootstrap"].as_array().unwrap() {
        let (numerators, denominators) = (numbers(&case["numerators"]), numbers(&case["denominators"]));
        let statistic = |rows: &[usize]| {
            let sum = |values: &[f64]| rows.iter().map(|row| values[*row]).sum::<f64>();
            Some(sum(&numerators) / sum(&denominators))
        };
        let (resamples, seed) = (case["resamples"].as_u64().unwrap(), case["seed"].as_u64().unwrap());
        let found = cluster_bootstrap(numerators.len(), resamples as usize, seed, 0.95, statistic).unwrap();
        for end in 0..2 {
            close(found.percentile[end], numbers(&case["percentile"])[end], "percentile bootstrap");
            close(found.bias_corrected.unwrap()[end], numbers(&case["bias_corrected"])[end], "BCa bootstrap");
        }
    }
    for case in goldens["sign_flip"].as_array().unwrap() {
        let found = sign_flip_p_value(&numbers(&case["sums"]), 10_000, 1).unwrap();
        close(found, case["p_value"].as_f64().unwrap(), "exact sign flips");
    }
}

#[test]
fn drawn_sign_flips_approach_the_enumerated_ones() {
    let sums: Vec<f64> = (0..12).map(|index| f64::from(index % 5) - 1.2).collect();
    let exact = sign_flip_p_value(&sums, 10_000, 1).unwrap();
    let drawn = sign_flip_p_value(&sums, 4_095, 1).unwrap();
    // Four standard deviations of a binomial share of 4,095 draws.
    assert!((exact - drawn).abs() < 4.0 * (exact * (1.0 - exact) / 4_095.0).sqrt(), "{exact} {drawn}");
    assert_eq!(sign_flip_p_value(&sums, 4_095, 1), Some(drawn), "the same seed gives the same p");
    assert!(sign_flip_p_value(&vec![1.0; 200], 10_000, 3).unwrap() > 0.0);
    assert_eq!(sign_flip_p_value(&[], 10, 3), None);
}

#[test]
fn degenerate_samples_have_no_error_rather_than_zero() {
    assert_eq!(Linearised::ratio_of_sums(&[], &[]), None);
    assert_eq!(Linearised::ratio_of_sums(&[1.0], &[0.0]), None);
    assert_eq!(Linearised::ratio_of_sums(&[f64::MAX, f64::MAX], &[1.0, 1.0]), None);
    assert_eq!(Linearised::ratio_of_sums(&[1.0], &[1.0, 1.0]), None);
    assert_eq!(Linearised::mean_over_categories(&[], &[], &[]), None);
    assert_eq!(Linearised::mean_over_categories(&[1.0, 0.0], &[1.0, 0.0], &[0, 1]), None);
    let one = Linearised::ratio_of_sums(&[1.0], &[1.0]).unwrap();
    assert_eq!(one.value, 1.0);
    assert_eq!(clustered_standard_error(&one.influence, &[0]), None);
    assert_eq!(naive_standard_error(&one.influence), None);
    let same_cluster = Linearised::ratio_of_sums(&[1.0, 0.0, 1.0], &[1.0; 3]).unwrap();
    assert_eq!(clustered_standard_error(&same_cluster.influence, &[0, 0, 0]), None);
    assert_eq!(t_interval(1.0, f64::INFINITY, 3.0, 0.95), None);
    assert_eq!(t_quantile(0.975, 0.0), None);
    assert_eq!(t_quantile(1.0, 5.0), None);
    assert_eq!(t_two_sided_p_value(f64::NAN, 5.0), None);
    assert_eq!(t_two_sided_p_value(f64::INFINITY, 5.0), Some(0.0));
    assert_eq!(minimum_detectable_effect(0.0, None, 0.05, 0.8), None);
    assert_eq!(cluster_bootstrap(1, 100, 1, 0.95, |_| Some(1.0)), None);
    let flat = cluster_bootstrap(5, 100, 1, 0.95, |_| Some(1.0)).unwrap();
    assert_eq!((flat.percentile, flat.bias_corrected), ([1.0, 1.0], None));
}

#[test]
fn detectable_effects_are_those_of_the_specification() {
    // Percentage points for n samples of which a share d changes, unclustered.
    for (n, d, expected) in [(200.0_f64, 0.05, 4.43), (1000.0, 0.10, 2.80), (5000.0, 0.20, 1.77), (12578.0, 0.05, 0.56)] {
        let found = 100.0 * minimum_detectable_effect((d / n).sqrt(), None, 0.05, 0.8).unwrap();
        assert!((found - expected).abs() < 0.005, "n {n}, d {d}: expected {expected}, found {found}");
    }
}

/// Scores 0 or 1 with the given mean and intraclass correlation: within a cluster each score copies a shared draw with
/// probability sqrt(correlation) and is its own draw otherwise.
fn simulate(generator: &mut Generator, clusters: &[usize], mean: f64, correlation: f64) -> Vec<f64> {
    let shared: Vec<bool> = (0..=clusters.iter().copied().max().unwrap()).map(|_| generator.uniform() < mean).collect();
    clusters
        .iter()
        .map(|cluster| {
            let own = generator.uniform() < mean;
            f64::from(u8::from(if generator.uniform() < correlation.sqrt() { shared[*cluster] } else { own }))
        })
        .collect()
}

const TRIALS: usize = 2_000;

#[test]
fn intervals_cover_the_truth() {
    let mut generator = Generator::new(20_251_123);
    for (correlation, mean) in [(0.0, 0.7), (0.3, 0.5), (0.3, 0.7)] {
        let clusters: Vec<usize> = (0..100).flat_map(|cluster| vec![cluster; 4 + cluster % 5]).collect();
        let mut covered = 0;
        for _ in 0..TRIALS {
            let scores = simulate(&mut generator, &clusters, mean, correlation);
            let estimate = Linearised::ratio_of_sums(&scores, &vec![1.0; scores.len()]).unwrap();
            let error = clustered_standard_error(&estimate.influence, &clusters).unwrap();
            let [low, high] = t_interval(estimate.value, error.standard_error, error.degrees_of_freedom, 0.95).unwrap();
            covered += usize::from(low <= mean && mean <= high);
        }
        let share = covered as f64 / TRIALS as f64;
        println!("correlation {correlation}, mean {mean}: coverage {share}");
        assert!((0.935..=0.965).contains(&share), "correlation {correlation}, mean {mean}: coverage {share}");
    }
}

#[test]
fn intervals_of_f1_cover_the_truth() {
    let mut generator = Generator::new(5);
    let clusters: Vec<usize> = (0..150).flat_map(|cluster| [cluster; 6]).collect();
    // Labels are positive half of the time; a guess is right with probability 0.8, both correlated within images.
    // TP = 0.4, FP = FN = 0.1 of all: F1 = 0.8.
    let mut covered = 0;
    for _ in 0..TRIALS {
        let labels = simulate(&mut generator, &clusters, 0.5, 0.3);
        let right = simulate(&mut generator, &clusters, 0.8, 0.3);
        let (mut numerators, mut denominators) = (Vec::new(), Vec::new());
        for (label, right) in labels.iter().zip(&right) {
            let guess = if *right == 1.0 { *label } else { 1.0 - label };
            numerators.push(2.0 * label * guess);
            denominators.push(label + guess);
        }
        let estimate = Linearised::ratio_of_sums(&numerators, &denominators).unwrap();
        let error = clustered_standard_error(&estimate.influence, &clusters).unwrap();
        let [low, high] = t_interval(estimate.value, error.standard_error, error.degrees_of_freedom, 0.95).unwrap();
        covered += usize::from(low <= 0.8 && 0.8 <= high);
    }
    let share = covered as f64 / TRIALS as f64;
    println!("F1 coverage {share}");
    assert!((0.935..=0.965).contains(&share), "coverage {share}");
}

#[test]
fn the_clustered_test_keeps_its_level_and_the_naive_one_does_not() {
    let mut generator = Generator::new(77);
    let clusters: Vec<usize> = (0..100).flat_map(|cluster| [cluster; 6]).collect();
    let (mut clustered, mut naive, mut flipped) = (0, 0, 0);
    for trial in 0..TRIALS {
        // Two models of the same accuracy: any difference is chance.
        let base = simulate(&mut generator, &clusters, 0.6, 0.3);
        let new = simulate(&mut generator, &clusters, 0.6, 0.3);
        let ones = vec![1.0; base.len()];
        let difference =
            Linearised::ratio_of_sums(&new, &ones).unwrap().minus(&Linearised::ratio_of_sums(&base, &ones).unwrap()).unwrap();
        let error = clustered_standard_error(&difference.influence, &clusters).unwrap();
        let p = t_two_sided_p_value(difference.value / error.standard_error, error.degrees_of_freedom).unwrap();
        clustered += usize::from(p < 0.05);
        let naive_error = naive_standard_error(&difference.influence).unwrap();
        naive += usize::from(t_two_sided_p_value(difference.value / naive_error, 599.0).unwrap() < 0.05);
        if trial % 10 == 0 {
            let gaps: Vec<f64> = new.iter().zip(&base).map(|(new, base)| new - base).collect();
            flipped += usize::from(sign_flip_p_value(&cluster_sums(&gaps, &clusters), 399, trial as u64).unwrap() < 0.05);
        }
    }
    let share = |count: usize| count as f64 / TRIALS as f64;
    println!("false alarms: clustered {}, naive {}, sign flips {}", share(clustered), share(naive), share(flipped) * 10.0);
    // 5 % and two standard deviations of 2,000 trials.
    assert!(share(clustered) <= 0.06, "clustered test: {}", share(clustered));
    assert!(share(naive) > 0.10, "naive test: {}", share(naive));
    // 200 trials: 5 % and three standard deviations.
    assert!(share(flipped) * 10.0 <= 0.097, "sign flips: {}", share(flipped) * 10.0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn influences_sum_to_nothing_and_singletons_are_naive(pairs in prop::collection::vec((0.0_f64..1.0, 0.1_f64..5.0), 2..60)) {
        let (numerators, denominators): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let estimate = Linearised::ratio_of_sums(&numerators, &denominators).unwrap();
        prop_assert!(estimate.influence.iter().sum::<f64>().abs() < 1e-12);
        let own: Vec<usize> = (0..numerators.len()).collect();
        let clustered = clustered_standard_error(&estimate.influence, &own).unwrap().standard_error;
        prop_assert_eq!(clustered, naive_standard_error(&estimate.influence).unwrap());
    }

    #[test]
    fn no_sample_makes_the_statistics_panic(
        numerators in prop::collection::vec(prop::num::f64::ANY, 0..12),
        denominators in prop::collection::vec(prop::num::f64::ANY, 0..12),
        names in prop::collection::vec("[ab]{0,2}", 0..12),
        number in prop::num::f64::ANY,
        degrees in prop::num::f64::ANY,
    ) {
        let clusters = dense_clusters(&names);
        if let Some(estimate) = Linearised::ratio_of_sums(&numerators, &denominators) {
            let _ = clustered_standard_error(&estimate.influence, &clusters);
        }
        let _ = Linearised::mean_over_categories(&numerators, &denominators, &clusters);
        let _ = sign_flip_p_value(&numerators, 100, 1);
        let _ = quantile_of_sorted(&sorted(&numerators), number);
        let _ = supported_quantile(&sorted(&numerators), number);
        let _ = t_quantile(number, degrees);
        let _ = t_quantile(0.975, degrees);
        let _ = t_two_sided_p_value(number, degrees);
        let _ = t_interval(number, degrees, 3.0, 0.95);
        let _ = minimum_detectable_effect(number, Some(degrees), 0.05, 0.8);
    }
}
