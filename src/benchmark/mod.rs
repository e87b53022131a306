//! The benchmark room: `benchmarks/*.toml` and the readers of official data formats, giving samples with a key and a
//! cluster (the image).
//!
//! It must not know models, engines or scores: it says what is asked and what the reference is.

mod error;
mod load;
mod pattern;
pub mod predictions;
mod readers;
mod spec;
mod spec_data;
mod spec_file;
mod task;
mod types;

pub use error::BenchmarkError;
pub use load::{Benchmark, samples_sha256};
pub use pattern::{ClassTemplate, ImagePattern, PromptTemplate};
pub use spec::{
    BenchmarkSpec, BoxSpace, DataFormat, DataSpec, ReferenceScore, ScorerRule, ScorerSpec, SplitFile, ThresholdRule, VqaVariant,
};
pub use spec::{JudgeContext, RelativeScore};
pub use task::{CandidateSet, ClassSet, Query, Task};
pub use types::{
    Contribution, Contributions, Conversation, Exchange, IMAGE_MARK, MetricSpec, PixelBox, Reference, RetrievalDirection, Sample,
};
