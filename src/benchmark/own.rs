//! Questions of the user's own: a table without a TOML file, whose columns are known by their names.

use std::path::Path;

use super::choice::ChoiceParser;
use super::columns::{ColumnPath, ColumnTemplate};
use super::error::BenchmarkError;
use super::load::Benchmark;
use super::pattern::ImagePattern;
use super::places::DataChoice;
use super::prompt::{PROMPT_HOLES, PromptTemplate};
use super::readers::column_names;
use super::scorer_rule::{BoxSpace, ScorerRule, ScorerSpec, ThresholdRule, VqaVariant};
use super::short_answer_rule::ShortAnswerRule;
use super::spec::{BenchmarkSpec, DataFormat, DataSpec};
use super::table_spec::{AnswerForm, ChoiceOptions, ReferenceKind, RegionForm, TableFiles, TableReference, TableSpec};

/// Questions of the user's own.
#[derive(Clone, Copy, Debug)]
pub struct OwnData<'a> {
    /// The file.
    pub file: &'a Path,
    /// One of [`own_metrics`].
    pub metric: &'a str,
    /// Prompt template, where the usual one of the metric is not wanted.
    pub prompt: Option<&'a str>,
}

/// Suffix of LLaVA-1.5 for short answers (`docs/Evaluation.md`).
const SHORT: &str = "{context}{question}\nAnswer the question using a single word or phrase.";
/// As LLaVA-1.5 asks for the letter of an option (`docs/Evaluation.md`).
const LETTER: &str = "{context}{question}\n{options}\nAnswer with the option's letter from the given choices directly.";
/// LLaVA-1.5's training data.
const BOX: &str = "Please provide the bounding box coordinate of the region this sentence describes: {question}";
const PLAIN: &str = "{context}{question}";

/// A metric by a short name, with what it compares answers with and how it asks.
type Metric = (&'static str, ScorerRule, ReferenceKind, &'static str);

/// Metrics with names of their own. Any other scorer goes by its own name, on references that the columns show.
const METRICS: &[Metric] = &[
    ("vqa", ScorerRule::Vqa { variant: VqaVariant::Official }, ReferenceKind::Answers, SHORT),
    ("yes-no", ScorerRule::Pope, ReferenceKind::YesNo, SHORT),
    (
        "grounding",
        ScorerRule::Grounding { box_space: BoxSpace::PaddedSquare, threshold_rule: ThresholdRule::AtLeast },
        ReferenceKind::Region,
        BOX,
    ),
    ("open-closed", ScorerRule::LlavaMed, ReferenceKind::OpenOrClosed, PLAIN),
    ("anls", ScorerRule::ShortAnswer(ShortAnswerRule::Anls(ThresholdRule::AtLeast)), ReferenceKind::Answers, SHORT),
    ("relaxed-accuracy", ScorerRule::ShortAnswer(ShortAnswerRule::RelaxedAccuracy), ReferenceKind::Answers, SHORT),
    // Reads letters as well as options' texts, and scores questions without options, too.
    ("choice", ScorerRule::Choice { parser: ChoiceParser::Mmmu }, ReferenceKind::ChoiceOrAnswers, LETTER),
];

/// Names of metrics for questions of the user's own.
pub fn own_metrics() -> Vec<String> {
    let own = METRICS.iter().map(|(name, ..)| (*name).to_owned());
    let by_rule = ScorerRule::all().into_iter().filter(|rule| !matches!(rule, ScorerRule::ZeroShot | ScorerRule::Retrieval));
    own.chain(by_rule.map(|rule| rule.name())).collect()
}

impl Benchmark {
    /// Loads questions of the user's own. The benchmark is called after the file.
    ///
    /// # Errors
    /// When the metric is not known, the file is no table, or it lacks a column that the metric needs.
    pub fn own(data: &OwnData<'_>) -> Result<Self, BenchmarkError> {
        let spec = specification(data)?;
        let folder = data.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::of(spec, None, &DataChoice { data: Some(folder), ..DataChoice::default() })
    }
}

/// The columns of a file, asked for by the names that they may have.
struct Columns<'f> {
    file: &'f Path,
    names: Vec<String>,
}

impl Columns<'_> {
    fn any(&self, names: &[&str]) -> Option<String> {
        names.iter().find(|name| self.names.iter().any(|column| column == *name)).map(|name| (*name).to_owned())
    }

    fn needed(&self, names: &[&str]) -> Result<String, BenchmarkError> {
        self.any(names).ok_or_else(|| BenchmarkError::File {
            path: self.file.to_path_buf(),
            expected: format!("a column called {}", names.join(" or ")),
            found: format!("only the columns {:?}", self.names),
        })
    }

    fn path(&self, name: &str) -> Result<ColumnPath, BenchmarkError> {
        ColumnPath::parse(name).map_err(|message| self.wrong(message))
    }

    fn template(&self, name: &str) -> Result<ColumnTemplate, BenchmarkError> {
        ColumnTemplate::parse(&format!("{{{name}}}")).map_err(|message| self.wrong(message))
    }

    fn wrong(&self, found: String) -> BenchmarkError {
        BenchmarkError::File { path: self.file.to_path_buf(), expected: "columns with plain names".to_owned(), found }
    }
}

const ANSWERS: &[&str] = &["answers", "answer", "label", "gt_answer"];
const OPTIONS: &[&str] = &["options", "choices"];
const BOXES: &[&str] = &["box", "bbox", "region"];

/// What a rule for short answers compares answers with.
fn reference_of(rule: ShortAnswerRule) -> ReferenceKind {
    match rule {
        ShortAnswerRule::Mme(_) | ShortAnswerRule::PopeLmms => ReferenceKind::YesNo,
        ShortAnswerRule::SlakeLmms => ReferenceKind::OpenOrClosed,
        _ => ReferenceKind::Answers,
    }
}

fn specification(data: &OwnData<'_>) -> Result<BenchmarkSpec, BenchmarkError> {
    let columns = Columns { file: data.file, names: column_names(data.file)? };
    let unknown = || BenchmarkError::File {
        path: data.file.to_path_buf(),
        expected: format!("one of the metrics {}", own_metrics().join(", ")),
        found: format!("{:?}", data.metric),
    };
    let (rule, kind, prompt) = match METRICS.iter().find(|(name, ..)| *name == data.metric) {
        Some((_, rule, kind, prompt)) => (*rule, *kind, *prompt),
        None => {
            let rule = ScorerRule::by_name(data.metric).ok_or_else(unknown)?;
            let (kind, prompt) = if let ScorerRule::ShortAnswer(short) = rule {
                (reference_of(short), SHORT)
            } else {
                match METRICS.iter().find(|(_, known, ..)| std::mem::discriminant(known) == std::mem::discriminant(&rule)) {
                    Some((_, _, kind, prompt)) => (*kind, *prompt),
                    None if rule == ScorerRule::JudgeMatch => (ReferenceKind::Answers, PLAIN),
                    None if rule.needs_judge() => (ReferenceKind::Judged, PLAIN),
                    None if has_options(&columns) => (ReferenceKind::ChoiceOrAnswers, LETTER),
                    None if columns.any(BOXES).is_some() => (ReferenceKind::Region, BOX),
                    None => (ReferenceKind::Answers, SHORT),
                }
            };
            (rule, kind, prompt)
        }
    };
    let file_name = data.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let prompt = data.prompt.unwrap_or(prompt);
    let mut parts = super::prompt::PromptParts { template: prompt.to_owned(), ..Default::default() };
    parts.context = Some("{context}\n".to_owned());
    if prompt.contains("{options}") {
        parts.open_template = Some(SHORT.to_owned());
    }
    let prompt = PromptTemplate::build(parts, PROMPT_HOLES).map_err(|(_, message)| BenchmarkError::File {
        path: data.file.to_path_buf(),
        expected: "a prompt template".to_owned(),
        found: message,
    })?;
    let optional = |names: &[&str]| columns.any(names).map(|name| columns.template(&name)).transpose();
    let table = TableSpec {
        files: vec![TableFiles { pattern: file_name.clone(), category: None, rows: Vec::new() }],
        member: None,
        explode: Vec::new(),
        rows: Vec::new(),
        filters: Vec::new(),
        having: Vec::new(),
        joins: Vec::new(),
        key: columns.template(&columns.any(&["id", "question_id", "key", "index"]).unwrap_or_else(|| "@row".to_owned()))?,
        cluster: optional(&["cluster"])?,
        category: optional(&["category"])?,
        question: columns.template(&columns.needed(&["question", "text", "prompt"])?)?,
        context: optional(&["context", "hint"])?,
        images: optional(&["image", "images", "image_path"])?.into_iter().collect(),
        image_id: optional(&["image_id"])?,
        ocr_tokens: columns.any(&["ocr_tokens"]).map(|name| columns.path(&name)).transpose()?,
        reference: reference(&columns, kind)?,
        absent_is_empty: true,
    };
    let form = DataSpec {
        form: "own".to_owned(),
        hub: None,
        obtain: None,
        root: ".".to_owned(),
        format: DataFormat::Table(Box::new(table)),
        image: ImagePattern::any(),
    };
    Ok(BenchmarkSpec {
        name: name_of(&file_name),
        title: file_name,
        licence: "the user's own".to_owned(),
        source: data.file.display().to_string(),
        data: form.clone(),
        forms: vec![form],
        prompt_source: if data.prompt.is_some() { "the user's own" } else { "LLaVA-1.5, docs/Evaluation.md" }.to_owned(),
        prompt,
        max_new_tokens: 128,
        scorer: ScorerSpec::new(rule),
        reference_scores: Vec::new(),
        answering: Default::default(),
        stop_when_decided: false,
        submission: None,
    })
}

fn has_options(columns: &Columns<'_>) -> bool {
    columns.any(OPTIONS).is_some() || columns.any(&["A"]).is_some()
}

fn reference(columns: &Columns<'_>, kind: ReferenceKind) -> Result<TableReference, BenchmarkError> {
    let answer = || columns.path(&columns.needed(ANSWERS)?);
    Ok(match kind {
        ReferenceKind::Answers => TableReference::Answers { answers: answer()?, repeat: 10, counts: Vec::new() },
        ReferenceKind::YesNo => TableReference::YesNo { answer: answer()? },
        ReferenceKind::Choice | ReferenceKind::ChoiceOrAnswers => {
            let options = match columns.any(OPTIONS) {
                Some(list) => ChoiceOptions::List(columns.path(&list)?),
                None => {
                    columns.needed(&["A"])?;
                    let letters = ('A'..='Z').map(|letter| columns.path(&letter.to_string()));
                    ChoiceOptions::Columns(letters.collect::<Result<_, _>>()?)
                }
            };
            TableReference::Choice {
                options,
                answer: answer()?,
                form: AnswerForm::LetterOrText,
                or_answers: kind == ReferenceKind::ChoiceOrAnswers,
            }
        }
        ReferenceKind::OpenOrClosed => TableReference::OpenOrClosed {
            answer: answer()?,
            column: columns.path(&columns.needed(&["answer_type"])?)?,
            values: vec!["OPEN".to_owned(), "open".to_owned()],
            open_has_them: true,
        },
        ReferenceKind::Region => TableReference::Region {
            region: columns.path(&columns.needed(BOXES)?)?,
            form: RegionForm::Xyxy,
            size: match (columns.any(&["width"]), columns.any(&["height"])) {
                (Some(width), Some(height)) => Some((columns.path(&width)?, columns.path(&height)?)),
                _ => None,
            },
        },
        ReferenceKind::Judged => TableReference::Judged {
            answer: answer()?,
            // Not `context`, which is for the model that answers.
            context: columns.any(&["caption", "captions"]).map(|name| columns.template(&name)).transpose()?,
            capabilities: columns.any(&["capabilities", "capability"]).map(|name| columns.path(&name)).transpose()?,
        },
        ReferenceKind::Withheld => TableReference::Withheld { options: None },
    })
}

/// A benchmark's name of a file's name: without its ending, in lower case, `-` for what a name may not have.
fn name_of(file_name: &str) -> String {
    let stem = file_name.split('.').next().unwrap_or_default().to_lowercase();
    let plain = |character: char| if character.is_ascii_alphanumeric() || "_+-".contains(character) { character } else { '-' };
    let name: String = stem.chars().map(plain).take(60).collect();
    let name = name.trim_start_matches(|character: char| !character.is_ascii_alphanumeric());
    if name.is_empty() { "own".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_give_names() {
        for (file, name) in [("My Set.v2.jsonl", "my-set"), ("-x.csv", "x"), ("ü.csv", "own"), ("a_b+c.tsv", "a_b+c")] {
            assert_eq!(name_of(file), name);
        }
    }
}
