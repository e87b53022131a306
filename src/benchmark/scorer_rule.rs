//! The scoring rules with their options: what they are called and which metrics they have. What they compute is the score room's.

use super::choice::{ChoiceParser, InterleaveVariant};
use super::short_answer_rule::ShortAnswerRule;
use super::types::MetricSpec;

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

    /// The rule of a run's header, with the metric by which it was judged; `None` if this program has no such rule.
    pub fn recorded(identity: &str, metrics: &[MetricSpec]) -> Option<Self> {
        let usual = Self::new(ScorerRule::by_name(identity)?);
        let primary = metrics.iter().find(|metric| metric.primary).map(|metric| metric.name.clone());
        let primary = primary.filter(|name| usual.rule.metric_names().contains(&name.as_str()));
        Some(Self { primary_metric: primary.unwrap_or(usual.primary_metric), ..usual })
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
    /// A judge rates the reference answer and the model's, as LLaVA-Bench does (`llava/eval/eval_gpt_review_visual.py` and
    /// `eval_gpt_review_bench.py` of LLaVA at `c121f04`).
    LlavaBench {
        /// What the judge is told of the image.
        context: JudgeContext,
        /// How ratings become a relative score.
        relative_score: RelativeScore,
    },
    /// A judge rates the reference answer and the model's, as LLaVA-Med evaluates its chat
    /// (`llava/eval/eval_multimodal_chat_gpt_score.py` and `summarize_gpt_review.py` at `d406e3f`).
    LlavaMedChat,
    /// A judge says how far the answer is right, as MM-Vet does (`mm-vet_evaluator.py` at `acde843`).
    MmVet,
    /// A judge says whether the answer says what the reference says: for questions of one's own.
    JudgeMatch,
    /// A word, a number or a phrase.
    ShortAnswer(ShortAnswerRule),
    /// Multiple choice by generation.
    Choice {
        /// By which rule an answer names an option.
        parser: ChoiceParser,
    },
    /// NLVR2: accuracy, and consistency over the pairs of pictures of a sentence.
    Nlvr2,
    /// LLaVA-Interleave Bench: processed exact match of multiple-choice answers, ROUGE-L of the others.
    Interleave {
        /// Whose code is followed.
        variant: InterleaveVariant,
    },
    /// The most likely of some given answers, by the likelihoods that a run recorded.
    ChoiceLikelihood,
    /// A caption against reference captions as pycocoevalcap 1.2 scores it: CIDEr-D, BLEU with the closest reference length and
    /// ROUGE-L over the words of Stanford's PTBTokenizer. METEOR and SPICE are not offered.
    Caption,
}

impl ScorerRule {
    /// Every rule with every choice of its options, the usual one first.
    pub fn all() -> Vec<Self> {
        let mut rules = vec![
            Self::Vqa { variant: VqaVariant::Official },
            Self::Vqa { variant: VqaVariant::M4c },
            Self::Vqa { variant: VqaVariant::Lmms },
            Self::Pope,
            Self::Textvqa,
            Self::LlavaMed,
            Self::ZeroShot,
            Self::Retrieval,
            Self::Caption,
        ];
        for box_space in [BoxSpace::PaddedSquare, BoxSpace::Original, BoxSpace::LmmsBestOf] {
            for threshold_rule in [ThresholdRule::AtLeast, ThresholdRule::Above] {
                rules.push(Self::Grounding { box_space, threshold_rule });
            }
        }
        for context in [JudgeContext::Coco, JudgeContext::InTheWild] {
            for relative_score in [RelativeScore::RatioOfMeans, RelativeScore::MeanOfRatios] {
                rules.push(Self::LlavaBench { context, relative_score });
            }
        }
        rules.extend([Self::LlavaMedChat, Self::MmVet, Self::JudgeMatch]);
        rules.extend(ShortAnswerRule::ALL.map(Self::ShortAnswer));
        rules.extend(ChoiceParser::ALL.map(|parser| Self::Choice { parser }));
        rules.push(Self::Nlvr2);
        rules.push(Self::Interleave { variant: InterleaveVariant::Official });
        rules.push(Self::Interleave { variant: InterleaveVariant::Lmms });
        rules.push(Self::ChoiceLikelihood);
        rules
    }

    /// Whether a judge has to read the answers: without one they have no score.
    pub fn needs_judge(&self) -> bool {
        matches!(self, Self::LlavaBench { .. } | Self::LlavaMedChat | Self::MmVet | Self::JudgeMatch)
    }

    /// Whether an answer can decide its score before it ends, whatever follows: where the rule reads the beginning of an answer to a
    /// closed question. What it must have said, the score room knows.
    pub fn can_be_decided_early(&self) -> bool {
        match self {
            Self::Pope | Self::Nlvr2 => true,
            Self::ShortAnswer(rule) => matches!(rule, ShortAnswerRule::Mme(_) | ShortAnswerRule::PopeLmms),
            Self::Choice { parser } => matches!(
                parser,
                ChoiceParser::ExactLetter
                    | ChoiceParser::FirstLetter
                    | ChoiceParser::ScienceQa
                    | ChoiceParser::ScienceQaLmms
                    | ChoiceParser::Ai2d
                    | ChoiceParser::BlinkExtracted
                    | ChoiceParser::BlinkLmms
            ),
            _ => false,
        }
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
            Self::Vqa { variant: VqaVariant::Lmms } => "vqa-lmms/1".to_owned(),
            Self::ShortAnswer(rule) => rule.identity().to_owned(),
            Self::Pope => "pope-official/1".to_owned(),
            Self::Textvqa => "textvqa-m4c/1".to_owned(),
            Self::LlavaMed => "llava-med/1".to_owned(),
            Self::ZeroShot => "zero-shot/1".to_owned(),
            Self::Retrieval => "retrieval/1".to_owned(),
            Self::Grounding { box_space, threshold_rule } => {
                let space = match box_space {
                    BoxSpace::PaddedSquare => "padded_square",
                    BoxSpace::Original => "original",
                    BoxSpace::LmmsBestOf => "lmms-best-of",
                };
                let rule = match threshold_rule {
                    ThresholdRule::AtLeast => "at_least",
                    ThresholdRule::Above => "above",
                };
                format!("grounding-{space}-{rule}/1")
            }
            Self::Choice { parser } => format!("choice-{}/1", parser.as_str()),
            Self::Nlvr2 => "nlvr2/1".to_owned(),
            Self::Interleave { variant: InterleaveVariant::Official } => "interleave-official/1".to_owned(),
            Self::Interleave { variant: InterleaveVariant::Lmms } => "interleave-lmms/1".to_owned(),
            Self::ChoiceLikelihood => "choice-likelihood/1".to_owned(),
            Self::Caption => "caption/1".to_owned(),
            Self::LlavaBench { context, relative_score } => {
                let context = match context {
                    JudgeContext::Coco => "coco",
                    JudgeContext::InTheWild => "in_the_wild",
                };
                match relative_score {
                    RelativeScore::RatioOfMeans => format!("llava-bench-{context}/1"),
                    RelativeScore::MeanOfRatios => format!("llava-bench-{context}-mean_of_ratios/1"),
                }
            }
            Self::LlavaMedChat => "llava-med-chat/1".to_owned(),
            Self::MmVet => "mm-vet/1".to_owned(),
            Self::JudgeMatch => "judge-match/1".to_owned(),
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
            Self::Pope => &["f1", "accuracy", "precision", "recall", "yes_ratio", "f1_pooled"],
            Self::Grounding { .. } => &["acc@0.5", "acc@0.1", "acc@0.3", "acc@0.7", "acc@0.9", "mean_iou", "centre_accuracy"],
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
            Self::LlavaBench { .. } => &["relative_score", "reference_rating", "answer_rating"],
            Self::LlavaMedChat => &[
                "relative_score",
                "reference_rating",
                "answer_rating",
                "conversation",
                "detailed_description",
                "chest_xray",
                "mri",
                "histology",
                "gross",
                "ct_scan",
            ],
            Self::MmVet => &["mm_vet_score", "rec", "ocr", "know", "gen", "spat", "math"],
            Self::JudgeMatch => &["judged_accuracy"],
            Self::ShortAnswer(rule) => rule.metric_names(),
            Self::Choice { parser } => parser.metric_names(),
            Self::Nlvr2 => &["accuracy", "consistency"],
            Self::Interleave { .. } => &["group_mean", "sub_task_mean", "mean_score", "accuracy", "rouge_l"],
            Self::ChoiceLikelihood => &["acc", "acc_norm", "acc_mean"],
            Self::Caption => &["cider", "bleu4", "bleu3", "bleu2", "bleu1", "rouge_l"],
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
    /// lmms-eval at `75571cf` (`vqav2_process_results`): the official normalisation on both sides, always.
    Lmms,
}

/// What the numbers of a predicted box are shares of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxSpace {
    /// The longer side, with the image in the middle of the padded square (LLaVA-1.5's training data).
    PaddedSquare,
    /// Each side of the original image (lmms-eval).
    Original,
    /// Whatever suits the reference best: every box of the answer is read in pixels and in thousandths of each side, and the
    /// reading that overlaps the reference most counts (lmms-eval's task `refcoco_grounding`).
    #[serde(rename = "lmms-best-of")]
    LmmsBestOf,
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

/// What a judge of LLaVA-Bench is told of the image, which it does not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgeContext {
    /// Five captions and the boxes of objects (LLaVA-Bench COCO).
    Coco,
    /// A description (LLaVA-Bench In-the-Wild).
    InTheWild,
}

/// How the ratings of a judge become a relative score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelativeScore {
    /// Mean rating of the model's answers over that of the reference answers (LLaVA).
    RatioOfMeans,
    /// Mean of the ratios of the two ratings (LLaVA-Med).
    MeanOfRatios,
}
