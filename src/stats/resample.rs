//! Tests and intervals by resampling whole clusters.

use super::quantile::{mean, quantile_of_sorted};
use super::random::Generator;
use super::student::{normal_cdf, normal_quantile};

/// Sign assignments drawn by default.
pub const DEFAULT_PERMUTATIONS: usize = 10_000;

/// The two-sided p-value of "the differences are as likely to point one way as the other", with clusters flipped whole.
///
/// `sums` holds each cluster's summed paired difference; the statistic is the absolute total. All `2^C` assignments are
/// enumerated where that is no more than `permutations`; otherwise `permutations` are drawn from `seed` and the observed one
/// is counted in, `(hits + 1)/(permutations + 1)`, so that p is never 0 (Phipson and Smyth 2010). `None` without clusters.
pub fn sign_flip_p_value(sums: &[f64], permutations: usize, seed: u64) -> Option<f64> {
    if sums.is_empty() || !sums.iter().all(|sum| sum.is_finite()) {
        return None;
    }
    let observed = sums.iter().sum::<f64>().abs();
    // Totals that are equal in exact arithmetic can differ by rounding with the order of signs.
    let reached = observed - 1e-12 * sums.iter().map(|sum| sum.abs()).sum::<f64>();
    if sums.len() < 63 && (1_u64 << sums.len()) <= permutations as u64 {
        let assignments = 1_u64 << sums.len();
        let total = |signs: u64| -> f64 {
            sums.iter().enumerate().map(|(index, sum)| if signs >> index & 1 == 1 { -sum } else { *sum }).sum()
        };
        let hits = (0..assignments).filter(|signs| total(*signs).abs() >= reached).count();
        return Some(hits as f64 / assignments as f64);
    }
    let mut generator = Generator::new(seed);
    let mut hits = 0_usize;
    for _ in 0..permutations {
        let mut total = 0.0;
        for chunk in sums.chunks(64) {
            let mut signs = generator.next_u64();
            for sum in chunk {
                total += if signs & 1 == 1 { -sum } else { *sum };
                signs >>= 1;
            }
        }
        hits += usize::from(total.abs() >= reached);
    }
    Some((hits + 1) as f64 / (permutations + 1) as f64)
}

/// Two bootstrap intervals from the same resamples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BootstrapInterval {
    /// Quantiles of the resampled statistic.
    pub percentile: [f64; 2],
    /// Bias-corrected and accelerated (Efron 1987), the acceleration from leaving out one cluster at a time; `None` where
    /// the resamples or the jackknife do not spread.
    pub bias_corrected: Option<[f64; 2]>,
}

/// Most groups of clusters that the jackknife of [`cluster_bootstrap`] leaves out one at a time.
const MOST_JACKKNIFE_GROUPS: usize = 500;

/// Resamples whole clusters with replacement. `statistic` gets the chosen cluster numbers (each below `clusters`, repeats
/// included) and gives `None` where it has no value, such as a ratio whose denominators sum to 0; those resamples are left
/// out. `None` with fewer than two clusters, or if fewer than half of the resamples have a value.
///
/// Costs `resamples + min(clusters, 500)` calls of `statistic`: beyond 500 clusters the acceleration comes from leaving out
/// groups of them (every 500th cluster is of one group), which estimates the same number. For metrics made of sums,
/// [`super::bootstrap_of_sums`] is many times faster.
pub fn cluster_bootstrap(
    clusters: usize,
    resamples: usize,
    seed: u64,
    level: f64,
    statistic: impl Fn(&[usize]) -> Option<f64>,
) -> Option<BootstrapInterval> {
    if clusters < 2 {
        return None;
    }
    let everything: Vec<usize> = (0..clusters).collect();
    let observed = statistic(&everything)?;
    let mut generator = Generator::new(seed);
    let mut chosen = vec![0; clusters];
    let mut replicates = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        chosen.fill_with(|| generator.below(clusters));
        replicates.extend(statistic(&chosen).filter(|value| value.is_finite()));
    }
    let groups = clusters.min(MOST_JACKKNIFE_GROUPS);
    let left_out: Option<Vec<f64>> = (0..groups)
        .map(|group| {
            let rest: Vec<usize> = everything.iter().copied().filter(|cluster| cluster % groups != group).collect();
            statistic(&rest)
        })
        .collect();
    interval_of_replicates(observed, replicates, resamples, left_out.as_deref(), level)
}

/// Both intervals of replicates in any order; `None` if fewer than half of the `resamples` gave one. `left_out` holds the
/// statistic without one cluster (or group of clusters) at a time, `None` where one of those has no value.
pub(super) fn interval_of_replicates(
    observed: f64,
    mut replicates: Vec<f64>,
    resamples: usize,
    left_out: Option<&[f64]>,
    level: f64,
) -> Option<BootstrapInterval> {
    if replicates.len() * 2 < resamples || replicates.is_empty() {
        return None;
    }
    replicates.sort_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    let percentile = [quantile_of_sorted(&replicates, tail)?, quantile_of_sorted(&replicates, 1.0 - tail)?];
    let bias_corrected = left_out.and_then(|left_out| bias_corrected(observed, &replicates, left_out, tail));
    Some(BootstrapInterval { percentile, bias_corrected })
}

/// Efron's BCa interval from ascending replicates and jackknife values; ties with the observed value count half.
fn bias_corrected(observed: f64, replicates: &[f64], left_out: &[f64], tail: f64) -> Option<[f64; 2]> {
    let below = replicates.iter().filter(|value| **value < observed).count() as f64;
    let equal = replicates.iter().filter(|value| **value == observed).count() as f64;
    let bias = normal_quantile((below + equal / 2.0) / replicates.len() as f64)?;
    let centre = mean(left_out)?;
    let deviations: Vec<f64> = left_out.iter().map(|value| centre - value).collect();
    let squares: f64 = deviations.iter().map(|deviation| deviation * deviation).sum();
    let cubes: f64 = deviations.iter().map(|deviation| deviation.powi(3)).sum();
    if squares <= 0.0 {
        return None;
    }
    let acceleration = cubes / (6.0 * squares.powf(1.5));
    let end = |probability: f64| -> Option<f64> {
        let z = bias + normal_quantile(probability)?;
        let adjusted = normal_cdf(bias + z / (1.0 - acceleration * z));
        quantile_of_sorted(replicates, adjusted)
    };
    Some([end(tail)?, end(1.0 - tail)?])
}
