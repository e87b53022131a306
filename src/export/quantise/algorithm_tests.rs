//! The algorithms against independent references (`tests/fixtures/quantise/make_feedback.py`) and against plain rounding.

use serde::Deserialize;

use super::feedback::{Feedback, Grid};
use super::smoothing::{divide_norm, multiply_inputs, raise_maxima, smoothing_factors};

#[derive(Deserialize)]
struct Case {
    outputs: usize,
    inputs: usize,
    block: usize,
    weights: Vec<f32>,
    activations: Vec<f32>,
    #[serde(skip)]
    gram: Vec<f32>,
    scales: Vec<f32>,
    codes: Vec<u8>,
    absolute_maximum: Vec<f32>,
    alpha: f32,
    factors: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quantise/feedback.json");
    let mut cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in &mut cases {
        let rows: Vec<&[f32]> = case.activations.chunks_exact(case.inputs).collect();
        let product =
            |left: usize, right: usize| rows.iter().map(|row| f64::from(row[left]) * f64::from(row[right])).sum::<f64>();
        case.gram = (0..case.inputs * case.inputs)
            .map(|index| (product(index / case.inputs, index % case.inputs) / rows.len() as f64) as f32)
            .collect();
    }
    cases
}

fn grid(case: &Case) -> Grid<'_> {
    Grid { block: case.block, scales: &case.scales, zero_points: &[8], largest: 15 }
}

/// Plain rounding to the same grid.
fn nearest(case: &Case) -> Vec<u8> {
    let blocks = case.inputs.div_ceil(case.block);
    let code = |(index, weight): (usize, &f32)| {
        let scale = case.scales[index / case.inputs * blocks + index % case.inputs / case.block];
        ((weight / scale).round() + 8.0).clamp(0.0, 15.0) as u8
    };
    case.weights.iter().enumerate().map(code).collect()
}

/// `‖(W − Ŵ)·X‖² / rows`.
fn output_error(case: &Case, codes: &[u8]) -> f64 {
    let blocks = case.inputs.div_ceil(case.block);
    let mut error = 0.0;
    for row in 0..case.outputs {
        let difference: Vec<f64> = (0..case.inputs)
            .map(|input| {
                let index = row * case.inputs + input;
                let scale = case.scales[row * blocks + input / case.block];
                f64::from(case.weights[index]) - f64::from(scale) * (f64::from(codes[index]) - 8.0)
            })
            .collect();
        for (left, left_error) in difference.iter().enumerate() {
            for (right, right_error) in difference.iter().enumerate() {
                error += left_error * right_error * f64::from(case.gram[left * case.inputs + right]);
            }
        }
    }
    error
}

#[test]
fn error_feedback_gives_the_codes_of_gptq() {
    for case in cases() {
        let feedback = Feedback::new(&case.gram, case.inputs).unwrap();
        // The reference computes in 64 bits; no weight of these cases lies so near to the middle between two codes that 32 bits
        // round it elsewhere.
        assert_eq!(feedback.codes(&case.weights, &grid(&case)), case.codes, "{} inputs", case.inputs);
    }
}

#[test]
fn error_feedback_beats_plain_rounding_where_inputs_go_together() {
    for case in cases() {
        let feedback = Feedback::new(&case.gram, case.inputs).unwrap();
        let (with, without) =
            (output_error(&case, &feedback.codes(&case.weights, &grid(&case))), output_error(&case, &nearest(&case)));
        // Inputs are correlated, and one is twenty times as strong as the others: it alone makes more than half of the error of plain
        // rounding.
        assert!(with < 0.5 * without, "{with} against {without}");
    }
}

#[test]
fn the_same_codes_with_any_number_of_threads() {
    let cases = cases();
    let case = &cases[2];
    let codes = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        // More rows than go together.
        let many = Case {
            outputs: 100,
            weights: case.weights.iter().copied().cycle().take(100 * case.inputs).collect(),
            scales: case.scales.iter().copied().cycle().take(100 * case.scales.len() / case.outputs).collect(),
            gram: case.gram.clone(),
            activations: Vec::new(),
            codes: Vec::new(),
            absolute_maximum: Vec::new(),
            factors: Vec::new(),
            ..*case
        };
        pool.install(|| Feedback::new(&many.gram, many.inputs).unwrap().codes(&many.weights, &grid(&many)))
    };
    let one = codes(1);
    assert_eq!(one, codes(3));
    let expected: Vec<u8> = case.codes.iter().copied().cycle().take(one.len()).collect();
    assert_eq!(one, expected, "rows do not depend on each other");
}

#[test]
fn inputs_that_do_not_move_leave_plain_rounding() {
    let case = &cases()[0];
    let mut identity = vec![0.0; case.inputs * case.inputs];
    (0..case.inputs).for_each(|input| identity[input * case.inputs + input] = 1.0);
    for gram in [vec![0.0; case.inputs * case.inputs], identity] {
        assert_eq!(Feedback::new(&gram, case.inputs).unwrap().codes(&case.weights, &grid(case)), nearest(case));
    }
}

#[test]
fn a_matrix_that_is_none_is_refused() {
    assert!(Feedback::new(&[1.0, 0.0], 2).is_none());
    assert!(Feedback::new(&[], 0).is_none());
    assert!(Feedback::new(&[f32::NAN], 1).is_none());
    assert!(Feedback::new(&[-1.0], 1).is_none());
    assert!(Feedback::new(&[1.0, 9.0, 9.0, 1.0], 2).is_none(), "not positive definite");
}

#[test]
fn smoothing_takes_the_papers_factors() {
    for case in cases() {
        let mut maximum = vec![0.0; case.inputs];
        raise_maxima(&mut maximum, &case.weights);
        let factors = smoothing_factors(&case.absolute_maximum, &maximum, case.alpha);
        for (found, expected) in factors.iter().zip(&case.factors) {
            // Two powers and a division, each rounded to 2⁻²⁴.
            assert!((found - expected).abs() <= 1e-6 * expected, "{found} {expected}");
        }
    }
    assert_eq!(smoothing_factors(&[0.0, 1.0, f32::MAX, 1e-30], &[1.0, 0.0, 1.0, 1e-3], 0.5), [1.0, 1.0, 1e3, 1e-3]);
}

#[test]
fn smoothing_changes_nothing_that_is_computed() {
    let case = &cases()[1];
    let (mut weights, mut norm) = (case.weights.clone(), vec![0.7_f32; case.inputs]);
    let input: Vec<f32> = (0..case.inputs).map(|input| (input as f32 * 0.37).sin()).collect();
    let outputs = |weights: &[f32], norm: &[f32]| -> Vec<f32> {
        weights
            .chunks_exact(case.inputs)
            .map(|row| row.iter().zip(norm).zip(&input).map(|((weight, norm), input)| weight * (norm * input)).sum())
            .collect()
    };
    let before = outputs(&weights, &norm);
    multiply_inputs(&mut weights, &case.factors);
    divide_norm(&mut norm, &case.factors);
    for (before, after) in before.iter().zip(outputs(&weights, &norm)) {
        // Two more roundings per product of about 1, forty of them summed.
        assert!((before - after).abs() < 1e-5, "{before} {after}");
    }
}
