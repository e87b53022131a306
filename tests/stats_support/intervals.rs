//! Intervals of one run's metrics.

use llava_gauge::stats::{
    ClusteredSums, Generator, Linearised, bootstrap_of_sums, design_effect, intraclass_correlation, quantile_interval, sorted,
};

use super::{TRIALS, check_coverage, clusters_of, covers, interval, simulate, simulate_f1};

#[test]
fn intervals_of_means_cover_the_truth() {
    let mut generator = Generator::new(20_251_123);
    // 100 images of 6 questions each; 100 of 4 to 8; 150 of 1 to 12, most of them small.
    let equal = clusters_of(100, |_| 6);
    let unequal = clusters_of(100, |cluster| 4 + cluster % 5);
    let lopsided = clusters_of(150, |cluster| if cluster % 10 == 0 { 12 } else { 1 + cluster % 3 });
    for (clusters, sizes) in [(&equal, "6"), (&unequal, "4 to 8"), (&lopsided, "1 to 12")] {
        for (correlation, mean) in [(0.0, 0.7), (0.3, 0.7)] {
            let ones = vec![1.0; clusters.len()];
            let mut covered = 0;
            for _ in 0..TRIALS {
                let scores = simulate(&mut generator, clusters, mean, correlation);
                covered += covers(interval(&Linearised::ratio_of_sums(&scores, &ones).unwrap(), clusters), mean);
            }
            check_coverage(covered, &format!("mean {mean}, correlation {correlation}, sizes {sizes}"));
        }
    }
}

#[test]
fn intervals_of_f1_cover_the_truth() {
    let mut generator = Generator::new(5);
    let equal = clusters_of(150, |_| 6);
    let unequal = clusters_of(150, |cluster| 2 + cluster % 7);
    for (clusters, sizes) in [(&equal, "6"), (&unequal, "2 to 8")] {
        for correlation in [0.0, 0.3] {
            let mut covered = 0;
            for _ in 0..TRIALS {
                let (numerators, denominators) = simulate_f1(&mut generator, clusters, 0.8, correlation);
                let estimate = Linearised::ratio_of_sums(&numerators, &denominators).unwrap();
                covered += covers(interval(&estimate, clusters), 0.8);
            }
            check_coverage(covered, &format!("F1, correlation {correlation}, sizes {sizes}"));
        }
    }
}

#[test]
fn intervals_of_means_over_categories_cover_the_truth() {
    let mut generator = Generator::new(6);
    // Three categories of unequal sizes and difficulty; images of 6 questions have all of them.
    let clusters = clusters_of(120, |_| 6);
    let categories: Vec<usize> = (0..clusters.len()).map(|sample| [0, 0, 0, 1, 1, 2][sample % 6]).collect();
    let means = [0.9, 0.6, 0.3];
    let ones = vec![1.0; clusters.len()];
    let mut covered = 0;
    for _ in 0..TRIALS {
        let sides = means.map(|mean| simulate(&mut generator, &clusters, mean, 0.3));
        let scores: Vec<f64> = categories.iter().enumerate().map(|(sample, category)| sides[*category][sample]).collect();
        let estimate = Linearised::mean_over_categories(&scores, &ones, &categories).unwrap();
        covered += covers(interval(&estimate, &clusters), 0.6);
    }
    check_coverage(covered, "mean over categories");
}

#[test]
fn bootstrap_intervals_of_f1_cover_the_truth() {
    let mut generator = Generator::new(31);
    let trials = 1_000;
    for correlation in [0.0, 0.3] {
        let clusters = clusters_of(80, |cluster| 2 + cluster % 5);
        let mut covered = 0;
        for trial in 0..trials {
            let (numerators, denominators) = simulate_f1(&mut generator, &clusters, 0.8, correlation);
            let sums = ClusteredSums::new(&numerators, &denominators, None, &clusters).unwrap();
            let found = bootstrap_of_sums(&sums, None, 200, trial as u64, 0.95).unwrap();
            covered += covers(found.bias_corrected.unwrap(), 0.8);
        }
        let share = covered as f64 / trials as f64;
        println!("BCa of F1, correlation {correlation}: coverage {share}");
        // The ends of 200 resamples are themselves drawn, which costs up to a point of coverage, and 80 clusters another half;
        // the Monte-Carlo error of 1,000 trials is 0.7 points, three of which are allowed for.
        assert!((0.915..=0.971).contains(&share), "correlation {correlation}: coverage {share}");
    }
}

#[test]
fn distribution_free_intervals_of_quantiles_cover_the_truth() {
    let mut generator = Generator::new(32);
    // Exponential values: the quantile p is −ln(1 − p).
    for (n, probability) in [(30, 0.5), (100, 0.9)] {
        let truth = -(1.0_f64 - probability).ln();
        let mut covered = 0;
        for _ in 0..TRIALS {
            let values: Vec<f64> = (0..n).map(|_| -(1.0 - generator.uniform()).ln()).collect();
            covered += covers(quantile_interval(&sorted(&values), probability, 0.95).unwrap(), truth);
        }
        let share = covered as f64 / TRIALS as f64;
        println!("quantile {probability} of {n}: coverage {share}");
        // At least the level, less two Monte-Carlo errors; order statistics cannot meet it exactly, so it may be more.
        assert!((0.94..=0.985).contains(&share), "quantile {probability} of {n}: coverage {share}");
    }
}

#[test]
fn the_intraclass_correlation_is_found() {
    let mut generator = Generator::new(33);
    let clusters = clusters_of(200, |cluster| 2 + cluster % 9);
    for truth in [0.0, 0.3] {
        let trials = 200;
        let (mut correlation, mut effect) = (0.0, 0.0);
        for _ in 0..trials {
            let scores = simulate(&mut generator, &clusters, 0.6, truth);
            let found = intraclass_correlation(&scores, &clusters).unwrap();
            correlation += found.correlation / f64::from(trials);
            effect += design_effect(found) / f64::from(trials);
        }
        println!("correlation {truth}: found {correlation}, design effect {effect}");
        // One estimate spreads by about 0.04 here, the mean of 200 by 0.003; its bias with 200 clusters is as small.
        assert!((correlation - truth).abs() < 0.012, "correlation {truth}: found {correlation}");
        let size = 7.11;
        assert!((effect - (1.0 + (size - 1.0) * truth)).abs() < 0.08, "design effect {effect}");
    }
}
