//! The compare room: summarises runs and pairs them by sample key, with honest intervals and verdicts.
//!
//! It must not score answers or format text: it reads run directories and gives numbers with what they need to be
//! believed.

mod error;
mod estimate;
mod latency;
mod notes;
mod pair;
mod summary;
mod types;

pub use error::{CompareError, RunDifference};
pub use estimate::ScoredSample;
pub use pair::{DEFAULT_MARGIN, compare};
pub use summary::{summarise, summarise_scored};
pub use types::{
    CategorySummary, Comparison, Estimate, Flip, FlipSide, LatencySummary, MetricSummary, PairComparison, PairedMetric,
    Quantiles, RunSummary, Verdict,
};
