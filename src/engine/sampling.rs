//! Choosing a token from logits.

/// A token and its natural-log probability under the softmax of all logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    /// Position of the largest logit.
    pub token: u32,
    /// `logit − log Σ exp(logits)`, to about 2e-7.
    pub log_probability: f32,
}

/// `log Σ exp(logits)`, summed in double precision: what is taken from a logit to make its natural-log probability. `None` if
/// any logit is NaN or infinite or there is none.
pub(super) fn log_sum(logits: &[f32]) -> Option<f64> {
    if logits.iter().fold(false, |bad, logit| bad | !logit.is_finite()) {
        return None;
    }
    let largest = f64::from(largest(logits)?);
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    Some(largest + sum.ln())
}

/// Natural-log probability of `token` under the softmax of `logits` whose [`log_sum`] is given; `None` beyond the vocabulary.
pub(super) fn log_probability(logits: &[f32], log_sum: f64, token: u32) -> Option<f32> {
    logits.get(token as usize).map(|&logit| (f64::from(logit) - log_sum) as f32)
}

/// The largest logit, the lowest id where several are equal; `None` if any logit is NaN or infinite or there is none.
pub(super) fn greedy(logits: &[f32]) -> Option<Choice> {
    // A fold without an early exit becomes vector code; vocabularies are long.
    if logits.iter().fold(false, |bad, logit| bad | !logit.is_finite()) {
        return None;
    }
    let largest = largest(logits)?;
    let token = logits.iter().position(|&logit| logit == largest)?;
    let sum = sum_of_exponentials(logits, largest);
    Some(Choice { token: u32::try_from(token).ok()?, log_probability: -(sum.ln() as f32) })
}

/// `Σ exp(logit − largest)`. With the library's exponential this took longer than all the rest of choosing a token; once for each
/// question and step, that is several per cent of a step with small weights.
fn sum_of_exponentials(logits: &[f32], largest: f32) -> f64 {
    let (chunks, rest) = logits.as_chunks::<16>();
    let mut sum: f64 = rest.iter().map(|&logit| f64::from(exponential(logit - largest))).sum();
    // Independent lanes become vector code; they are short, so that single precision loses nothing.
    for block in chunks.chunks(64) {
        let mut lanes = [0.0_f32; 16];
        for chunk in block {
            for (lane, &logit) in lanes.iter_mut().zip(chunk) {
                *lane += exponential(logit - largest);
            }
        }
        sum += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    sum
}

/// `exp(x)` of a number that is not above 0, to 1e-7 of it: `2^n · exp(r)` with a whole n and |r| ≤ ln 2 / 2, and the polynomial of
/// Cephes' `expf`. What lies below −87 counts as −87, which is nothing beside the largest logit's 1.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    // Adding 1.5 · 2^23 leaves the nearest whole number in the lowest bits.
    const ROUNDING: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDING;
    let n = shifted - ROUNDING;
    // ln 2 in two parts, the first with few digits, so that n times it is exact.
    let r = (x - n * (355.0 / 512.0)) + n * 2.121_944_4e-4;
    let mut polynomial = 1.987_569_1e-4_f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        polynomial = polynomial * r + coefficient;
    }
    let exponential = polynomial * r * r + r + 1.0;
    // Adding n to the exponent's bits multiplies by 2^n.
    f32::from_bits(exponential.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The largest of finite numbers, kept in independent lanes so that comparing needs no chain as long as the vocabulary.
fn largest(values: &[f32]) -> Option<f32> {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [*values.first()?; 16];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().reduce(f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_id_wins_a_tie() {
        assert_eq!(greedy(&[0.0, 3.0, 3.0, -1.0]).unwrap().token, 1);
        assert_eq!(greedy(&[-0.0, 0.0]).unwrap().token, 0);
        assert_eq!(greedy(&[f32::MIN, f32::MAX]).unwrap().token, 1);
    }

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        // Reference: scipy.special.log_softmax([1, 2, 3, 4])[3].
        let choice = greedy(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(choice.token, 3);
        assert!((choice.log_probability - -0.440_189_7).abs() < 1e-7);
        // Equal logits share the probability, however large they are.
        assert!((greedy(&[1e30; 8]).unwrap().log_probability - -(8_f32.ln())).abs() < 1e-6);
        assert_eq!(greedy(&[5.0]).unwrap().log_probability, 0.0);
    }

    #[test]
    fn any_token_has_its_log_probability() {
        // Reference: scipy.special.log_softmax([1, 2, 3, 4]).
        let logits = [1.0, 2.0, 3.0, 4.0];
        let sum = log_sum(&logits).unwrap();
        for (token, expected) in [-3.440_189_7, -2.440_189_7, -1.440_189_7, -0.440_189_7_f32].into_iter().enumerate() {
            assert!((log_probability(&logits, sum, token as u32).unwrap() - expected).abs() < 1e-6);
        }
        assert_eq!(log_probability(&logits, sum, 4), None);
        assert_eq!((log_sum(&[]), log_sum(&[1.0, f32::NAN])), (None, None));
        let far = [-1000.0, 1000.0];
        assert_eq!(log_probability(&far, log_sum(&far).unwrap(), 0), Some(-2000.0));
    }

    #[test]
    fn the_fast_exponential_is_exact_enough() {
        for step in 0..870_000 {
            let x = -(step as f32) * 1e-4;
            let (found, expected) = (f64::from(exponential(x)), f64::from(x).exp());
            assert!(((found - expected) / expected).abs() < 1e-7, "{x}: {found:e}, expected {expected:e}");
        }
        assert_eq!(exponential(0.0), 1.0);
        assert!(exponential(f32::NEG_INFINITY) < 1e-37 && exponential(f32::MIN) >= 0.0);
        // A vocabulary of near ties and one of far ones, against double precision throughout.
        for spread in [0.1_f32, 3.0, 40.0] {
            let logits: Vec<f32> = (0..32_064).map(|index| ((index * 7919 % 10_007) as f32 / 10_007.0 - 0.5) * spread).collect();
            let choice = greedy(&logits).unwrap();
            let expected = log_probability(&logits, log_sum(&logits).unwrap(), choice.token).unwrap();
            assert!((choice.log_probability - expected).abs() < 1e-6, "{} {expected}", choice.log_probability);
        }
    }

    #[test]
    fn the_largest_is_found_wherever_it_stands() {
        for place in 0..70 {
            let mut logits = vec![-3.0_f32; 70];
            logits[place] = -1.0;
            assert_eq!(greedy(&logits).unwrap().token, place as u32);
        }
    }

    #[test]
    fn anything_not_finite_is_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in 0..40 {
                let mut logits = [0.5_f32; 40];
                logits[place] = bad;
                assert_eq!(greedy(&logits), None);
            }
        }
        assert_eq!(greedy(&[]), None);
    }
}
