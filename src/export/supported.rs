//! What can be exported, as data for tables.

use crate::package::SourceFormat;

/// One row of the table of what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedModel {
    /// Version of LLaVA, as `source.version` of a manifest names it.
    pub version: &'static str,
    /// Format of its checkpoints.
    pub format: SourceFormat,
    /// Class of its checkpoints, as `architectures` names it.
    pub class: &'static str,
    /// Vision towers.
    pub tower: &'static str,
    /// Projectors.
    pub projector: &'static str,
    /// Language models.
    pub language_model: &'static str,
    /// How images that are not square are fitted.
    pub images: &'static str,
    /// Names of the rows of `tests/parity/configurations.py` that show it.
    pub evidence: &'static [&'static str],
}

/// Every kind of LLaVA checkpoint that [`export`](super::export) accepts, oldest version first.
pub fn supported() -> &'static [SupportedModel] {
    &SUPPORTED
}

const SUPPORTED: [SupportedModel; 0] = [];
