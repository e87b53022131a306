//! From components to RGB: libjpeg's guess of the colour space, its fixed-point conversion, and Pillow's CMYK.

use super::header::{Application, Frame};
use super::planes::Picture;
use super::upsample;

/// What the components mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

/// The colour space as libjpeg guesses it: JFIF is always YCbCr, else Adobe's marker decides, else the component ids.
pub(super) fn stored_space(frame: &Frame, application: &Application) -> Space {
    match frame.components.as_slice() {
        [_] => Space::Grey,
        [first, second, third] => match application.adobe_transform {
            _ if application.jfif => Space::YCbCr,
            Some(0) => Space::Rgb,
            Some(_) => Space::YCbCr,
            None if [first.id, second.id, third.id] == *b"RGB" => Space::Rgb,
            None => Space::YCbCr,
        },
        _ => match application.adobe_transform {
            None | Some(0) => Space::Cmyk,
            Some(_) => Space::Ycck,
        },
    }
}

/// The picture, `[height, width, 3]`.
pub(super) fn to_rgb(picture: &Picture, width: usize, height: usize, space: Space) -> Vec<u8> {
    let mut rows: Vec<Vec<u8>> = picture.planes.iter().map(|_| vec![0; width]).collect();
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for (plane, row) in picture.planes.iter().zip(&mut rows) {
            upsample::row(plane, y, row);
        }
        match (space, rows.as_slice()) {
            (Space::Grey, [grey, ..]) => rgb.extend(grey.iter().flat_map(|grey| [*grey; 3])),
            (Space::Rgb, [red, green, blue, ..]) => {
                rgb.extend(red.iter().zip(green).zip(blue).flat_map(|((red, green), blue)| [*red, *green, *blue]));
            }
            (Space::YCbCr, [luma, cb, cr, ..]) => {
                rgb.extend(luma.iter().zip(cb).zip(cr).flat_map(|((luma, cb), cr)| ycc_to_rgb(*luma, *cb, *cr)));
            }
            (Space::Cmyk, [first, second, third, black]) => {
                let colours = first.iter().zip(second).zip(third).zip(black);
                rgb.extend(colours.flat_map(|(((c, m), y), k)| inverted_cmyk_to_rgb([*c, *m, *y, *k])));
            }
            (Space::Ycck, [luma, cb, cr, black]) => {
                let colours = luma.iter().zip(cb).zip(cr).zip(black);
                rgb.extend(colours.flat_map(|(((luma, cb), cr), k)| {
                    let [c, m, y] = ycc_to_rgb(*luma, *cb, *cr).map(|value| 255 - value);
                    inverted_cmyk_to_rgb([c, m, y, *k])
                }));
            }
            _ => {}
        }
    }
    rgb
}

/// JFIF colour conversion with 16 fractional bits, rounding as `jdcolor.c` does.
fn ycc_to_rgb(luma: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let luma = i32::from(luma);
    let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
    let red = luma + ((91_881 * cr + HALF) >> 16); // 1.40200
    let green = luma + ((-22_554 * cb - 46_802 * cr + HALF) >> 16); // 0.34414, 0.71414
    let blue = luma + ((116_130 * cb + HALF) >> 16); // 1.77200
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

/// Pillow takes four components for Adobe's inverted CMYK whether or not a marker says so, and converts without a colour
/// profile.
fn inverted_cmyk_to_rgb([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    // The stored black is 255 less the ink, which is the brightness that the ink leaves.
    let light = u32::from(black);
    [cyan, magenta, yellow].map(|stored| {
        let product = u32::from(255 - stored) * light + 128;
        let shade = ((product >> 8) + product) >> 8;
        light.saturating_sub(shade) as u8
    })
}
