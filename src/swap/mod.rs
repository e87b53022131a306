//! The swap room: two packages of one family, stage by stage. It loads each stage once, mixes the stages of both packages, and
//! compares them directly on the same images.
//!
//! It must not run benchmarks or attribute scores: the run room's conductor drives a mix like any other engine, and the compare
//! room divides the difference.

mod divergence;
mod error;
mod layers;
mod mix;
mod pair;

pub use divergence::{DivergenceSettings, Look, diverge};
pub use error::SwapError;
pub use layers::{DeepLook, look_deep};
pub use mix::SwapEngine;
pub use pair::{Mix, PackagePair};
