//! Which data a verb reads: a benchmark's, or the user's own questions with a metric.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;

use super::exit::{Exit, Failure};
use crate::benchmark::{Benchmark, DataChoice, OwnData, own_metrics};
use crate::guard::escape;

/// Options about data.
#[derive(Clone, Debug, Default, Args)]
pub struct DataArguments {
    /// Folder of the benchmark's data files, or the file of a benchmark that has one; with --metric, a file of your own questions
    /// (JSON Lines, JSON, CSV, TSV or parquet: image, question, answer; id, category, options, box as needed)
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Form of the data to read, such as official or parquet [default: the first that is there]
    #[arg(long, value_name = "NAME", conflicts_with = "metric")]
    pub form: Option<String>,
    /// Metric for your own questions in --data, such as vqa, yes-no or grounding
    #[arg(long, value_name = "NAME", requires = "data")]
    pub metric: Option<String>,
    /// Prompt for your own questions, with {question} and where needed {options} and {context} [default: LLaVA-1.5's for the metric]
    #[arg(long, value_name = "TEMPLATE", requires = "metric")]
    pub prompt: Option<String>,
}

/// Broken rows that are shown.
const SHOWN: usize = 5;

impl DataArguments {
    /// Loads a benchmark, or the user's own questions where none is named.
    pub fn load(&self, benchmark: Option<&str>) -> Result<Benchmark, Failure> {
        match (benchmark, &self.metric, &self.data) {
            (Some(_), Some(_), _) => {
                Err(Failure::new(Exit::Setup, anyhow!("--metric is for questions of your own; a benchmark has a scorer already")))
            }
            (Some(name), None, data) => {
                let choice = DataChoice { data: data.as_deref(), form: self.form.as_deref(), hub_cache: None };
                Ok(Benchmark::load_chosen(name, &choice)?)
            }
            (None, Some(metric), Some(data)) => {
                let known = own_metrics();
                if !known.contains(metric) {
                    let error = anyhow!("no metric is called {metric:?}; there are {}", known.join(", "));
                    return Err(Failure::new(Exit::Setup, error));
                }
                Ok(Benchmark::own(&OwnData { file: data, metric, prompt: self.prompt.as_deref() })?)
            }
            _ => Err(Failure::new(Exit::Setup, anyhow!("name a benchmark, or give --data FILE with --metric NAME"))),
        }
    }
}

/// Says on standard error which rows of a benchmark's data are broken.
pub fn warn_of_broken_rows(benchmark: &Benchmark) {
    if benchmark.broken.is_empty() {
        return;
    }
    eprintln!("{}: {} rows are broken and left out", benchmark.spec.name, benchmark.broken.len());
    for row in benchmark.broken.iter().take(SHOWN) {
        eprintln!("  {}", escape::terminal(&row.message));
    }
    if benchmark.broken.len() > SHOWN {
        eprintln!("  … (`benchmarks check` lists all)");
    }
}
