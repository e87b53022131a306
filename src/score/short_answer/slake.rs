//! SLAKE as lmms-eval `75571cf` scores it (`tasks/slake/utils.py`).

use std::collections::BTreeMap;

use serde_json::json;

use super::super::metrics::mean;
use super::super::python_text::{is_space, strip};
use super::super::types::SampleScore;
use super::points;

/// Chinese punctuation that lmms-eval takes for spaces.
const CHINESE_PUNCTUATION: &str = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～、，。；：《》？【】（）";
const YES: [&str; 12] = ["yes", "yeah", "yep", "true", "是", "是的", "有", "包含", "可以", "能", "会", "正常"];
const NO: [&str; 13] = ["no", "nope", "false", "否", "不是", "没有", "无", "不包含", "不能", "不会", "不可以", "不正常", "异常"];

/// An answer as it is compared: lower case, without what stands in brackets and without punctuation, with single spaces; words
/// for yes and no in both languages are one.
pub fn slake_normalise(text: &str) -> String {
    let lower = strip(text).to_lowercase();
    let open = without_brackets(&without_brackets(&lower, '(', ')'), '（', '）');
    let spaced = open.replace(|character: char| character.is_ascii_punctuation() || CHINESE_PUNCTUATION.contains(character), " ");
    let words: Vec<&str> = spaced.split(is_space).filter(|word| !word.is_empty()).collect();
    let text = words.join(" ");
    match text.as_str() {
        "x ray" | "xray" => "xray".to_owned(),
        yes if YES.contains(&yes) => "yes".to_owned(),
        no if NO.contains(&no) => "no".to_owned(),
        _ => text,
    }
}

/// Replaces everything from an opening bracket to the next closing one by a space.
fn without_brackets(text: &str, open: char, close: char) -> String {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once(open)
        && let Some((_, after)) = inside.split_once(close)
    {
        output.push_str(before);
        output.push(' ');
        rest = after;
    }
    output.push_str(rest);
    output
}

/// Scores one answer.
pub(super) fn score(reference: &str, open: bool, text: &str) -> SampleScore {
    let answer = slake_normalise(text);
    let value = points(answer == slake_normalise(reference));
    let own = if open { "open_accuracy" } else { "closed_accuracy" };
    SampleScore {
        parsed: (!answer.is_empty()).then_some(answer),
        value: Some(value),
        contributions: BTreeMap::from([("accuracy".to_owned(), mean(value)), (own.to_owned(), mean(value))]),
        detail: json!({ "question": if open { "open" } else { "closed" } }),
    }
}
