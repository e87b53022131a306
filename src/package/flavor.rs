//! Which operators the graphs of a package are made of.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::contents::Contents;
use super::error::PackageError;
use crate::onnx::{MICROSOFT_DOMAIN, inspect_file};

/// The operators that the graphs of our own packages may have. Both flavours take the same inputs and give the same outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GraphFlavor {
    /// Fused operators of ONNX Runtime's own set (`com.microsoft`) beside the standard ones: for the processor and CUDA.
    #[default]
    Contrib,
    /// Standard operators alone (`ai.onnx`, version 24): for TensorRT, and for whatever knows no others.
    Standard,
}

impl GraphFlavor {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Contrib, Self::Standard];

    /// The name used in manifests, run records and on the command line: `contrib` or `standard`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contrib => "contrib",
            Self::Standard => "standard",
        }
    }

    /// The flavour of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flavor| flavor.as_str() == name)
    }

    /// Whether it is the one that a manifest need not name.
    pub fn is_contrib(&self) -> bool {
        *self == Self::Contrib
    }
}

/// ONNX Runtime knows this operator in the standard set, though no standard has it.
const UNDECLARED: [&str; 2] = ["SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"];

impl Contents<'_> {
    /// Graphs of the standard flavour have no other operators.
    pub(super) fn check_flavor(&self, flavor: GraphFlavor, graphs: &[&str]) -> Result<(), PackageError> {
        if flavor == GraphFlavor::Contrib {
            return Ok(());
        }
        for name in graphs {
            let path = self.path(name)?;
            if let Some(found) = foreign_operator(&path)? {
                let expected = "a standard one, as the manifest's flavour is \"standard\"".to_owned();
                return Err(PackageError::Field { path, field: "operator".to_owned(), found, expected });
            }
        }
        Ok(())
    }
}

/// The first operator or set of a graph that is not a standard one.
fn foreign_operator(path: &Path) -> Result<Option<String>, PackageError> {
    let header = inspect_file(path)?;
    let prefix = format!("{MICROSOFT_DOMAIN}.");
    let imported = header.opsets.contains_key(MICROSOFT_DOMAIN).then(|| format!("the operator set {MICROSOFT_DOMAIN:?}"));
    let other = |name: &String| name.starts_with(&prefix) || UNDECLARED.contains(&name.as_str());
    Ok(header.operators.into_iter().find(other).or(imported))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for flavor in GraphFlavor::ALL {
            assert_eq!(GraphFlavor::of_name(flavor.as_str()), Some(flavor));
        }
        assert_eq!(GraphFlavor::of_name("Standard"), None);
        assert_eq!(GraphFlavor::default(), GraphFlavor::Contrib);
    }

    #[test]
    fn operators_of_another_set_are_found() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("exports/pico-llava-1.5");
        assert_eq!(foreign_operator(&shipped.join("llm.onnx")).unwrap().as_deref(), Some("SimplifiedLayerNormalization"));
        // Its operators are standard ones, but it names the other set.
        assert_eq!(
            foreign_operator(&shipped.join("projector.onnx")).unwrap().as_deref(),
            Some("the operator set \"com.microsoft\"")
        );
    }
}
