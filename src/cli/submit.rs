//! `submit`: the answers of a run in the format of the benchmark's server.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;

use super::exit::{Exit, Failure};
use super::{VerbResult, run, terminal};
use crate::benchmark::{Benchmark, SubmissionFormat};
use crate::submission::{SubmissionRequest, make};

/// Arguments of `submit`.
#[derive(Debug, Args)]
pub struct SubmitArguments {
    /// Run directory
    run: PathBuf,
    /// File to write [default: submission.json, .jsonl or .xlsx in the run directory]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Format of the server, such as vqa, vizwiz, gqa, docvqa, st-vqa, mmbench, mmmu, seed-bench, mm-vet, captions, scienceqa
    /// [default: what the benchmark says]
    #[arg(long, value_name = "NAME")]
    format: Option<String>,
    /// The official file of questions, whose order and rows the submission follows; for VQAv2 its test questions, those of
    /// other splits being left empty; for MMBench its table, which is needed
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
    /// Submit questions without an answer as empty answers instead of refusing
    #[arg(long)]
    allow_missing: bool,
}

/// Runs the verb.
pub fn run(arguments: SubmitArguments) -> VerbResult {
    let directories = crate::store::discover(std::slice::from_ref(&arguments.run))?;
    let [directory] = directories.as_slice() else {
        let names: Vec<String> = directories.iter().map(|directory| directory.display().to_string()).collect();
        return Err(Failure::new(Exit::Setup, anyhow!("a submission is made of one run; found {}", names.join(", "))));
    };
    let run = run::open_run(directory)?;
    let format = format(&arguments, &run.header.benchmark.name)?;
    let request = SubmissionRequest { format, questions: arguments.questions.as_deref(), allow_missing: arguments.allow_missing };
    let submission = make(&run, &request)?;
    let path = arguments.output.unwrap_or_else(|| directory.join("submission").with_extension(format.extension()));
    std::fs::write(&path, &submission.bytes)
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(|error| Failure::new(Exit::Output, error))?;
    let empty = match submission.empty {
        0 => String::new(),
        empty => format!(", {empty} of them empty"),
    };
    if let Some(data) = run.header.benchmark.data.as_ref().filter(|data| data.form != "official") {
        let form = crate::guard::escape::terminal(&data.form);
        eprintln!("the questions were read from the form {form} of the data: make sure that its keys are the server's ids");
    }
    eprintln!("{} entries in the format {}{empty}", submission.entries, format.as_str());
    terminal::print(&path.display().to_string())?;
    Ok(Exit::Success)
}

/// The format asked for, or the one that the run's benchmark names.
fn format(arguments: &SubmitArguments, benchmark: &str) -> Result<SubmissionFormat, Failure> {
    let known = || SubmissionFormat::ALL.map(SubmissionFormat::as_str).join(", ");
    if let Some(name) = &arguments.format {
        return SubmissionFormat::by_name(name)
            .ok_or_else(|| Failure::new(Exit::Setup, anyhow!("no submission format is called {name:?}; there are {}", known())));
    }
    Benchmark::specification(benchmark).ok().and_then(|specification| specification.submission).ok_or_else(|| {
        let message = format!("the benchmark {benchmark} names no submission format; give one with --format: {}", known());
        Failure::new(Exit::Setup, anyhow!(message))
    })
}
