//! `--export FORMAT=PATH`: results in the forms that other programs read.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::exit::{Exit, Failure};
use super::terminal;
use crate::report::ci::{self, EXPORT_FORMATS, ExportFormat, ExportInput};

/// One `FORMAT=PATH`.
#[derive(Clone, Debug)]
pub struct Export {
    format: ExportFormat,
    /// `None` for standard output.
    path: Option<PathBuf>,
}

/// Reads `FORMAT=PATH`.
pub fn parse(text: &str) -> Result<Export, String> {
    let names = || EXPORT_FORMATS.map(|(name, _)| name).join(", ");
    let (format, path) =
        text.split_once('=').ok_or_else(|| format!("expected FORMAT=PATH with a format of {}, found {text:?}", names()))?;
    let format = ExportFormat::from_name(format).ok_or_else(|| format!("expected a format of {}, found {format:?}", names()))?;
    match path {
        "" => Err("expected a path after FORMAT=, or - for standard output, found nothing".to_owned()),
        "-" => Ok(Export { format, path: None }),
        path => Ok(Export { format, path: Some(PathBuf::from(path)) }),
    }
}

/// Whether one of them takes standard output. It is an error if several do, or if `json` is to go there too.
pub fn takes_stdout(exports: &[Export], json: bool) -> Result<bool, Failure> {
    let to_stdout = exports.iter().filter(|export| export.path.is_none()).count();
    if to_stdout + usize::from(json) > 1 && to_stdout > 0 {
        let error = anyhow!("only one thing can go to standard output: one --export FORMAT=-, or --json");
        return Err(Failure::new(Exit::Setup, error));
    }
    Ok(to_stdout == 1)
}

/// Writes all of them.
pub fn write(exports: &[Export], input: &ExportInput<'_>) -> Result<(), Failure> {
    for export in exports {
        let bytes = ci::export(export.format, input)?;
        match &export.path {
            Some(path) => ci::write_export(path, &bytes, is_step_summary(path))?,
            None => terminal::print(&String::from_utf8_lossy(&bytes))?,
        }
    }
    Ok(())
}

/// Whether GitHub collects this file: several steps of a script may add to it.
fn is_step_summary(path: &Path) -> bool {
    std::env::var_os("GITHUB_STEP_SUMMARY").is_some_and(|summary| Path::new(&summary) == path)
}
