//! `run`: packages on benchmarks, into run directories. The same command again continues.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, anyhow};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::choosing::Choosing;
use super::data::{DataArguments, warn_of_broken_rows};
use super::exit::{Exit, Failure};
use super::judge::{JudgeArguments, check_failed, judge_run, scorer_of};
use super::progress::{Overall, RunProgress};
use super::run_label::RunLabel;
use super::schedule::ScheduleArguments;
use super::{Globals, VerbResult, clip, clock, model, terminal};
use crate::benchmark::{Answering, Benchmark, ScorerRule, ScorerSpec, samples_sha256};
use crate::compare;
use crate::engine::runtime::RuntimeInfo;
use crate::engine::runtime::doctor::Machine;
use crate::engine::{Provider, ProviderOptions};
use crate::guard::files::read_text_capped;
use crate::package::{ClipPackage, Package, PackageKind};
use crate::run::{Conductor, Outcome, Plan, execution, prompt_sha256, rescore};
use crate::store::{BenchmarkIdentity, DataFacts, Environment, Run, RunHeader, RunSettings, RunWriter, Scores};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Suite file that names models, benchmarks and settings
    #[arg(value_name = "SUITE.toml", conflicts_with_all = ["model", "benchmark", "metric"], required_unless_present = "model")]
    suite: Option<PathBuf>,
    /// Package folder, or the name of a shipped package; repeat or list several
    #[arg(long, value_name = "PACKAGE", num_args = 1.., required_unless_present = "suite")]
    model: Vec<PathBuf>,
    /// Precision to take where another program's folder has several, such as fp16 or embed_tokens=fp16,decoder_model_merged=q4
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Benchmark name, or a benchmark TOML file; repeat or list several
    #[arg(long, value_name = "NAME", num_args = 1.., requires = "model")]
    benchmark: Vec<String>,
    /// Folder of the run directories [default: runs]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Ask only this many questions of each benchmark: whole images in a fixed pseudo-random order
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Longest answer in tokens [default: what each benchmark says]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<std::num::NonZeroUsize>,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    scheduling: ScheduleArguments,
    #[command(flatten)]
    choosing: Choosing,
    /// End the answer to a yes/no or multiple-choice question as soon as it decides its score, where the scorer reads the beginning
    /// only; scores stay the same, texts are shorter [default: what each benchmark says]
    #[arg(long)]
    stop_when_decided: bool,
    /// Largest share of failed samples, in per cent, that still counts as a success
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    max_failed: f64,
    #[command(flatten)]
    label: RunLabel,
    /// Print the summaries as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judge: JudgeArguments,
}

/// A suite file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    models: Vec<PathBuf>,
    benchmarks: Vec<String>,
    output: Option<PathBuf>,
    limit: Option<usize>,
    max_new_tokens: Option<std::num::NonZeroUsize>,
    tag: Option<String>,
    commit: Option<String>,
}

/// What to run, resolved.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Packages, in table order.
    pub models: Vec<PathBuf>,
    /// Precision to take of packages that another program wrote.
    pub variant: Option<String>,
    /// Benchmark names or files.
    pub benchmarks: Vec<String>,
    /// Folder of the run directories.
    pub output: PathBuf,
    /// Questions per benchmark.
    pub limit: Option<usize>,
    /// Longest answer in tokens, where the benchmark's own is not wanted.
    pub max_new_tokens: Option<usize>,
    /// Which data, for a single benchmark, or for none but the user's own.
    pub data: DataArguments,
    /// How questions are scheduled, and in how much memory.
    pub scheduling: ScheduleArguments,
    /// How answers to questions with options are had, where not as the benchmarks say.
    pub choosing: Choosing,
    /// Whether answers end once they decide their score, also where the benchmarks do not say so.
    pub stop_when_decided: bool,
    /// Under what name and commit the runs are recorded.
    pub label: RunLabel,
}

impl Suite {
    /// Longest answer to a benchmark in tokens.
    fn new_tokens(&self, benchmark: &Benchmark) -> usize {
        self.max_new_tokens.unwrap_or(benchmark.spec.max_new_tokens)
    }
}

/// Cap on a suite file.
const SUITE_LIMIT_BYTES: u64 = 1 << 20;

/// Runs the verb.
pub fn run(arguments: RunArguments, globals: &Globals) -> VerbResult {
    let max_failed = arguments.max_failed;
    let json = arguments.json;
    let judge = arguments.judge.clone();
    judge.check()?;
    let suite = resolve(arguments)?;
    let stop = StopSignal::install()?;
    let mut finished = run_suite(&suite, globals, &stop)?;
    judge_finished(&judge, &mut finished, &stop, globals)?;
    report_runs(&finished, json)?;
    if let Some(exit) = stop.exit() {
        return Ok(exit);
    }
    let worst = finished.iter().map(failed_percent).fold(0.0, f64::max);
    if worst > max_failed {
        let error = anyhow!(
            "{worst:.1} % of the samples of a run failed or are broken rows, more than the {max_failed} % of --max-failed"
        );
        return Err(Failure::new(Exit::TooManyFailures, error));
    }
    check_failed(&finished, max_failed)?;
    Ok(Exit::Success)
}

/// Has the runs judged that need it, or says how to do it later.
fn judge_finished(arguments: &JudgeArguments, runs: &mut [Run], stop: &StopSignal, globals: &Globals) -> Result<(), Failure> {
    let needs = |run: &Run| ScorerRule::by_name(&run.header.benchmark.scorer).is_some_and(|rule| rule.needs_judge());
    if stop.exit().is_some() || !runs.iter().any(needs) {
        return Ok(());
    }
    // The runs' own models are gone by now, so that a package that judges has the memory for itself.
    let judge = arguments.open(globals)?;
    for run in runs.iter_mut().filter(|run| needs(run)) {
        let directory = run.directory.clone();
        let Some(judge) = &judge else {
            if run.judge.is_none() {
                let directory = directory.display();
                eprintln!(
                    "{directory}: the answers have no score before a judge has read them: llava-gauge judge {directory} --judge-url \
                     URL --judge-model NAME"
                );
            }
            continue;
        };
        let log = Run::open_log(&directory)?;
        let scorer = scorer_of(&log)?;
        match judge_run(judge, &directory, log, &scorer, stop, globals)? {
            Some(judged) => *run = judged,
            None => return Ok(()),
        }
    }
    Ok(())
}

fn failed_percent(run: &Run) -> f64 {
    let failed = run.records.iter().filter(|record| record.failure.is_some()).count();
    let broken = run.header.benchmark.data.as_ref().map_or(0, |data| data.broken_rows);
    // A run of some of the samples has its share of the broken rows.
    let share = run.header.benchmark.samples as f64 / run.header.benchmark.samples_available.max(1) as f64;
    let broken = broken as f64 * share.min(1.0);
    100.0 * (failed as f64 + broken) / (run.records.len() as f64 + broken).max(1.0)
}

fn resolve(arguments: RunArguments) -> Result<Suite, Failure> {
    let setup = |error: anyhow::Error| Failure::new(Exit::Setup, error);
    let file = match &arguments.suite {
        None => None,
        Some(path) => {
            let text = read_text_capped(path, SUITE_LIMIT_BYTES).map_err(|error| setup(error.into()))?;
            let file: SuiteFile = toml::from_str(&text).with_context(|| format!("in suite {}", path.display())).map_err(setup)?;
            Some(file)
        }
    };
    let (models, benchmarks, output, limit, max_new_tokens, in_file) = match file {
        Some(file) => {
            let label = RunLabel { tag: file.tag, commit: file.commit };
            (file.models, file.benchmarks, file.output, file.limit, file.max_new_tokens, label)
        }
        None => (arguments.model, arguments.benchmark, None, None, None, RunLabel::default()),
    };
    if models.is_empty() || benchmarks.is_empty() && arguments.data.metric.is_none() {
        return Err(Failure::new(Exit::NothingSelected, anyhow!("no model or no benchmark is named")));
    }
    if arguments.data.metric.is_some() && !benchmarks.is_empty() {
        return Err(setup(anyhow!("--metric is for questions of your own; a benchmark has a scorer already")));
    }
    if arguments.data.metric.is_none()
        && (arguments.data.data.is_some() || arguments.data.form.is_some())
        && benchmarks.len() != 1
    {
        return Err(setup(anyhow!("--data and --form need exactly one --benchmark, found {}", benchmarks.len())));
    }
    Ok(Suite {
        models,
        variant: arguments.variant,
        benchmarks,
        output: arguments.output.or(output).unwrap_or_else(|| PathBuf::from("runs")),
        limit: arguments.limit.or(limit),
        max_new_tokens: arguments.max_new_tokens.or(max_new_tokens).map(std::num::NonZeroUsize::get),
        data: arguments.data,
        scheduling: arguments.scheduling,
        choosing: arguments.choosing,
        stop_when_decided: arguments.stop_when_decided,
        label: arguments.label.or(in_file).resolve()?,
    })
}

/// Set by SIGINT and SIGTERM; the run ends after the group in work.
pub struct StopSignal {
    stop: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl StopSignal {
    /// Registers the handlers. A second SIGINT ends the program at once.
    pub fn install() -> Result<Self, Failure> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let stop = Arc::new(AtomicBool::new(false));
        let signal = Arc::new(AtomicUsize::new(0));
        let register = || -> std::io::Result<()> {
            for number in [SIGINT, SIGTERM] {
                // Order matters: the shutdown handler sees the flag only if an earlier signal has set it.
                signal_hook::flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&stop))?;
                signal_hook::flag::register(number, Arc::clone(&stop))?;
                signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
            }
            Ok(())
        };
        register().context("cannot install signal handlers")?;
        Ok(Self { stop, signal })
    }

    /// Set once a signal came.
    pub(super) fn flag(&self) -> &AtomicBool {
        &self.stop
    }

    /// The exit code of an interrupted run, or `None`.
    pub fn exit(&self) -> Option<Exit> {
        if !self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let terminated = self.signal.load(Ordering::Relaxed) == signal_hook::consts::SIGTERM as usize;
        Some(if terminated { Exit::Terminated } else { Exit::Interrupted })
    }
}

/// Runs every model on every benchmark and returns the runs, by benchmark order within model order. Ends early, with what
/// is stored so far, when the stop signal came.
pub fn run_suite(suite: &Suite, globals: &Globals, stop: &StopSignal) -> Result<Vec<Run>, Failure> {
    suite.scheduling.check(globals.provider.provider)?;
    let mut benchmarks = match suite.benchmarks.as_slice() {
        [] => vec![suite.data.load(None)?],
        names => names.iter().map(|name| suite.data.load(Some(name))).collect::<Result<Vec<_>, _>>()?,
    };
    benchmarks.iter().for_each(warn_of_broken_rows);
    if let Some(benchmark) = benchmarks.iter().find(|benchmark| benchmark.spec.only_scores()) {
        let error = anyhow!(
            "the data of {} have no questions and no pictures: they only score answers that were made elsewhere (`score`)",
            benchmark.spec.name
        );
        return Err(Failure::new(Exit::Setup, error));
    }
    suite.choosing.apply(&mut benchmarks)?;
    if suite.stop_when_decided {
        stop_when_decided(&mut benchmarks)?;
    }
    let packages = open_packages(suite, &clip::kinds(suite, &benchmarks)?)?;
    let mut runs = Vec::new();
    let questions = benchmarks.iter().map(|benchmark| Plan::new(&benchmark.samples, suite.limit).samples());
    let mut overall = Overall::new(packages.len(), questions.collect());
    for package in packages {
        let package = match package {
            Opened::Llava(package) => *package,
            Opened::Clip(package) => {
                let mut model = clip::load_opened(*package, globals)?;
                for benchmark in &benchmarks {
                    if stop.exit().is_some() {
                        return Ok(runs);
                    }
                    runs.push(clip::run_one(suite, globals, &mut model, benchmark, stop, &mut overall)?);
                }
                continue;
            }
        };
        // Only TensorRT must know beforehand what it will be asked.
        let planned = benchmarks.iter().filter(|_| globals.provider.provider == Provider::TensorRt);
        let asked: Vec<model::AskedOf<'_>> = planned
            .map(|benchmark| (benchmark, Plan::new(&benchmark.samples, suite.limit), suite.new_tokens(benchmark)))
            .collect();
        let mut model = model::load_planned(package, globals, suite.scheduling.at_load(), &asked)?;
        for benchmark in &benchmarks {
            if stop.exit().is_some() {
                return Ok(runs);
            }
            runs.push(run_one(suite, globals, &mut model, benchmark, stop, &mut overall)?);
        }
    }
    Ok(runs)
}

/// Lets answers end once they decide their score wherever a scorer knows that; refused if none of the benchmarks' does.
fn stop_when_decided(benchmarks: &mut [Benchmark]) -> Result<(), Failure> {
    for benchmark in benchmarks.iter_mut() {
        let is_written = benchmark.spec.answering == Answering::Generate;
        benchmark.spec.stop_when_decided |= is_written && benchmark.spec.scorer.rule.can_be_decided_early();
    }
    if benchmarks.iter().any(|benchmark| benchmark.spec.stop_when_decided) {
        return Ok(());
    }
    let scorers: Vec<String> = benchmarks.iter().map(|benchmark| benchmark.spec.scorer.identity()).collect();
    let error = anyhow!("--stop-when-decided: no answer is written, or whole answers are read by {}", scorers.join(", "));
    Err(Failure::new(Exit::Setup, error))
}

/// An open package of either kind.
enum Opened {
    Llava(Box<Package>),
    Clip(Box<ClipPackage>),
}

/// Opens all packages before any is run. Two of the same name would share a run directory and are refused.
fn open_packages(suite: &Suite, kinds: &[PackageKind]) -> Result<Vec<Opened>, Failure> {
    let mut packages = Vec::with_capacity(suite.models.len());
    let mut seen = std::collections::HashMap::new();
    for (given, kind) in suite.models.iter().zip(kinds) {
        let (name, package) = match kind {
            PackageKind::Llava => {
                let package = model::open(given, suite.variant.as_deref())?;
                (package.manifest.name.clone(), Opened::Llava(Box::new(package)))
            }
            PackageKind::Clip => {
                let package = ClipPackage::open(&super::shipped::package_path(given))?;
                (package.manifest.name.clone(), Opened::Clip(Box::new(package)))
            }
        };
        if let Some(other) = seen.insert(name.clone(), given) {
            let error = anyhow!(
                "{} and {} are both named {name:?}; export one of them with another --name",
                other.display(),
                given.display()
            );
            return Err(Failure::new(Exit::Setup, error));
        }
        packages.push(package);
    }
    Ok(packages)
}

fn run_one(
    suite: &Suite,
    globals: &Globals,
    model: &mut model::Model,
    benchmark: &Benchmark,
    stop: &StopSignal,
    overall: &mut Overall,
) -> Result<Run, Failure> {
    let plan = Plan::new(&benchmark.samples, suite.limit);
    let max_new_tokens = suite.new_tokens(benchmark);
    let answering = benchmark.spec.answering;
    let directory = suite.output.join(&model.package.manifest.name).join(&benchmark.spec.name);
    let asked = ((benchmark, &plan), (max_new_tokens, answering));
    let memory = suite.scheduling.plan(model, asked.0, asked.1, &directory, globals.no_progress);
    let (scheduling, reason) = model.engine.scheduling();
    let header = RunHeader {
        format: crate::store::FORMAT,
        started: clock::now_rfc3339(),
        tag: suite.label.tag.clone(),
        commit: suite.label.commit.clone(),
        model: model::identity(&model.package),
        benchmark: benchmark_identity(benchmark, &plan),
        settings: RunSettings {
            max_new_tokens,
            provider: globals.provider.provider.as_str().to_owned(),
            provider_options: globals.provider.summary(),
            intra_op_threads: model::engine_options(globals, suite.scheduling.at_load()).intra_op_threads,
            scheduling: scheduling.to_owned(),
            scheduling_reason: reason.map(str::to_owned),
            prompt_sha256: Some(prompt_sha256(&benchmark.spec.prompt, &model.prompter)),
            answering: answering.summary(),
            low_memory: globals.loading.low_memory,
            stop_when_decided: benchmark.spec.stop_when_decided,
        },
        environment: environment(model.engine.runtime(), &globals.provider),
        memory,
        execution: Some(execution(&model.engine.placement(), model.engine.options())),
    };
    let label = format!("{} · {}", header.model.name, header.benchmark.name);
    let (mut writer, recovered) = RunWriter::open_or_resume(&directory, &header)?;
    suite.label.warn_if_kept(writer.header(), &directory);
    let conductor = Conductor {
        benchmark,
        plan: &plan,
        prompter: &model.prompter,
        manifest: &model.package.manifest,
        max_new_tokens,
        answering,
        stop: &stop.stop,
    };
    let mut progress = RunProgress::new(label, &header.benchmark, globals.no_progress, overall);
    let outcome = conductor.run(&mut model.engine, &mut writer, &recovered, &mut progress)?;
    finish(benchmark, &directory, writer, outcome)
}

/// Ends a run: a complete one gets the scores that only all answers together have, and its summary.
pub(super) fn finish(benchmark: &Benchmark, directory: &Path, writer: RunWriter, outcome: Outcome) -> Result<Run, Failure> {
    let scorer = &benchmark.spec.scorer;
    if outcome != Outcome::Complete {
        return open_run(directory);
    }
    let mut run = Run::open_log(directory)?;
    let answered = run.records.iter().filter(|record| record.failure.is_none()).count();
    let stored = Scores::read(directory)?;
    if crate::score::needs_all_answers(&scorer.rule) {
        // Scores of another rule, or of a judge, are kept while they cover every answer.
        let scores = match stored.filter(|scores| scores.samples.len() == answered) {
            Some(scores) => scores,
            None => {
                let scores = rescore(&run, scorer)?;
                scores.write(directory)?;
                scores
            }
        };
        scores.apply(&mut run);
    } else if let Some(scores) = stored {
        scores.apply(&mut run);
    }
    let summary = serde_json::to_vec_pretty(&compare::summarise(&run)).context("cannot serialise the summary")?;
    writer.finish(&summary)?;
    Ok(run)
}

/// Reads a run. One that is not complete has no file of scores yet; what only all answers together have is then computed of
/// those that are there.
pub fn open_run(directory: &Path) -> Result<Run, Failure> {
    let mut run = Run::open_log(directory)?;
    let header = &run.header.benchmark;
    match Scores::read(directory)? {
        Some(scores) => scores.apply(&mut run),
        None => {
            let scorer = ScorerSpec::recorded(&header.scorer, &header.metrics);
            // A rule that has changed since would make other scores of the same answers.
            let same = scorer.filter(|scorer| scorer.identity() == header.scorer);
            if let Some(scorer) = same.filter(|scorer| crate::score::needs_all_answers(&scorer.rule)) {
                rescore(&run, &scorer)?.apply(&mut run);
            }
        }
    }
    Ok(run)
}

/// The benchmark, as a run records it.
pub(super) fn benchmark_identity(benchmark: &Benchmark, plan: &Plan) -> BenchmarkIdentity {
    BenchmarkIdentity {
        name: benchmark.spec.name.clone(),
        title: benchmark.spec.title.clone(),
        scorer: benchmark.spec.scorer.identity(),
        samples_sha256: samples_sha256(plan.sample_indices().map(|index| &benchmark.samples[index])),
        samples: plan.samples(),
        samples_available: benchmark.samples.len(),
        data_root: benchmark.data_root.to_string_lossy().into_owned(),
        metrics: crate::score::metrics(&benchmark.spec.scorer),
        data: data_facts(benchmark),
    }
}

/// Broken rows of which a run keeps the messages.
const BROKEN_KEPT: usize = 20;

/// What there is to say about a benchmark's data.
fn data_facts(benchmark: &Benchmark) -> Option<DataFacts> {
    let broken = &benchmark.broken;
    (benchmark.spec.forms.len() > 1 || !broken.is_empty()).then(|| DataFacts {
        form: benchmark.spec.data.form.clone(),
        broken_rows: broken.len(),
        broken: broken.iter().take(BROKEN_KEPT).map(|row| row.message.clone()).collect(),
    })
}

/// The machine and libraries, as a run records them.
pub(super) fn environment(runtime: &RuntimeInfo, provider: &ProviderOptions) -> Environment {
    let machine = Machine::look();
    Environment {
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_version: runtime.version.clone(),
        runtime_sha256: runtime.sha256.clone(),
        platform: format!("{}, {}", machine.operating_system, machine.architecture),
        processor: processor(machine.cpu, provider),
        physical_cores: machine.physical_cores,
        memory_bytes: machine.memory_total_bytes,
    }
}

/// What computes: the processor and, where one is used, the GPU.
pub(super) fn processor(cpu: String, provider: &ProviderOptions) -> String {
    match provider.device_text() {
        Some(device) => format!("{cpu} with {device}"),
        None => cpu,
    }
}

#[derive(Serialize)]
struct RunsJson {
    format: u32,
    runs: Vec<compare::RunSummary>,
}

/// Prints the table of runs (not compared), or their summaries as JSON.
pub(super) fn report_runs(runs: &[Run], json: bool) -> Result<(), Failure> {
    if json {
        terminal::print_json(&RunsJson { format: 1, runs: runs.iter().map(compare::summarise).collect() })?;
        return Ok(());
    }
    if !runs.is_empty() {
        let comparison = compare::compare(runs, compare::DEFAULT_MARGIN)?;
        let text = crate::report::terminal::comparison(&comparison, terminal::stdout_width(), terminal::stdout_colour());
        terminal::print(&text)?;
    }
    Ok(())
}

/// The run directories below a path given by the user.
pub fn open_runs(paths: &[PathBuf]) -> Result<Vec<Run>, Failure> {
    let directories = crate::store::discover(paths)?;
    if directories.is_empty() {
        let names: Vec<String> = paths.iter().map(|path: &PathBuf| Path::display(path).to_string()).collect();
        return Err(Failure::new(Exit::IncompleteRun, anyhow!("no run directory (run.json) in {}", names.join(", "))));
    }
    directories.iter().map(|directory| open_run(directory)).collect()
}

/// Puts the runs of the package named `base` first, so that the others are compared with them.
pub fn base_first(runs: &mut [Run], base: Option<&str>) -> Result<(), Failure> {
    let Some(base) = base else { return Ok(()) };
    if !runs.iter().any(|run| run.header.model.name == base) {
        let mut names: Vec<&str> = runs.iter().map(|run| run.header.model.name.as_str()).collect();
        names.dedup();
        return Err(Failure::new(Exit::Setup, anyhow!("no run of a package named {base:?}; found {}", names.join(", "))));
    }
    runs.sort_by_key(|run| run.header.model.name != base);
    Ok(())
}
