//! Charts of a comparison as drawings. Each gives the numbers in words as well.

mod accuracy;
mod attribution;
mod categories;
mod differences;
mod latency;
mod scatter;

pub(super) use accuracy::accuracy;
pub(super) use attribution::{layers, shapley};
pub(super) use categories::{CategoryRow, by_category, category_rows};
pub(super) use differences::differences;
pub(super) use latency::{STAGES, percentiles, stage_area, stages, stages_per_question};
pub(super) use scatter::scatter;

use super::drawing::{Anchor, Drawing, Paint, fit};
use super::format::{self, Unit};
use crate::guard::escape;

/// Width of a panel.
const WIDTH: f64 = 360.0;
/// Height of a row.
const ROW: f64 = 26.0;
/// Room above the first row.
const TOP: f64 = 6.0;
/// Room for the axis.
const AXIS: f64 = 26.0;
/// Room for the labels of rows.
const LABELS: f64 = 118.0;
/// Room for the values behind the rows.
const VALUES: f64 = 78.0;

/// Rows beside a common horizontal axis.
struct Panel {
    drawing: Drawing,
    left: f64,
    right: f64,
    range: [f64; 2],
    row: f64,
}

impl Panel {
    /// An empty panel with its axis.
    fn new(rows: usize, row: f64, range: [f64; 2], suffix: &str, label: String) -> Self {
        Self::with_values(rows, row, range, suffix, label, VALUES)
    }

    /// As [`Self::new`], with so many pixels for the values behind the rows.
    fn with_values(rows: usize, row: f64, range: [f64; 2], suffix: &str, label: String, values: f64) -> Self {
        let bottom = TOP + row * rows as f64;
        let mut panel =
            Self { drawing: Drawing::new(WIDTH, bottom + AXIS, label), left: LABELS, right: WIDTH - values, range, row };
        let (ticks, decimals) = ticks(range);
        for tick in ticks {
            let x = panel.x(tick);
            panel.drawing.line(&[[x, TOP], [x, bottom]], Paint::Grid, 1.0);
            let text = format!("{}{suffix}", format::number(tick, decimals));
            panel.drawing.text([x, bottom + 12.0], text, 11.0, Paint::Muted, Anchor::Middle);
        }
        panel
    }

    /// Where a value stands; values beyond the range stand at its end.
    fn x(&self, value: f64) -> f64 {
        let [low, high] = self.range;
        self.left + ((value - low) / (high - low)).clamp(0.0, 1.0) * (self.right - self.left)
    }

    /// The middle of a row.
    fn y(&self, row: usize) -> f64 {
        TOP + self.row * (row as f64 + 0.5)
    }

    /// A package's name on the left of its row, both its ends, and its value on the right.
    fn label(&mut self, row: usize, name: &str, value: &str) {
        self.labelled(row, fit(name, LABELS - 8.0, 12.0), value);
    }

    /// As [`Self::label`] for a title, of which the beginning says most.
    fn title(&mut self, row: usize, name: &str, value: &str) {
        // So many characters of common fonts fit into the room.
        self.labelled(row, escape::shorten(&escape::terminal(name), 15), value);
    }

    fn labelled(&mut self, row: usize, name: String, value: &str) {
        let y = self.y(row);
        self.drawing.text([LABELS - 8.0, y], name, 12.0, Paint::Ink, Anchor::End);
        self.drawing.text([WIDTH - 2.0, y], value, 12.0, Paint::Ink, Anchor::End);
    }

    /// A point's interval with its end strokes.
    fn interval(&mut self, y: f64, [low, high]: [f64; 2], paint: Paint, end: f64) {
        let (low, high) = (self.x(low), self.x(high));
        self.drawing.line(&[[low, y], [high, y]], paint, 2.0);
        for x in [low, high] {
            self.drawing.line(&[[x, y - end], [x, y + end]], paint, 2.0);
        }
    }
}

/// ` %` behind the ticks of an axis in per cent.
fn tick_suffix(unit: Unit) -> &'static str {
    if unit.is_percent() { " %" } else { "" }
}

/// Three to six round numbers within a range, and how many decimals they need.
fn ticks([low, high]: [f64; 2]) -> (Vec<f64>, usize) {
    let rough = (high - low) / 4.0;
    let magnitude = 10_f64.powf(rough.log10().floor());
    // Quarters only where they need no decimals, which would make the labels run into one another.
    let factors: &[f64] = if magnitude >= 10.0 { &[1.0, 2.0, 2.5, 5.0, 10.0] } else { &[1.0, 2.0, 5.0, 10.0] };
    let step = factors.iter().map(|factor| factor * magnitude).find(|step| *step >= rough).unwrap_or(magnitude);
    let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 6.0) as usize;
    let first = (low / step).ceil();
    let ticks = (0..8).map(|index| (first + f64::from(index)) * step).take_while(|tick| *tick <= high + step * 1e-9);
    (ticks.collect(), decimals)
}

/// The range of the values with some air, kept within 0 to 100 for per cent, and wide enough not to blow up noise.
fn padded_range(values: impl Iterator<Item = f64>, unit: Unit) -> Option<[f64; 2]> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if !(low.is_finite() && high.is_finite()) {
        return None;
    }
    let least = if unit.is_percent() { 4.0 } else { (high.abs() * 0.04).max(1e-6) };
    let air = ((high - low) * 0.08).max((least - (high - low)) / 2.0);
    let (mut low, mut high) = (low - air, high + air);
    if unit.is_percent() && low < 0.0 && high <= 100.0 {
        low = low.max(-1.0);
    }
    if unit.is_percent() && high > 100.0 && low >= 0.0 {
        high = high.min(101.0);
    }
    (high > low && (high - low).is_finite()).then_some([low, high])
}

/// A range around zero that holds the values, with some air.
fn range_around_zero(values: impl Iterator<Item = f64>, least: f64) -> [f64; 2] {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((0.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let air = ((high - low) * 0.06).max(least / 2.0).max(1e-9);
    [low - air, high + air]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks([0.0, 100.0]), (vec![0.0, 25.0, 50.0, 75.0, 100.0], 0));
        assert_eq!(ticks([0.0, 10.0]), (vec![0.0, 5.0, 10.0], 0));
        assert_eq!(ticks([78.2, 91.7]).0, [80.0, 85.0, 90.0]);
        for range in [[0.0, 1e-3], [99.6, 100.2], [-3.0, 5.0], [1234.0, 1567.0]] {
            let (ticks, _) = ticks(range);
            assert!((2..=6).contains(&ticks.len()), "{range:?}: {ticks:?}");
        }
    }

    #[test]
    fn ranges_keep_noise_small() {
        let unit = Unit::of(100.0);
        let [low, high] = padded_range([84.0, 84.1].into_iter(), unit).unwrap();
        assert!(high - low >= 4.0, "{low} {high}");
        assert_eq!(padded_range([99.0, 100.0].into_iter(), unit).unwrap()[1], 101.0);
        assert!(padded_range([f64::NAN].into_iter(), unit).is_none());
        assert!(padded_range(std::iter::empty(), unit).is_none());
        assert_eq!(range_around_zero([f64::NAN, f64::INFINITY].into_iter(), 2.0), [-1.0, 1.0]);
    }
}
