//! What a gate says.

use serde::Serialize;

use super::super::{Comparison, Estimate, Verdict};
use super::Correction;

/// What a gate looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateCheck {
    /// A benchmark that must have been run.
    Required,
    /// Whether every planned sample has a record.
    Complete,
    /// Whether a metric is worse than in the baseline.
    Metric,
    /// The value of a metric against a limit of its own.
    Value,
    /// Samples whose score fell.
    Broken,
    /// Samples answered in both runs.
    Samples,
    /// Clusters of them.
    Clusters,
    /// Samples without an answer.
    Failed,
    /// Answers that the scorer could not parse.
    Unparsed,
    /// A time against the baseline.
    Latency,
    /// Bytes of the weights.
    Size,
    /// Most memory that the process held.
    Memory,
}

impl GateCheck {
    /// The name used in files and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Complete => "complete",
            Self::Metric => "metric",
            Self::Value => "value",
            Self::Broken => "broken",
            Self::Samples => "samples",
            Self::Clusters => "clusters",
            Self::Failed => "failed",
            Self::Unparsed => "unparsed",
            Self::Latency => "latency",
            Self::Size => "size",
            Self::Memory => "memory",
        }
    }
}

/// What became of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateOutcome {
    /// Within its limit.
    Passed,
    /// Beyond its limit.
    Failed,
    /// Runs or samples are outstanding, so it cannot pass yet.
    Incomplete,
    /// Not judged; the reason says why.
    Skipped,
}

/// In what the numbers of a gate are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateUnit {
    /// Per cent of a metric; differences in percentage points.
    Percent,
    /// A metric with a full scale of 1.
    Fraction,
    /// Points of some kind, such as CIDEr's.
    Points,
    /// A number of things.
    Count,
    /// A share, 1 for all.
    Share,
    /// New to base.
    Ratio,
    /// Bytes.
    Bytes,
}

/// On which side of its limit a gate's number must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// No less than the limit.
    AtLeast,
    /// No more than the limit.
    AtMost,
}

/// One gate: what was looked at, its limit, what was found, and what follows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gate {
    /// What it looks at.
    pub check: GateCheck,
    /// Benchmark name; absent for a gate on the package alone.
    pub benchmark: Option<String>,
    /// Package name; absent where no run is there.
    pub package: Option<String>,
    /// Name of the package in the baseline.
    pub base: Option<String>,
    /// Metric, or stage of a latency.
    pub subject: Option<String>,
    /// Side of the limit.
    pub bound: Bound,
    /// For a metric: the smallest allowed difference (new minus base, its good direction) is minus this margin, in its units.
    pub limit: Option<f64>,
    /// For a metric: new minus base, in its units.
    pub found: Option<f64>,
    /// Unit of both.
    pub unit: GateUnit,
    /// What follows.
    pub outcome: GateOutcome,
    /// Of a metric, after correction.
    pub verdict: Option<Verdict>,
    /// New minus base with its interval, for a metric; the ratio with its interval, for a latency; the value, for a limit on it.
    pub estimate: Option<Estimate>,
    /// Two-sided p-value before correction.
    pub p_value: Option<f64>,
    /// The p-value adjusted for the number of gated metrics.
    pub adjusted_p_value: Option<f64>,
    /// The difference that so many samples could have shown with 80 % power, in the metric's units.
    pub minimum_detectable_effect: Option<f64>,
    /// Samples that would settle an inconclusive verdict.
    pub samples_to_settle: Option<usize>,
    /// What the numbers do not say.
    pub note: Option<String>,
}

/// What the gates say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateResult {
    /// Every gate passed.
    Passed,
    /// None failed, but runs or samples are outstanding.
    Incomplete,
    /// The only gates that failed are those on samples without an answer or that could not be parsed.
    TooManyFailures,
    /// At least one other gate failed.
    Failed,
}

/// All gates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateReport {
    /// Format version, now 1.
    pub format: u32,
    /// What follows.
    pub result: GateResult,
    /// Name of the baseline, if there is one.
    pub baseline: Option<String>,
    /// Whether inconclusive metrics fail.
    pub strict: bool,
    /// Correction for the number of gated metrics.
    pub correction: Correction,
    /// Metrics that were tested together.
    pub family: usize,
    /// By benchmark, in the order of the runs.
    pub gates: Vec<Gate>,
}

impl GateReport {
    /// Gates with one outcome.
    pub fn count(&self, outcome: GateOutcome) -> usize {
        self.gates.iter().filter(|gate| gate.outcome == outcome).count()
    }
}

/// A new run and what it is measured by; all are places in the lists of [`Contest::comparison`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contender {
    /// The new run.
    pub new: usize,
    /// The run of the baseline.
    pub base: Option<usize>,
    /// Both, paired.
    pub pair: Option<usize>,
}

/// New runs against those of a baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Contest {
    /// All runs and pairs.
    pub comparison: Comparison,
    /// The new runs, in the order of the comparison.
    pub contenders: Vec<Contender>,
    /// Benchmark and package of every run of the baseline.
    pub baseline: Vec<(String, String)>,
}
