//! `benchmarks list | check | show`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::Exit;
use super::{VerbResult, terminal};
use crate::benchmark::{Benchmark, BenchmarkSpec, Task};
use crate::package::PackageKind;

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
    /// Kind of package that it is for: `LLaVA` or `CLIP`.
    needs: &'static str,
}

/// The kind of package that can be run on a benchmark.
fn needs(spec: &BenchmarkSpec) -> &'static str {
    if spec.compares_embeddings() { PackageKind::Clip.name() } else { PackageKind::Llava.name() }
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
    /// Kind of package that it is for: `LLaVA` or `CLIP`.
    needs: &'static str,
    /// What the samples share: classes and templates, or captions and images.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    prompts: Vec<String>,
}

/// Prompts shown by `check`.
const SHOWN_PROMPTS: usize = 3;
/// Classes shown by `check`.
const SHOWN_CLASSES: usize = 8;

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
        .map(|spec| ListedBenchmark {
            scorer: spec.scorer.identity(),
            needs: needs(&spec),
            name: spec.name,
            title: spec.title,
            licence: spec.licence,
        })
        .collect();
    if arguments.json {
        terminal::print_json(&listed)?;
    } else {
        let width = listed.iter().map(|line| line.name.len()).max().unwrap_or(0);
        let lines: Vec<String> = listed
            .iter()
            .map(|line| format!("{:width$}  {}  ({}, {})", line.name, line.title, line.needs, line.scorer))
            .collect();
        terminal::print(&lines.join("\n"))?;
    }
    Ok(Exit::Success)
}

fn check(arguments: &CheckArguments) -> VerbResult {
    let benchmark = Benchmark::load(&arguments.benchmark, arguments.data.as_deref())?;
    let images: std::collections::HashSet<_> = benchmark.samples.iter().flat_map(|sample| &sample.images).collect();
    let checked = CheckedBenchmark {
        format: 1,
        name: benchmark.spec.name.clone(),
        title: benchmark.spec.title.clone(),
        scorer: benchmark.spec.scorer.identity(),
        samples: benchmark.samples.len(),
        images: images.len(),
        missing_images: images.iter().filter(|image| image.file().is_some_and(|file| !file.is_file())).count(),
        samples_sha256: benchmark.samples_sha256(),
        needs: needs(&benchmark.spec),
        task: task(&benchmark.task),
        prompts: prompts(&benchmark),
    };
    if arguments.json {
        terminal::print_json(&checked)?;
    } else {
        let prompts: Vec<String> = checked.prompts.iter().map(|prompt| terminal::clean(prompt)).collect();
        terminal::print(&format!(
            "{}: {} questions on {} images ({} missing), scorer {}, for {} packages\nsamples {}\n{}\n{}",
            checked.title,
            checked.samples,
            checked.images,
            checked.missing_images,
            checked.scorer,
            checked.needs,
            checked.samples_sha256,
            checked.task.as_deref().map_or_else(String::new, |task| format!("{}\n", terminal::clean(task))),
            prompts.join("\n\n")
        ))?;
    }
    Ok(Exit::Success)
}

/// What the samples of a benchmark share, for people.
fn task(task: &Task) -> Option<String> {
    match task {
        Task::Answer => None,
        Task::Classify(classes) => {
            let names: Vec<&str> = classes.labels.iter().map(String::as_str).take(SHOWN_CLASSES).collect();
            let more = if classes.labels.len() > names.len() { ", …" } else { "" };
            let (count, templates) = (classes.labels.len(), classes.templates.len());
            Some(format!("{count} classes ({}{more}), {templates} templates", names.join(", ")))
        }
        Task::Retrieve(set) => {
            Some(format!("{} captions of {} images, each looking for the other", set.captions.len(), set.images.len()))
        }
    }
}

/// What is asked first; of a classification the texts of the first class.
fn prompts(benchmark: &Benchmark) -> Vec<String> {
    match &benchmark.task {
        Task::Classify(classes) => classes.texts(0).into_iter().take(SHOWN_PROMPTS).collect(),
        Task::Answer | Task::Retrieve(_) => {
            benchmark.samples.iter().take(SHOWN_PROMPTS).map(|sample| sample.prompt.clone()).collect()
        }
    }
}
