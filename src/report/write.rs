//! Puts the files of a report together, and on disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::samples::{SampleList, file_name};
use super::types::{ReportError, ReportFile, ReportFormat, ReportInput, ReportOptions};
use super::view::View;
use super::{csv, html, json, markdown, plots};

/// Makes `index.html`, `report.md`, `results.json` and `results.csv`, and `samples-2.html`, … where the samples do not fit into
/// one page. Reads the images of the samples it shows, writes
/// nothing.
///
/// An image that cannot be read or decoded is no error: the report shows the sample without it and says so.
pub fn build(input: &ReportInput<'_>) -> Result<Vec<ReportFile>, ReportError> {
    build_with(input, &ReportOptions::default())
}

/// As [`build`], with the kinds of files asked for and what `attribute` found.
pub fn build_with(input: &ReportInput<'_>, options: &ReportOptions<'_>) -> Result<Vec<ReportFile>, ReportError> {
    let runs = input.comparison.runs.len();
    if runs == 0 {
        return Err(ReportError::NoRuns);
    }
    if let Some(unknown) = input.samples.iter().find(|samples| samples.run >= runs) {
        return Err(ReportError::UnknownRun { run: unknown.run, runs });
    }
    let view = View::new(input.comparison);
    let mut files = Vec::new();
    let mut add = |name: &'static str, bytes: Vec<u8>| files.push(ReportFile { name: name.into(), bytes });
    let wanted = |format| options.formats.contains(&format);
    let samples = wanted(ReportFormat::Html).then(|| SampleList::collect(&view, input.samples, &input.images));
    if let Some(samples) = &samples {
        add("index.html", html::page(input, &view, samples, options.attributions).into_bytes());
    }
    if wanted(ReportFormat::Markdown) {
        add("report.md", markdown::document_with(input, &view, options.attributions).into_bytes());
    }
    if wanted(ReportFormat::Json) {
        add("results.json", json::document(input.comparison)?);
    }
    if wanted(ReportFormat::Csv) {
        add("results.csv", csv::table(&view)?);
    }
    if let Some(samples) = &samples {
        files.extend((1..samples.pages.len()).map(|page| ReportFile {
            name: file_name(page),
            bytes: html::sample_page(input, &view, samples, page).into_bytes(),
        }));
    }
    if wanted(ReportFormat::Plots) {
        files.extend(plots::files(&view, options.attributions)?);
    }
    Ok(files)
}

/// Writes the files into `folder`, which is made if need be. Each file appears whole or not at all: it is written beside
/// its final name and renamed. Returns the paths.
pub fn write_to(folder: &Path, files: &[ReportFile]) -> Result<Vec<PathBuf>, ReportError> {
    fs::create_dir_all(folder).map_err(|source| ReportError::Write { path: folder.to_path_buf(), source })?;
    let mut paths = Vec::with_capacity(files.len());
    for file in files {
        let path = folder.join(file.name.as_ref());
        // A name may have a folder, `plots/…`.
        let (parent, name) =
            file.name.rsplit_once('/').map_or((folder.to_path_buf(), &*file.name), |(parent, name)| (folder.join(parent), name));
        fs::create_dir_all(&parent).map_err(|source| ReportError::Write { path: parent.clone(), source })?;
        let partial = parent.join(format!(".{name}.{}.partial", std::process::id()));
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
