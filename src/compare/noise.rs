//! How far the times of two runs of one package scatter on a machine: pairs that differ in nothing (A/A).

use std::collections::HashSet;

use super::latency;
use super::notes::same_machine;
use crate::stats::{quantile_of_sorted, sorted};
use crate::store::Run;

/// Half width of the noise band where no earlier runs tell it, and the least that it is: 3 %.
const LEAST_BAND: f64 = 0.03;

/// Most recent A/A pairs that count.
const MOST_PAIRS: usize = 10;

/// Median absolute deviations in the band, each brought to the size of a standard deviation.
const DEVIATIONS: f64 = 3.0;

/// Standard deviation of a normal variable over its median absolute deviation.
const MAD_TO_DEVIATION: f64 = 1.482_602_218_505_602;

/// Two runs of one package on one benchmark with one set of settings on one machine.
struct SamePair<'a> {
    earlier: &'a Run,
    later: &'a Run,
    log_ratio: f64,
}

/// The A/A pairs among some runs.
pub(super) struct Bands<'a> {
    /// By the start of the later run.
    pairs: Vec<SamePair<'a>>,
}

impl<'a> Bands<'a> {
    /// Finds the pairs: of the runs that differ in nothing but their start, each with the one after it. A run that is given
    /// twice, or copied, counts once.
    pub fn new(runs: &'a [Run], history: &'a [Run]) -> Self {
        let mut seen = HashSet::new();
        let mut all: Vec<&Run> = runs.iter().chain(history).filter(|run| seen.insert(started_as(run))).collect();
        all.sort_by(|left, right| left.header.started.cmp(&right.header.started));
        let mut pairs = Vec::new();
        for (place, later) in all.iter().enumerate() {
            let before = all.get(..place).unwrap_or_default();
            let Some(earlier) = before.iter().rev().find(|earlier| differs_in_nothing(earlier, later)) else { continue };
            if let Some(log_ratio) = latency::log_ratio(earlier, later) {
                pairs.push(SamePair { earlier, later, log_ratio });
            }
        }
        Self { pairs }
    }

    /// Half width of the band for two runs, and the number of pairs that it comes from: `max(3 %, 3·MAD)` of the logarithms of
    /// the last 10 pairs on their machine, whose true centre is 0, the deviation scaled to that of a normal variable. The two
    /// runs themselves are no pair of this kind, even where they are runs of one package: nothing is judged by itself.
    pub fn of(&self, base: &Run, new: &Run) -> (f64, usize) {
        let own = [started_as(base), started_as(new)];
        let is_own = |pair: &SamePair<'_>| [pair.earlier, pair.later].iter().all(|run| own.contains(&started_as(run)));
        let here = self.pairs.iter().filter(|pair| same_machine(pair.later, base) && !is_own(pair));
        let deviations: Vec<f64> = here.rev().take(MOST_PAIRS).map(|pair| pair.log_ratio.abs()).collect();
        let spread = quantile_of_sorted(&sorted(&deviations), 0.5).unwrap_or(0.0) * MAD_TO_DEVIATION;
        ((DEVIATIONS * spread).exp_m1().max(LEAST_BAND), deviations.len())
    }
}

/// What tells one run from all others, wherever its directory was copied to.
fn started_as(run: &Run) -> (&str, &str, &str, &str) {
    let header = &run.header;
    (&header.model.identity, &header.model.name, &header.benchmark.name, &header.started)
}

fn differs_in_nothing(earlier: &Run, later: &Run) -> bool {
    let (left, right) = (&earlier.header, &later.header);
    left.model.identity == right.model.identity
        && (&left.benchmark.name, &left.benchmark.samples_sha256) == (&right.benchmark.name, &right.benchmark.samples_sha256)
        && left.settings == right.settings
        && left.environment == right.environment
}
