//! Several tests at once.

/// Holm's step-down adjustment (Holm 1979): p-values that may each be compared with the family's level, in the order given.
/// Under any dependence the chance of even one false alarm stays within that level. A p-value that is not a number stays one
/// and does not count as a test.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let order = ascending(p_values);
    let tests = order.len();
    let mut adjusted = p_values.to_vec();
    let mut largest = 0.0_f64;
    for (rank, (index, p_value)) in order.into_iter().enumerate() {
        largest = largest.max((p_value * (tests - rank) as f64).min(1.0));
        if let Some(slot) = adjusted.get_mut(index) {
            *slot = largest;
        }
    }
    adjusted
}

/// The step-up adjustment of Benjamini and Hochberg (1995): keeps the expected share of false alarms among the alarms. For
/// looking around, such as tables by category, not for gates. Not-a-number is treated as by [`holm`].
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let order = ascending(p_values);
    let tests = order.len() as f64;
    let mut adjusted = p_values.to_vec();
    let mut smallest = 1.0_f64;
    for (rank, (index, p_value)) in order.into_iter().enumerate().rev() {
        smallest = smallest.min(p_value * tests / (rank + 1) as f64);
        if let Some(slot) = adjusted.get_mut(index) {
            *slot = smallest;
        }
    }
    adjusted
}

/// The p-values that are numbers with their places, smallest first.
fn ascending(p_values: &[f64]) -> Vec<(usize, f64)> {
    let mut order: Vec<(usize, f64)> = p_values.iter().copied().enumerate().filter(|(_, p)| !p.is_nan()).collect();
    order.sort_by(|left, right| left.1.total_cmp(&right.1));
    order
}
