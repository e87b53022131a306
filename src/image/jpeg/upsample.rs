//! Chroma rows at the picture's width, as libjpeg's default ("fancy", triangle filter) upsampling makes them
//! (`jdsample.c`).

use super::planes::Plane;

/// Writes the samples of the picture's row `y` into `out`, which is as wide as the picture.
///
/// 2:1 in either or both directions is interpolated; the nearer sample counts three quarters. Rounding alternates (a
/// bias of 1 and 2, or 8 and 7) so that it does not drift. Other ratios, and components of at most two columns, repeat
/// samples.
pub(super) fn row(plane: &Plane, y: usize, out: &mut [u8]) {
    let smooth_wide = plane.width > 2;
    match plane.expansion {
        (1, 1) => copy(plane.row(y), out),
        (2, 1) if smooth_wide => widen(plane.row(y), out),
        (1, 2) => {
            let (near, far) = neighbours(plane, y);
            let bias = if y.is_multiple_of(2) { 1 } else { 2 };
            for (value, (near, far)) in out.iter_mut().zip(near.iter().zip(far)) {
                *value = ((u16::from(*near) * 3 + u16::from(*far) + bias) >> 2) as u8;
            }
        }
        (2, 2) if smooth_wide => {
            let (near, far) = neighbours(plane, y);
            let sums: Vec<u16> = near.iter().zip(far).map(|(near, far)| u16::from(*near) * 3 + u16::from(*far)).collect();
            widen_sums(&sums, out);
        }
        (across, down) => {
            for (values, sample) in out.chunks_mut(across).zip(plane.row(y / down)) {
                values.fill(*sample);
            }
        }
    }
}

fn copy(from: &[u8], out: &mut [u8]) {
    for (value, sample) in out.iter_mut().zip(from) {
        *value = *sample;
    }
}

/// The nearer and the farther source row of a target row, at half the height; edge rows repeat.
fn neighbours(plane: &Plane, y: usize) -> (&[u8], &[u8]) {
    let near = y / 2;
    let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(plane.height.saturating_sub(1)) };
    (plane.row(near), plane.row(far))
}

fn widen(samples: &[u8], out: &mut [u8]) {
    for (at, (pair, sample)) in out.chunks_mut(2).zip(samples).enumerate() {
        let here = u16::from(*sample);
        let left = at.checked_sub(1).and_then(|at| samples.get(at)).map(|left| (here * 3 + u16::from(*left) + 1) >> 2);
        let right = samples.get(at + 1).map(|right| (here * 3 + u16::from(*right) + 2) >> 2);
        set(pair, left.unwrap_or(here), right.unwrap_or(here));
    }
}

/// The same on sums of three near and one far sample.
fn widen_sums(sums: &[u16], out: &mut [u8]) {
    for (at, (pair, sum)) in out.chunks_mut(2).zip(sums).enumerate() {
        let left = at.checked_sub(1).and_then(|at| sums.get(at)).map_or(sum * 4 + 8, |left| sum * 3 + left + 8);
        let right = sums.get(at + 1).map_or(sum * 4 + 7, |right| sum * 3 + right + 7);
        set(pair, left >> 4, right >> 4);
    }
}

/// Writes two values; in a row of odd width the last one falls off.
fn set(pair: &mut [u8], left: u16, right: u16) {
    for (value, new) in pair.iter_mut().zip([left, right]) {
        *value = new as u8;
    }
}
