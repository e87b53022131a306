//! An engine whose stages come from either of two packages.

use super::SwapError;
use super::pair::{Mix, PackagePair, stage_name};
use crate::compare::{Side, Stage};
use crate::engine::{EngineOptions, LoadedStage, OrtEngine};

/// Most memory for image features and rows that are kept from mix to mix, in bytes.
const MEMORY_LIMIT_BYTES: usize = 2 << 30;

/// Both packages, each stage loaded once.
pub struct SwapEngine {
    engine: OrtEngine,
    /// The stages that are not in use, of those that differ.
    spare: Vec<LoadedStage>,
    mix: Mix,
}

impl SwapEngine {
    /// Loads the base package, and those stages of the new one that differ.
    pub fn load(pair: &PackagePair, options: &EngineOptions) -> Result<Self, SwapError> {
        let mut engine = OrtEngine::load(&pair.base, options)?;
        engine.remember_images(MEMORY_LIMIT_BYTES);
        let mut spare = Vec::new();
        for stage in Stage::ALL {
            if !pair.changes(stage).is_empty() {
                spare.push(LoadedStage::load(&pair.new, stage_name(stage), options)?);
            }
        }
        Ok(Self { engine, spare, mix: [Side::Base; 3] })
    }

    /// The engine with the stages of a mix. A stage that is equal in both packages is always the base's.
    pub fn with(&mut self, mix: Mix) -> Result<&mut OrtEngine, SwapError> {
        for ((stage, wanted), current) in Stage::ALL.into_iter().zip(mix).zip(&mut self.mix) {
            if *current == wanted {
                continue;
            }
            if let Some(spare) = self.spare.iter_mut().find(|spare| spare.name() == stage_name(stage)) {
                self.engine.exchange(spare)?;
            }
            *current = wanted;
        }
        Ok(&mut self.engine)
    }

    /// The engine as it is.
    pub fn engine(&self) -> &OrtEngine {
        &self.engine
    }
}
