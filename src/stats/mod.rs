//! The stats room: the estimators, intervals and tests by which scores are believed. Pure maths on slices of numbers; it
//! knows no type of this crate, reads no file and prints nothing.
//!
//! Everything that is random takes a seed and gives the same answer for it on every platform.

mod change_points;
mod clustered;
mod correlation;
mod divergence;
mod multiplicity;
mod power;
mod proportion;
mod quantile;
mod random;
mod ranks;
mod resample;
mod running;
mod student;
mod sums;

pub use change_points::{CHANGE_POINT_P_VALUE, CHANGE_POINT_WINDOW, ChangePoint, ChangePoints, change_points};
pub use clustered::{ClusteredError, Linearised, cluster_sums, clustered_standard_error, dense_clusters, naive_standard_error};
pub use correlation::{IntraclassCorrelation, design_effect, intraclass_correlation};
pub use divergence::{RowDivergence, divergence_of_logits};
pub use multiplicity::{benjamini_hochberg, holm};
pub use power::{
    MeasuredError, SampleSize, detection_probability, minimum_detectable_effect, samples_for_discordance, samples_for_effect,
};
pub use proportion::{mcnemar_exact, mcnemar_mid_p, wilson_interval, zero_events_upper_bound};
pub use quantile::{mean, quantile_interval, quantile_of_sorted, smallest_sample_for_quantile, sorted, supported_quantile};
pub use random::Generator;
pub use ranks::{MannWhitney, SignedRank, mann_whitney, median_absolute_deviation, signed_rank};
pub use resample::{BootstrapInterval, DEFAULT_PERMUTATIONS, cluster_bootstrap, sign_flip_p_value};
pub use running::RunningRatio;
pub use student::{normal_cdf, normal_quantile, t_cdf, t_interval, t_quantile, t_two_sided_p_value};
pub use sums::{ClusteredSums, bootstrap_of_sums};
