//! The types that a benchmark hands on: samples, references and metric specifications.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::image::SampleImage;

/// An axis-aligned box in pixels of the original image: left, top, right, bottom.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PixelBox {
    /// Left edge.
    pub x1: f64,
    /// Top edge.
    pub y1: f64,
    /// Right edge.
    pub x2: f64,
    /// Bottom edge.
    pub y2: f64,
}

/// What a right answer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reference {
    /// Answers of several annotators (VQAv2, TextVQA: ten), in file order, with repeats.
    Answers {
        /// Annotator answers as the file gives them.
        answers: Vec<String>,
    },
    /// A yes/no label (POPE).
    YesNo {
        /// True for `yes`.
        yes: bool,
    },
    /// A box to be found (RefCOCO), with the size of the original image in pixels.
    Region {
        /// The reference box.
        region: PixelBox,
        /// Image width in pixels.
        width: u32,
        /// Image height in pixels.
        height: u32,
    },
    /// The answer to an open-ended or a closed-ended question (VQA-RAD).
    OpenOrClosed {
        /// The answer as the file gives it.
        answer: String,
        /// True for an open-ended question, false for one of a few choices.
        open: bool,
    },
    /// The class of a picture (zero-shot classification).
    Class {
        /// Its label, one of [`ClassSet::labels`](super::ClassSet::labels).
        label: String,
        /// Number of classes that it is told from.
        classes: usize,
    },
    /// The right candidates of a retrieval query.
    Retrieval {
        /// What is looked for.
        direction: RetrievalDirection,
        /// Labels of all right candidates.
        relevant: Vec<String>,
        /// Number of candidates.
        candidates: usize,
    },
    /// One of several options (multiple choice).
    Choice {
        /// Texts of the options in the order in which they are shown, the first being A.
        options: Vec<String>,
        /// Index of the right one among them.
        answer: usize,
    },
    /// What a judge compares an answer with (LLaVA-Bench, MM-Vet).
    Judged {
        /// The reference answer as the file gives it.
        answer: String,
        /// What the judge is told of the image, which it does not see.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<String>,
        /// What the question tests (MM-Vet's capabilities), sorted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        capabilities: Vec<String>,
    },
    /// Nobody but the benchmark's server knows (test splits): answers are written for it and not scored here.
    Withheld,
}

/// What a retrieval query looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetrievalDirection {
    /// The captions of an image (`text_retrieval` of CLIP_benchmark).
    ImageToText,
    /// The image of a caption (`image_retrieval` of CLIP_benchmark).
    TextToImage,
}

impl RetrievalDirection {
    /// The name used as a category: `image-to-text` or `text-to-image`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImageToText => "image-to-text",
            Self::TextToImage => "text-to-image",
        }
    }
}

/// What stands for an image in a data file's texts, as LLaVA writes it.
pub const IMAGE_MARK: &str = "<image>";

/// An earlier question of a conversation and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// The question; with image marks only where they place images.
    pub question: String,
    /// The answer that the model is told to have given.
    pub answer: String,
}

/// What comes before a sample's question, and where its images stand. The default is a question of its own, whose images
/// stand before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Conversation {
    /// Earlier turns, the oldest first.
    pub earlier: Vec<Exchange>,
    /// Whether each [`IMAGE_MARK`] in the earlier questions and the prompt is the place of the next image, there being as many
    /// marks as images. Otherwise all images stand before the first question, and a mark is only text.
    pub images_at_marks: bool,
}

/// One question of a benchmark.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Unique within the benchmark and stable between releases of this program.
    pub key: String,
    /// Samples that are not independent share a cluster: normally the image id.
    pub cluster: String,
    /// Images in prompt order.
    pub images: Vec<SampleImage>,
    /// The question as the data file gives it.
    pub question: String,
    /// The user's turn: the question in the benchmark's prompt text.
    pub prompt: String,
    /// Earlier turns, and whether marks place the images.
    pub conversation: Conversation,
    /// What a right answer is.
    pub reference: Reference,
    /// Group for by-category tables (question type, POPE split, …).
    pub category: Option<String>,
}

/// How a metric is made of per-sample contributions: the ratio of two sums, times `scale`. A mean has denominator 1 for
/// every sample; F1 is the ratio of 2·TP to 2·TP + FP + FN; precision of TP to TP + FP. Every such metric has a
/// clustered standard error by linearisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
    /// Name, such as `vqa_accuracy`.
    pub name: String,
    /// What the ratio is multiplied by for people: 100 for per cent.
    pub scale: f64,
    /// `Some(true)` when more is better, `Some(false)` when less is, `None` for a description such as the yes-ratio.
    pub higher_is_better: Option<bool>,
    /// The metric by which runs are judged; exactly one per benchmark.
    pub primary: bool,
    /// When set, the metric is the unweighted mean over categories of the ratio within each (POPE as LLaVA reports it).
    #[serde(default)]
    pub mean_over_categories: bool,
    /// When set, the metric is the sum over categories of the ratio within each (MME's scores).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sum_over_categories: bool,
    /// Whether values are points of some kind and no per cent, whatever the scale (CIDEr).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub points: bool,
}

/// One sample's contribution to one metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// Added to the numerator.
    pub numerator: f64,
    /// Added to the denominator.
    pub denominator: f64,
}

/// Contributions of one sample by metric name.
pub type Contributions = BTreeMap<String, Contribution>;
