//! `--low-memory` and `--prepacked-cache`: how weights are held in memory.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;

use super::exit::{Exit, Failure};
use crate::engine::{EngineOptions, Provider, default_cache};

/// Options of every verb that loads a package.
#[derive(Clone, Debug, Args)]
pub struct LoadingArguments {
    /// Leave weights in mapped files, which processes share and the system may drop, instead of packing them for this processor:
    /// less memory and an instant load, slower prefill; the last bits of results may differ
    #[arg(long, global = true, help_heading = "Global options")]
    low_memory: bool,
    /// Keep packed weights for the next load, which is then several times faster and needs little memory of its own: a folder,
    /// `auto` for one in the user's cache folder, or `off`. Takes twice the room of the weights; results are the same
    #[arg(long, global = true, value_name = "DIR|auto|off", default_value = "off", help_heading = "Global options")]
    prepacked_cache: PathBuf,
}

/// How weights are held in memory.
#[derive(Clone, Debug, Default)]
pub struct Loading {
    /// Mapped, not packed.
    pub low_memory: bool,
    /// Where packed weights are kept.
    pub prepacked_cache: Option<PathBuf>,
}

impl LoadingArguments {
    /// Finds the cache folder, and refuses what excludes each other.
    pub fn resolve(self) -> Result<Loading, Failure> {
        let prepacked_cache = match self.prepacked_cache.to_str() {
            Some("off") => None,
            Some("auto") => Some(automatic()?),
            _ => Some(self.prepacked_cache),
        };
        if self.low_memory && prepacked_cache.is_some() {
            let error = anyhow!("--low-memory packs no weights, so that there are none to keep in a --prepacked-cache");
            return Err(Failure::new(Exit::Setup, error));
        }
        Ok(Loading { low_memory: self.low_memory, prepacked_cache })
    }
}

/// The folder that `auto` stands for.
pub fn automatic() -> Result<PathBuf, Failure> {
    default_cache().map_err(|error| Failure::new(Exit::Setup, anyhow!("--prepacked-cache auto: no cache folder: {error}")))
}

impl Loading {
    /// Refuses what only means something on the processor.
    pub fn check(&self, provider: Provider) -> Result<(), String> {
        let given = [("--low-memory", self.low_memory), ("--prepacked-cache", self.prepacked_cache.is_some())];
        match given.into_iter().find(|(_, is_given)| *is_given && provider.is_gpu()) {
            Some((name, _)) => Err(format!(
                "{name} is about weights packed for the processor, found --provider {}, which copies them to the GPU",
                provider.as_str()
            )),
            None => Ok(()),
        }
    }

    /// The same engine options with these.
    pub fn apply(&self, options: EngineOptions) -> EngineOptions {
        EngineOptions { prepack: !self.low_memory, prepacked_cache: self.prepacked_cache.clone(), ..options }
    }
}
