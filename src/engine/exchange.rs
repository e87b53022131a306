//! Exchanging stages between two packages: each stage is loaded once, and changing one for the other costs nothing.

use ndarray::Array3;

use super::decoder::LanguageModel;
use super::device::check_compute;
use super::embedding::EmbeddingTable;
use super::options::EngineOptions;
use super::ort_engine::OrtEngine;
use super::runtime;
use super::session::Graph;
use super::types::{EngineError, ImageTiles, StageTimings};
use super::vision::{LoadedProjector, LoadedVision, join_tiles};
use crate::package::{LanguageModelStage, Manifest, Package, StageName};

/// A stage of a package, loaded by itself.
pub struct LoadedStage(pub(super) Kind);

pub(super) enum Kind {
    Vision(Box<LoadedVision>),
    Projector(Box<LoadedProjector>),
    Llm(Box<(LanguageModel, EmbeddingTable)>),
}

impl LoadedStage {
    /// Loads one stage of a package of our own.
    pub fn load(package: &Package, stage: StageName, options: &EngineOptions) -> Result<Self, EngineError> {
        let (root, manifest) = (package.root.as_path(), &package.manifest);
        let loaded = runtime::load(&options.runtime(), &mut |_| {})?;
        check_compute(package, options)?;
        Ok(Self(match stage {
            StageName::Vision => Kind::Vision(Box::new(LoadedVision::load(Graph::load, loaded, root, manifest, options)?)),
            StageName::Projector => {
                Kind::Projector(Box::new(LoadedProjector::load(Graph::load, loaded, root, manifest, options)?))
            }
            StageName::Llm => {
                let graph = Graph::load(loaded, root, &manifest.llm.graph, options, false)?;
                Kind::Llm(Box::new(language_model(graph, package)?))
            }
        }))
    }

    /// Which stage it is.
    pub fn name(&self) -> StageName {
        match &self.0 {
            Kind::Vision(_) => StageName::Vision,
            Kind::Projector(_) => StageName::Projector,
            Kind::Llm(_) => StageName::Llm,
        }
    }
}

/// What the first two stages gave for some tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageStages {
    /// Vision features, `[tiles, tokens_per_image, hidden_size]`.
    pub features: Array3<f32>,
    /// Projected rows before they are merged, `[tiles, tokens_per_image, output_size]`.
    pub image_embeds: Array3<f32>,
}

/// The language model and its token embedding, checked against the manifest.
pub(super) fn language_model(graph: Graph, package: &Package) -> Result<(LanguageModel, EmbeddingTable), EngineError> {
    let stage: &LanguageModelStage = &package.manifest.llm;
    let embedding = EmbeddingTable::open(&package.root, &stage.embedding, &graph.path)?.with_scales(
        &package.root,
        stage.embedding_scales.as_ref(),
        &graph.path,
    )?;
    if embedding.width() != stage.hidden_size || embedding.rows() < stage.vocabulary_size {
        return Err(graph.wrong(format!(
            "the embedding table has shape [{}, {}], expected at least [{}, {}]",
            embedding.rows(),
            embedding.width(),
            stage.vocabulary_size,
            stage.hidden_size
        )));
    }
    Ok((LanguageModel::new(graph, stage)?, embedding))
}

impl OrtEngine {
    /// Puts a stage in the place of the engine's own, which stands in `stage` afterwards. The stages must fit
    /// ([`crate::package::misfits`]); what does not is an error, and the engine stays as it was.
    pub fn exchange(&mut self, stage: &mut LoadedStage) -> Result<(), EngineError> {
        match &mut stage.0 {
            Kind::Vision(vision) => self.encoder.exchange_vision(vision),
            Kind::Projector(projector) => {
                let width = self.model.stage().hidden_size;
                if projector.output_size() != width {
                    return Err(projector
                        .wrong(format!("gives rows of {}, but the language model takes {width}", projector.output_size())));
                }
                self.encoder.exchange_projector(projector)
            }
            Kind::Llm(parts) => {
                let (new, own) = (parts.0.stage().hidden_size, self.model.stage().hidden_size);
                if new != own {
                    return Err(parts.0.wrong(format!("takes rows of {new}, but the projector gives rows of {own}")));
                }
                std::mem::swap(&mut self.model, &mut parts.0);
                std::mem::swap(&mut self.embedding, &mut parts.1);
                Ok(())
            }
        }
    }

    /// What the first two stages make of some images, all tiles of all of them in order.
    pub fn image_stages(&mut self, images: &[ImageTiles]) -> Result<ImageStages, EngineError> {
        let layouts = self.layouts(images);
        if let Some(Err(message)) = layouts.iter().find(|layout| layout.is_err()) {
            return Err(EngineError::Request { index: 0, message: message.clone() });
        }
        let encoded = self.encode(images, &layouts, (0..images.len()).collect(), true, &mut StageTimings::default())?;
        let (features, image_embeds) = join_tiles(encoded.iter().flatten())?;
        Ok(ImageStages { features, image_embeds })
    }

    /// The manifest sections by which images are encoded now.
    pub fn manifest(&self) -> &Manifest {
        self.encoder.manifest()
    }

    /// Keeps what the vision encoder and the projector made of each image, up to `limit_bytes`, so that the same image is not
    /// encoded again by the same stages. Timings then count the work that was really done.
    pub fn remember_images(&mut self, limit_bytes: usize) {
        self.encoder.remember(limit_bytes);
    }
}
