//! Pictures as base64 in the cells of text files (VLMEvalKit's TSV, MMBench): taken out of the row as soon as it is read, so
//! that no more than one row's are ever held.

use std::io::Cursor;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::super::error::BenchmarkError;
use super::source::{ImageCell, ImageCells, Row, Wanted};
use super::text_list;

/// Base64 of the first bytes of PNG, JPEG, GIF, WebP, BMP and TIFF files.
const BEGINNINGS: [&str; 10] = ["iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk0", "Qk1", "Qk2", "Qk3", "SUkqAA", "TU0AKg"];
/// A cell as long as this without a dot is no file name.
const LONGEST_NAME_BYTES: usize = 512;

/// With or without padding, as Python's `b64decode` is used on both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Takes base64 out of the image columns of a row; file names stay. `unreachable` files, which cannot be read from the middle,
/// may hold none.
pub(super) fn lift(row: &mut Row, wanted: &Wanted, unreachable: bool) -> Result<(), BenchmarkError> {
    for column in &wanted.image_columns {
        if row.cells.iter().any(|cells| &*cells.column == column) {
            continue;
        }
        let Some(value) = row.columns.get(column) else { continue };
        let listed;
        let (texts, in_list): (Vec<Option<&str>>, bool) = match value {
            Value::String(text) if text.trim_start().starts_with('[') => match text_list::parse_texts(text) {
                Some(texts) => {
                    listed = texts;
                    (listed.iter().map(|text| Some(text.as_str())).collect(), true)
                }
                None => continue,
            },
            Value::String(text) => (vec![Some(text)], false),
            Value::Array(elements) => (elements.iter().map(Value::as_str).collect(), true),
            _ => continue,
        };
        if !texts.iter().flatten().any(|text| is_picture(text)) {
            continue;
        }
        let place = row.place();
        if unreachable {
            return Err(place.error(column, "a file name (pictures inside a compressed file cannot be reached)", "base64"));
        }
        let name: Arc<str> = column.as_str().into();
        let mut images = Vec::with_capacity(texts.len());
        for (index, text) in texts.into_iter().enumerate() {
            let Some(text) = text.filter(|text| is_picture(text)) else {
                images.push(None);
                continue;
            };
            let bytes = decode(text).map_err(|found| place.error(column, "a picture as base64", found))?;
            images.push(Some(ImageCell {
                file: Arc::clone(&row.file),
                row: row.number,
                offset_bytes: row.offset_bytes,
                column: Arc::clone(&name),
                index: in_list.then_some(index),
                sha256: wanted.hash.then(|| hash(&bytes)),
                size: if wanted.measure {
                    Some(measure(&bytes).map_err(|found| place.error(column, "a picture", found))?)
                } else {
                    None
                },
            }));
        }
        let whole = images.iter().all(Option::is_some);
        row.cells.push(ImageCells { column: name, images });
        if whole {
            row.columns.insert(column.clone(), Value::Null);
        }
    }
    Ok(())
}

/// Whether a cell is a picture rather than the name of one.
pub(super) fn is_picture(text: &str) -> bool {
    let text = text.trim_start();
    let beginning = text.as_bytes().get(..LONGEST_NAME_BYTES);
    text.starts_with("data:image/")
        || (text.len() >= 32 && BEGINNINGS.iter().any(|beginning| text.starts_with(beginning)))
        || beginning.is_some_and(|beginning| !beginning.contains(&b'.') && !beginning.contains(&b' '))
}

/// The bytes of a picture; the error says what is wrong.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    let text = match text.strip_prefix("data:") {
        Some(uri) => uri.split_once(";base64,").map(|(_, data)| data).ok_or("a data URI that is not base64")?,
        None => text,
    };
    let decoded = match text.bytes().any(|byte| byte.is_ascii_whitespace()) {
        true => BASE64.decode(text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<u8>>()),
        false => BASE64.decode(text),
    };
    decoded.map_err(|error| format!("{error} in {} bytes of text", text.len()))
}

/// SHA-256, hexadecimal.
pub(super) fn hash(bytes: &[u8]) -> Arc<str> {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// Width and height as the head of an image file says them; the error says what is wrong.
pub(super) fn measure(bytes: &[u8]) -> Result<(u32, u32), String> {
    let reader = image::ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    reader.into_dimensions().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_from_names() {
        let picture = base64::engine::general_purpose::STANDARD.encode(b"\x89PNG\r\n\x1a\nand so on and so on and so on");
        assert!(is_picture(&picture));
        assert!(is_picture(&format!("data:image/png;base64,{picture}")));
        assert!(is_picture(&"A".repeat(600)));
        for name in ["images/a.png", "12", "", "iVBOR.png", &format!("{}.png", "a".repeat(400))] {
            assert!(!is_picture(name), "{name}");
        }
    }

    #[test]
    fn base64_is_read_with_and_without_padding_and_line_ends() {
        for text in ["aGk=", "aGk", "aG\nk=", " aGk= ", "data:image/png;base64,aGk="] {
            assert_eq!(decode(text).unwrap(), b"hi", "{text}");
        }
        for text in ["aGk$", "a", "data:image/png,xx", "äöü"] {
            assert!(decode(text).is_err(), "{text}");
        }
    }
}
