//! What a sample could have seen, and how large one must be.

use super::student::{normal_quantile, t_cdf, t_quantile};

/// The true difference that a two-sided test at level `alpha` would find with probability `power`, for an estimate with
/// this standard error: `(q(1 − α/2) + q(power)) · SE`, with t quantiles where `degrees_of_freedom` is given and normal ones
/// otherwise. `None` if the standard error is 0 (no spread was seen, so nothing can be said) or not finite.
pub fn minimum_detectable_effect(standard_error: f64, degrees_of_freedom: Option<f64>, alpha: f64, power: f64) -> Option<f64> {
    if !(standard_error.is_finite() && standard_error > 0.0) {
        return None;
    }
    let quantile = |probability| match degrees_of_freedom {
        Some(degrees) => t_quantile(probability, degrees),
        None => normal_quantile(probability),
    };
    Some((quantile(1.0 - alpha / 2.0)? + quantile(power)?) * standard_error)
}

/// The chance that a two-sided test at level `alpha` finds a true difference of this size, in its direction: the inverse of
/// [`minimum_detectable_effect`] with t quantiles. `None` where that has no answer.
pub fn detection_probability(standard_error: f64, degrees_of_freedom: f64, alpha: f64, effect: f64) -> Option<f64> {
    if !(standard_error.is_finite() && standard_error > 0.0 && effect.is_finite()) {
        return None;
    }
    t_cdf(effect.abs() / standard_error - t_quantile(1.0 - alpha / 2.0, degrees_of_freedom)?, degrees_of_freedom)
}

/// How many samples a plan needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleSize {
    /// Clusters (images).
    pub clusters: u64,
    /// Samples, with as many in a cluster as there were.
    pub samples: u64,
}

/// A measured standard error and what it was measured on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasuredError {
    /// The clustered standard error.
    pub standard_error: f64,
    /// Samples.
    pub samples: u64,
    /// Clusters.
    pub clusters: u64,
}

/// Beyond this many clusters nobody looks.
const MOST_CLUSTERS: u64 = 1 << 40;

impl MeasuredError {
    /// The standard error on another number of clusters of the same kind: it falls with their square root.
    fn on(&self, clusters: u64) -> f64 {
        self.standard_error * (self.clusters as f64 / clusters as f64).sqrt()
    }
}

/// The fewest clusters of the kind measured, and the samples in them, with which a two-sided test at level `alpha` would find a
/// true difference of `effect` (of either sign) with probability `power`: the smallest C whose [`minimum_detectable_effect`],
/// with C − 1 degrees of freedom, is no larger. The standard error is taken to fall with the square root of the clusters, the
/// number of samples in each staying as it is. `None` if the effect is 0, the error shows no spread, a probability is none, or
/// more than 2^40 clusters would be needed.
pub fn samples_for_effect(measured: MeasuredError, effect: f64, alpha: f64, power: f64) -> Option<SampleSize> {
    let usable = measured.clusters > 0 && measured.samples > 0 && effect != 0.0 && effect.is_finite();
    // Asks for the quantiles once, so that the search below cannot end on a level that is none.
    minimum_detectable_effect(measured.standard_error, Some(1.0), alpha, power).filter(|_| usable)?;
    let suffices = |clusters: u64| {
        minimum_detectable_effect(measured.on(clusters), Some((clusters - 1) as f64), alpha, power)
            .is_some_and(|detectable| detectable <= effect.abs())
    };
    let mut high = 2;
    while !suffices(high) {
        high *= 2;
        if high > MOST_CLUSTERS {
            return None;
        }
    }
    let mut low = (high / 2).max(1);
    // `low` does not suffice or is too few for any error; `high` does.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if suffices(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    let samples = (high as f64 * measured.samples as f64 / measured.clusters as f64).ceil() as u64;
    Some(SampleSize { clusters: high, samples: samples.max(high) })
}

/// The samples with which a paired comparison of yes/no outcomes finds a difference of `effect` (a share: 0.01 for a point),
/// where a share `discordance` of outcomes changes and clusters multiply the variance by `design_effect`:
/// `n = (q(1 − α/2) + q(power))² · deff · discordance / effect²` with normal quantiles (Miettinen 1968, without the small term
/// `effect²` in the variance). A difference needs at least as many changed outcomes, so a smaller discordance is raised to it.
/// `None` where the effect or the discordance is no positive share, the design effect is not positive, or a probability is none.
pub fn samples_for_discordance(discordance: f64, design_effect: f64, effect: f64, alpha: f64, power: f64) -> Option<u64> {
    let share = |value: f64| value > 0.0 && value <= 1.0;
    if !(share(discordance) && share(effect.abs()) && design_effect > 0.0 && design_effect.is_finite()) {
        return None;
    }
    let variance = design_effect * discordance.max(effect.abs());
    let detectable = minimum_detectable_effect(variance.sqrt(), None, alpha, power)?;
    Some((detectable / effect).powi(2).ceil() as u64)
}
