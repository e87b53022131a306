//! Paired differences with intervals, as a forest plot.

use super::super::drawing::{Drawing, Paint};
use super::super::format;
use super::super::view::{Contest, View};
use super::{Panel, ROW, range_around_zero};
use crate::compare::Verdict;

/// The difference of every benchmark in per cent, with its 95 % interval and the margin as a band. Metrics in other units have
/// no place on a common axis and are left out.
pub(in super::super) fn differences(view: &View<'_>, contest: &Contest<'_>) -> Option<Drawing> {
    let rows: Vec<_> = contest
        .standings
        .iter()
        .filter(|standing| standing.unit.is_percent() && standing.metric.difference.value.is_finite())
        .collect();
    if rows.is_empty() {
        return None;
    }
    let margin = view.comparison.margin;
    let ends = rows.iter().flat_map(|standing| {
        let difference = &standing.metric.difference;
        let [low, high] = difference.interval.unwrap_or([difference.value; 2]);
        [difference.value, low, high]
    });
    let range = range_around_zero(ends.chain([-margin, margin]), 2.0);
    let described: Vec<String> = rows
        .iter()
        .map(|standing| format!("{}, {}", format::verdict_word(standing.metric.verdict), standing.sentence()))
        .collect();
    let title = format!("{} against {}", view.package(contest.new), view.package(contest.base));
    let label = format!("{title}, paired differences in points with 95 % intervals: {}", described.join("; "));
    let mut panel = Panel::new(rows.len(), ROW, range, "", label);
    let bottom = panel.y(rows.len()) - ROW / 2.0;
    let (low, high, zero) = (panel.x(-margin), panel.x(margin), panel.x(0.0));
    panel.drawing.rectangle([low, super::TOP], [high, bottom], Paint::Soft, 1.0);
    panel.drawing.line(&[[zero, super::TOP], [zero, bottom]], Paint::Muted, 1.0);
    for (row, standing) in rows.iter().enumerate() {
        let metric = standing.metric;
        let paint = match metric.verdict {
            Verdict::Regressed => Paint::Bad,
            Verdict::Improved => Paint::Good,
            Verdict::NoWorse | Verdict::Identical => Paint::Fine,
            Verdict::Inconclusive => Paint::Open,
            Verdict::Descriptive => Paint::Muted,
        };
        let value = format!("{} {}", format::verdict_symbol(metric.verdict), standing.unit.difference(&metric.difference));
        panel.title(row, standing.title, &value);
        let y = panel.y(row);
        if let Some(interval) = metric.difference.interval.filter(|ends| ends.iter().all(|end| end.is_finite())) {
            panel.interval(y, interval, paint, 4.0);
        }
        let x = panel.x(metric.difference.value);
        panel.drawing.mark(0, [x, y], 4.0, paint, 1.0);
    }
    Some(panel.drawing)
}
