//! Referring expressions: a box in the answer against the reference box.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use serde_json::json;

use super::lmms_boxes::{all_boxes, best_reading};
use super::metrics::mean;
use super::python_text::{digit_value, is_space};
use super::types::SampleScore;
use crate::benchmark::{BoxSpace, PixelBox, ThresholdRule};

/// Names and thresholds of the accuracies, the usual one first.
pub(super) const ACCURACIES: [(&str, f64); 5] =
    [("acc@0.5", 0.5), ("acc@0.1", 0.1), ("acc@0.3", 0.3), ("acc@0.7", 0.7), ("acc@0.9", 0.9)];
/// Metric name.
pub(super) const MEAN_IOU: &str = "mean_iou";
/// Metric name.
pub(super) const CENTRE_ACCURACY: &str = "centre_accuracy";

/// The first `[x1, y1, x2, y2]` of decimal numbers in the text, as the answer gives it (LLaVA: shares of the padded square).
/// Accepts what the pattern of lmms-eval accepts: white space after `[`, after commas and before `]`, no exponents.
pub fn parse_box(text: &str) -> Option<[f64; 4]> {
    text.match_indices('[').find_map(|(start, _)| parse_at(text.get(start + 1..)?))
}

fn parse_at(text: &str) -> Option<[f64; 4]> {
    let mut rest = text.chars().peekable();
    let mut numbers = [0.0; 4];
    for (index, number) in numbers.iter_mut().enumerate() {
        if index > 0 && rest.next() != Some(',') {
            return None;
        }
        while rest.next_if(|next| is_space(*next)).is_some() {}
        *number = parse_number(&mut rest)?;
    }
    while rest.next_if(|next| is_space(*next)).is_some() {}
    (rest.next() == Some(']')).then_some(numbers)
}

/// `-?\d+(\.\d+)?`; Python's `\d` and `float` take digits of every script.
fn parse_number(rest: &mut Peekable<Chars<'_>>) -> Option<f64> {
    let mut literal = String::new();
    if rest.next_if_eq(&'-').is_some() {
        literal.push('-');
    }
    digits(rest, &mut literal)?;
    if rest.next_if_eq(&'.').is_some() {
        literal.push('.');
        digits(rest, &mut literal)?;
    }
    literal.parse().ok()
}

/// A number as [`parse_box`] takes it at the beginning of a text, and what follows it. A point without a digit behind it is no
/// part of the number.
pub(super) fn number_at(text: &str) -> Option<(f64, &str)> {
    let digits = |text: &str| text.char_indices().find(|(_, next)| digit_value(*next).is_none()).map_or(text.len(), |(at, _)| at);
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(unsigned);
    let after = unsigned.get(whole..)?;
    let fraction = after.strip_prefix('.').map_or(0, digits);
    let rest = if fraction > 0 { after.get(1 + fraction..)? } else { after };
    let literal = text.get(..text.len() - rest.len())?;
    let ascii: String =
        literal.chars().map(|next| digit_value(next).and_then(|value| char::from_digit(value, 10)).unwrap_or(next)).collect();
    if whole == 0 { None } else { Some((ascii.parse().ok()?, rest)) }
}

/// One digit or more, appended as ASCII.
fn digits(rest: &mut Peekable<Chars<'_>>, literal: &mut String) -> Option<()> {
    let before = literal.len();
    while let Some(value) = rest.peek().copied().and_then(digit_value) {
        rest.next();
        literal.push(char::from_digit(value, 10)?);
    }
    (literal.len() > before).then_some(())
}

/// Converts a box of shares to pixels of the original image and clips it to the image.
///
/// In the padded square (LLaVA's training data) shares are of the longer side S, and the image stands in the square at
/// offset (S − side) / 2, rounded down; in original space shares are of each side.
pub fn to_original_pixels(shares: [f64; 4], space: BoxSpace, width: u32, height: u32) -> PixelBox {
    let PixelBox { x1, y1, x2, y2 } = unclipped(shares, space, width, height);
    let (width, height) = (f64::from(width), f64::from(height));
    PixelBox { x1: x1.clamp(0.0, width), y1: y1.clamp(0.0, height), x2: x2.clamp(0.0, width), y2: y2.clamp(0.0, height) }
}

/// The same without clipping. Where the reference decides how the answer is read, numbers are taken for pixels here.
fn unclipped(shares: [f64; 4], space: BoxSpace, width: u32, height: u32) -> PixelBox {
    let side = width.max(height);
    let (scale_x, scale_y, offset_x, offset_y) = match space {
        BoxSpace::PaddedSquare => (side, side, (side - width) / 2, (side - height) / 2),
        BoxSpace::Original => (width, height, 0, 0),
        BoxSpace::LmmsBestOf => (1, 1, 0, 0),
    };
    let pixel = |share: f64, scale: u32, offset: u32| share * f64::from(scale) - f64::from(offset);
    let [x1, y1, x2, y2] = shares;
    PixelBox {
        x1: pixel(x1, scale_x, offset_x),
        y1: pixel(y1, scale_y, offset_y),
        x2: pixel(x2, scale_x, offset_x),
        y2: pixel(y2, scale_y, offset_y),
    }
}

/// Intersection over union in 0..=1. A box whose right or bottom edge does not lie beyond its left or top one is empty; two
/// empty boxes have 0.
pub fn intersection_over_union(first: &PixelBox, second: &PixelBox) -> f64 {
    let area = |x1: f64, y1: f64, x2: f64, y2: f64| if x2 > x1 && y2 > y1 { (x2 - x1) * (y2 - y1) } else { 0.0 };
    let intersection = area(first.x1.max(second.x1), first.y1.max(second.y1), first.x2.min(second.x2), first.y2.min(second.y2));
    let area_of = |region: &PixelBox| area(region.x1, region.y1, region.x2, region.y2);
    let (first_area, second_area) = (area_of(first), area_of(second));
    if first_area <= 0.0 || second_area <= 0.0 {
        return 0.0;
    }
    // Rounding may leave the union a hair below the intersection of two nearly equal boxes; boxes with non-finite corners
    // have no meaningful share.
    let share = intersection / (first_area + second_area - intersection);
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}

/// Whether the centre of the predicted box lies in the reference box or on its edge (lmms-eval's `Center_ACC`).
fn centre_is_inside(predicted: &PixelBox, region: &PixelBox) -> bool {
    let (x, y) = ((predicted.x1 + predicted.x2) / 2.0, (predicted.y1 + predicted.y2) / 2.0);
    region.x1 <= x && x <= region.x2 && region.y1 <= y && y <= region.y2
}

/// Scores one answer. An answer without a box scores 0 in every metric and counts; only where lmms-eval's reading is followed does
/// its box without area at the origin have a centre.
pub(super) fn score(space: BoxSpace, rule: ThresholdRule, region: &PixelBox, width: u32, height: u32, text: &str) -> SampleScore {
    let corners = |region: &PixelBox| [region.x1, region.y1, region.x2, region.y2];
    let (parsed, predicted, centred) = if space == BoxSpace::LmmsBestOf {
        let boxes = all_boxes(text);
        let best = best_reading(&boxes, region, width, height);
        let centred = centre_is_inside(&best, region);
        (boxes.first().map(|_| corners(&best)), (!boxes.is_empty()).then_some(best), centred)
    } else {
        let parsed = parse_box(text);
        let centred = parsed.is_some_and(|shares| centre_is_inside(&unclipped(shares, space, width, height), region));
        (parsed, parsed.map(|shares| to_original_pixels(shares, space, width, height)), centred)
    };
    let iou = predicted.map_or(0.0, |predicted| intersection_over_union(&predicted, region));
    let reached = |threshold: f64| {
        let hit = match rule {
            ThresholdRule::AtLeast => iou >= threshold,
            ThresholdRule::Above => iou > threshold,
        };
        f64::from(u8::from(hit))
    };
    let mut contributions: BTreeMap<_, _> =
        ACCURACIES.iter().map(|(name, threshold)| ((*name).to_owned(), mean(reached(*threshold)))).collect();
    contributions.insert(MEAN_IOU.to_owned(), mean(iou));
    contributions.insert(CENTRE_ACCURACY.to_owned(), mean(f64::from(u8::from(centred))));
    SampleScore {
        parsed: parsed.map(|[x1, y1, x2, y2]| format!("[{x1}, {y1}, {x2}, {y2}]")),
        value: Some(reached(0.5)),
        contributions,
        detail: json!({ "iou": iou, "predicted_box": predicted.as_ref().map(corners), "reference_box": corners(region) }),
    }
}
