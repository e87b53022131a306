//! Why runs are not compared.

use std::fmt;

use serde::Serialize;

use super::PromptDifference;

/// Something that must be equal in two runs and is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunDifference {
    /// Benchmark name.
    pub benchmark: String,
    /// The first run: its directory.
    pub base: String,
    /// The later run: its directory.
    pub new: String,
    /// What differs, such as `scorer` or `reference of sample "q7"`.
    pub field: String,
    /// Its value in the first run.
    pub base_value: String,
    /// Its value in the later run.
    pub new_value: String,
    /// Both prompts, where it is these that differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PromptDifference>,
}

impl fmt::Display for RunDifference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { benchmark, base, new, field, base_value, new_value, prompts: _ } = self;
        write!(formatter, "{benchmark}: {field} is {base_value} in {base} and {new_value} in {new}")
    }
}

fn listed(differences: &[RunDifference]) -> String {
    differences.iter().map(RunDifference::to_string).collect::<Vec<_>>().join("; ")
}

/// Why runs are not compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Runs of one benchmark do not answer the same samples, or were not scored alike.
    #[error("the runs cannot be compared: {}", listed(.differences))]
    NotComparable {
        /// Everything that differs, over all pairs.
        differences: Vec<RunDifference>,
    },
    /// The margin is not a size.
    #[error("the margin must be 0 or more points, found {found}")]
    Margin {
        /// What was given.
        found: f64,
    },
}
