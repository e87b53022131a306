//! Scores beside the sample log: what only all answers together have, what a judge said, or what another scorer makes of the
//! same answers. The log keeps what was scored when the answers came; nothing in it is ever changed.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::{RealDisk, replace_file};
use super::{FORMAT, LOG_LIMIT_BYTES, Run, SCORES_FILE, StoreError};
use crate::benchmark::{Contributions, MetricSpec};
use crate::guard::files::read_text_capped;

/// Who judged answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeIdentity {
    /// Model name as the endpoint has it, or name and identity of a local package.
    pub model: String,
    /// Where it ran: the endpoint without its secrets, or `local`.
    pub endpoint: String,
    /// Rule and version of its prompts, such as `llava-bench/1`.
    pub rule: String,
    /// Settings that change replies, such as `temperature 0.2, 1024 tokens`.
    pub settings: String,
    /// Replies that could not be read as a score; their samples have none.
    pub unparsed_replies: usize,
    /// Samples that got no reply at all.
    pub failed_replies: usize,
    /// Tokens of all prompts, as the endpoint counts them.
    pub prompt_tokens: u64,
    /// Tokens of all replies, as the endpoint counts them.
    pub reply_tokens: u64,
    /// Models as the endpoint reports them: often a dated version of the one that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reported_models: Vec<String>,
    /// Replies that came from the cache of earlier ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_replies: usize,
    /// What the replies cost that did not come from the cache, where prices were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl JudgeIdentity {
    /// Whether scores of two judges may be compared: the same model, prompts and settings, wherever it ran.
    pub fn judges_like(&self, other: &Self) -> bool {
        (&self.model, &self.rule, &self.settings) == (&other.model, &other.rule, &other.settings)
    }
}

/// The score of one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredScore {
    /// Sample key.
    pub key: String,
    /// The answer as the scorer understood it.
    pub parsed: Option<String>,
    /// Headline score in 0..=1, if there is one.
    pub score: Option<f64>,
    /// Contributions by metric name.
    pub contributions: Contributions,
    /// Scorer-specific facts.
    #[serde(default)]
    pub detail: serde_json::Value,
}

/// `scores.json`: it takes the place of the scores in the sample log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Format version of run directories.
    pub format: u32,
    /// Scorer and its version.
    pub scorer: String,
    /// Metrics, primary first.
    pub metrics: Vec<MetricSpec>,
    /// Who judged, if anybody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeIdentity>,
    /// Scores of answered samples, in the order of the log.
    pub samples: Vec<StoredScore>,
}

impl Scores {
    /// The scores beside a run's log, if there are any.
    pub fn read(directory: &Path) -> Result<Option<Self>, StoreError> {
        let path = directory.join(SCORES_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = read_text_capped(&path, LOG_LIMIT_BYTES)?;
        let scores: Self =
            serde_json::from_str(&text).map_err(|error| StoreError::Scores { path: path.clone(), message: error.to_string() })?;
        if scores.format != FORMAT {
            return Err(StoreError::Format { path, expected: FORMAT, found: scores.format });
        }
        Ok(Some(scores))
    }

    /// Writes the scores beside a run's log, atomically.
    pub fn write(&self, directory: &Path) -> Result<(), StoreError> {
        let path = directory.join(SCORES_FILE);
        let mut bytes =
            serde_json::to_vec(self).map_err(|error| StoreError::Scores { path: path.clone(), message: error.to_string() })?;
        bytes.push(b'\n');
        replace_file(&mut RealDisk, &path, &bytes)
    }

    /// Puts the scores in the place of those that the run was read with. A record without a score here keeps its own facts,
    /// but takes no part in metrics if it was scored by another rule.
    pub fn apply(self, run: &mut Run) {
        let same_scorer = run.header.benchmark.scorer == self.scorer;
        let mut by_key: HashMap<String, StoredScore> = self.samples.into_iter().map(|score| (score.key.clone(), score)).collect();
        for record in &mut run.records {
            match by_key.remove(&record.key) {
                Some(StoredScore { key: _, parsed, score, contributions, detail }) => {
                    record.parsed = parsed;
                    record.score = score;
                    record.contributions = contributions;
                    record.detail = detail;
                }
                None if !same_scorer => {
                    record.score = None;
                    record.contributions.clear();
                }
                None => {}
            }
        }
        run.header.benchmark.scorer = self.scorer;
        run.header.benchmark.metrics = self.metrics;
        run.judge = self.judge;
    }
}
