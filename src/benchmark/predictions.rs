//! Answers made elsewhere, in the files that other programs write, joined to the samples of a benchmark.
//!
//! The form is told from the file:
//!
//! | form | rows | join |
//! | --- | --- | --- |
//! | VQA results | JSON array of `{"question_id", "answer"}` | question id |
//! | COCO captions | JSON array of `{"image_id", "caption"}` | image id |
//! | LLaVA answers | JSON Lines of `{"question_id", "prompt", "text", …}` | VQAv2, VQA-RAD, LLaVA conversations: question id; TextVQA: image id and question; POPE: position; RefCOCO: key or row number from 0 |
//! | POPE answers | JSON Lines of `{"question", "answer"}` | position |
//! | table | of a benchmark whose data are tables, any of these: `question_id`, `questionId`, `id`, `index` or `qid` with `text`, `answer`, `prediction`, `response` or `output` | sample key, or category and key; else as POPE, TextVQA or RefCOCO |
//! | plain | JSON Lines of `{"key", "text"}`; zero-shot and retrieval: `{"key", "ranking": [labels, best first]}` too | sample key |
//! | of multiple-choice benchmarks | see `predictions_keyed.rs` | sample key |
//! | our sample log | JSON Lines of `{"record": {"key", "text", …}, "crc32"}` | sample key; failed samples count as missing |
//!
//! Short-answer benchmarks have forms of their own (`predictions_short_answers.rs`).
//!
//! POPE numbers its questions alike in each of its files, so answers are aligned by position as the official script does:
//! one file with the splits one after another, or a folder with one file a split. Where rows have a `category`, a prompt or
//! a question, the alignment is checked with it, and the order of the splits is found from it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use super::error::BenchmarkError;
use super::load::Benchmark;
use super::predictions_keyed::{self, Keyed};
use super::readers::{Id, RowObject, RowPlace, json_array, json_lines, read_text};
use super::spec::DataFormat;
use super::types::{Reference, Sample};

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// Key of the sample.
    pub key: String,
    /// The answer.
    pub text: String,
}

/// The answers of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predictions {
    /// Answers in the order of the benchmark's samples.
    pub found: Vec<Prediction>,
    /// Keys of samples without an answer, in the same order; empty unless missing ones are allowed.
    pub missing: Vec<String>,
    /// The form of the file, for people.
    pub form: &'static str,
}

/// Reads answers and joins them to samples. A row that belongs to no sample and a second answer to the same sample are
/// errors.
///
/// A sample without an answer is an error, as in the official VQA evaluation, unless `allow_missing`: then it is listed in
/// [`Predictions::missing`], and it is the caller who says how it counts (LLaVA's converter submits an empty answer).
pub fn read(path: &Path, benchmark: &Benchmark, allow_missing: bool) -> Result<Predictions, BenchmarkError> {
    let keyed = match path.is_dir() {
        true => predictions_keyed::read_folder(path, &keys_of(benchmark))?,
        false if predictions_keyed::is_workbook(path) => Some(predictions_keyed::read_workbook(path, &keys_of(benchmark))?),
        false => None,
    };
    let (mut texts, form) = if let Some(found) = super::predictions_short_answers::read(path, benchmark)? {
        found
    } else if let Some(keyed) = keyed {
        join_keyed(path, benchmark, keyed)?
    } else if path.is_dir() {
        (read_split_folder(path, benchmark)?, "POPE answers, one file a split")
    } else {
        read_file(path, benchmark)?
    };
    let mut found = Vec::with_capacity(texts.len());
    let mut missing = Vec::new();
    for sample in &benchmark.samples {
        match texts.remove(sample.key.as_str()) {
            Some(text) => found.push(Prediction { key: sample.key.clone(), text }),
            None => missing.push(sample.key.clone()),
        }
    }
    match missing.first() {
        Some(first) if !allow_missing => Err(BenchmarkError::File {
            path: path.to_path_buf(),
            expected: format!("an answer to each of the {} samples of {}", benchmark.samples.len(), benchmark.spec.name),
            found: format!("none to {} of them, the first being {first:?}", missing.len()),
        }),
        _ => Ok(Predictions { found, missing, form }),
    }
}

/// Texts by sample key.
pub(super) type Texts<'a> = HashMap<&'a str, String>;

fn read_file<'a>(path: &Path, benchmark: &'a Benchmark) -> Result<(Texts<'a>, &'static str), BenchmarkError> {
    let text = read_text(path)?;
    if let Some(keyed) = predictions_keyed::read(path, &text, &keys_of(benchmark))? {
        return join_keyed(path, benchmark, keyed);
    }
    if text.trim_start().starts_with('[') {
        let rows: Vec<(usize, &str)> =
            json_array(path, &text)?.into_iter().map(RawValue::get).enumerate().map(|(index, row)| (index + 1, row)).collect();
        if is_captions(path, rows.first())? {
            return Ok((join_by_id(path, benchmark, &rows, "image_id", "caption")?, "COCO captions"));
        }
        if matches!(benchmark.spec.data.format, DataFormat::Table(_)) {
            return Ok((join_table(path, benchmark, &rows)?, "results"));
        }
        return Ok((join_by_id(path, benchmark, &rows, "question_id", "answer")?, "VQA results"));
    }
    let rows: Vec<(usize, &str)> = json_lines(&text).collect();
    let Some((line, first)) = rows.first().copied() else {
        return Err(BenchmarkError::File {
            path: path.to_path_buf(),
            expected: "a JSON array or JSON Lines".to_owned(),
            found: "an empty file".to_owned(),
        });
    };
    let place = RowPlace { path, row: line };
    let object = place.object(first)?;
    if object.has("record") {
        Ok((join_log(path, benchmark, &rows)?, "sample log"))
    } else if object.has("key") && (object.has("text") || !matches!(benchmark.spec.data.format, DataFormat::Table(_))) {
        Ok((join_by_key(path, benchmark, &rows)?, "plain"))
    } else if matches!(benchmark.spec.data.format, DataFormat::Table(_)) {
        Ok((join_table(path, benchmark, &rows)?, "answers"))
    } else if matches!(benchmark.spec.data.format, DataFormat::Pope { .. }) {
        let answers = positional_rows(path, &rows)?;
        let form = if object.has("question_id") { "LLaVA answers" } else { "POPE answers" };
        Ok((align_pope(path, benchmark, answers)?, form))
    } else if object.has("question_id") {
        let texts = match benchmark.spec.data.format {
            DataFormat::Textvqa { .. } => join_by_image_and_question(path, benchmark, &rows)?,
            DataFormat::RefcocoMinigpt4 { .. } | DataFormat::RefcocoRefs { .. } => join_by_row_number(path, benchmark, &rows)?,
            // The key of a zero-shot or retrieval sample is no number, so an answer in LLaVA's form names it in full.
            DataFormat::Vqav2 { .. }
            | DataFormat::Pope { .. }
            | DataFormat::LlavaConversations { .. }
            | DataFormat::VqaRad { .. }
            | DataFormat::ZeroShot { .. }
            | DataFormat::Retrieval { .. }
            | DataFormat::LlavaBench { .. }
            | DataFormat::LlavaMedChat { .. }
            | DataFormat::MmVet { .. }
            | DataFormat::MmeRelease { .. }
            | DataFormat::Captions(_)
            | DataFormat::Table(_) => join_by_id(path, benchmark, &rows, "question_id", "text")?,
        };
        Ok((texts, "LLaVA answers"))
    } else {
        Err(place.error("-", "one of `question_id`, `key` or `record`", "none of them"))
    }
}

fn keys_of(benchmark: &Benchmark) -> HashSet<&str> {
    benchmark.samples.iter().map(|sample| sample.key.as_str()).collect()
}

/// Answers that name their samples.
fn join_keyed<'a>(path: &Path, benchmark: &'a Benchmark, keyed: Keyed) -> Result<(Texts<'a>, &'static str), BenchmarkError> {
    let (answers, form) = keyed;
    let mut join = Join::new(benchmark);
    for answer in answers {
        let place = RowPlace { path: answer.file.as_deref().unwrap_or(path), row: answer.row };
        join.insert(&place, answer.field, &answer.key, answer.text)?;
    }
    Ok((join.texts, form))
}

/// Puts answers in place, one for each sample.
pub(super) struct Join<'a> {
    keys: HashSet<&'a str>,
    pub(super) texts: Texts<'a>,
}

impl<'a> Join<'a> {
    pub(super) fn new(benchmark: &'a Benchmark) -> Self {
        Self { keys: benchmark.samples.iter().map(|sample| sample.key.as_str()).collect(), texts: HashMap::new() }
    }

    pub(super) fn insert(&mut self, place: &RowPlace<'_>, field: &str, key: &str, text: String) -> Result<(), BenchmarkError> {
        let Some(key) = self.keys.get(key).copied() else {
            return Err(place.error(field, "a sample of the benchmark", format!("{key:?}")));
        };
        match self.texts.insert(key, text) {
            Some(_) => Err(place.error(field, "each sample once", format!("{key:?} again"))),
            None => Ok(()),
        }
    }
}

/// Whether rows are captions of images, as COCO's and NoCaps' evaluation servers take them.
fn is_captions(path: &Path, first: Option<&(usize, &str)>) -> Result<bool, BenchmarkError> {
    let Some((row, raw)) = first else { return Ok(false) };
    let place = RowPlace { path, row: *row };
    let object = place.object(raw)?;
    Ok(object.has("image_id") && object.has("caption"))
}

/// VQAv2, VQA-RAD, LLaVA conversations and captions: the sample key is the question's or the image's id.
fn join_by_id<'a>(
    path: &Path,
    benchmark: &'a Benchmark,
    rows: &[(usize, &str)],
    id_field: &str,
    text_field: &str,
) -> Result<Texts<'a>, BenchmarkError> {
    let mut join = Join::new(benchmark);
    for (row, raw) in rows {
        let place = RowPlace { path, row: *row };
        let object = place.object(raw)?;
        let Id(id) = object.field(id_field)?;
        join.insert(&place, id_field, &id, object.field(text_field)?)?;
    }
    Ok(join.texts)
}

/// Names of the member that says which sample a row answers.
const IDS: [&str; 6] = ["question_id", "questionId", "id", "index", "qid", "key"];
/// Names of the member that has the answer.
const TEXTS: [&str; 5] = ["text", "answer", "prediction", "response", "output"];

/// The first of some members that a row has.
fn one_of<T: serde::de::DeserializeOwned>(
    place: &RowPlace<'_>,
    object: &RowObject<'_, '_>,
    names: &[&'static str],
) -> Result<(&'static str, T), BenchmarkError> {
    match names.iter().find(|name| object.has(name)) {
        Some(name) => Ok((name, object.field(name)?)),
        None => Err(place.error("-", format!("one of the members {}", names.join(", ")), "none of them")),
    }
}

/// Benchmarks whose data are tables: their samples are those of other formats, too, so the answers may come in the forms for
/// those.
fn join_table<'a>(path: &Path, benchmark: &'a Benchmark, rows: &[(usize, &str)]) -> Result<Texts<'a>, BenchmarkError> {
    let mut by_key = Join::new(benchmark);
    let (mut known, mut failed) = (0, None);
    for (row, raw) in rows {
        let place = RowPlace { path, row: *row };
        let object = place.object(raw)?;
        let (field, Id(id)) = match one_of::<Id>(&place, &object, &IDS) {
            Ok(found) => found,
            Err(error) => {
                failed.get_or_insert(error);
                continue;
            }
        };
        // Splits of one benchmark may number their questions alike.
        let key = match object.optional::<String>("category")? {
            Some(category) if !by_key.keys.contains(id.as_str()) => format!("{category}/{id}"),
            _ => id,
        };
        known += usize::from(by_key.keys.contains(key.as_str()));
        let (_, text) = one_of::<String>(&place, &object, &TEXTS)?;
        if let Err(error) = by_key.insert(&place, field, &key, text) {
            failed.get_or_insert(error);
        }
    }
    let Some(failed) = failed else { return Ok(by_key.texts) };
    if known > 0 {
        return Err(failed);
    }
    // None of the ids is a key.
    match benchmark.samples.first().map(|sample| &sample.reference) {
        Some(Reference::YesNo { .. }) => align_pope(path, benchmark, positional_rows(path, rows)?),
        Some(Reference::Region { .. }) => join_by_row_number(path, benchmark, rows),
        Some(Reference::Answers { .. }) => join_by_image_and_question(path, benchmark, rows).or(Err(failed)),
        _ => Err(failed),
    }
}

fn join_by_key<'a>(path: &Path, benchmark: &'a Benchmark, rows: &[(usize, &str)]) -> Result<Texts<'a>, BenchmarkError> {
    let mut join = Join::new(benchmark);
    for (row, raw) in rows {
        let place = RowPlace { path, row: *row };
        let object = place.object(raw)?;
        let text = match object.optional::<Vec<String>>("ranking")? {
            Some(ranking) if benchmark.spec.compares_embeddings() => ranking.join("\n"),
            _ => object.field("text")?,
        };
        join.insert(&place, "key", &object.field::<String>("key")?, text)?;
    }
    Ok(join.texts)
}

/// Our own log. Its last line may be torn by a crash, and failed samples have no answer.
fn join_log<'a>(path: &Path, benchmark: &'a Benchmark, rows: &[(usize, &str)]) -> Result<Texts<'a>, BenchmarkError> {
    let mut join = Join::new(benchmark);
    for (index, (row, raw)) in rows.iter().enumerate() {
        let place = RowPlace { path, row: *row };
        let line = match place.object(raw) {
            Ok(line) => line,
            Err(_) if index + 1 == rows.len() => break,
            Err(error) => return Err(error),
        };
        let record: Box<RawValue> = line.field("record")?;
        let record = place.object(record.get())?;
        if !record.has("failure") {
            let text = if benchmark.spec.compares_embeddings() {
                // Beside the best candidate in `text` the log has the best ones in order.
                let detail: Box<RawValue> = record.field("detail")?;
                place.object(detail.get())?.field::<Vec<String>>("ranking")?.join("\n")
            } else {
                record.field("text")?
            };
            join.insert(&place, "key", &record.field::<String>("key")?, text)?;
        }
    }
    Ok(join.texts)
}

/// RefCOCO: the question id is a sample key or the number of the row over all splits, from 0.
fn join_by_row_number<'a>(path: &Path, benchmark: &'a Benchmark, rows: &[(usize, &str)]) -> Result<Texts<'a>, BenchmarkError> {
    let mut join = Join::new(benchmark);
    for (row, raw) in rows {
        let place = RowPlace { path, row: *row };
        let object = place.object(raw)?;
        let Id(id) = object.field("question_id")?;
        let by_number = id.parse::<usize>().ok().and_then(|number| benchmark.samples.get(number));
        let key = by_number.map_or(id.as_str(), |sample| sample.key.as_str());
        if let (Some(sample), Some(prompt)) = (by_number, object.optional::<String>("prompt")?)
            && !asks(sample, &prompt)
        {
            return Err(place.error("prompt", format!("the question {:?}", sample.question), format!("{prompt:?}")));
        }
        join.insert(&place, "question_id", key, object.field("text")?)?;
    }
    Ok(join.texts)
}

/// TextVQA: LLaVA's question id is the image id; the question comes from the prompt.
fn join_by_image_and_question<'a>(
    path: &Path,
    benchmark: &'a Benchmark,
    rows: &[(usize, &str)],
) -> Result<Texts<'a>, BenchmarkError> {
    let mut by_question: HashMap<(String, String), Vec<&str>> = HashMap::new();
    for sample in benchmark.samples.iter().rev() {
        by_question.entry((sample.cluster.clone(), sample.question.to_lowercase())).or_default().push(&sample.key);
    }
    let mut join = Join::new(benchmark);
    for (row, raw) in rows {
        let place = RowPlace { path, row: *row };
        let object = place.object(raw)?;
        let Id(id) = object.field("question_id")?;
        let prompt: String = object.field("prompt")?;
        let Some(question) = question_of_prompt(&prompt) else {
            return Err(place.error("prompt", "a TextVQA prompt of LLaVA", format!("{prompt:?}")));
        };
        match by_question.get_mut(&(id.clone(), question.to_lowercase())) {
            // The same question may be asked of an image twice: answers then go to the samples in turn.
            Some(keys) => match keys.pop() {
                Some(key) => join.insert(&place, "prompt", key, object.field("text")?)?,
                None => return Err(place.error("prompt", "each sample once", format!("{question:?} of image {id} again"))),
            },
            None => return Err(place.error("prompt", format!("a question of image {id}"), format!("{question:?}"))),
        }
    }
    Ok(join.texts)
}

/// The question in one of LLaVA's three TextVQA prompts.
fn question_of_prompt(prompt: &str) -> Option<&str> {
    if prompt.starts_with("OCR tokens: ") {
        let (_, rest) = prompt.split_once("Question: ")?;
        return rest.split_once(" Short answer:").map(|(question, _)| question);
    }
    let lines: Vec<&str> = prompt.split('\n').collect();
    match lines.as_slice() {
        [first, question, _] if first.starts_with("Reference OCR token:") => Some(question),
        [question, _, _] if prompt.contains("Reference OCR token: ") => Some(question),
        [question, _] => Some(question),
        _ => None,
    }
}

/// An answer whose place in the file says what it answers.
struct PositionalAnswer {
    line: usize,
    text: String,
    category: Option<String>,
    /// Prompt or question, if the row has any.
    asked: Option<String>,
}

fn positional_rows(path: &Path, rows: &[(usize, &str)]) -> Result<Vec<PositionalAnswer>, BenchmarkError> {
    let read = |(line, raw): &(usize, &str)| {
        let place = RowPlace { path, row: *line };
        let object: RowObject<'_, '_> = place.object(raw)?;
        let text = if object.has("text") { object.field("text")? } else { object.field("answer")? };
        let asked = object.optional("prompt")?;
        let asked = if asked.is_some() { asked } else { object.optional("question")? };
        Ok(PositionalAnswer { line: *line, text, category: object.optional("category")?, asked })
    };
    rows.iter().map(read).collect()
}

/// Whether a prompt asks the sample's question. The first release of POPE misspelt `image` in some rows, so answers to one
/// release are recognised with the other.
fn asks(sample: &Sample, prompt: &str) -> bool {
    let spelt = |text: &str| text.to_lowercase().replace("imange", "image");
    spelt(prompt).contains(&spelt(&sample.question))
}

/// Samples by split, in the order of the benchmark.
fn splits_of(benchmark: &Benchmark) -> Vec<(&str, Vec<&Sample>)> {
    let mut splits: Vec<(&str, Vec<&Sample>)> = Vec::new();
    for sample in &benchmark.samples {
        let name = sample.category.as_deref().unwrap_or_default();
        match splits.last_mut() {
            Some((last, samples)) if *last == name => samples.push(sample),
            _ => splits.push((name, vec![sample])),
        }
    }
    splits
}

/// Aligns one file that holds the answers of all splits.
fn align_pope<'a>(path: &Path, benchmark: &'a Benchmark, answers: Vec<PositionalAnswer>) -> Result<Texts<'a>, BenchmarkError> {
    let splits = splits_of(benchmark);
    if answers.iter().all(|answer| answer.category.is_some()) {
        let mut by_category: BTreeMap<String, Vec<PositionalAnswer>> = BTreeMap::new();
        for answer in answers {
            by_category.entry(answer.category.clone().unwrap_or_default()).or_default().push(answer);
        }
        let mut texts = Texts::new();
        for (name, samples) in &splits {
            let answers = by_category.remove(*name).unwrap_or_default();
            place_by_position(path, name, samples, answers, &mut texts)?;
        }
        return match by_category.into_iter().next() {
            Some((name, answers)) => {
                let place = RowPlace { path, row: answers.first().map_or(0, |answer| answer.line) };
                Err(place.error("category", "a split of the benchmark", format!("{name:?}")))
            }
            None => Ok(texts),
        };
    }
    if answers.len() != benchmark.samples.len() {
        return Err(BenchmarkError::File {
            path: path.to_path_buf(),
            expected: format!("{} answers, aligned by position", benchmark.samples.len()),
            found: format!("{}", answers.len()),
        });
    }
    let order = split_order(path, &splits, &answers)?;
    let mut answers = answers.into_iter();
    let mut texts = Texts::new();
    for index in order {
        if let Some((name, samples)) = splits.get(index) {
            let part = answers.by_ref().take(samples.len()).collect();
            place_by_position(path, name, samples, part, &mut texts)?;
        }
    }
    Ok(texts)
}

/// In which order a file has the splits. Without questions to tell by, it is the benchmark's.
fn split_order(path: &Path, splits: &[(&str, Vec<&Sample>)], answers: &[PositionalAnswer]) -> Result<Vec<usize>, BenchmarkError> {
    if !answers.iter().any(|answer| answer.asked.is_some()) {
        return Ok((0..splits.len()).collect());
    }
    // Place one split after another, each time one whose every question is asked there. Splits differ in most of their
    // questions, so the first that fits is the only one that does; if two fit, they are the same questions and labels.
    let mut order: Vec<usize> = Vec::new();
    let mut rest = answers;
    while order.len() < splits.len() {
        let agreeing = |samples: &[&Sample]| {
            let agrees =
                |(sample, answer): (&&Sample, &PositionalAnswer)| answer.asked.as_deref().is_none_or(|asked| asks(sample, asked));
            samples.iter().zip(rest).take_while(|pair| agrees(*pair)).count()
        };
        let candidates = splits.iter().enumerate().filter(|(index, _)| !order.contains(index));
        let best = candidates
            .map(|(index, (_, samples))| (agreeing(samples) == samples.len(), agreeing(samples), std::cmp::Reverse(index)))
            .max();
        let Some((_, agreed, std::cmp::Reverse(index))) = best else { break };
        let samples = splits.get(index).map(|(_, samples)| samples.as_slice()).unwrap_or_default();
        if let Some(sample) = samples.get(agreed) {
            let answer = rest.get(agreed);
            let place = RowPlace { path, row: answer.map_or(0, |answer| answer.line) };
            let found = answer.and_then(|answer| answer.asked.clone()).unwrap_or_default();
            return Err(place.error(
                "prompt",
                format!("the question {:?} of {}", sample.question, sample.key),
                format!("{found:?}"),
            ));
        }
        order.push(index);
        rest = rest.get(samples.len()..).unwrap_or_default();
    }
    Ok(order)
}

/// Gives the n-th answer to the n-th sample of a split.
fn place_by_position<'a>(
    path: &Path,
    split: &str,
    samples: &[&'a Sample],
    answers: Vec<PositionalAnswer>,
    texts: &mut Texts<'a>,
) -> Result<(), BenchmarkError> {
    if answers.len() != samples.len() {
        return Err(BenchmarkError::File {
            path: path.to_path_buf(),
            expected: format!("{} answers of the split {split}, aligned by position", samples.len()),
            found: format!("{}", answers.len()),
        });
    }
    for (sample, answer) in samples.iter().zip(answers) {
        if let Some(asked) = answer.asked.as_deref().filter(|asked| !asks(sample, asked)) {
            let place = RowPlace { path, row: answer.line };
            let expected = format!("the question {:?} of {}", sample.question, sample.key);
            return Err(place.error("prompt", expected, format!("{asked:?}")));
        }
        texts.insert(&sample.key, answer.text);
    }
    Ok(())
}

/// POPE answers in a folder, one file a split, named so that each file name contains its split's name.
fn read_split_folder<'a>(folder: &Path, benchmark: &'a Benchmark) -> Result<Texts<'a>, BenchmarkError> {
    let refuse = |expected: String, found: String| BenchmarkError::File { path: folder.to_path_buf(), expected, found };
    if !matches!(benchmark.spec.data.format, DataFormat::Pope { .. }) {
        return Err(refuse("one prediction file".to_owned(), "a folder, which only POPE answers may be".to_owned()));
    }
    let unreadable = |error: std::io::Error| refuse("a readable folder".to_owned(), error.to_string());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "json" || extension == "jsonl") {
            files.push(path);
        }
    }
    let mut texts = Texts::new();
    for (split, samples) in splits_of(benchmark) {
        let named = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains(split));
        let found: Vec<&PathBuf> = files.iter().filter(named).collect();
        let [path] = found.as_slice() else {
            let expected = format!("one .json or .jsonl file with {split:?} in its name");
            return Err(refuse(expected, format!("{} such files", found.len())));
        };
        let text = read_text(path)?;
        let rows: Vec<(usize, &str)> = json_lines(&text).collect();
        place_by_position(path, split, &samples, positional_rows(path, &rows)?, &mut texts)?;
    }
    Ok(texts)
}
