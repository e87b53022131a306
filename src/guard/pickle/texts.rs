//! How pickles write texts.

/// Bytes as Latin-1.
pub(super) fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// The bytes of a Python 2 string literal.
pub(super) fn unquoted(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.trim_ascii();
    let quote = *line.first().filter(|quote| matches!(quote, b'\'' | b'"'))?;
    let inner = line.get(1..)?.strip_suffix(&[quote])?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
    while let Some(byte) = rest.next() {
        if byte == quote {
            return None;
        }
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other @ (b'\\' | b'\'' | b'"') => other,
            _ => return None,
        });
    }
    Some(bytes)
}

/// A text without its `\uXXXX` and `\UXXXXXXXX`; other backslashes are plain. Escaped halves of a surrogate pair are one
/// character.
pub(super) fn unescaped(line: &str) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut high: Option<u32> = None;
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let width = match rest.as_bytes() {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => 0,
        };
        let (code, length) = if width == 0 {
            (u32::from(first), first.len_utf8())
        } else {
            (u32::from_str_radix(rest.get(2..2 + width)?, 16).ok()?, 2 + width)
        };
        let code = match (high.take(), code) {
            (None, 0xd800..=0xdbff) => {
                high = Some(code);
                rest = rest.get(length..)?;
                continue;
            }
            (Some(high), 0xdc00..=0xdfff) => 0x1_0000 + ((high - 0xd800) << 10) + (code - 0xdc00),
            (Some(_), _) => return None,
            (None, code) => code,
        };
        text.push(char::from_u32(code)?);
        rest = rest.get(length..)?;
    }
    high.is_none().then_some(text)
}
