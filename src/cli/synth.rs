//! `synth`: a random checkpoint with the shapes of a real one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::exit::{Exit, Failure};
use super::{Globals, VerbResult, terminal};
use crate::export::synth::{NumberType, SHARD_BYTES, SynthOptions, known_shapes, synth};

/// Arguments of `synth`.
#[derive(Debug, Args)]
pub struct SynthArguments {
    /// Shape: a name of --list, or the path of a config.json of transformers' LLaVA classes
    #[arg(long, value_name = "NAME", required_unless_present = "list")]
    like: Option<String>,
    /// Checkpoint folder to make; it must not exist
    #[arg(short, long, value_name = "DIR", required_unless_present = "list")]
    output: Option<PathBuf>,
    /// List the known shapes
    #[arg(long)]
    list: bool,
    /// Number type of the weights [default: that of the real checkpoint]
    #[arg(long, value_enum, value_name = "TYPE")]
    dtype: Option<TypeArgument>,
    /// Other numbers for another seed
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Outlier channels and a massive first token in the language model, as real ones have, to try quantisation on
    #[arg(long)]
    outliers: bool,
    /// Largest weight file in bytes
    #[arg(long, default_value_t = SHARD_BYTES, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    shard_bytes: u64,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum TypeArgument {
    /// 32-bit floating point
    Fp32,
    /// 16-bit IEEE floating point
    Fp16,
    /// bfloat16
    Bf16,
}

/// Runs the verb.
pub fn run(arguments: SynthArguments, globals: &Globals) -> VerbResult {
    if arguments.list {
        return list(arguments.json);
    }
    let (Some(like), Some(output)) = (arguments.like, arguments.output) else {
        return Err(Failure::new(Exit::Setup, anyhow::anyhow!("--like and --output are needed")));
    };
    let started = Instant::now();
    let made = synth(&SynthOptions {
        like,
        output,
        number_type: arguments.dtype.map(|dtype| match dtype {
            TypeArgument::Fp32 => NumberType::Fp32,
            TypeArgument::Fp16 => NumberType::Fp16,
            TypeArgument::Bf16 => NumberType::Bf16,
        }),
        seed: arguments.seed,
        outliers: arguments.outliers,
        shard_bytes: arguments.shard_bytes,
        threads: globals.threads,
        free_bytes,
        progress: (!globals.no_progress).then(reporter),
    })?;
    let seconds = started.elapsed().as_secs_f64();
    if arguments.json {
        terminal::print_json(&json!({
            "format": 1,
            "folder": made.folder,
            "tensors": made.tensors,
            "parameters": made.parameters,
            "weight_bytes": made.weight_bytes,
            "weight_files": made.shards,
            "dtype": made.number_type.as_str(),
            "seconds": seconds,
        }))?;
    } else {
        terminal::print(&format!(
            "{}: {:.2} billion random parameters in {} tensors, {}, {:.2} GB in {} weight files, in {seconds:.1} s",
            crate::guard::escape::terminal(&made.folder.to_string_lossy()),
            made.parameters as f64 / 1e9,
            made.tensors,
            made.number_type.as_str(),
            made.weight_bytes as f64 / 1e9,
            made.shards,
        ))?;
    }
    Ok(Exit::Success)
}

fn list(json: bool) -> VerbResult {
    if json {
        let shapes: Vec<_> = known_shapes().iter().map(|shape| json!({ "name": shape.name, "about": shape.about })).collect();
        terminal::print_json(&json!({ "format": 1, "shapes": shapes }))?;
    } else {
        let lines: Vec<String> = known_shapes().iter().map(|shape| format!("{:<22}{}", shape.name, shape.about)).collect();
        terminal::print(&lines.join("\n"))?;
    }
    Ok(Exit::Success)
}

/// Bytes free for us on the file system of a folder that exists: of the mount with the longest path above it.
fn free_bytes(folder: &Path) -> Option<u64> {
    let folder = folder.canonicalize().ok()?;
    let disks = sysinfo::Disks::new_with_refreshed_list().ok()?;
    let holding = disks.iter().filter(|disk| folder.starts_with(disk.mount_point()));
    holding.max_by_key(|disk| disk.mount_point().as_os_str().len()).map(sysinfo::Disk::available_space)
}

/// Tells on standard error how far the weights are: a bar on a terminal, else a line at each tenth.
fn reporter() -> Box<dyn Fn(u64, u64) + Send + Sync> {
    if terminal::interactive() {
        let style = ProgressStyle::with_template("writing weights [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} eta {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        let bar = ProgressBar::new(0).with_style(style);
        return Box::new(move |done, total| {
            bar.set_length(total);
            bar.set_position(done);
            if done == total {
                bar.finish_and_clear();
            }
        });
    }
    let (said, started) = (AtomicU64::new(0), Instant::now());
    Box::new(move |done, total| {
        let tenth = done.saturating_mul(10) / total.max(1);
        if said.swap(tenth, Ordering::Relaxed) < tenth {
            let left = started.elapsed().as_secs_f64() * (total - done) as f64 / done.max(1) as f64;
            eprintln!("writing weights: {:.1} of {:.1} GB, eta {left:.0} s", done as f64 / 1e9, total as f64 / 1e9);
        }
    })
}
