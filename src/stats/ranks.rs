//! Tests by ranks, for quantities with heavy tails such as latencies: they ask which value is larger, not by how much.

use super::quantile::{quantile_of_sorted, sorted};
use super::student::{normal_cdf, normal_quantile};

/// A smaller sample of no more than this has its exact distribution, as in SciPy's `mannwhitneyu`.
const MOST_EXACT_UNPAIRED: usize = 8;

/// Most values of U whose probabilities are worked out: 16 MB.
const MOST_COUNTS: usize = 1 << 20;

/// No more pairs than this have their exact distribution, as in SciPy's `wilcoxon`.
const MOST_EXACT_PAIRS: usize = 50;

/// The Mann–Whitney test of two independent samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// U of the second sample: pairs in which its value is the larger one, ties counted half. Divided by the number of pairs it
    /// is the chance that a value of the second sample exceeds one of the first.
    pub u: f64,
    /// Two-sided p-value.
    pub p_value: f64,
    /// Whether the p-value is exact, not the normal approximation.
    pub exact: bool,
}

/// The Mann–Whitney U test (Mann and Whitney 1947), two-sided, as SciPy's `mannwhitneyu` does it: exact where the smaller sample
/// has at most 8 values and no two values are equal, otherwise the normal approximation with the tie and continuity corrections.
/// `None` if a sample is empty or has a value that is not finite.
pub fn mann_whitney(first: &[f64], second: &[f64]) -> Option<MannWhitney> {
    if first.is_empty() || second.is_empty() || !first.iter().chain(second).all(|value| value.is_finite()) {
        return None;
    }
    let values: Vec<f64> = second.iter().chain(first).copied().collect();
    let (ranks, tie_sum) = average_ranks(&values);
    let (n1, n2) = (second.len() as f64, first.len() as f64);
    let u = ranks.iter().take(second.len()).sum::<f64>() - n1 * (n1 + 1.0) / 2.0;
    let larger = u.max(n1 * n2 - u);
    if tie_sum == 0.0
        && first.len().min(second.len()) <= MOST_EXACT_UNPAIRED
        && let Some(tail) = upper_tail_of_u(first.len(), second.len(), larger)
    {
        return Some(MannWhitney { u, p_value: (2.0 * tail).min(1.0), exact: true });
    }
    let n = n1 + n2;
    let variance = n1 * n2 / 12.0 * (n + 1.0 - tie_sum / (n * (n - 1.0)));
    let z = (larger - n1 * n2 / 2.0 - 0.5) / variance.sqrt();
    // Where all values are equal there is no spread and no evidence.
    let p_value = if variance > 0.0 { (2.0 * normal_cdf(-z)).min(1.0) } else { 1.0 };
    Some(MannWhitney { u, p_value, exact: false })
}

/// Ranks from 1, ties sharing the mean of theirs, and `Σ t³ − t` over groups of t equal values.
fn average_ranks(values: &[f64]) -> (Vec<f64>, f64) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    order.sort_by(|left, right| at(*left).total_cmp(&at(*right)));
    let mut ranks = vec![0.0; values.len()];
    let mut tie_sum = 0.0;
    let mut before = 0;
    for group in order.chunk_by(|left, right| at(*left) == at(*right)) {
        let size = group.len() as f64;
        for index in group {
            if let Some(rank) = ranks.get_mut(*index) {
                *rank = before as f64 + (size + 1.0) / 2.0;
            }
        }
        tie_sum += size * size * size - size;
        before += group.len();
    }
    (ranks, tie_sum)
}

/// The chance that U of samples of `left` and `right` values is at least `u`, if no value is equal to another and all orders
/// are equally likely. The number of orders that give each U is the coefficient of the Gaussian binomial
/// `∏ (1 − q^(n+i))/(1 − q^i)`, worked out in integers modulo 2^128, which is exact because every coefficient is smaller.
/// `None` where the number of orders is not below 2^128, or there are more than a million values of U.
fn upper_tail_of_u(left: usize, right: usize, u: f64) -> Option<f64> {
    let (few, many) = (left.min(right), left.max(right));
    let mut orders = 1_u128;
    for i in 1..=few as u128 {
        orders = orders.checked_mul(many as u128 + i)? / i;
    }
    let most = few.checked_mul(many).filter(|most| *most <= MOST_COUNTS)?;
    let mut counts = vec![0_u128; most + 1];
    *counts.first_mut()? = 1;
    for i in 1..=few {
        for place in (many + i..counts.len()).rev() {
            let lower = *counts.get(place - many - i)?;
            let count = counts.get_mut(place)?;
            *count = count.wrapping_sub(lower);
        }
        for place in i..counts.len() {
            let lower = *counts.get(place - i)?;
            let count = counts.get_mut(place)?;
            *count = count.wrapping_add(lower);
        }
    }
    let hits: u128 = counts.get(u.ceil() as usize..)?.iter().sum();
    Some(hits as f64 / orders as f64)
}

/// The location of paired differences by signed ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignedRank {
    /// The Hodges–Lehmann estimate: the median of the means of all pairs of differences, each difference with itself included.
    pub location: f64,
    /// Distribution-free interval for it; `None` where there are too few differences for the level.
    pub interval: Option<[f64; 2]>,
    /// Two-sided p-value of Wilcoxon's test that the differences are symmetric about 0; 1 where all are 0.
    pub p_value: f64,
    /// Differences.
    pub n: usize,
}

/// Wilcoxon's signed-rank test (1945) with the estimate and interval that belong to it (Hodges and Lehmann 1963). For paired
/// log-ratios of latencies: two interleaved runs of one package differ symmetrically, whatever the noise, and an occasional
/// spike moves the estimate as little as it does a median's, at 95 % of the mean's efficiency under normal noise.
///
/// The p-value is SciPy's `wilcoxon`: zeros are dropped; exact for at most 50 differences without ties or zeros, otherwise the
/// normal approximation with the tie correction. The interval ends at the order statistics of the pairwise means that the exact
/// distribution gives for at most 50 differences and the normal approximation beyond. Costs O(n log n). `None` of nothing, or
/// of differences that are not finite.
pub fn signed_rank(differences: &[f64], level: f64) -> Option<SignedRank> {
    if differences.is_empty() || !differences.iter().all(|difference| difference.is_finite()) {
        return None;
    }
    let ascending = sorted(differences);
    let n = ascending.len();
    let means = n * (n + 1) / 2;
    let location = (pairwise_mean(&ascending, (means - 1) / 2 + 1)? + pairwise_mean(&ascending, means / 2 + 1)?) / 2.0;
    let first = lowest_mean_inside(n, level);
    let interval = match first {
        Some(first) => Some([pairwise_mean(&ascending, first)?, pairwise_mean(&ascending, means + 1 - first)?]),
        None => None,
    };
    Some(SignedRank { location, interval, p_value: wilcoxon_p_value(differences)?, n })
}

fn wilcoxon_p_value(differences: &[f64]) -> Option<f64> {
    let kept: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    if kept.is_empty() {
        return Some(1.0);
    }
    let (ranks, tie_sum) = average_ranks(&kept.iter().map(|difference| difference.abs()).collect::<Vec<_>>());
    let n = kept.len() as f64;
    let positive: f64 = kept.iter().zip(&ranks).filter(|(difference, _)| **difference > 0.0).map(|(_, rank)| rank).sum();
    let smaller = positive.min(n * (n + 1.0) / 2.0 - positive);
    if kept.len() == differences.len() && tie_sum == 0.0 && kept.len() <= MOST_EXACT_PAIRS {
        let tail: f64 = signed_rank_probabilities(kept.len()).iter().take(smaller as usize + 1).sum();
        return Some((2.0 * tail).min(1.0));
    }
    let variance = n * (n + 1.0) * (2.0 * n + 1.0) / 24.0 - tie_sum / 48.0;
    let z = (smaller - n * (n + 1.0) / 4.0) / variance.sqrt();
    Some((2.0 * normal_cdf(z)).min(1.0))
}

/// The probability of each sum of positive ranks from 0 to n(n + 1)/2.
fn signed_rank_probabilities(n: usize) -> Vec<f64> {
    let mut probabilities = vec![0.0; n * (n + 1) / 2 + 1];
    if let Some(first) = probabilities.first_mut() {
        *first = 0.5_f64.powi(n as i32);
    }
    for rank in 1..=n {
        for sum in (rank..probabilities.len()).rev() {
            let without = probabilities.get(sum - rank).copied().unwrap_or(0.0);
            if let Some(probability) = probabilities.get_mut(sum) {
                *probability += without;
            }
        }
    }
    probabilities
}

/// Which of the ordered pairwise means, from 1, is the lower end: the last one that leaves at most (1 − level)/2 below.
fn lowest_mean_inside(n: usize, level: f64) -> Option<usize> {
    let tail = (1.0 - level) / 2.0;
    if n > MOST_EXACT_PAIRS {
        let count = n as f64;
        let deviation = (count * (count + 1.0) * (2.0 * count + 1.0) / 24.0).sqrt();
        let place = count * (count + 1.0) / 4.0 + normal_quantile(tail)? * deviation;
        return (place >= 1.0).then_some(place as usize);
    }
    let mut below = 0.0;
    let mut place = 0;
    for probability in signed_rank_probabilities(n) {
        below += probability;
        if below > tail {
            break;
        }
        place += 1;
    }
    (place > 0).then_some(place)
}

/// The `place`-th smallest (from 1) of the means of all pairs, each value with itself included, of values in ascending order: by
/// bisection over the numbers, each step counting in O(n) how many means are no larger.
fn pairwise_mean(ascending: &[f64], place: usize) -> Option<f64> {
    let (lowest, highest) = (*ascending.first()?, *ascending.last()?);
    let no_larger = |bound: f64| -> usize {
        let mut count = 0;
        let mut partners = ascending.len();
        for (index, value) in ascending.iter().enumerate() {
            while partners > 0 && ascending.get(partners - 1).is_some_and(|partner| mean_of(*value, *partner) > bound) {
                partners -= 1;
            }
            // Each unordered pair once: partners at or after the value itself.
            count += partners.saturating_sub(index);
        }
        count
    };
    let (mut low, mut high) = (order_of(lowest), order_of(highest));
    while low < high {
        let middle = low + (high - low) / 2;
        if no_larger(number_of(middle)) >= place {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(number_of(low))
}

fn mean_of(left: f64, right: f64) -> f64 {
    left / 2.0 + right / 2.0
}

/// Finite numbers as integers in the same order.
fn order_of(value: f64) -> i128 {
    let bits = value.to_bits() as i64;
    i128::from(if bits < 0 { i64::MIN.wrapping_sub(bits) } else { bits })
}

/// The inverse of [`order_of`].
fn number_of(order: i128) -> f64 {
    let order = order as i64;
    f64::from_bits(if order < 0 { i64::MIN.wrapping_sub(order) } else { order } as u64)
}

/// The median of the absolute deviations from the median, in the values' units and not rescaled to a standard deviation
/// (multiply by 1.4826 for that). Values that are not finite are left out; `None` without any.
pub fn median_absolute_deviation(values: &[f64]) -> Option<f64> {
    let ascending = sorted(values);
    let median = quantile_of_sorted(&ascending, 0.5)?;
    let deviations: Vec<f64> = ascending.iter().map(|value| (value - median).abs()).collect();
    quantile_of_sorted(&sorted(&deviations), 0.5)
}
