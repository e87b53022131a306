//! Under what name and commit a run is recorded, so that it can be found again.

use std::path::Path;

use anyhow::anyhow;
use clap::Args;

use super::exit::{Exit, Failure};
use crate::store::RunHeader;

/// Variables in which CI systems say the commit: GitHub's, then GitLab's.
const COMMIT_VARIABLES: [&str; 2] = ["GITHUB_SHA", "CI_COMMIT_SHA"];

/// Longest tag or commit in characters.
const LONGEST: usize = 200;

/// `--tag` and `--commit`.
#[derive(Args, Clone, Debug, Default)]
pub struct RunLabel {
    /// Name under which the runs are found again, such as release-1.2
    #[arg(long, value_name = "NAME")]
    pub tag: Option<String>,
    /// Commit of what is run [default: GITHUB_SHA or CI_COMMIT_SHA, if set]
    #[arg(long, value_name = "SHA")]
    pub commit: Option<String>,
}

impl RunLabel {
    /// What is not given here, from there.
    pub fn or(self, other: Self) -> Self {
        Self { tag: self.tag.or(other.tag), commit: self.commit.or(other.commit) }
    }

    /// Takes the commit from a CI system's variable where none is given, and refuses labels that nobody could name again.
    pub fn resolve(self) -> Result<Self, Failure> {
        check("--tag", self.tag.as_deref())?;
        check("--commit", self.commit.as_deref())?;
        let from_environment = || {
            let values = COMMIT_VARIABLES.iter().filter_map(|name| std::env::var(name).ok());
            // Somebody else's variable is no reason to refuse a run.
            values.map(|value| value.trim().to_owned()).find(|value| is_fit(value))
        };
        let commit = self.commit.or_else(from_environment);
        Ok(Self { tag: self.tag, commit })
    }

    /// Says when a continued run has another label already, which it keeps.
    pub fn warn_if_kept(&self, stored: &RunHeader, directory: &Path) {
        for (what, asked, kept) in [("tag", &self.tag, &stored.tag), ("commit", &self.commit, &stored.commit)] {
            if asked.is_some() && asked != kept {
                let kept = kept.as_ref().map_or_else(|| "none".to_owned(), |kept| format!("{kept:?}"));
                let said = format!("{} is continued and keeps its {what}: {kept}", directory.display());
                eprintln!("note: {}", crate::guard::escape::terminal(&said));
            }
        }
    }
}

fn is_fit(label: &str) -> bool {
    !label.trim().is_empty() && label.chars().count() <= LONGEST && !label.chars().any(char::is_control)
}

fn check(option: &str, label: Option<&str>) -> Result<(), Failure> {
    match label {
        Some(label) if !is_fit(label) => {
            let error = anyhow!("{option} must be 1 to {LONGEST} characters without control characters, found {label:?}");
            Err(Failure::new(Exit::Setup, error))
        }
        _ => Ok(()),
    }
}
