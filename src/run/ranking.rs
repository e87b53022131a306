//! The arithmetic of zero-shot classification and retrieval, that of CLIP_benchmark (`zeroshot_classification.py`,
//! `zeroshot_retrieval.py`), on 32-bit numbers as there.

use ndarray::{Array1, Array2, ArrayView1, Axis};

use crate::engine::normalise;

/// What cosines are multiplied by before they are stored, as CLIP_benchmark does for every model.
pub const LOGIT_FACTOR: f32 = 100.0;

/// The embedding of a class: those of its texts `[templates, width]`, each normalised, their mean, normalised again. `None`
/// where a text or the mean has no direction.
pub fn class_embedding(texts: &Array2<f32>) -> Option<Array1<f32>> {
    let mean = normalise(texts)?.mean_axis(Axis(0))?;
    let embedding = normalise(&mean.insert_axis(Axis(0)))?;
    Some(embedding.index_axis_move(Axis(0), 0))
}

/// `LOGIT_FACTOR` times the cosine of a query with each candidate `[candidates, width]`; all normalised.
pub fn logits(query: ArrayView1<'_, f32>, candidates: &Array2<f32>) -> Array1<f32> {
    candidates.dot(&query.mapv(|value| LOGIT_FACTOR * value))
}

/// Positions of the `count` largest scores, the largest first; of equal ones the first counts as larger.
pub fn best(scores: ArrayView1<'_, f32>, count: usize) -> Vec<usize> {
    let mut order: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    let better = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if count < order.len() {
        // Only the first ones need an order among themselves.
        order.select_nth_unstable_by(count, better);
        order.truncate(count);
    }
    order.sort_unstable_by(better);
    order.into_iter().map(|(position, _)| position).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::{arr1, arr2};

    use super::*;

    #[test]
    fn classes_are_means_of_directions_not_of_lengths() {
        let found = class_embedding(&arr2(&[[3.0, 0.0], [0.0, 40.0]])).unwrap();
        let half = 0.5_f32.sqrt();
        assert!((found[0] - half).abs() < 1e-6 && (found[1] - half).abs() < 1e-6, "{found}");
        assert!(class_embedding(&arr2(&[[1.0, 0.0], [-1.0, 0.0]])).is_none(), "opposite texts have no mean direction");
        assert!(class_embedding(&arr2(&[[0.0, 0.0]])).is_none());
        assert!(class_embedding(&arr2(&[[f32::NAN, 1.0]])).is_none());
    }

    #[test]
    fn the_first_of_equal_scores_is_better() {
        let scores = arr1(&[1.0, 3.0, 3.0, -2.0, 3.0]);
        assert_eq!(best(scores.view(), 2), [1, 2]);
        assert_eq!(best(scores.view(), 9), [1, 2, 4, 0, 3]);
        assert_eq!(best(scores.view(), 0), [0_usize; 0]);
    }
}
