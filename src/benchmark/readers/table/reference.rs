//! What a right answer is, out of the columns of a row.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::super::super::columns::{ColumnPath, Found, missing, plain_text};
use super::super::super::error::BenchmarkError;
use super::super::super::table_spec::{AnswerForm, ChoiceOptions, RegionForm, TableReference};
use super::super::super::types::{PixelBox, Reference};
use super::super::rows::RowPlace;
use super::source::Row;
use super::text_list;

/// How far a box may reach over the image's edge in pixels: coordinates are rounded to hundredths.
const EDGE_TOLERANCE_PIXELS: f64 = 0.02;

/// The reference of a row whose first image, as far as it was measured, has `size` pixels.
pub(super) fn reference(rule: &TableReference, row: &Row, size: Option<(u32, u32)>) -> Result<Reference, BenchmarkError> {
    let cells = Cells { place: row.place(), columns: &row.columns, texts_only: row.texts_only };
    match rule {
        TableReference::Answers { answers, repeat, counts } => {
            let found = cells.texts(answers)?;
            let answers = match found.as_slice() {
                [single] if *repeat > 1 => vec![single.clone(); *repeat],
                _ => found,
            };
            cells.count(rule, counts, answers.len())?;
            Ok(Reference::Answers { answers })
        }
        TableReference::YesNo { answer } => Ok(Reference::YesNo { yes: cells.yes_no(answer)? }),
        TableReference::Choice { options, answer, form, or_answers } => {
            let options = cells.options(options)?;
            if options.is_empty() && *or_answers {
                let answers = cells.texts(answer)?;
                cells.count(rule, &[], answers.len())?;
                return Ok(Reference::Answers { answers });
            }
            let answer = cells.right_option(answer, *form, &options)?;
            Ok(Reference::Choice { options, answer })
        }
        TableReference::OpenOrClosed { answer, column, values, open_has_them } => {
            let kind = cells.text(column)?;
            let open = values.iter().any(|value| value.trim() == kind.trim()) == *open_has_them;
            Ok(Reference::OpenOrClosed { answer: cells.text(answer)?, open })
        }
        TableReference::Region { region, form, size: columns } => {
            let (width, height) = match (columns, size) {
                (Some((width, height)), _) => (cells.pixels(width)?, cells.pixels(height)?),
                (None, Some(size)) => size,
                (None, None) => return Err(cells.place.error(region.text(), "an image to measure", "none")),
            };
            Ok(Reference::Region { region: cells.region(region, *form, width, height)?, width, height })
        }
        TableReference::Judged { answer, context, capabilities } => {
            // A list, or names with commas between them.
            let capabilities = capabilities.as_ref().map(|path| cells.texts(path)).transpose()?.unwrap_or_default();
            let names = capabilities.iter().flat_map(|names| names.split(',')).map(|name| name.trim().to_owned());
            let capabilities: BTreeSet<String> = names.filter(|name| !name.is_empty()).collect();
            let capabilities = capabilities.into_iter().collect();
            let context = match context {
                None => None,
                // Several captions stand one below the other (`eval_gpt_review_bench.py`).
                Some(context) if context.whole().is_some_and(|path| cells.is_list(path)) => {
                    context.whole().map(|path| cells.texts(path)).transpose()?.map(|captions| captions.join("\n"))
                }
                Some(context) => {
                    context.fill(cells.columns).map_err(|(field, found)| cells.place.error(&field, "a text", found))?
                }
            };
            Ok(Reference::Judged { answer: cells.text(answer)?, context, capabilities })
        }
        TableReference::Withheld { .. } => Ok(Reference::Withheld),
    }
}

/// The options that are shown with a question whose answer is withheld.
pub(super) fn shown_options(rule: &TableReference, row: &Row) -> Result<Vec<String>, BenchmarkError> {
    match rule {
        TableReference::Withheld { options: Some(options) } => {
            Cells { place: row.place(), columns: &row.columns, texts_only: row.texts_only }.options(options)
        }
        _ => Ok(Vec::new()),
    }
}

/// The option with this text; none if two have it.
fn text_of(options: &[String], answer: &str) -> Option<usize> {
    let mut same = options.iter().enumerate().filter(|(_, option)| option.trim() == answer).map(|(index, _)| index);
    let first = same.next();
    first.filter(|_| same.next().is_none())
}

struct Cells<'r> {
    place: RowPlace<'r>,
    columns: &'r Map<String, Value>,
    texts_only: bool,
}

impl Cells<'_> {
    fn find(&self, path: &ColumnPath) -> Result<Found<'_>, BenchmarkError> {
        path.find(self.columns).ok_or_else(|| self.place.error(path.text(), "a value", missing(path, self.columns)))
    }

    /// Whether the value is a list.
    fn is_list(&self, path: &ColumnPath) -> bool {
        matches!(path.find(self.columns), Some(Found::Many(_)) | Some(Found::One(Value::Array(_))))
    }

    /// A value that must be there.
    fn text(&self, path: &ColumnPath) -> Result<String, BenchmarkError> {
        let found = match self.find(path)? {
            Found::Many(_) => Err("a list".to_owned()),
            Found::One(value) => plain_text(value),
        };
        match found {
            Ok(Some(text)) => Ok(text),
            Ok(None) => Err(self.place.error(path.text(), "a text or a number", "nothing")),
            Err(found) => Err(self.place.error(path.text(), "a text or a number", found)),
        }
    }

    /// One value or a list; nothing is an empty list.
    fn texts(&self, path: &ColumnPath) -> Result<Vec<String>, BenchmarkError> {
        let wrong = |found: String| self.place.error(path.text(), "texts or numbers", found);
        let each = |values: Vec<&Value>| -> Result<Vec<String>, BenchmarkError> {
            values.into_iter().map(|value| plain_text(value).map_err(wrong)?.ok_or_else(|| wrong("nothing".to_owned()))).collect()
        };
        match self.find(path)? {
            Found::Many(values) => each(values),
            Found::One(Value::Array(values)) => each(values.iter().collect()),
            Found::One(Value::Null) => Ok(Vec::new()),
            Found::One(Value::String(text)) => match text_list::parse(text) {
                // In a file of texts a list can only be the text of one; elsewhere quotes tell it from an answer in brackets.
                Some(values) if self.texts_only => each(values.iter().collect()),
                _ => Ok(text_list::parse_texts(text).unwrap_or_else(|| vec![text.clone()])),
            },
            Found::One(value) => each(vec![value]),
        }
    }

    fn count(&self, rule: &TableReference, permitted: &[usize], found: usize) -> Result<(), BenchmarkError> {
        if permitted.is_empty() && found > 0 || permitted.contains(&found) {
            return Ok(());
        }
        let field = match rule {
            TableReference::Answers { answers, .. } => answers.text(),
            TableReference::Choice { answer, .. } => answer.text(),
            _ => "-",
        };
        let expected = match permitted {
            [] => "at least one answer".to_owned(),
            counts => format!("{} answers", counts.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ")),
        };
        Err(self.place.error(field, expected, found.to_string()))
    }

    fn yes_no(&self, path: &ColumnPath) -> Result<bool, BenchmarkError> {
        let text = match self.find(path)? {
            Found::One(Value::Bool(value)) => return Ok(*value),
            _ => self.text(path)?,
        };
        match text.trim().to_lowercase().as_str() {
            "yes" | "true" => Ok(true),
            "no" | "false" => Ok(false),
            _ => Err(self.place.error(path.text(), "yes or no", format!("{text:?}"))),
        }
    }

    fn options(&self, rule: &ChoiceOptions) -> Result<Vec<String>, BenchmarkError> {
        match rule {
            ChoiceOptions::Letters(count) => {
                Ok((b'A'..=b'Z').take(*count).map(|letter| char::from(letter).to_string()).collect())
            }
            ChoiceOptions::List(path) => {
                let wrong = |found: String| self.place.error(path.text(), "a list of options", found);
                let each = |values: Vec<&Value>| -> Result<Vec<String>, BenchmarkError> {
                    let text = |value: &Value| Ok(plain_text(value).map_err(wrong)?.unwrap_or_default());
                    values.into_iter().map(text).collect()
                };
                match self.find(path)? {
                    Found::Many(values) => each(values),
                    Found::One(Value::Array(values)) => each(values.iter().collect()),
                    Found::One(Value::Null) => Ok(Vec::new()),
                    Found::One(Value::String(text)) => match text_list::parse(text) {
                        Some(values) => each(values.iter().collect()),
                        None if text.trim().is_empty() => Ok(Vec::new()),
                        None => Err(wrong(format!("{text:?}"))),
                    },
                    Found::One(_) => Err(wrong("something else".to_owned())),
                }
            }
            ChoiceOptions::Columns(paths) => {
                let mut options = Vec::new();
                for path in paths {
                    // A release with fewer options has no such column.
                    let Some(Found::One(value)) = path.find(self.columns) else { break };
                    let text = plain_text(value).map_err(|found| self.place.error(path.text(), "a text or a number", found))?;
                    // As LLaVA's model_vqa_mmbench.py says that there is no option.
                    match text.filter(|text| !["", "nan", "none"].contains(&text.trim().to_lowercase().as_str())) {
                        Some(text) => options.push(text),
                        None => break,
                    }
                }
                Ok(options)
            }
        }
    }

    fn right_option(&self, path: &ColumnPath, form: AnswerForm, options: &[String]) -> Result<usize, BenchmarkError> {
        let text = self.text(path)?;
        let answer = text.trim();
        let letter = |answer: &str| {
            let mut characters = answer.chars();
            match (characters.next(), characters.next()) {
                (Some(letter), None) if letter.is_ascii_alphabetic() => {
                    Some(usize::from(letter.to_ascii_uppercase() as u8 - b'A'))
                }
                _ => None,
            }
        };
        let number = || answer.parse::<usize>().ok();
        let (index, expected) = match form {
            AnswerForm::Letter => (letter(answer), "the letter of an option"),
            AnswerForm::LetterInBrackets => {
                let inner = answer.strip_prefix('(').and_then(|answer| answer.strip_suffix(')'));
                (inner.and_then(letter), "the letter of an option in brackets")
            }
            AnswerForm::Index => (number(), "the index of an option from 0"),
            AnswerForm::IndexFromOne => (number().and_then(|number| number.checked_sub(1)), "the number of an option from 1"),
            AnswerForm::Text => (text_of(options, answer), "the text of one option"),
            AnswerForm::LetterOrText => {
                let by_letter = letter(answer).filter(|index| *index < options.len());
                (by_letter.or_else(|| text_of(options, answer)), "the letter or the text of an option")
            }
        };
        index
            .filter(|index| *index < options.len())
            .ok_or_else(|| self.place.error(path.text(), format!("{expected} of {}", options.len()), format!("{text:?}")))
    }

    fn pixels(&self, path: &ColumnPath) -> Result<u32, BenchmarkError> {
        let text = self.text(path)?;
        // pandas writes whole numbers with `.0` where a column has gaps.
        let number = text.trim().strip_suffix(".0").unwrap_or(text.trim());
        match number.parse::<u32>() {
            Ok(pixels) if pixels > 0 => Ok(pixels),
            _ => Err(self.place.error(path.text(), "a size in pixels", format!("{text:?}"))),
        }
    }

    fn region(&self, path: &ColumnPath, form: RegionForm, width: u32, height: u32) -> Result<PixelBox, BenchmarkError> {
        let texts = match self.find(path)? {
            Found::One(Value::String(text)) => match text_list::parse(text) {
                Some(values) => values.iter().filter_map(|value| plain_text(value).ok().flatten()).collect(),
                None => vec![text.clone()],
            },
            _ => self.texts(path)?,
        };
        let number = |text: &String| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        let numbers: Vec<f64> = texts.iter().map(number).collect::<Option<_>>().unwrap_or_default();
        let (image_width, image_height) = (f64::from(width), f64::from(height));
        let corners = match (numbers.as_slice(), form) {
            (&[x, y, w, h], RegionForm::Xywh) => Some([x, y, x + w, y + h]),
            (&[x1, y1, x2, y2], RegionForm::Xyxy) => Some([x1, y1, x2, y2]),
            _ => None,
        };
        let inside = |[x1, y1, x2, y2]: &[f64; 4]| {
            *x1 >= -EDGE_TOLERANCE_PIXELS
                && *y1 >= -EDGE_TOLERANCE_PIXELS
                && x2 > x1
                && y2 > y1
                && *x2 <= image_width + EDGE_TOLERANCE_PIXELS
                && *y2 <= image_height + EDGE_TOLERANCE_PIXELS
        };
        let Some([x1, y1, x2, y2]) = corners.filter(inside) else {
            let form = match form {
                RegionForm::Xywh => "x, y, width, height",
                RegionForm::Xyxy => "left, top, right, bottom",
            };
            let found = texts.join(", ");
            return Err(self.place.error(path.text(), format!("{form} of a box within {width} × {height}"), found));
        };
        Ok(PixelBox {
            x1: x1.clamp(0.0, image_width),
            y1: y1.clamp(0.0, image_height),
            x2: x2.clamp(0.0, image_width),
            y2: y2.clamp(0.0, image_height),
        })
    }
}
