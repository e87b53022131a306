//! The statistics against simulation: coverage of intervals, levels of tests, and power, with clusters and without.
//!
//! A share p seen in N trials has a Monte-Carlo standard error of √(p(1 − p)/N): 0.49 points for 95 % in 2,000 trials, 0.69 in
//! 1,000. A test that allows more than its claim says by how many of those.

mod differences;
mod intervals;
pub mod latencies;
mod ranks;

use llava_gauge::stats::{Generator, Linearised, clustered_standard_error, t_interval};

/// Trials of most simulations.
const TRIALS: usize = 2_000;

/// Clusters numbered densely, `size(c)` samples in cluster c.
fn clusters_of(count: usize, size: impl Fn(usize) -> usize) -> Vec<usize> {
    (0..count).flat_map(|cluster| vec![cluster; size(cluster)]).collect()
}

/// Scores 0 or 1 with the given mean and intraclass correlation: within a cluster each score copies a shared draw with
/// probability √correlation and is its own draw otherwise.
fn simulate(generator: &mut Generator, clusters: &[usize], mean: f64, correlation: f64) -> Vec<f64> {
    let copied = correlation.sqrt();
    let shared: Vec<bool> = (0..=clusters.iter().copied().max().unwrap()).map(|_| generator.uniform() < mean).collect();
    clusters
        .iter()
        .map(|cluster| {
            let own = generator.uniform() < mean;
            f64::from(u8::from(if generator.uniform() < copied { shared[*cluster] } else { own }))
        })
        .collect()
}

/// 2·TP and 2·TP + FP + FN of each sample, for labels that are positive half of the time and guesses that are right with
/// probability `right`, both alike within clusters: TP = right/2, FP = FN = (1 − right)/2 of all, so F1 = `right`.
fn simulate_f1(generator: &mut Generator, clusters: &[usize], right: f64, correlation: f64) -> (Vec<f64>, Vec<f64>) {
    let labels = simulate(generator, clusters, 0.5, correlation);
    let rights = simulate(generator, clusters, right, correlation);
    labels
        .iter()
        .zip(&rights)
        .map(|(label, right)| {
            let guess = if *right == 1.0 { *label } else { 1.0 - label };
            (2.0 * label * guess, label + guess)
        })
        .unzip()
}

/// The 95 % interval of an estimate.
fn interval(estimate: &Linearised, clusters: &[usize]) -> [f64; 2] {
    let error = clustered_standard_error(&estimate.influence, clusters).unwrap();
    t_interval(estimate.value, error.standard_error, error.degrees_of_freedom, 0.95).unwrap()
}

/// The promise: 95 % intervals cover the truth in 93.5 to 96.5 % of 2,000 trials.
#[track_caller]
fn check_coverage(covered: usize, what: &str) {
    let share = covered as f64 / TRIALS as f64;
    println!("{what}: coverage {share}");
    assert!((0.935..=0.965).contains(&share), "{what}: coverage {share}");
}

/// Whether the truth is inside.
fn covers([low, high]: [f64; 2], truth: f64) -> usize {
    usize::from(low <= truth && truth <= high)
}
