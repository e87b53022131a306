//! `score --output`: a run directory of answers that were made elsewhere, for everything that reads runs.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, anyhow};
use sha2::{Digest, Sha256};

use super::clock;
use super::exit::{Exit, Failure};
use super::run::{benchmark_identity, finish};
use crate::benchmark::Benchmark;
use crate::benchmark::predictions::Predictions;
use crate::run::{Outcome, Plan};
use crate::score::{Answered, SampleScore};
use crate::store::{
    Environment, FORMAT, JudgeIdentity, ModelIdentity, PREDICTIONS_PROVIDER, Run, RunHeader, RunSettings, RunWriter,
    SampleRecord, SampleTimings, Scores, StoredScore,
};

/// What is not known of answers from a file.
const UNKNOWN: &str = "unknown";

/// Records that are written at once.
const BATCH: usize = 1_000;

/// What the maker of a run of predictions says of it.
pub struct RunNames<'a> {
    /// Folder of run directories.
    pub folder: &'a Path,
    /// Name of what answered.
    pub name: &'a str,
    /// A name under which to find the run again.
    pub tag: Option<&'a str>,
}

/// A run directory whose log is written, its summary not yet.
pub struct PredictionRun<'b> {
    /// The directory.
    pub directory: PathBuf,
    benchmark: &'b Benchmark,
    writer: RunWriter,
    /// Samples in the order of the log.
    order: Vec<usize>,
}

impl<'b> PredictionRun<'b> {
    /// Writes the header and the answers, each scored by itself. The same predictions may be written again; a directory with
    /// anything else in it is refused.
    pub fn write(
        names: &RunNames<'_>,
        benchmark: &'b Benchmark,
        predictions: &Predictions,
        answers: &[Answered<'_>],
    ) -> Result<Self, Failure> {
        let directory = names.folder.join(checked(names.name)?).join(&benchmark.spec.name);
        refuse_foreign(&directory)?;
        let plan = Plan::new(&benchmark.samples, None);
        let header = header(names, benchmark, predictions, &plan);
        let (mut writer, recovered) = RunWriter::open_or_resume(&directory, &header)?;
        let recorded: HashSet<&str> = recovered.iter().map(|record| record.key.as_str()).collect();
        let missing: HashSet<&str> = predictions.missing.iter().map(String::as_str).collect();
        let order: Vec<usize> = plan.sample_indices().collect();
        let records: Vec<SampleRecord> = order
            .iter()
            .filter_map(|index| Some((benchmark.samples.get(*index)?, answers.get(*index)?)))
            .filter(|(sample, _)| !recorded.contains(sample.key.as_str()))
            .map(|(sample, answer)| record(benchmark, sample, answer, missing.contains(sample.key.as_str())))
            .collect();
        for batch in records.chunks(BATCH) {
            writer.append(batch)?;
        }
        Ok(Self { directory, benchmark, writer, order })
    }

    /// Ends the run with the scores that all answers together have or a judge gave, where there are any. `scores` are in the
    /// order of the benchmark's samples.
    pub fn finish(self, scores: &[SampleScore], judge: Option<&JudgeIdentity>) -> Result<Run, Failure> {
        let scorer = &self.benchmark.spec.scorer;
        if crate::score::needs_all_answers(&scorer.rule) || judge.is_some() {
            let stored = |index: &usize| {
                let (sample, score) = (self.benchmark.samples.get(*index)?, scores.get(*index)?);
                Some(StoredScore {
                    key: sample.key.clone(),
                    parsed: score.parsed.clone(),
                    score: score.value,
                    contributions: score.contributions.clone(),
                    detail: score.detail.clone(),
                })
            };
            let scores = Scores {
                format: FORMAT,
                scorer: scorer.identity(),
                metrics: crate::score::metrics(scorer),
                judge: judge.cloned(),
                samples: self.order.iter().filter_map(stored).collect(),
            };
            scores.write(&self.directory)?;
        }
        finish(self.benchmark, &self.directory, self.writer, Outcome::Complete)
    }
}

/// A name that can be a folder's.
fn checked(name: &str) -> Result<&str, Failure> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only.to_str() == Some(name) && !name.contains(['\\', '\0']) => Ok(name),
        _ => Err(Failure::new(Exit::Setup, anyhow!("--name: expected a name without / or \\ in it, found {name:?}"))),
    }
}

/// Refuses a folder that holds something and no run.
fn refuse_foreign(directory: &Path) -> Result<(), Failure> {
    if !directory.exists() || ["run.json", "samples.jsonl"].iter().any(|file| directory.join(file).exists()) {
        return Ok(());
    }
    let mut entries = directory.read_dir().with_context(|| format!("cannot list {}", directory.display()))?;
    match entries.next() {
        None => Ok(()),
        Some(entry) => {
            let first = entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).unwrap_or_default();
            let error =
                anyhow!("{} is no run directory: it holds {first:?}; choose another --output or --name", directory.display());
            Err(Failure::new(Exit::Setup, error))
        }
    }
}

fn header(names: &RunNames<'_>, benchmark: &Benchmark, predictions: &Predictions, plan: &Plan) -> RunHeader {
    let unknown = || UNKNOWN.to_owned();
    RunHeader {
        memory: None,
        execution: None,
        format: FORMAT,
        started: clock::now_rfc3339(),
        tag: names.tag.map(str::to_owned),
        commit: None,
        model: ModelIdentity {
            name: names.name.to_owned(),
            identity: identity(predictions),
            precision: unknown(),
            template: unknown(),
            image_recipe: unknown(),
            weight_bytes: None,
            quantisation: Vec::new(),
            flavor: None,
        },
        benchmark: benchmark_identity(benchmark, plan),
        settings: RunSettings {
            max_new_tokens: 0,
            provider: PREDICTIONS_PROVIDER.to_owned(),
            intra_op_threads: 0,
            scheduling: UNKNOWN.to_owned(),
            scheduling_reason: None,
            prompt_sha256: None,
            answering: None,
            ..Default::default()
        },
        environment: Environment {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_version: "none".to_owned(),
            runtime_sha256: String::new(),
            platform: unknown(),
            processor: unknown(),
            physical_cores: 0,
            memory_bytes: 0,
        },
    }
}

/// SHA-256, hexadecimal, over keys and answers, each preceded by its length in bytes: what is known of what answered.
fn identity(predictions: &Predictions) -> String {
    let mut hasher = Sha256::new();
    for prediction in &predictions.found {
        for part in [&prediction.key, &prediction.text] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The record of an answer. How it was asked for and how long it took is not known, and not made up.
fn record(benchmark: &Benchmark, sample: &crate::benchmark::Sample, answer: &Answered<'_>, missing: bool) -> SampleRecord {
    let SampleScore { parsed, value, contributions, detail } = answer.score.clone();
    let mut text = answer.text.to_owned();
    let mut detail = detail;
    if benchmark.spec.compares_embeddings() {
        // As a run keeps rankings: the best candidate as the answer, all of them beside it.
        let ranking: Vec<&str> = answer.text.lines().collect();
        text = ranking.first().copied().unwrap_or_default().to_owned();
        if let Some(facts) = detail.as_object_mut() {
            facts.insert("ranking".to_owned(), serde_json::json!(ranking));
        }
    }
    SampleRecord {
        key: sample.key.clone(),
        cluster: sample.cluster.clone(),
        category: sample.category.clone(),
        images: sample.images.iter().map(|image| image.text(&benchmark.data_root)).collect(),
        question: sample.question.clone(),
        prompt: String::new(),
        prompt_sha256: String::new(),
        prompt_tokens: 0,
        reference: sample.reference.clone(),
        token_ids: Vec::new(),
        text,
        log_probability: 0.0,
        stop_reason: if missing { "missing" } else { "given" }.to_owned(),
        parsed,
        score: value,
        contributions,
        detail,
        failure: None,
        timings: SampleTimings::default(),
    }
}
