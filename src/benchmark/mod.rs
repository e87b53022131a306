//! The benchmark room: `benchmarks/*.toml` and the readers of official data formats, giving samples with a key and a
//! cluster (the image).
//!
//! It must not know models, engines or scores: it says what is asked and what the reference is.

mod types;

pub use types::{Contribution, Contributions, MetricSpec, PixelBox, Reference, Sample};
