//! The cli room: clap types with one file per verb, raw arguments → resolved settings → run, printing, progress, and
//! exit codes.
//!
//! Results go to standard output, everything else to standard error. It must not compute: every number that it prints
//! comes from another room.

mod ask;
mod attribute;
mod baseline;
mod bench;
mod benchmarks;
mod calibrating;
mod choosing;
mod classify;
mod clip;
mod clip_package;
mod clock;
mod compare;
mod conversation;
mod data;
mod demo;
mod doctor;
mod exit;
mod export;
mod exporting;
mod gate;
mod history;
mod judge;
mod judge_progress;
mod loading;
mod local_judge;
mod model;
mod models;
mod package;
mod package_compare;
mod placement;
mod power;
mod precision;
mod progress;
mod provider;
mod report;
mod rescore;
mod run;
mod run_label;
mod runtime;
mod schedule;
mod score;
mod score_output;
mod serve;
mod shipped;
mod submit;
mod supported;
mod synth;
mod terminal;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use exit::Exit;
use exit::Failure;

/// Says whether a LLaVA checkpoint, version, precision or export is better or worse than another, by how much, how fast,
/// and how surely.
#[derive(Debug, Parser)]
#[command(name = "llava-gauge", version, max_term_width = 110, after_help = exit::HELP)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// ONNX Runtime library to load instead of the fetched one
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    ort_lib: Option<std::path::PathBuf>,
    /// Threads that ONNX Runtime uses within a graph [default: physical cores]
    #[arg(long, global = true, value_name = "N", env = "LLAVA_GAUGE_THREADS", help_heading = "Global options")]
    threads: Option<std::num::NonZeroUsize>,
    #[command(flatten)]
    loading: loading::LoadingArguments,
    #[command(flatten)]
    provider: provider::ProviderArguments,
    #[command(flatten)]
    placement: placement::PlacementArguments,
    /// Say more on standard error; twice for ONNX Runtime's own messages
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
    /// No progress on standard error
    #[arg(long, global = true, help_heading = "Global options")]
    no_progress: bool,
}

/// Options of every verb, resolved.
#[derive(Clone, Debug)]
struct Globals {
    ort_library: Option<std::path::PathBuf>,
    threads: Option<usize>,
    no_progress: bool,
    loading: loading::Loading,
    provider: crate::engine::ProviderOptions,
    placement: crate::engine::PlacementOptions,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Evaluate and compare the shipped packages, print the table, and write reports/demo/index.html
    Demo(demo::DemoArguments),
    /// Run packages on benchmarks; the same command again continues an interrupted run
    Run(run::RunArguments),
    /// Compare runs, paired by sample
    Compare(compare::CompareArguments),
    /// Swap the stages of two packages of one family and say which stage makes the difference
    Attribute(attribute::AttributeArguments),
    /// Fail where runs are worse than a baseline, or beyond the limits of a policy; for CI
    Gate(gate::GateArguments),
    /// Keep runs as a baseline for gates
    #[command(subcommand)]
    Baseline(baseline::BaselineVerb),
    /// Write index.html, report.md, results.json and results.csv for runs
    Report(report::ReportArguments),
    /// Show runs over time: trends and where their level changed
    History(history::HistoryArguments),
    /// Show the progress of runs in the browser while they are made
    Serve(serve::ServeArguments),
    /// Turn a LLaVA checkpoint into a package of three ONNX graphs, or a CLIP checkpoint into one of two
    Export(export::ExportArguments),
    /// Make a random checkpoint with the exact shapes of a real one, to measure speed and memory without its weights
    Synth(synth::SynthArguments),
    /// Measure how fast packages are on this machine, and how near its limits
    Bench(bench::BenchArguments),
    /// Ask a package a question about images, also as the next turn of a conversation
    Ask(ask::AskArguments),
    /// Ask a CLIP package which of some labels fits an image
    Classify(classify::ClassifyArguments),
    /// Score predictions that were made elsewhere; no model needed
    Score(score::ScoreArguments),
    /// Score the answers of runs again, by the same or another scorer; no model needed
    Rescore(rescore::RescoreArguments),
    /// Write the answers of a run in the format of the benchmark's server
    Submit(submit::SubmitArguments),
    /// Say how many samples a benchmark needs to show a given drop, from what past runs measured
    Power(power::PowerArguments),
    /// Have the answers of runs read by a judge, an endpoint or a package of this machine; no other model needed
    Judge(judge::JudgeVerbArguments),
    /// Inspect or verify a package
    #[command(subcommand)]
    Package(package::PackageVerb),
    /// List, check or show benchmarks
    #[command(subcommand)]
    Benchmarks(benchmarks::BenchmarksVerb),
    /// List the checkpoints and packages that can be used, and what shows it
    Models(supported::ModelsArguments),
    /// Install ONNX Runtime before it is needed, also the build for GPUs
    #[command(subcommand)]
    Runtime(runtime::RuntimeVerb),
    /// Show versions, the ONNX Runtime library, providers, what GPUs need, processor and cache locations
    Doctor(doctor::DoctorArguments),
}

/// Runs the program on the process's arguments and returns its exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    terminal::start_logging(arguments.verbose);
    let loading = match arguments.loading.resolve() {
        Ok(loading) => loading,
        Err(failure) => {
            eprintln!("error: {:#}", failure.error);
            return failure.exit_code();
        }
    };
    let only_looks = matches!(arguments.verb, Verb::Doctor(_) | Verb::Runtime(_));
    let provider = match arguments.provider.resolve(only_looks) {
        Ok(provider) => provider,
        Err(message) => return usage(message),
    };
    if let Err(message) = loading.check(provider.provider) {
        return usage(message);
    }
    let globals = Globals {
        ort_library: arguments.ort_lib,
        threads: arguments.threads.map(std::num::NonZeroUsize::get),
        no_progress: arguments.no_progress,
        loading,
        provider,
        placement: arguments.placement.resolve(),
    };
    let result = match arguments.verb {
        Verb::Demo(arguments) => demo::run(arguments, &globals),
        Verb::Run(arguments) => run::run(arguments, &globals),
        Verb::Compare(arguments) => compare::run(arguments),
        Verb::Attribute(arguments) => attribute::run(arguments, &globals),
        Verb::Gate(arguments) => gate::run(arguments),
        Verb::Baseline(verb) => baseline::run(verb),
        Verb::Report(arguments) => report::run(arguments),
        Verb::History(arguments) => history::run(arguments),
        Verb::Serve(arguments) => serve::run(arguments),
        Verb::Export(arguments) => export::run(arguments, &globals),
        Verb::Synth(arguments) => synth::run(arguments, &globals),
        Verb::Bench(arguments) => bench::run(arguments, &globals),
        Verb::Ask(arguments) => ask::run(arguments, &globals),
        Verb::Classify(arguments) => classify::run(arguments, &globals),
        Verb::Score(arguments) => score::run(arguments, &globals),
        Verb::Rescore(arguments) => rescore::run(arguments, &globals),
        Verb::Judge(arguments) => judge::run(arguments, &globals),
        Verb::Submit(arguments) => submit::run(arguments),
        Verb::Power(arguments) => power::run(arguments),
        Verb::Package(verb) => package::run(verb, &globals),
        Verb::Benchmarks(verb) => benchmarks::run(verb),
        Verb::Models(arguments) => supported::run(&arguments),
        Verb::Runtime(verb) => runtime::run(verb),
        Verb::Doctor(arguments) => doctor::run(arguments, &globals),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.is_broken_pipe() {
                eprintln!("error: {}", crate::guard::escape::terminal(&format!("{:#}", failure.error)));
            }
            failure.exit_code()
        }
    }
}

/// Says what is wrong with the arguments, as the parser does, and gives its exit code.
fn usage(message: String) -> ExitCode {
    let error = Arguments::command().error(clap::error::ErrorKind::ArgumentConflict, message);
    // There is nowhere to tell that standard error cannot be written.
    let _ = error.print();
    ExitCode::from(2)
}

/// Result of a verb.
type VerbResult = Result<Exit, Failure>;
