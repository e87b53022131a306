//! Paired differences: intervals, levels and power.

use llava_gauge::stats::{
    Generator, Linearised, MeasuredError, cluster_sums, clustered_standard_error, holm, naive_standard_error, samples_for_effect,
    sign_flip_p_value, t_two_sided_p_value,
};

use super::{TRIALS, check_coverage, clusters_of, covers, interval, simulate, simulate_f1};

/// Another package's scores: a sample keeps its score with probability `kept`, and is drawn anew with the given mean otherwise,
/// alike within clusters. Its mean is `kept·base + (1 − kept)·mean`.
fn other_scores(generator: &mut Generator, base: &[f64], clusters: &[usize], kept: f64, mean: f64, correlation: f64) -> Vec<f64> {
    let anew = simulate(generator, clusters, mean, correlation);
    base.iter().zip(anew).map(|(base, anew)| if generator.uniform() < kept { *base } else { anew }).collect()
}

fn difference(new: &[f64], base: &[f64]) -> Linearised {
    let ones = vec![1.0; base.len()];
    Linearised::ratio_of_sums(new, &ones).unwrap().minus(&Linearised::ratio_of_sums(base, &ones).unwrap()).unwrap()
}

fn p_value(difference: &Linearised, clusters: &[usize]) -> f64 {
    let error = clustered_standard_error(&difference.influence, clusters).unwrap();
    t_two_sided_p_value(difference.value / error.standard_error, error.degrees_of_freedom).unwrap()
}

#[test]
fn intervals_of_paired_differences_cover_the_truth() {
    let mut generator = Generator::new(41);
    let equal = clusters_of(100, |_| 6);
    let unequal = clusters_of(120, |cluster| 1 + cluster % 9);
    for (clusters, sizes) in [(&equal, "6"), (&unequal, "1 to 9")] {
        for correlation in [0.0, 0.3] {
            // The second package keeps three of four scores and has 0.5 on the others, where the first has 0.7.
            let truth = 0.25 * (0.5 - 0.7);
            let mut covered = 0;
            for _ in 0..TRIALS {
                let base = simulate(&mut generator, clusters, 0.7, correlation);
                let new = other_scores(&mut generator, &base, clusters, 0.75, 0.5, correlation);
                covered += covers(interval(&difference(&new, &base), clusters), truth);
            }
            check_coverage(covered, &format!("difference, correlation {correlation}, sizes {sizes}"));
        }
    }
}

#[test]
fn intervals_of_differences_of_f1_cover_the_truth() {
    let mut generator = Generator::new(42);
    let clusters = clusters_of(150, |cluster| 2 + cluster % 7);
    for correlation in [0.0, 0.3] {
        let mut covered = 0;
        for _ in 0..TRIALS {
            let (base_numerators, base_denominators) = simulate_f1(&mut generator, &clusters, 0.85, correlation);
            let (new_numerators, new_denominators) = simulate_f1(&mut generator, &clusters, 0.8, correlation);
            let base = Linearised::ratio_of_sums(&base_numerators, &base_denominators).unwrap();
            let new = Linearised::ratio_of_sums(&new_numerators, &new_denominators).unwrap();
            covered += covers(interval(&new.minus(&base).unwrap(), &clusters), 0.8 - 0.85);
        }
        check_coverage(covered, &format!("difference of F1, correlation {correlation}"));
    }
}

#[test]
fn the_clustered_test_keeps_its_level_and_the_naive_one_does_not() {
    let mut generator = Generator::new(77);
    for (clusters, sizes) in [(clusters_of(100, |_| 6), "6"), (clusters_of(120, |cluster| 1 + cluster % 9), "1 to 9")] {
        let (mut clustered, mut naive, mut flipped) = (0, 0, 0);
        for trial in 0..TRIALS {
            // Two models of the same accuracy: any difference is chance.
            let base = simulate(&mut generator, &clusters, 0.6, 0.3);
            let new = simulate(&mut generator, &clusters, 0.6, 0.3);
            let difference = difference(&new, &base);
            clustered += usize::from(p_value(&difference, &clusters) < 0.05);
            let naive_error = naive_standard_error(&difference.influence).unwrap();
            let degrees = clusters.len() as f64 - 1.0;
            naive += usize::from(t_two_sided_p_value(difference.value / naive_error, degrees).unwrap() < 0.05);
            if trial % 2 == 0 {
                let gaps: Vec<f64> = new.iter().zip(&base).map(|(new, base)| new - base).collect();
                // With 199 drawn assignments p is a multiple of 1/200, so that the level 5 % is met exactly.
                flipped += usize::from(sign_flip_p_value(&cluster_sums(&gaps, &clusters), 199, trial as u64).unwrap() <= 0.05);
            }
        }
        let share = |count: usize| count as f64 / TRIALS as f64;
        let (clustered, naive, flipped) = (share(clustered), share(naive), share(flipped) * 2.0);
        println!("sizes {sizes}: false alarms clustered {clustered}, naive {naive}, sign flips {flipped}");
        // 5 % and two Monte-Carlo errors of 0.49 points.
        assert!(clustered <= 0.06, "sizes {sizes}: clustered test {clustered}");
        assert!(naive > 0.10, "sizes {sizes}: naive test {naive}");
        // 1,000 trials: 5 % and two errors of 0.69 points.
        assert!(flipped <= 0.064, "sizes {sizes}: sign flips {flipped}");
    }
}

#[test]
fn holm_keeps_the_chance_of_any_false_alarm() {
    let mut generator = Generator::new(43);
    // Eight benchmarks on which nothing changed.
    let clusters = clusters_of(60, |cluster| 2 + cluster % 4);
    let trials = 1_000;
    let (mut raw, mut corrected) = (0, 0);
    for _ in 0..trials {
        let p_values: Vec<f64> = (0..8)
            .map(|_| {
                let base = simulate(&mut generator, &clusters, 0.7, 0.3);
                let new = other_scores(&mut generator, &base, &clusters, 0.5, 0.7, 0.3);
                p_value(&difference(&new, &base), &clusters)
            })
            .collect();
        raw += usize::from(p_values.iter().any(|p| *p <= 0.05));
        corrected += usize::from(holm(&p_values).iter().any(|p| *p <= 0.05));
    }
    let share = |count: usize| count as f64 / f64::from(trials);
    println!("any false alarm in 8: {} as they are, {} by Holm", share(raw), share(corrected));
    // 5 % and two Monte-Carlo errors of 0.69 points; without correction 1 − 0.95^8 = 34 %.
    assert!(share(corrected) <= 0.064, "Holm: {}", share(corrected));
    assert!(share(raw) > 0.25, "uncorrected: {}", share(raw));
}

#[test]
fn a_planned_number_of_samples_has_the_power_asked_for() {
    let mut generator = Generator::new(44);
    // The second package keeps 80 % of the scores and has 0.5 on the others, where the first has 0.7: a drop of 4 points.
    let (kept, drop) = (0.8, 0.2 * 0.2);
    let run = |generator: &mut Generator, clusters: &[usize]| {
        let base = simulate(generator, clusters, 0.7, 0.3);
        let new = other_scores(generator, &base, clusters, kept, 0.5, 0.3);
        difference(&new, &base)
    };
    // Past runs of 2,000 images tell the spread; one such standard error is itself known to within 2 %.
    let past = clusters_of(2_000, |cluster| 1 + cluster % 5);
    let seen = run(&mut generator, &past);
    let error = clustered_standard_error(&seen.influence, &past).unwrap();
    let measured = MeasuredError { standard_error: error.standard_error, samples: past.len() as u64, clusters: 2_000 };
    let needed = samples_for_effect(measured, drop, 0.05, 0.8).unwrap();
    let clusters = clusters_of(needed.clusters as usize, |cluster| 1 + cluster % 5);
    assert!(needed.samples.abs_diff(clusters.len() as u64) <= 6, "{needed:?} {}", clusters.len());
    let trials = 1_000;
    let found = (0..trials)
        .filter(|_| {
            let seen = run(&mut generator, &clusters);
            seen.value < 0.0 && p_value(&seen, &clusters) < 0.05
        })
        .count();
    let power = found as f64 / f64::from(trials);
    println!("{needed:?}: power {power}");
    // Three Monte-Carlo errors of 1.3 points, and 2 % of the standard error, which move the power by 2 points.
    assert!((power - 0.8).abs() <= 0.058, "power {power}");
}
