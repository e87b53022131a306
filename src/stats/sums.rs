//! Bootstrap of metrics that are made of sums, on the sums of each cluster alone.

use super::random::Generator;
use super::resample::{BootstrapInterval, interval_of_replicates};

/// A denominator that is no more than this share of what it was before a cluster was left out is rounding.
const ROUNDING: f64 = 1e-12;

/// A metric's numerators and denominators summed within each cluster, by category: all that a resample of whole clusters needs
/// to know. The metric is `Σ numerator / Σ denominator`, or the unweighted mean over categories of that ratio.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusteredSums {
    /// The cells of cluster c are `cells[starts[c]..starts[c + 1]]`.
    starts: Vec<usize>,
    cells: Vec<Cell>,
    categories: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    category: usize,
    numerator: f64,
    denominator: f64,
}

/// Numerator and denominator of each category.
type Totals = Vec<[f64; 2]>;

impl ClusteredSums {
    /// From one row a sample. `clusters[i]` and, for a mean over categories, `categories[i]` are numbered densely from 0
    /// ([`super::dense_clusters`]); `categories` is `None` for a plain ratio of sums or mean. `None` if the slices differ in
    /// length, are empty, or hold a number that is not finite.
    pub fn new(numerators: &[f64], denominators: &[f64], categories: Option<&[usize]>, clusters: &[usize]) -> Option<Self> {
        let samples = numerators.len();
        let alike =
            denominators.len() == samples && clusters.len() == samples && categories.is_none_or(|all| all.len() == samples);
        if !alike || !numerators.iter().chain(denominators).all(|value| value.is_finite()) {
            return None;
        }
        let category_of = |sample: usize| categories.and_then(|all| all.get(sample).copied()).unwrap_or(0);
        let mut rows: Vec<(usize, usize, usize)> =
            clusters.iter().enumerate().map(|(sample, cluster)| (*cluster, category_of(sample), sample)).collect();
        rows.sort_unstable();
        let mut starts = vec![0];
        let mut cells: Vec<Cell> = Vec::new();
        let mut last = None;
        for (cluster, category, sample) in rows {
            while starts.len() <= cluster {
                starts.push(cells.len());
            }
            let (numerator, denominator) = (*numerators.get(sample)?, *denominators.get(sample)?);
            match cells.last_mut().filter(|_| last == Some((cluster, category))) {
                Some(cell) => {
                    cell.numerator += numerator;
                    cell.denominator += denominator;
                }
                None => cells.push(Cell { category, numerator, denominator }),
            }
            last = Some((cluster, category));
        }
        starts.push(cells.len());
        let categories = cells.iter().map(|cell| cell.category).max()? + 1;
        Some(Self { starts, cells, categories })
    }

    /// Clusters.
    pub fn clusters(&self) -> usize {
        self.starts.len() - 1
    }

    /// The metric on all clusters; `None` where a category's denominators sum to 0.
    pub fn value(&self) -> Option<f64> {
        self.value_of(&self.totals(|_| 1.0))
    }

    fn of_cluster(&self, cluster: usize) -> &[Cell] {
        let range = self.starts.get(cluster).zip(self.starts.get(cluster + 1));
        range.and_then(|(start, end)| self.cells.get(*start..*end)).unwrap_or_default()
    }

    fn totals(&self, times: impl Fn(usize) -> f64) -> Totals {
        let mut totals = vec![[0.0; 2]; self.categories];
        for cluster in 0..self.clusters() {
            let times = times(cluster);
            if times == 0.0 {
                continue;
            }
            for cell in self.of_cluster(cluster) {
                if let Some([numerator, denominator]) = totals.get_mut(cell.category) {
                    *numerator += times * cell.numerator;
                    *denominator += times * cell.denominator;
                }
            }
        }
        totals
    }

    fn value_of(&self, totals: &Totals) -> Option<f64> {
        let mut sum = 0.0;
        for [numerator, denominator] in totals {
            if *denominator == 0.0 {
                return None;
            }
            sum += numerator / denominator;
        }
        let value = sum / self.categories as f64;
        value.is_finite().then_some(value)
    }

    /// The metric without one cluster at a time: O(cells), because only the categories of that cluster change.
    fn left_out(&self) -> Option<Vec<f64>> {
        let totals = self.totals(|_| 1.0);
        let value = self.value_of(&totals)?;
        let count = self.categories as f64;
        (0..self.clusters())
            .map(|cluster| {
                let mut without = value;
                for cell in self.of_cluster(cluster) {
                    let [numerator, denominator] = *totals.get(cell.category)?;
                    let rest = denominator - cell.denominator;
                    if rest.abs() <= ROUNDING * denominator.abs() {
                        return None;
                    }
                    without += ((numerator - cell.numerator) / rest - numerator / denominator) / count;
                }
                Some(without)
            })
            .collect()
    }
}

/// Bootstraps `new`, or with a base the paired difference `new − base` of both on the same clusters, by resampling whole
/// clusters with replacement: the same intervals as [`super::cluster_bootstrap`] with the same seed, without visiting samples.
///
/// Cost: `resamples · (clusters + cells)` additions and `resamples · clusters` random numbers, where a cluster has a cell for
/// each category that it stands in; 10,000 clusters and 2,000 resamples of a difference take about 0.4 s optimised.
///
/// The ends are in the metric's own units: multiply by its scale (and by the number of categories for a sum over them). `None`
/// with fewer than two clusters, if the sides differ in clusters, if either has no value, or if fewer than half of the resamples
/// have one: a category that stands in few clusters is left out of many resamples.
pub fn bootstrap_of_sums(
    new: &ClusteredSums,
    base: Option<&ClusteredSums>,
    resamples: usize,
    seed: u64,
    level: f64,
) -> Option<BootstrapInterval> {
    let clusters = new.clusters();
    if clusters < 2 || base.is_some_and(|base| base.clusters() != clusters) {
        return None;
    }
    let observed = new.value()? - base.map_or(Some(0.0), ClusteredSums::value)?;
    let mut generator = Generator::new(seed);
    let mut times = vec![0.0_f64; clusters];
    let mut replicates = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        times.fill(0.0);
        for _ in 0..clusters {
            if let Some(times) = times.get_mut(generator.below(clusters)) {
                *times += 1.0;
            }
        }
        let side = |sums: &ClusteredSums| sums.value_of(&sums.totals(|cluster| times.get(cluster).copied().unwrap_or_default()));
        let value = match base {
            Some(base) => side(new).zip(side(base)).map(|(new, base)| new - base),
            None => side(new),
        };
        replicates.extend(value);
    }
    let left_out = match base {
        Some(base) => new.left_out().zip(base.left_out()).map(|(mut new, base)| {
            new.iter_mut().zip(&base).for_each(|(new, base)| *new -= base);
            new
        }),
        None => new.left_out(),
    };
    interval_of_replicates(observed, replicates, resamples, left_out.as_deref(), level)
}
