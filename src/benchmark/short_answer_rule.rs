//! The scoring rules of benchmarks that ask for a word, a number or a phrase.

use super::scorer_rule::ThresholdRule;

/// Whose code a rule follows, where the benchmark's own and lmms-eval's (EvolvingLMMs-Lab/lmms-eval `75571cf`) differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    /// The benchmark's own.
    Official,
    /// lmms-eval's.
    Lmms,
}

/// A rule for short answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortAnswerRule {
    /// VizWiz: accuracy against ten annotators, and whether unanswerable questions are recognised. Official: the evaluation that
    /// VizWiz gives out (as TRI-ML/vlm-evaluation `d9f5896` keeps it in `util/evaluation/vizwiz/eval.py`), which normalises the
    /// prediction only.
    VizWiz(Edition),
    /// GQA. Official: `eval.py`, exact equality, after LLaVA's `convert_gqa_for_eval.py` has taken final periods and capitals
    /// from the prediction. lmms-eval: equality without ASCII punctuation and case.
    Gqa(Edition),
    /// Equality without case and surrounding white space (OCR-VQA; VLMEvalKit's `accuracy`).
    Exact,
    /// ANLS as the Robust Reading Competition and lmms-eval compute it, with the similarity that is too small to count below
    /// one half, or (the paper, arXiv 1907.00490 eq. 1) at one half, too.
    Anls(ThresholdRule),
    /// ANLS of LLaVA's `m4c_evaluator.py` (`STVQAANLSEvaluator`): white space inside counts, lengths are of trimmed texts.
    AnlsM4c,
    /// ChartQA's relaxed accuracy as pix2struct, Qwen-VL and lmms-eval have it: numbers may be off by 5 %.
    RelaxedAccuracy,
    /// The same on trimmed predictions (VLMEvalKit).
    RelaxedAccuracyTrimmed,
    /// OCRBench: a right answer stands somewhere in the prediction; counts per kind of question that add up to 1000. lmms-eval
    /// also takes full-width ASCII for ASCII.
    OcrBench(Edition),
    /// MME: yes/no by pairs of questions. Official: the release's `eval_tool/calculation.py`. lmms-eval trims, deletes periods and
    /// understands a lone `y` or `n`.
    Mme(Edition),
    /// POPE as lmms-eval scores it: only a bare `yes` or `no` is understood, all files are pooled, and the share of `yes` is that
    /// of the labels.
    PopeLmms,
    /// SLAKE as lmms-eval scores it: equality of normalised answers, open-ended and closed-ended, English and Chinese.
    SlakeLmms,
}

impl ShortAnswerRule {
    /// Every rule, the usual one of a benchmark first.
    pub const ALL: [Self; 16] = [
        Self::VizWiz(Edition::Official),
        Self::VizWiz(Edition::Lmms),
        Self::Gqa(Edition::Official),
        Self::Gqa(Edition::Lmms),
        Self::Exact,
        Self::Anls(ThresholdRule::AtLeast),
        Self::Anls(ThresholdRule::Above),
        Self::AnlsM4c,
        Self::RelaxedAccuracy,
        Self::RelaxedAccuracyTrimmed,
        Self::OcrBench(Edition::Official),
        Self::OcrBench(Edition::Lmms),
        Self::Mme(Edition::Official),
        Self::Mme(Edition::Lmms),
        Self::PopeLmms,
        Self::SlakeLmms,
    ];

    /// Name, options and version.
    pub fn identity(self) -> &'static str {
        match self {
            Self::VizWiz(Edition::Official) => "vizwiz-official/1",
            Self::VizWiz(Edition::Lmms) => "vizwiz-lmms/1",
            Self::Gqa(Edition::Official) => "gqa-official/1",
            Self::Gqa(Edition::Lmms) => "gqa-lmms/1",
            Self::Exact => "exact/1",
            Self::Anls(ThresholdRule::AtLeast) => "anls-at_least/1",
            Self::Anls(ThresholdRule::Above) => "anls-above/1",
            Self::AnlsM4c => "anls-m4c/1",
            Self::RelaxedAccuracy => "relaxed_accuracy-official/1",
            Self::RelaxedAccuracyTrimmed => "relaxed_accuracy-vlmevalkit/1",
            Self::OcrBench(Edition::Official) => "ocrbench-official/1",
            Self::OcrBench(Edition::Lmms) => "ocrbench-lmms/1",
            Self::Mme(Edition::Official) => "mme-official/1",
            Self::Mme(Edition::Lmms) => "mme-lmms/1",
            Self::PopeLmms => "pope-lmms/1",
            Self::SlakeLmms => "slake-lmms/1",
        }
    }

    /// Names of the metrics, the usual primary one first.
    pub fn metric_names(self) -> &'static [&'static str] {
        match self {
            Self::VizWiz(_) => &["vqa_accuracy", "answerability_average_precision", "answerability_f1"],
            Self::Gqa(_) | Self::Exact => &["accuracy"],
            Self::Anls(_) | Self::AnlsM4c => &["anls"],
            Self::RelaxedAccuracy | Self::RelaxedAccuracyTrimmed => &["relaxed_accuracy"],
            Self::OcrBench(_) => &[
                "final_score",
                "text_recognition",
                "scene_text_centric_vqa",
                "doc_oriented_vqa",
                "key_information_extraction",
                "handwritten_expression_recognition",
            ],
            Self::Mme(_) => &["perception", "cognition", "accuracy", "accuracy_plus"],
            Self::PopeLmms => &["f1", "accuracy", "precision", "recall", "yes_ratio"],
            Self::SlakeLmms => &["accuracy", "open_accuracy", "closed_accuracy"],
        }
    }
}
