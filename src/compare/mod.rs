//! The compare room: summarises runs and pairs them by sample key, with honest intervals and verdicts.
//!
//! It must not score answers or format text: it reads run directories and gives numbers with what they need to be
//! believed.

mod attribution;
mod attribution_values;
mod error;
mod estimate;
mod latency;
mod notes;
mod pair;
mod summary;
mod types;

pub use attribution::{
    Attribution, BenchmarkAttribution, DivergenceStart, LayerDivergence, MixedScore, Side, Stage, StageContribution,
    StageDivergence, TensorDivergence, TokenDivergence,
};
pub use attribution_values::{AttributionError, MixRun, attribute_benchmark};
pub use error::{CompareError, RunDifference};
pub use estimate::ScoredSample;
pub use pair::{DEFAULT_MARGIN, compare};
pub use summary::{summarise, summarise_scored};
pub use types::{
    BenchmarkMatrix, CategorySummary, Comparison, Estimate, Flip, FlipSide, LatencyComparison, LatencySummary, LatencyVerdict,
    MatrixCell, MetricSummary, PairComparison, PairedCategory, PairedMetric, PromptDifference, Quantiles, RankedRun, RunSummary,
    Verdict,
};
