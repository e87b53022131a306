//! All boxes of an answer as lmms-eval's task `refcoco_grounding` finds them (`utils.py` at 75571cf), and the best of them.
//!
//! Each box is read in pixels and again in thousandths of the image's sides, and of all readings the one that overlaps the
//! reference most is kept. That is optimistic: the reference decides how the answer is read.

use serde_json::Value;

use super::grounding::{intersection_over_union, number_at};
use super::python_text::{is_space, strip};
use crate::benchmark::PixelBox;

/// Members of a JSON object that may hold a box, in the order in which they are looked for.
const BOX_MEMBERS: [&str; 7] = ["bbox_2d", "bbox", "box", "coordinates", "coord", "location", "position"];

/// What answers in thousandths are shares of.
const THOUSAND: f64 = 1000.0;

/// All boxes of an answer: those of its JSON, or, where it has none, every four numbers in a row.
///
/// Python's `json` also reads `NaN` and `Infinity`, deeper nesting and unpaired surrogates; answers with those have no JSON here.
pub(super) fn all_boxes(text: &str) -> Vec<[f64; 4]> {
    let mut boxes = Vec::new();
    if let Some(value) = json_in(strip(text)) {
        boxes_of(&value, &mut boxes);
    }
    if boxes.is_empty() { numbers_in_a_row(text) } else { boxes }
}

/// The reading of the boxes that overlaps the reference most, of equal ones the first, in pixels; no box is one without area.
pub(super) fn best_reading(boxes: &[[f64; 4]], region: &PixelBox, width: u32, height: u32) -> PixelBox {
    let (width, height) = (f64::from(width), f64::from(height));
    let readings = boxes.iter().flat_map(|&[x1, y1, x2, y2]| {
        let (x, y) = (|share: f64| share / THOUSAND * width, |share: f64| share / THOUSAND * height);
        [PixelBox { x1, y1, x2, y2 }, PixelBox { x1: x(x1), y1: y(y1), x2: x(x2), y2: y(y2) }]
    });
    let mut best: Option<(f64, PixelBox)> = None;
    for reading in readings {
        let overlap = intersection_over_union(&reading, region);
        if best.is_none_or(|(most, _)| overlap > most) {
            best = Some((overlap, reading));
        }
    }
    best.map_or(PixelBox { x1: 0.0, y1: 0.0, x2: 0.0, y2: 0.0 }, |(_, reading)| reading)
}

/// JSON in a fenced block, as the whole text, between the first `[` and the last `]`, or between the first `{` and the last `}`.
fn json_in(text: &str) -> Option<Value> {
    let between = |open: char, close: char| {
        let (start, end) = (text.find(open)?, text.rfind(close)?);
        if end > start { text.get(start..=end) } else { None }
    };
    let candidates = [fenced(text), Some(text), between('[', ']'), between('{', '}')];
    candidates.into_iter().flatten().find_map(|candidate| serde_json::from_str(strip_json(candidate)).ok())
}

/// The first block between triple backticks, without `json` before it.
fn fenced(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("```")?;
    let (inner, _) = rest.split_once("```")?;
    let named = inner.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("json"));
    Some(strip(if named { inner.get(4..).unwrap_or_default() } else { inner }))
}

/// JSON's own white space, which serde_json takes, too; kept apart so that no other is taken off.
fn strip_json(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r'])
}

fn boxes_of(value: &Value, boxes: &mut Vec<[f64; 4]>) {
    match value {
        Value::Array(items) => match items.iter().map(number).collect::<Option<Vec<f64>>>().as_deref() {
            Some(&[x1, y1, x2, y2]) => boxes.push([x1, y1, x2, y2]),
            _ => items.iter().for_each(|item| boxes_of(item, boxes)),
        },
        Value::Object(members) => {
            let named = BOX_MEMBERS.iter().find_map(|name| match members.get(*name)?.as_array()?.as_slice() {
                [x1, y1, x2, y2] => Some([float(x1)?, float(y1)?, float(x2)?, float(y2)?]),
                _ => None,
            });
            match named {
                Some(found) => boxes.push(found),
                None => members.values().for_each(|member| boxes_of(member, boxes)),
            }
        }
        _ => {}
    }
}

/// What is a number in Python: truth values are.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        other => other.as_f64(),
    }
}

/// What Python's `float()` takes: a text with a number, too.
fn float(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => python_float(text),
        other => number(other),
    }
}

/// `float(text)` for decimal numbers: digits of any script, single underscores between digits, an exponent.
fn python_float(text: &str) -> Option<f64> {
    let text = strip(text);
    let digit = |character: char| super::python_text::digit_value(character).and_then(|value| char::from_digit(value, 10));
    let plain: String = text.chars().map(|character| digit(character).unwrap_or(character)).collect();
    let characters: Vec<char> = plain.chars().collect();
    let between_digits = |index: usize| {
        let digit_at = |at: Option<usize>| at.and_then(|at| characters.get(at)).is_some_and(char::is_ascii_digit);
        digit_at(index.checked_sub(1)) && digit_at(Some(index + 1))
    };
    if characters.iter().enumerate().any(|(index, &character)| character == '_' && !between_digits(index)) {
        return None;
    }
    // Rust reads the same numbers otherwise, infinities and NaN included.
    plain.replace('_', "").parse().ok()
}

/// Every four numbers with commas or white space between them, from left to right.
fn numbers_in_a_row(text: &str) -> Vec<[f64; 4]> {
    let mut boxes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match four_numbers(rest) {
            Some((numbers, length)) => {
                boxes.push(numbers);
                rest = rest.get(length..).unwrap_or_default();
            }
            None => rest = rest.get(first.len_utf8()..).unwrap_or_default(),
        }
    }
    boxes
}

/// Four numbers at the beginning of a text, and their length in bytes.
fn four_numbers(text: &str) -> Option<([f64; 4], usize)> {
    let mut numbers = [0.0; 4];
    let mut rest = text;
    for (index, number) in numbers.iter_mut().enumerate() {
        if index > 0 {
            let spaces = rest.trim_start_matches(is_space);
            let after = spaces.strip_prefix(',').map(|after| after.trim_start_matches(is_space)).unwrap_or(spaces);
            if after.len() == rest.len() {
                return None;
            }
            rest = after;
        }
        let (value, after) = number_at(rest)?;
        *number = value;
        rest = after;
    }
    Some((numbers, text.len() - rest.len()))
}
