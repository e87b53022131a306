//! The Cholesky factor of a large symmetric matrix, on all cores.

use rayon::prelude::*;

/// Columns that are factored at a time.
const BLOCK: usize = 64;
/// Rows of the rest that one thread updates at a time.
const ROWS: usize = 16;

/// Replaces the lower triangle of a symmetric positive definite matrix `[size, size]`, row by row, by its factor `L` with
/// `A = L·Lᵀ`; what stands above the diagonal is left as it was. False if the matrix is not positive definite, when its contents
/// are lost. Sums are always formed in the same order, whatever the number of threads.
pub(super) fn cholesky(matrix: &mut [f64], size: usize) -> bool {
    if size == 0 || matrix.len() != size * size {
        return size == 0;
    }
    for start in (0..size).step_by(BLOCK) {
        let end = (start + BLOCK).min(size);
        let width = end - start;
        let (upper, rest) = matrix.split_at_mut(end * size);
        // The block on the diagonal.
        for row in start..end {
            for column in start..=row {
                let (left, right) = (row * size, column * size);
                let product: f64 = (start..column).map(|k| upper[left + k] * upper[right + k]).sum();
                let value = upper[left + column] - product;
                if column < row {
                    upper[left + column] = value / upper[right + column];
                } else if value > 0.0 && value.is_finite() {
                    upper[left + column] = value.sqrt();
                } else {
                    return false;
                }
            }
        }
        // The rows below it.
        let upper = &*upper;
        rest.par_chunks_mut(size).for_each(|row| {
            for column in start..end {
                let factor = &upper[column * size + start..column * size + column];
                let product: f64 = row[start..column].iter().zip(factor).map(|(left, right)| left * right).sum();
                row[column] = (row[column] - product) / upper[column * size + column];
            }
        });
        // What is left of the matrix, less the product of those rows with themselves.
        let panel: Vec<f64> = rest.par_chunks(size).flat_map_iter(|row| row[start..end].iter().copied()).collect();
        rest.par_chunks_mut(size * ROWS).enumerate().for_each(|(chunk, rows)| {
            for (index, row) in rows.chunks_exact_mut(size).enumerate() {
                let own = chunk * ROWS + index;
                let left = &panel[own * width..(own + 1) * width];
                let targets = &mut row[end..end + own + 1];
                for (target, right) in targets.iter_mut().zip(panel.chunks_exact(width)) {
                    *target -= dot(left, right);
                }
            }
        });
    }
    true
}

/// The product of two rows, in four sums that the processor can keep side by side.
fn dot(left: &[f64], right: &[f64]) -> f64 {
    let mut sums = [0.0_f64; 8];
    let (left_parts, right_parts) = (left.chunks_exact(8), right.chunks_exact(8));
    let rest: f64 = left_parts.remainder().iter().zip(right_parts.remainder()).map(|(left, right)| left * right).sum();
    for (left, right) in left_parts.zip(right_parts) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += left * right;
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A positive definite matrix of made-up numbers.
    fn matrix(size: usize) -> Vec<f64> {
        let factor: Vec<f64> = (0..size * size).map(|index| ((index * 7919 + 13) % 1009) as f64 / 1009.0 - 0.5).collect();
        let mut made = vec![0.0; size * size];
        for row in 0..size {
            for column in 0..size {
                made[row * size + column] = (0..size).map(|k| factor[row * size + k] * factor[column * size + k]).sum::<f64>()
                    + if row == column { 0.1 } else { 0.0 };
            }
        }
        made
    }

    #[test]
    fn the_factor_gives_the_matrix_again() {
        for size in [1, 2, 63, 64, 65, 200] {
            let original = matrix(size);
            let mut factor = original.clone();
            assert!(cholesky(&mut factor, size));
            for row in 0..size {
                for column in 0..=row {
                    let product: f64 = (0..=column).map(|k| factor[row * size + k] * factor[column * size + k]).sum();
                    // Rounding grows with the number of products: size · 2⁻⁵³ of the largest element, about 20.
                    assert!((product - original[row * size + column]).abs() < 1e-12 * size as f64, "{size}: {row}, {column}");
                }
            }
        }
    }

    #[test]
    fn the_same_bits_with_any_number_of_threads() {
        let factored = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut factor = matrix(150);
            assert!(pool.install(|| cholesky(&mut factor, 150)));
            factor
        };
        assert_eq!(factored(1), factored(3));
    }

    #[test]
    fn what_is_not_positive_definite_is_told() {
        assert!(!cholesky(&mut [1.0, 2.0, 2.0, 1.0], 2));
        assert!(!cholesky(&mut [0.0], 1));
        assert!(!cholesky(&mut [f64::NAN], 1));
        assert!(!cholesky(&mut [1.0], 2));
        assert!(cholesky(&mut [], 0));
    }
}
