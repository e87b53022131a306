//! Answers, references, rankings and boxes in words.

use crate::benchmark::{Reference, option_letter};
use crate::guard::escape;
use crate::store::SampleRecord;

use super::super::format;
use super::Corners;

pub(super) const ANSWER_LIMIT: usize = 600;
/// Candidates shown of a ranking.
const RANKED_SHOWN: usize = 5;
/// Distinct annotator answers shown.
const REFERENCES_SHOWN: usize = 10;

/// An answer, with its length where it is cut.
pub(super) fn answer(text: &str) -> String {
    let length = text.chars().count();
    if length <= ANSWER_LIMIT {
        text.to_owned()
    } else {
        format!("{} ({} characters in all)", escape::shorten(text, ANSWER_LIMIT), format::count(length))
    }
}

/// What a judge said of the answer, or why it said nothing.
pub(super) fn judge(record: &SampleRecord) -> Option<String> {
    let judge = record.detail.get("judge")?;
    let said = |name: &str| judge.get(name).and_then(serde_json::Value::as_str).map(|text| escape::shorten(text, ANSWER_LIMIT));
    if let Some(reply) = said("reply") {
        return Some(format!("judge: {reply}"));
    }
    if let Some(reply) = said("unread") {
        return Some(format!("the judge's reply could not be read: {reply}"));
    }
    said("failed").map(|reason| format!("the judge gave no reply: {reason}"))
}

/// The best candidates with their scores, of an answer that was chosen among candidates.
pub(super) fn ranking(record: &SampleRecord) -> Option<String> {
    let labels = record.detail.get("ranking")?.as_array()?.iter().filter_map(serde_json::Value::as_str);
    let scores = record.detail.get("scores")?.as_array()?.iter().filter_map(serde_json::Value::as_f64);
    let shown = |(label, score): (&str, f64)| format!("{} {}", escape::shorten(label, 60), format::number(score, 2));
    let best: Vec<String> = labels.zip(scores).take(RANKED_SHOWN).map(shown).collect();
    let rank = match record.detail.get("rank").and_then(serde_json::Value::as_u64) {
        Some(rank) => format!("right one at rank {rank}"),
        None => "right one not among the best".to_owned(),
    };
    Some(format!("{rank}; {}; after {} ms", best.join(", "), format::significant(record.timings.ttft_ms)))
}

/// The reference in words, its box, and the width and height of the image that the box lies in.
pub(super) fn reference(reference: &Reference) -> (String, Option<Corners>, Option<(u32, u32)>) {
    match reference {
        Reference::YesNo { yes } => (if *yes { "yes" } else { "no" }.to_owned(), None, None),
        Reference::Answers { answers } => (annotators(answers), None, None),
        Reference::OpenOrClosed { answer, open } => {
            (format!("{} ({})", escape::shorten(answer, 240), if *open { "open-ended" } else { "closed-ended" }), None, None)
        }
        Reference::Class { label, classes } => (format!("{} (of {classes} classes)", escape::shorten(label, 120)), None, None),
        Reference::Retrieval { relevant, candidates, .. } => {
            (format!("{} (of {candidates} candidates)", annotators(relevant)), None, None)
        }
        Reference::Choice { options, answer } => (chosen(options, *answer), None, None),
        Reference::Judged { answer, .. } => (escape::shorten(answer, 240), None, None),
        Reference::Withheld => ("withheld: only the benchmark's server has it".to_owned(), None, None),
        Reference::Region { region, width, height } => {
            let corners = [region.x1, region.y1, region.x2, region.y2];
            let [left, top, right, bottom] = corners.map(|value| format::number(value, 0));
            let text = format!("box from ({left}, {top}) to ({right}, {bottom}) in {width} × {height} pixels");
            (text, Some(corners).filter(|corners| corners.iter().all(|value| value.is_finite())), Some((*width, *height)))
        }
    }
}

/// `B (of 4): red`.
fn chosen(options: &[String], answer: usize) -> String {
    let letter = option_letter(answer);
    let text = options.get(answer).map(|text| escape::shorten(text, 120)).unwrap_or_default();
    format!("{letter} (of {}): {text}", options.len())
}

/// `yes × 8, no × 2`, in file order; whole sentences each on a line of its own.
fn annotators(answers: &[String]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for answer in answers {
        match counted.iter_mut().find(|(known, _)| known == answer) {
            Some((_, count)) => *count += 1,
            None => counted.push((answer, 1)),
        }
    }
    let more = counted.len().saturating_sub(REFERENCES_SHOWN);
    let mut shown: Vec<String> = counted
        .iter()
        .take(REFERENCES_SHOWN)
        .map(|(answer, count)| {
            let answer = escape::shorten(answer, 120);
            if *count > 1 { format!("{answer} × {count}") } else { answer }
        })
        .collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    let sentences = shown.len() > 1 && shown.iter().any(|answer| answer.len() > 40);
    if shown.is_empty() {
        format::MISSING.to_owned()
    } else if sentences {
        format!("\n{}", shown.join("\n"))
    } else {
        shown.join(", ")
    }
}

/// A box in a scorer's facts: `[x1, y1, x2, y2]` or `{"x1": …, "y1": …, "x2": …, "y2": …}`.
pub(super) fn corners(value: &serde_json::Value) -> Option<Corners> {
    let read = |key: &str, index: usize| match value {
        serde_json::Value::Array(items) if items.len() == 4 => items.get(index)?.as_f64(),
        serde_json::Value::Object(fields) => fields.get(key)?.as_f64(),
        _ => None,
    };
    let corners = [read("x1", 0)?, read("y1", 1)?, read("x2", 2)?, read("y2", 3)?];
    corners.iter().all(|value| value.is_finite()).then_some(corners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn boxes_are_read_in_both_spellings_and_never_half() {
        assert_eq!(corners(&json!([1, 2.5, 3, 4])), Some([1.0, 2.5, 3.0, 4.0]));
        assert_eq!(corners(&json!({"x1": 1, "y1": 2, "x2": 3, "y2": 4})), Some([1.0, 2.0, 3.0, 4.0]));
        for bad in [json!([1, 2, 3]), json!({"x1": 1}), json!("box"), json!([1, 2, "3", 4]), json!(null)] {
            assert_eq!(corners(&bad), None, "{bad}");
        }
    }

    #[test]
    fn annotators_are_counted_in_file_order() {
        let answers = ["blue", "red", "blue", "blue"].map(str::to_owned);
        assert_eq!(annotators(&answers), "blue × 3, red");
        assert_eq!(annotators(&[]), "–");
        let captions = ["A square.", "A red square on a table, seen from above."].map(str::to_owned);
        assert_eq!(annotators(&captions), "\nA square.\nA red square on a table, seen from above.");
        let many: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        assert!(annotators(&many).ends_with("and 20 more"));
    }
}
