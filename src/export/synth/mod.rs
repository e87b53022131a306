//! Random checkpoints with the exact shapes of real ones, so that speed, memory and export can be measured without anybody's
//! weights.
//!
//! Owns the shapes that are known by name, the tensors that a configuration implies, the counter-based generator that fills
//! them, and the tokenizer and other small files. What is written loads in transformers and in this program's own export. It must
//! not run models.

mod folder;
mod numbers;
mod shape;
mod shards;
mod small_files;
mod tensors;

use std::path::{Path, PathBuf};

use super::ExportError;
use super::config::Config;
use super::families::Checkpoint;
use super::files::CheckpointFiles;
use crate::guard::files::GuardError;
use folder::PartialFolder;
pub use numbers::NumberType;
pub use shape::{KnownShape, known_shapes};
use shards::Shard;
use tensors::Tensor;

/// Largest configuration file given as a shape.
const CONFIG_LIMIT_BYTES: u64 = 16 << 20;

/// What to make.
pub struct SynthOptions {
    /// Name of a known shape, or the path of a `config.json` of transformers' LLaVA classes.
    pub like: String,
    /// Folder that is made; it must not exist.
    pub output: PathBuf,
    /// Number type of all tensors; the one of the configuration (`dtype`, else fp32) when absent.
    pub number_type: Option<NumberType>,
    /// Says which numbers; the same seed gives the same bytes on every machine.
    pub seed: u64,
    /// Gives the language model what makes quantisation hard in real ones: four channels whose activations are 30 times the others',
    /// and a first token with a massive activation.
    pub outliers: bool,
    /// Most bytes of a weight file.
    pub shard_bytes: u64,
    /// Threads that make numbers; all cores when absent.
    pub threads: Option<usize>,
    /// Bytes free at a folder, if the caller can tell.
    pub free_bytes: fn(&Path) -> Option<u64>,
    /// Told the bytes of weights written so far, and of all.
    pub progress: Option<Box<dyn Fn(u64, u64) + Send + Sync>>,
}

/// Most bytes of a weight file unless told otherwise, the size that most published checkpoints keep to.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synthesised {
    /// The folder.
    pub folder: PathBuf,
    /// Tensors.
    pub tensors: usize,
    /// Numbers in them.
    pub parameters: u64,
    /// Bytes of all weight files.
    pub weight_bytes: u64,
    /// Weight files.
    pub shards: usize,
    /// Number type.
    pub number_type: NumberType,
}

/// Why no checkpoint was made.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// Neither a known name nor a file.
    #[error("{like:?} is no known shape and no file; known: {known}, or the path of a config.json")]
    Unknown {
        /// What was asked for.
        like: String,
        /// Known names.
        known: String,
    },
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ExportError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] GuardError),
    /// Something stands in the output's place.
    #[error("{folder} exists; a checkpoint is never overwritten: remove it, or give another folder")]
    Exists {
        /// The output folder.
        folder: PathBuf,
    },
    /// Another process makes the same checkpoint.
    #[error("{folder} is being made by another process")]
    Busy {
        /// The output folder.
        folder: PathBuf,
    },
    /// The disk is too small.
    #[error("{folder} needs {:.1} GB, but only {:.1} GB are free there", *needed_bytes as f64 / 1e9, *free_bytes as f64 / 1e9)]
    DiskSpace {
        /// The output folder.
        folder: PathBuf,
        /// Bytes that it takes.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Its words.
        source: std::io::Error,
    },
    /// The tokenizer cannot have these special tokens.
    #[error("{file}: {message}")]
    Tokens {
        /// The configuration.
        file: PathBuf,
        /// Which tokens clash, and why.
        message: String,
    },
    /// What was written does not read back: a defect of this program.
    #[error("the checkpoint does not read back: {0}")]
    ReadBack(ExportError),
    /// The threads could not be started.
    #[error("cannot start threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// Makes a random checkpoint. The output folder appears whole or not at all.
pub fn synth(options: &SynthOptions) -> Result<Synthesised, SynthError> {
    let (file, text) = configuration(&options.like)?;
    let mut config = Config::of_bytes(&file, text.as_bytes())?;
    let number_type = match options.number_type {
        Some(number_type) => number_type,
        None => NumberType::of_config(&config)?,
    };
    config.set("dtype", number_type.config_name().into());
    let checkpoint = Checkpoint::of_config(&CheckpointFiles::configuration_only(Path::new("")), config, None)?;
    let tensors = tensors::list(&checkpoint, options.outliers)?;
    let shards = Shard::plan(&tensors, number_type, options.shard_bytes);
    let small = small_files::make(&checkpoint, &shards, number_type)?;

    let weight_bytes: u64 = shards.iter().map(Shard::file_bytes).sum();
    let needed_bytes = weight_bytes.saturating_add(small.iter().map(|(_, bytes)| bytes.len() as u64).sum());
    if options.output.symlink_metadata().is_ok() {
        return Err(SynthError::Exists { folder: options.output.clone() });
    }
    let parent = options.output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Some(free_bytes) = (options.free_bytes)(existing(parent))
        && free_bytes < needed_bytes
    {
        return Err(SynthError::DiskSpace { folder: options.output.clone(), needed_bytes, free_bytes });
    }

    let partial = PartialFolder::open(&options.output)?;
    for (name, bytes) in &small {
        partial.write_small(name, bytes)?;
    }
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = options.threads {
        pool = pool.num_threads(threads);
    }
    let pool = pool.build()?;
    let data_bytes = shards.iter().map(|shard| shard.data_bytes).sum();
    let mut done_bytes = 0;
    for shard in &shards {
        partial.write(&shard.name, |out| {
            shard.write(out, options.seed, &pool, &mut |bytes| {
                done_bytes += bytes;
                if let Some(progress) = &options.progress {
                    progress(done_bytes, data_bytes);
                }
            })
        })?;
    }
    // The export's own reader has the last word on whether this is a checkpoint.
    let read_back = CheckpointFiles::recognise(partial.path(), None).and_then(|files| Checkpoint::read(&files, None));
    let read_back = read_back.and_then(|found| found.tensors.check(&checkpoint.architecture));
    read_back.map_err(SynthError::ReadBack)?;
    partial.commit()?;
    Ok(Synthesised {
        folder: options.output.clone(),
        tensors: tensors.len(),
        parameters: tensors.iter().map(Tensor::count).sum(),
        weight_bytes,
        shards: shards.len(),
        number_type,
    })
}

/// The configuration of a known shape or of a file, and the name that messages give it.
fn configuration(like: &str) -> Result<(PathBuf, String), SynthError> {
    if let Some(shape) = known_shapes().into_iter().find(|shape| shape.name.eq_ignore_ascii_case(like)) {
        return Ok((PathBuf::from(format!("{}.json", shape.name)), shape.config.to_owned()));
    }
    let path = PathBuf::from(like);
    if path.is_file() {
        let text = crate::guard::files::read_text_capped(&path, CONFIG_LIMIT_BYTES)?;
        return Ok((path, text));
    }
    let known = known_shapes().into_iter().map(|shape| shape.name).collect::<Vec<_>>().join(", ");
    Err(SynthError::Unknown { like: like.to_owned(), known })
}

/// The nearest folder at or above this one that exists.
fn existing(folder: &Path) -> &Path {
    folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."))
}

/// Name and shape of every tensor that a shape has, in the order in which files are filled.
pub fn planned_tensors(like: &str) -> Result<Vec<(String, Vec<usize>)>, SynthError> {
    let (file, text) = configuration(like)?;
    let config = Config::of_bytes(&file, text.as_bytes())?;
    let checkpoint = Checkpoint::of_config(&CheckpointFiles::configuration_only(Path::new("")), config, None)?;
    Ok(tensors::list(&checkpoint, false)?.into_iter().map(|tensor| (tensor.name, tensor.shape)).collect())
}
