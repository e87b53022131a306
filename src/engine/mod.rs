//! The engine room: the only room that knows ONNX Runtime.
//!
//! Owns finding and loading the runtime library, sessions, the three stages, merging the rows of an image's tiles, the
//! key-value cache, packing the questions of an image into one tree, decoding across images, and the likelihoods of given answers; also a
//! mock engine that answers from a script. It must not know benchmarks, scorers, tokenizers or image files: it takes pixel tensors and token segments, and
//! gives token ids and timings.

mod attention_probe;
mod candidates;
mod chooser;
mod clip;
mod decoder;
mod device;
mod embedding;
mod exchange;
mod foreign;
mod image_memory;
mod layers;
mod loaded;
mod measure;
mod merge;
mod mock;
mod options;
mod ort_candidates;
mod ort_engine;
mod placement;
mod plan;
mod prepacked;
pub mod provider;
mod row_copier;
pub mod runtime;
mod sampling;
mod schedule;
mod session;
mod slots;
mod statistics;
mod tree;
mod tree_candidates;
mod types;
mod vision;
mod weight_memory;
mod window;

pub use clip::{ClipEncoder, normalise};
pub use exchange::{ImageStages, LoadedStage};
pub use layers::LayerProbe;
pub use loaded::LoadedEngine;
pub use measure::MeasuredModel;
pub use mock::{MockAnswer, MockEngine, MockReply};
pub use options::{EngineOptions, Scheduling};
pub use ort_engine::{OrtEngine, Trace};
pub use placement::{GraphPlacement, PlacedNode, PlacementOptions};
pub use prepacked::{CACHE_LIMIT_BYTES, CachedGraph, cached_graphs, clear_cache, default_cache};
pub use provider::{Provider, ProviderOptions};
pub use runtime::doctor::physical_cores;
pub use schedule::{MAXIMUM_SLOTS, MemoryNeed, RunShape, Schedule, cache_bytes_per_token};
pub use statistics::{InputSums, StatisticsProbe};
pub use types::{
    ChoiceGroup, ChoiceRequest, Engine, EngineError, Generation, GroupAnswer, ImageGroup, ImageTiles, LikelihoodAnswer,
    Likelihoods, Request, RequestFailure, Segment, StageTimings, StopReason, StopRule, WindowSink,
};
pub use weight_memory::{WeightMemory, weight_memory};
