//! Reading what `torch.save` writes (`pytorch_model.bin`, `mm_projector.bin`, `adapter_model.bin` and the like).
//!
//! Such a file is a pickle, a program for a small stack machine that can name any Python function. The machine here can
//! only rebuild tensors: it knows a fixed list of instructions and of names, has no way to call anything, and refuses
//! everything else by name. It must not load weights: it says where in the file each tensor's numbers stand.

mod archive;
mod error;
mod file;
mod globals;
mod legacy;
mod machine;
mod tensors;
#[cfg(test)]
mod tests;

pub use error::TorchError;
pub(super) use file::{TorchFile, TorchTensor};
