//! Rounding with error feedback (GPTQ, arXiv 2210.17323): weights are rounded one input after another, and what each rounding does
//! to the layer's outputs is made good, as far as it goes, by the weights that are still to come.
//!
//! In the form of Babai's nearest plane (arXiv 2507.18553), which gives the same weights without inverting a matrix: with
//! `H = XᵀX / rows + λ·I = L·Lᵀ`, the error of a row of weights on the outputs is `‖Lᵀ·(w − ŵ)‖²`, and going from the last input to
//! the first, input `i` is rounded at `wᵢ + Σ_{j>i} (Lⱼᵢ / Lᵢᵢ)·(wⱼ − ŵⱼ)`. Inputs are ordered by their mean square, so that the
//! strongest are rounded first, while many others can still make good for them. The grid of each block is fixed beforehand, so that
//! blocks stay where the operator wants them.

use rayon::prelude::*;

use super::cholesky::cholesky;

/// `λ` as a share of the mean of the diagonal, as in the authors' program.
const DAMPING: f64 = 0.01;
/// Inputs that are rounded before their errors go to all earlier ones.
const COLUMNS: usize = 128;
/// Rows of weights that go through the factor together.
const ROWS: usize = 32;

/// What error feedback needs to know of the inputs of a layer.
pub(in super::super) struct Feedback {
    inputs: usize,
    /// The input that stands at each place; the last is rounded first.
    order: Vec<usize>,
    /// `Lⱼᵢ / Lᵢᵢ` for `j > i`, row by row, `[inputs, inputs]`, in the places of `order`.
    factor: Vec<f32>,
}

/// Where the weights may go: `scale · (code − zero point)` with codes from 0 to `largest`.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Grid<'a> {
    /// Inputs that share a scale.
    pub block: usize,
    /// Scale of each block of each row, `[outputs, ⌈inputs / block⌉]`.
    pub scales: &'a [f32],
    /// Zero point of each block of each row; of all, if there is but one.
    pub zero_points: &'a [u8],
    /// The largest code.
    pub largest: u8,
}

impl Feedback {
    /// Prepares the feedback for a layer with this `XᵀX / rows`, `[inputs, inputs]`. `None` if it is no such matrix: not square, with
    /// numbers that are not finite, or far from positive definite.
    pub(in super::super) fn new(gram: &[f32], inputs: usize) -> Option<Self> {
        if inputs == 0 || gram.len() != inputs.checked_mul(inputs)? || !gram.iter().all(|value| value.is_finite()) {
            return None;
        }
        let diagonal: Vec<f64> = (0..inputs).map(|input| f64::from(gram[input * inputs + input])).collect();
        let mean = diagonal.iter().sum::<f64>() / inputs as f64;
        if mean < 0.0 {
            return None;
        }
        // Without any input there is nothing to make good: plain rounding.
        let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
        let mut order: Vec<usize> = (0..inputs).collect();
        order.sort_by(|&left, &right| diagonal[left].total_cmp(&diagonal[right]).then(left.cmp(&right)));
        let mut matrix = vec![0.0_f64; inputs * inputs];
        matrix.par_chunks_mut(inputs).zip(&order).enumerate().for_each(|(place, (row, &input))| {
            let source = &gram[input * inputs..(input + 1) * inputs];
            row.iter_mut().zip(&order).for_each(|(value, &other)| *value = f64::from(source[other]));
            row[place] += damping;
        });
        if !cholesky(&mut matrix, inputs) {
            return None;
        }
        let diagonal: Vec<f64> = (0..inputs).map(|place| matrix[place * inputs + place]).collect();
        let mut factor = vec![0.0_f32; inputs * inputs];
        factor.par_chunks_mut(inputs).zip(matrix.par_chunks(inputs)).enumerate().for_each(|(place, (to, from))| {
            to.iter_mut().zip(from).zip(&diagonal).take(place).for_each(|((to, from), pivot)| *to = (from / pivot) as f32);
        });
        Some(Self { inputs, order, factor })
    }

    /// Rounds weights `[outputs, inputs]` to codes of the same shape. Rows do not depend on each other, nor the codes on the number of
    /// threads.
    pub(in super::super) fn codes(&self, weights: &[f32], grid: &Grid<'_>) -> Vec<u8> {
        let (inputs, blocks) = (self.inputs, self.inputs.div_ceil(grid.block.max(1)));
        let mut codes = vec![0_u8; weights.len()];
        codes.par_chunks_mut(inputs * ROWS).zip(weights.par_chunks(inputs * ROWS)).enumerate().for_each(
            |(chunk, (codes, weights))| {
                let rows = weights.len() / inputs;
                let first_block = chunk * ROWS * blocks;
                let mut errors = vec![0.0_f32; rows * inputs];
                let mut feedback = vec![0.0_f32; rows * COLUMNS];
                for start in (0..inputs).step_by(COLUMNS).rev() {
                    let end = (start + COLUMNS).min(inputs);
                    feedback.fill(0.0);
                    for later in end..inputs {
                        let factors = &self.factor[later * inputs + start..later * inputs + end];
                        for (errors, feedback) in errors.chunks_exact(inputs).zip(feedback.chunks_exact_mut(COLUMNS)) {
                            add_scaled(feedback, factors, errors[later]);
                        }
                    }
                    for row in 0..rows {
                        let feedback = &mut feedback[row * COLUMNS..(row + 1) * COLUMNS];
                        for place in (start..end).rev() {
                            let input = self.order[place];
                            let block = first_block + row * blocks + input / grid.block.max(1);
                            let weight = weights[row * inputs + input];
                            let (code, rounded) = grid.round(weight + feedback[place - start], block);
                            let error = weight - rounded;
                            codes[row * inputs + input] = code;
                            errors[row * inputs + place] = error;
                            let factors = &self.factor[place * inputs + start..place * inputs + place];
                            add_scaled(feedback, factors, error);
                        }
                    }
                }
            },
        );
        codes
    }
}

/// `target += factor · values`, over the shorter of both.
fn add_scaled(target: &mut [f32], values: &[f32], factor: f32) {
    target.iter_mut().zip(values).for_each(|(target, value)| *target += factor * value);
}

impl Grid<'_> {
    /// The nearest code to a value and what it stands for.
    fn round(&self, value: f32, block: usize) -> (u8, f32) {
        let scale = self.scales.get(block).copied().unwrap_or(0.0);
        let zero_point = self.zero_points.get(block).or(self.zero_points.first()).copied().unwrap_or(0);
        if scale == 0.0 {
            return (zero_point, 0.0);
        }
        let zero = f32::from(zero_point);
        // A conversion to an integer saturates, so that nothing leaves the codes.
        let code = (((value / scale).round_ties_even() + zero).max(0.0) as u8).min(self.largest);
        (code, scale * (f32::from(code) - zero))
    }
}
