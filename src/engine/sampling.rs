//! Choosing a token from logits.

/// A token and its natural-log probability under the softmax of all logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    /// Position of the largest logit.
    pub token: u32,
    /// `logit − log Σ exp(logits)`, summed in double precision.
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
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    Some(Choice { token: u32::try_from(token).ok()?, log_probability: -(sum.ln() as f32) })
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
