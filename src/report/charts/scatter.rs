//! Accuracy against time, with size as the area of the marks, and the Pareto front.

use super::super::drawing::{Anchor, Dash, Drawing, Paint, fit};
use super::super::format::{self, Unit};
use super::super::view::View;
use super::{padded_range, ticks};
use crate::compare::{TradeOff, TradeOffs};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 46.0;
/// Radius of the largest mark.
const LARGEST: f64 = 17.0;
/// Radius of a mark whose size is not known, and of the smallest.
const SMALLEST: f64 = 5.0;
/// Beyond this ratio of the slowest to the fastest the axis of time is logarithmic.
const LOGARITHMIC_FROM: f64 = 5.0;

/// The chart; `None` with fewer than two packages to compare.
pub(in super::super) fn scatter(view: &View<'_>, offs: &TradeOffs) -> Option<Drawing> {
    let points: Vec<(usize, TradeOff)> =
        offs.packages.iter().enumerate().filter_map(|(package, point)| Some((package, (*point)?))).collect();
    if points.len() < 2 {
        return None;
    }
    let unit = Unit::of(100.0);
    let [low, high] = padded_range(points.iter().map(|(_, point)| point.accuracy), unit)?;
    let fastest = points.iter().map(|(_, point)| point.per_question_ms).fold(f64::INFINITY, f64::min);
    let slowest = points.iter().map(|(_, point)| point.per_question_ms).fold(0.0, f64::max);
    let logarithmic = slowest / fastest > LOGARITHMIC_FROM;
    let scale = |ms: f64| if logarithmic { ms.log10() } else { ms };
    let air = ((scale(slowest) - scale(fastest)) * 0.1).max(if logarithmic { 0.05 } else { slowest * 0.05 });
    let (from, to) = (scale(fastest) - air, scale(slowest) + air);
    let from = if logarithmic { from } else { from.max(0.0) };
    if to <= from || !(to - from).is_finite() {
        return None;
    }
    let x = |ms: f64| LEFT + (scale(ms) - from) / (to - from) * (WIDTH - LEFT - RIGHT);
    let y = |accuracy: f64| HEIGHT - BOTTOM - (accuracy - low) / (high - low) * (HEIGHT - TOP - BOTTOM);

    let mut drawing = Drawing::new(WIDTH, HEIGHT, label(view, &points));
    let (marks, decimals) = ticks([low, high]);
    for mark in marks {
        drawing.line(&[[LEFT, y(mark)], [WIDTH - RIGHT, y(mark)]], Paint::Grid, 1.0);
        let text = format!("{} %", format::number(mark, decimals));
        drawing.text([LEFT - 8.0, y(mark)], text, 11.0, Paint::Muted, Anchor::End);
    }
    for mark in time_ticks(from, to, logarithmic) {
        drawing.line(&[[x(mark), TOP], [x(mark), HEIGHT - BOTTOM]], Paint::Grid, 1.0);
        drawing.text([x(mark), HEIGHT - BOTTOM + 13.0], format::significant(mark), 11.0, Paint::Muted, Anchor::Middle);
    }
    let axis = if logarithmic {
        "milliseconds per question (logarithmic), faster to the left"
    } else {
        "milliseconds per question, faster to the left"
    };
    drawing.text([(LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0], axis, 11.5, Paint::Muted, Anchor::Middle);

    let mut front: Vec<[f64; 2]> =
        points.iter().filter(|(_, point)| point.on_front).map(|(_, point)| [point.per_question_ms, point.accuracy]).collect();
    front.sort_by(|left, right| left[0].total_cmp(&right[0]));
    let mut steps: Vec<[f64; 2]> = Vec::new();
    for [ms, accuracy] in &front {
        // The front goes up only where a slower package is reached.
        if let Some(last) = steps.last().copied() {
            steps.push([x(*ms), last[1]]);
        }
        steps.push([x(*ms), y(*accuracy)]);
    }
    if let Some(last) = steps.last().copied() {
        steps.push([WIDTH - RIGHT, last[1]]);
        drawing.dashed(&steps, Paint::Muted, 1.5, Dash::Long);
    }
    let largest = points.iter().filter_map(|(_, point)| point.weight_bytes).max().unwrap_or(0).max(1);
    let radius = |point: &TradeOff| match point.weight_bytes {
        Some(bytes) => (LARGEST * (bytes as f64 / largest as f64).sqrt()).max(SMALLEST),
        None => SMALLEST,
    };
    for (package, point) in &points {
        drawing.mark(*package, [x(point.per_question_ms), y(point.accuracy)], radius(point), Paint::Series(*package), 0.75);
    }
    names(&mut drawing, view, &points, &x, &y, &radius);
    Some(drawing)
}

/// The names beside their marks: on the side with more room, moved down where they would cover another.
fn names(
    drawing: &mut Drawing,
    view: &View<'_>,
    points: &[(usize, TradeOff)],
    x: &dyn Fn(f64) -> f64,
    y: &dyn Fn(f64) -> f64,
    radius: &dyn Fn(&TradeOff) -> f64,
) {
    const SIZE: f64 = 12.0;
    let mut order: Vec<&(usize, TradeOff)> = points.iter().collect();
    order.sort_by(|(_, left), (_, right)| right.accuracy.total_cmp(&left.accuracy));
    let mut placed: Vec<[f64; 3]> = Vec::new();
    for (package, point) in order {
        let at = [x(point.per_question_ms), y(point.accuracy)];
        let right = at[0] < (LEFT + WIDTH - RIGHT) / 2.0;
        let offset = radius(point) * 1.3 + 5.0;
        let room = if right { WIDTH - at[0] - offset } else { at[0] - offset };
        let text = fit(view.package(*package), room.min(220.0), SIZE);
        let width = text.chars().count() as f64 * SIZE * 0.56;
        let left = if right { at[0] + offset } else { at[0] - offset - width };
        // The front runs to the right of its points at their height.
        let mut top = if point.on_front { at[1] - 9.0 } else { at[1] };
        while placed.iter().any(|[from, to, height]| (*height - top).abs() < SIZE + 2.0 && left < *to && left + width > *from)
            && top < HEIGHT - BOTTOM - SIZE
        {
            top += 3.0;
        }
        placed.push([left, left + width, top]);
        let (place, anchor) = if right { (at[0] + offset, Anchor::Start) } else { (at[0] - offset, Anchor::End) };
        drawing.text([place, top], text, SIZE, Paint::Ink, anchor);
    }
}

fn time_ticks(from: f64, to: f64, logarithmic: bool) -> Vec<f64> {
    if !logarithmic {
        return ticks([from, to]).0;
    }
    let mut marks = Vec::new();
    for exponent in (from.floor() as i32).max(-9)..=(to.ceil() as i32).min(9) {
        for step in [1.0, 2.0, 5.0] {
            let mark = step * 10_f64.powi(exponent);
            if (from..=to).contains(&mark.log10()) {
                marks.push(mark);
            }
        }
    }
    marks
}

fn label(view: &View<'_>, points: &[(usize, TradeOff)]) -> String {
    let described: Vec<String> = points
        .iter()
        .map(|(package, point)| {
            let size = point.weight_bytes.map_or_else(String::new, |bytes| format!(", {}", format::bytes(bytes)));
            let front = if point.on_front { ", on the Pareto front" } else { "" };
            format!(
                "{} {} % in {} ms{size}{front}",
                view.package(*package),
                format::number(point.accuracy, 1),
                format::significant(point.per_question_ms)
            )
        })
        .collect();
    format!("Accuracy against milliseconds per question, marks as large as the weights: {}", described.join("; "))
}
