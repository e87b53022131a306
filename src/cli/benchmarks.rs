//! `benchmarks list | check | show`.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::data::DataArguments;
use super::exit::{Exit, Failure};
use super::{VerbResult, terminal};
use crate::benchmark::{Benchmark, BenchmarkSpec, DataChoice, IMAGE_MARK, Sample, Task, form_statuses};
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
    /// Print as a Markdown table, without what is on this machine
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `benchmarks check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Benchmark name, or a benchmark TOML file; left out for your own questions (--data with --metric)
    #[arg(required_unless_present = "metric")]
    benchmark: Option<String>,
    #[command(flatten)]
    data: DataArguments,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct ListedBenchmark {
    name: String,
    title: String,
    scorer: String,
    primary_metric: String,
    licence: String,
    source: String,
    /// Kind of package that it is for: `LLaVA` or `CLIP`.
    needs: &'static str,
    /// Whether the data are there in one of their forms.
    present: bool,
    /// The forms in which the data may be had.
    forms: Vec<ListedForm>,
}

#[derive(Debug, Serialize)]
struct ListedForm {
    name: String,
    /// Folder in which all its data files are.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
    /// Bytes of its data files.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    /// Samples, where the benchmark fixes their number.
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<usize>,
    /// Command or page.
    #[serde(skip_serializing_if = "Option::is_none")]
    obtain: Option<String>,
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
    /// Form in which the data were read, and their folder.
    form: String,
    data: String,
    /// Rows that are no samples because they cannot be read.
    broken_rows: Vec<String>,
    /// Kind of package that it is for: `LLaVA` or `CLIP`.
    needs: &'static str,
    /// What the samples share: classes and templates, or captions and images.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    prompts: Vec<String>,
}

/// Prompts shown by `check`.
const SHOWN_PROMPTS: usize = 3;
/// Missing images named by `check`.
const SHOWN_MISSING: usize = 5;
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
    if arguments.markdown {
        terminal::print(&markdown(&BenchmarkSpec::list()?))?;
        return Ok(Exit::Success);
    }
    let mut listed = Vec::new();
    for spec in BenchmarkSpec::list()? {
        let forms: Vec<ListedForm> = form_statuses(&spec, &DataChoice::default())
            .into_iter()
            .zip(&spec.forms)
            .map(|(status, form)| ListedForm {
                name: status.form,
                found: status.found.map(|folder| folder.display().to_string()),
                size_bytes: status.size_bytes,
                samples: form.samples(),
                obtain: status.obtain,
            })
            .collect();
        listed.push(ListedBenchmark {
            scorer: spec.scorer.identity(),
            primary_metric: spec.scorer.primary_metric.clone(),
            needs: needs(&spec),
            name: spec.name,
            title: spec.title,
            licence: spec.licence,
            source: spec.source,
            present: forms.iter().any(|form| form.found.is_some()),
            forms,
        });
    }
    if arguments.json {
        terminal::print_json(&listed)?;
    } else {
        let width = listed.iter().map(|line| line.name.len()).max().unwrap_or(0);
        let lines: Vec<String> = listed.iter().map(|line| listed_line(line, width)).collect();
        terminal::print(&lines.join("\n"))?;
    }
    Ok(Exit::Success)
}

/// What the benchmarks are, a row each.
fn markdown(specs: &[BenchmarkSpec]) -> String {
    let cell = crate::guard::escape::markdown;
    let header = "| benchmark | what | samples | metrics, the primary one first | scorer | data | licence |\n| --- | --- | ---: | --- | --- | --- | --- |";
    let rows = specs.iter().map(|spec| {
        let primary = spec.scorer.primary_metric.as_str();
        let others = spec.scorer.rule.metric_names().iter().copied().filter(|name| *name != primary);
        let metrics: Vec<String> = std::iter::once(primary).chain(others).map(|name| format!("`{name}`")).collect();
        let forms: Vec<&str> = spec.forms.iter().map(|form| form.form.as_str()).collect();
        let samples = spec.forms.iter().find_map(|form| form.samples()).map_or(String::new(), |samples| samples.to_string());
        format!(
            "| `{}` | {} | {samples} | {} | `{}` | {} | {} |",
            spec.name,
            cell(&spec.title),
            metrics.join(" "),
            spec.scorer.identity(),
            forms.join(", "),
            cell(&spec.licence)
        )
    });
    std::iter::once(header.to_owned()).chain(rows).collect::<Vec<_>>().join("\n")
}

/// A benchmark in two lines: what it is, and whether its data are there.
fn listed_line(line: &ListedBenchmark, width: usize) -> String {
    let data = match line.forms.iter().find(|form| form.found.is_some()) {
        Some(form) => {
            let folder = form.found.as_deref().map(crate::guard::escape::terminal).unwrap_or_default();
            let size = form.size_bytes.map_or(String::new(), |bytes| format!(", {:.1} MB", bytes as f64 / 1e6));
            let samples = form.samples.map_or(String::new(), |samples| format!(", {samples} samples"));
            format!("data: {} in {folder}{samples}{size}", form.name)
        }
        None => {
            let obtain = line.forms.iter().find_map(|form| form.obtain.as_deref());
            format!("data: not found; {}", obtain.unwrap_or(&line.source))
        }
    };
    format!(
        "{:width$}  {}  ({}, {}, {}; {})\n{:width$}    {data}",
        line.name, line.title, line.needs, line.scorer, line.primary_metric, line.licence, ""
    )
}

fn check(arguments: &CheckArguments) -> VerbResult {
    let benchmark = arguments.data.load(arguments.benchmark.as_deref())?;
    let images: std::collections::HashSet<_> = benchmark.samples.iter().flat_map(|sample| &sample.images).collect();
    let mut missing: Vec<String> = images
        .iter()
        .filter_map(|image| image.file().filter(|file| !file.is_file()).map(|file| file.display().to_string()))
        .collect();
    missing.sort();
    let checked = CheckedBenchmark {
        format: 1,
        name: benchmark.spec.name.clone(),
        title: benchmark.spec.title.clone(),
        scorer: benchmark.spec.scorer.identity(),
        samples: benchmark.samples.len(),
        images: images.len(),
        missing_images: missing.len(),
        samples_sha256: benchmark.samples_sha256(),
        form: benchmark.spec.data.form.clone(),
        data: benchmark.data_root.display().to_string(),
        broken_rows: benchmark.broken.iter().map(|row| row.message.clone()).collect(),
        needs: needs(&benchmark.spec),
        task: task(&benchmark.task),
        prompts: prompts(&benchmark),
    };
    if arguments.json {
        terminal::print_json(&checked)?;
    } else {
        terminal::print(&checked_text(&checked, &missing))?;
    }
    if checked.broken_rows.is_empty() {
        return Ok(Exit::Success);
    }
    let error = anyhow!("{} rows of the data are broken", checked.broken_rows.len());
    Err(Failure::new(Exit::Rejected, error))
}

fn checked_text(checked: &CheckedBenchmark, missing: &[String]) -> String {
    use std::fmt::Write as _;
    let escape = crate::guard::escape::terminal;
    let mut text = format!(
        "{}: {} questions on {} images ({} missing), scorer {}, for {} packages\ndata: {} in {}\nsamples {}\n",
        checked.title,
        checked.samples,
        checked.images,
        checked.missing_images,
        checked.scorer,
        checked.needs,
        checked.form,
        escape(&checked.data),
        checked.samples_sha256,
    );
    // Writing to a String cannot fail.
    if let Some(task) = &checked.task {
        let _ = writeln!(text, "{}", terminal::clean(task));
    }
    for name in missing.iter().take(SHOWN_MISSING) {
        let _ = writeln!(text, "missing image: {}", escape(name));
    }
    if missing.len() > SHOWN_MISSING {
        let _ = writeln!(text, "missing image: … and {} more", missing.len() - SHOWN_MISSING);
    }
    for message in &checked.broken_rows {
        let _ = writeln!(text, "broken row: {}", escape(message));
    }
    let prompts: Vec<String> = checked.prompts.iter().map(|prompt| terminal::clean(prompt)).collect();
    text + &prompts.join("\n\n")
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
        Task::Answer => benchmark.samples.iter().take(SHOWN_PROMPTS).map(shown_prompt).collect(),
        Task::Retrieve(_) => benchmark.samples.iter().take(SHOWN_PROMPTS).map(|sample| sample.prompt.clone()).collect(),
    }
}

/// A prompt as the model is asked, with a mark where each image stands.
fn shown_prompt(sample: &Sample) -> String {
    if sample.conversation.images_at_marks || sample.images.is_empty() || sample.prompt.is_empty() {
        return sample.prompt.clone();
    }
    format!("{}{}", format!("{IMAGE_MARK}\n").repeat(sample.images.len()), sample.prompt)
}
