//! MME as it is released: a folder a category, in it a text file a picture with the lines `question<TAB>answer` of its two
//! questions. Pictures lie beside the texts, or texts in `questions_answers_YN/` and pictures in `images/`. Lines
//! `image<TAB>question<TAB>answer`, as the release's evaluation tool has them, are read as well.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::super::error::BenchmarkError;
use super::super::image::SampleImage;
use super::super::prompt::Asked;
use super::super::types::{Conversation, Reference, Sample};
use super::Context;
use super::rows::{RowPlace, read_text};
use crate::guard::files::GuardError;

/// The categories, in the order of the release's `calculation.py`.
const CATEGORIES: [&str; 14] = [
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
    "commonsense_reasoning",
    "numerical_calculation",
    "text_translation",
    "code_reasoning",
];
/// Folders above the categories in the unpacked release.
const FOLDERS: [&str; 4] = ["", "MME_Benchmark_release_version", "MME_Benchmark", "MME_Benchmark_release_version/MME_Benchmark"];
/// Endings of pictures, the first for one that is not there: the run records that.
const ENDINGS: [&str; 6] = ["jpg", "png", "jpeg", "bmp", "JPG", "PNG"];

/// The folder of a category below one of [`FOLDERS`].
fn within(folder: &str, category: &str) -> String {
    if folder.is_empty() { category.to_owned() } else { format!("{folder}/{category}") }
}

/// Which of [`FOLDERS`] has categories.
fn folder_of(root: &Path) -> Option<&'static str> {
    let has = |folder: &&str| CATEGORIES.iter().any(|category| root.join(within(folder, category)).is_dir());
    FOLDERS.into_iter().find(has)
}

/// What is missing of a release below a folder: nothing if one category is there.
pub(in crate::benchmark) fn absent(root: &Path) -> Vec<String> {
    match folder_of(root) {
        Some(_) => Vec::new(),
        None => CATEGORIES.iter().map(|category| format!("{category}/")).collect(),
    }
}

/// The text files below a folder.
pub(in crate::benchmark) fn files(root: &Path) -> Result<Vec<PathBuf>, BenchmarkError> {
    let mut files = Vec::new();
    for category in CATEGORIES {
        let path = root.join(within(folder_of(root).unwrap_or_default(), category));
        if path.is_dir() {
            files.extend(text_files(&texts_of(&path).0)?);
        }
    }
    Ok(files)
}

/// The folder of a category's texts, and whether its pictures are in a folder of their own.
fn texts_of(category: &Path) -> (PathBuf, bool) {
    let texts = category.join("questions_answers_YN");
    let apart = category.join("images").is_dir() && texts.is_dir();
    (if apart { texts } else { category.to_path_buf() }, apart)
}

/// Reads the questions of every category that is there, in the order of the categories and of the files' names.
pub(super) fn read(context: &mut Context<'_>, rows: &[usize]) -> Result<Vec<Sample>, BenchmarkError> {
    let Some(folder) = folder_of(context.root) else {
        return Err(BenchmarkError::File {
            path: context.root.to_path_buf(),
            expected: format!("folders of MME's categories: {}", CATEGORIES.join(", ")),
            found: "none of them".to_owned(),
        });
    };
    let mut samples = Vec::new();
    let mut taken = HashSet::new();
    for category in CATEGORIES {
        let name = within(folder, category);
        let path = context.file(&name)?;
        if path.is_dir() {
            read_category(context, category, &name, &path, (&mut samples, &mut taken))?;
        }
    }
    context.check_rows(&context.root.join(folder), rows, samples.len())?;
    Ok(samples)
}

fn read_category(
    context: &mut Context<'_>,
    category: &str,
    name: &str,
    path: &Path,
    (samples, taken): (&mut Vec<Sample>, &mut HashSet<String>),
) -> Result<(), BenchmarkError> {
    let (texts, apart) = texts_of(path);
    let images = if apart { format!("{name}/images") } else { name.to_owned() };
    for file in text_files(&texts)? {
        let text = read_text(&file)?;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = RowPlace { path: &file, row: index + 1 };
            let columns: Vec<&str> = line.split('\t').map(str::trim).collect();
            let (image, question, answer) = match columns.as_slice() {
                [question, answer] => (picture_of(context.root, &images, &file), *question, *answer),
                [image, question, answer] => ((*image).to_owned(), *question, *answer),
                _ => {
                    let found = format!("{} columns", columns.len());
                    return Err(place.error("-", "a question and its answer, with a tab between", found));
                }
            };
            let yes = match answer.to_ascii_lowercase().as_str() {
                "yes" => true,
                "no" => false,
                _ => return Err(place.error("answer", "Yes or No", format!("{answer:?}"))),
            };
            let cluster = format!("{category}/{image}");
            let mut key = format!("{cluster}/{}", if yes { "Yes" } else { "No" });
            if !taken.insert(key.clone()) {
                key.push_str("/2");
                if !taken.insert(key.clone()) {
                    return Err(place.error("-", "two questions about a picture", format!("a third about {cluster}")));
                }
            }
            let path = context.image_file(&place, "image", &format!("{images}/{image}"))?;
            let asked = context.spec.prompt.ask(&Asked { question, images: 1, ..Asked::default() });
            samples.push(Sample {
                key,
                cluster,
                images: vec![SampleImage::File(path)],
                question: question.to_owned(),
                prompt: asked.text,
                conversation: Conversation::default(),
                reference: Reference::YesNo { yes },
                category: Some(category.to_owned()),
            });
        }
    }
    Ok(())
}

/// The text files of a folder in the order of their names.
fn text_files(folder: &Path) -> Result<Vec<PathBuf>, BenchmarkError> {
    let failed = |source| GuardError::Read { path: folder.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The name of the picture that a text file is about: its own with another ending.
fn picture_of(root: &Path, images: &str, file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let names = ENDINGS.map(|ending| format!("{stem}.{ending}"));
    let [usual, ..] = &names;
    names.iter().find(|name| root.join(images).join(name).is_file()).unwrap_or(usual).clone()
}
