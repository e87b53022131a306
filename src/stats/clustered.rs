//! Ratios of sums with standard errors that respect clusters.
//!
//! Every metric is `R = Σ numerator / Σ denominator`. Its error is linearised (Taylor series, as survey statistics do it;
//! Cochran, *Sampling Techniques*, 3rd ed., §6.4 and §9A.5): `R̂ − R ≈ Σ e_i` with
//! `e_i = (numerator_i − R̂·denominator_i) / Σ denominator`. For a plain mean `e_i = (s_i − s̄)/n`, so the clustered
//! standard error below is the usual `sqrt(C/(C−1) · Σ_c (Σ_{i∈c} (s_i − s̄))²)/n` (Liang–Zeger with the finite-cluster
//! factor; Miller, arXiv 2411.00640). Influences add: a mean over categories and a paired difference are sums of them, and
//! samples of one image that stand in several categories or in both runs stay in one cluster.

use std::collections::HashMap;
use std::hash::Hash;

/// A point estimate and each sample's share of its error.
#[derive(Clone, Debug, PartialEq)]
pub struct Linearised {
    /// Point estimate.
    pub value: f64,
    /// Influence `e_i` of each sample, in the order given; they sum to 0.
    pub influence: Vec<f64>,
}

impl Linearised {
    /// `Σ numerators / Σ denominators`. `None` if the slices differ in length, the denominators sum to 0, or anything is
    /// not finite: such a ratio has no value.
    pub fn ratio_of_sums(numerators: &[f64], denominators: &[f64]) -> Option<Self> {
        if numerators.len() != denominators.len() {
            return None;
        }
        let numerator: f64 = numerators.iter().sum();
        let denominator: f64 = denominators.iter().sum();
        let value = numerator / denominator;
        if denominator == 0.0 || !value.is_finite() || !denominator.is_finite() {
            return None;
        }
        let influence: Vec<f64> = numerators.iter().zip(denominators).map(|(n, d)| (n - value * d) / denominator).collect();
        influence.iter().all(|e| e.is_finite()).then_some(Self { value, influence })
    }

    /// The unweighted mean over categories of the ratio within each. `categories[i]` is the category of sample `i`,
    /// numbered densely from 0. `None` if any category has no value: a mean that leaves one out is another metric.
    pub fn mean_over_categories(numerators: &[f64], denominators: &[f64], categories: &[usize]) -> Option<Self> {
        if numerators.len() != denominators.len() || numerators.len() != categories.len() {
            return None;
        }
        let count = categories.iter().max()? + 1;
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (index, category) in categories.iter().enumerate() {
            members.get_mut(*category)?.push(index);
        }
        let mut influence = vec![0.0; numerators.len()];
        let mut value = 0.0;
        for rows in &members {
            let pick = |values: &[f64]| -> Vec<f64> { rows.iter().filter_map(|row| values.get(*row).copied()).collect() };
            let part = Self::ratio_of_sums(&pick(numerators), &pick(denominators))?;
            value += part.value / count as f64;
            for (row, e) in rows.iter().zip(&part.influence) {
                if let Some(slot) = influence.get_mut(*row) {
                    *slot = e / count as f64;
                }
            }
        }
        Some(Self { value, influence })
    }

    /// `self − base`, both estimated on the same samples in the same order: the paired difference. `None` if the lengths
    /// differ.
    pub fn minus(&self, base: &Self) -> Option<Self> {
        (self.influence.len() == base.influence.len()).then(|| Self {
            value: self.value - base.value,
            influence: self.influence.iter().zip(&base.influence).map(|(new, base)| new - base).collect(),
        })
    }

    /// The estimate in other units: per cent from a share with a factor of 100.
    pub fn scaled(mut self, factor: f64) -> Self {
        self.value *= factor;
        for e in &mut self.influence {
            *e *= factor;
        }
        self
    }
}

/// A clustered standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClusteredError {
    /// The standard error.
    pub standard_error: f64,
    /// Clusters.
    pub clusters: usize,
    /// Clusters − 1.
    pub degrees_of_freedom: f64,
}

/// Numbers cluster names densely from 0 in the order of first appearance.
pub fn dense_clusters<K: Hash + Eq>(names: impl IntoIterator<Item = K>) -> Vec<usize> {
    let mut numbers = HashMap::new();
    names
        .into_iter()
        .map(|name| {
            let next = numbers.len();
            *numbers.entry(name).or_insert(next)
        })
        .collect()
}

/// Sums `values` within clusters numbered densely from 0.
pub fn cluster_sums(values: &[f64], clusters: &[usize]) -> Vec<f64> {
    let mut sums = vec![0.0; clusters.iter().max().map_or(0, |last| last + 1)];
    for (value, cluster) in values.iter().zip(clusters) {
        if let Some(sum) = sums.get_mut(*cluster) {
            *sum += value;
        }
    }
    sums
}

/// `sqrt(C/(C−1) · Σ_c (Σ_{i∈c} e_i)²)` of the influences `e_i`, with C − 1 degrees of freedom. `None` with fewer than two
/// clusters: one cluster says nothing about how clusters differ.
pub fn clustered_standard_error(influence: &[f64], clusters: &[usize]) -> Option<ClusteredError> {
    if influence.len() != clusters.len() {
        return None;
    }
    let sums = cluster_sums(influence, clusters);
    let standard_error = corrected_root(&sums)?;
    Some(ClusteredError { standard_error, clusters: sums.len(), degrees_of_freedom: (sums.len() - 1) as f64 })
}

/// The standard error that takes every sample for independent; `None` with fewer than two samples.
pub fn naive_standard_error(influence: &[f64]) -> Option<f64> {
    corrected_root(influence)
}

fn corrected_root(sums: &[f64]) -> Option<f64> {
    let count = sums.len() as f64;
    (sums.len() >= 2).then(|| (count / (count - 1.0) * sums.iter().map(|sum| sum * sum).sum::<f64>()).sqrt())
}
