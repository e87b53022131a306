//! Numbers and verdicts in words, the same in every output.

use std::cmp::Ordering;

use crate::compare::{Estimate, LatencyVerdict, Quantiles, Verdict};

/// Shown where there is no number.
pub(super) const MISSING: &str = "–";

/// How a metric's numbers are written. Values come already multiplied by the metric's scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Unit {
    /// 100 for per cent.
    pub scale: f64,
    /// Whether values are points of some kind (MME's sums, CIDEr), which are no per cent whatever their scale.
    pub points: bool,
}

impl Unit {
    /// The unit of a metric that is a share of the scale.
    pub const fn of(scale: f64) -> Self {
        Self { scale, points: false }
    }

    /// Whether values are per cent and differences are percentage points.
    pub fn is_percent(self) -> bool {
        self.scale == 100.0 && !self.points
    }

    /// `" %"` for accuracies.
    pub fn suffix(self) -> &'static str {
        if self.is_percent() { " %" } else { "" }
    }

    /// `" points"` for differences of accuracies.
    pub fn difference_suffix(self) -> &'static str {
        if self.is_percent() { " points" } else { "" }
    }

    /// Decimals: one for per cent, three for fractions, more where the interval is narrower than that.
    fn decimals(self, estimate: &Estimate) -> usize {
        let usual = if self.scale <= 1.0 { 3 } else { 1 };
        match half_width(estimate) {
            // An interval that would be printed as a point needs its first significant digit.
            Some(half) if half > 0.0 && half < 0.5 * 10_f64.powi(-(usual as i32)) => usual + 2,
            Some(half) if half > 0.0 && half < 10_f64.powi(-(usual as i32)) => usual + 1,
            _ => usual,
        }
    }

    /// `84.1`.
    pub fn value(self, estimate: &Estimate) -> String {
        number(estimate.value, self.decimals(estimate))
    }

    /// `84.1 ± 1.2`, or `84.1` without an interval; `0.0 (0.0 to 4.6)` where the interval is clearly lopsided, so that no
    /// value is shown that the metric cannot have.
    pub fn value_and_half(self, estimate: &Estimate) -> String {
        let (Some([low, high]), Some(half)) = (estimate.interval, half_width(estimate)) else { return self.value(estimate) };
        let decimals = self.decimals(estimate);
        let narrow = (estimate.value - low).min(high - estimate.value);
        if narrow < LOPSIDED * half {
            return format!("{} ({} to {})", self.value(estimate), number(low, decimals), number(high, decimals));
        }
        format!("{} ± {}", self.value(estimate), number(half, decimals))
    }

    /// `−4.2`, `+1.0`, `0.0`.
    pub fn difference(self, estimate: &Estimate) -> String {
        signed(estimate.value, self.decimals(estimate))
    }

    /// `−4.2 ± 1.9`, without an interval `−4.2`.
    pub fn difference_and_half(self, estimate: &Estimate) -> String {
        match half_width(estimate) {
            Some(half) => format!("{} ± {}", self.difference(estimate), number(half, self.decimals(estimate))),
            None => self.difference(estimate),
        }
    }

    /// `−6.1 to −2.3`.
    pub fn difference_interval(self, estimate: &Estimate) -> String {
        match estimate.interval {
            Some([low, high]) => {
                format!("{} to {}", signed(low, self.decimals(estimate)), signed(high, self.decimals(estimate)))
            }
            None => MISSING.to_owned(),
        }
    }

    /// Two ends of an interval, with the decimals of an estimate.
    pub fn ends(self, low: f64, high: f64, estimate: &Estimate) -> String {
        let decimals = self.decimals(estimate);
        format!("{} to {}", signed(low, decimals), signed(high, decimals))
    }

    /// A bare size such as the minimum detectable effect or the margin.
    pub fn size(self, value: f64) -> String {
        number(value, if self.scale <= 1.0 { 3 } else { 1 })
    }
}

/// An interval whose narrow side is a smaller share of its wide side than this is shown by its ends.
const LOPSIDED: f64 = 0.75;

/// Half of the interval, its wider side.
fn half_width(estimate: &Estimate) -> Option<f64> {
    let [low, high] = estimate.interval?;
    let half = (estimate.value - low).max(high - estimate.value);
    half.is_finite().then_some(half)
}

/// A number with fixed decimals, a true minus sign, and no negative zero; missing when it is not finite.
pub(super) fn number(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return MISSING.to_owned();
    }
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|byte| matches!(byte, b'0' | b'.')) => digits.to_owned(),
        Some(digits) => format!("−{digits}"),
        None => text,
    }
}

/// A number with its sign; zero has none.
pub(super) fn signed(value: f64, decimals: usize) -> String {
    let text = number(value, decimals);
    let zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if zero || text.starts_with('−') || text == MISSING { text } else { format!("+{text}") }
}

/// Three significant digits, for milliseconds and ratios: `0.0123`, `1.23`, `12.3`, `123`, `1230`.
pub(super) fn significant(value: f64) -> String {
    if !value.is_finite() {
        return MISSING.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    // Rounding to three digits first may carry into the next decade (9.996 → 10.0).
    let rounded: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    let decimals = (2 - rounded.abs().log10().floor() as i32).clamp(0, 6) as usize;
    number(rounded, decimals)
}

/// Milliseconds, or missing.
pub(super) fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(|| MISSING.to_owned(), significant)
}

/// The median of a latency, or missing.
pub(super) fn median_ms(quantiles: Option<&Quantiles>) -> String {
    milliseconds(quantiles.map(|quantiles| quantiles.p50_ms))
}

/// `0.003`, `< 0.001`.
pub(super) fn p_value(value: Option<f64>) -> String {
    match value {
        Some(p) if p.is_finite() && p < 0.001 => "< 0.001".to_owned(),
        Some(p) if p.is_finite() => format!("{p:.3}"),
        _ => MISSING.to_owned(),
    }
}

/// A count with thin grouping: `12 578`. The separator is a narrow no-break space.
pub(super) fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3 * 3);
    for (index, digit) in digits.chars().enumerate() {
        // Four digits read well without a gap.
        if digits.len() > 4 && index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{202F}');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 sample`, `3 samples`.
pub(super) fn counted(value: usize, singular: &str, plural: &str) -> String {
    format!("{} {}", count(value), if value == 1 { singular } else { plural })
}

/// Bytes in the unit that people buy memory in.
pub(super) fn gibibytes(bytes: u64) -> String {
    format!("{} GiB", significant(bytes as f64 / (1_u64 << 30) as f64))
}

/// Bytes in a unit that leaves three digits.
pub(super) fn bytes(bytes: u64) -> String {
    let value = bytes as f64;
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, power)| value >= 0.9995 * f64::from(1_u32 << power)) {
        Some((unit, power)) => format!("{} {unit}", significant(value / f64::from(1_u32 << power))),
        None => format!("{bytes} bytes"),
    }
}

/// First twelve digits of a hash.
pub(super) fn short_hash(hash: &str) -> String {
    if hash.is_empty() { MISSING.to_owned() } else { hash.chars().take(12).collect() }
}

/// The one word for a verdict, in every output.
pub(super) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Regressed => "regressed",
        Verdict::Improved => "improved",
        Verdict::NoWorse => "no worse",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Identical => "identical",
        Verdict::Descriptive => "descriptive",
    }
}

/// A symbol that stands beside the word, so that colour is never the only carrier.
pub(super) fn verdict_symbol(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Regressed => "▼",
        Verdict::Improved => "▲",
        Verdict::NoWorse => "✓",
        Verdict::Inconclusive => "?",
        Verdict::Identical => "=",
        Verdict::Descriptive => "·",
    }
}

/// The words for a verdict on speed.
pub(super) fn latency_word(verdict: LatencyVerdict) -> &'static str {
    match verdict {
        LatencyVerdict::Slower => "slower",
        LatencyVerdict::Faster => "faster",
        LatencyVerdict::WithinNoise => "within noise",
        LatencyVerdict::TooFew => "too few",
    }
}

/// A symbol that stands beside the words.
pub(super) fn latency_symbol(verdict: LatencyVerdict) -> &'static str {
    match verdict {
        LatencyVerdict::Slower => "▼",
        LatencyVerdict::Faster => "▲",
        LatencyVerdict::WithinNoise => "≈",
        LatencyVerdict::TooFew => "?",
    }
}

/// The class of a verdict in the page.
pub(super) fn verdict_class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Regressed => "bad",
        Verdict::Improved => "good",
        Verdict::NoWorse | Verdict::Identical => "fine",
        Verdict::Inconclusive => "open",
        Verdict::Descriptive => "muted",
    }
}

/// A total order for scores that may be missing: missing first, then by value.
pub(super) fn compare_scores(left: Option<f64>, right: Option<f64>) -> Ordering {
    match (left, right) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(left), Some(right)) => left.total_cmp(&right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(value: f64, interval: Option<[f64; 2]>) -> Estimate {
        Estimate { value, standard_error: interval.map(|_| 1.0), interval, n: 100, clusters: 50, design_effect: None }
    }

    #[test]
    fn a_sum_over_categories_is_no_per_cent() {
        assert!(Unit::of(100.0).is_percent() && !Unit { scale: 100.0, points: true }.is_percent());
    }

    #[test]
    fn per_cent_has_one_decimal_and_its_interval() {
        let unit = Unit::of(100.0);
        assert_eq!(unit.value_and_half(&estimate(84.123, Some([82.9, 85.3]))), "84.1 ± 1.2");
        assert_eq!(unit.value_and_half(&estimate(84.0, None)), "84.0");
        assert_eq!(unit.difference_interval(&estimate(84.0, None)), "–");
        assert_eq!(unit.difference(&estimate(-4.2, Some([-6.1, -2.3]))), "−4.2");
        assert_eq!(unit.difference_interval(&estimate(-4.2, Some([-6.1, 2.3]))), "−6.1 to +2.3");
        assert_eq!(unit.value(&estimate(f64::NAN, None)), "–");
    }

    #[test]
    fn a_narrow_interval_is_not_printed_as_a_point() {
        let unit = Unit::of(100.0);
        assert_eq!(unit.difference_interval(&estimate(-0.04, Some([-0.06, -0.02]))), "−0.060 to −0.020");
        assert_eq!(unit.difference_interval(&estimate(-0.1, Some([-0.18, -0.02]))), "−0.18 to −0.02");
    }

    #[test]
    fn fractions_have_three_decimals() {
        assert_eq!(Unit::of(1.0).value_and_half(&estimate(0.71234, Some([0.69, 0.73]))), "0.712 ± 0.022");
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!(signed(-0.0, 1), "0.0");
        assert_eq!(signed(-0.04, 1), "0.0");
        assert_eq!(signed(0.04, 1), "0.0");
        assert_eq!(signed(0.06, 1), "+0.1");
    }

    #[test]
    fn milliseconds_have_three_digits() {
        let shown: Vec<String> = [0.0, 0.012_345, 0.1, 1.234, 9.996, 12.34, 99.96, 123.4, 1234.0].map(significant).to_vec();
        assert_eq!(shown, ["0", "0.0123", "0.100", "1.23", "10.0", "12.3", "100", "123", "1230"]);
        assert_eq!(milliseconds(None), "–");
        assert_eq!(significant(f64::INFINITY), "–");
    }

    #[test]
    fn bytes_have_three_digits() {
        let shown = [512, 1_048_300, 3_407_872, 14_000_000_000].map(bytes);
        assert_eq!(shown, ["512 bytes", "1.00 MiB", "3.25 MiB", "13.0 GiB"]);
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(999), "999");
        assert_eq!(count(9000), "9000");
        assert_eq!(count(12_578), "12\u{202f}578");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(counted(1, "sample", "samples"), "1 sample");
    }

    #[test]
    fn tiny_p_values_are_bounded() {
        assert_eq!(p_value(Some(0.000_2)), "< 0.001");
        assert_eq!(p_value(Some(0.0312)), "0.031");
        assert_eq!(p_value(None), "–");
    }
}
