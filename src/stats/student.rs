//! The normal and Student t distributions, guarded: arguments that have no answer give `None`, never a panic.

use statrs::distribution::{Continuous, ContinuousCDF, Normal, StudentsT};

/// Degrees of freedom are clusters − 1, so at least 1; far beyond any benchmark the incomplete beta function behind the
/// distribution would lose digits, and t has long become normal.
fn student(degrees_of_freedom: f64) -> Option<StudentsT> {
    let usable = (1.0..=1e9).contains(&degrees_of_freedom);
    if usable { StudentsT::new(0.0, 1.0, degrees_of_freedom).ok() } else { None }
}

/// Probability that a standard normal variable is at most `z`.
pub fn normal_cdf(z: f64) -> f64 {
    Normal::standard().cdf(z)
}

/// The standard normal quantile of `probability`; `None` outside the open interval (0, 1).
pub fn normal_quantile(probability: f64) -> Option<f64> {
    if !(probability > 0.0 && probability < 1.0) {
        return None;
    }
    let normal = Normal::standard();
    let mut z = normal.inverse_cdf(probability);
    // One Newton step takes the library's rational approximation to the last digits.
    let density = normal.pdf(z);
    if density > 0.0 {
        z -= (normal.cdf(z) - probability) / density;
    }
    Some(z)
}

/// The quantile of `probability` of Student's t; `None` outside (0, 1) or without degrees of freedom.
pub fn t_quantile(probability: f64, degrees_of_freedom: f64) -> Option<f64> {
    if !(probability > 0.0 && probability < 1.0) {
        return None;
    }
    let student = student(degrees_of_freedom)?;
    if probability == 0.5 {
        return Some(0.0);
    }
    // The root in the smaller tail, where probabilities keep their relative precision: bracketed by doubling, then Newton
    // steps that fall back to bisection. (The library's own inverse loses digits far out in heavy tails.)
    let tail = probability.min(1.0 - probability);
    let (mut low, mut high) = (0.0, 1.0);
    while student.sf(high) > tail {
        low = high;
        high *= 2.0;
        if !f64::is_finite(high) {
            return None;
        }
    }
    let mut t = (low + high) / 2.0;
    for _ in 0..200 {
        let excess = student.sf(t) - tail;
        if excess > 0.0 {
            low = t;
        } else {
            high = t;
        }
        let newton = t + excess / student.pdf(t);
        let next = if newton > low && newton < high { newton } else { (low + high) / 2.0 };
        let settled = (next - t).abs() <= f64::EPSILON * t;
        t = next;
        if settled {
            break;
        }
    }
    Some(if probability < 0.5 { -t } else { t })
}

/// Probability that a Student t variable is at most `t`; `None` without degrees of freedom.
pub fn t_cdf(t: f64, degrees_of_freedom: f64) -> Option<f64> {
    let student = student(degrees_of_freedom)?;
    (!t.is_nan()).then(|| if t > 0.0 { 1.0 - student.sf(t) } else { student.sf(-t) })
}

/// The two-sided p-value of a t statistic, from the upper tail so that small values keep their precision.
pub fn t_two_sided_p_value(t: f64, degrees_of_freedom: f64) -> Option<f64> {
    if t.is_nan() {
        return None;
    }
    let student = student(degrees_of_freedom)?;
    if t.is_infinite() {
        return Some(0.0);
    }
    Some((2.0 * student.sf(t.abs())).min(1.0))
}

/// `value ± t·standard_error` at confidence `level` (0.95 for 95 %).
pub fn t_interval(value: f64, standard_error: f64, degrees_of_freedom: f64, level: f64) -> Option<[f64; 2]> {
    let half = t_quantile(0.5 + level / 2.0, degrees_of_freedom)? * standard_error;
    half.is_finite().then_some([value - half, value + half])
}
