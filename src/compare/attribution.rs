//! Which stage made the difference: what stage swapping and direct comparison of the stages say.

use serde::{Deserialize, Serialize};

use super::Estimate;

/// One of the three graphs of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The CLIP vision encoder.
    Vision,
    /// The projector.
    Projector,
    /// The language model.
    Llm,
}

impl Stage {
    /// All stages in the order of the flow.
    pub const ALL: [Self; 3] = [Self::Vision, Self::Projector, Self::Llm];

    /// The name used in files and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Projector => "projector",
            Self::Llm => "llm",
        }
    }
}

/// Which of the two packages a stage was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The first package.
    Base,
    /// The second package.
    New,
}

impl Side {
    /// The name used in files and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::New => "new",
        }
    }
}

/// The score of one mixed package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixedScore {
    /// Where the vision encoder came from.
    pub vision: Side,
    /// Where the projector came from.
    pub projector: Side,
    /// Where the language model came from.
    pub llm: Side,
    /// The primary metric on the samples that every mix answered.
    pub estimate: Estimate,
}

/// A stage's part of the difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageContribution {
    /// The stage.
    pub stage: Stage,
    /// Shapley value: the mean over all orders in which the stages can be replaced of what replacing this one changes. In the
    /// metric's units, clustered interval; the values of the stages sum to the whole difference.
    pub contribution: Estimate,
    /// The part of the whole difference, 1 for all of it; `None` where the whole difference is within its interval of 0, so
    /// that there is nothing to divide.
    pub share: Option<f64>,
}

/// Stage swapping on one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkAttribution {
    /// Benchmark name.
    pub benchmark: String,
    /// Benchmark title for people.
    pub title: String,
    /// The primary metric.
    pub metric: String,
    /// Its direction.
    pub higher_is_better: Option<bool>,
    /// Whether values are per cent and differences percentage points.
    #[serde(default)]
    pub percent: bool,
    /// Samples that every mix answered.
    pub n: usize,
    /// Scores of the mixes that were run, the base package first and the new one last. A stage that is equal in both counts as
    /// the base's, and where all are equal there is one mix.
    pub mixes: Vec<MixedScore>,
    /// New minus base, paired.
    pub difference: Estimate,
    /// The parts of the stages, in the order of the flow.
    pub stages: Vec<StageContribution>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// How far two versions of a stage's output lie apart, over the rows of all images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorDivergence {
    /// Rows compared.
    pub rows: usize,
    /// Mean cosine of corresponding rows.
    pub mean_cosine: f64,
    /// Smallest cosine.
    pub min_cosine: f64,
    /// `‖new − base‖ / ‖base‖` over everything.
    pub relative_error: f64,
}

/// How far the distributions of the next token lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenDivergence {
    /// Prompts compared.
    pub prompts: usize,
    /// Mean Kullback–Leibler divergence `D(base ‖ new)` of the first answer token, in nats.
    pub mean_kl: f64,
    /// The largest one.
    pub max_kl: f64,
    /// Share of prompts on which both name the same first token.
    pub top1_agreement: f64,
}

/// Divergence after one layer of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerDivergence {
    /// The stage.
    pub stage: Stage,
    /// Layer, counted from 0.
    pub layer: usize,
    /// Of the hidden states after it, each stage with its own layers up to here.
    pub divergence: TensorDivergence,
    /// Of this layer alone: the new one against the base's, both on the base's hidden states, so that nothing that earlier layers
    /// did is in it.
    pub alone: TensorDivergence,
}

/// The layer at which the two versions of a stage part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DivergenceStart {
    /// The stage.
    pub stage: Stage,
    /// The first layer that itself differs by more than rounding, whatever came before it.
    pub first: usize,
    /// The layer that itself differs most.
    pub largest: usize,
}

/// Direct comparison of the stages on the same images. Each stage gets the same input on both sides: the base package's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageDivergence {
    /// Images looked at.
    pub images: usize,
    /// Vision features.
    pub vision: TensorDivergence,
    /// Projector rows from the base package's features.
    pub projector: TensorDivergence,
    /// Language models on the base package's image rows.
    pub llm: TokenDivergence,
    /// The whole packages, each with its own stages.
    pub whole: TokenDivergence,
    /// By layer, where it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerDivergence>,
    /// Where the stages that were looked at by layer part; a stage whose layers are all equal is absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<DivergenceStart>,
}

/// What `attribute` found, the content of `attribution.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// Format version, now 1.
    pub format: u32,
    /// Name of the first package.
    pub base: String,
    /// Name of the second package.
    pub new: String,
    /// Stages whose graphs and weights are the same in both, which cannot be to blame and were not swapped.
    pub equal_stages: Vec<Stage>,
    /// By benchmark.
    pub benchmarks: Vec<BenchmarkAttribution>,
    /// Direct comparison of the stages.
    pub divergence: Option<StageDivergence>,
    /// What a reader should know.
    pub notes: Vec<String>,
}
