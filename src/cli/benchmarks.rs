//! `benchmarks list | check | show`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::Exit;
use super::{VerbResult, terminal};
use crate::benchmark::{Benchmark, BenchmarkSpec};

/// Verbs about benchmarks.
#[derive(Debug, Subcommand)]
pub enum BenchmarksVerb {
    /// List the built-in benchmarks
    List(ListArguments),
    /// Load a benchmark with its data, and show its size and first prompts
    Check(CheckArguments),
}

/// Arguments of `benchmarks list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `benchmarks check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Benchmark name, or a benchmark TOML file
    benchmark: String,
    /// Folder of the benchmark's data files
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct ListedBenchmark {
    name: String,
    title: String,
    scorer: String,
    licence: String,
}

#[derive(Debug, Serialize)]
struct CheckedBenchmark {
    format: u32,
    name: String,
    title: String,
    scorer: String,
    samples: usize,
    images: usize,
    missing_images: usize,
    samples_sha256: String,
    prompts: Vec<String>,
}

/// Prompts shown by `check`.
const SHOWN_PROMPTS: usize = 3;

/// Runs the verb.
pub fn run(verb: BenchmarksVerb) -> VerbResult {
    match verb {
        BenchmarksVerb::List(arguments) => list(&arguments),
        BenchmarksVerb::Check(arguments) => check(&arguments),
    }
}

fn list(arguments: &ListArguments) -> VerbResult {
    let listed: Vec<ListedBenchmark> = BenchmarkSpec::list()?
        .into_iter()
        .map(|spec| ListedBenchmark { scorer: spec.scorer.identity(), name: spec.name, title: spec.title, licence: spec.licence })
        .collect();
    if arguments.json {
        terminal::print_json(&listed)?;
    } else {
        let width = listed.iter().map(|line| line.name.len()).max().unwrap_or(0);
        let lines: Vec<String> =
            listed.iter().map(|line| format!("{:width$}  {}  ({})", line.name, line.title, line.scorer)).collect();
        terminal::print(&lines.join("\n"))?;
    }
    Ok(Exit::Success)
}

fn check(arguments: &CheckArguments) -> VerbResult {
    let benchmark = Benchmark::load(&arguments.benchmark, arguments.data.as_deref())?;
    let images: std::collections::BTreeSet<_> = benchmark.samples.iter().flat_map(|sample| &sample.images).collect();
    let checked = CheckedBenchmark {
        format: 1,
        name: benchmark.spec.name.clone(),
        title: benchmark.spec.title.clone(),
        scorer: benchmark.spec.scorer.identity(),
        samples: benchmark.samples.len(),
        images: images.len(),
        missing_images: images.iter().filter(|path| !path.is_file()).count(),
        samples_sha256: benchmark.samples_sha256(),
        prompts: benchmark.samples.iter().take(SHOWN_PROMPTS).map(|sample| sample.prompt.clone()).collect(),
    };
    if arguments.json {
        terminal::print_json(&checked)?;
    } else {
        let prompts: Vec<String> = checked.prompts.iter().map(|prompt| terminal::clean(prompt)).collect();
        terminal::print(&format!(
            "{}: {} questions on {} images ({} missing), scorer {}\nsamples {}\n\n{}",
            checked.title,
            checked.samples,
            checked.images,
            checked.missing_images,
            checked.scorer,
            checked.samples_sha256,
            prompts.join("\n\n")
        ))?;
    }
    Ok(Exit::Success)
}
