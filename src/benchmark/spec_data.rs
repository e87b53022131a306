//! The table `data` of a benchmark's TOML file: which fields each format has.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::error::BenchmarkError;
use super::pattern::ImagePattern;
use super::spec::{CaptionFiles, CaptionLayout, DataFormat, DataSpec, RefcocoFiles, RegionTask, SplitFile};
use super::spec_file::Place;
use super::spec_table::{FileEntry, JoinTable, ReferenceTable, TableFields, table as read_table};

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
    Captions,
    RefcocoRefs,
    LlavaBench,
    LlavaMedChat,
    MmVet,
    Table,
    MmeRelease,
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
            Self::Captions => "the format `captions`",
            Self::RefcocoRefs => "the format `refcoco-refs`",
            Self::LlavaBench => "the format `llava-bench`",
            Self::LlavaMedChat => "the format `llava-med-chat`",
            Self::MmVet => "the format `mm-vet`",
            Self::Table => "the format `table`",
            Self::MmeRelease => "the format `mme-release`",
        }
    }

    /// Whether images and texts are only compared, so that nothing is asked in words.
    pub fn compares_embeddings(self) -> bool {
        matches!(self, Self::ZeroShot | Self::Retrieval)
    }

    /// Holes that a prompt template may have.
    pub fn prompt_holes(self) -> &'static [&'static str] {
        match self {
            Self::Textvqa => &["question", "ocr_tokens"],
            Self::Table => super::prompt::PROMPT_HOLES,
            _ => &["question"],
        }
    }

    /// The hole of the image's file name.
    fn image_hole(self) -> &'static str {
        if matches!(self, Self::Vqav2 | Self::Textvqa) { "image_id" } else { "image" }
    }

    /// Fields beside those that every format has.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::LlavaBench => &["image", "questions", "answers", "contexts", "rows"],
            Self::LlavaMedChat | Self::MmVet => &["image", "questions", "rows"],
            Self::Vqav2 => &["image", "questions", "annotations", "rows"],
            Self::Pope => &["image", "splits"],
            Self::RefcocoMinigpt4 => &["image", "splits", "task"],
            Self::Textvqa => &["image", "annotations", "ocr", "rows"],
            Self::LlavaConversations => &["image", "questions", "rows"],
            Self::VqaRad => &["image", "questions", "phrase_types", "rows"],
            Self::ZeroShot => &["image", "labels", "class_names", "templates", "set", "template_set", "rows"],
            Self::Retrieval => &["image", "captions", "rows"],
            Self::Captions => &["image", "captions", "layout", "question", "keep_splits", "withheld", "rows"],
            Self::RefcocoRefs => &["image", "refs", "instances", "keep_splits", "task", "rows"],
            Self::Table => &[
                "files",
                "member",
                "explode",
                "rows",
                "where",
                "having",
                "join",
                "key",
                "cluster",
                "category",
                "question",
                "context",
                "images",
                "image_id",
                "ocr_tokens",
                "reference",
                "absent_is_empty",
            ],
            Self::MmeRelease => &["rows"],
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DataTable {
    form: Option<Spanned<String>>,
    hub: Option<Spanned<String>>,
    obtain: Option<String>,
    root: String,
    pub format: FormatName,
    image: Option<Spanned<String>>,
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
    layout: Option<Spanned<CaptionLayout>>,
    question: Option<Spanned<String>>,
    keep_splits: Option<Spanned<Vec<String>>>,
    withheld: Option<Spanned<bool>>,
    refs: Option<Spanned<String>>,
    instances: Option<Spanned<String>>,
    task: Option<Spanned<RegionTask>>,
    files: Option<Spanned<Vec<FileEntry>>>,
    member: Option<Spanned<String>>,
    explode: Option<Spanned<Vec<String>>>,
    #[serde(rename = "where")]
    filters: Option<Spanned<BTreeMap<String, Vec<String>>>>,
    having: Option<Spanned<Vec<String>>>,
    join: Option<Spanned<Vec<JoinTable>>>,
    key: Option<Spanned<String>>,
    cluster: Option<Spanned<String>>,
    category: Option<Spanned<String>>,
    context: Option<Spanned<String>>,
    images: Option<Spanned<Vec<String>>>,
    image_id: Option<Spanned<String>>,
    ocr_tokens: Option<Spanned<String>>,
    reference: Option<Spanned<ReferenceTable>>,
    absent_is_empty: Option<Spanned<bool>>,
}

/// `[data]`, or several forms of the same data as `[[data]]`.
pub(super) struct DataTables(pub Vec<Spanned<DataTable>>);

impl<'de> Deserialize<'de> for DataTables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TablesVisitor;
        impl<'de> Visitor<'de> for TablesVisitor {
            type Value = DataTables;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a table [data] or tables [[data]]")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DataTables, A::Error> {
                // The place of a lone table is put in by its caller.
                let table = DataTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(DataTables(vec![Spanned::new(0..0, table)]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<DataTables, A::Error> {
                let mut found = Vec::new();
                while let Some(table) = tables.next_element()? {
                    found.push(table);
                }
                Ok(DataTables(found))
            }
        }
        deserializer.deserialize_any(TablesVisitor)
    }
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
            ("image", span(&self.image)),
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
            ("layout", span(&self.layout)),
            ("question", span(&self.question)),
            ("keep_splits", span(&self.keep_splits)),
            ("withheld", span(&self.withheld)),
            ("refs", span(&self.refs)),
            ("instances", span(&self.instances)),
            ("task", span(&self.task)),
            ("files", span(&self.files)),
            ("member", span(&self.member)),
            ("explode", span(&self.explode)),
            ("where", span(&self.filters)),
            ("having", span(&self.having)),
            ("join", span(&self.join)),
            ("key", span(&self.key)),
            ("cluster", span(&self.cluster)),
            ("category", span(&self.category)),
            ("context", span(&self.context)),
            ("images", span(&self.images)),
            ("image_id", span(&self.image_id)),
            ("ocr_tokens", span(&self.ocr_tokens)),
            ("reference", span(&self.reference)),
            ("absent_is_empty", span(&self.absent_is_empty)),
        ]
        .into_iter()
        .filter_map(|(name, span)| Some((name, span?)))
        .collect()
    }
}

/// Reads all forms.
pub(super) fn forms(place: &Place<'_>, tables: Vec<Spanned<DataTable>>) -> Result<Vec<DataSpec>, BenchmarkError> {
    let mut forms: Vec<DataSpec> = Vec::with_capacity(tables.len());
    for table in tables {
        let at = Spanned::new(table.span(), ());
        let form = data(place, table)?;
        if forms.iter().any(|earlier| earlier.form == form.form) {
            return Err(place.error(&at, format_args!("two forms of the data are called {:?}", form.form)));
        }
        forms.push(form);
    }
    Ok(forms)
}

/// The hub's name of a data set, such as `datasets/lmms-lab/POPE`.
fn is_hub_name(name: &str) -> bool {
    let mut parts = name.split('/');
    let plain = |part: Option<&str>| {
        part.is_some_and(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        })
    };
    parts.next() == Some("datasets") && plain(parts.next()) && plain(parts.next()) && parts.next().is_none()
}

/// Reads one table.
fn data(place: &Place<'_>, table: Spanned<DataTable>) -> Result<DataSpec, BenchmarkError> {
    // Fields are taken out one by one below; the table's place is still needed for what is missing.
    let span = Spanned::new(table.span(), ());
    let mut table = table.into_inner();
    let (name, owner) = (table.format, table.format.owner());
    for (field, at) in table.given() {
        if !name.fields().contains(&field) {
            place.unused(&Some(Spanned::new(at, ())), field, owner)?;
        }
    }
    let image = match (table.image.take(), name) {
        (None, FormatName::Table | FormatName::MmeRelease) => ImagePattern::any(),
        (image, _) => {
            let image = place.needed_spanned(image, "image", owner, &span)?;
            ImagePattern::parse(image.get_ref(), name.image_hole()).map_err(|message| place.error(&image, message))?
        }
    };
    if let Some(hub) = table.hub.as_ref().filter(|hub| !is_hub_name(hub.get_ref())) {
        return Err(
            place.error(hub, format_args!("expected a name such as \"datasets/lmms-lab/POPE\", found {:?}", hub.get_ref()))
        );
    }
    let form = match table.form.take() {
        Some(form) if form.get_ref().is_empty() || form.get_ref().contains(char::is_whitespace) => {
            return Err(place.error(&form, format_args!("expected a short name without spaces, found {:?}", form.get_ref())));
        }
        form => form.map_or_else(|| "official".to_owned(), Spanned::into_inner),
    };
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
        FormatName::RefcocoMinigpt4 => DataFormat::RefcocoMinigpt4 {
            splits: split_files(place, table.splits, owner, &span)?,
            task: table.task.map(Spanned::into_inner).unwrap_or_default(),
        },
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
        FormatName::MmeRelease => DataFormat::MmeRelease { rows },
        FormatName::Captions => {
            let layout = place.needed(table.layout, "layout", owner, &span)?;
            if layout != CaptionLayout::Karpathy && table.keep_splits.is_some() {
                place.unused(&table.keep_splits, "keep_splits", "this layout")?;
            }
            DataFormat::Captions(CaptionFiles {
                captions: needed(table.captions, "captions")?,
                layout,
                question: needed(table.question, "question")?,
                keep_splits: table.keep_splits.map(Spanned::into_inner).unwrap_or_default(),
                withheld: table.withheld.is_some_and(Spanned::into_inner),
                rows,
            })
        }
        FormatName::RefcocoRefs => DataFormat::RefcocoRefs {
            files: RefcocoFiles {
                refs: needed(table.refs, "refs")?,
                instances: needed(table.instances, "instances")?,
                keep_splits: place.needed(table.keep_splits, "keep_splits", owner, &span)?,
                rows,
            },
            task: table.task.map(Spanned::into_inner).unwrap_or_default(),
        },
        FormatName::Table => {
            let fields = TableFields {
                files: table.files,
                member: table.member,
                explode: table.explode,
                rows,
                filters: table.filters,
                having: table.having,
                join: table.join,
                key: table.key,
                cluster: table.cluster,
                category: table.category,
                question: table.question,
                context: table.context,
                images: table.images,
                image_id: table.image_id,
                ocr_tokens: table.ocr_tokens,
                reference: table.reference,
                absent_is_empty: table.absent_is_empty.is_some_and(Spanned::into_inner),
            };
            DataFormat::Table(Box::new(read_table(place, fields, &span)?))
        }
    };
    Ok(DataSpec { form, hub: table.hub.map(Spanned::into_inner), obtain: table.obtain, root: table.root, format, image })
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
