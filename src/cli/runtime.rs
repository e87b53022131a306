//! `runtime`: ONNX Runtime before it is needed.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::Exit;
use super::{VerbResult, terminal};
use crate::engine::runtime::{Flavor, Installed, RuntimeSource, install};

/// What `runtime` does.
#[derive(Debug, Subcommand)]
pub enum RuntimeVerb {
    /// Fetch the pinned build into the user's cache folder, through pip and checked by its SHA-256, unless it is there
    Install(InstallArguments),
}

/// Arguments of `runtime install`.
#[derive(Debug, Args)]
pub struct InstallArguments {
    /// Which build
    #[arg(long, value_enum, default_value = "cpu")]
    flavor: FlavorArgument,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FlavorArgument {
    /// For the processor
    Cpu,
    /// For the processor, CUDA 13 and TensorRT 10, whose own libraries are not part of it; 250 MB to fetch
    Cuda,
}

#[derive(Serialize)]
struct InstalledJson {
    format: u32,
    #[serde(flatten)]
    installed: Installed,
}

/// Runs the verb.
pub fn run(verb: RuntimeVerb) -> VerbResult {
    let RuntimeVerb::Install(arguments) = verb;
    let flavor = match arguments.flavor {
        FlavorArgument::Cpu => Flavor::Cpu,
        FlavorArgument::Cuda => Flavor::Cuda,
    };
    let installed = install(flavor, &mut |line| eprintln!("{line}"))?;
    if arguments.json {
        terminal::print_json(&InstalledJson { format: 1, installed })?;
        return Ok(Exit::Success);
    }
    let how = if installed.source == RuntimeSource::Fetched { "installed" } else { "was installed already" };
    let mut lines =
        vec![format!("ONNX Runtime {} ({}) {how} in {}", installed.version, flavor.as_str(), installed.folder.display())];
    for file in &installed.files {
        lines.push(format!("  {:8.1} MB  {}", file.bytes as f64 / 1e6, file.name));
    }
    if flavor == Flavor::Cuda {
        lines.push("`llava-gauge doctor` says which libraries of CUDA, cuDNN and TensorRT there are for it".to_owned());
    }
    terminal::print(&lines.join("\n"))?;
    Ok(Exit::Success)
}
