//! `doctor`: what this machine offers.

use clap::Args;

use super::exit::Exit;
use super::{Globals, VerbResult, terminal};
use crate::engine::runtime::RuntimeOptions;
use crate::engine::runtime::doctor::{DoctorReport, doctor};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb. Finds or fetches ONNX Runtime like every other verb; where that fails the report says why and the exit
/// code is 92.
pub fn run(arguments: DoctorArguments, globals: &Globals) -> VerbResult {
    let options = RuntimeOptions { library: globals.ort_library.clone(), ..RuntimeOptions::default() };
    let report = doctor(&options, &mut |line| eprintln!("{line}"));
    if arguments.json {
        terminal::print_json(&report)?;
    } else {
        terminal::print(&table(&report))?;
    }
    Ok(if report.runtime.is_some() { Exit::Success } else { Exit::Environment })
}

fn table(report: &DoctorReport) -> String {
    let mut lines = vec![
        format!("llava-gauge   {}", env!("CARGO_PKG_VERSION")),
        format!("system        {}, {}", report.machine.operating_system, report.machine.architecture),
        format!("processor     {} ({})", report.machine.cpu, report.machine.cpu_features.join(" ")),
        format!("cores         {} physical, {} logical", report.machine.physical_cores, report.machine.logical_cores),
        format!(
            "memory        {:.1} GiB, {:.1} GiB free",
            report.machine.memory_total_bytes as f64 / GIB,
            report.machine.memory_available_bytes as f64 / GIB
        ),
    ];
    if let Some(cache) = &report.cache {
        lines.push(format!("cache         {}", cache.display()));
    }
    match (&report.runtime, &report.runtime_error) {
        (Some(runtime), _) => {
            lines.push(format!("ONNX Runtime  {} ({:?})", runtime.version, runtime.source));
            lines.push(format!("  library     {}", runtime.library.display()));
            lines.push(format!("  sha256      {}", runtime.sha256));
            lines.push(format!("  providers   {}", report.execution_providers.join(", ")));
        }
        (None, Some(error)) => lines.push(format!("ONNX Runtime  not usable: {error}")),
        (None, None) => {}
    }
    lines.join("\n")
}

const GIB: f64 = (1_u64 << 30) as f64;
