//! Reading benchmark TOML files, the built-in ones among them.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::error::BenchmarkError;
use super::pattern::{ImagePattern, PromptTemplate};
use super::spec::{
    BenchmarkSpec, BoxSpace, DataFormat, DataSpec, ReferenceScore, ScorerRule, ScorerSpec, SplitFile, ThresholdRule, VqaVariant,
};

/// Longest answer that a benchmark may ask for.
const MAX_NEW_TOKENS_LIMIT: usize = 4096;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        /// Names and texts of the benchmarks that the program knows.
        pub(super) const BUILT_IN: &[(&str, &str)] = &[
            $(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/benchmarks/", $name, ".toml")))),*
        ];
    };
}

built_in!(
    "vqav2",
    "pope",
    "textvqa",
    "textvqa_ocr",
    "refcoco",
    "refcoco+",
    "refcocog",
    "pico-vqa",
    "pico-pope",
    "pico-textvqa",
    "pico-refcoco",
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpecFile {
    name: Spanned<String>,
    title: String,
    licence: String,
    source: String,
    data: Spanned<DataTable>,
    prompt: PromptTable,
    generation: GenerationTable,
    scorer: Spanned<ScorerTable>,
    #[serde(default)]
    reference_scores: Vec<Spanned<ReferenceScore>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum FormatName {
    Vqav2,
    Pope,
    Textvqa,
    #[serde(rename = "refcoco-minigpt4")]
    RefcocoMinigpt4,
    LlavaConversations,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DataTable {
    root: String,
    format: FormatName,
    image: Spanned<String>,
    questions: Option<Spanned<String>>,
    annotations: Option<Spanned<String>>,
    ocr: Option<Spanned<String>>,
    rows: Option<Spanned<Vec<usize>>>,
    splits: Option<Spanned<Vec<SplitTable>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitTable {
    name: String,
    file: String,
    #[serde(default)]
    rows: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptTable {
    template: Spanned<String>,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerationTable {
    max_new_tokens: Spanned<usize>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum ScorerKind {
    Vqa,
    Pope,
    Textvqa,
    Grounding,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScorerTable {
    kind: Spanned<ScorerKind>,
    variant: Option<Spanned<VqaVariant>>,
    box_space: Option<Spanned<BoxSpace>>,
    threshold_rule: Option<Spanned<ThresholdRule>>,
    primary_metric: Option<Spanned<String>>,
}

/// Turns what is wrong at a place into an error that names line and column.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn error<T>(&self, at: &Spanned<T>, message: impl std::fmt::Display) -> BenchmarkError {
        let before = self.text.get(..at.span().start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        BenchmarkError::Spec { path: self.path.to_path_buf(), message: format!("line {line}, column {column}: {message}") }
    }

    /// A field that the format or kind must have.
    fn needed<T, U>(&self, field: Option<Spanned<T>>, name: &str, owner: &str, table: &Spanned<U>) -> Result<T, BenchmarkError> {
        field.map(Spanned::into_inner).ok_or_else(|| self.error(table, format_args!("{owner} needs the field `{name}`")))
    }

    /// A field that the format or kind must not have.
    fn unused<T>(&self, field: &Option<Spanned<T>>, name: &str, owner: &str) -> Result<(), BenchmarkError> {
        match field {
            Some(value) => Err(self.error(value, format_args!("the field `{name}` has no use with {owner}"))),
            None => Ok(()),
        }
    }
}

impl BenchmarkSpec {
    /// The benchmarks that the program knows, in the order in which they are listed to people.
    pub fn list() -> Result<Vec<Self>, BenchmarkError> {
        BUILT_IN.iter().map(|(name, text)| Self::parse(text, Path::new(&format!("{name}.toml")))).collect()
    }

    /// Reads a benchmark from TOML text. `path` is for messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, BenchmarkError> {
        let place = Place { path, text };
        let file: SpecFile = toml::from_str(text).map_err(|error| BenchmarkError::Spec {
            path: path.to_path_buf(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        if !is_plain_name(file.name.get_ref()) {
            let message =
                "`name` must be 1 to 64 lower-case letters, digits, `.`, `_`, `+` or `-`, beginning with a letter or digit";
            return Err(place.error(&file.name, message));
        }
        let format = file.data.get_ref().format;
        let (hole, allowed): (&str, &[&str]) = match format {
            FormatName::Vqav2 => ("image_id", &["question"]),
            FormatName::Pope | FormatName::RefcocoMinigpt4 | FormatName::LlavaConversations => ("image", &["question"]),
            FormatName::Textvqa => ("image_id", &["question", "ocr_tokens"]),
        };
        let prompt = PromptTemplate::parse(file.prompt.template.get_ref(), allowed)
            .map_err(|message| place.error(&file.prompt.template, message))?;
        let max_new_tokens = *file.generation.max_new_tokens.get_ref();
        if !(1..=MAX_NEW_TOKENS_LIMIT).contains(&max_new_tokens) {
            let message = format!("expected 1 to {MAX_NEW_TOKENS_LIMIT} new tokens, found {max_new_tokens}");
            return Err(place.error(&file.generation.max_new_tokens, message));
        }
        let scorer = scorer(&place, format, file.scorer)?;
        for score in &file.reference_scores {
            let metric = &score.get_ref().metric;
            if !scorer.rule.metric_names().contains(&metric.as_str()) {
                return Err(place.error(score, unknown_metric(metric, &scorer.rule)));
            }
        }
        Ok(Self {
            name: file.name.into_inner(),
            title: file.title,
            licence: file.licence,
            source: file.source,
            data: data(&place, hole, file.data)?,
            prompt,
            prompt_source: file.prompt.source,
            max_new_tokens,
            scorer,
            reference_scores: file.reference_scores.into_iter().map(Spanned::into_inner).collect(),
        })
    }
}

/// A name is also a folder name in the output of a run.
fn is_plain_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._+-".contains(&byte);
    name.len() <= 64 && name.bytes().all(good) && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

fn data(place: &Place<'_>, hole: &str, table: Spanned<DataTable>) -> Result<DataSpec, BenchmarkError> {
    // Fields are taken out one by one below; the table's place is still needed for what is missing.
    let span = Spanned::new(table.span(), ());
    let DataTable { root, format, image, questions, annotations, ocr, rows, splits } = table.into_inner();
    let image = ImagePattern::parse(image.get_ref(), hole).map_err(|message| place.error(&image, message))?;
    let owner = match format {
        FormatName::Vqav2 => "the format `vqav2`",
        FormatName::Pope => "the format `pope`",
        FormatName::Textvqa => "the format `textvqa`",
        FormatName::RefcocoMinigpt4 => "the format `refcoco-minigpt4`",
        FormatName::LlavaConversations => "the format `llava-conversations`",
    };
    if matches!(format, FormatName::Pope | FormatName::RefcocoMinigpt4) {
        place.unused(&annotations, "annotations", owner)?;
        place.unused(&rows, "rows", owner)?;
    } else {
        place.unused(&splits, "splits", owner)?;
    }
    if !matches!(format, FormatName::Vqav2 | FormatName::LlavaConversations) {
        place.unused(&questions, "questions", owner)?;
    }
    if format == FormatName::LlavaConversations {
        place.unused(&annotations, "annotations", owner)?;
    }
    if format != FormatName::Textvqa {
        place.unused(&ocr, "ocr", owner)?;
    }
    let rows = rows.map(Spanned::into_inner).unwrap_or_default();
    let format = match format {
        FormatName::Vqav2 => DataFormat::Vqav2 {
            questions: place.needed(questions, "questions", owner, &span)?,
            annotations: place.needed(annotations, "annotations", owner, &span)?,
            rows,
        },
        FormatName::Textvqa => DataFormat::Textvqa {
            annotations: place.needed(annotations, "annotations", owner, &span)?,
            ocr: ocr.map(Spanned::into_inner),
            rows,
        },
        FormatName::LlavaConversations => {
            DataFormat::LlavaConversations { questions: place.needed(questions, "questions", owner, &span)?, rows }
        }
        FormatName::Pope => DataFormat::Pope { splits: split_files(place, splits, owner, &span)? },
        FormatName::RefcocoMinigpt4 => DataFormat::RefcocoMinigpt4 { splits: split_files(place, splits, owner, &span)? },
    };
    Ok(DataSpec { root, format, image })
}

fn split_files(
    place: &Place<'_>,
    splits: Option<Spanned<Vec<SplitTable>>>,
    owner: &str,
    table: &Spanned<()>,
) -> Result<Vec<SplitFile>, BenchmarkError> {
    let at = splits.as_ref().map(|splits| Spanned::new(splits.span(), ()));
    let splits = place.needed(splits, "splits", owner, table)?;
    let at = at.as_ref().unwrap_or(table);
    if splits.is_empty() {
        return Err(place.error(at, "expected at least one split"));
    }
    for (index, split) in splits.iter().enumerate() {
        if split.name.is_empty() || split.name.contains('/') {
            return Err(place.error(at, format_args!("{:?} is no name for a split", split.name)));
        }
        if splits.iter().take(index).any(|earlier| earlier.name == split.name) {
            return Err(place.error(at, format_args!("two splits are called {:?}", split.name)));
        }
    }
    Ok(splits.into_iter().map(|SplitTable { name, file, rows }| SplitFile { name, file, rows }).collect())
}

fn scorer(place: &Place<'_>, format: FormatName, table: Spanned<ScorerTable>) -> Result<ScorerSpec, BenchmarkError> {
    let span = Spanned::new(table.span(), ());
    let ScorerTable { kind, variant, box_space, threshold_rule, primary_metric } = table.into_inner();
    let owner = match kind.get_ref() {
        ScorerKind::Vqa => "the scorer `vqa`",
        ScorerKind::Pope => "the scorer `pope`",
        ScorerKind::Textvqa => "the scorer `textvqa`",
        ScorerKind::Grounding => "the scorer `grounding`",
    };
    let fits = match format {
        FormatName::Vqav2 | FormatName::Textvqa | FormatName::LlavaConversations => {
            matches!(kind.get_ref(), ScorerKind::Vqa | ScorerKind::Textvqa)
        }
        FormatName::Pope => *kind.get_ref() == ScorerKind::Pope,
        FormatName::RefcocoMinigpt4 => *kind.get_ref() == ScorerKind::Grounding,
    };
    if !fits {
        return Err(place.error(&kind, format_args!("{owner} cannot score data of this format")));
    }
    if *kind.get_ref() != ScorerKind::Vqa {
        place.unused(&variant, "variant", owner)?;
    }
    if *kind.get_ref() != ScorerKind::Grounding {
        place.unused(&box_space, "box_space", owner)?;
        place.unused(&threshold_rule, "threshold_rule", owner)?;
    }
    let rule = match kind.get_ref() {
        ScorerKind::Vqa => ScorerRule::Vqa { variant: place.needed(variant, "variant", owner, &span)? },
        ScorerKind::Pope => ScorerRule::Pope,
        ScorerKind::Textvqa => ScorerRule::Textvqa,
        ScorerKind::Grounding => ScorerRule::Grounding {
            box_space: place.needed(box_space, "box_space", owner, &span)?,
            threshold_rule: place.needed(threshold_rule, "threshold_rule", owner, &span)?,
        },
    };
    match primary_metric {
        None => Ok(ScorerSpec::new(rule)),
        Some(metric) if rule.metric_names().contains(&metric.get_ref().as_str()) => {
            Ok(ScorerSpec { rule, primary_metric: metric.into_inner() })
        }
        Some(metric) => Err(place.error(&metric, unknown_metric(metric.get_ref(), &rule))),
    }
}

fn unknown_metric(metric: &str, rule: &ScorerRule) -> String {
    format!("expected one of the metrics {}, found {metric:?}", rule.metric_names().join(", "))
}
