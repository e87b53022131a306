//! Gates: whether new runs may pass, by a policy and a baseline. Pure: everything that is judged is in the comparison.

mod contest;
mod judge;
mod limits;
mod policy;
mod types;

pub use contest::{GateError, against_baseline};
pub use judge::gate;
pub use policy::{Correction, FailOn, LatencyLimits, MetricRules, Missing, Policy, PolicyError, Rules, SizeLimits};
pub use types::{Bound, Contender, Contest, Gate, GateCheck, GateOutcome, GateReport, GateResult, GateUnit};
