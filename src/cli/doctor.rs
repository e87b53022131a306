//! `doctor`: what this machine offers.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::{Globals, VerbResult, loading, terminal};
use crate::engine::provider::GpuReport;
use crate::engine::runtime::RuntimeOptions;
use crate::engine::runtime::doctor::{DoctorReport, doctor};
use crate::engine::{CachedGraph, cached_graphs, clear_cache};
use crate::guard::escape;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Empty the cache of packed weights (that of --prepacked-cache, or the user's own) instead of looking at the machine
    #[arg(long)]
    clear_prepacked_cache: bool,
}

/// What `doctor --json` prints.
#[derive(Serialize)]
struct DoctorJson<'a> {
    #[serde(flatten)]
    report: &'a DoctorReport,
    prepacked_cache: PrepackedCache,
}

/// The cache of packed weights.
#[derive(Serialize)]
struct PrepackedCache {
    /// Its folder; `None` if the user has no cache folder.
    folder: Option<PathBuf>,
    /// Bytes of all entries.
    bytes: u64,
    /// The most recently used first.
    graphs: Vec<CachedGraph>,
}

/// What `doctor --clear-prepacked-cache --json` prints.
#[derive(Serialize)]
struct ClearedJson {
    format: u32,
    folder: PathBuf,
    removed_graphs: usize,
    removed_bytes: u64,
}

/// Runs the verb. Finds or fetches ONNX Runtime like every other verb; where that fails the report says why and the exit
/// code is 92.
pub fn run(arguments: DoctorArguments, globals: &Globals) -> VerbResult {
    if arguments.clear_prepacked_cache {
        return clear(&arguments, globals);
    }
    let folder = globals.loading.prepacked_cache.clone().or_else(|| loading::automatic().ok());
    let graphs = folder.as_deref().map(cached_graphs).unwrap_or_default();
    let cache = PrepackedCache { bytes: graphs.iter().map(|graph| graph.bytes).sum(), folder, graphs };
    let options = RuntimeOptions {
        library: globals.ort_library.clone(),
        provider: globals.provider.provider,
        cuda_libraries: globals.provider.library_folder.clone(),
        ..RuntimeOptions::default()
    };
    let report = doctor(&options, &mut |line| eprintln!("{line}"));
    if arguments.json {
        terminal::print_json(&DoctorJson { report: &report, prepacked_cache: cache })?;
    } else {
        // Where there is no GPU and nobody asks for one, what it would need is of no interest.
        let asked = globals.provider.provider.is_gpu() || globals.provider.library_folder.is_some();
        terminal::print(&table(&report, &cache, asked || !report.gpu.equipment.devices.nodes.is_empty()))?;
    }
    Ok(if report.runtime.is_some() { Exit::Success } else { Exit::Environment })
}

fn clear(arguments: &DoctorArguments, globals: &Globals) -> VerbResult {
    let folder = match &globals.loading.prepacked_cache {
        Some(folder) => folder.clone(),
        None => loading::automatic()?,
    };
    let (removed_graphs, removed_bytes) =
        clear_cache(&folder).map_err(|error| Failure::new(Exit::Output, anyhow!("cannot empty the cache: {error}")))?;
    if arguments.json {
        terminal::print_json(&ClearedJson { format: 1, folder, removed_graphs, removed_bytes })?;
    } else {
        let gib = removed_bytes as f64 / GIB;
        terminal::print(&format!("removed {removed_graphs} packed graphs, {gib:.1} GiB, from {}", folder.display()))?;
    }
    Ok(Exit::Success)
}

fn table(report: &DoctorReport, cache: &PrepackedCache, with_gpus: bool) -> String {
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
            for placed in &report.placement {
                let (share, nodes) = (100.0 * placed.node_share(), placed.nodes + placed.nodes_elsewhere);
                let noun = if nodes == 1 { "node" } else { "nodes" };
                lines.push(format!("  placement   {} {share:.0} % of {nodes} {noun} of {}", placed.provider, placed.graph));
            }
        }
        (None, Some(error)) => lines.push(format!("ONNX Runtime  not usable: {error}")),
        (None, None) => {}
    }
    match with_gpus {
        true => lines.extend(gpu_lines(&report.gpu)),
        false => lines.push("GPUs          none found (doctor --provider cuda says what they need)".to_owned()),
    }
    if let Some(folder) = &cache.folder {
        lines.push(format!("packed        {} ({:.1} GiB)", folder.display(), cache.bytes as f64 / GIB));
        for graph in &cache.graphs {
            let (package, size) = (escape::terminal(&graph.package), graph.bytes as f64 / GIB);
            lines.push(format!("  {size:5.1} GiB   {} of {package}", escape::terminal(&graph.graph)));
        }
    }
    lines.join("\n")
}

/// What GPUs need and what there is of it.
fn gpu_lines(gpu: &GpuReport) -> Vec<String> {
    let devices = &gpu.equipment.devices;
    let shown = |path: &Option<PathBuf>| path.as_ref().map_or_else(|| "missing".to_owned(), |path| path.display().to_string());
    let nodes: Vec<String> = devices.nodes.iter().map(|node| node.display().to_string()).collect();
    let found = if nodes.is_empty() { "none found".to_owned() } else { nodes.join(", ") };
    let models = if devices.models.is_empty() { String::new() } else { format!(" ({})", devices.models.join(", ")) };
    let version = devices.driver_version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
    let runtime = match (gpu.runtime_in_use, gpu.runtime_installed) {
        (true, _) => "the one in use",
        (false, true) => "installed",
        (false, false) => "not installed (llava-gauge runtime install --flavor cuda)",
    };
    let mut lines = vec![
        format!("GPUs          {}", escape::terminal(&format!("{found}{models}"))),
        format!("  driver      {}", escape::terminal(&format!("libcuda.so.1: {}{version}", shown(&devices.driver_library)))),
        format!("  runtime     ONNX Runtime for CUDA and TensorRT: {runtime}"),
    ];
    for sighting in &gpu.equipment.libraries {
        let need = match (&sighting.path, sighting.required) {
            (None, true) => format!(", needed: Python package {}", sighting.python_package),
            (None, false) => format!(", not always needed: Python package {}", sighting.python_package),
            (Some(_), _) => String::new(),
        };
        lines.push(escape::terminal(&format!("  {:<12}{}: {}{need}", sighting.part, sighting.library, shown(&sighting.path))));
    }
    for provider in &gpu.providers {
        match provider.ready {
            true => lines.push(format!("  {:<12}can be used", provider.provider)),
            false => lines.push(escape::terminal(&format!(
                "  {:<12}cannot be used: {}",
                provider.provider,
                provider.reasons.join("; ")
            ))),
        }
    }
    lines
}

const GIB: f64 = (1_u64 << 30) as f64;
