//! `bench`: how fast packages are on this machine, and how near its limits.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{Exit, Failure};
use super::run::processor;
use super::{Globals, VerbResult, clock, model, terminal};
use crate::bench::{
    BenchError, BenchOptions, BenchPackage, BenchResult, ConditionsWatch, Sweeps, Test, arithmetics, check, expand,
    measure_limits, memory_bytes, parse_sweep, prompt_tokens, run as measure, shares, to_csv, to_markdown, to_table,
};
use crate::engine::runtime::doctor::Machine;
use crate::engine::{EngineOptions, Scheduling};
use crate::export::stage_shapes;
use crate::package::Package;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// Packages, by path or shipped name; several take turns, and are compared with the first
    #[arg(required = true, value_name = "PACKAGE")]
    packages: Vec<PathBuf>,
    /// Test: img, prefill, decode, questions or score for all sizes of the options below, or with its own, such as "prefill 128",
    /// "decode 32@636", "decode 32@636x6" (six answers side by side), "questions 6x8" (eight new tokens each)
    /// [default: img, prefill, decode, questions]
    #[arg(short, long = "test", value_name = "TEST", value_delimiter = ',')]
    tests: Vec<String>,
    /// Tokens of a prefill: 128,636 or 128-2048+128 or 128-2048*2 [default: a prompt with an image]
    #[arg(long, value_name = "SIZES")]
    prefill: Option<String>,
    /// Tokens decoded
    #[arg(long, value_name = "SIZES", default_value = "32")]
    decode: String,
    /// Tokens before the decoded ones [default: a prompt with an image]
    #[arg(long, value_name = "SIZES")]
    depth: Option<String>,
    /// Answers that decode side by side
    #[arg(long, value_name = "SIZES", default_value = "1")]
    rows: String,
    /// Questions about the image, for questions and score
    #[arg(long, value_name = "SIZES", default_value = "6")]
    questions: String,
    /// New tokens of each question
    #[arg(long, value_name = "SIZES", default_value = "8")]
    new_tokens: String,
    /// Times that each test counts
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: u16,
    /// Times before that, not counted
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: u16,
    /// Measure the limits of this machine through the same runtime, and say how near each test comes
    #[arg(long)]
    roofline: bool,
    /// How to write the result
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = FormatArgument::Table)]
    format: FormatArgument,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write the result to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FormatArgument {
    /// For a terminal
    Table,
    /// Markdown
    Markdown,
    /// One line a sample
    Csv,
    /// All samples, machine, versions and settings
    Json,
}

/// Runs the verb.
pub fn run(arguments: BenchArguments, globals: &Globals) -> VerbResult {
    let started_at = clock::now_rfc3339();
    let packages: Vec<Package> = arguments.packages.iter().map(|given| model::open(given, None)).collect::<Result<_, _>>()?;
    let Some(first) = packages.first() else { return Err(BenchError::Nothing.into()) };
    let tests = tests(&arguments, prompt_tokens(&first.manifest)?, first.manifest.foreign.is_some())?;
    for test in &tests {
        packages.iter().try_for_each(|package| check(package, test))?;
    }
    // A place that cannot be written fails before the measurement and not after it.
    let mut output = match &arguments.output {
        Some(path) => Some((path, std::fs::File::create(path).map_err(|error| unwritable(path, error))?)),
        None => None,
    };
    let engine_options = model::engine_options(globals, Scheduling::PackedTree);
    crate::run::reset_peak_memory();
    let watch = ConditionsWatch::start();
    let mut loaded = Vec::with_capacity(packages.len());
    for package in packages {
        if !globals.no_progress {
            eprintln!("loading {}", crate::guard::escape::terminal(&package.manifest.name));
        }
        let mut options = engine_options.clone();
        options.provider.tensorrt.shapes = Some(crate::run::unknown_extent(&package.manifest, &options).shapes());
        loaded.push(BenchPackage::load(package, &options)?);
    }
    let (repetitions, warmup) = (usize::from(arguments.repetitions), usize::from(arguments.warmup));
    let options = BenchOptions { tests, repetitions, warmup };
    let series = measure(&mut loaded, &options, &mut reporter(globals))?;
    let peak_memory_bytes = memory_bytes().map(|[_, peak]| peak);
    let mut machine = Machine::look();
    machine.cpu = processor(machine.cpu, &globals.provider);
    let mut result = BenchResult {
        provider: globals.provider.text(),
        packages: loaded.iter().map(|package| package.facts.clone()).collect(),
        runtime_version: loaded.first().map(BenchPackage::runtime_version).unwrap_or_default(),
        series,
        machine,
        roofline: None,
        conditions: watch.stop(),
        peak_memory_bytes,
        threads: engine_options.intra_op_threads,
        warmup,
        started_at,
    };
    if arguments.roofline {
        add_roofline(&mut result, &loaded, &engine_options, globals)?;
    }
    let text = match if arguments.json { FormatArgument::Json } else { arguments.format } {
        FormatArgument::Table => to_table(&result),
        FormatArgument::Markdown => to_markdown(&result),
        FormatArgument::Csv => to_csv(&result),
        FormatArgument::Json => serde_json::to_string_pretty(&result.to_json()).map_err(anyhow::Error::from)?,
    };
    match &mut output {
        None => terminal::print(&text)?,
        Some((path, file)) => {
            file.write_all(text.as_bytes())
                .and_then(|()| if text.ends_with('\n') { Ok(()) } else { file.write_all(b"\n") })
                .and_then(|()| file.sync_all())
                .map_err(|error| unwritable(path, error))?;
        }
    }
    Ok(Exit::Success)
}

fn unwritable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(Exit::Output, anyhow::Error::new(error).context(format!("cannot write {}", path.display())))
}

/// The tests that were asked for; `prompt` is the length of a prompt with an image.
fn tests(arguments: &BenchArguments, prompt: usize, foreign: bool) -> Result<Vec<Test>, Failure> {
    let or_prompt =
        |text: &Option<String>, least| text.as_ref().map_or_else(|| Ok(vec![prompt]), |text| parse_sweep(text, least));
    let sweeps = Sweeps {
        prefill: or_prompt(&arguments.prefill, 1)?,
        decode: parse_sweep(&arguments.decode, 1)?,
        depth: or_prompt(&arguments.depth, 0)?,
        rows: parse_sweep(&arguments.rows, 1)?,
        questions: parse_sweep(&arguments.questions, 1)?,
        new_tokens: parse_sweep(&arguments.new_tokens, 1)?,
    };
    let default: &[&str] = if foreign { &["questions"] } else { &["img", "prefill", "decode", "questions"] };
    let asked: Vec<String> = if arguments.tests.is_empty() {
        default.iter().map(|test| (*test).to_owned()).collect()
    } else {
        arguments.tests.clone()
    };
    Ok(expand(&asked, &sweeps)?)
}

/// Measures the limits of the machine at the shapes of the first package whose configuration tells them.
fn add_roofline(
    result: &mut BenchResult,
    loaded: &[BenchPackage],
    options: &EngineOptions,
    globals: &Globals,
) -> Result<(), Failure> {
    if !globals.no_progress {
        eprintln!("measuring the limits of this machine");
    }
    let own = loaded.iter().map(|package| &package.package).filter(|package| package.manifest.foreign.is_none());
    let all = arithmetics(own.clone().map(|package| &package.manifest));
    let mut shapes = Vec::new();
    for package in loaded.iter().map(|package| &package.package) {
        shapes.push(match package.manifest.foreign {
            None => Some((stage_shapes(&package.root).map_err(BenchError::from)?, package.manifest.clone())),
            Some(_) => None,
        });
    }
    let Some((first, manifest)) = shapes.iter().flatten().next() else {
        let error = anyhow::anyhow!("--roofline counts the costs of graphs of our own, and no package has them");
        return Err(Failure::new(Exit::Setup, error));
    };
    let mut roofline = measure_limits(first, prompt_tokens(manifest)?, &all, options)?;
    roofline.shares = shares(&roofline, result, &shapes)?;
    result.roofline = Some(roofline);
    Ok(())
}

/// Tells on standard error which run is next: a bar on a terminal, else a line for each test.
fn reporter(globals: &Globals) -> impl FnMut(usize, usize, &str) + use<> {
    let quiet = globals.no_progress;
    let bar = (!quiet && terminal::interactive()).then(|| {
        let style = ProgressStyle::with_template("{msg} [{bar:24}] {pos}/{len} eta {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        ProgressBar::new(0).with_style(style)
    });
    let mut said = String::new();
    move |done, total, test| {
        if let Some(bar) = &bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            bar.set_message(test.to_owned());
            if done == total {
                bar.finish_and_clear();
            }
        } else if !quiet && test != said && done < total {
            said = test.to_owned();
            eprintln!("{test}: run {} of {total}", done + 1);
        }
    }
}
