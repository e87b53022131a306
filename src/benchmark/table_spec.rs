//! Data that are rows of named columns: what a TOML file says of them.

use super::columns::{ColumnPath, ColumnTemplate};

/// Rows of named columns, in JSON, JSON Lines, CSV, TSV or parquet files, and what in them is what.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSpec {
    /// The files.
    pub files: Vec<TableFiles>,
    /// Where the rows are in a JSON document: `data.rows`; `.` if the document itself is an object of rows by key.
    pub member: Option<String>,
    /// List columns that are taken apart, one row for each place.
    pub explode: Vec<String>,
    /// Permitted numbers of rows taken over all files; empty permits any.
    pub rows: Vec<usize>,
    /// Only rows whose column has one of these values.
    pub filters: Vec<(ColumnPath, Vec<String>)>,
    /// Only rows in which these columns have a value.
    pub having: Vec<String>,
    /// Other files whose columns are added.
    pub joins: Vec<JoinSpec>,
    /// Sample key.
    pub key: ColumnTemplate,
    /// Cluster; the images if there is none.
    pub cluster: Option<ColumnTemplate>,
    /// Category; that of the file if there is none.
    pub category: Option<ColumnTemplate>,
    /// Question.
    pub question: ColumnTemplate,
    /// Hint or passage.
    pub context: Option<ColumnTemplate>,
    /// Images in prompt order: a hole alone may hold an embedded image, a list of images behind `[]`, or a file name; a text
    /// with holes is a file name.
    pub images: Vec<ColumnTemplate>,
    /// What tells embedded images apart; their SHA-256 if there is none.
    pub image_id: Option<ColumnTemplate>,
    /// List of OCR tokens.
    pub ocr_tokens: Option<ColumnPath>,
    /// What a right answer is.
    pub reference: TableReference,
    /// Whether a column that a row has not is one without a value, as in files whose rows have only what they need; otherwise
    /// the row is broken.
    pub absent_is_empty: bool,
}

/// Files of a table, told by a name below the data folder in which `*` and `?` stand for any characters of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFiles {
    /// Name or pattern.
    pub pattern: String,
    /// Category of their samples.
    pub category: Option<String>,
    /// Permitted numbers of rows taken of them; empty permits any.
    pub rows: Vec<usize>,
}

/// A file whose rows are added to those of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinSpec {
    /// Names or patterns.
    pub files: Vec<String>,
    /// As in [`TableSpec::member`].
    pub member: Option<String>,
    /// What identifies a row of the file: a template over its columns.
    pub on: ColumnTemplate,
    /// What says which row is meant: a template over the table's columns.
    pub by: ColumnTemplate,
    /// Columns that are taken; empty takes all that the table has not.
    pub columns: Vec<String>,
    /// Under which column all are put as an object; beside the table's own if there is none.
    pub under: Option<String>,
    /// What becomes of a row that the file does not know.
    pub missing: JoinMissing,
    /// Permitted numbers of rows; empty permits any.
    pub rows: Vec<usize>,
}

/// What becomes of a row without a partner in a join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinMissing {
    /// It is broken.
    #[default]
    Error,
    /// It is left out.
    Drop,
    /// It goes on without the columns.
    Keep,
}

/// What a right answer is, by columns.
#[derive(Clone, Debug, PartialEq)]
pub enum TableReference {
    /// Answers of annotators.
    Answers {
        /// One answer or a list.
        answers: ColumnPath,
        /// As how many equal ones a single answer counts.
        repeat: usize,
        /// Permitted numbers of answers; empty permits any but none.
        counts: Vec<usize>,
    },
    /// Yes or no.
    YesNo {
        /// The label.
        answer: ColumnPath,
    },
    /// One of several options.
    Choice {
        /// The options.
        options: ChoiceOptions,
        /// The right one.
        answer: ColumnPath,
        /// How it is named.
        form: AnswerForm,
        /// Where there are no options, the answers are those of the column `answer`.
        or_answers: bool,
    },
    /// An answer to an open-ended or closed-ended question.
    OpenOrClosed {
        /// The answer.
        answer: ColumnPath,
        /// The column that tells which.
        column: ColumnPath,
        /// Values of it.
        values: Vec<String>,
        /// Whether these are the values for open-ended questions; otherwise they are those for closed-ended ones.
        open_has_them: bool,
    },
    /// A box.
    Region {
        /// Four numbers.
        region: ColumnPath,
        /// What they are.
        form: RegionForm,
        /// Columns of the image's width and height in pixels; else the image is looked at.
        size: Option<(ColumnPath, ColumnPath)>,
    },
    /// For a judge.
    Judged {
        /// Reference answer.
        answer: ColumnPath,
        /// What the judge is told of the image.
        context: Option<ColumnTemplate>,
        /// What is tested, a list.
        capabilities: Option<ColumnPath>,
    },
    /// Known to the benchmark's server alone.
    Withheld {
        /// The options that are shown, where it is a choice.
        options: Option<ChoiceOptions>,
    },
}

/// Where the options of a choice are.
#[derive(Clone, Debug, PartialEq)]
pub enum ChoiceOptions {
    /// A column each; one that is absent, empty or says that there is nothing ends them.
    Columns(Vec<ColumnPath>),
    /// A list, or the text of a list in Python or JSON.
    List(ColumnPath),
    /// Not in the data, but for how many letters there are: such data score answers that were made elsewhere, and ask nothing.
    Letters(usize),
}

impl ChoiceOptions {
    /// The columns that hold options.
    fn columns(&self) -> Vec<&str> {
        match self {
            Self::Columns(paths) => paths.iter().map(ColumnPath::column).collect(),
            Self::List(path) => vec![path.column()],
            Self::Letters(_) => Vec::new(),
        }
    }
}

/// How the right option is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub enum AnswerForm {
    /// `B`.
    #[serde(rename = "letter")]
    Letter,
    /// `(B)`.
    #[serde(rename = "(letter)")]
    LetterInBrackets,
    /// `1`, the first being 0.
    #[serde(rename = "index")]
    Index,
    /// `2`, the first being 1.
    #[serde(rename = "index-from-1")]
    IndexFromOne,
    /// Its text.
    #[serde(rename = "text")]
    Text,
    /// Its letter, or its text where it is no letter of an option.
    #[serde(rename = "letter-or-text")]
    LetterOrText,
}

/// What the four numbers of a box are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionForm {
    /// Left, top, width, height in pixels.
    Xywh,
    /// Left, top, right, bottom in pixels.
    Xyxy,
}

/// What a scorer can be given, for the check that scorer and data suit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReferenceKind {
    /// [`TableReference::Answers`].
    Answers,
    /// [`TableReference::YesNo`].
    YesNo,
    /// [`TableReference::Choice`].
    Choice,
    /// [`TableReference::Choice`], where some have answers instead.
    ChoiceOrAnswers,
    /// [`TableReference::OpenOrClosed`].
    OpenOrClosed,
    /// [`TableReference::Region`].
    Region,
    /// [`TableReference::Judged`].
    Judged,
    /// [`TableReference::Withheld`].
    Withheld,
}

impl TableReference {
    /// Its kind.
    pub fn kind(&self) -> ReferenceKind {
        match self {
            Self::Answers { .. } => ReferenceKind::Answers,
            Self::YesNo { .. } => ReferenceKind::YesNo,
            Self::Choice { or_answers: false, .. } => ReferenceKind::Choice,
            Self::Choice { or_answers: true, .. } => ReferenceKind::ChoiceOrAnswers,
            Self::OpenOrClosed { .. } => ReferenceKind::OpenOrClosed,
            Self::Region { .. } => ReferenceKind::Region,
            Self::Judged { .. } => ReferenceKind::Judged,
            Self::Withheld { .. } => ReferenceKind::Withheld,
        }
    }
}

impl TableSpec {
    /// Every column that the specification names, as far as the table's own rows must have it.
    pub(super) fn columns(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = Vec::new();
        let templates =
            [Some(&self.key), Some(&self.question), self.cluster.as_ref(), self.category.as_ref(), self.context.as_ref()]
                .into_iter()
                .flatten()
                .chain(self.image_id.as_ref())
                .chain(&self.images)
                .chain(self.joins.iter().map(|join| &join.by));
        columns.extend(templates.flat_map(ColumnTemplate::holes).map(|hole| hole.path.column()));
        columns.extend(self.filters.iter().map(|(path, _)| path.column()));
        columns.extend(self.having.iter().map(String::as_str));
        columns.extend(self.explode.iter().map(String::as_str));
        columns.extend(self.ocr_tokens.as_ref().map(ColumnPath::column));
        match &self.reference {
            TableReference::Answers { answers, .. } => columns.push(answers.column()),
            TableReference::YesNo { answer } => columns.push(answer.column()),
            TableReference::Choice { options, answer, .. } => {
                columns.push(answer.column());
                columns.extend(options.columns());
            }
            TableReference::OpenOrClosed { answer, column, .. } => columns.extend([answer.column(), column.column()]),
            TableReference::Region { region, size, .. } => {
                columns.push(region.column());
                columns.extend(size.iter().flat_map(|(width, height)| [width.column(), height.column()]));
            }
            TableReference::Judged { answer, context, capabilities } => {
                columns.push(answer.column());
                columns.extend(context.iter().flat_map(ColumnTemplate::holes).map(|hole| hole.path.column()));
                columns.extend(capabilities.iter().map(ColumnPath::column));
            }
            TableReference::Withheld { options } => columns.extend(options.iter().flat_map(ChoiceOptions::columns)),
        }
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// The columns without which no row can be a sample. Options may end early, and a filter's column may be missing.
    pub(super) fn required_columns(&self) -> Vec<&str> {
        let mut optional: Vec<&str> = self.having.iter().map(String::as_str).collect();
        if let TableReference::Choice { options: ChoiceOptions::Columns(paths), .. }
        | TableReference::Withheld { options: Some(ChoiceOptions::Columns(paths)) } = &self.reference
        {
            optional.extend(paths.iter().map(ColumnPath::column));
        }
        self.columns().into_iter().filter(|column| !optional.contains(column)).collect()
    }

    /// Whether there is nothing to be asked in the data: they only say what a right answer is.
    pub fn only_scores(&self) -> bool {
        matches!(&self.reference, TableReference::Choice { options: ChoiceOptions::Letters(_), .. })
    }

    /// Columns that hold images and nothing else.
    pub(super) fn image_columns(&self) -> Vec<&str> {
        let whole = self.images.iter().filter_map(ColumnTemplate::whole);
        whole.filter(|path| path.is_plain() || path.is_each_of_column()).map(ColumnPath::column).collect()
    }
}
