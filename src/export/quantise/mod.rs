//! Better quantisation from what really goes into the layers.

mod cholesky;
mod feedback;
mod smoothing;

#[cfg(test)]
mod algorithm_tests;

pub(crate) use feedback::{Feedback, Grid};
pub(crate) use smoothing::{divide_norm, multiply_inputs, raise_maxima, smoothing_factors};
