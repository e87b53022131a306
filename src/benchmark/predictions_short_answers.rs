//! Result files of short-answer benchmarks in their official forms:
//!
//! | benchmark | form | join |
//! | --- | --- | --- |
//! | GQA | JSON array of `{"questionId", "prediction"}` | question id |
//! | DocVQA, InfographicVQA | JSON array of `{"questionId", "answer"}` | question id |
//! | VizWiz | JSON array of `{"image", "answer"}` | image name |
//! | OCRBench | its JSON array with `predict` in each row | data set and `id`; position, where the data have no ids |
//! | MME | folder of `<category>.txt` with the lines `image<TAB>question<TAB>answer<TAB>prediction` | picture and question |
//! | MME, LLaVA answers | JSON Lines of `{"question_id", "prompt", "text"}`, the id being the picture | picture and question |

use std::collections::HashSet;
use std::path::Path;

use serde_json::value::RawValue;

use super::error::BenchmarkError;
use super::load::Benchmark;
use super::predictions::{Join, Texts};
use super::readers::{Id, RowObject, RowPlace, json_array, json_lines, read_text};
use super::scorer_rule::ScorerRule;
use super::short_answer_rule::ShortAnswerRule;
use super::types::Sample;

/// What MME's questions end with, and prompts do not.
const YES_OR_NO: &str = "Please answer yes or no.";

/// Reads the file or folder if it is of one of these forms.
pub(super) fn read<'a>(path: &Path, benchmark: &'a Benchmark) -> Result<Option<(Texts<'a>, &'static str)>, BenchmarkError> {
    let ScorerRule::ShortAnswer(rule) = benchmark.spec.scorer.rule else { return Ok(None) };
    if let ShortAnswerRule::Mme(_) = rule {
        if path.is_dir() {
            return Ok(Some((mme_folder(path, benchmark)?, "MME results, one file a category")));
        }
        return Ok(mme_answers(path, benchmark)?.map(|texts| (texts, "LLaVA answers")));
    }
    if path.is_dir() {
        return Ok(None);
    }
    let text = read_text(path)?;
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let rows = json_array(path, &text)?;
    let Some(first) = rows.first() else { return Ok(None) };
    let place = RowPlace { path, row: 1 };
    let first = place.object(first.get())?;
    if let ShortAnswerRule::OcrBench(_) = rule
        && first.has("dataset_name")
        && first.has("answers")
    {
        return Ok(Some((ocr_bench(path, benchmark, &rows)?, "OCRBench results")));
    }
    let Some((id, answer, form)) = columns(rule, &first) else { return Ok(None) };
    let mut join = Join::new(benchmark);
    for (index, row) in rows.iter().enumerate() {
        let place = RowPlace { path, row: index + 1 };
        let object = place.object(row.get())?;
        let Id(key) = object.field(id)?;
        join.insert(&place, id, &key, object.field(answer)?)?;
    }
    Ok(Some((join.texts, form)))
}

/// The members of a row that hold its key and the answer, and the name of the form.
fn columns(rule: ShortAnswerRule, row: &RowObject<'_, '_>) -> Option<(&'static str, &'static str, &'static str)> {
    match rule {
        ShortAnswerRule::VizWiz(_) if row.has("image") && row.has("answer") => Some(("image", "answer", "VizWiz results")),
        _ if row.has("questionId") && row.has("prediction") => Some(("questionId", "prediction", "GQA results")),
        _ if row.has("questionId") && row.has("answer") => Some(("questionId", "answer", "DocVQA results")),
        _ => None,
    }
}

/// OCRBench's own rows with the predictions in them. Ids are unique within a data set only, and the other forms of the data
/// have none: their rows are the same in the same order.
fn ocr_bench<'a>(path: &Path, benchmark: &'a Benchmark, rows: &[&RawValue]) -> Result<Texts<'a>, BenchmarkError> {
    let keys: HashSet<&str> = benchmark.samples.iter().map(|sample| sample.key.as_str()).collect();
    let mut join = Join::new(benchmark);
    for (index, row) in rows.iter().enumerate() {
        let place = RowPlace { path, row: index + 1 };
        let object = place.object(row.get())?;
        // Rows that the script has not come to have no prediction.
        let Some(text) = object.optional::<String>("predict")? else { continue };
        let (data_set, Id(id)): (String, Id) = (object.field("dataset_name")?, object.field("id")?);
        let mut key = format!("{data_set}/{id}");
        if !keys.contains(key.as_str()) && rows.len() == benchmark.samples.len() {
            let question: String = object.field("question")?;
            if let Some(sample) = benchmark.samples.get(index).filter(|sample| sample.question == question) {
                key.clone_from(&sample.key);
            }
        }
        join.insert(&place, "id", &key, text)?;
    }
    Ok(join.texts)
}

/// Finds MME's samples by picture and question.
struct Pictures<'a> {
    samples: Vec<(&'a Sample, String)>,
}

impl<'a> Pictures<'a> {
    fn new(benchmark: &'a Benchmark) -> Self {
        Self { samples: benchmark.samples.iter().map(|sample| (sample, bare(&sample.question))).collect() }
    }

    /// The sample of a category whose picture has the name, and whose question is, or stands in, the text.
    fn find(&self, category: &str, picture: &str, text: &str) -> Option<&'a Sample> {
        let text = bare(text);
        let named = |sample: &Sample| {
            let name = sample.cluster.rsplit('/').next().unwrap_or_default();
            sample.category.as_deref() == Some(category) && (name == picture || sample.cluster == picture)
        };
        let of_picture = || self.samples.iter().filter(|(sample, _)| named(sample));
        let same = of_picture().find(|(_, question)| *question == text);
        let found = same.or_else(|| of_picture().find(|(_, question)| !question.is_empty() && text.contains(question.as_str())));
        found.map(|(sample, _)| *sample)
    }
}

/// A question without what only some forms have at its end.
fn bare(question: &str) -> String {
    question.trim().trim_end_matches(YES_OR_NO).trim_end().to_owned()
}

/// A folder with a text file a category. Categories without a file have no answers.
fn mme_folder<'a>(folder: &Path, benchmark: &'a Benchmark) -> Result<Texts<'a>, BenchmarkError> {
    let pictures = Pictures::new(benchmark);
    let mut join = Join::new(benchmark);
    let mut categories: Vec<&str> = benchmark.samples.iter().filter_map(|sample| sample.category.as_deref()).collect();
    categories.sort_unstable();
    categories.dedup();
    let mut files = 0;
    for category in categories {
        let path = folder.join(format!("{category}.txt"));
        if category.contains(['/', '\\']) || !path.is_file() {
            continue;
        }
        files += 1;
        let text = read_text(&path)?;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = RowPlace { path: &path, row: index + 1 };
            let columns: Vec<&str> = line.split('\t').collect();
            let [picture, question, _, answer] = columns.as_slice() else {
                return Err(place.error("-", "four columns with tabs between", format!("{} columns", columns.len())));
            };
            let Some(sample) = pictures.find(category, picture, question) else {
                return Err(place.error("question", format!("a question about {category}/{picture}"), format!("{question:?}")));
            };
            join.insert(&place, "question", &sample.key, (*answer).to_owned())?;
        }
    }
    if files == 0 {
        return Err(BenchmarkError::File {
            path: folder.to_path_buf(),
            expected: "a file <category>.txt for each category of MME".to_owned(),
            found: "none".to_owned(),
        });
    }
    Ok(join.texts)
}

/// LLaVA's answers, whose id is the picture with its category. `None` if the file is of another form.
fn mme_answers<'a>(path: &Path, benchmark: &'a Benchmark) -> Result<Option<Texts<'a>>, BenchmarkError> {
    let text = read_text(path)?;
    let rows: Vec<(usize, &str)> = json_lines(&text).collect();
    let Some((line, first)) = rows.first().copied() else { return Ok(None) };
    if first.starts_with('[') {
        return Ok(None);
    }
    let place = RowPlace { path, row: line };
    let object = place.object(first)?;
    if !object.has("question_id") || !object.has("prompt") {
        return Ok(None);
    }
    let pictures = Pictures::new(benchmark);
    let mut join = Join::new(benchmark);
    for (line, row) in rows {
        let place = RowPlace { path, row: line };
        let object = place.object(row)?;
        let (Id(id), prompt): (Id, String) = (object.field("question_id")?, object.field("prompt")?);
        let (category, picture) = id.split_once('/').unwrap_or(("", &id));
        let picture = picture.rsplit('/').next().unwrap_or(picture);
        let Some(sample) = pictures.find(category, picture, &prompt) else {
            return Err(place.error("prompt", format!("a question about {id}"), format!("{prompt:?}")));
        };
        join.insert(&place, "prompt", &sample.key, object.field("text")?)?;
    }
    Ok(Some(join.texts))
}
