//! The rules by which an answer names an option.

/// By which rule an answer names one of several options. Each is the evaluation of a benchmark; where the original would ask a
/// language model or draw at random, the answer counts as unparsed and wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChoiceParser {
    /// The answer is the letter (LLaVA's SEED-Bench, `convert_seed_for_submission.py`).
    ExactLetter,
    /// The first character of the answer (lmms-eval's SEED-Bench).
    FirstLetter,
    /// LLaVA's `eval_science_qa.py`.
    ScienceQa,
    /// lmms-eval's ScienceQA.
    ScienceQaLmms,
    /// lmms-eval's AI2D.
    Ai2d,
    /// BLINK's `test_benchmark.py` without GPT-3.5.
    Blink,
    /// BLINK's `evaluate.py` alone, for predictions that were extracted elsewhere: `(A)` and nothing else.
    BlinkExtracted,
    /// lmms-eval's BLINK.
    BlinkLmms,
    /// The original MMBench evaluation, as lmms-eval keeps it, without GPT.
    Mmbench,
    /// VLMEvalKit's MMBench under the policy `exact_matching`.
    MmbenchVlmevalkit,
    /// MMMU's `eval_utils.py`, for questions with and without options.
    Mmmu,
    /// The same with the original's random option where nothing can be parsed: Python's generator seeded with 42, in the order
    /// of the answers.
    MmmuOfficialRandom,
    /// Mantis-Eval's `eval.py`, for questions with and without options.
    Mantis,
}

impl ChoiceParser {
    /// Every rule, the plain ones first.
    pub const ALL: [Self; 13] = [
        Self::ExactLetter,
        Self::FirstLetter,
        Self::ScienceQa,
        Self::ScienceQaLmms,
        Self::Ai2d,
        Self::Blink,
        Self::BlinkExtracted,
        Self::BlinkLmms,
        Self::Mmbench,
        Self::MmbenchVlmevalkit,
        Self::Mmmu,
        Self::MmmuOfficialRandom,
        Self::Mantis,
    ];

    /// The name in TOML files and in the identity of a scorer.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExactLetter => "exact-letter",
            Self::FirstLetter => "first-letter",
            Self::ScienceQa => "science-qa",
            Self::ScienceQaLmms => "science-qa-lmms",
            Self::Ai2d => "ai2d",
            Self::Blink => "blink",
            Self::BlinkExtracted => "blink-extracted",
            Self::BlinkLmms => "blink-lmms",
            Self::Mmbench => "mmbench",
            Self::MmbenchVlmevalkit => "mmbench-vlmevalkit",
            Self::Mmmu => "mmmu",
            Self::MmmuOfficialRandom => "mmmu-official-random",
            Self::Mantis => "mantis",
        }
    }

    /// Whether the rule knows questions without options as well.
    pub fn scores_open_questions(self) -> bool {
        matches!(self, Self::Mmmu | Self::MmmuOfficialRandom | Self::Mantis)
    }

    /// Names of the metrics, the usual primary one first.
    pub(super) fn metric_names(self) -> &'static [&'static str] {
        match self {
            Self::ExactLetter | Self::FirstLetter | Self::Ai2d => &["accuracy"],
            Self::ScienceQa | Self::ScienceQaLmms => {
                &["accuracy", "natural_science", "social_science", "language_science", "grades_1_6", "grades_7_12"]
            }
            Self::Blink | Self::BlinkExtracted | Self::BlinkLmms => &["mean_task_accuracy", "accuracy"],
            Self::Mmbench | Self::MmbenchVlmevalkit => &["circular_accuracy", "accuracy"],
            Self::Mmmu | Self::MmmuOfficialRandom => &[
                "accuracy",
                "multiple_choice_accuracy",
                "open_accuracy",
                "art_and_design",
                "business",
                "science",
                "health_and_medicine",
                "humanities_and_social_science",
                "tech_and_engineering",
            ],
            Self::Mantis => &["accuracy", "multiple_choice_accuracy", "open_accuracy"],
        }
    }
}

/// Whose evaluation of LLaVA-Interleave Bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterleaveVariant {
    /// LLaVA-NeXT's `evaluate_interleave.py`.
    Official,
    /// lmms-eval's `llava_interleave_bench/utils.py`.
    Lmms,
}
