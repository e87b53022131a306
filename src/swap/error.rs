//! Why stages are not swapped.

use crate::engine::EngineError;
use crate::guard::escape;
use crate::package::{Misfit, PackageError};
use crate::prompt::PromptError;

fn listed(misfits: &[Misfit]) -> String {
    let one = |misfit: &Misfit| format!("{} is {} and {}", misfit.field, misfit.base, misfit.new);
    misfits.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Why the stages of two packages are not swapped.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// Rows or tokens of one package mean nothing to the other.
    #[error("the stages of {base} and {new} cannot be swapped: {}", listed(.misfits))]
    Misfit {
        /// Name of the first package.
        base: String,
        /// Name of the second package.
        new: String,
        /// Everything that does not fit.
        misfits: Vec<Misfit>,
    },
    /// The tokenizers disagree.
    #[error(
        "the stages of {base} and {new} cannot be swapped: in tokenizer.json, token {} is {base_id} and {new_id}",
        escape::visible(.token)
    )]
    Tokens {
        /// Name of the first package.
        base: String,
        /// Name of the second package.
        new: String,
        /// The first token that has two ids.
        token: String,
        /// Its id in the first package.
        base_id: u32,
        /// Its id in the second package.
        new_id: u32,
    },
    /// The stages cannot be taken apart.
    #[error(
        "{package} is in the layout of {layout}, whose vision graph has the projector inside and whose stages cannot be swapped; \
         export both checkpoints with `llava-gauge export`, or compare runs of the packages with `compare`"
    )]
    Foreign {
        /// Package name.
        package: String,
        /// Its layout.
        layout: String,
    },
    /// A package could not be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A tokenizer or template could not be read.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// A stage could not be loaded or run.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
