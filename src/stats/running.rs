//! A ratio of sums that grows sample by sample, with its clustered standard error at any moment.

use super::clustered::ClusteredError;

/// `Σ numerator / Σ denominator` over what was added so far. The standard error is that of
/// [`clustered_standard_error`](super::clustered_standard_error) on the influences of
/// [`Linearised::ratio_of_sums`](super::Linearised::ratio_of_sums), from three sums over clusters: with `N_c` and `D_c` the sums
/// within cluster c and `R` the ratio, `Σ_c (N_c − R·D_c)² = ΣN_c² − 2R·ΣN_cD_c + R²·ΣD_c²`. Adding a sample costs the same
/// however many there are.
#[derive(Clone, Debug, Default)]
pub struct RunningRatio {
    clusters: Vec<[f64; 2]>,
    numerator: f64,
    denominator: f64,
    numerators_squared: f64,
    products: f64,
    denominators_squared: f64,
}

impl RunningRatio {
    /// Adds a sample. Clusters are numbered densely from 0 in the order of first appearance. What is not finite is left out.
    pub fn add(&mut self, cluster: usize, numerator: f64, denominator: f64) {
        // A number far beyond the next one would be a mistake and fill the memory.
        if !numerator.is_finite() || !denominator.is_finite() || cluster > self.clusters.len() {
            return;
        }
        if cluster == self.clusters.len() {
            self.clusters.push([0.0; 2]);
        }
        let Some([n, d]) = self.clusters.get_mut(cluster) else { return };
        self.numerator += numerator;
        self.denominator += denominator;
        self.numerators_squared += numerator * (2.0 * *n + numerator);
        self.products += *n * denominator + *d * numerator + numerator * denominator;
        self.denominators_squared += denominator * (2.0 * *d + denominator);
        *n += numerator;
        *d += denominator;
    }

    /// The ratio; `None` while it has no value.
    pub fn value(&self) -> Option<f64> {
        let value = self.numerator / self.denominator;
        (self.denominator != 0.0 && value.is_finite()).then_some(value)
    }

    /// Clusters so far.
    pub fn clusters(&self) -> usize {
        self.clusters.len()
    }

    /// The clustered standard error with clusters − 1 degrees of freedom; `None` with fewer than two clusters.
    pub fn standard_error(&self) -> Option<ClusteredError> {
        let ratio = self.value()?;
        let clusters = self.clusters.len();
        if clusters < 2 {
            return None;
        }
        let squares = self.numerators_squared - 2.0 * ratio * self.products + ratio * ratio * self.denominators_squared;
        // Rounding of sums that cancel: far below any spread of scores.
        let noise = 1e-12 * (self.numerators_squared + ratio * ratio * self.denominators_squared);
        let squares = if squares > noise { squares } else { 0.0 };
        let count = clusters as f64;
        let standard_error = (count / (count - 1.0) * squares).sqrt() / self.denominator.abs();
        Some(ClusteredError { standard_error, clusters, degrees_of_freedom: count - 1.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Generator, Linearised, clustered_standard_error};

    #[test]
    fn at_any_moment_it_is_what_all_samples_together_give() {
        let mut generator = Generator::new(3);
        let mut running = RunningRatio::default();
        let (mut numerators, mut denominators, mut clusters) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0_usize..120 {
            // Clusters grow side by side, as they do when shards of a run are mixed.
            let cluster = (index / 6) + if index % 6 == 5 { 1 } else { 0 };
            let denominator = 1.0 + f64::from(index % 3 == 0);
            let numerator = if generator.uniform() < 0.7 { denominator } else { 0.0 };
            running.add(cluster, numerator, denominator);
            numerators.push(numerator);
            denominators.push(denominator);
            clusters.push(cluster);
            let whole = Linearised::ratio_of_sums(&numerators, &denominators).unwrap();
            assert!((running.value().unwrap() - whole.value).abs() < 1e-12);
            let expected = clustered_standard_error(&whole.influence, &clusters);
            match (running.standard_error(), expected) {
                (Some(found), Some(expected)) => {
                    assert_eq!(found.clusters, expected.clusters);
                    assert!((found.standard_error - expected.standard_error).abs() < 1e-9, "after {index}");
                }
                (found, expected) => assert_eq!(found.is_none(), expected.is_none(), "after {index}"),
            }
        }
        running.add(4_000_000, 1.0, 1.0);
        running.add(0, f64::NAN, 1.0);
        assert_eq!(running.clusters(), clusters.iter().max().unwrap() + 1);
    }

    #[test]
    fn equal_samples_have_no_spread() {
        let mut running = RunningRatio::default();
        assert_eq!(running.value(), None);
        (0..50).for_each(|cluster| running.add(cluster, 0.1, 1.0));
        assert_eq!(running.standard_error().unwrap().standard_error, 0.0);
    }
}
