//! How far two versions of the same numbers lie apart: rows of activations, and distributions of the next token.

/// Adds up how far rows of one matrix lie from the rows of another.
#[derive(Clone, Debug)]
pub struct RowDivergence {
    rows: usize,
    cosines: f64,
    smallest: f64,
    difference_squares: f64,
    base_squares: f64,
}

impl Default for RowDivergence {
    fn default() -> Self {
        Self { rows: 0, cosines: 0.0, smallest: 1.0, difference_squares: 0.0, base_squares: 0.0 }
    }
}

impl RowDivergence {
    /// Adds rows of `width` numbers that stand one after another. False, and nothing is added, if the lengths differ, are no
    /// multiple of the width, or a number is not finite.
    pub fn add(&mut self, base: &[f32], new: &[f32], width: usize) -> bool {
        let fits = width > 0 && base.len() == new.len() && base.len().is_multiple_of(width);
        if !fits || !base.iter().chain(new).all(|value| value.is_finite()) {
            return false;
        }
        for (base, new) in base.chunks_exact(width).zip(new.chunks_exact(width)) {
            let (mut product, mut base_squares, mut new_squares) = (0.0, 0.0, 0.0);
            for (base, new) in base.iter().zip(new) {
                let (base, new) = (f64::from(*base), f64::from(*new));
                product += base * new;
                base_squares += base * base;
                new_squares += new * new;
                self.difference_squares += (new - base) * (new - base);
            }
            // Rows of nothing but zeros have no direction: equal to each other, and to nothing else.
            let cosine = if base_squares == 0.0 || new_squares == 0.0 {
                if base_squares == new_squares { 1.0 } else { 0.0 }
            } else {
                (product / (base_squares.sqrt() * new_squares.sqrt())).clamp(-1.0, 1.0)
            };
            self.cosines += cosine;
            self.smallest = self.smallest.min(cosine);
            self.base_squares += base_squares;
            self.rows += 1;
        }
        true
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Mean cosine of corresponding rows; `None` without rows.
    pub fn mean_cosine(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.cosines / self.rows as f64)
    }

    /// Smallest cosine of corresponding rows, 1 without rows.
    pub fn smallest_cosine(&self) -> f64 {
        self.smallest
    }

    /// `‖new − base‖ / ‖base‖` over everything; `None` where the base is nothing but zeros and the new one is not.
    pub fn relative_error(&self) -> Option<f64> {
        if self.difference_squares == 0.0 {
            return Some(0.0);
        }
        (self.base_squares > 0.0).then(|| (self.difference_squares / self.base_squares).sqrt())
    }
}

/// Kullback–Leibler divergence `D(base ‖ new)` in nats of the distributions that two rows of logits stand for; never negative.
/// `None` if the lengths differ, there are no logits, or one is not finite.
pub fn divergence_of_logits(base: &[f32], new: &[f32]) -> Option<f64> {
    if base.len() != new.len() || base.is_empty() || !base.iter().chain(new).all(|logit| logit.is_finite()) {
        return None;
    }
    let (base_norm, new_norm) = (log_sum_exp(base), log_sum_exp(new));
    let mut sum = 0.0;
    for (base, new) in base.iter().zip(new) {
        let (base, new) = (f64::from(*base) - base_norm, f64::from(*new) - new_norm);
        sum += base.exp() * (base - new);
    }
    Some(sum.max(0.0))
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |largest, logit| largest.max(f64::from(*logit)));
    largest + logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_one_by_one() {
        let mut divergence = RowDivergence::default();
        // Cosines 1, 0 and −1; squares of differences 1, 2 and 4, of the base 1, 1 and 1.
        assert!(divergence.add(&[1.0, 0.0, 1.0, 0.0, 0.0, 1.0], &[2.0, 0.0, 0.0, 1.0, 0.0, -1.0], 2));
        assert_eq!((divergence.rows(), divergence.mean_cosine(), divergence.smallest_cosine()), (3, Some(0.0), -1.0));
        assert!((divergence.relative_error().unwrap() - (7.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!(!divergence.add(&[f32::NAN, 0.0], &[0.0, 0.0], 2) && !divergence.add(&[1.0], &[1.0], 2));
        assert_eq!(divergence.rows(), 3);
        let mut zeros = RowDivergence::default();
        assert!(zeros.add(&[0.0; 4], &[0.0, 0.0, 0.0, 1.0], 2));
        assert_eq!((zeros.mean_cosine(), zeros.relative_error()), (Some(0.5), None));
        assert_eq!(RowDivergence::default().mean_cosine(), None);
    }

    #[test]
    fn divergence_of_two_distributions() {
        // p = (1/4, 3/4) and q = (1/2, 1/2): 1/4·ln(1/2) + 3/4·ln(3/2).
        let (p, q) = ([0.0, 3.0_f32.ln()], [5.0, 5.0]);
        let expected = 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln();
        assert!((divergence_of_logits(&p, &q).unwrap() - expected).abs() < 1e-7);
        assert_eq!(divergence_of_logits(&q, &q), Some(0.0));
        assert_eq!(divergence_of_logits(&q, &[f32::INFINITY, 0.0]), None);
        assert_eq!(divergence_of_logits(&[], &[]), None);
        // No overflow at large logits.
        assert!(divergence_of_logits(&[1e4, 0.0], &[0.0, 1e4]).unwrap() > 9_999.0);
    }
}
