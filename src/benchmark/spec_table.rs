//! The fields of `[data]` for the format `table`.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::columns::{ColumnPath, ColumnTemplate};
use super::error::BenchmarkError;
use super::spec_file::Place;
use super::table_spec::{
    AnswerForm, ChoiceOptions, JoinMissing, JoinSpec, ReferenceKind, RegionForm, TableFiles, TableReference, TableSpec,
};

/// One name, or a name with what is special about its file.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum FileEntry {
    Name(String),
    Table(FileTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileTable {
    file: String,
    category: Option<String>,
    #[serde(default)]
    rows: Vec<usize>,
}

/// One text or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinTable {
    file: Spanned<Texts>,
    member: Option<String>,
    /// A template over the joined file's columns, or the name of one of them.
    on: Spanned<String>,
    /// A template over this table's columns; the same as `on` where it is left out.
    by: Option<Spanned<String>>,
    #[serde(default)]
    columns: Vec<String>,
    #[serde(rename = "as")]
    under: Option<String>,
    #[serde(default)]
    missing: JoinMissing,
    #[serde(default)]
    rows: Vec<usize>,
}

impl ReferenceKind {
    fn owner(self) -> &'static str {
        match self {
            Self::Answers => "the reference `answers`",
            Self::YesNo => "the reference `yes-no`",
            Self::Choice => "the reference `choice`",
            Self::ChoiceOrAnswers => "the reference `choice-or-answers`",
            Self::OpenOrClosed => "the reference `open-or-closed`",
            Self::Region => "the reference `region`",
            Self::Judged => "the reference `judged`",
            Self::Withheld => "the reference `withheld`",
        }
    }

    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Answers => &["answers", "repeat", "counts"],
            Self::YesNo => &["answer"],
            Self::Choice => &["options", "letters", "answer", "answer_form"],
            Self::ChoiceOrAnswers => &["options", "answer", "answer_form"],
            Self::OpenOrClosed => &["answer", "open"],
            Self::Region => &["region", "region_form", "width", "height"],
            Self::Judged => &["answer", "context", "capabilities"],
            Self::Withheld => &["options"],
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenTable {
    column: String,
    values: Option<Vec<String>>,
    /// Instead: every value but these.
    except: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReferenceTable {
    kind: Spanned<ReferenceKind>,
    answers: Option<Spanned<String>>,
    repeat: Option<Spanned<usize>>,
    counts: Option<Spanned<Vec<usize>>>,
    answer: Option<Spanned<String>>,
    options: Option<Spanned<Texts>>,
    /// Instead of `options`: how many letters there are, where the data have no options and no questions.
    letters: Option<Spanned<usize>>,
    answer_form: Option<Spanned<AnswerForm>>,
    open: Option<Spanned<OpenTable>>,
    region: Option<Spanned<String>>,
    region_form: Option<Spanned<RegionForm>>,
    width: Option<Spanned<String>>,
    height: Option<Spanned<String>>,
    context: Option<Spanned<String>>,
    capabilities: Option<Spanned<String>>,
}

/// The fields of a table, taken out of `[data]`.
pub(super) struct TableFields {
    pub files: Option<Spanned<Vec<FileEntry>>>,
    pub member: Option<Spanned<String>>,
    pub explode: Option<Spanned<Vec<String>>>,
    pub rows: Vec<usize>,
    pub filters: Option<Spanned<BTreeMap<String, Vec<String>>>>,
    pub having: Option<Spanned<Vec<String>>>,
    pub join: Option<Spanned<Vec<JoinTable>>>,
    pub key: Option<Spanned<String>>,
    pub cluster: Option<Spanned<String>>,
    pub category: Option<Spanned<String>>,
    pub question: Option<Spanned<String>>,
    pub context: Option<Spanned<String>>,
    pub images: Option<Spanned<Vec<String>>>,
    pub image_id: Option<Spanned<String>>,
    pub ocr_tokens: Option<Spanned<String>>,
    pub reference: Option<Spanned<ReferenceTable>>,
    pub absent_is_empty: bool,
}

const OWNER: &str = "the format `table`";

fn template(place: &Place<'_>, field: &Spanned<String>) -> Result<ColumnTemplate, BenchmarkError> {
    ColumnTemplate::parse(field.get_ref()).map_err(|message| place.error(field, message))
}

fn path(place: &Place<'_>, field: &Spanned<String>) -> Result<ColumnPath, BenchmarkError> {
    ColumnPath::parse(field.get_ref()).map_err(|message| place.error(field, message))
}

/// A template, which must name a column.
fn varying(place: &Place<'_>, field: &Spanned<String>) -> Result<ColumnTemplate, BenchmarkError> {
    let parsed = template(place, field)?;
    if parsed.holes().next().is_none() {
        let message = format!("{:?} is the same for all rows; expected a column such as {{id}} in it", parsed.text());
        return Err(place.error(field, message));
    }
    Ok(parsed)
}

/// Reads the fields.
pub(super) fn table(place: &Place<'_>, fields: TableFields, at: &Spanned<()>) -> Result<TableSpec, BenchmarkError> {
    let optional = |field: &Option<Spanned<String>>| field.as_ref().map(|field| template(place, field)).transpose();
    let files = match fields.files {
        Some(files) if files.get_ref().is_empty() => return Err(place.error(&files, "expected at least one file")),
        files => place.needed(files, "files", OWNER, at)?,
    };
    let images = match fields.images {
        None => Vec::new(),
        Some(images) => {
            let span = Spanned::new(images.span(), ());
            let parse = |text: String| varying(place, &Spanned::new(span.span(), text));
            images.into_inner().into_iter().map(parse).collect::<Result<_, _>>()?
        }
    };
    let mut filters = Vec::new();
    if let Some(given) = fields.filters {
        let span = given.span();
        for (column, values) in given.into_inner() {
            filters.push((path(place, &Spanned::new(span.clone(), column))?, values));
        }
    }
    let key = place.needed_spanned(fields.key, "key", OWNER, at)?;
    let question = place.needed_spanned(fields.question, "question", OWNER, at)?;
    let reference = place.needed(fields.reference, "reference", OWNER, at)?;
    let joins = fields.join.map(Spanned::into_inner).unwrap_or_default();
    Ok(TableSpec {
        files: files
            .into_iter()
            .map(|entry| match entry {
                FileEntry::Name(pattern) => TableFiles { pattern, category: None, rows: Vec::new() },
                FileEntry::Table(FileTable { file, category, rows }) => TableFiles { pattern: file, category, rows },
            })
            .collect(),
        member: fields.member.map(Spanned::into_inner),
        explode: fields.explode.map(Spanned::into_inner).unwrap_or_default(),
        rows: fields.rows,
        filters,
        having: fields.having.map(Spanned::into_inner).unwrap_or_default(),
        joins: joins.into_iter().map(|table| join(place, table)).collect::<Result<_, _>>()?,
        key: varying(place, &key)?,
        cluster: optional(&fields.cluster)?,
        category: optional(&fields.category)?,
        question: template(place, &question)?,
        context: optional(&fields.context)?,
        images,
        image_id: fields.image_id.as_ref().map(|field| varying(place, field)).transpose()?,
        ocr_tokens: fields.ocr_tokens.as_ref().map(|field| path(place, field)).transpose()?,
        reference: self::reference(place, reference, at)?,
        absent_is_empty: fields.absent_is_empty,
    })
}

fn join(place: &Place<'_>, table: JoinTable) -> Result<JoinSpec, BenchmarkError> {
    // A bare name stands for the column of that name.
    let side = |field: &Spanned<String>| {
        let text = field.get_ref();
        let text = if text.contains('{') { text.clone() } else { format!("{{{text}}}") };
        varying(place, &Spanned::new(field.span(), text))
    };
    let by = side(table.by.as_ref().unwrap_or(&table.on))?;
    Ok(JoinSpec {
        on: side(&table.on)?,
        by,
        files: table.file.into_inner().into_vec(),
        member: table.member,
        columns: table.columns,
        under: table.under,
        missing: table.missing,
        rows: table.rows,
    })
}

fn choice_options(place: &Place<'_>, options: &Spanned<Texts>) -> Result<ChoiceOptions, BenchmarkError> {
    let option = |name: &String| path(place, &Spanned::new(options.span(), name.clone()));
    match options.get_ref() {
        Texts::One(name) => Ok(ChoiceOptions::List(option(name)?)),
        Texts::Many(names) if names.is_empty() => Err(place.error(options, "expected at least one column")),
        Texts::Many(names) => Ok(ChoiceOptions::Columns(names.iter().map(option).collect::<Result<_, _>>()?)),
    }
}

fn reference(place: &Place<'_>, table: ReferenceTable, at: &Spanned<()>) -> Result<TableReference, BenchmarkError> {
    fn span<T>(field: &Option<Spanned<T>>) -> Option<std::ops::Range<usize>> {
        field.as_ref().map(Spanned::span)
    }
    let kind = *table.kind.get_ref();
    let owner = kind.owner();
    let at_kind = Spanned::new(table.kind.span(), ());
    let given = [
        ("answers", span(&table.answers)),
        ("repeat", span(&table.repeat)),
        ("counts", span(&table.counts)),
        ("answer", span(&table.answer)),
        ("options", span(&table.options)),
        ("letters", span(&table.letters)),
        ("answer_form", span(&table.answer_form)),
        ("open", span(&table.open)),
        ("region", span(&table.region)),
        ("region_form", span(&table.region_form)),
        ("width", span(&table.width)),
        ("height", span(&table.height)),
        ("context", span(&table.context)),
        ("capabilities", span(&table.capabilities)),
    ];
    for (name, at) in given.into_iter().filter_map(|(name, at)| Some((name, at?))) {
        if !kind.fields().contains(&name) {
            place.unused(&Some(Spanned::new(at, ())), name, owner)?;
        }
    }
    let needed = |field: Option<Spanned<String>>, name: &str| {
        place.needed_spanned(field, name, owner, &at_kind).and_then(|field| path(place, &field))
    };
    let optional = |field: Option<Spanned<String>>| field.map(|field| path(place, &field)).transpose();
    Ok(match kind {
        ReferenceKind::Answers => TableReference::Answers {
            answers: needed(table.answers, "answers")?,
            repeat: match table.repeat {
                Some(repeat) if !(1..=1000).contains(repeat.get_ref()) => {
                    return Err(place.error(&repeat, format_args!("expected 1 to 1000, found {}", repeat.get_ref())));
                }
                repeat => repeat.map_or(1, Spanned::into_inner),
            },
            counts: table.counts.map(Spanned::into_inner).unwrap_or_default(),
        },
        ReferenceKind::YesNo => TableReference::YesNo { answer: needed(table.answer, "answer")? },
        ReferenceKind::Choice | ReferenceKind::ChoiceOrAnswers => {
            let options = match (table.options, table.letters) {
                (Some(_), Some(letters)) => return Err(place.error(&letters, "expected either `options` or `letters`")),
                (None, Some(letters)) if !(2..=26).contains(letters.get_ref()) => {
                    return Err(place.error(&letters, format_args!("expected 2 to 26, found {}", letters.get_ref())));
                }
                (None, Some(letters)) => ChoiceOptions::Letters(letters.into_inner()),
                (options, None) => choice_options(place, &place.needed_spanned(options, "options", owner, &at_kind)?)?,
            };
            TableReference::Choice {
                options,
                answer: needed(table.answer, "answer")?,
                form: table.answer_form.map_or(AnswerForm::Letter, Spanned::into_inner),
                or_answers: kind == ReferenceKind::ChoiceOrAnswers,
            }
        }
        ReferenceKind::OpenOrClosed => {
            let open = place.needed_spanned(table.open, "open", owner, &at_kind)?;
            let column = Spanned::new(open.span(), open.get_ref().column.clone());
            let at = Spanned::new(open.span(), ());
            let OpenTable { column: _, values, except } = open.into_inner();
            let (values, open_has_them) = match (values, except) {
                (Some(values), None) => (values, true),
                (None, Some(except)) => (except, false),
                _ => return Err(place.error(&at, "expected either `values` or `except`")),
            };
            TableReference::OpenOrClosed {
                answer: needed(table.answer, "answer")?,
                column: path(place, &column)?,
                values,
                open_has_them,
            }
        }
        ReferenceKind::Region => TableReference::Region {
            region: needed(table.region, "region")?,
            form: place.needed(table.region_form, "region_form", owner, &at_kind)?,
            size: match (optional(table.width)?, optional(table.height)?) {
                (None, None) => None,
                (Some(width), Some(height)) => Some((width, height)),
                _ => return Err(place.error(at, "`width` and `height` go together")),
            },
        },
        ReferenceKind::Judged => TableReference::Judged {
            answer: needed(table.answer, "answer")?,
            context: table.context.map(|field| template(place, &field)).transpose()?,
            capabilities: optional(table.capabilities)?,
        },
        ReferenceKind::Withheld => {
            TableReference::Withheld { options: table.options.map(|options| choice_options(place, &options)).transpose()? }
        }
    })
}
