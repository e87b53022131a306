//! `export --calibrate`: quantisation by what really goes into the layers.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::data::{DataArguments, warn_of_broken_rows};
use super::exit::{Exit, Failure};
use super::run::StopSignal;
use super::{Globals, model, terminal};
use crate::calibration::{CalibrationError, Collected, Collection, collect};
use crate::engine::Scheduling;
use crate::export::{Calibration, ExportOptions, GramMatrix, InputStatistics, Int4Method, export};
use crate::guard::escape;
use crate::package::{CalibrationRecord, Package, Precision, StageName};
use crate::run::Plan;

/// Options about calibration.
#[derive(Debug, Args)]
#[command(next_help_heading = "Calibration")]
pub struct CalibrationArguments {
    /// Quantise int8 and int4 by what really goes into the layers when N samples of a benchmark are asked: NAME:N, or N alone with
    /// --metric
    #[arg(long, value_name = "BENCHMARK:N")]
    calibrate: Option<Asked>,
    /// fp32 package of the same checkpoint to ask [default: one that is made beside the output and removed again]
    #[arg(long, value_name = "PACKAGE", requires = "calibrate")]
    calibrate_from: Option<PathBuf>,
    /// How 4-bit codes are chosen [default: gptq]
    #[arg(long, value_enum, value_name = "METHOD", requires = "calibrate")]
    method: Option<MethodArgument>,
    /// Share of the inputs' range that is moved into int8 weights channel by channel, from 0 (none) to 1 [default: 0.5]
    #[arg(long, value_name = "ALPHA", requires = "calibrate", value_parser = share)]
    smoothing: Option<f32>,
    #[command(flatten)]
    data: DataArguments,
}

/// What to ask.
#[derive(Clone, Debug)]
struct Asked {
    benchmark: Option<String>,
    samples: usize,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum MethodArgument {
    /// The best scale of each block, then plain rounding
    Rtn,
    /// Rounding with error feedback
    Gptq,
}

/// Smoothing unless another share is asked for: the one that the paper takes for most models.
const SMOOTHING: f32 = 0.5;
/// Memory for matrices that are collected together; the runtime holds as much again.
const GRAM_MEMORY_BYTES: u64 = 1 << 30;
/// Most tokens of an answer that are looked at.
const MAX_NEW_TOKENS: usize = 128;
/// Between two lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl std::str::FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (benchmark, samples) = match text.rsplit_once(':') {
            Some((name, samples)) => (Some(name), samples),
            None => (None, text),
        };
        let wrong = || format!("expected BENCHMARK:N with a number of samples of at least 1, found {text:?}");
        let samples = samples.parse().ok().filter(|&samples| samples > 0).ok_or_else(wrong)?;
        if benchmark == Some("") {
            return Err(wrong());
        }
        Ok(Self { benchmark: benchmark.map(str::to_owned), samples })
    }
}

fn share(text: &str) -> Result<f32, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| format!("expected a number from 0 to 1, found {text:?}"))
}

/// A calibration, and the temporary folder that its matrices stand in; the folder goes with it.
pub struct Calibrated {
    /// For the export.
    pub calibration: Calibration,
    scratch: Scratch,
    stop: StopSignal,
}

impl Calibrated {
    /// Ends the program if the stop signal came while weights are written, which cannot be continued.
    pub fn end_if_stopped(&self) {
        if let Some(exit) = self.stop.exit() {
            self.scratch.remove();
            std::process::exit(exit as i32);
        }
    }
}

/// A temporary folder beside the output, where there is room for what an export needs.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(output: &Path) -> Result<Self, Failure> {
        let fail = |error: anyhow::Error| Failure::new(Exit::Output, error);
        let output = std::path::absolute(output).with_context(|| format!("cannot resolve {}", output.display())).map_err(fail)?;
        let name = output.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = output.with_file_name(format!(".{name}.calibration-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display())).map_err(fail)?;
        Ok(Self(folder))
    }

    fn remove(&self) {
        // It lies under a name that says what it was; that is all that can be done about it here.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}

/// How calibrating ended.
pub enum Outcome {
    /// None was asked for.
    NotAsked,
    /// The stop signal came.
    Stopped(Exit),
    /// Done.
    Done(Box<Calibrated>),
}

impl CalibrationArguments {
    /// Asks the samples, if a calibration was asked for.
    pub fn calibrate(&self, options: &ExportOptions, globals: &Globals) -> Result<Outcome, Failure> {
        let Some(asked) = &self.calibrate else {
            if self.data.data.is_some() {
                let error = anyhow!("--data and --metric say what --calibrate asks, which is not given");
                return Err(Failure::new(Exit::Setup, error));
            }
            return Ok(Outcome::NotAsked);
        };
        let (method, smoothing) = (self.chosen_method(), self.smoothing.unwrap_or(SMOOTHING));
        let wanted = |_: StageName, weight: &str| -> Option<bool> {
            match options.precision.of_weight(weight).ok()? {
                Precision::Int4 => Some(method == Int4Method::ErrorFeedback),
                // Layers behind no norm are not smoothed.
                Precision::Int8 if smoothing > 0.0 && behind_norm(weight) => Some(false),
                _ => None,
            }
        };
        self.check(options, smoothing)?;
        let benchmark = self.data.load(asked.benchmark.as_deref())?;
        warn_of_broken_rows(&benchmark);
        let plan = Plan::new(&benchmark.samples, Some(asked.samples));
        if plan.samples() == 0 {
            let error = anyhow!("no sample of {} was selected", benchmark.spec.name);
            return Err(Failure::new(Exit::NothingSelected, error));
        }
        let stop = StopSignal::install()?;
        let scratch = Scratch::beside(&options.output)?;
        let package = self.package(options, &scratch, globals)?;
        let progress = reporter(globals.no_progress);
        let collection = Collection {
            benchmark: &benchmark,
            plan: &plan,
            max_new_tokens: benchmark.spec.max_new_tokens.clamp(1, MAX_NEW_TOKENS),
            wanted: &wanted,
            gram_memory_bytes: GRAM_MEMORY_BYTES,
            gram_file: &scratch.0.join("grams"),
            stop: stop.flag(),
            progress: &progress,
        };
        let collected = match collect(&package, &model::engine_options(globals, Scheduling::PackedTree), &collection) {
            Err(CalibrationError::Interrupted) => return Ok(Outcome::Stopped(stop.exit().unwrap_or(Exit::Interrupted))),
            other => other?,
        };
        for message in collected.left_out.iter().take(5) {
            eprintln!("left out of the calibration: {}", escape::terminal(message));
        }
        let calibration = made(collected, &benchmark.spec.name, method, smoothing);
        Ok(Outcome::Done(Box::new(Calibrated { calibration, scratch, stop })))
    }

    /// CLIP packages are asked no questions.
    pub fn refuse_for_clip(&self) -> Result<(), Failure> {
        if self.calibrate.is_none() {
            return Ok(());
        }
        let error = anyhow!("--calibrate asks a LLaVA package questions, which a CLIP checkpoint cannot answer");
        Err(Failure::new(Exit::Setup, error))
    }

    fn chosen_method(&self) -> Int4Method {
        match self.method {
            Some(MethodArgument::Rtn) => Int4Method::ScaleSearch,
            Some(MethodArgument::Gptq) => Int4Method::ErrorFeedback,
            None => Int4Method::default(),
        }
    }

    /// Refuses options that would change nothing.
    fn check(&self, options: &ExportOptions, smoothing: f32) -> Result<(), Failure> {
        const LAYERS: [&str; 4] = [
            "vision.encoder.layers.0.mlp.fc1.weight",
            "projector.linear_1.weight",
            "llm.layers.0.mlp.up_proj.weight",
            "llm.lm_head.weight",
        ];
        let mut found = Vec::with_capacity(LAYERS.len());
        for layer in LAYERS {
            found.push((options.precision.of_weight(layer)?, behind_norm(layer)));
        }
        let any_int4 = found.iter().any(|(precision, _)| *precision == Precision::Int4);
        let any_int8 = found.contains(&(Precision::Int8, true));
        let problem = if !any_int4 && !any_int8 {
            "--calibrate guides int8 and int4, of which this export has none"
        } else if self.method.is_some() && !any_int4 {
            "--method says how 4-bit codes are chosen, of which this export has none"
        } else if self.smoothing.is_some() && !any_int8 {
            "--smoothing is for int8 layers of the vision encoder and the language model, of which this export has none"
        } else if !any_int4 && smoothing == 0.0 {
            "without smoothing, --calibrate changes nothing of int8"
        } else {
            return Ok(());
        };
        Err(Failure::new(Exit::Setup, anyhow!("{problem}")))
    }

    /// The fp32 package that is asked.
    fn package(&self, options: &ExportOptions, scratch: &Scratch, globals: &Globals) -> Result<Package, Failure> {
        if let Some(given) = &self.calibrate_from {
            return model::open(given, None);
        }
        let plain = ExportOptions {
            base: options.base.clone(),
            vision_tower: options.vision_tower.clone(),
            name: Some("calibration".to_owned()),
            image_aspect: options.image_aspect,
            conversation: options.conversation.clone(),
            ..ExportOptions::new(&options.checkpoint, scratch.0.join("package"))
        };
        let package = export(&plain)?;
        let written = package.manifest.files.iter().find(|file| file.name == "weights.safetensors");
        if let Some(written) = written.filter(|_| !globals.no_progress) {
            eprintln!(
                "asking an fp32 export of the checkpoint in {}, {:.1} MB written",
                scratch.0.display(),
                written.bytes as f64 / 1e6
            );
        }
        Ok(package)
    }
}

/// Whether a norm gives the inputs of a layer.
fn behind_norm(weight: &str) -> bool {
    ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "fc1"]
        .iter()
        .any(|name| weight.trim_end_matches(".weight").rsplit('.').next() == Some(name))
}

fn made(collected: Collected, benchmark: &str, method: Int4Method, smoothing: f32) -> Calibration {
    let mut inputs = std::collections::BTreeMap::new();
    for input in collected.inputs {
        let statistics = Arc::new(InputStatistics {
            rows: input.rows,
            absolute_maximum: input.absolute_maximum,
            mean_square: input.mean_square,
            gram: input.gram.map(|place| GramMatrix { file: place.file, offset: place.offset }),
        });
        for weight in input.weights {
            // A head that is the token table goes by the table's name in an fp32 graph, and by its own in others.
            let weight = if weight == "llm.embed_tokens.weight" { "llm.lm_head.weight" } else { &weight };
            inputs.insert(weight.trim_end_matches(".weight").to_owned(), Arc::clone(&statistics));
        }
    }
    let record = CalibrationRecord {
        benchmark: benchmark.to_owned(),
        samples: collected.samples as u64,
        keys_sha256: collected.keys_sha256,
    };
    Calibration { inputs, record, method, smoothing }
}

/// Tells on standard error how far a calibration is: a bar on a terminal, else a line now and then.
fn reporter(silent: bool) -> impl Fn(usize, usize) {
    let bar = (!silent && terminal::interactive()).then(|| {
        let style = ProgressStyle::with_template("calibrating [{bar:24}] {pos}/{len} prompts eta {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        ProgressBar::new(0).with_style(style)
    });
    let started = Instant::now();
    let last = Cell::new(started);
    move |done, total| match &bar {
        _ if silent => {}
        Some(bar) => {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            if done == total {
                bar.finish_and_clear();
            }
        }
        None => {
            if done == total || last.get().elapsed() >= LINE_EVERY {
                last.set(Instant::now());
                let left = started.elapsed().as_secs_f64() / done.max(1) as f64 * (total - done.min(total)) as f64;
                eprintln!("calibrating: {done}/{total} prompts, {left:.0} s left");
            }
        }
    }
}
