//! Puts the files of a report together, and on disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::samples::{SampleList, file_name};
use super::types::{ReportError, ReportFile, ReportInput};
use super::view::View;
use super::{csv, html, json, markdown};

/// Makes `index.html`, `report.md`, `results.json` and `results.csv`, and `samples-2.html`, … where the samples do not fit into
/// one page. Reads the images of the samples it shows, writes
/// nothing.
///
/// An image that cannot be read or decoded is no error: the report shows the sample without it and says so.
pub fn build(input: &ReportInput<'_>) -> Result<Vec<ReportFile>, ReportError> {
    let runs = input.comparison.runs.len();
    if runs == 0 {
        return Err(ReportError::NoRuns);
    }
    if let Some(unknown) = input.samples.iter().find(|samples| samples.run >= runs) {
        return Err(ReportError::UnknownRun { run: unknown.run, runs });
    }
    let view = View::new(input.comparison);
    let samples = SampleList::collect(&view, input.samples, &input.images);
    let mut files = vec![
        ReportFile { name: "index.html".into(), bytes: html::page(input, &view, &samples)?.into_bytes() },
        ReportFile { name: "report.md".into(), bytes: markdown::document(input, &view).into_bytes() },
        ReportFile { name: "results.json".into(), bytes: json::document(input.comparison)? },
        ReportFile { name: "results.csv".into(), bytes: csv::table(&view)? },
    ];
    files.extend(
        (1..samples.pages.len()).map(|page| ReportFile {
            name: file_name(page),
            bytes: html::sample_page(input, &view, &samples, page).into_bytes(),
        }),
    );
    Ok(files)
}

/// Writes the files into `folder`, which is made if need be. Each file appears whole or not at all: it is written beside
/// its final name and renamed. Returns the paths.
pub fn write_to(folder: &Path, files: &[ReportFile]) -> Result<Vec<PathBuf>, ReportError> {
    fs::create_dir_all(folder).map_err(|source| ReportError::Write { path: folder.to_path_buf(), source })?;
    let mut paths = Vec::with_capacity(files.len());
    for file in files {
        let path = folder.join(file.name.as_ref());
        let partial = folder.join(format!(".{}.{}.partial", file.name, std::process::id()));
        let written = write_whole(&partial, &path, &file.bytes);
        if let Err(source) = written {
            // The leftover is of no use; that it may be missing or stuck is less important than the first error.
            let _ = fs::remove_file(&partial);
            return Err(ReportError::Write { path, source });
        }
        paths.push(path);
    }
    Ok(paths)
}

fn write_whole(partial: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(partial, path)
}
