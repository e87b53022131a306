//! Which run is measured by which.

use super::super::{CompareError, CompareOptions, Comparison, compare_with, summarise};
use super::{Contender, Contest};
use crate::store::Run;

/// Why nothing can be gated.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The runs do not compare.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// The policy names a metric that the benchmark does not have.
    #[error("benchmark.{benchmark}.metric.{metric}: expected a metric of {benchmark} ({}), found {metric:?}", .known.join(", "))]
    UnknownMetric {
        /// Benchmark name.
        benchmark: String,
        /// The metric named.
        metric: String,
        /// Its metrics.
        known: Vec<String>,
    },
    /// The baseline has several runs of a benchmark, and none of a package of the new run's name.
    #[error(
        "the baseline has runs of {} on {benchmark}, and {package} was run anew: name the package to measure by", .packages.join(", ")
    )]
    Ambiguous {
        /// Benchmark name.
        benchmark: String,
        /// Package of the new run.
        package: String,
        /// Packages of the baseline.
        packages: Vec<String>,
    },
    /// The baseline has no run of the package named.
    #[error("the baseline has no run of a package named {name:?}; found {}", .packages.join(", "))]
    UnknownBase {
        /// The name given.
        name: String,
        /// Packages of the baseline.
        packages: Vec<String>,
    },
}

/// Pairs every new run with the run of the baseline that answers the same benchmark: the only one, or the one of the package
/// named `base_package`, or the one of a package of the same name. A new run whose benchmark the baseline does not have stands
/// alone. `options` as in [`compare_with`].
pub fn against_baseline(
    base: &[Run],
    new: &[Run],
    base_package: Option<&str>,
    options: &CompareOptions<'_>,
) -> Result<Contest, GateError> {
    let name = |run: &Run| run.header.model.name.clone();
    if let Some(wanted) = base_package
        && !base.iter().any(|run| run.header.model.name == wanted)
    {
        let mut packages: Vec<String> = base.iter().map(name).collect();
        packages.sort();
        packages.dedup();
        return Err(GateError::UnknownBase { name: wanted.to_owned(), packages });
    }
    // Each group is a set of runs of the baseline, one a benchmark, with the new runs that are measured by them: a comparison
    // takes the first run of a benchmark as its base.
    let mut groups: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
    let mut alone = Vec::new();
    for (index, run) in new.iter().enumerate() {
        let Some(own) = base_of(base, run, base_package)? else {
            alone.push(index);
            continue;
        };
        let benchmark = &run.header.benchmark.name;
        let fits = |(bases, _): &&mut (Vec<usize>, Vec<usize>)| {
            bases.contains(&own) || bases.iter().all(|other| base[*other].header.benchmark.name != *benchmark)
        };
        match groups.iter_mut().find(fits) {
            Some((bases, news)) => {
                if !bases.contains(&own) {
                    bases.push(own);
                }
                news.push(index);
            }
            None => groups.push((vec![own], vec![index])),
        }
    }
    let mut contest = Contest {
        comparison: Comparison {
            format: 1,
            margin: options.margin,
            runs: Vec::new(),
            pairs: Vec::new(),
            corrected_tests: 0,
            matrices: Vec::new(),
        },
        contenders: Vec::new(),
        baseline: base.iter().map(|run| (run.header.benchmark.name.clone(), name(run))).collect(),
    };
    for (bases, news) in groups {
        let runs: Vec<Run> =
            bases.iter().map(|index| base[*index].clone()).chain(news.iter().map(|index| new[*index].clone())).collect();
        append(&mut contest, compare_with(&runs, options)?);
    }
    for run in alone.into_iter().filter_map(|index| new.get(index)) {
        contest.contenders.push(Contender { new: contest.comparison.runs.len(), base: None, pair: None });
        contest.comparison.runs.push(summarise(run));
    }
    Ok(contest)
}

/// The run of the baseline that measures `run`, by its place; `None` where the baseline does not have the benchmark.
fn base_of(base: &[Run], run: &Run, base_package: Option<&str>) -> Result<Option<usize>, GateError> {
    let benchmark = &run.header.benchmark.name;
    let candidates: Vec<usize> = base
        .iter()
        .enumerate()
        .filter(|(_, base)| base.header.benchmark.name == *benchmark)
        .filter(|(_, base)| base_package.is_none_or(|wanted| base.header.model.name == wanted))
        .map(|(index, _)| index)
        .collect();
    let name = |index: &usize| base.get(*index).map(|run| run.header.model.name.as_str());
    match candidates.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(*only)),
        several => {
            let same: Vec<usize> =
                several.iter().copied().filter(|index| name(index) == Some(run.header.model.name.as_str())).collect();
            match same.as_slice() {
                [only] => Ok(Some(*only)),
                _ => Err(GateError::Ambiguous {
                    benchmark: benchmark.clone(),
                    package: run.header.model.name.clone(),
                    packages: several.iter().filter_map(name).map(str::to_owned).collect(),
                }),
            }
        }
    }
}

/// Adds a comparison in which the first run of each benchmark is the baseline's.
fn append(contest: &mut Contest, comparison: Comparison) {
    let whole = &mut contest.comparison;
    let mut pair = whole.pairs.len();
    let mut base: Option<usize> = None;
    for run in comparison.runs {
        let index = whole.runs.len();
        let same =
            |base: &usize| whole.runs.get(*base).is_some_and(|base| base.header.benchmark.name == run.header.benchmark.name);
        match base.filter(same) {
            Some(base) => {
                contest.contenders.push(Contender { new: index, base: Some(base), pair: Some(pair) });
                pair += 1;
            }
            None => base = Some(index),
        }
        whole.runs.push(run);
    }
    whole.pairs.extend(comparison.pairs);
    whole.corrected_tests += comparison.corrected_tests;
    whole.matrices.extend(comparison.matrices);
}
