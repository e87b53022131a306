//! LLaVA-Interleave Bench: multiple choice by processed exact match, everything else by ROUGE-L.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::metrics::mean;
use super::python_text::{is_word, strip};
use super::rouge_sentences::rouge_l_f;
use super::set_level::Answered;
use super::types::SampleScore;
use super::vqa_text::official_punctuation;
use crate::benchmark::{Contribution, InterleaveVariant, Reference};

/// The headline: mean over groups of sub-tasks. Completed when all answers are there.
pub(super) const GROUP_MEAN: &str = "group_mean";
/// Unweighted mean over sub-tasks, which are the categories.
pub(super) const SUB_TASK_MEAN: &str = "sub_task_mean";
/// Mean over all samples.
pub(super) const MEAN_SCORE: &str = "mean_score";
/// Share of right answers to multiple-choice questions.
pub(super) const ACCURACY: &str = "accuracy";
/// Mean ROUGE-L of the other answers.
pub(super) const ROUGE_L: &str = "rouge_l";

/// The longest answer that ROUGE-L is computed of, in characters.
const LONGEST_ANSWER: usize = 512;

/// Groups of several sub-tasks that are reported as one number, in LLaVA-NeXT's script as in lmms-eval. Any other sub-task is a
/// group of its own.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Spot the Difference", &["Spot-the-Diff", "Birds-to-Words", "CLEVR-Change"]),
    ("Image Edit Instruction", &["IEdit", "HQ-Edit", "MagicBrush"]),
    ("Visual Story Telling", &["AESOP", "FlintstonesSV", "PororoSV", "VIST"]),
    ("Visual Cloze", &["COMICS_Dialogue", "RecipeQA_VisualCloze"]),
    ("Text-rich VQA", &["WebQA", "TQA", "OCR-VQA", "DocVQA"]),
    ("Multi-image VQA", &["MIT-States_StateCoherence", "MIT-States_PropertyCoherence", "VISION", "RecipeQA_ImageCoherence"]),
];

/// The group of a sub-task.
fn group(sub_task: &str) -> &str {
    GROUPS.iter().find(|(_, sub_tasks)| sub_tasks.contains(&sub_task)).map_or(sub_task, |(name, _)| name)
}

/// Scores one answer. An open-ended question whose reference is nothing but punctuation takes part in no metric, as in
/// LLaVA-NeXT's script.
pub(super) fn score(variant: InterleaveVariant, answer: &str, open: bool, text: &str) -> SampleScore {
    let (value, parsed) = match (variant, open) {
        (InterleaveVariant::Official, false) => {
            let named = named_option(process(text));
            (Some(f64::from(u8::from(named == process(answer)))), (!named.is_empty()).then_some(named))
        }
        (InterleaveVariant::Lmms, false) => {
            let named = lmms_process(text);
            (Some(f64::from(u8::from(named == lmms_process(answer)))), (!named.is_empty()).then_some(named))
        }
        (InterleaveVariant::Official, true) => (rouge(&process(text), &process(answer)), Some(process(text))),
        (InterleaveVariant::Lmms, true) => (rouge(text, answer), Some(text.to_owned())),
    };
    let Some(value) = value else {
        let detail = json!({ "note": "the reference has no words: the sample takes part in no metric" });
        return SampleScore { parsed, value: None, contributions: BTreeMap::new(), detail };
    };
    let own = if open { ROUGE_L } else { ACCURACY };
    let contributions = [MEAN_SCORE, SUB_TASK_MEAN, own].iter().map(|name| ((*name).to_owned(), mean(value))).collect();
    SampleScore { parsed: parsed.filter(|parsed| !parsed.is_empty()), value: Some(value), contributions, detail: json!({}) }
}

/// ROUGE-L of the beginning of an answer; 0 for an answer without words, `None` for a reference without any.
fn rouge(answer: &str, reference: &str) -> Option<f64> {
    if reference.split('.').all(str::is_empty) {
        return None;
    }
    let cut: String = answer.chars().take(LONGEST_ANSWER).collect();
    Some(rouge_l_f(&cut, reference).unwrap_or(0.0))
}

/// `Eval.process` of LLaVA-NeXT (`df17966`, `llava/eval/evaluate_interleave.py`).
fn process(text: &str) -> String {
    let spaced = text.replace(['\n', '\t'], " ");
    let plain = official_punctuation(strip(&spaced));
    let bare = plain.trim_matches('\'').trim_matches('"').trim_matches(')').trim_matches('(');
    strip(bare).to_lowercase()
}

/// `judge_multi_choice`: of an answer with colons the last part that is a letter a to h alone.
fn named_option(processed: String) -> String {
    let last = processed.split(':').map(strip).rfind(|part| matches!(part.as_bytes(), [b'a'..=b'h']));
    match last {
        Some(letter) if processed.contains(':') => letter.to_owned(),
        _ => processed,
    }
}

/// `process` of lmms-eval (`75571cf`, `tasks/llava_interleave_bench/utils.py`): the letter A to E that begins the text before a
/// period; else the first such letter that stands as a word of its own.
fn lmms_process(text: &str) -> String {
    let stripped = strip(text);
    let mut characters = stripped.chars();
    if let (Some(letter @ ('A'..='E' | 'a'..='e')), Some('.')) = (characters.next(), characters.next()) {
        let rest = characters.as_str().trim_start_matches(super::python_text::is_space);
        if !rest.is_empty() && !rest.contains('\n') {
            return letter.to_ascii_uppercase().to_string();
        }
    }
    let processed = process(text);
    let mut before = None;
    let mut characters = processed.chars().peekable();
    while let Some(character) = characters.next() {
        let alone = !before.is_some_and(is_word) && !characters.peek().copied().is_some_and(is_word);
        if alone && matches!(character, 'a'..='e') {
            return character.to_ascii_uppercase().to_string();
        }
        before = Some(character);
    }
    processed
}

/// Adds the contributions to [`GROUP_MEAN`]. Officially each group counts once and within it each sub-task; in lmms-eval each group
/// counts once and within it each sample. Both are a ratio of sums with weights `1 / (samples of the sub-task × sub-tasks of
/// the group)`, or `1 / samples of the group`.
pub(super) fn complete(variant: InterleaveVariant, answers: &mut [Answered<'_>]) {
    let mut samples: HashMap<String, f64> = HashMap::new();
    let mut sub_tasks: HashMap<String, f64> = HashMap::new();
    let mut in_group: HashMap<String, f64> = HashMap::new();
    let place = |answered: &Answered<'_>| {
        let counts = matches!(answered.reference, Reference::OpenOrClosed { .. }) && answered.score.value.is_some();
        let sub_task = answered.category.unwrap_or_default();
        counts.then(|| (sub_task.to_owned(), group(sub_task).to_owned()))
    };
    for answered in answers.iter() {
        if let Some((sub_task, group)) = place(answered) {
            let count = samples.entry(sub_task).or_default();
            if *count == 0.0 {
                *sub_tasks.entry(group.clone()).or_default() += 1.0;
            }
            *count += 1.0;
            *in_group.entry(group).or_default() += 1.0;
        }
    }
    for answered in answers {
        if let Some((sub_task, group)) = place(answered) {
            let of = |counts: &HashMap<String, f64>, name: &str| counts.get(name).copied().unwrap_or(1.0);
            let weight = match variant {
                InterleaveVariant::Official => 1.0 / (of(&samples, &sub_task) * of(&sub_tasks, &group)),
                InterleaveVariant::Lmms => 1.0 / of(&in_group, &group),
            };
            let value = answered.score.value.unwrap_or_default();
            let contribution = Contribution { numerator: weight * value, denominator: weight };
            answered.score.contributions.insert(GROUP_MEAN.to_owned(), contribution);
        }
    }
}
