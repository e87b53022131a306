//! What TensorRT needs to know of a graph before it is loaded: the shapes that it will be run with, and where its engines and timings
//! are kept between processes.

mod cache;
mod profile;

pub use cache::default_cache;
pub use profile::{Extent, RunExtent, ShapePlan};

use super::device::{Devices, tensorrt_version};
use super::libraries::find;
use super::places::Surroundings;
use super::register::{GraphSource, Settings, tensorrt_settings};
use super::{Provider, ProviderOptions};
use crate::engine::runtime::Loaded;
use crate::engine::types::EngineError;
use crate::package::graph_interface;

#[cfg(test)]
pub(super) use cache::{CacheParts, cache_key};
#[cfg(test)]
pub(super) use profile::{Profile, profile};

/// All settings for a graph. Its folder in the cache is made, if a cache is wanted.
pub(super) fn settings(runtime: &Loaded, options: &ProviderOptions, graph: &GraphSource<'_>) -> Result<Settings, EngineError> {
    let refused = |message: String| EngineError::Graph { graph: graph.root.join(graph.name), message };
    let path = graph.root.join(graph.name);
    let interface = graph_interface(&path, graph.bytes).map_err(|error| refused(error.to_string()))?;
    if !interface.standard {
        return Err(refused(
            "it may have operators of ONNX Runtime alone (com.microsoft), which TensorRT does not know; export the checkpoint with \
             --flavor standard, or use --provider cuda"
                .to_owned(),
        ));
    }
    let plan = options.tensorrt.shapes.unwrap_or_default();
    let profile = profile::profile(&interface.inputs, &plan).map_err(refused)?;
    let folder = match &options.tensorrt.cache {
        None => None,
        Some(cache) => {
            let surroundings = Surroundings::of_this_machine(options.library_folder.as_deref());
            let places = surroundings.places();
            let devices = Devices::look(std::path::Path::new("/"), &places);
            let library = find("libnvinfer.so.10", &places);
            let parts = cache::CacheParts::of(
                graph,
                &tensorrt_settings(options, None),
                &profile,
                &runtime.info,
                &library.as_deref().map_or_else(|| "unknown".to_owned(), tensorrt_version),
                &devices,
            )
            .map_err(|message| EngineError::Provider { provider: Provider::TensorRt.as_str(), reason: message })?;
            Some(cache::folder(cache, &parts).map_err(|message| EngineError::Provider {
                provider: Provider::TensorRt.as_str(),
                reason: format!("--tensorrt-cache: {message}"),
            })?)
        }
    };
    let mut settings = tensorrt_settings(options, folder.as_deref());
    // A graph without dynamic inputs needs no profile.
    if !profile.minimum.is_empty() {
        settings.extend([
            ("trt_profile_min_shapes", profile.minimum),
            ("trt_profile_opt_shapes", profile.optimum),
            ("trt_profile_max_shapes", profile.maximum),
        ]);
    }
    Ok(settings)
}
