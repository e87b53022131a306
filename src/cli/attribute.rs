//! `attribute`: two packages of one family, stage by stage: which one is to blame.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use sha2::{Digest, Sha256};

use super::choosing::Choosing;
use super::data::{DataArguments, warn_of_broken_rows};
use super::exit::{Exit, Failure};
use super::progress::{Overall, RunProgress};
use super::run::{StopSignal, benchmark_identity, environment, finish};
use super::{Globals, VerbResult, clock, model, terminal};
use crate::benchmark::Benchmark;
use crate::compare::{Attribution, MixRun, Side, Stage, attribute_benchmark};
use crate::engine::Scheduling;
use crate::run::{Conductor, Plan, execution, prompt_sha256};
use crate::store::{ModelIdentity, Run, RunHeader, RunSettings, RunWriter};
use crate::swap::{DivergenceSettings, Look, Mix, PackagePair, SwapEngine, diverge, look_deep};

/// Arguments of `attribute`.
#[derive(Debug, Args)]
pub struct AttributeArguments {
    /// The package to start from: a folder, or the name of a shipped package
    base: PathBuf,
    /// The package that is better or worse, of the same family: its stages must take the same shapes
    new: PathBuf,
    /// Benchmark name, or a benchmark TOML file; repeat or list several
    #[arg(long, value_name = "NAME", num_args = 1.., required_unless_present = "metric")]
    benchmark: Vec<String>,
    /// Folder for attribution.json and the run directories of all mixes; the same command again continues there
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Ask only this many questions of each benchmark: whole images in a fixed pseudo-random order
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Longest answer in tokens [default: what each benchmark says]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<std::num::NonZeroUsize>,
    /// Images on which the stages are compared directly; 0 for none
    #[arg(long, value_name = "N", default_value_t = 32)]
    divergence_images: usize,
    /// Look also at every layer of the vision encoder and the language model: where do the packages part?
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    choosing: Choosing,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Name of the file that holds what was found.
const ATTRIBUTION_FILE: &str = "attribution.json";

/// Most prompts of one image that are compared directly.
const PROMPTS_PER_IMAGE: usize = 2;

/// Why the timings of a mix are not those of a run.
const SCHEDULING_REASON: &str = "stage swapping: images that the same stages have seen in an earlier mix are not encoded again";

/// Runs the verb.
pub fn run(arguments: AttributeArguments, globals: &Globals) -> VerbResult {
    let benchmarks = load_benchmarks(&arguments)?;
    let pair = PackagePair::new(model::open(&arguments.base, None)?, model::open(&arguments.new, None)?)?;
    let stop = StopSignal::install()?;
    let scratch = if arguments.output.is_none() { Some(Scratch::new()?) } else { None };
    let output = scratch.as_ref().map(|scratch| scratch.0.clone()).or(arguments.output.clone()).unwrap_or_default();
    if arguments.output.is_some() {
        check_folder(&output, &pair)?;
    }
    say_what_differs(&pair, globals);

    let plans: Vec<Plan> = benchmarks.iter().map(|benchmark| Plan::new(&benchmark.samples, arguments.limit)).collect();
    let options = model::engine_options(globals, Scheduling::PackedTree);
    let mut engine = SwapEngine::load(&pair, &options)?;
    let mixes = pair.mixes();
    let mut attribution = Attribution {
        format: 1,
        base: pair.base.manifest.name.clone(),
        new: pair.new.manifest.name.clone(),
        equal_stages: pair.equal_stages(),
        benchmarks: Vec::new(),
        divergence: None,
        notes: notes(&pair),
    };
    let questions = plans.iter().flat_map(|plan| std::iter::repeat_n(plan.samples(), mixes.len()));
    let mut overall = Overall::new(1, questions.collect());
    for (benchmark, plan) in benchmarks.iter().zip(&plans) {
        let mut runs: Vec<(Mix, Run)> = Vec::new();
        for mix in &mixes {
            let asked = Asked { arguments: &arguments, globals, stop: &stop, benchmark, plan, output: &output };
            let run = run_mix(&asked, &pair, &mut engine, *mix, &mut overall)?;
            if let Some(exit) = stop.exit() {
                return Ok(interrupted(exit, &arguments));
            }
            runs.push((*mix, run));
        }
        let mixed: Vec<MixRun<'_>> = runs.iter().map(|(sides, run)| MixRun { sides: *sides, run }).collect();
        attribution.benchmarks.push(attribute_benchmark(&mixed, &attribution.equal_stages)?);
    }
    let looks: Vec<Look<'_>> = benchmarks.iter().zip(&plans).map(|(benchmark, plan)| Look { benchmark, plan }).collect();
    let settings = DivergenceSettings { images: arguments.divergence_images, prompts_per_image: PROMPTS_PER_IMAGE };
    if !globals.no_progress && settings.images > 0 {
        eprintln!("comparing the stages on the same images");
    }
    let (mut divergence, said) = diverge(&pair, &mut engine, &looks, settings, stop.flag())?;
    attribution.notes.extend(said);
    if let (true, Some(divergence)) = (arguments.deep, &mut divergence) {
        let deep = look_deep(&pair, &mut engine, &looks, &options)?;
        divergence.layers = deep.layers;
        divergence.starts = deep.starts;
        attribution.notes.extend(deep.notes);
    }
    attribution.divergence = divergence;
    if let Some(exit) = stop.exit() {
        return Ok(interrupted(exit, &arguments));
    }

    if arguments.output.is_some() {
        write(&output, &attribution)?;
    }
    if arguments.json {
        terminal::print_json(&attribution)?;
    } else {
        let text = crate::report::attribution::terminal(&attribution, terminal::stdout_width(), terminal::stdout_colour());
        terminal::print(&text)?;
    }
    Ok(Exit::Success)
}

fn interrupted(exit: Exit, arguments: &AttributeArguments) -> Exit {
    let kept = if arguments.output.is_some() { "; the same command continues" } else { "" };
    eprintln!("interrupted{kept}");
    exit
}

fn load_benchmarks(arguments: &AttributeArguments) -> Result<Vec<Benchmark>, Failure> {
    let data = &arguments.data;
    if (data.data.is_some() || data.form.is_some()) && data.metric.is_none() && arguments.benchmark.len() != 1 {
        let error = anyhow!("--data and --form need exactly one --benchmark, found {}", arguments.benchmark.len());
        return Err(Failure::new(Exit::Setup, error));
    }
    let mut benchmarks = match arguments.benchmark.as_slice() {
        [] => vec![data.load(None)?],
        names => names.iter().map(|name| data.load(Some(name))).collect::<Result<Vec<_>, _>>()?,
    };
    benchmarks.iter().for_each(warn_of_broken_rows);
    arguments.choosing.apply(&mut benchmarks)?;
    for benchmark in &benchmarks {
        let (name, rule) = (&benchmark.spec.name, benchmark.spec.scorer.rule);
        if rule.needs_judge() {
            let error = anyhow!("{name} is scored by a judge, and stage swapping needs scores of all mixes at once");
            return Err(Failure::new(Exit::Setup, error));
        }
        if benchmark.spec.compares_embeddings() {
            return Err(Failure::new(Exit::Setup, anyhow!("{name} is for CLIP packages, which have no three stages to swap")));
        }
    }
    Ok(benchmarks)
}

/// A folder for the runs of mixes that nobody wants to keep; it is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let folder = std::env::temp_dir();
        let mut path = PathBuf::new();
        // A folder that somebody else has made under this name is not used.
        for attempt in 0..100 {
            path = folder.join(format!("llava-gauge-attribute-{}-{attempt}", std::process::id()));
            if std::fs::create_dir(&path).is_ok() {
                return Ok(Self(path));
            }
        }
        let error = anyhow!("cannot make the temporary folder {}; name one with --output", path.display());
        Err(Failure::new(Exit::Output, error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind lies in the system's temporary folder, which is all that can be done about it here.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What one mix is asked.
struct Asked<'a> {
    arguments: &'a AttributeArguments,
    globals: &'a Globals,
    stop: &'a StopSignal,
    benchmark: &'a Benchmark,
    plan: &'a Plan,
    output: &'a Path,
}

/// Runs one mix on one benchmark, or continues it.
fn run_mix(
    asked: &Asked<'_>,
    pair: &PackagePair,
    engine: &mut SwapEngine,
    mix: Mix,
    overall: &mut Overall,
) -> Result<Run, Failure> {
    let (benchmark, plan, manifest, prompter) = (asked.benchmark, asked.plan, pair.manifest(mix), pair.prompter(mix));
    let max_new_tokens = asked.arguments.max_new_tokens.map_or(benchmark.spec.max_new_tokens, std::num::NonZeroUsize::get);
    let answering = benchmark.spec.answering;
    let loaded = engine.with(mix)?;
    let header = RunHeader {
        memory: None,
        execution: Some(execution(&loaded.placement(), loaded.options())),
        format: crate::store::FORMAT,
        started: clock::now_rfc3339(),
        tag: None,
        commit: None,
        model: identity(pair, mix),
        benchmark: benchmark_identity(benchmark, plan),
        settings: RunSettings {
            max_new_tokens,
            provider: asked.globals.provider.provider.as_str().to_owned(),
            provider_options: asked.globals.provider.summary(),
            intra_op_threads: loaded.options().intra_op_threads,
            scheduling: loaded.options().scheduling.as_str().to_owned(),
            scheduling_reason: Some(SCHEDULING_REASON.to_owned()),
            prompt_sha256: Some(prompt_sha256(&benchmark.spec.prompt, prompter)),
            answering: answering.summary(),
            low_memory: asked.globals.loading.low_memory,
            stop_when_decided: benchmark.spec.stop_when_decided,
        },
        environment: environment(loaded.runtime(), &asked.globals.provider),
    };
    let directory = asked.output.join(mix_name(mix)).join(&header.benchmark.name);
    let label = format!("{} · {}", mix_name(mix), benchmark.spec.name);
    let (mut writer, recovered) = RunWriter::open_or_resume(&directory, &header)?;
    let conductor =
        Conductor { benchmark, plan, prompter, manifest: &manifest, max_new_tokens, answering, stop: asked.stop.flag() };
    let mut progress = RunProgress::new(label, &header.benchmark, asked.globals.no_progress, overall);
    let outcome = conductor.run(loaded, &mut writer, &recovered, &mut progress)?;
    finish(benchmark, &directory, writer, outcome)
}

/// `base-new-base`: where vision encoder, projector and language model come from.
fn mix_name(mix: Mix) -> String {
    mix.map(Side::as_str).join("-")
}

/// A mix as a run records it. One that takes every stage that differs from one package is that package.
fn identity(pair: &PackagePair, mix: Mix) -> ModelIdentity {
    let differing: Vec<(Stage, Side)> =
        Stage::ALL.into_iter().zip(mix).filter(|(stage, _)| !pair.changes(*stage).is_empty()).collect();
    let new: Vec<&str> = differing.iter().filter(|(_, side)| *side == Side::New).map(|(stage, _)| stage.as_str()).collect();
    if new.is_empty() {
        return model::identity(&pair.base);
    }
    if new.len() == differing.len() {
        return model::identity(&pair.new);
    }
    let (base, other) = (&pair.base, &pair.new);
    let text = format!("stages of two packages\n{}\n{}\n{}\n", base.identity, other.identity, mix_name(mix));
    let mut mixed = base.clone();
    mixed.manifest = pair.manifest(mix);
    mixed.manifest.name = format!("{} with {} of {}", base.manifest.name, new.join(" and "), other.manifest.name);
    mixed.identity = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    ModelIdentity { weight_bytes: None, ..model::identity(&mixed) }
}

/// A folder with what an earlier command found about other packages is left alone.
fn check_folder(output: &Path, pair: &PackagePair) -> Result<(), Failure> {
    let path = output.join(ATTRIBUTION_FILE);
    if !path.exists() {
        return Ok(());
    }
    let read = crate::guard::files::read_text_capped(&path, 64 << 20)?;
    let names = serde_json::from_str::<Attribution>(&read).map(|found| (found.base, found.new));
    match names {
        Ok((base, new)) if base == pair.base.manifest.name && new == pair.new.manifest.name => Ok(()),
        Ok((base, new)) => {
            let error = anyhow!("{} is about {base} and {new}; choose another --output", path.display());
            Err(Failure::new(Exit::Setup, error))
        }
        Err(error) => Err(Failure::new(Exit::Setup, anyhow!("{} is not what this verb writes: {error}", path.display()))),
    }
}

/// Says on standard error which stages differ and in what.
fn say_what_differs(pair: &PackagePair, globals: &Globals) {
    if globals.no_progress {
        return;
    }
    for stage in Stage::ALL {
        let changes = pair.changes(stage);
        let what = if changes.is_empty() { "equal".to_owned() } else { format!("differs in {}", changes.join(", ")) };
        eprintln!("{}: {what}", stage.as_str());
    }
    eprintln!("{} mixes to run on each benchmark", pair.mixes().len());
}

/// What a reader should know about the packages.
fn notes(pair: &PackagePair) -> Vec<String> {
    let mut notes = Vec::new();
    for stage in Stage::ALL {
        let beside: Vec<&str> =
            pair.changes(stage).iter().copied().filter(|change| !matches!(*change, "graph" | "weights")).collect();
        if !beside.is_empty() {
            notes.push(format!(
                "the {} stage takes along what differs beside graph and weights: {}",
                stage.as_str(),
                beside.join(", ")
            ));
        }
    }
    if pair.mixes().len() == 1 {
        notes.push("graphs, weights and recipes of all stages are equal: there is nothing to attribute".to_owned());
    }
    notes
}

fn write(output: &Path, attribution: &Attribution) -> Result<(), Failure> {
    let fail = |error: anyhow::Error| Failure::new(Exit::Output, error);
    let path = output.join(ATTRIBUTION_FILE);
    let mut bytes = serde_json::to_vec_pretty(attribution).map_err(|error| fail(error.into()))?;
    bytes.push(b'\n');
    std::fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display())).map_err(fail)?;
    std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display())).map_err(fail)
}
