//! The accurate integer inverse DCT of libjpeg (`jidctint.c`; Loeffler, Ligtenberg and Moschytz 1989), 8 x 8.
//!
//! Where numbers can leave 16 bits, which only damaged or extreme files do, the sums wrap and saturate as the vector
//! code of libjpeg-turbo does, since that is what runs in practice.

use super::header::Quantization;

/// Fractional bits of the constants.
const CONSTANT_BITS: u32 = 13;
/// Extra bits kept between the two passes.
const PASS_BITS: u32 = 2;

const C_0_298631336: i32 = 2446;
const C_0_390180644: i32 = 3196;
const C_0_541196100: i32 = 4433;
const C_0_765366865: i32 = 6270;
const C_0_899976223: i32 = 7373;
const C_1_175875602: i32 = 9633;
const C_1_501321110: i32 = 12299;
const C_1_847759065: i32 = 15137;
const C_1_961570560: i32 = 16069;
const C_2_053119869: i32 = 16819;
const C_2_562915447: i32 = 20995;
const C_3_072711026: i32 = 25172;

/// Dequantises a block of coefficients in natural order and turns it into 64 samples, row by row.
pub(super) fn inverse(coefficients: &[i16; 64], quantization: &Quantization) -> [u8; 64] {
    let mut block: [i16; 64] = std::array::from_fn(|at| coefficients[at].wrapping_mul(quantization[at] as i16));
    if coefficients[8..].iter().all(|coefficient| *coefficient == 0) {
        // Only the first row: each column is constant. Unlike the general case this wraps, it does not saturate.
        let top: [i16; 8] = std::array::from_fn(|column| block[column].wrapping_mul(1 << PASS_BITS));
        block.as_chunks_mut::<8>().0.fill(top);
    } else {
        first_pass(&mut block);
    }
    let mut samples = [0; 64];
    for row in 0..8 {
        let out = transform(std::array::from_fn(|column| block[row * 8 + column]), CONSTANT_BITS + PASS_BITS + 3);
        for (column, value) in out.into_iter().enumerate() {
            samples[row * 8 + column] = (value.clamp(-128, 127) + 128) as u8;
        }
    }
    samples
}

/// The columns.
fn first_pass(block: &mut [i16; 64]) {
    for column in 0..8 {
        let out = transform(std::array::from_fn(|row| block[row * 8 + column]), CONSTANT_BITS - PASS_BITS);
        for (row, value) in out.into_iter().enumerate() {
            block[row * 8 + column] = value;
        }
    }
}

/// One dimension; results are rounded and shifted right by `shift` bits.
fn transform(input: [i16; 8], shift: u32) -> [i16; 8] {
    let [i0, i1, i2, i3, i4, i5, i6, i7] = input;
    let wide = i32::from;
    // Even part.
    let even_2 = wide(i2) * (C_0_541196100 + C_0_765366865) + wide(i6) * C_0_541196100;
    let even_6 = wide(i2) * C_0_541196100 + wide(i6) * (C_0_541196100 - C_1_847759065);
    let sum = wide(i0.wrapping_add(i4)) << CONSTANT_BITS;
    let difference = wide(i0.wrapping_sub(i4)) << CONSTANT_BITS;
    let even =
        [sum.wrapping_add(even_2), difference.wrapping_add(even_6), difference.wrapping_sub(even_6), sum.wrapping_sub(even_2)];
    // Odd part.
    let z3 = wide(i7.wrapping_add(i3));
    let z4 = wide(i5.wrapping_add(i1));
    let z3_turned = z3 * (C_1_175875602 - C_1_961570560) + z4 * C_1_175875602;
    let z4_turned = z3 * C_1_175875602 + z4 * (C_1_175875602 - C_0_390180644);
    let odd = [
        (wide(i1) * (C_1_501321110 - C_0_899976223) - wide(i7) * C_0_899976223).wrapping_add(z4_turned),
        (wide(i3) * (C_3_072711026 - C_2_562915447) - wide(i5) * C_2_562915447).wrapping_add(z3_turned),
        (wide(i5) * (C_2_053119869 - C_2_562915447) - wide(i3) * C_2_562915447).wrapping_add(z4_turned),
        (wide(i7) * (C_0_298631336 - C_0_899976223) - wide(i1) * C_0_899976223).wrapping_add(z3_turned),
    ];
    let round = |value: i32| (value.wrapping_add(1 << (shift - 1)) >> shift).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
    let mut out = [0; 8];
    for at in 0..4 {
        out[at] = round(even[at].wrapping_add(odd[at]));
        out[7 - at] = round(even[at].wrapping_sub(odd[at]));
    }
    out
}
