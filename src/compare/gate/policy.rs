//! What a gate demands: `gate.toml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::DEFAULT_MARGIN;

/// Why a policy is not one.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, an unknown key, or a value of the wrong type; the message shows the line, what was expected and what was found.
    #[error("{message}")]
    Syntax {
        /// What the parser says, over several lines.
        message: String,
    },
    /// A value that makes no sense.
    #[error("{key}: expected {expected}, found {found}")]
    Value {
        /// Dotted path of the key.
        key: String,
        /// What would make sense.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

/// Which verdicts on a metric fail its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailOn {
    /// Worse beyond doubt.
    Regressed,
    /// Neither worse nor no worse than the margin: too few samples to tell.
    Inconclusive,
}

/// How p-values of the gated metrics are corrected for their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Correction {
    /// Holm's method: the chance of even one false "regressed" among all gates stays within 5 %.
    #[default]
    Holm,
    /// None: each gate has its own 5 %.
    None,
}

/// What becomes of a required benchmark without a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// The result is incomplete.
    #[default]
    Incomplete,
    /// The gate fails.
    Fail,
}

/// Largest ratios of times, new to base. Stages are compared by the medians of their image groups, TTFT and TPOT by those of
/// their questions; `total` by the paired ratio of engine time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyLimits {
    /// Engine time over all stages, paired by images.
    pub total: Option<f64>,
    /// Image decoding and preprocessing.
    pub image: Option<f64>,
    /// Vision encoder.
    pub vision: Option<f64>,
    /// Projector.
    pub projector: Option<f64>,
    /// Prefill.
    pub prefill: Option<f64>,
    /// Decode.
    pub decode: Option<f64>,
    /// Time to the first token.
    pub ttft: Option<f64>,
    /// Time per output token after the first.
    pub tpot: Option<f64>,
}

/// Largest size, absolute and against the base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeLimits {
    /// In bytes.
    pub max_bytes: Option<u64>,
    /// New to base.
    pub max_ratio: Option<f64>,
}

/// Rules of one metric; what is absent comes from its benchmark, then from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricRules {
    /// Margin δ in points, hundredths of the metric's full scale.
    pub margin: Option<f64>,
    /// Verdicts that fail.
    pub fail_on: Option<Vec<FailOn>>,
    /// Smallest value, in the metric's units.
    pub at_least: Option<f64>,
    /// Largest value, in the metric's units.
    pub at_most: Option<f64>,
}

/// Rules of one benchmark, or of all.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Margin δ in points, hundredths of the metric's full scale.
    pub margin: Option<f64>,
    /// Verdicts that fail.
    pub fail_on: Option<Vec<FailOn>>,
    /// Fewest samples answered in both runs.
    pub minimum_samples: Option<usize>,
    /// Fewest clusters (images) of them.
    pub minimum_clusters: Option<usize>,
    /// Most samples whose score fell.
    pub max_broken: Option<usize>,
    /// Largest share of samples whose score fell.
    pub max_broken_share: Option<f64>,
    /// Largest share of samples without an answer or a score.
    pub max_failed_share: Option<f64>,
    /// Largest share of answers that the scorer could not parse.
    pub max_unparsed_share: Option<f64>,
    /// Smallest value of the primary metric, in its units.
    pub at_least: Option<f64>,
    /// Largest value of the primary metric, in its units.
    pub at_most: Option<f64>,
    /// Times.
    #[serde(default)]
    pub latency: LatencyLimits,
    /// Bytes of the weights.
    #[serde(default)]
    pub size: SizeLimits,
    /// Most memory that the process held.
    #[serde(default)]
    pub memory: SizeLimits,
    /// Further metrics to gate beside the primary one, or other rules for it.
    #[serde(default)]
    pub metric: BTreeMap<String, MetricRules>,
}

/// A policy. The default one fails on any primary metric that regressed, and on more than 1 % of samples without an answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Format version, now 1.
    #[serde(default = "one")]
    pub format: u32,
    /// Inconclusive metrics and missing runs fail too: for releases.
    #[serde(default)]
    pub strict: bool,
    /// Correction for the number of gated metrics.
    #[serde(default)]
    pub correction: Correction,
    /// What becomes of a required benchmark without a run.
    #[serde(default)]
    pub missing: Missing,
    /// Benchmarks that every gated package must have run; where absent, those of the baseline.
    pub required: Option<Vec<String>>,
    /// Rules of every benchmark.
    #[serde(default)]
    pub defaults: Rules,
    /// Rules by benchmark name, in the place of the defaults.
    #[serde(default)]
    pub benchmark: BTreeMap<String, Rules>,
}

fn one() -> u32 {
    1
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            format: 1,
            strict: false,
            correction: Correction::Holm,
            missing: Missing::Incomplete,
            required: None,
            defaults: Rules::default(),
            benchmark: BTreeMap::new(),
        }
    }
}

/// Share of samples without an answer that is allowed where the policy names none.
const DEFAULT_FAILED_SHARE: f64 = 0.01;

impl Policy {
    /// Reads a policy and checks every value.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self =
            toml::from_str(text).map_err(|error| PolicyError::Syntax { message: error.to_string().trim_end().to_owned() })?;
        policy.check()?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), PolicyError> {
        if self.format != 1 {
            return Err(value("format", "1, the format of this program", self.format));
        }
        check_rules("defaults", &self.defaults)?;
        let primary = [("at_least", self.defaults.at_least), ("at_most", self.defaults.at_most)];
        if let Some((key, Some(found))) = primary.into_iter().find(|(_, limit)| limit.is_some()) {
            let expected = "no value here: metrics of unlike benchmarks share no limit; write it under [benchmark.NAME]";
            return Err(value(&format!("defaults.{key}"), expected, found));
        }
        if let Some(metric) = self.defaults.metric.keys().next() {
            let expected = "no metric here: write it under [benchmark.NAME.metric.METRIC]";
            return Err(value("defaults.metric", expected, metric));
        }
        self.benchmark.iter().try_for_each(|(name, rules)| check_rules(&format!("benchmark.{name}"), rules))
    }

    /// The rules of a benchmark, the defaults filled in.
    pub(super) fn rules(&self, benchmark: &str) -> Rules {
        let defaults = &self.defaults;
        let Some(own) = self.benchmark.get(benchmark) else { return defaults.clone() };
        Rules {
            margin: own.margin.or(defaults.margin),
            fail_on: own.fail_on.clone().or_else(|| defaults.fail_on.clone()),
            minimum_samples: own.minimum_samples.or(defaults.minimum_samples),
            minimum_clusters: own.minimum_clusters.or(defaults.minimum_clusters),
            max_broken: own.max_broken.or(defaults.max_broken),
            max_broken_share: own.max_broken_share.or(defaults.max_broken_share),
            max_failed_share: own.max_failed_share.or(defaults.max_failed_share),
            max_unparsed_share: own.max_unparsed_share.or(defaults.max_unparsed_share),
            at_least: own.at_least,
            at_most: own.at_most,
            latency: LatencyLimits {
                total: own.latency.total.or(defaults.latency.total),
                image: own.latency.image.or(defaults.latency.image),
                vision: own.latency.vision.or(defaults.latency.vision),
                projector: own.latency.projector.or(defaults.latency.projector),
                prefill: own.latency.prefill.or(defaults.latency.prefill),
                decode: own.latency.decode.or(defaults.latency.decode),
                ttft: own.latency.ttft.or(defaults.latency.ttft),
                tpot: own.latency.tpot.or(defaults.latency.tpot),
            },
            size: own.size.or(&defaults.size),
            memory: own.memory.or(&defaults.memory),
            metric: own.metric.clone(),
        }
    }
}

impl SizeLimits {
    fn or(&self, other: &Self) -> Self {
        Self { max_bytes: self.max_bytes.or(other.max_bytes), max_ratio: self.max_ratio.or(other.max_ratio) }
    }
}

impl Rules {
    /// The rules of a metric, those of its benchmark filled in.
    pub(super) fn metric(&self, name: &str, primary: bool) -> MetricRules {
        let own = self.metric.get(name).cloned().unwrap_or_default();
        MetricRules {
            margin: own.margin.or(self.margin),
            fail_on: own.fail_on.or_else(|| self.fail_on.clone()),
            at_least: own.at_least.or(self.at_least.filter(|_| primary)),
            at_most: own.at_most.or(self.at_most.filter(|_| primary)),
        }
    }

    /// Largest share of samples without an answer.
    pub(super) fn failed_share(&self) -> f64 {
        self.max_failed_share.unwrap_or(DEFAULT_FAILED_SHARE)
    }
}

impl MetricRules {
    /// The margin in points.
    pub(super) fn margin_points(&self) -> f64 {
        self.margin.unwrap_or(DEFAULT_MARGIN)
    }

    /// Whether a verdict of this kind fails.
    pub(super) fn fails_on(&self, kind: FailOn, strict: bool) -> bool {
        let listed = self.fail_on.as_ref().map_or(kind == FailOn::Regressed, |kinds| kinds.contains(&kind));
        listed || strict
    }
}

fn value(key: &str, expected: &'static str, found: impl ToString) -> PolicyError {
    PolicyError::Value { key: key.to_owned(), expected, found: found.to_string() }
}

fn check_rules(path: &str, rules: &Rules) -> Result<(), PolicyError> {
    let key = |name: &str| format!("{path}.{name}");
    points(&key("margin"), rules.margin)?;
    for (name, share) in [
        ("max_broken_share", rules.max_broken_share),
        ("max_failed_share", rules.max_failed_share),
        ("max_unparsed_share", rules.max_unparsed_share),
    ] {
        if let Some(share) = share.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(value(&key(name), "a share between 0 and 1", share));
        }
    }
    let latency = &rules.latency;
    for (name, ratio) in [
        ("latency.total", latency.total),
        ("latency.image", latency.image),
        ("latency.vision", latency.vision),
        ("latency.projector", latency.projector),
        ("latency.prefill", latency.prefill),
        ("latency.decode", latency.decode),
        ("latency.ttft", latency.ttft),
        ("latency.tpot", latency.tpot),
        ("size.max_ratio", rules.size.max_ratio),
        ("memory.max_ratio", rules.memory.max_ratio),
    ] {
        if let Some(ratio) = ratio.filter(|ratio| !(ratio.is_finite() && *ratio > 0.0)) {
            return Err(value(&key(name), "a ratio above 0, such as 1.1 for 10 % more", ratio));
        }
    }
    limits(&key(""), rules.at_least, rules.at_most)?;
    for (name, metric) in &rules.metric {
        points(&key(&format!("metric.{name}.margin")), metric.margin)?;
        limits(&key(&format!("metric.{name}.")), metric.at_least, metric.at_most)?;
    }
    Ok(())
}

fn points(key: &str, margin: Option<f64>) -> Result<(), PolicyError> {
    match margin.filter(|margin| !(margin.is_finite() && *margin >= 0.0)) {
        Some(margin) => Err(value(key, "0 or more points", margin)),
        None => Ok(()),
    }
}

fn limits(prefix: &str, at_least: Option<f64>, at_most: Option<f64>) -> Result<(), PolicyError> {
    for (name, limit) in [("at_least", at_least), ("at_most", at_most)] {
        if let Some(limit) = limit.filter(|limit| !limit.is_finite()) {
            return Err(value(&format!("{prefix}{name}"), "a finite number", limit));
        }
    }
    match (at_least, at_most) {
        (Some(least), Some(most)) if least > most => {
            Err(value(&format!("{prefix}at_least"), "no more than at_most", format!("{least} above {most}")))
        }
        _ => Ok(()),
    }
}
