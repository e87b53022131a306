//! The statistics against SciPy, statsmodels and numpy (`fixtures/stats/make_goldens.py`), and against simulation.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop where it failed")]

mod stats_support;

use llava_gauge::stats::{
    ClusteredSums, Generator, IntraclassCorrelation, Linearised, MeasuredError, benjamini_hochberg, bootstrap_of_sums,
    cluster_bootstrap, clustered_standard_error, dense_clusters, design_effect, detection_probability, holm,
    intraclass_correlation, mann_whitney, mcnemar_exact, mcnemar_mid_p, median_absolute_deviation, minimum_detectable_effect,
    naive_standard_error, normal_quantile, quantile_interval, quantile_of_sorted, samples_for_discordance, samples_for_effect,
    sign_flip_p_value, signed_rank, smallest_sample_for_quantile, sorted, supported_quantile, t_interval, t_quantile,
    t_two_sided_p_value, wilson_interval, zero_events_upper_bound,
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

#[test]
fn a_bootstrap_of_sums_agrees_with_one_of_samples() {
    for case in goldens()["bootstrap_of_sums"].as_array().unwrap() {
        let (clusters, categories) = (indices(&case["clusters"]), indices(&case["categories"]));
        let side = |name: &str| {
            let (numerators, denominators) = (numbers(&case[name][0]), numbers(&case[name][1]));
            ClusteredSums::new(&numerators, &denominators, Some(&categories), &clusters).unwrap()
        };
        let (new, base) = (side("new"), side("base"));
        close(new.value().unwrap(), case["value"].as_f64().unwrap(), "mean over categories");
        let (resamples, seed) = (case["resamples"].as_u64().unwrap() as usize, case["seed"].as_u64().unwrap());
        for (base, expected) in [(None, &case["single"]), (Some(&base), &case["difference"])] {
            let found = bootstrap_of_sums(&new, base, resamples, seed, 0.95).unwrap();
            for end in 0..2 {
                close(found.percentile[end], numbers(&expected[0])[end], "percentile bootstrap of sums");
                close(found.bias_corrected.unwrap()[end], numbers(&expected[1])[end], "BCa bootstrap of sums");
            }
        }
    }
}

#[test]
fn beyond_500_clusters_the_acceleration_comes_from_groups() {
    let mut generator = Generator::new(8);
    let values: Vec<f64> = (0..1_200).map(|_| generator.uniform().powi(6)).collect();
    let ones = vec![1.0; values.len()];
    let own: Vec<usize> = (0..values.len()).collect();
    let calls = std::cell::Cell::new(0);
    let mean = |rows: &[usize]| {
        calls.set(calls.get() + 1);
        Some(rows.iter().map(|row| values[*row]).sum::<f64>() / rows.len() as f64)
    };
    let general = cluster_bootstrap(values.len(), 200, 5, 0.95, mean).unwrap();
    assert_eq!(calls.get(), 1 + 200 + 500, "the observed value, the resamples and the groups");
    let sums = ClusteredSums::new(&values, &ones, None, &own).unwrap();
    let of_sums = bootstrap_of_sums(&sums, None, 200, 5, 0.95).unwrap();
    let (grouped, full) = (general.bias_corrected.unwrap(), of_sums.bias_corrected.unwrap());
    for end in 0..2 {
        close(general.percentile[end], of_sums.percentile[end], "the same resamples");
        // The accelerations differ by the error of a skewness from 500 groups, which moves an end by a small part of the width.
        assert!((grouped[end] - full[end]).abs() < 0.05 * (full[1] - full[0]), "{grouped:?} {full:?}");
    }
    assert_ne!(grouped, general.percentile, "there is something to correct");
}

#[test]
fn adjusted_p_values_agree_with_statsmodels() {
    for case in goldens()["multiplicity"].as_array().unwrap() {
        let p_values = numbers(&case["p_values"]);
        for (found, expected) in holm(&p_values).into_iter().zip(numbers(&case["holm"])) {
            close(found, expected, "Holm");
        }
        for (found, expected) in benjamini_hochberg(&p_values).into_iter().zip(numbers(&case["benjamini_hochberg"])) {
            close(found, expected, "Benjamini and Hochberg");
        }
    }
    let adjusted = holm(&[0.02, f64::NAN, 0.01]);
    assert!(adjusted[1].is_nan(), "a test that was not made stays so");
    assert_eq!((adjusted[0], adjusted[2]), (0.02, 0.02), "and does not count");
    assert_eq!((holm(&[]), benjamini_hochberg(&[])), (vec![], vec![]));
}

#[test]
fn tests_by_ranks_agree_with_scipy() {
    let goldens = goldens();
    for case in goldens["mann_whitney"].as_array().unwrap() {
        let (first, second) = (numbers(&case["first"]), numbers(&case["second"]));
        let found = mann_whitney(&first, &second).unwrap();
        close(found.u, case["u"].as_f64().unwrap(), "U");
        close(found.p_value, case["p_value"].as_f64().unwrap(), "Mann-Whitney p-value");
        let mirrored = mann_whitney(&second, &first).unwrap();
        close(mirrored.p_value, found.p_value, "the p-value of the samples exchanged");
        close(mirrored.u + found.u, (first.len() * second.len()) as f64, "both U");
    }
    for case in goldens["signed_rank"].as_array().unwrap() {
        let found = signed_rank(&numbers(&case["values"]), 0.95).unwrap();
        close(found.p_value, case["p_value"].as_f64().unwrap(), "signed-rank p-value");
        close(found.location, case["location"].as_f64().unwrap(), "Hodges-Lehmann estimate");
        match found.interval {
            Some(ends) => {
                for (found, expected) in ends.into_iter().zip(numbers(&case["interval"])) {
                    close(found, expected, "signed-rank interval");
                }
            }
            None => assert!(case["interval"].is_null()),
        }
    }
    for case in goldens["median_absolute_deviation"].as_array().unwrap() {
        let found = median_absolute_deviation(&numbers(&case["values"])).unwrap();
        close(found, case["expected"].as_f64().unwrap(), "median absolute deviation");
    }
}

#[test]
fn the_exact_rank_test_needs_no_more_than_its_counts() {
    // 8 values against 200,000: more orders than 128 bits count, so the normal approximation answers.
    let first: Vec<f64> = (0..8).map(|index| f64::from(index) + 0.5).collect();
    let second: Vec<f64> = (0..200_000).map(f64::from).collect();
    assert!(!mann_whitney(&first, &second).unwrap().exact);
    assert!(mann_whitney(&first, &second[..1_000]).unwrap().exact);
    // One of two orders of two values has U at each end; every order of equal values is alike.
    assert_eq!(mann_whitney(&[1.0], &[2.0]).unwrap().p_value, 1.0);
    assert_eq!(mann_whitney(&[1.0; 9], &[1.0; 9]).unwrap().p_value, 1.0);
    assert_eq!(mann_whitney(&[], &[1.0]), None);
    assert_eq!(mann_whitney(&[f64::NAN], &[1.0]), None);
    // With 4 values a side no order has a two-sided p below 2/70; with 3 none is below 0.05.
    let apart = |n: usize| -> f64 {
        let low: Vec<f64> = (0..n).map(|index| index as f64).collect();
        let high: Vec<f64> = low.iter().map(|value| value + 100.0).collect();
        mann_whitney(&low, &high).unwrap().p_value
    };
    close(apart(4), 2.0 / 70.0, "4 a side");
    close(apart(3), 0.1, "3 a side");
    close(apart(7), 2.0 / 3432.0, "7 a side");
}

#[test]
fn quantile_intervals_agree_with_scipy() {
    for case in goldens()["quantile_interval"].as_array().unwrap() {
        let values = numbers(&case["values"]);
        let found = quantile_interval(&values, case["probability"].as_f64().unwrap(), 0.95);
        let expected: Vec<Option<f64>> = case["interval"].as_array().unwrap().iter().map(Value::as_f64).collect();
        match (found, expected.as_slice()) {
            (Some([low, high]), [Some(expected_low), Some(expected_high)]) => {
                assert_eq!((low, high), (*expected_low, *expected_high), "order statistics are values of the sample");
            }
            (None, expected) => assert!(expected.contains(&None), "{expected:?}"),
            (found, expected) => panic!("expected {expected:?}, found {found:?}"),
        }
    }
    assert_eq!(quantile_interval(&[], 0.5, 0.95), None);
    assert_eq!(quantile_interval(&[1.0; 9], 1.0, 0.95), None);
    assert_eq!(quantile_interval(&[1.0; 9], 0.5, 1.0), None);
}

#[test]
fn cluster_effects_agree_with_an_analysis_of_variance() {
    for case in goldens()["intraclass_correlation"].as_array().unwrap() {
        let found = intraclass_correlation(&numbers(&case["values"]), &indices(&case["clusters"])).unwrap();
        close(found.correlation, case["correlation"].as_f64().unwrap(), "intraclass correlation");
        close(found.cluster_size, case["cluster_size"].as_f64().unwrap(), "cluster size");
        close(design_effect(found), case["design_effect"].as_f64().unwrap().max(0.0), "design effect");
    }
    assert_eq!(intraclass_correlation(&[1.0, 0.0], &[0, 1]), None, "singletons tell nothing");
    assert_eq!(intraclass_correlation(&[1.0, 0.0], &[0, 0]), None, "nor does one cluster");
    assert_eq!(intraclass_correlation(&[1.0; 4], &[0, 0, 1, 1]), None, "nor equal values");
    // The table of the specification: 6 questions an image and a correlation of 0.1 widen intervals by 1.22, and so on.
    for (cluster_size, correlation, expected) in [(6.0, 0.1, 1.22), (18.0, 0.1, 1.64), (31.6, 0.1, 2.0), (31.6, 0.3, 3.2)] {
        let widened = design_effect(IntraclassCorrelation { correlation, cluster_size }).sqrt();
        assert!((widened - expected).abs() < 0.05, "{cluster_size} {correlation}: {widened}");
    }
}

#[test]
fn sample_sizes_agree_with_counting_up() {
    let goldens = goldens();
    for row in goldens["sample_size"]["measured"].as_array().unwrap() {
        let row = numbers(row);
        let measured = MeasuredError { standard_error: row[0], samples: row[1] as u64, clusters: row[2] as u64 };
        let found = samples_for_effect(measured, row[3], row[4], row[5]).unwrap();
        assert_eq!((found.clusters, found.samples), (row[6] as u64, row[7] as u64), "{row:?}");
        assert_eq!(samples_for_effect(measured, -row[3], row[4], row[5]), Some(found), "a drop needs what a rise does");
    }
    for row in goldens["sample_size"]["discordant"].as_array().unwrap() {
        let row = numbers(row);
        assert_eq!(samples_for_discordance(row[0], row[1], row[2], row[3], row[4]), Some(row[5] as u64), "{row:?}");
    }
    for row in goldens["sample_size"]["chances"].as_array().unwrap() {
        let row = numbers(row);
        close(detection_probability(row[0], row[1], row[2], row[3]).unwrap(), row[4], "chance of detection");
        // What is detectable with a chance is detected with that chance.
        let effect = minimum_detectable_effect(row[0], Some(row[1]), 0.05, 0.8).unwrap();
        close(detection_probability(row[0], row[1], 0.05, effect).unwrap(), 0.8, "the inverse");
    }
    let measured = MeasuredError { standard_error: 0.01, samples: 100, clusters: 50 };
    assert_eq!(samples_for_effect(measured, 0.0, 0.05, 0.8), None);
    assert_eq!(samples_for_effect(MeasuredError { standard_error: 0.0, ..measured }, 0.1, 0.05, 0.8), None);
    assert_eq!(samples_for_effect(MeasuredError { clusters: 0, ..measured }, 0.1, 0.05, 0.8), None);
    assert_eq!(samples_for_effect(measured, 1e-12, 0.05, 0.8), None, "more clusters than anybody has");
    assert_eq!(samples_for_effect(measured, 0.1, 0.0, 0.8), None);
    assert_eq!(samples_for_effect(measured, 0.1, 0.05, 1.0), None);
    assert_eq!(samples_for_discordance(0.0, 1.0, 0.01, 0.05, 0.8), None);
    assert_eq!(samples_for_discordance(0.1, 1.0, 0.0, 0.05, 0.8), None);
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
        let _ = quantile_interval(&sorted(&numerators), number, degrees);
        let _ = mann_whitney(&numerators, &denominators);
        let _ = signed_rank(&numerators, number);
        let finite = sorted(&numerators);
        let _ = mann_whitney(&finite, &sorted(&denominators));
        let _ = signed_rank(&finite, number);
        let _ = signed_rank(&finite, 0.95);
        let _ = median_absolute_deviation(&numerators);
        let _ = intraclass_correlation(&numerators, &clusters);
        let _ = (holm(&numerators), benjamini_hochberg(&numerators));
        let _ = detection_probability(number, degrees, 0.05, number);
        let _ = samples_for_discordance(number, degrees, number, 0.05, 0.8);
        let measured = MeasuredError { standard_error: number, samples: numerators.len() as u64, clusters: clusters.len() as u64 };
        let _ = samples_for_effect(measured, degrees, 0.05, 0.8);
        if let Some(sums) = ClusteredSums::new(&numerators, &denominators, Some(&clusters), &clusters) {
            let _ = bootstrap_of_sums(&sums, Some(&sums), 20, 1, number);
        }
    }
}
