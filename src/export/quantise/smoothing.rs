//! Channel smoothing (SmoothQuant, arXiv 2211.10438): inputs of a linear layer that are far larger than the others are divided by a
//! factor, and the weights that multiply them get it instead. The layer computes the same, but its inputs are easier to quantise. The
//! division costs nothing where a norm gives the inputs: its scale and shift take it.

/// Smallest and largest factor. Beyond them one of both sides would lose what the other gains.
const LIMITS: [f32; 2] = [1e-3, 1e3];

/// The factor by which each input is divided: `max|Xⱼ|^α / max|Wⱼ|^(1−α)`, equation 4 of the paper, with `weight_maximum` over the
/// weights of all layers that share the inputs. 1 where either is zero, as there is nothing to balance.
pub(in super::super) fn smoothing_factors(absolute_maximum: &[f32], weight_maximum: &[f32], alpha: f32) -> Vec<f32> {
    let factor = |(&input, &weight): (&f32, &f32)| {
        let factor = input.powf(alpha) / weight.powf(1.0 - alpha);
        if input > 0.0 && weight > 0.0 && factor.is_finite() { factor.clamp(LIMITS[0], LIMITS[1]) } else { 1.0 }
    };
    absolute_maximum.iter().zip(weight_maximum).map(factor).collect()
}

/// Raises the largest magnitude of each input's weights to those of `weights` `[outputs, inputs]`.
pub(in super::super) fn raise_maxima(maximum: &mut [f32], weights: &[f32]) {
    for row in weights.chunks_exact(maximum.len().max(1)) {
        maximum.iter_mut().zip(row).for_each(|(maximum, weight)| *maximum = maximum.max(weight.abs()));
    }
}

/// Multiplies the weights of each input by its factor.
pub(in super::super) fn multiply_inputs(weights: &mut [f32], factors: &[f32]) {
    for row in weights.chunks_exact_mut(factors.len().max(1)) {
        row.iter_mut().zip(factors).for_each(|(weight, factor)| *weight *= factor);
    }
}

/// Divides a norm's scale or shift by the factors of what it gives.
pub(in super::super) fn divide_norm(parameters: &mut [f32], factors: &[f32]) {
    parameters.iter_mut().zip(factors).for_each(|(parameter, factor)| *parameter /= factor);
}
