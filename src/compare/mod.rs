//! The compare room: summarises runs and pairs them by sample key, with honest intervals and verdicts.
//!
//! It must not score answers or format text: it reads run directories and gives numbers with what they need to be
//! believed.

mod types;

pub use types::{
    CategorySummary, Comparison, Estimate, Flip, FlipSide, LatencySummary, MetricSummary, PairComparison, PairedMetric,
    Quantiles, RunSummary, Verdict,
};
