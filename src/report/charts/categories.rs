//! The primary metric by category.

use super::super::drawing::{Dash, Drawing, Paint};
use super::super::view::{BenchmarkView, View};
use super::{Panel, VALUES, padded_range, tick_suffix};
use crate::compare::Estimate;

/// Categories in one chart; the table has them all.
const MOST: usize = 24;

/// One category with the package's estimates.
pub(in super::super) struct CategoryRow<'a> {
    /// Its name.
    pub name: &'a str,
    /// By package.
    pub estimates: Vec<Option<&'a Estimate>>,
}

/// The categories of a benchmark in the order of first appearance.
pub(in super::super) fn category_rows<'a>(view: &View<'_>, benchmark: &BenchmarkView<'a>) -> Vec<CategoryRow<'a>> {
    let packages = view.packages.len();
    let mut rows: Vec<CategoryRow<'a>> = Vec::new();
    for run in &benchmark.runs {
        for category in &run.run.categories {
            let place = rows.iter().position(|row| row.name == category.category).unwrap_or_else(|| {
                rows.push(CategoryRow { name: &category.category, estimates: vec![None; packages] });
                rows.len() - 1
            });
            if let Some(slot) = rows.get_mut(place).and_then(|row| row.estimates.get_mut(run.package)) {
                *slot = Some(&category.estimate);
            }
        }
    }
    rows
}

/// The lowest and the highest value of a category.
fn ends(row: &CategoryRow<'_>) -> [f64; 2] {
    let values = row.estimates.iter().flatten().map(|estimate| estimate.value).filter(|value| value.is_finite());
    values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| [low.min(value), high.max(value)])
}

/// Every category's value of every package, with its 95 % interval; the packages of a category stand below one another.
/// Also says how many categories were left out. `None` with fewer than two.
pub(in super::super) fn by_category(view: &View<'_>, benchmark: &BenchmarkView<'_>) -> Option<(Drawing, usize)> {
    let rows = category_rows(view, benchmark);
    if rows.len() < 2 {
        return None;
    }
    let left_out = rows.len().saturating_sub(MOST);
    let mut rows = rows;
    if left_out > 0 {
        // Of many those that differ most between packages, then the lowest.
        rows.sort_by(|left, right| {
            let ([left_low, left_high], [right_low, right_high]) = (ends(left), ends(right));
            (right_high - right_low).total_cmp(&(left_high - left_low)).then(left_low.total_cmp(&right_low))
        });
        rows.truncate(MOST);
    }
    let shown = rows.as_slice();
    let name = benchmark.primary_name();
    let unit = benchmark.unit(name);
    let packages: Vec<usize> = benchmark.runs.iter().map(|run| run.package).collect();
    let values = shown.iter().flat_map(|row| row.estimates.iter().flatten()).flat_map(|estimate| {
        let [low, high] = estimate.interval.unwrap_or([estimate.value; 2]);
        [estimate.value, low, high].into_iter().filter(|value| value.is_finite())
    });
    let mut range = padded_range(values, unit)?;
    if unit.is_percent() && range[0] > 0.0 && range[0] < 30.0 {
        range[0] = 0.0;
    }
    let described: Vec<String> = shown
        .iter()
        .map(|row| {
            let values: Vec<String> = row
                .estimates
                .iter()
                .enumerate()
                .filter_map(|(package, estimate)| {
                    estimate.map(|estimate| format!("{} {}", view.package(package), unit.value(estimate)))
                })
                .collect();
            format!("{}: {}", row.name, values.join(", "))
        })
        .collect();
    let label = format!("{}, {name}, by category, with 95 % intervals. {}", benchmark.title, described.join("; "));
    let lane = if packages.len() > 3 { 9.0 } else { 11.0 };
    let row = lane * packages.len() as f64 + 12.0;
    // Two values and the arrow between them need more room than one.
    let room = if packages.len() == 2 { VALUES + 26.0 } else { VALUES };
    let mut panel = Panel::with_values(shown.len(), row, range, tick_suffix(unit), label, room);
    for (row, category) in shown.iter().enumerate() {
        let middle = panel.y(row);
        let value = |place: usize| {
            let package = packages.get(place)?;
            category.estimates.get(*package).copied().flatten().map(|estimate| unit.value(estimate))
        };
        // With two packages both values fit; more stand in the table.
        let values = match packages.len() {
            1 => value(0).unwrap_or_default(),
            2 => format!("{} → {}", value(0).unwrap_or_else(|| "–".to_owned()), value(1).unwrap_or_else(|| "–".to_owned())),
            _ => String::new(),
        };
        panel.title(row, category.name, &values);
        if row > 0 {
            let y = middle - panel.row / 2.0;
            let (left, right) = (panel.left, panel.right);
            panel.drawing.dashed(&[[left, y], [right, y]], Paint::Grid, 1.0, Dash::Short);
        }
        for (lane_index, package) in packages.iter().enumerate() {
            let Some(estimate) = category.estimates.get(*package).copied().flatten() else { continue };
            if !estimate.value.is_finite() {
                continue;
            }
            let y = middle + (lane_index as f64 - (packages.len() as f64 - 1.0) / 2.0) * lane;
            let paint = Paint::Series(*package);
            if let Some(interval) = estimate.interval.filter(|ends| ends.iter().all(|end| end.is_finite())) {
                panel.interval(y, interval, paint, 2.5);
            }
            let x = panel.x(estimate.value);
            panel.drawing.mark(*package, [x, y], 3.6, paint, 1.0);
        }
    }
    Some((panel.drawing, left_out))
}
