//! The bench room: how fast packages are on this machine, and how fast they could be.
//!
//! Owns the tests and their sweeps, the order in which several packages take turns, statistics of the times, what is known of the
//! state of the machine meanwhile, costs counted from shapes, the limits of the machine measured through the same runtime, and the
//! formats of the result. It must not score: tokens are random but fixed, and nobody reads what comes out.

mod conditions;
mod cost;
mod csv;
mod kernels;
mod markdown;
mod measure;
mod plan;
mod results;
mod roofline;
mod table;

pub use conditions::{Conditions, ConditionsWatch, memory_bytes};
pub use cost::{Arithmetic, Cost, decode_cost, image_cost, packed_cost, prefill_cost};
pub use csv::to_csv;
pub use markdown::to_markdown;
pub use measure::{BenchOptions, BenchPackage, SUFFIX_TOKENS, SYSTEM_TOKENS, check, prompt_tokens, run};
pub use plan::{Sweeps, Test, expand, parse_sweep};
pub use results::{BenchResult, PackageFacts, Ratio, Series, Summary, summarise};
pub use roofline::{Limit, Roofline, Share, arithmetics, measure_limits, shares};
pub use table::to_table;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Not a test.
    #[error("{found:?} is no test; tests: img, prefill [N], decode [N@DEPTH[xROWS]], questions [Q[xN]], score [Q]")]
    Test {
        /// What was asked for.
        found: String,
    },
    /// Not a sweep.
    #[error("{found:?} is no list of sizes: {expected}")]
    Sweep {
        /// What was asked for.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// No package, no test or no repetition.
    #[error("nothing is to be measured: give at least one package, one test and one repetition")]
    Nothing,
    /// The test does not fit a package.
    #[error("{test} takes {needed} tokens, more than the {limit} positions of {package}")]
    TooLong {
        /// The test.
        test: String,
        /// Its tokens.
        needed: usize,
        /// The package.
        package: String,
        /// Its positions.
        limit: usize,
    },
    /// The test looks into graphs of our own.
    #[error("{package} was written by another program: {test} looks inside graphs of our own; questions and score do not")]
    Foreign {
        /// The test.
        test: String,
        /// The package.
        package: String,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    /// The configuration of a package tells no shapes.
    #[error("costs cannot be counted: {0}")]
    Shapes(#[from] crate::export::ExportError),
    /// The tiles of an image cannot be laid out.
    #[error(transparent)]
    Tiling(#[from] crate::package::TilingError),
    /// A model that measures the machine could not be built: a defect of this program.
    #[error(transparent)]
    Graph(#[from] crate::onnx::OnnxError),
}
