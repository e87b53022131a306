//! Numbers to codes. A row of the weight, which makes one output, is quantised by itself, so rows run in parallel and the result
//! does not depend on how many threads there are.

use rayon::prelude::*;

use super::feedback::{Feedback, Grid};
use super::{BlockFormat, InputStatistics, Scheme};

/// Largest magnitude of an 8-bit code: −128 has no counterpart and is not used.
const LARGEST_CODE: f32 = 127.0;
/// Scales of a block of 4 bits that are tried: the one that just covers the block, and others around it.
const TRIED: usize = 16;
/// By how much their reciprocals differ, in codes of the extreme number.
const SEARCH_STEP: f32 = 0.125;

/// A weight `[outputs, inputs]` as codes and scales.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct QuantisedMatrix {
    /// `Int8`: signed codes `[outputs, inputs]`. Blocks: codes `[outputs, blocks, block_bytes]`, unsigned or signed as the format
    /// says, of two 4-bit codes in a byte the first in the low half; what the last block has beyond the inputs is the code of zero.
    pub codes: Vec<u8>,
    /// `Int8`: `[outputs]`. Blocks: `[outputs, blocks]`.
    pub scales: Vec<f32>,
}

/// Quantises rows of a weight: `weights` is `[outputs, inputs]` row-major, and finite. `statistics` of the layer's inputs say which
/// of them matter; with `feedback`, codes in blocks are chosen with regard to what their rounding does to the layer's outputs.
/// Schemes without codes (16 and 32 bits) give nothing.
pub(in super::super) fn quantise_matrix(
    scheme: Scheme,
    weights: &[f32],
    inputs: usize,
    statistics: Option<&InputStatistics>,
    feedback: Option<&Feedback>,
) -> QuantisedMatrix {
    if inputs == 0 {
        return QuantisedMatrix::default();
    }
    let outputs = weights.len() / inputs;
    let (code_bytes, scales) = match scheme {
        Scheme::Fp32 | Scheme::Fp16 | Scheme::Bf16 => return QuantisedMatrix::default(),
        Scheme::Int8 => (inputs, 1),
        Scheme::Blocks(format) => (format.blocks(inputs) * format.block_bytes(), format.blocks(inputs)),
    };
    let mut matrix = QuantisedMatrix { codes: vec![0; outputs * code_bytes], scales: vec![0.0; outputs * scales] };
    // With what weight an input's error counts; all alike where nothing is known.
    let importance = statistics.map(|statistics| statistics.mean_square.as_slice()).filter(|squares| squares.len() == inputs);
    let targets = matrix.codes.par_chunks_mut(code_bytes).zip(matrix.scales.par_chunks_mut(scales));
    targets.zip(weights.par_chunks_exact(inputs)).for_each(|((codes, scales), row)| match scheme {
        Scheme::Blocks(format) => blocks(format, row, importance, codes, scales),
        _ => scales.iter_mut().for_each(|scale| *scale = symmetric(row, codes)),
    });
    if let (Some(feedback), Scheme::Blocks(format)) = (feedback, scheme) {
        feed_back(format, weights, inputs, feedback, &mut matrix);
    }
    if let Scheme::Blocks(format) = scheme {
        let sign_bits = format.sign_bits();
        matrix.codes.iter_mut().for_each(|codes| *codes ^= sign_bits);
    }
    matrix
}

/// Rounds the weights again to the scales of a matrix in blocks, with feedback of what rounding does to the layer's outputs.
fn feed_back(format: BlockFormat, weights: &[f32], inputs: usize, feedback: &Feedback, matrix: &mut QuantisedMatrix) {
    let zero = byte(format.zero());
    let largest = byte(2 * format.zero() - 1);
    let grid = Grid { block: format.block_size, scales: &matrix.scales, zero_points: &[zero], largest };
    let chosen = feedback.codes(weights, &grid);
    let rows = matrix.codes.par_chunks_exact_mut(format.blocks(inputs) * format.block_bytes());
    rows.zip(chosen.par_chunks_exact(inputs)).for_each(|(codes, chosen)| {
        for (codes, chosen) in codes.chunks_exact_mut(format.block_bytes()).zip(chosen.chunks(format.block_size)) {
            pack(format, chosen.iter().copied().chain(std::iter::repeat(zero)), codes);
        }
    });
}

/// The only byte of a number that fits into one.
fn byte(number: i32) -> u8 {
    number.to_le_bytes()[0]
}

/// Puts the codes of a block into its bytes: of two 4-bit codes the first into the low half.
fn pack(format: BlockFormat, mut chosen: impl Iterator<Item = u8>, codes: &mut [u8]) {
    for target in codes {
        let first = chosen.next().unwrap_or(0);
        *target = if format.bits == 4 { first | chosen.next().unwrap_or(0) << 4 } else { first };
    }
}

/// Signed codes of a row with one scale, its largest magnitude at 127.
pub(in super::super) fn symmetric(row: &[f32], codes: &mut [u8]) -> f32 {
    let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / LARGEST_CODE;
    if scale < f32::MIN_POSITIVE {
        // Zeros, or numbers so small that their scale would not be a normal number: zero is as close as any code.
        codes.fill(0);
        return 1.0;
    }
    for (code, value) in codes.iter_mut().zip(row) {
        *code = (nearest(value / scale, -LARGEST_CODE, LARGEST_CODE) as i8).to_le_bytes()[0];
    }
    scale
}

/// The nearest whole number within these limits, ties to even. Adding and taking away 1.5 · 2²³ leaves no bits for a fraction; without
/// the instructions of newer processors this is several times faster than asking for the rounding by name.
fn nearest(value: f32, lowest: f32, highest: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (value.max(lowest).min(highest) + SHIFT) - SHIFT
}

/// Codes and scales of a row, block by block.
fn blocks(format: BlockFormat, row: &[f32], importance: Option<&[f32]>, codes: &mut [u8], scales: &mut [f32]) {
    let (size, zero) = (format.block_size, format.zero() as f32);
    let (mut chosen, alike) = (vec![0; size], vec![1.0; size]);
    let targets = codes.chunks_exact_mut(format.block_bytes()).zip(scales);
    for (index, ((codes, scale), values)) in targets.zip(row.chunks(size)).enumerate() {
        let importance = importance.and_then(|squares| squares.get(index * size..index * size + values.len()));
        *scale = block_scale(format, values, importance.unwrap_or(&alike));
        chosen.fill(zero as u8);
        chosen.iter_mut().zip(values).for_each(|(code, value)| *code = (nearest(value / *scale, -zero, zero - 1.0) + zero) as u8);
        pack(format, chosen.iter().copied(), codes);
    }
}

/// The scale of a block.
///
/// There is one more code below zero than above, so the number of the largest magnitude is given the lowest code, and the scale is
/// negative where that number is positive; in signed formats it is given the highest code instead. With 8 bits that is all. With 4 bits, scales around that one are tried. The codes `q` that
/// one gives to the numbers `w` have the least-squares scale `Σ h w q / Σ h q²`, where `h` is the importance of an input, and the
/// error `Σ h w² − (Σ h w q)² / Σ h q²`; the scale of the least error is taken.
fn block_scale(format: BlockFormat, values: &[f32], importance: &[f32]) -> f32 {
    let extreme = values.iter().fold(0.0_f32, |extreme, &value| if value.abs() > extreme.abs() { value } else { extreme });
    let lowest = -(format.zero() as f32);
    let reached = if format.signed && extreme > 0.0 { -lowest - 1.0 } else { lowest };
    let covering = extreme / reached;
    if covering.abs() < f32::MIN_POSITIVE {
        return 1.0;
    }
    if format.bits > 4 {
        return covering;
    }
    let (mut gain, mut scale) = (0.0, covering);
    let (products, squares) = fits(values, importance, extreme, lowest, reached);
    for (product, square) in products.into_iter().zip(squares) {
        let (found, fitted) = (product * product / square, extreme * (product / square));
        // Where no input matters there is no fit.
        if found > gain && fitted.is_normal() {
            (gain, scale) = (found, fitted);
        }
    }
    scale
}

/// `Σ h w q` and `Σ h q²` of the codes that each of the tried scales gives, the covering one first; `w` is in shares of the extreme
/// number, so that no square overflows. All scales are tried side by side, which short vectors can do. The covering scale gives the
/// extreme number the code `reached`.
fn fits(values: &[f32], importance: &[f32], extreme: f32, lowest: f32, reached: f32) -> ([f32; TRIED], [f32; TRIED]) {
    let mut reciprocals = [reached; TRIED];
    for (index, reciprocal) in reciprocals.iter_mut().enumerate() {
        // 0, −1, 1, −2, 2, …: a scale further off must be better, not as good.
        let steps = index.div_ceil(2) as f32;
        *reciprocal += SEARCH_STEP * if index % 2 == 0 { steps } else { -steps };
    }
    let (mut products, mut squares) = ([0.0_f32; TRIED], [0.0_f32; TRIED]);
    for (value, weight) in values.iter().zip(importance) {
        let value = value / extreme;
        for ((product, square), reciprocal) in products.iter_mut().zip(&mut squares).zip(&reciprocals) {
            let code = nearest(value * reciprocal, lowest, -lowest - 1.0);
            *product += weight * value * code;
            *square += weight * code * code;
        }
    }
    (products, squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INT4: BlockFormat = BlockFormat { bits: 4, block_size: 32, accuracy_level: 4, signed: false };
    const INT8: BlockFormat = BlockFormat { bits: 8, block_size: 32, accuracy_level: 4, signed: false };

    fn restored(format: BlockFormat, matrix: &QuantisedMatrix, inputs: usize) -> Vec<f32> {
        let (blocks, bytes) = (format.blocks(inputs), format.block_bytes());
        let mut values = Vec::new();
        for (index, (codes, scale)) in matrix.codes.chunks(bytes).zip(&matrix.scales).enumerate() {
            let codes: Vec<u8> = match format.bits {
                4 => codes.iter().flat_map(|byte| [byte & 15, byte >> 4]).collect(),
                _ => codes.to_vec(),
            };
            let kept = (inputs - index % blocks * format.block_size).min(format.block_size);
            values.extend(codes[..kept].iter().map(|&code| (i32::from(code) - format.zero()) as f32 * scale));
        }
        values
    }

    fn wave(count: usize) -> Vec<f32> {
        (0..count).map(|index| (index as f32 * 0.7).sin() * (1.0 + (index % 7) as f32)).collect()
    }

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        outputs: usize,
        inputs: usize,
        weights: Vec<f32>,
        #[serde(flatten)]
        formats: std::collections::BTreeMap<String, Expected>,
    }

    #[derive(serde::Deserialize)]
    struct Expected {
        codes: Vec<i16>,
        scales: Vec<f32>,
        #[serde(default)]
        restored: Vec<f32>,
    }

    /// `tests/fixtures/precision/make_expected.py` has the same rules in NumPy, and what ONNX Runtime makes of the bytes.
    #[test]
    fn codes_are_those_of_the_reference() {
        let text = include_str!("../../../tests/fixtures/precision/expected.json");
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        for case in &cases {
            for (name, expected) in &case.formats {
                let what = format!("{} {name}", case.name);
                let (scheme, format) = match name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
                    None => (Scheme::Int8, None),
                    Some((bits, size)) => {
                        let (bits, block_size) = (bits.parse().unwrap(), size.parse().unwrap());
                        let format = BlockFormat { bits, block_size, accuracy_level: 0, signed: false };
                        (Scheme::Blocks(format), Some(format))
                    }
                };
                let matrix = quantise_matrix(scheme, &case.weights, case.inputs, None, None);
                assert_eq!(matrix.scales, expected.scales, "{what}");
                let codes: Vec<u8> = expected.codes.iter().map(|code| code.to_le_bytes()[0]).collect();
                assert_eq!(matrix.codes, codes, "{what}");
                let Some(format) = format else { continue };
                // A product with the identity adds zeros only, so that what ONNX Runtime restores is code times scale, rounded once.
                let own = restored(format, &matrix, case.inputs);
                assert_eq!(own.len(), case.outputs * case.inputs);
                for (own, theirs) in own.iter().zip(&expected.restored) {
                    assert!((own - theirs).abs() <= 1e-6 * own.abs(), "{what}: {own} is not {theirs}");
                }
            }
        }
    }

    #[test]
    fn codes_are_the_nearest_ones() {
        let weights = wave(6 * 40);
        for format in [INT4, INT8] {
            let matrix = quantise_matrix(Scheme::Blocks(format), &weights, 40, None, None);
            assert_eq!(matrix.codes.len(), 6 * 2 * format.block_bytes());
            assert_eq!(matrix.scales.len(), 12);
            // The 24 places of the second block that no input has hold zero.
            let zero = if format.bits == 4 { 0x88 } else { 0x80 };
            let used = 8 * format.bits as usize / 8;
            let second = &matrix.codes[format.block_bytes()..2 * format.block_bytes()];
            assert!(second[used..].iter().all(|&code| code == zero), "{second:?}");
            let back = restored(format, &matrix, 40);
            for (index, (value, back)) in weights.iter().zip(&back).enumerate() {
                let scale = matrix.scales[index / 40 * 2 + index % 40 / 32].abs();
                // Half a step, but the largest numbers of a 4-bit block may be cut where that makes the others better.
                let limit = if format.bits == 4 { 1.6 } else { 0.5001 } * scale;
                assert!((value - back).abs() <= limit, "{value} became {back} with steps of {scale}");
            }
        }
        let matrix = quantise_matrix(Scheme::Int8, &weights, 40, None, None);
        for (row, (codes, scale)) in matrix.codes.chunks(40).zip(&matrix.scales).enumerate() {
            for (value, code) in weights[row * 40..].iter().zip(codes) {
                assert!((value - f32::from(i8::from_le_bytes([*code])) * scale).abs() <= 0.5001 * scale);
            }
        }
    }

    #[test]
    fn the_search_never_makes_a_block_worse_than_rounding() {
        let mut better = 0;
        for seed in 0..200 {
            let values: Vec<f32> = wave(32).iter().enumerate().map(|(i, v)| v * ((i * seed) as f32 * 0.37).cos()).collect();
            let extreme = values.iter().fold(0.0_f32, |e, &v| if v.abs() > e.abs() { v } else { e });
            let error = |scale: f32| -> f64 {
                let lost = values.iter().map(|value| f64::from(value - scale * nearest(value / scale, -8.0, 7.0)));
                lost.map(|lost| lost * lost).sum()
            };
            let plain = error(extreme / -8.0);
            let searched = error(block_scale(INT4, &values, &[1.0; 32]));
            assert!(searched <= plain * 1.000_01, "seed {seed}: {searched} is worse than {plain}");
            better += usize::from(searched < 0.95 * plain);
        }
        assert!(better > 100, "only {better} of 200 blocks became better by 5 %");
    }

    /// Signed codes are those of the standard operator: no zero point, and no negative scale.
    #[test]
    fn signed_formats_have_positive_scales_and_lose_little() {
        let weights: Vec<f32> = wave(40 * 64).iter().enumerate().map(|(i, v)| v * ((i / 3) as f32 * 0.11).cos()).collect();
        for unsigned in [INT4, INT8] {
            let signed = BlockFormat { signed: true, ..unsigned };
            let matrix = quantise_matrix(Scheme::Blocks(signed), &weights, 40, None, None);
            assert!(matrix.scales.iter().all(|scale| *scale > 0.0), "{:?}", matrix.scales);
            assert!(quantise_matrix(Scheme::Blocks(unsigned), &weights, 40, None, None).scales.iter().any(|scale| *scale < 0.0));
            let error = |values: &[f32]| -> f32 { weights.iter().zip(values).map(|(one, other)| (one - other).powi(2)).sum() };
            let bytes = signed.block_bytes();
            let mut values = Vec::new();
            for (index, (codes, scale)) in matrix.codes.chunks(bytes).zip(&matrix.scales).enumerate() {
                // Two's complement, of which a nibble's sign is its highest bit.
                let codes: Vec<i8> = match signed.bits {
                    4 => codes.iter().flat_map(|&byte| [(byte << 4) as i8 >> 4, byte as i8 >> 4]).collect(),
                    _ => codes.iter().map(|&byte| byte as i8).collect(),
                };
                let kept = if index % 2 == 0 { 32 } else { 8 };
                assert!(codes[kept..].iter().all(|&code| code == 0), "places that no input has hold zero");
                values.extend(codes[..kept].iter().map(|&code| f32::from(code) * scale));
            }
            let plain = restored(unsigned, &quantise_matrix(Scheme::Blocks(unsigned), &weights, 40, None, None), 40);
            // A step is a seventh larger at most, which is 31 % more squared error; the search makes good for a part of it.
            assert!(error(&values) <= 1.31 * error(&plain), "{} {}", error(&values), error(&plain));
            assert!(error(&values) > 0.0);
        }
    }

    #[test]
    fn inputs_that_matter_more_are_kept_better() {
        let weights = wave(32);
        let mut statistics = InputStatistics { rows: 1, mean_square: vec![1e-6; 32], ..InputStatistics::default() };
        statistics.mean_square[5] = 1.0;
        let at = |statistics| {
            let back = restored(INT4, &quantise_matrix(Scheme::Blocks(INT4), &weights, 32, statistics, None), 32);
            (back[5] - weights[5]).abs()
        };
        assert!(at(Some(&statistics)) < at(None), "{} is not less than {}", at(Some(&statistics)), at(None));
    }

    #[test]
    fn extreme_rows_give_finite_scales_and_their_numbers_back() {
        let tiny = f32::from_bits(1);
        let mut outlier = vec![1e-3; 64];
        outlier[17] = -1e30;
        for row in [vec![0.0; 64], vec![-0.0; 64], vec![tiny; 64], vec![f32::MIN_POSITIVE; 64], vec![f32::MAX; 64], outlier] {
            let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            for scheme in [Scheme::Int8, Scheme::Blocks(INT4), Scheme::Blocks(INT8)] {
                let matrix = quantise_matrix(scheme, &row, 64, None, None);
                assert!(matrix.scales.iter().all(|scale| scale.is_normal()), "{scheme:?} of {:?}: {:?}", row[0], matrix.scales);
                if let Scheme::Blocks(format) = scheme {
                    let back = restored(format, &matrix, 64);
                    for (value, back) in row.iter().zip(&back) {
                        assert!(
                            (value / 16.0 - back / 16.0).abs() <= largest / 16.0 / 7.0 + f32::MIN_POSITIVE,
                            "{value} became {back}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_the_result() {
        let weights = wave(64 * 96);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let four = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        for scheme in [Scheme::Int8, Scheme::Blocks(INT4)] {
            let run = || quantise_matrix(scheme, &weights, 96, None, None);
            assert_eq!(one.install(run), four.install(run));
        }
    }
}
