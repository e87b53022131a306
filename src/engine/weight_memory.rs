//! What the weights of a package take of the memory, before it is loaded.

use std::collections::BTreeSet;

use super::options::EngineOptions;
use super::types::EngineError;
use crate::guard::files::{contained, read_capped};
use crate::package::{Package, Precision, external_tensors};

/// Graph files hold no weights.
const GRAPH_LIMIT_BYTES: u64 = 64 << 20;

/// Bytes that weights take once a package is loaded. Graphs, tokenizer, key-value cache and what a run computes come on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightMemory {
    /// Of this process alone: copies that ONNX Runtime packed, or widened to 32 bits.
    pub private_bytes: u64,
    /// In mapped files, which processes share and the system may drop and read again.
    pub mapped_bytes: u64,
}

impl WeightMemory {
    /// Both.
    pub fn total_bytes(&self) -> u64 {
        self.private_bytes.saturating_add(self.mapped_bytes)
    }
}

/// The weights of a package as `options` load them:
///
/// | | packed (usual) | from the prepacked cache | `prepack: false` |
/// | --- | --- | --- | --- |
/// | fp32, 8 bits, 4 bits | private, as long as the tensor | mapped, as long | mapped, as long |
/// | fp16, bf16 (widened to 32 bits, but for graphs that compute in them on a GPU) | private, twice as long | mapped, twice as long | private, twice as long |
///
/// A tensor that two graphs or layers name counts once a graph. The embedding table is read row by row and not counted. Graphs of
/// other programs count as their files, all private.
pub fn weight_memory(package: &Package, options: &EngineOptions) -> Result<WeightMemory, EngineError> {
    let manifest = &package.manifest;
    let mut memory = WeightMemory::default();
    if manifest.foreign.is_some() {
        let is_weights = |name: &str| name.ends_with(".onnx") || name.contains(".onnx_data") || name.contains(".onnx.data");
        let files = manifest.files.iter().filter(|file| is_weights(&file.name));
        memory.private_bytes = files.map(|file| file.bytes).fold(0, u64::saturating_add);
        return Ok(memory);
    }
    let stages = [
        (&manifest.vision.graph, manifest.precision.vision, manifest.vision.compute),
        (&manifest.projector.graph, manifest.precision.projector, manifest.projector.compute),
        (&manifest.llm.graph, manifest.precision.llm, manifest.llm.compute),
    ];
    for (name, precision, compute) in stages {
        let path = contained(&package.root, name)?;
        let bytes = read_capped(&path, GRAPH_LIMIT_BYTES)?;
        let tensors = external_tensors(&path, &bytes)
            .map_err(|error| EngineError::Graph { graph: path.clone(), message: error.to_string() })?;
        let places: BTreeSet<(&str, u64, u64)> =
            tensors.iter().map(|tensor| (tensor.file.as_str(), tensor.offset, tensor.bytes)).collect();
        let stored = places.iter().map(|(_, _, bytes)| *bytes).fold(0, u64::saturating_add);
        let narrow = compute.is_some() && options.provider.provider.is_gpu();
        let widened = matches!(precision, Precision::Fp16 | Precision::Bf16) && !narrow;
        let held = if widened { stored.saturating_mul(2) } else { stored };
        let is_private = if options.prepack { options.prepacked_cache.is_none() } else { widened };
        let part = if is_private { &mut memory.private_bytes } else { &mut memory.mapped_bytes };
        *part = part.saturating_add(held);
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn weights_are_counted_where_they_are_held() {
        let package = Package::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("exports/pico-llava-1.5")).unwrap();
        let packed = weight_memory(&package, &EngineOptions::default()).unwrap();
        let on_disk: u64 =
            package.manifest.files.iter().filter(|file| file.name.ends_with(".safetensors")).map(|file| file.bytes).sum();
        assert!(packed.mapped_bytes == 0 && packed.private_bytes > on_disk / 4, "{packed:?} of {on_disk}");
        let cached = EngineOptions { prepacked_cache: Some("cache".into()), ..EngineOptions::default() };
        let mapped = EngineOptions { prepack: false, ..EngineOptions::default() };
        let widened = |stage| matches!(stage, Precision::Fp16 | Precision::Bf16);
        let precision = package.manifest.precision;
        assert!(![precision.vision, precision.projector, precision.llm].into_iter().any(widened));
        for options in [cached, mapped.clone()] {
            let memory = weight_memory(&package, &options).unwrap();
            assert_eq!((memory.private_bytes, memory.mapped_bytes), (0, packed.private_bytes));
        }
        let mut half = package.clone();
        half.manifest.precision.llm = Precision::Fp16;
        let half = weight_memory(&half, &mapped).unwrap();
        assert!(half.private_bytes > 0 && half.mapped_bytes > 0 && half.total_bytes() > packed.total_bytes());
    }
}
