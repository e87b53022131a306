//! The hub room: checkpoints by name. It finds `hf://org/name@revision` in the local Hugging Face cache, and fetches into
//! that cache, in its own layout, only when asked to.
//!
//! The cache is read without a network and never changed unless a download was asked for. Nothing outside of the cache is
//! ever reached through it: every link of a snapshot must end inside its own repository. It must not know what a
//! checkpoint is beyond the names of files.

mod cache;
mod client;
mod download;
mod error;
mod name;
mod wanted;

pub use cache::{Cache, check_snapshot_path};
pub use client::Remote;
pub use download::{DownloadProgress, download};
pub use error::HubError;
pub use name::HubName;
