//! What a benchmark is, as its TOML file says it.

use super::answering::Answering;
use super::pattern::ImagePattern;
use super::prompt::PromptTemplate;
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
    /// What the benchmark's server takes, if it has one.
    pub submission: Option<SubmissionFormat>,
}

impl BenchmarkSpec {
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
    /// Rows of named columns.
    Table(Box<TableSpec>),
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

/// How answers are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScorerSpec {
    /// The rule.
    pub rule: ScorerRule,
    /// The metric by which runs are judged, one of [`ScorerRule::metric_names`].
    pub primary_metric: String,
}

impl ScorerSpec {
    /// The rule with its usual primary metric.
    pub fn new(rule: ScorerRule) -> Self {
        let primary_metric = rule.metric_names().first().copied().unwrap_or_default().to_owned();
        Self { rule, primary_metric }
    }

    /// Name, options and version of the rule, such as `vqa-official/1`. Runs compare only if it is the same.
    pub fn identity(&self) -> String {
        self.rule.identity()
    }
}

/// A scoring rule with its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScorerRule {
    /// VQA accuracy against ten annotators.
    Vqa {
        /// Whose code is followed.
        variant: VqaVariant,
    },
    /// Yes/no by the official POPE rule.
    Pope,
    /// VQA accuracy as LLaVA scores TextVQA (`m4c_evaluator.py`).
    Textvqa,
    /// A box in the answer.
    Grounding {
        /// What the answer's numbers are shares of.
        box_space: BoxSpace,
        /// Whether a threshold itself counts.
        threshold_rule: ThresholdRule,
    },
    /// VQA-RAD as LLaVA-Med evaluates it (`run_eval.py` at `b9a98a7`): token recall of open-ended answers, substring accuracy of
    /// closed-ended ones.
    LlavaMed,
    /// The rank of the right class, as CLIP_benchmark's `zeroshot_classification.py` counts it.
    ZeroShot,
    /// The rank of the first right candidate, as CLIP_benchmark's `zeroshot_retrieval.py` counts it.
    Retrieval,
    /// The most likely of some given answers, by the likelihoods that a run recorded.
    ChoiceLikelihood,
}

impl ScorerRule {
    /// Every rule with every choice of its options, the usual one first.
    pub fn all() -> Vec<Self> {
        let mut rules = vec![
            Self::Vqa { variant: VqaVariant::Official },
            Self::Vqa { variant: VqaVariant::M4c },
            Self::Pope,
            Self::Textvqa,
            Self::LlavaMed,
            Self::ZeroShot,
            Self::Retrieval,
        ];
        for box_space in [BoxSpace::PaddedSquare, BoxSpace::Original] {
            for threshold_rule in [ThresholdRule::AtLeast, ThresholdRule::Above] {
                rules.push(Self::Grounding { box_space, threshold_rule });
            }
        }
        rules.push(Self::ChoiceLikelihood);
        rules
    }

    /// Name and options without the version, such as `vqa-official`.
    pub fn name(&self) -> String {
        let identity = self.identity();
        identity.rsplit_once('/').map_or(identity.clone(), |(name, _)| name.to_owned())
    }

    /// The rule of a [`name`](Self::name), with or without a version behind it.
    pub fn by_name(name: &str) -> Option<Self> {
        let name = name.split('/').next().unwrap_or_default();
        Self::all().into_iter().find(|rule| rule.name() == name)
    }

    /// Name, options and version, such as `vqa-official/1`. The version rises when the same answers would score otherwise.
    pub fn identity(&self) -> String {
        match self {
            Self::Vqa { variant: VqaVariant::Official } => "vqa-official/1".to_owned(),
            Self::Vqa { variant: VqaVariant::M4c } => "vqa-m4c/1".to_owned(),
            Self::Pope => "pope-official/1".to_owned(),
            Self::Textvqa => "textvqa-m4c/1".to_owned(),
            Self::LlavaMed => "llava-med/1".to_owned(),
            Self::ZeroShot => "zero-shot/1".to_owned(),
            Self::Retrieval => "retrieval/1".to_owned(),
            Self::Grounding { box_space, threshold_rule } => {
                let space = match box_space {
                    BoxSpace::PaddedSquare => "padded_square",
                    BoxSpace::Original => "original",
                };
                let rule = match threshold_rule {
                    ThresholdRule::AtLeast => "at_least",
                    ThresholdRule::Above => "above",
                };
                format!("grounding-{space}-{rule}/1")
            }
            Self::ChoiceLikelihood => "choice-likelihood/1".to_owned(),
        }
    }

    /// What a model is asked to answer to a question whose reference is yes or no, yes first: LLaVA says `Yes` and `No`; NLVR2
    /// asks whether a sentence is true.
    pub fn yes_no_words(&self) -> [&'static str; 2] {
        if self.name().starts_with("nlvr2") { ["True", "False"] } else { ["Yes", "No"] }
    }

    /// Names of the metrics, the usual primary one first.
    pub fn metric_names(&self) -> &'static [&'static str] {
        match self {
            Self::Vqa { .. } | Self::Textvqa => &["vqa_accuracy"],
            Self::Pope => &["f1", "accuracy", "precision", "recall", "yes_ratio"],
            Self::Grounding { .. } => &["acc@0.5", "acc@0.1", "acc@0.3", "acc@0.7", "acc@0.9", "mean_iou"],
            Self::LlavaMed => {
                &["open_closed_mean", "open_recall", "closed_accuracy", "open_precision", "open_f1", "open_exact_match"]
            }
            Self::ZeroShot => &["acc@1", "acc@5", "mean_per_class_recall"],
            Self::Retrieval => &[
                "recall@1",
                "recall@5",
                "recall@10",
                "text_retrieval_recall@1",
                "text_retrieval_recall@5",
                "text_retrieval_recall@10",
                "image_retrieval_recall@1",
                "image_retrieval_recall@5",
                "image_retrieval_recall@10",
            ],
            Self::ChoiceLikelihood => &["acc", "acc_norm", "acc_mean"],
        }
    }
}

/// Whose VQA accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VqaVariant {
    /// GT-Vision-Lab/VQA at `a013f00`: normalises only where annotators differ.
    Official,
    /// LLaVA's `m4c_evaluator.py`: the EvalAI processor on both sides, always.
    M4c,
}

/// What the numbers of a predicted box are shares of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxSpace {
    /// The longer side, with the image in the middle of the padded square (LLaVA-1.5's training data).
    PaddedSquare,
    /// Each side of the original image (lmms-eval).
    Original,
}

/// Whether an IoU equal to the threshold counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub enum ThresholdRule {
    /// IoU ≥ threshold (the usual rule).
    #[serde(rename = ">=")]
    AtLeast,
    /// IoU > threshold (MiniGPT-4).
    #[serde(rename = ">")]
    Above,
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
