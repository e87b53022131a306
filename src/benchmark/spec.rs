//! What a benchmark is, as its TOML file says it.

use super::answering::Answering;
use super::pattern::ImagePattern;
use super::prompt::PromptTemplate;
use super::scorer_rule::ScorerSpec;
use super::submission_format::SubmissionFormat;
use super::table_spec::TableSpec;

/// One benchmark: where its data lie, what is asked, how answers are scored.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchmarkSpec {
    /// Short name: lower-case letters, digits, `.`, `_`, `+` and `-`; also the name of its run directories.
    pub name: String,
    /// Title for people.
    pub title: String,
    /// Licence of the data.
    pub licence: String,
    /// Where the data come from.
    pub source: String,
    /// Files, in the form that is read; as long as none is chosen, the first.
    pub data: DataSpec,
    /// All forms in which the data may be had, in the order in which they are looked for.
    pub forms: Vec<DataSpec>,
    /// The user's turn.
    pub prompt: PromptTemplate,
    /// Where the prompt text was taken from.
    pub prompt_source: String,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// How answers are scored.
    pub scorer: ScorerSpec,
    /// Published numbers to compare with.
    pub reference_scores: Vec<ReferenceScore>,
    /// How answers are had.
    pub answering: Answering,
    /// Whether a generated answer ends as soon as it decides its score; only with rules that
    /// [can be decided early](super::ScorerRule::can_be_decided_early).
    pub stop_when_decided: bool,
    /// What the benchmark's server takes, if it has one.
    pub submission: Option<SubmissionFormat>,
}

impl BenchmarkSpec {
    /// Whether the data that are read have no questions and no pictures, only right answers: then they score answers that were
    /// made elsewhere, and no package can be run on them.
    pub fn only_scores(&self) -> bool {
        matches!(&self.data.format, DataFormat::Table(table) if table.only_scores())
    }

    /// Whether images and texts are compared by their embeddings (zero-shot classification, retrieval), for which a CLIP
    /// package is needed; otherwise questions are answered in words, for which a LLaVA package is needed.
    pub fn compares_embeddings(&self) -> bool {
        matches!(self.data.format, DataFormat::ZeroShot { .. } | DataFormat::Retrieval { .. })
    }
}

/// The data files of a benchmark.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSpec {
    /// Name of the form, for people: `official`, `parquet`, ….
    pub form: String,
    /// Repository of the Hugging Face hub that has it, such as `datasets/lmms-lab/POPE`.
    pub hub: Option<String>,
    /// How to obtain it: a command or a page.
    pub obtain: Option<String>,
    /// Data folder, relative to the TOML file or to `benchmarks/`.
    pub root: String,
    /// Format and file names, relative to the data folder.
    pub format: DataFormat,
    /// Image file name.
    pub image: ImagePattern,
}

/// An official data format.
#[derive(Clone, Debug, PartialEq)]
pub enum DataFormat {
    /// Two JSON files joined by question id. Hole of the image pattern: `image_id`.
    Vqav2 {
        /// `{"questions": [{"question_id", "image_id", "question"}]}`.
        questions: String,
        /// `{"annotations": [{"question_id", "image_id", "answer_type", "answers": [10 × {"answer", "answer_id"}]}]}`.
        annotations: String,
        /// Permitted numbers of rows; empty permits any.
        rows: Vec<usize>,
    },
    /// JSON Lines of `{"question_id", "image", "text", "label"}`, one file a split. Hole: `image`.
    Pope {
        /// The files.
        splits: Vec<SplitFile>,
    },
    /// `{"data": [{"question_id", "image_id", "question", "answers": [10 strings], "ocr_tokens"?}]}`. Hole: `image_id`.
    Textvqa {
        /// The file.
        annotations: String,
        /// Optional file `{"data": [{"image_id", "ocr_tokens"}]}` with OCR tokens by image.
        ocr: Option<String>,
        /// Permitted numbers of rows; empty permits any.
        rows: Vec<usize>,
    },
    /// `[{"id", "image": "…" or ["…", …], "conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}, …],
    /// "category"?}]`, as one JSON array or as JSON Lines: LLaVA's own data format. The last answer is the reference, what is
    /// before it is asked. Hole: `image`.
    LlavaConversations {
        /// The file.
        questions: String,
        /// Permitted numbers of rows; empty permits any.
        rows: Vec<usize>,
    },
    /// `[{"img_id": "<image>_<reference>", "sents", "bbox": [x, y, width, height], "height", "width"}]`, boxes in pixels, one
    /// file a split (MiniGPT-4). Hole: `image`.
    RefcocoMinigpt4 {
        /// The files.
        splits: Vec<SplitFile>,
        /// What is asked.
        task: RegionTask,
    },
    /// `[{"qid", "image_name", "question", "answer", "answer_type": "OPEN" | "CLOSED", "phrase_type"}]`, as VQA-RAD is
    /// released, or `{"id", "image", "answer_type", "conversations"}` as LLaVA-Med keeps it. Hole: `image`.
    VqaRad {
        /// The file.
        questions: String,
        /// Values of `phrase_type` that belong to the benchmark (the release marks its test split there); empty takes all.
        phrase_types: Vec<String>,
        /// Permitted numbers of rows taken; empty permits any.
        rows: Vec<usize>,
    },
    /// Pictures and their classes, told apart by text alone. Hole: `image`.
    ZeroShot {
        /// Rows with `image` and either `label` (a class name) or `class_index` (from 0): CSV with a header where the name ends
        /// in `.csv`, pictures with either in parquet files where it ends in `.parquet` (`*` stands for any characters), else
        /// JSON Lines.
        labels: String,
        /// JSON: a list of class names, or an object of such lists (CLIP_benchmark's `en_classnames.json`).
        class_names: String,
        /// JSON: a list of templates with `{c}`, or an object of such lists.
        templates: String,
        /// Member of the object of class names.
        set: Option<String>,
        /// Member of the object of templates, where it is not `set`.
        template_set: Option<String>,
        /// Permitted numbers of rows; empty permits any.
        rows: Vec<usize>,
    },
    /// JSON Lines of `{"image", "captions": [texts]}`, or parquet files of pictures with `captions`. Hole: `image`.
    Retrieval {
        /// The file.
        captions: String,
        /// Permitted numbers of images; empty permits any.
        rows: Vec<usize>,
    },
    /// Three JSON Lines files of LLaVA-Bench: `{"question_id", "image", "text", "category"}`, `{"question_id", "text"}`, and
    /// `{"image", "captions": [texts], "instances": [{"category", "bbox"}]}` or `{"image", "caption"}`. Hole: `image`.
    LlavaBench {
        /// Questions.
        questions: String,
        /// Answers of the reference model.
        answers: String,
        /// What the judge is told of each image.
        contexts: String,
        /// Permitted numbers of rows; empty permits any.
        rows: Vec<usize>,
    },
    /// JSON Lines of `{"question_id", "image", "text", "gpt4_answer", "fig_label", "fig_caption", "in_text_mention", "type",
    /// "domain": {name: bool}}`, as LLaVA-Med releases its chat questions. Hole: `image`.
    LlavaMedChat {
        /// The file.
        questions: String,
        /// Permitted numbers of rows; empty permits any.
        rows: Vec<usize>,
    },
    /// A JSON object of `{"imagename", "question", "answer", "capability": [names]}` by key, as MM-Vet is released. Hole:
    /// `image`.
    MmVet {
        /// The file.
        questions: String,
        /// Permitted numbers of rows; empty permits any.
        rows: Vec<usize>,
    },
    /// Rows of named columns.
    Table(Box<TableSpec>),
    /// MME: a folder a category with a text file a picture, `question<TAB>answer` in each line.
    MmeRelease {
        /// Permitted numbers of questions; empty permits any.
        rows: Vec<usize>,
    },
    /// Images with reference captions. Hole: `image`.
    Captions(CaptionFiles),
    /// A pickle of references with a JSON file of boxes, as RefCOCO is released. Hole: `image`.
    RefcocoRefs {
        /// The files.
        files: RefcocoFiles,
        /// What is asked.
        task: RegionTask,
    },
}

/// Files of images with reference captions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptionFiles {
    /// The file.
    pub captions: String,
    /// How it is made.
    pub layout: CaptionLayout,
    /// What is asked of every image.
    pub question: String,
    /// Splits that belong to the benchmark (Karpathy's files); empty takes all.
    pub keep_splits: Vec<String>,
    /// Whether only the benchmark's server has the captions.
    pub withheld: bool,
    /// Permitted numbers of images taken; empty permits any.
    pub rows: Vec<usize>,
}

/// How a file of captions is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptionLayout {
    /// `{"images": [{"id", "file_name", "domain"?}], "annotations": [{"image_id", "caption"}]}` (COCO, NoCaps).
    Coco,
    /// `{"images": [{"filename", "cocoid"?, "split", "sentences": [{"raw"}]}]}` (Karpathy's splits of COCO and Flickr30k).
    Karpathy,
    /// `{"data": [{"image_id", "caption_str"}]}`, a row a caption (TextCaps).
    Textcaps,
    /// Lines of `<image>#<number>`, a tab and a caption (`results_20130124.token` of Flickr30k).
    #[serde(rename = "flickr30k-token")]
    Flickr30kToken,
}

/// Files of a release of RefCOCO, RefCOCO+ or RefCOCOg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefcocoFiles {
    /// Pickle of references: `refs(unc).p`, `refs(umd).p` or `refs(google).p`.
    pub refs: String,
    /// `instances.json`.
    pub instances: String,
    /// Splits that belong to the benchmark, in their order.
    pub keep_splits: Vec<String>,
    /// Permitted numbers of sentences taken; empty permits any.
    pub rows: Vec<usize>,
}

/// What is asked of regions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionTask {
    /// A sentence asks for its region.
    #[default]
    Find,
    /// A region, given as shares of the padded square, asks for a sentence.
    Describe,
}

/// One file of a benchmark that has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitFile {
    /// Split name; the category of its samples.
    pub name: String,
    /// File name below the data folder.
    pub file: String,
    /// Permitted numbers of rows; empty permits any.
    pub rows: Vec<usize>,
}

/// A published number.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceScore {
    /// Model as the source names it.
    pub model: String,
    /// Metric name, as this program has it.
    pub metric: String,
    /// Value in the metric's units (per cent).
    pub value: f64,
    /// Where it was published.
    pub source: String,
    /// What differs from a run of this file, if anything.
    #[serde(default)]
    pub note: Option<String>,
}
