//! The compare room: summarises runs and pairs them by sample key, with honest intervals and verdicts.
//!
//! It must not score answers or format text: it reads run directories and gives numbers with what they need to be
//! believed.

mod attribution;
mod attribution_values;
mod bootstrap;
mod determinism;
mod error;
mod estimate;
pub mod gate;
mod history;
mod history_points;
mod latency;
mod live;
mod matrix;
mod metric;
mod noise;
mod notes;
mod pair;
mod pareto;
mod power;
mod prompt_diff;
mod refusal;
mod summary;
mod types;

pub use attribution::{
    Attribution, BenchmarkAttribution, DivergenceStart, LayerDivergence, MixedScore, Side, Stage, StageContribution,
    StageDivergence, TensorDivergence, TokenDivergence,
};
pub use attribution_values::{AttributionError, MixRun, attribute_benchmark};
pub use error::{CompareError, RunDifference};
pub use estimate::ScoredSample;
pub use history::{
    History, HistoryChange, HistoryOptions, HistoryOrder, HistoryPoint, HistoryRun, HistorySeries, HistoryUnit, change_direction,
    history,
};
pub use live::{LIVE_STAGES, LiveRun};
pub use pair::{CompareOptions, DEFAULT_MARGIN, compare, compare_with};
pub use pareto::{TradeOff, TradeOffs, pareto_front, trade_offs};
pub use power::{BenchmarkPower, DropPower, PowerBasis, PowerPlan, PowerSettings, plan_power};
pub use prompt_diff::{WordChange, word_changes};
pub use summary::{summarise, summarise_scored};
pub use types::{
    BenchmarkMatrix, CategorySummary, Comparison, Estimate, Flip, FlipSide, HarnessShare, LatencyComparison, LatencySummary,
    LatencyVerdict, MatrixCell, MetricSummary, PairComparison, PairDeterminism, PairedCategory, PairedMetric, PairedTest,
    PromptDifference, Quantiles, RankedRun, RunSummary, Verdict,
};
