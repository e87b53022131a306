//! `judge`: finished runs read by a judge, without a model; and the judge's options, which other verbs share.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;

use super::exit::{Exit, Failure};
use super::judge_progress::JudgeProgress;
use super::local_judge::LocalJudge;
use super::run::{self, StopSignal};
use super::{Globals, VerbResult, clock};
use crate::benchmark::ScorerSpec;
use crate::compare;
use crate::judge::{
    Endpoint, EndpointSettings, JUDGE_FILE, JudgeRule, Judged, Outcome, Prices, ReplyCache, ReplyLog, Responder, Secret, Session,
    SessionSettings, Subject,
};
use crate::store::{FORMAT, JudgeIdentity, Run, SampleRecord, Scores, StoredScore, write_summary};

/// Name of the environment variable with the key, where none is named.
const KEY_VARIABLE: &str = "OPENAI_API_KEY";

/// Options of whoever judges.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Judge")]
pub struct JudgeArguments {
    /// Who judges where no address is given: none, or a package that is asked in words alone
    #[arg(long, value_name = "none|PACKAGE", default_value = "none", conflicts_with = "judge_url")]
    judge: PathBuf,
    /// Address of an OpenAI-compatible chat endpoint, such as https://api.openai.com/v1
    #[arg(long, value_name = "URL", requires = "judge_model")]
    judge_url: Option<String>,
    /// Model that judges, as the endpoint names it
    #[arg(long, value_name = "NAME", requires = "judge_url")]
    judge_model: Option<String>,
    /// Environment variable with the endpoint's key [default: OPENAI_API_KEY]
    #[arg(long, value_name = "NAME", requires = "judge_url")]
    judge_key_env: Option<String>,
    /// Header for the key, where it is not `Authorization: Bearer`
    #[arg(long, value_name = "NAME", requires = "judge_url")]
    judge_key_header: Option<String>,
    /// Most requests at the same time
    #[arg(long, value_name = "N", default_value_t = std::num::NonZeroUsize::MIN.saturating_add(3))]
    judge_parallel: std::num::NonZeroUsize,
    /// Most requests in a minute [default: no limit]
    #[arg(long, value_name = "N")]
    judge_rate: Option<f64>,
    /// Longest time of a request in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    judge_timeout: f64,
    /// Longest time to connect in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    judge_connect_timeout: f64,
    /// Tries for each reply, with waits that double
    #[arg(long, value_name = "N", default_value_t = 6)]
    judge_tries: u32,
    /// First wait between tries in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    judge_wait: f64,
    /// Longest reply in tokens [default: what the benchmark's official script asks for]
    #[arg(long, value_name = "N")]
    judge_max_tokens: Option<std::num::NonZeroU32>,
    /// Call the longest reply max_completion_tokens, as newer models of OpenAI want it
    #[arg(long, requires = "judge_url")]
    judge_max_completion_tokens: bool,
    /// Temperature [default: what the benchmark's official script asks for]
    #[arg(long, value_name = "T")]
    judge_temperature: Option<f64>,
    /// Price of a million prompt tokens, to show the cost
    #[arg(long, value_name = "PRICE", requires = "judge_price_out")]
    judge_price_in: Option<f64>,
    /// Price of a million reply tokens, to show the cost
    #[arg(long, value_name = "PRICE", requires = "judge_price_in")]
    judge_price_out: Option<f64>,
    /// Folder of replies by content [default: llava-gauge/judge in the user's cache folder]
    #[arg(long, value_name = "DIR", env = "LLAVA_GAUGE_JUDGE_CACHE", conflicts_with = "no_judge_cache")]
    judge_cache: Option<PathBuf>,
    /// Neither look for replies in the cache nor keep them there
    #[arg(long)]
    no_judge_cache: bool,
    /// Ask again about answers whose stored reply could not be read (unread), or about all
    #[arg(long, value_enum, value_name = "WHICH")]
    judge_again: Option<Again>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Again {
    /// Those whose stored reply could not be read
    Unread,
    /// All
    All,
}

/// Arguments of `judge`.
#[derive(Debug, Args)]
pub struct JudgeVerbArguments {
    /// Run directories, or folders of them
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Largest share of answers without a reply, in per cent, that still counts as a success
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    max_failed: f64,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judge: JudgeArguments,
}

/// A judge, ready to be asked.
pub struct Judge {
    responder: Box<dyn Responder>,
    settings: SessionSettings,
    cache: Option<ReplyCache>,
    temperature: Option<f64>,
    max_tokens: Option<u32>,
    local: bool,
}

impl JudgeArguments {
    /// Whether anybody is to judge.
    pub fn is_given(&self) -> bool {
        self.judge_url.is_some() || self.judge.as_os_str() != "none"
    }

    /// Checks what can be checked before anything runs: a mistyped address is not to be found after hours of answers.
    pub fn check(&self) -> Result<(), Failure> {
        self.settings()?;
        match &self.judge_url {
            Some(url) => self.endpoint(url).map(|_| ()),
            None if self.is_given() => super::model::open(&self.judge, None).map(|_| ()),
            None => Ok(()),
        }
    }

    /// The judge; `None` for `--judge none`.
    pub fn open(&self, globals: &Globals) -> Result<Option<Judge>, Failure> {
        let mut settings = self.settings()?;
        let (responder, local): (Box<dyn Responder>, bool) = match &self.judge_url {
            Some(url) => (Box::new(self.endpoint(url)?), false),
            None if self.is_given() => (Box::new(LocalJudge::load(&self.judge, globals)?), true),
            None => return Ok(None),
        };
        if local {
            settings.parallel = 1;
        }
        let cache = match (&self.judge_cache, self.no_judge_cache) {
            (_, true) => None,
            (Some(folder), _) => Some(ReplyCache::at(folder)),
            (None, _) => ReplyCache::of_user(),
        };
        let max_tokens = self.judge_max_tokens.map(std::num::NonZeroU32::get);
        Ok(Some(Judge { responder, settings, cache, temperature: self.judge_temperature, max_tokens, local }))
    }

    fn endpoint(&self, url: &str) -> Result<Endpoint, Failure> {
        let setup = |error: anyhow::Error| Failure::new(Exit::Setup, error);
        let variable = self.judge_key_env.as_deref().unwrap_or(KEY_VARIABLE);
        let key = match std::env::var(variable) {
            Ok(key) if !key.trim().is_empty() => Some(Secret::new(key.trim())),
            Err(std::env::VarError::NotUnicode(_)) => return Err(setup(anyhow!("the key in {variable} is no text"))),
            _ if self.judge_key_env.is_some() => return Err(setup(anyhow!("--judge-key-env: {variable} is not set"))),
            _ => None,
        };
        let settings = EndpointSettings {
            url: url.to_owned(),
            model: self.judge_model.clone().unwrap_or_default(),
            key,
            key_header: self.judge_key_header.clone(),
            max_completion_tokens: self.judge_max_completion_tokens,
            connect_timeout: seconds("--judge-connect-timeout", self.judge_connect_timeout)?,
            timeout: seconds("--judge-timeout", self.judge_timeout)?,
        };
        Ok(Endpoint::new(settings, self.judge_key_env.is_some())?)
    }

    fn settings(&self) -> Result<SessionSettings, Failure> {
        let setup = |name: &str, found: f64| Failure::new(Exit::Setup, anyhow!("{name}: expected more than 0, found {found}"));
        if let Some(rate) = self.judge_rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return Err(setup("--judge-rate", rate));
        }
        for (name, value) in [
            ("--judge-temperature", self.judge_temperature),
            ("--judge-price-in", self.judge_price_in),
            ("--judge-price-out", self.judge_price_out),
        ] {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value >= 0.0)) {
                return Err(Failure::new(Exit::Setup, anyhow!("{name}: expected 0 or more, found {value}")));
            }
        }
        let first_wait = seconds("--judge-wait", self.judge_wait)?;
        Ok(SessionSettings {
            parallel: self.judge_parallel.get(),
            requests_per_minute: self.judge_rate,
            tries: self.judge_tries.max(1),
            first_wait,
            longest_wait: Duration::from_secs(60).max(first_wait),
            longest_pause: Duration::from_secs(600),
            prices: self.judge_price_in.zip(self.judge_price_out).map(|(prompt, reply)| Prices { prompt, reply }),
            unread_again: self.judge_again == Some(Again::Unread),
            all_again: self.judge_again == Some(Again::All),
            now: clock::now_rfc3339,
        })
    }
}

fn seconds(name: &str, value: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| Failure::new(Exit::Setup, anyhow!("{name}: expected seconds, more than 0, found {value}")))
}

/// Runs the verb.
pub fn run(arguments: JudgeVerbArguments, globals: &Globals) -> VerbResult {
    let stop = StopSignal::install()?;
    let directories = crate::store::discover(&arguments.runs)?;
    let Some(judge) = arguments.judge.open(globals)? else {
        let message = "nobody is named who judges: give --judge-url with --judge-model, or --judge PACKAGE";
        return Err(Failure::new(Exit::Setup, anyhow!(message)));
    };
    let mut judged = Vec::new();
    for directory in &directories {
        let log = Run::open_log(directory)?;
        let scorer = scorer_of(&log)?;
        if !scorer.rule.needs_judge() {
            eprintln!("{}: {} needs no judge; left as it is", directory.display(), scorer.identity());
            continue;
        }
        match judge_run(&judge, directory, log, &scorer, &stop, globals)? {
            Some(run) => judged.push(run),
            None => return Ok(stop.exit().unwrap_or(Exit::Interrupted)),
        }
    }
    if judged.is_empty() {
        return Err(Failure::new(Exit::NothingSelected, anyhow!("none of the {} runs needs a judge", directories.len())));
    }
    run::report_runs(&judged, arguments.json)?;
    check_failed(&judged, arguments.max_failed)?;
    Ok(Exit::Success)
}

/// An error if a judge left too many answers of a run without a reply.
pub fn check_failed(runs: &[Run], max_failed: f64) -> Result<(), Failure> {
    let share = |run: &Run| {
        let failed = run.judge.as_ref().map_or(0, |judge| judge.failed_replies);
        100.0 * failed as f64 / run.records.len().max(1) as f64
    };
    let worst = runs.iter().map(share).fold(0.0, f64::max);
    if worst > max_failed {
        let error = anyhow!(
            "the judge gave no reply to {worst:.1} % of the answers of a run, more than the {max_failed} % of --max-failed; the \
             same command again asks about those only"
        );
        return Err(Failure::new(Exit::TooManyFailures, error));
    }
    Ok(())
}

/// The scorer that a run was made with.
pub fn scorer_of(run: &Run) -> Result<ScorerSpec, Failure> {
    let header = &run.header.benchmark;
    ScorerSpec::recorded(&header.scorer, &header.metrics).ok_or_else(|| {
        Failure::new(Exit::Setup, anyhow!("{}: this program has no scorer {:?}", run.directory.display(), header.scorer))
    })
}

/// Judges the answers of a run and stores their scores; `None` when it was interrupted. `log` is the run as its log has it.
pub fn judge_run(
    judge: &Judge,
    directory: &Path,
    log: Run,
    scorer: &ScorerSpec,
    stop: &StopSignal,
    globals: &Globals,
) -> Result<Option<Run>, Failure> {
    if !log.complete {
        eprintln!("{}: the run is not complete; what it has is judged", directory.display());
    }
    let label = format!("{} · {}", log.header.model.name, log.header.benchmark.name);
    let records: Vec<&SampleRecord> = answered(&log);
    let subjects: Vec<Subject<'_>> = records.iter().map(|record| subject(record)).collect();
    let replies = ReplyLog::open(&directory.join(JUDGE_FILE))?;
    let Some(judged) = ask(judge, scorer, &subjects, Some(replies), &label, stop, globals)? else { return Ok(None) };
    let scores = scores_of(scorer, &records, judged);
    store_scores(directory, log.clone(), scores).map(Some)
}

/// The scores that the stored replies of a run give by a scorer, nobody being asked; `None` where there are none to its
/// prompts.
pub fn stored_scores(log: &Run, scorer: &ScorerSpec) -> Result<Option<Scores>, Failure> {
    let Some(rule) = JudgeRule::new(scorer.rule, None, None) else { return Ok(None) };
    let replies = ReplyLog::read(&log.directory.join(JUDGE_FILE))?;
    let before = Scores::read(&log.directory)?.and_then(|scores| scores.judge);
    let records: Vec<&SampleRecord> = answered(log);
    let subjects: Vec<Subject<'_>> = records.iter().map(|record| subject(record)).collect();
    let judged = crate::judge::from_log(rule, &subjects, &replies, before.as_ref());
    Ok(judged.map(|judged| scores_of(scorer, &records, judged)))
}

fn answered(run: &Run) -> Vec<&SampleRecord> {
    run.records.iter().filter(|record| record.failure.is_none()).collect()
}

fn subject(record: &SampleRecord) -> Subject<'_> {
    Subject {
        key: &record.key,
        question: &record.question,
        category: record.category.as_deref(),
        reference: &record.reference,
        answer: &record.text,
    }
}

fn scores_of(scorer: &ScorerSpec, records: &[&SampleRecord], judged: Judged) -> Scores {
    let samples = records.iter().zip(judged.outcomes).filter_map(|(record, outcome)| {
        let score = outcome?.into_score();
        let (parsed, contributions, detail) = (score.parsed, score.contributions, score.detail);
        Some(StoredScore { key: record.key.clone(), parsed, score: score.value, contributions, detail })
    });
    Scores {
        format: FORMAT,
        scorer: scorer.identity(),
        metrics: crate::score::metrics(scorer),
        judge: Some(judged.identity),
        samples: samples.collect(),
    }
}

/// Writes scores beside the log of a run, and its summary if the run is complete.
pub fn store_scores(directory: &Path, mut run: Run, scores: Scores) -> Result<Run, Failure> {
    scores.write(directory)?;
    scores.apply(&mut run);
    if run.complete {
        let summary = serde_json::to_vec_pretty(&compare::summarise(&run)).context("cannot serialise the summary")?;
        write_summary(directory, &summary)?;
    }
    Ok(run)
}

/// Asks a judge about answers, says on standard error how it went, and gives what became of them; `None` when interrupted.
pub fn ask(
    judge: &Judge,
    scorer: &ScorerSpec,
    subjects: &[Subject<'_>],
    log: Option<ReplyLog>,
    label: &str,
    stop: &StopSignal,
    globals: &Globals,
) -> Result<Option<Judged>, Failure> {
    let rule = JudgeRule::new(scorer.rule, judge.temperature, judge.max_tokens)
        .ok_or_else(|| Failure::new(Exit::Setup, anyhow!("{} needs no judge", scorer.identity())))?;
    let session = Session {
        responder: judge.responder.as_ref(),
        rule: if judge.local { rule.greedy() } else { rule },
        settings: judge.settings,
        log: log.map(Mutex::new),
        cache: judge.cache.clone(),
        stop: stop.flag(),
    };
    let progress = JudgeProgress::new(label, globals.no_progress);
    let judged = session.judge(subjects, &progress);
    progress.finish();
    let judged = judged?;
    if !judged.is_complete() {
        let done = judged.outcomes.iter().flatten().count();
        eprintln!("{label}: interrupted, {done} of {} answers judged; the same command continues", judged.outcomes.len());
        return Ok(None);
    }
    let scored = judged.outcomes.iter().flatten().filter(|outcome| matches!(outcome, Outcome::Scored(_))).count();
    eprintln!("{label}: {scored} of {} answers scored by {}", subjects.len(), described(&judged.identity));
    if let Some(Outcome::Failed { reason }) =
        judged.outcomes.iter().flatten().find(|outcome| matches!(outcome, Outcome::Failed { .. }))
    {
        eprintln!("{label}: an answer without a reply: {}", crate::guard::escape::terminal(reason));
    }
    Ok(Some(judged))
}

/// Who judged and how it went, for people.
pub fn described(judge: &JudgeIdentity) -> String {
    let cached = match judge.cached_replies {
        0 => String::new(),
        count => format!(", {count} replies from the cache"),
    };
    let cost = judge.cost.map_or(String::new(), |cost| format!(", cost {cost:.4}"));
    let text = format!(
        "{} at {} ({}; {}): {} replies could not be read, {} without a reply; {} prompt tokens, {} reply tokens{cached}{cost}",
        judge.model,
        judge.endpoint,
        judge.rule,
        judge.settings,
        judge.unparsed_replies,
        judge.failed_replies,
        judge.prompt_tokens,
        judge.reply_tokens
    );
    crate::guard::escape::terminal(&text)
}
