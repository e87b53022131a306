//! What accuracy costs in time and bytes: one point for each package, and which of them nothing beats.

use super::RunSummary;

/// A package between accuracy, time and size, over the benchmarks that it shares with the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TradeOff {
    /// Mean over the benchmarks of the primary metric, in per cent: accuracies as they are, other metrics as a share of the best
    /// package's value.
    pub accuracy: f64,
    /// Geometric mean over the benchmarks of the engine's milliseconds per question.
    pub per_question_ms: f64,
    /// Bytes of the weights, where known.
    pub weight_bytes: Option<u64>,
    /// Whether no other package is at least as accurate and as fast, and better in one of the two.
    pub on_front: bool,
    /// The same with size as a third thing to be good at; equal to `on_front` where a size is unknown.
    pub on_front_with_size: bool,
}

/// The packages between accuracy, time and size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TradeOffs {
    /// The benchmarks counted, as places in what was given.
    pub benchmarks: Vec<usize>,
    /// By package; `None` for one that did not run these benchmarks.
    pub packages: Vec<Option<TradeOff>>,
}

/// A run's primary metric with direction “higher is better”, its engine time per question, and whether it is per cent.
fn measured(run: &RunSummary) -> Option<(f64, f64, bool)> {
    let metric = run.metrics.iter().find(|metric| metric.primary).or_else(|| run.metrics.first())?;
    let per_question_ms = run.latency.per_question_ms.filter(|ms| ms.is_finite() && *ms > 0.0)?;
    let spec = run.header.benchmark.metrics.iter().find(|spec| spec.name == metric.name);
    let percent = spec.is_some_and(|spec| spec.scale == 100.0 && !spec.points && !spec.sum_over_categories);
    let usable = metric.higher_is_better == Some(true) && metric.estimate.value.is_finite();
    usable.then_some((metric.estimate.value, per_question_ms, percent))
}

/// Places every package between accuracy, time and size. `grid[package][benchmark]` is the run, where there is one.
///
/// The package with most usable runs, the first of several, sets the list of benchmarks; packages that ran at least half of it
/// are compared on those that all of them ran.
pub fn trade_offs(grid: &[Vec<Option<&RunSummary>>]) -> TradeOffs {
    let cells: Vec<Vec<Option<(f64, f64, bool)>>> =
        grid.iter().map(|row| row.iter().map(|run| run.and_then(measured)).collect()).collect();
    let has = |package: &[Option<(f64, f64, bool)>], benchmark: usize| package.get(benchmark).copied().flatten().is_some();
    let usable = |row: &[Option<(f64, f64, bool)>]| row.iter().flatten().count();
    // Of equals the last is taken, so the first package comes last.
    let Some(widest) = cells.iter().rev().max_by_key(|row| usable(row)) else { return TradeOffs::default() };
    let listed: Vec<usize> = (0..widest.len()).filter(|benchmark| has(widest, *benchmark)).collect();
    let member =
        |row: &[Option<(f64, f64, bool)>]| 2 * listed.iter().filter(|benchmark| has(row, **benchmark)).count() >= listed.len();
    let benchmarks: Vec<usize> = listed
        .iter()
        .copied()
        .filter(|benchmark| cells.iter().filter(|row| member(row)).all(|row| has(row, *benchmark)))
        .collect();
    if benchmarks.is_empty() {
        return TradeOffs::default();
    }
    // The best value of each benchmark, by which values that are no per cent are divided.
    let best = |benchmark: usize| {
        let values = cells.iter().filter(|row| member(row)).filter_map(|row| row.get(benchmark).copied().flatten());
        values.map(|(value, ..)| value).fold(0.0, f64::max)
    };
    let mut packages: Vec<Option<TradeOff>> = Vec::with_capacity(cells.len());
    for (row, runs) in cells.iter().zip(grid) {
        if !member(row) {
            packages.push(None);
            continue;
        }
        let (mut accuracy, mut logarithms) = (0.0, 0.0);
        for benchmark in &benchmarks {
            let Some((value, per_question_ms, percent)) = row.get(*benchmark).copied().flatten() else { continue };
            let best = best(*benchmark);
            accuracy += match percent {
                true => value,
                false if best > 0.0 => 100.0 * value / best,
                false => 0.0,
            };
            logarithms += per_question_ms.ln();
        }
        let count = benchmarks.len() as f64;
        let sizes = benchmarks.iter().filter_map(|benchmark| runs.get(*benchmark).copied().flatten());
        packages.push(Some(TradeOff {
            accuracy: accuracy / count,
            per_question_ms: (logarithms / count).exp(),
            weight_bytes: sizes.filter_map(|run| run.header.model.weight_bytes).max(),
            on_front: false,
            on_front_with_size: false,
        }));
    }
    let known: Vec<(usize, TradeOff)> =
        packages.iter().enumerate().filter_map(|(place, package)| Some((place, (*package)?))).collect();
    let two: Vec<Vec<f64>> = known.iter().map(|(_, package)| vec![package.accuracy, -package.per_question_ms]).collect();
    let sized = known.iter().all(|(_, package)| package.weight_bytes.is_some());
    let three: Vec<Vec<f64>> = known
        .iter()
        .map(|(_, package)| {
            let size = package.weight_bytes.map_or(0.0, |bytes| bytes as f64);
            if sized {
                vec![package.accuracy, -package.per_question_ms, -size]
            } else {
                vec![package.accuracy, -package.per_question_ms]
            }
        })
        .collect();
    for (((place, _), on_front), with_size) in known.iter().zip(pareto_front(&two)).zip(pareto_front(&three)) {
        if let Some(Some(package)) = packages.get_mut(*place) {
            (package.on_front, package.on_front_with_size) = (on_front, with_size);
        }
    }
    TradeOffs { benchmarks, packages }
}

/// Which points no other point dominates: is at least as large in every coordinate and larger in one. Points with a coordinate
/// that is no number are on no front and dominate nothing. Equal points share their place.
pub fn pareto_front(points: &[Vec<f64>]) -> Vec<bool> {
    let number = |point: &[f64]| point.iter().all(|value| !value.is_nan());
    let dominates = |left: &[f64], right: &[f64]| {
        left.len() == right.len()
            && left.iter().zip(right).all(|(left, right)| left >= right)
            && left.iter().zip(right).any(|(left, right)| left > right)
    };
    let on_front = |point: &Vec<f64>| number(point) && !points.iter().any(|other| number(other) && dominates(other, point));
    points.iter().map(on_front).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_front_is_what_nothing_beats() {
        // Accuracy and negative time: the third is slower and worse than the first, the last equals the first.
        let points = vec![vec![80.0, -10.0], vec![90.0, -30.0], vec![79.0, -11.0], vec![70.0, -2.0], vec![80.0, -10.0]];
        assert_eq!(pareto_front(&points), [true, true, false, true, true]);
        assert_eq!(pareto_front(&[vec![f64::NAN, 1.0], vec![0.0, 0.0]]), [false, true]);
        assert!(pareto_front(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn whatever_is_not_on_the_front_is_beaten_by_something_on_it(
            points in prop::collection::vec(prop::collection::vec(-3_i8..4, 2), 1..12)
        ) {
            let points: Vec<Vec<f64>> = points.into_iter().map(|point| point.into_iter().map(f64::from).collect()).collect();
            let front = pareto_front(&points);
            prop_assert!(front.contains(&true));
            for (point, on_front) in points.iter().zip(&front) {
                let beaten = points.iter().zip(&front).any(|(other, other_on)| {
                    *other_on && other != point && other[0] >= point[0] && other[1] >= point[1]
                });
                prop_assert_eq!(*on_front, !beaten);
            }
        }
    }
}
