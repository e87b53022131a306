//! What goes into the linear layers of a stage.

use super::error::PackageError;
use super::open::Package;
use super::stages::StageName;
use crate::onnx::{Tap, TappedModel, tapped_model, taps};

fn graph(package: &Package, stage: StageName) -> &str {
    match stage {
        StageName::Vision => &package.manifest.vision.graph,
        StageName::Projector => &package.manifest.projector.graph,
        StageName::Llm => &package.manifest.llm.graph,
    }
}

/// The inputs of all 32-bit linear layers of a stage of our own package, in the order of its graph.
pub fn taps_of_stage(package: &Package, stage: StageName) -> Result<Vec<Tap>, PackageError> {
    Ok(taps(&package.path(graph(package, stage))?)?)
}

/// The graph of a stage, made to give nothing but sums over the rows of these values, each with `XᵀX` where the flag says so.
pub fn tapped_stage(package: &Package, stage: StageName, taps: &[(&Tap, bool)]) -> Result<TappedModel, PackageError> {
    Ok(tapped_model(&package.path(graph(package, stage))?, taps)?)
}
