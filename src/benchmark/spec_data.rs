//! The table `data` of a benchmark's TOML file: which fields each format has.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::error::BenchmarkError;
use super::pattern::ImagePattern;
use super::spec::{DataFormat, DataSpec, SplitFile};
use super::spec_file::Place;

/// `data.format`.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FormatName {
    Vqav2,
    Pope,
    Textvqa,
    #[serde(rename = "refcoco-minigpt4")]
    RefcocoMinigpt4,
    LlavaConversations,
    VqaRad,
    ZeroShot,
    Retrieval,
    LlavaBench,
    LlavaMedChat,
    MmVet,
}

impl FormatName {
    /// The format, for messages.
    pub fn owner(self) -> &'static str {
        match self {
            Self::Vqav2 => "the format `vqav2`",
            Self::Pope => "the format `pope`",
            Self::Textvqa => "the format `textvqa`",
            Self::RefcocoMinigpt4 => "the format `refcoco-minigpt4`",
            Self::LlavaConversations => "the format `llava-conversations`",
            Self::VqaRad => "the format `vqa-rad`",
            Self::ZeroShot => "the format `zero-shot`",
            Self::Retrieval => "the format `retrieval`",
            Self::LlavaBench => "the format `llava-bench`",
            Self::LlavaMedChat => "the format `llava-med-chat`",
            Self::MmVet => "the format `mm-vet`",
        }
    }

    /// Whether images and texts are only compared, so that nothing is asked in words.
    pub fn compares_embeddings(self) -> bool {
        matches!(self, Self::ZeroShot | Self::Retrieval)
    }

    /// Holes that a prompt template may have.
    pub fn prompt_holes(self) -> &'static [&'static str] {
        if self == Self::Textvqa { &["question", "ocr_tokens"] } else { &["question"] }
    }

    /// The hole of the image's file name.
    fn image_hole(self) -> &'static str {
        if matches!(self, Self::Vqav2 | Self::Textvqa) { "image_id" } else { "image" }
    }

    /// Fields beside `root`, `format` and `image`.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Vqav2 => &["questions", "annotations", "rows"],
            Self::Pope | Self::RefcocoMinigpt4 => &["splits"],
            Self::Textvqa => &["annotations", "ocr", "rows"],
            Self::LlavaConversations => &["questions", "rows"],
            Self::VqaRad => &["questions", "phrase_types", "rows"],
            Self::ZeroShot => &["labels", "class_names", "templates", "set", "template_set", "rows"],
            Self::Retrieval => &["captions", "rows"],
            Self::LlavaBench => &["questions", "answers", "contexts", "rows"],
            Self::LlavaMedChat | Self::MmVet => &["questions", "rows"],
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DataTable {
    root: String,
    pub format: FormatName,
    image: Spanned<String>,
    questions: Option<Spanned<String>>,
    annotations: Option<Spanned<String>>,
    ocr: Option<Spanned<String>>,
    phrase_types: Option<Spanned<Vec<String>>>,
    labels: Option<Spanned<String>>,
    class_names: Option<Spanned<String>>,
    templates: Option<Spanned<String>>,
    set: Option<Spanned<String>>,
    template_set: Option<Spanned<String>>,
    captions: Option<Spanned<String>>,
    answers: Option<Spanned<String>>,
    contexts: Option<Spanned<String>>,
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

impl DataTable {
    /// Names and places of the optional fields that the file has.
    fn given(&self) -> Vec<(&'static str, Range<usize>)> {
        fn span<T>(field: &Option<Spanned<T>>) -> Option<Range<usize>> {
            field.as_ref().map(Spanned::span)
        }
        [
            ("questions", span(&self.questions)),
            ("annotations", span(&self.annotations)),
            ("ocr", span(&self.ocr)),
            ("phrase_types", span(&self.phrase_types)),
            ("labels", span(&self.labels)),
            ("class_names", span(&self.class_names)),
            ("templates", span(&self.templates)),
            ("set", span(&self.set)),
            ("template_set", span(&self.template_set)),
            ("captions", span(&self.captions)),
            ("answers", span(&self.answers)),
            ("contexts", span(&self.contexts)),
            ("rows", span(&self.rows)),
            ("splits", span(&self.splits)),
        ]
        .into_iter()
        .filter_map(|(name, span)| Some((name, span?)))
        .collect()
    }
}

/// Reads the table.
pub(super) fn data(place: &Place<'_>, table: Spanned<DataTable>) -> Result<DataSpec, BenchmarkError> {
    // Fields are taken out one by one below; the table's place is still needed for what is missing.
    let span = Spanned::new(table.span(), ());
    let table = table.into_inner();
    let (name, owner) = (table.format, table.format.owner());
    for (field, at) in table.given() {
        if !name.fields().contains(&field) {
            place.unused(&Some(Spanned::new(at, ())), field, owner)?;
        }
    }
    let image =
        ImagePattern::parse(table.image.get_ref(), name.image_hole()).map_err(|message| place.error(&table.image, message))?;
    let needed = |field: Option<Spanned<String>>, name: &str| place.needed(field, name, owner, &span);
    let optional = |field: Option<Spanned<String>>| field.map(Spanned::into_inner);
    let rows = table.rows.map(Spanned::into_inner).unwrap_or_default();
    let format = match name {
        FormatName::Vqav2 => DataFormat::Vqav2 {
            questions: needed(table.questions, "questions")?,
            annotations: needed(table.annotations, "annotations")?,
            rows,
        },
        FormatName::Textvqa => {
            DataFormat::Textvqa { annotations: needed(table.annotations, "annotations")?, ocr: optional(table.ocr), rows }
        }
        FormatName::Pope => DataFormat::Pope { splits: split_files(place, table.splits, owner, &span)? },
        FormatName::RefcocoMinigpt4 => DataFormat::RefcocoMinigpt4 { splits: split_files(place, table.splits, owner, &span)? },
        FormatName::LlavaConversations => {
            DataFormat::LlavaConversations { questions: needed(table.questions, "questions")?, rows }
        }
        FormatName::VqaRad => DataFormat::VqaRad {
            questions: needed(table.questions, "questions")?,
            phrase_types: table.phrase_types.map(Spanned::into_inner).unwrap_or_default(),
            rows,
        },
        FormatName::ZeroShot => DataFormat::ZeroShot {
            labels: needed(table.labels, "labels")?,
            class_names: needed(table.class_names, "class_names")?,
            templates: needed(table.templates, "templates")?,
            set: optional(table.set),
            template_set: optional(table.template_set),
            rows,
        },
        FormatName::Retrieval => DataFormat::Retrieval { captions: needed(table.captions, "captions")?, rows },
        FormatName::LlavaBench => DataFormat::LlavaBench {
            questions: needed(table.questions, "questions")?,
            answers: needed(table.answers, "answers")?,
            contexts: needed(table.contexts, "contexts")?,
            rows,
        },
        FormatName::LlavaMedChat => DataFormat::LlavaMedChat { questions: needed(table.questions, "questions")?, rows },
        FormatName::MmVet => DataFormat::MmVet { questions: needed(table.questions, "questions")?, rows },
    };
    Ok(DataSpec { root: table.root, format, image })
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
