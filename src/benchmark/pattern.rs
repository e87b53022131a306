//! Texts with named holes: the image file name and the texts of classes.

/// A piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Hole { name: String, zero_padded_to: usize },
}

/// Splits `text` at `{name}` and `{name:012}`; `{` and `}` have no other use in a pattern.
pub(super) fn pieces(text: &str, allowed: &[&str]) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, tail) = rest.split_at(open);
        let inner = tail.strip_prefix('{').unwrap_or(tail);
        let Some((hole, after)) = inner.split_once('}') else {
            return Err(format!("the `{{` in {text:?} is never closed"));
        };
        let (name, width) = hole.split_once(':').unwrap_or((hole, ""));
        if !allowed.contains(&name) {
            let allowed: Vec<String> = allowed.iter().map(|name| format!("{{{name}}}")).collect();
            return Err(format!("{text:?} has {{{hole}}}; expected {}", allowed.join(" or ")));
        }
        let zero_padded_to = match width.strip_prefix('0') {
            Some(digits) => digits.parse::<usize>().ok().filter(|digits| (1..=32).contains(digits)),
            None => width.is_empty().then_some(0),
        };
        let Some(zero_padded_to) = zero_padded_to else {
            return Err(format!("{text:?} has {{{hole}}}; expected a width such as {{{name}:012}}"));
        };
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Hole { name: name.to_owned(), zero_padded_to });
        rest = after;
    }
    if rest.contains('}') {
        return Err(format!("{text:?} has a `}}` without `{{`"));
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

pub(super) fn holes<'a>(pieces: &'a [Piece], wanted: &'a str) -> usize {
    pieces.iter().filter(|piece| matches!(piece, Piece::Hole { name, .. } if name == wanted)).count()
}

/// Fills holes in one pass: what is put in is never looked at again, so a question cannot smuggle in another hole.
pub(super) fn fill(pieces: &[Piece], value: impl Fn(&str) -> String) -> String {
    let mut output = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => output.push_str(text),
            Piece::Hole { name, zero_padded_to } => {
                let value = value(name);
                for _ in value.chars().count()..*zero_padded_to {
                    output.push('0');
                }
                output.push_str(&value);
            }
        }
    }
    output
}

/// The file name of a sample's image below the data folder, such as `val2014/COCO_val2014_{image_id:012}.jpg` or
/// `val2014/{image}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePattern {
    pieces: Vec<Piece>,
}

impl ImagePattern {
    /// Reads a pattern that must have the hole `hole` (`image_id` or `image`, as the data format has it).
    pub(super) fn parse(text: &str, hole: &str) -> Result<Self, String> {
        let pieces = pieces(text, &[hole])?;
        if holes(&pieces, hole) == 0 {
            return Err(format!("{text:?} names one and the same file for every sample; expected {{{hole}}} in it"));
        }
        Ok(Self { pieces })
    }

    /// The value itself is the file name.
    pub(super) fn any() -> Self {
        Self { pieces: vec![Piece::Hole { name: "image".to_owned(), zero_padded_to: 0 }] }
    }

    /// The file name for the value of the hole.
    pub fn file_name(&self, value: &str) -> String {
        fill(&self.pieces, |_| value.to_owned())
    }
}

/// A text with a hole for a class name, such as `a photo of a {c}.` (CLIP_benchmark) or `a photo of a {}.` (OpenAI's CLIP).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassTemplate {
    text: String,
    pieces: Vec<Piece>,
}

impl ClassTemplate {
    /// Reads a template, which must have `{c}` or `{}`; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pieces = pieces(text, &["c", ""])?;
        if holes(&pieces, "c") + holes(&pieces, "") == 0 {
            return Err(format!("{text:?} says the same of every class; expected {{c}} in it"));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// The template as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text for one class.
    pub fn render(&self, class_name: &str) -> String {
        fill(&self.pieces, |_| class_name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_padded_and_names_are_kept() {
        let coco = ImagePattern::parse("val2014/COCO_val2014_{image_id:012}.jpg", "image_id").unwrap();
        assert_eq!(coco.file_name("42"), "val2014/COCO_val2014_000000000042.jpg");
        assert_eq!(ImagePattern::parse("{image}", "image").unwrap().file_name("a.png"), "a.png");
    }

    #[test]
    fn wrong_patterns_are_refused_with_the_reason() {
        for (text, reason) in [
            ("a.jpg", "expected {image_id} in it"),
            ("{image}.jpg", "expected {image_id}"),
            ("{image_id", "never closed"),
            ("{image_id:12}", "expected a width"),
            ("{image_id:099}", "expected a width"),
            ("{image_id}}", "without"),
        ] {
            let message = ImagePattern::parse(text, "image_id").unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }

    #[test]
    fn a_class_template_has_a_hole_for_the_class_and_no_other() {
        assert_eq!(ClassTemplate::parse("a {c}, a {c}!").unwrap().render("{c}"), "a {c}, a {c}!");
        assert_eq!(ClassTemplate::parse("itap of a {}.").unwrap().render("red bus"), "itap of a red bus.");
        for (text, reason) in [("a photo.", "{c}"), ("a {name}", "{name}"), ("a {c", "never closed")] {
            let message = ClassTemplate::parse(text).unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }
}
