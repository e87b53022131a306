//! What a comparison says. All values are already multiplied by the metric's `scale` (per cent for accuracies).

use serde::{Deserialize, Serialize};

use crate::store::{DeterminismClass, JudgeIdentity, RunHeader};

/// A number with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Point estimate.
    pub value: f64,
    /// Clustered standard error; `None` with fewer than two clusters.
    pub standard_error: Option<f64>,
    /// 95 % confidence interval (t with clusters − 1 degrees of freedom). `None` without a standard error, and for
    /// differences that are all equal, whose spread cannot be told. A share stays within 0 and 100 %; where every sample is
    /// right, or every one wrong, it is Wilson's interval with the clusters as trials.
    pub interval: Option<[f64; 2]>,
    /// Samples.
    pub n: usize,
    /// Clusters.
    pub clusters: usize,
    /// Squared ratio of the clustered to the naive standard error.
    pub design_effect: Option<f64>,
}

/// One metric of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricSummary {
    /// Metric name.
    pub name: String,
    /// The metric by which the run is judged.
    pub primary: bool,
    /// Direction, `None` for descriptions.
    pub higher_is_better: Option<bool>,
    /// Its value. A metric without any (nothing answered, or a ratio whose denominators sum to 0) is left out of the list.
    pub estimate: Estimate,
}

/// The primary metric within one category.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CategorySummary {
    /// Category name.
    pub category: String,
    /// The primary metric there.
    pub estimate: Estimate,
}

/// Median and spread of a latency in milliseconds. Percentiles that the sample size cannot support are absent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Observations.
    pub n: usize,
    /// Mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile; needs at least 44 observations.
    pub p90_ms: Option<f64>,
    /// 99th percentile; needs at least 459 observations.
    pub p99_ms: Option<f64>,
}

/// Where the time of a run went. Stage quantiles are per image group; TTFT and TPOT per question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// Image decoding and preprocessing.
    pub image: Option<Quantiles>,
    /// Vision encoder.
    pub vision: Option<Quantiles>,
    /// Projector.
    pub projector: Option<Quantiles>,
    /// Prefill.
    pub prefill: Option<Quantiles>,
    /// Decode.
    pub decode: Option<Quantiles>,
    /// Time to first token.
    pub ttft: Option<Quantiles>,
    /// Time per output token after the first.
    pub tpot: Option<Quantiles>,
    /// Engine milliseconds per question over the whole run, all stages.
    pub per_question_ms: Option<f64>,
    /// What the program itself took of the time; absent in runs that did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harness: Option<HarnessShare>,
}

/// The program's own part of a run's time: that of the engine, of waiting for images and of the rest make the whole.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HarnessShare {
    /// Share of the time in which the engine stood still for the program's own work, 0 to 1.
    pub harness: f64,
    /// Share of the time in which the engine stood still because images were not ready, 0 to 1.
    pub image_wait: f64,
    /// The program's own work in milliseconds per sample.
    pub harness_ms_per_sample: f64,
}

/// One run, summarised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run's header.
    pub header: RunHeader,
    /// Whether every planned sample has a record.
    pub complete: bool,
    /// Records.
    pub records: usize,
    /// Samples without an answer.
    pub failed: usize,
    /// Answers without a score, because no judge has read them or the reference is withheld.
    pub unscored: usize,
    /// Answers that the scorer could not parse.
    pub unparsed: usize,
    /// Metrics, primary first.
    pub metrics: Vec<MetricSummary>,
    /// By category, if the benchmark has any.
    pub categories: Vec<CategorySummary>,
    /// Latency.
    pub latency: LatencySummary,
    /// Most memory that the process held during the run, in bytes, where it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Who judged the answers, if anybody did, with what could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeIdentity>,
}

/// What may be said about a difference, never more than the interval supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The whole interval is on the worse side of zero, and the p-value is at most 5 %.
    Regressed,
    /// The whole interval is on the better side of zero, and the p-value is at most 5 %.
    Improved,
    /// The interval reaches no further than the margin on the worse side.
    NoWorse,
    /// Neither; see the minimum detectable effect.
    Inconclusive,
    /// Every answer's score is equal.
    Identical,
    /// The metric has no direction.
    Descriptive,
}

/// The test that a p-value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairedTest {
    /// Student's t of the difference over its clustered standard error, clusters − 1 degrees of freedom.
    PairedT,
    /// McNemar's mid-p test: scores of 0 and 1, each sample a cluster of its own.
    McnemarMidP,
    /// The signs of the clusters' differences flipped: few clusters.
    SignFlip,
    /// The sign test over clusters: every cluster differs by the same amount.
    Sign,
}

impl PairedTest {
    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PairedT => "paired-t",
            Self::McnemarMidP => "mcnemar-mid-p",
            Self::SignFlip => "sign-flip",
            Self::Sign => "sign",
        }
    }
}

/// One metric of a pair of runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedMetric {
    /// Metric name.
    pub name: String,
    /// Whether it is the primary one.
    pub primary: bool,
    /// Direction.
    pub higher_is_better: Option<bool>,
    /// First run.
    pub base: Estimate,
    /// Second run.
    pub new: Estimate,
    /// New minus base, paired and clustered.
    pub difference: Estimate,
    /// Two-sided p-value of `test`; `None` without a standard error.
    pub p_value: Option<f64>,
    /// Which test the p-value comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<PairedTest>,
    /// The difference that this many samples could see with 80 % power at 5 %, in the metric's units.
    pub minimum_detectable_effect: Option<f64>,
    /// The p-value adjusted by Holm's method for all primary metrics of all pairs of the comparison; `None` for other metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjusted_p_value: Option<f64>,
    /// 95 % cluster bootstrap interval (BCa) of the difference, for ratios and other metrics that are no plain mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_interval: Option<[f64; 2]>,
    /// Samples of this kind that would tell a difference as large as the margin with 80 % power, where the verdict is
    /// inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples_to_settle: Option<usize>,
    /// What may be said. For a primary metric "regressed" and "improved" hold after correction for all primary metrics of all
    /// pairs of the comparison: the adjusted p-value is at most 5 %.
    pub verdict: Verdict,
    /// What this difference alone would have said, where correction for the others changed the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncorrected_verdict: Option<Verdict>,
}

impl PairedMetric {
    /// The verdict of this difference alone, as if nothing else had been looked at.
    pub fn own_verdict(&self) -> Verdict {
        self.uncorrected_verdict.unwrap_or(self.verdict)
    }
}

/// The primary metric within one category of two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedCategory {
    /// Category name.
    pub category: String,
    /// First run.
    pub base: Estimate,
    /// Second run.
    pub new: Estimate,
    /// New minus base, paired and clustered.
    pub difference: Estimate,
    /// Two-sided p-value.
    pub p_value: Option<f64>,
    /// The p-value adjusted over the categories of this pair by the method of Benjamini and Hochberg: for looking around.
    pub adjusted_p_value: Option<f64>,
}

/// What may be said about the speed of two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LatencyVerdict {
    /// Slower: the whole interval lies beyond the noise band, and not by chance (p ≤ 1 %).
    Slower,
    /// Faster, in the same way.
    Faster,
    /// No difference that is both beyond the noise band and not by chance.
    WithinNoise,
    /// Too few pairs for any verdict.
    TooFew,
}

impl LatencyVerdict {
    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::WithinNoise => "within-noise",
            Self::TooFew => "too-few",
        }
    }
}

/// The speed of two runs on one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyComparison {
    /// Ratio new/base of engine time. Paired by images: the median over all pairs of images of the geometric mean of their two
    /// ratios (Hodges and Lehmann), with its distribution-free interval and no standard error. Unpaired: the median of all ratios
    /// of a time per question in one run to one in the other, without an interval.
    pub ratio: Estimate,
    /// Two-sided p-value: of Wilcoxon's signed ranks of the logarithms of the ratios; unpaired, of the test of Mann and Whitney.
    pub p_value: Option<f64>,
    /// Whether the runs have too few images in common for pairs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unpaired: bool,
    /// Half width of the band of ratios that two runs of one package show here, 0.03 for 3 %.
    pub noise_band: f64,
    /// Pairs of runs of one package on this machine from which the band comes; with none it is the default.
    pub noise_pairs: usize,
    /// What may be said.
    pub verdict: LatencyVerdict,
}

/// The first question whose prompt reads otherwise in the two runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptDifference {
    /// Sample key.
    pub key: String,
    /// Samples whose prompts differ.
    pub samples: usize,
    /// Prompt of the first run, image marks included.
    pub base: String,
    /// Prompt of the second run.
    pub new: String,
}

/// One side of a flip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlipSide {
    /// Raw answer.
    pub text: String,
    /// Parsed answer.
    pub parsed: Option<String>,
    /// Score.
    pub score: Option<f64>,
}

/// A sample whose score differs between two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    /// Sample key.
    pub key: String,
    /// Question.
    pub question: String,
    /// First run.
    pub base: FlipSide,
    /// Second run.
    pub new: FlipSide,
}

/// How far the answers of two runs would come again by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairDeterminism {
    /// Class of the first run.
    pub base: DeterminismClass,
    /// Class of the second run.
    pub new: DeterminismClass,
    /// Whether both ran the same package.
    pub same_package: bool,
    /// Whether all that is recorded of what answers depend on is the same: package, questions, settings, machine and libraries. Runs
    /// of class D0 are then expected to give the same answers.
    pub same_conditions: bool,
    /// Answers that differ, of the samples answered in both runs.
    pub differing_answers: usize,
}

/// Two runs of the same benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairComparison {
    /// Benchmark name.
    pub benchmark: String,
    /// Name of the first package.
    pub base: String,
    /// Name of the second package.
    pub new: String,
    /// Samples answered in both runs.
    pub paired: usize,
    /// Score rose.
    pub fixed: usize,
    /// Score fell.
    pub broken: usize,
    /// Score equal.
    pub same: usize,
    /// Metrics on the samples answered in both runs, primary first; a metric without a value in either run is left out.
    pub metrics: Vec<PairedMetric>,
    /// Samples whose score differs, broken first.
    pub flips: Vec<Flip>,
    /// The primary metric by category, if the benchmark has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<PairedCategory>,
    /// Speed; `None` when not comparable.
    pub latency: Option<LatencyComparison>,
    /// How the prompts differ, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_difference: Option<PromptDifference>,
    /// How far the answers would come again; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub determinism: Option<PairDeterminism>,
    /// What a reader should know before believing it: unlike prompts (templates differ), machines, settings.
    pub notes: Vec<String>,
}

impl PairComparison {
    /// The metric by which the pair is judged, if it has a value in both runs.
    pub fn primary(&self) -> Option<&PairedMetric> {
        self.metrics.iter().find(|metric| metric.primary)
    }

    /// The verdict on the primary metric, corrected; `Inconclusive` where it has no value, because silence is no proof of health.
    pub fn verdict(&self) -> Verdict {
        self.primary().map_or(Verdict::Inconclusive, |metric| metric.verdict)
    }
}

/// One pair of runs in a matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixCell {
    /// Place of the first run in [`BenchmarkMatrix::packages`].
    pub base: usize,
    /// Place of the second one, after the first.
    pub new: usize,
    /// New minus base, paired and clustered.
    pub difference: Estimate,
    /// The p-value adjusted by Holm's method over all pairs of the matrix.
    pub adjusted_p_value: Option<f64>,
    /// What may be said at 5 % for the whole matrix.
    pub verdict: Verdict,
}

/// A run's place among those of its benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RankedRun {
    /// Place in [`BenchmarkMatrix::packages`].
    pub run: usize,
    /// 1 plus the number of runs that are better beyond doubt: runs that cannot be told apart may share a rank.
    pub rank: usize,
    /// 1 plus the number of runs that are not worse beyond doubt: the rank could be anything from `rank` to this.
    pub worst_rank: usize,
}

/// All pairs of the runs of one benchmark, where it has at least three.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkMatrix {
    /// Benchmark name.
    pub benchmark: String,
    /// The primary metric.
    pub metric: String,
    /// Package names, in the order of the runs.
    pub packages: Vec<String>,
    /// Every pair once.
    pub cells: Vec<MatrixCell>,
    /// Best first.
    pub ranking: Vec<RankedRun>,
}

/// Everything a report shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Format version, now 1.
    pub format: u32,
    /// Margin δ of `Verdict::NoWorse` in points: hundredths of a metric's full scale, so per cent for accuracies and 0.01 for
    /// metrics between 0 and 1.
    pub margin: f64,
    /// Every run, by benchmark and then in the order given.
    pub runs: Vec<RunSummary>,
    /// Each later run of a benchmark against its first.
    pub pairs: Vec<PairComparison>,
    /// Tests that the correction of the verdicts counts: the primary metrics, as far as they have a direction and a p-value, of
    /// all pairs.
    #[serde(default)]
    pub corrected_tests: usize,
    /// All pairs of the runs of a benchmark, for benchmarks of three runs and more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matrices: Vec<BenchmarkMatrix>,
}
