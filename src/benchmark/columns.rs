//! Names of values in the rows of a table, and texts with holes for them.

use serde_json::{Map, Value};

/// A step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A member of an object, or, where the name is a number, of an array.
    Member(String),
    /// Every element of an array.
    Each,
}

/// The way to a value in a row: `answer`, `types.structural`, `answers.0`, `answers[].answer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPath {
    text: String,
    steps: Vec<Step>,
}

impl ColumnPath {
    /// Reads a path; the error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        for part in text.split('.') {
            let name = part.strip_suffix("[]").unwrap_or(part);
            if name.is_empty() || name.contains(['{', '}', '[', ']']) {
                return Err(format!(
                    "{text:?} is no column; expected a name such as answer, types.structural or answers[].answer"
                ));
            }
            steps.push(Step::Member(name.to_owned()));
            if name.len() < part.len() {
                steps.push(Step::Each);
            }
        }
        Ok(Self { text: text.to_owned(), steps })
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The column in which the way begins.
    pub fn column(&self) -> &str {
        match self.steps.first() {
            Some(Step::Member(name)) => name,
            _ => &self.text,
        }
    }

    /// Whether the path is a column as a whole.
    pub fn is_plain(&self) -> bool {
        self.steps.len() == 1
    }

    /// Whether the path ends in every element of a column.
    pub fn is_each_of_column(&self) -> bool {
        matches!(self.steps.as_slice(), [Step::Member(_), Step::Each])
    }

    /// The values at the path: one, or several behind `[]`. `None` if the row has no such value. A null on the way is a value
    /// that is not there, and gives null.
    pub(super) fn find<'v>(&self, row: &'v Map<String, Value>) -> Option<Found<'v>> {
        let mut steps = self.steps.iter();
        let Some(Step::Member(first)) = steps.next() else { return None };
        let mut found = Found::One(row.get(first)?);
        for step in steps {
            found = match (step, found) {
                (Step::Member(name), Found::One(value)) => Found::One(member(value, name)?),
                (Step::Member(name), Found::Many(values)) => {
                    Found::Many(values.into_iter().map(|value| member(value, name)).collect::<Option<_>>()?)
                }
                (Step::Each, Found::One(Value::Array(values))) => Found::Many(values.iter().collect()),
                (Step::Each, Found::One(Value::Null)) => Found::Many(Vec::new()),
                (Step::Each, _) => return None,
            };
        }
        Some(found)
    }
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(members) => members.get(name),
        Value::Array(elements) => elements.get(name.parse::<usize>().ok()?),
        Value::Null => Some(&Value::Null),
        _ => None,
    }
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found<'v> {
    One(&'v Value),
    Many(Vec<&'v Value>),
}

/// A hole of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// What stands in it.
    pub path: ColumnPath,
    /// Digits to which it is padded with zeros.
    zero_padded_to: usize,
    /// What a number is divided by for the remainder that is put in.
    modulus: Option<u64>,
    /// Which part of the text is put in.
    part: Option<Part>,
}

/// Some of the parts of a text between separators, joined by them again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    separator: String,
    /// The first part, counted from the end if negative.
    from: i64,
    /// The part behind the last; the end if there is none.
    to: Option<i64>,
}

impl Part {
    /// Reads `-|0..3` (the first three parts between hyphens), `_|1..-1` or `-|3`.
    fn parse(text: &str) -> Option<Self> {
        let (separator, range) = text.rsplit_once('|').filter(|(separator, _)| !separator.is_empty())?;
        let number = |text: &str| text.parse::<i64>().ok();
        let (from, to) = match range.split_once("..") {
            Some((from, "")) => (number(from)?, None),
            Some((from, to)) => (number(from)?, Some(number(to)?)),
            None => (number(range)?, number(range)?.checked_add(1).filter(|next| *next != 0)),
        };
        Some(Self { separator: separator.to_owned(), from, to })
    }

    /// The parts of a text; `None` if it has no such part.
    fn of(&self, text: &str) -> Option<String> {
        let parts: Vec<&str> = text.split(self.separator.as_str()).collect();
        let place = |index: i64| usize::try_from(if index < 0 { index + parts.len() as i64 } else { index }).ok();
        let to = self.to.map_or(Some(parts.len()), place)?;
        parts.get(place(self.from)?..to).filter(|parts| !parts.is_empty()).map(|parts| parts.join(&self.separator))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Hole(Hole),
}

/// A text with holes for columns: `{column}`, `{column:012}` (padded with zeros), `{index%1000000}` (the remainder),
/// `{types.structural}`, `{identifier|-|0..3}` (the first three of the parts between hyphens; `|_|1..-1` all but the first and
/// the last, `|-|3` the fourth).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnTemplate {
    text: String,
    pieces: Vec<Piece>,
}

impl ColumnTemplate {
    /// Reads a template; the error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, inner)) = rest.split_once('{') {
            if before.contains('}') {
                return Err(format!("{text:?} has a `}}` without `{{`"));
            }
            let Some((hole, after)) = inner.split_once('}') else {
                return Err(format!("the `{{` in {text:?} is never closed"));
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Hole(parse_hole(hole).map_err(|message| format!("{text:?}: {message}"))?));
            rest = after;
        }
        if rest.contains('}') {
            return Err(format!("{text:?} has a `}}` without `{{`"));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The holes in order.
    pub fn holes(&self) -> impl Iterator<Item = &Hole> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Hole(hole) => Some(hole),
        })
    }

    /// The hole, if the template is one hole and nothing else: then it may stand for any value, not only for text.
    pub(super) fn whole(&self) -> Option<&ColumnPath> {
        match self.pieces.as_slice() {
            [Piece::Hole(hole)] if hole.zero_padded_to == 0 && hole.modulus.is_none() && hole.part.is_none() => Some(&hole.path),
            _ => None,
        }
    }

    /// The text for a row: `None` if a hole has nothing in it; the error is the hole whose value cannot be had, and why.
    /// Holes are filled in one pass: what is put in is never looked at again.
    pub(super) fn fill(&self, row: &Map<String, Value>) -> Result<Option<String>, (String, String)> {
        let mut output = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => output.push_str(text),
                Piece::Hole(hole) => match hole.value(row)? {
                    Some(value) => {
                        for _ in value.chars().count()..hole.zero_padded_to {
                            output.push('0');
                        }
                        output.push_str(&value);
                    }
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(output))
    }
}

impl Hole {
    fn value(&self, row: &Map<String, Value>) -> Result<Option<String>, (String, String)> {
        let wrong = |found: String| (self.path.text().to_owned(), found);
        let text = match self.path.find(row) {
            None => return Err(wrong(missing(&self.path, row))),
            Some(Found::Many(_)) => return Err(wrong("a list".to_owned())),
            Some(Found::One(value)) => match plain_text(value) {
                Ok(text) => text,
                Err(found) => return Err(wrong(found)),
            },
        };
        let text = match (text, &self.part) {
            (Some(text), Some(part)) => {
                let found = part.of(&text);
                Some(found.ok_or_else(|| wrong(format!("{text:?}, which has too few parts between {:?}", part.separator)))?)
            }
            (text, _) => text,
        };
        match (text, self.modulus) {
            (Some(text), Some(modulus)) => match text.trim().parse::<u64>() {
                Ok(number) => Ok(Some((number % modulus).to_string())),
                Err(_) => Err(wrong(format!("{text:?}, which is no whole number"))),
            },
            (text, _) => Ok(text),
        }
    }
}

fn parse_hole(text: &str) -> Result<Hole, String> {
    if let Some((name, part)) = text.split_once('|') {
        let part = Part::parse(part);
        let part = part.ok_or_else(|| format!("{{{text}}} has no parts such as {{{name}|-|0..3}} or {{{name}|_|1..-1}}"))?;
        return Ok(Hole { path: ColumnPath::parse(name)?, zero_padded_to: 0, modulus: None, part: Some(part) });
    }
    let (text, width) = text.rsplit_once(':').unwrap_or((text, ""));
    let zero_padded_to = match width.strip_prefix('0') {
        Some(digits) => digits.parse::<usize>().ok().filter(|digits| (1..=32).contains(digits)),
        None => width.is_empty().then_some(0),
    };
    let Some(zero_padded_to) = zero_padded_to else {
        return Err(format!("{{{text}:{width}}} has no width such as {{{text}:012}}"));
    };
    let (name, modulus) = match text.rsplit_once('%') {
        None => (text, None),
        Some((name, modulus)) => match modulus.trim().parse::<u64>() {
            Ok(modulus) if modulus > 0 => (name.trim(), Some(modulus)),
            _ => return Err(format!("{{{text}}} has no divisor such as {{{name}%1000000}}")),
        },
    };
    Ok(Hole { path: ColumnPath::parse(name)?, zero_padded_to, modulus, part: None })
}

/// A text, number or boolean as text; `None` for null; an error for lists and objects.
pub(super) fn plain_text(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(value) => Ok(Some(value.to_string())),
        Value::Array(_) => Err("a list".to_owned()),
        Value::Object(_) => Err("an object".to_owned()),
    }
}

/// What to say of a path that leads nowhere.
pub(super) fn missing(path: &ColumnPath, row: &Map<String, Value>) -> String {
    if row.contains_key(path.column()) {
        return format!("no such value in the column {:?}", path.column());
    }
    let columns: Vec<&str> = row.keys().map(String::as_str).filter(|name| !name.starts_with('@')).collect();
    format!("only the columns {columns:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row() -> Map<String, Value> {
        match json!({"id": 42, "l2-category": "x", "types": {"structural": "verify"}, "answers": [{"answer": "a"}, {"answer": "b"}],
            "list": ["p", "q"], "none": null, "brace": "{id}", "identifier": "dev-850-0-1"})
        {
            Value::Object(row) => row,
            _ => Map::new(),
        }
    }

    #[test]
    fn holes_are_filled_with_what_the_row_has() {
        for (template, expected) in [
            ("COCO_{id:012}.jpg", Some("COCO_000000000042.jpg")),
            ("{types.structural}/{l2-category}", Some("verify/x")),
            ("{answers.1.answer}{list.0}", Some("bp")),
            ("{id%40}", Some("2")),
            ("{brace}", Some("{id}")),
            ("a{none}", None),
            ("{none.x}", None),
            ("{identifier|-|0..3}-img0.png", Some("dev-850-0-img0.png")),
            ("{identifier|-|1..-1}/{identifier|-|-1}/{identifier|-|1}", Some("850-0/1/850")),
            ("{identifier|-|2..}", Some("0-1")),
            ("{none|-|0}", None),
        ] {
            assert_eq!(ColumnTemplate::parse(template).unwrap().fill(&row()).unwrap().as_deref(), expected, "{template}");
        }
    }

    #[test]
    fn what_cannot_be_filled_is_said() {
        for (template, reason) in [
            ("{nothing}", "only the columns"),
            ("{types}", "an object"),
            ("{types.x}", "no such value"),
            ("{brace%3}", "no whole number"),
            ("{identifier|-|4}", "too few parts"),
            ("{identifier|-|3..2}", "too few parts"),
            ("{identifier|-|-9}", "too few parts"),
            ("{answers[].answer}", "a list"),
        ] {
            let (_, found) = ColumnTemplate::parse(template).unwrap().fill(&row()).unwrap_err();
            assert!(found.contains(reason), "{template}: {found}");
        }
        for (template, reason) in [
            ("{a", "never closed"),
            ("a}", "without"),
            ("{a:12}", "width"),
            ("{}", "no column"),
            ("{a%0}", "divisor"),
            ("{a|-}", "no parts"),
            ("{a||0}", "no parts"),
            ("{a|-|x..}", "no parts"),
            ("}{a}", "without"),
        ] {
            let message = ColumnTemplate::parse(template).unwrap_err();
            assert!(message.contains(reason), "{template}: {message}");
        }
    }

    #[test]
    fn paths_take_lists_apart() {
        let row = row();
        let Some(Found::Many(values)) = ColumnPath::parse("answers[].answer").unwrap().find(&row) else { panic!("not many") };
        assert_eq!(values, [&json!("a"), &json!("b")]);
        assert!(ColumnPath::parse("answers[].nothing").unwrap().find(&row).is_none());
    }
}
