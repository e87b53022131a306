//! `export`: checkpoint → package.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::calibrating::{CalibrationArguments, Outcome};
use super::exit::Exit;
use super::models::Models;
use super::precision::PrecisionArguments;
use super::{Globals, VerbResult, terminal};
use crate::export::{ExportOptions, ExportProgress, export, export_clip, is_clip_checkpoint};
use crate::package::{AspectMode, ClipPackage, GraphFlavor};
use crate::store::ModelIdentity;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// Checkpoint: LLaVA in Hugging Face or original format, or CLIP itself in Hugging Face format; a folder, or
    /// hf://org/name[@revision] of the local cache
    checkpoint: PathBuf,
    /// Package folder; may be the checkpoint folder itself
    #[arg(short, long, value_name = "PACKAGE")]
    output: PathBuf,
    /// Base model, for a delta, a LoRA adapter or a projector alone; a folder or hf:// name
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
    /// CLIP or SigLIP checkpoint, for original checkpoints without their tower; a folder or hf:// name
    #[arg(long, value_name = "MODEL")]
    vision_tower: Option<PathBuf>,
    /// Fetch what the cache lacks of hf:// names from the hub that HF_ENDPOINT names
    #[arg(long)]
    download: bool,
    /// Name shown in tables [default: the package folder's name]
    #[arg(long)]
    name: Option<String>,
    /// Override how images that are not square are fitted
    #[arg(long, value_enum, value_name = "MODE")]
    image_aspect: Option<AspectArgument>,
    /// Override the prompt template by a name of LLaVA's conversation.py, such as vicuna_v1 or qwen_1_5
    #[arg(long, value_name = "NAME")]
    conversation: Option<String>,
    /// Operators of the graphs: ONNX Runtime's fused ones, or standard ones alone (opset 24), for TensorRT and for whatever knows no others
    #[arg(long, value_enum, value_name = "FLAVOR", default_value = "contrib", hide_possible_values = true)]
    flavor: FlavorArgument,
    #[command(flatten)]
    precision: PrecisionArguments,
    #[command(flatten)]
    calibration: CalibrationArguments,
    /// Replace a different package in the output folder
    #[arg(long)]
    force: bool,
    /// Print the manifest as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum AspectArgument {
    /// Shortest-edge resize and centre crop (LLaVA v1)
    Square,
    /// Expand to a square with the mean colour (LLaVA-1.5)
    Pad,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FlavorArgument {
    /// Fused operators of ONNX Runtime: fastest on the processor
    Contrib,
    /// Standard operators alone
    Standard,
}

/// Runs the verb.
pub fn run(arguments: ExportArguments, globals: &Globals) -> VerbResult {
    let started = Instant::now();
    let named = [Some(&arguments.checkpoint), arguments.base.as_ref(), arguments.vision_tower.as_ref()];
    let models = Models::new(named.into_iter().flatten().map(PathBuf::as_path), arguments.download, globals.no_progress)?;
    let folder = |model: Option<PathBuf>| model.map(|model| models.folder(&model)).transpose();
    let progress = (!globals.no_progress).then(export_reporter);
    let mut options = ExportOptions {
        checkpoint: models.folder(&arguments.checkpoint)?,
        output: arguments.output,
        base: folder(arguments.base)?,
        vision_tower: folder(arguments.vision_tower)?,
        name: arguments.name,
        image_aspect: arguments.image_aspect.map(|mode| match mode {
            AspectArgument::Square => AspectMode::Square,
            AspectArgument::Pad => AspectMode::Pad,
        }),
        conversation: arguments.conversation,
        precision: arguments.precision.choice(),
        flavor: match arguments.flavor {
            FlavorArgument::Contrib => GraphFlavor::Contrib,
            FlavorArgument::Standard => GraphFlavor::Standard,
        },
        calibration: None,
        force: arguments.force,
        progress,
    };
    if is_clip_checkpoint(&options.checkpoint)? {
        arguments.calibration.refuse_for_clip()?;
        return report_clip(&export_clip(&options)?, arguments.json, started);
    }
    // Held until the weights are written: its matrices stand in a temporary folder.
    let calibrated = match arguments.calibration.calibrate(&options, globals)? {
        Outcome::NotAsked => None,
        Outcome::Stopped(exit) => return Ok(exit),
        Outcome::Done(calibrated) => Some(Arc::new(*calibrated)),
    };
    if let Some(calibrated) = &calibrated {
        options.calibration = Some(calibrated.calibration.clone());
        let (calibrated, report) = (Arc::clone(calibrated), options.progress.take());
        options.progress = Some(Box::new(move |progress| {
            report.iter().for_each(|report| report(progress));
            calibrated.end_if_stopped();
        }));
    }
    let package = export(&options)?;
    drop(options);
    drop(calibrated);
    if arguments.json {
        terminal::print_json(&package.manifest)?;
    } else {
        let manifest = &package.manifest;
        terminal::print(&format!(
            "{}: {} ({}, {}), vision {} px → {} tokens, llm {} layers × {}, in {:.1} s",
            package.root.display(),
            manifest.name,
            manifest.source.model_type,
            precision(&super::model::identity(&package)),
            manifest.vision.image_size,
            manifest.vision.tokens_per_image,
            manifest.llm.layers,
            manifest.llm.hidden_size,
            started.elapsed().as_secs_f64()
        ))?;
    }
    Ok(Exit::Success)
}

/// The precision of a package, with its operators where they are not the usual ones.
fn precision(model: &ModelIdentity) -> String {
    let flavor = model.flavor.as_ref().map(|flavor| format!(", {flavor} operators")).unwrap_or_default();
    format!("{}{flavor}", model.precision)
}

/// Says what became of a CLIP checkpoint.
fn report_clip(package: &ClipPackage, json: bool, started: Instant) -> VerbResult {
    let manifest = &package.manifest;
    if json {
        terminal::print_json(manifest)?;
        return Ok(Exit::Success);
    }
    terminal::print(&format!(
        "{}: {} (clip, {}), vision {} px, {} layers × {}, text {} layers × {}, embeddings of {}, in {:.1} s",
        package.root.display(),
        manifest.name,
        precision(&super::clip::identity(package)),
        manifest.vision.image_size,
        manifest.vision.layers,
        manifest.vision.hidden_size,
        manifest.text.layers,
        manifest.text.hidden_size,
        manifest.projection_size,
        started.elapsed().as_secs_f64()
    ))?;
    Ok(Exit::Success)
}

/// Tells on standard error how far an export is: a bar on a terminal while weights are written, else one line a step.
fn export_reporter() -> Box<dyn Fn(ExportProgress) + Send + Sync> {
    let bar = terminal::interactive().then(|| {
        let style = ProgressStyle::with_template("writing weights [{bar:24}] {bytes}/{total_bytes} eta {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        ProgressBar::hidden().with_style(style)
    });
    let announced = AtomicBool::new(false);
    Box::new(move |progress| match (progress, &bar) {
        (ExportProgress::Reading, _) => eprintln!("reading configuration and tensor headers"),
        (ExportProgress::Writing { done_bytes, total_bytes }, Some(bar)) => {
            if !announced.swap(true, Ordering::Relaxed) {
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.set_length(total_bytes);
            }
            bar.set_position(done_bytes);
            if done_bytes == total_bytes {
                bar.finish_and_clear();
            }
        }
        (ExportProgress::Writing { total_bytes, .. }, None) => {
            if !announced.swap(true, Ordering::Relaxed) {
                eprintln!("writing weights.safetensors, {:.1} MB", total_bytes as f64 / 1e6);
            }
        }
        (ExportProgress::Linking, _) => eprintln!("linking and hashing the checkpoint's weights"),
        (ExportProgress::Finishing, _) => eprintln!("checking the package"),
    })
}
