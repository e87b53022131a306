//! How alike the samples of a cluster are.

use super::clustered::cluster_sums;

/// The likeness of samples within clusters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IntraclassCorrelation {
    /// Share of the variance that lies between clusters. The estimate can be below 0, down to −1/(size − 1), where samples of one
    /// cluster differ more than samples of different ones.
    pub correlation: f64,
    /// `Σ n_c² / Σ n_c`: the size of the cluster of a sample drawn at random, by which [`design_effect`] counts.
    pub cluster_size: f64,
}

/// The intraclass correlation of values in clusters numbered densely from 0: the analysis-of-variance estimator
/// `(MSB − MSW)/(MSB + (n₀ − 1)·MSW)` with `n₀ = (n − Σ n_c²/n)/(C − 1)` for clusters of unequal sizes (Donner 1986). `None` with
/// fewer than two clusters, if no cluster has two samples, or without any spread.
pub fn intraclass_correlation(values: &[f64], clusters: &[usize]) -> Option<IntraclassCorrelation> {
    if values.len() != clusters.len() || !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    let sums = cluster_sums(values, clusters);
    let sizes = cluster_sums(&vec![1.0; values.len()], clusters);
    let (n, count) = (values.len() as f64, sizes.iter().filter(|size| **size > 0.0).count() as f64);
    if count < 2.0 || n <= count {
        return None;
    }
    let grand = values.iter().sum::<f64>() / n;
    let means: Vec<f64> = sums.iter().zip(&sizes).map(|(sum, size)| if *size > 0.0 { sum / size } else { grand }).collect();
    let between: f64 = means.iter().zip(&sizes).map(|(mean, size)| size * (mean - grand).powi(2)).sum::<f64>() / (count - 1.0);
    let within: f64 =
        values.iter().zip(clusters).filter_map(|(value, cluster)| Some((value - means.get(*cluster)?).powi(2))).sum::<f64>()
            / (n - count);
    let squares: f64 = sizes.iter().map(|size| size * size).sum();
    let typical = (n - squares / n) / (count - 1.0);
    let denominator = between + (typical - 1.0) * within;
    if denominator <= 0.0 {
        return None;
    }
    Some(IntraclassCorrelation { correlation: (between - within) / denominator, cluster_size: squares / n })
}

/// By how much clusters multiply the variance of a mean: `1 + (cluster_size − 1)·correlation` (Kish 1965), never below 0.
pub fn design_effect(likeness: IntraclassCorrelation) -> f64 {
    (1.0 + (likeness.cluster_size - 1.0) * likeness.correlation).max(0.0)
}
