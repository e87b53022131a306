//! What can stop an export.

use std::path::PathBuf;

use crate::guard::files::GuardError;
use crate::onnx::OnnxError;
use crate::package::PackageError;

/// Why a checkpoint was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file could not be read within its cap, or a name leads out of its folder.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// A graph could not be built.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The written package does not pass its own checks.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file is not the JSON that it should be.
    #[error("{path} is not readable: {reason}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A file that the export needs is not there.
    #[error("{folder} has no {name}{hint}")]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The file.
        name: String,
        /// What to do about it; empty or beginning with `: `.
        hint: String,
    },
    /// A configuration value that the program does not know how to run faithfully.
    #[error("{file}: {key} = {found} is not supported; supported: {supported}")]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The key, with its parents.
        key: String,
        /// Its value.
        found: String,
        /// What would be accepted.
        supported: String,
    },
    /// A configuration value of the wrong type or range.
    #[error("{file}: {key} is {found}, expected {expected}")]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The key, with its parents.
        key: String,
        /// Its value.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A weights file is malformed or truncated.
    #[error(transparent)]
    Weights(#[from] crate::package::safetensors::SafetensorsError),
    /// A file of `torch.save` is malformed, or asks for more than tensors.
    #[error(transparent)]
    Torch(#[from] super::torch::TorchError),
    /// A checkpoint that is only a change to another model.
    #[error("{folder} is {what} and no whole model; give the folder of the model that it changes with --base{hint}")]
    NeedsBase {
        /// The checkpoint.
        folder: PathBuf,
        /// What it is.
        what: &'static str,
        /// The base that it names; empty or beginning with `; `.
        hint: String,
    },
    /// A base for a checkpoint that needs none.
    #[error(
        "{folder} holds whole weights, so --base {base} would not be used; a delta says so in its folder's name or in \
         _name_or_path of its config.json"
    )]
    UnusedBase {
        /// The checkpoint.
        folder: PathBuf,
        /// The base.
        base: PathBuf,
    },
    /// A tensor of a delta or an adapter does not fit its base.
    #[error("{path}: tensor {tensor:?} {problem}")]
    Base {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What does not fit, with found and expected shapes.
        problem: String,
    },
    /// The configuration asks for a tensor that the weights do not have.
    #[error("{checkpoint}: tensor {tensor} of shape {shape:?} is missing{hint}")]
    MissingTensor {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// The tensor, as this checkpoint format names it.
        tensor: String,
        /// The shape that the configuration implies.
        shape: Vec<usize>,
        /// What else to know; empty or beginning with `: `.
        hint: String,
    },
    /// The weights have tensors that the configuration does not explain.
    #[error("{path}: unexpected tensor {tensor:?} of shape {shape:?}{others}; nothing in the configuration uses it")]
    UnexpectedTensor {
        /// The file.
        path: PathBuf,
        /// The first of them.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How many others; empty or beginning with a space.
        others: String,
    },
    /// Two tensors of a checkpoint mean the same weight.
    #[error("{path}: tensors {first:?} and {second:?} are the same weight under two names")]
    DuplicateTensor {
        /// The file of the second.
        path: PathBuf,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A tensor's shape is not what the configuration implies.
    #[error("{path}: tensor {tensor:?} has shape {found:?}, expected {expected:?} from the configuration")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
    },
    /// A tensor has a number type that is not a plain floating-point one.
    #[error("{path}: tensor {tensor:?} has type {found}, expected F32, F16 or BF16")]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// A number that has no counterpart in the type that the weight is to be stored in.
    #[error("{path}: number {index} of tensor {tensor:?} is {value}, which {wanted} cannot hold")]
    Number {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Which of its numbers, counted in row-major order from 0.
        index: usize,
        /// The number.
        value: f32,
        /// The wanted type.
        wanted: &'static str,
    },
    /// An option that does not fit the others or the checkpoint.
    #[error("{option} {found}: expected {expected}")]
    Option {
        /// The option.
        option: String,
        /// Its value.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// Something else stands where the package would be written.
    #[error("{path} exists and differs from what this export writes{hint}")]
    Exists {
        /// The file.
        path: PathBuf,
        /// What to do; begins with `; `.
        hint: String,
    },
    /// Another export is writing into the same folder.
    #[error("another export is writing into {folder}")]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// Weights are reached through a symbolic link that ONNX Runtime will not follow.
    #[error(
        "{path} is a symbolic link out of the folder (a Hugging Face cache?), which ONNX Runtime refuses; export to another folder"
    )]
    LinkedWeights {
        /// The file.
        path: PathBuf,
    },
}
