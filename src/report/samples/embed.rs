//! The samples of a page as compact JSON for its script: every text once, and everything else numbers that refer to it.
//!
//! Texts are made visible here, and `<`, `>` and `&` are written as `\u003c` and so on, so that nothing in them can end the
//! element that holds the data. The script puts them into the page as text nodes only.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::guard::escape;

use super::{Answer, Card, Corners, Generation, Mark, Prompt};

/// Significant digits of a time.
const TIME_DIGITS: usize = 3;

/// Samples of one page, so far.
#[derive(Debug, Default)]
pub(super) struct Embedding {
    /// JSON strings.
    strings: Vec<String>,
    places: HashMap<String, usize>,
    strings_bytes: usize,
    /// JSON arrays, joined by commas.
    samples: String,
    count: usize,
}

/// What an [`Embedding`] was before a sample was added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    strings: usize,
    strings_bytes: usize,
    samples_bytes: usize,
    count: usize,
}

impl Embedding {
    /// Bytes of the JSON so far.
    pub fn bytes(&self) -> usize {
        self.strings_bytes + self.samples.len()
    }

    /// Samples so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds a sample whose images are `pictures` of the page, and says how to take it back.
    ///
    /// `[benchmark, key, category, image names, further images, pictures, question, reference, region, size, tier, answers]`
    pub fn add(&mut self, card: &Card, pictures: &[usize]) -> Before {
        let before = Before {
            strings: self.strings.len(),
            strings_bytes: self.strings_bytes,
            samples_bytes: self.samples.len(),
            count: self.count,
        };
        let names: Vec<usize> = card.images.iter().map(|image| self.text(&escape::shorten_middle(image, 80))).collect();
        let mut sample = format!("[{},{},", card.benchmark, json_string(&card.key));
        push(&mut sample, &self.optional(card.category.as_deref()));
        push_list(&mut sample, &names);
        push(&mut sample, &card.further_images.to_string());
        push_list(&mut sample, pictures);
        push(&mut sample, &self.text(&card.question).to_string());
        push(&mut sample, &self.optional(card.reference.as_deref()));
        push(&mut sample, &corners(card.region));
        push(&mut sample, &card.size.map_or_else(|| "0".to_owned(), |(width, height)| format!("[{width},{height}]")));
        push(&mut sample, &card.tier().to_string());
        sample.push('[');
        for (index, answer) in card.answers.iter().enumerate() {
            if index > 0 {
                sample.push(',');
            }
            self.answer(&mut sample, answer);
        }
        sample.push_str("]]");
        if !self.samples.is_empty() {
            self.samples.push(',');
        }
        self.samples.push_str(&sample);
        self.count += 1;
        before
    }

    /// Takes the last sample back.
    pub fn take_back(&mut self, before: Before) {
        self.strings.truncate(before.strings);
        self.places.retain(|_, place| *place < before.strings);
        self.strings_bytes = before.strings_bytes;
        self.samples.truncate(before.samples_bytes);
        self.count = before.count;
    }

    /// `"strings":[…],"samples":[…]`.
    pub fn finish(self) -> String {
        format!("\"strings\":[{}],\"samples\":[{}]", self.strings.join(","), self.samples)
    }

    /// `[package, mark, text, parsed, score, failure, box, IoU, prompt, after the question, generation, note]`; the prompt's
    /// second text is -1 where the first is the whole.
    fn answer(&mut self, sample: &mut String, answer: &Answer) {
        let mark = Mark::ALL.iter().position(|mark| *mark == answer.mark).unwrap_or(0);
        let _ = write!(sample, "[{},{mark},{},", answer.package, self.text(&answer.text));
        push(sample, &self.optional(answer.parsed.as_deref()));
        push(sample, &number(answer.score));
        push(sample, &self.optional(answer.failure.as_deref()));
        push(sample, &corners(answer.predicted));
        push(sample, &number(answer.iou));
        let (prompt, after) = match &answer.prompt {
            Prompt::Unknown => ("-1".to_owned(), "-1".to_owned()),
            Prompt::Around(before, after) => (self.text(before).to_string(), self.text(after).to_string()),
            Prompt::Whole(prompt) => (self.text(prompt).to_string(), "-1".to_owned()),
        };
        push(sample, &prompt);
        push(sample, &after);
        match &answer.generation {
            Some(generation) => self.generation(sample, generation),
            None => push(sample, "0"),
        }
        sample.push_str(&self.optional(answer.note.as_deref()));
        sample.push(']');
    }

    /// `[tokens, their ids, stop reason, prompt tokens, log-probability, first token ms, each further token ms, group]`; the
    /// group's times are a text `image/vision/projector/prefill/decode/questions`, once for all its samples.
    fn generation(&mut self, sample: &mut String, generation: &Generation) {
        let _ = write!(sample, "[{},", generation.tokens);
        push_list(sample, &generation.token_ids);
        push(sample, &self.text(&generation.stop_reason).to_string());
        push(sample, &generation.prompt_tokens.to_string());
        push(sample, &shortest(generation.log_probability, 5));
        push(sample, &shortest(generation.ttft_ms, TIME_DIGITS));
        push(sample, &generation.tpot_ms.map_or_else(|| "null".to_owned(), |time| shortest(time, TIME_DIGITS)));
        let group = &generation.group;
        let times = [group.image_ms, group.vision_ms, group.projector_ms, group.prefill_ms, group.decode_ms];
        let times = times.map(|time| shortest(time, TIME_DIGITS)).join("/");
        let group =
            if group.questions == 0 { "-1".to_owned() } else { self.text(&format!("{times}/{}", group.questions)).to_string() };
        sample.push_str(&group);
        sample.push_str("],");
    }

    fn optional(&mut self, text: Option<&str>) -> String {
        text.map_or_else(|| "-1".to_owned(), |text| self.text(text).to_string())
    }

    /// Place of a text among the strings.
    fn text(&mut self, text: &str) -> usize {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let json = json_string(text);
        self.strings_bytes += json.len() + 1;
        self.strings.push(json);
        self.places.insert(text.to_owned(), self.strings.len() - 1);
        self.strings.len() - 1
    }
}

/// A text from outside as a JSON string that may stand in a script element.
pub(super) fn json_string(text: &str) -> String {
    let visible = escape::visible(text);
    let quoted = serde_json::Value::String(visible).to_string();
    let mut safe = String::with_capacity(quoted.len());
    for character in quoted.chars() {
        match character {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            _ => safe.push(character),
        }
    }
    safe
}

fn push(sample: &mut String, value: &str) {
    sample.push_str(value);
    sample.push(',');
}

fn push_list<T: ToString>(sample: &mut String, values: &[T]) {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    let _ = write!(sample, "[{}],", values.join(","));
}

/// Exact: the script compares scores.
fn number(value: Option<f64>) -> String {
    match value.filter(|value| value.is_finite()) {
        Some(value) => format!("{value}"),
        None => "null".to_owned(),
    }
}

/// At most so many significant digits. Not-finite numbers are unknown.
fn shortest(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return "null".to_owned();
    }
    let rounded: f64 = format!("{value:.*e}", digits.saturating_sub(1)).parse().unwrap_or(value);
    format!("{rounded}")
}

fn corners(corners: Option<Corners>) -> String {
    // Hundredths of a pixel are finer than any screen shows.
    let rounded = |corners: Corners| corners.map(|value| format!("{}", (value * 100.0).round() / 100.0));
    corners.map_or_else(|| "0".to_owned(), |corners| format!("[{}]", rounded(corners).join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(key: &str, text: &str) -> Card {
        Card {
            benchmark: 2,
            key: key.to_owned(),
            category: Some("object".to_owned()),
            images: vec!["a.png".to_owned()],
            further_images: 0,
            question: "What?".to_owned(),
            reference: None,
            region: Some([1.0, 2.0, 3.456_789, 1e300]),
            size: Some((4, 5)),
            answers: vec![Answer {
                package: 1,
                mark: Mark::Partly,
                text: text.to_owned(),
                parsed: None,
                score: Some(0.1 + 0.2),
                failure: None,
                predicted: None,
                iou: Some(f64::NAN),
                prompt: Prompt::Around("USER: ".to_owned(), String::new()),
                generation: Some(Generation {
                    tokens: 2,
                    token_ids: vec![7, 8],
                    stop_reason: "eos".to_owned(),
                    prompt_tokens: 9,
                    log_probability: f64::NEG_INFINITY,
                    ttft_ms: 12.3456,
                    tpot_ms: None,
                    group: crate::store::GroupTimings { questions: 3, image_ms: 0.000_123_456, ..Default::default() },
                }),
                note: None,
            }],
            broken: true,
            fixed: false,
            data_root: String::new(),
            cluster: 0,
        }
    }

    #[test]
    fn the_data_are_json_and_hold_no_markup() {
        let mut embedding = Embedding::default();
        embedding.add(&card("k</script>", "</script><b>&amp;\u{2028}\u{202e}\u{0}\"\\"), &[0]);
        let bytes = embedding.bytes();
        let json = format!("{{{}}}", embedding.finish());
        assert!(!json.contains(['<', '>', '&', '\u{2028}', '\u{202e}', '\0']), "{json}");
        assert!(json.len().abs_diff(bytes) < 40, "{bytes} of {}", json.len());
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let text = |place: &serde_json::Value| value["strings"][place.as_u64().unwrap() as usize].as_str().unwrap().to_owned();
        let sample = &value["samples"][0];
        assert_eq!((sample[0].as_u64(), sample[1].as_str()), (Some(2), Some("k</script>")));
        assert_eq!(sample[8].to_string(), "[1,2,3.46,1e+300]");
        let answer = &sample[11][0];
        assert_eq!(text(&answer[2]), "</script><b>&amp;⟨U+2028⟩⟨U+202E⟩␀\"\\");
        assert_eq!((answer[4].as_f64(), answer[7].is_null()), (Some(0.1 + 0.2), true));
        assert_eq!(text(&answer[10][7]), "0.000123/0/0/0/0/3");
        assert_eq!((answer[10][4].is_null(), answer[10][5].as_f64()), (true, Some(12.3)));
    }

    #[test]
    fn texts_stand_once_and_a_sample_can_be_taken_back() {
        let mut embedding = Embedding::default();
        embedding.add(&card("1", "yes"), &[]);
        let bytes = embedding.bytes();
        let before = embedding.add(&card("2", "something new"), &[]);
        assert!(embedding.bytes() > bytes);
        embedding.take_back(before);
        assert_eq!((embedding.bytes(), embedding.count()), (bytes, 1));
        embedding.add(&card("2", "yes"), &[]);
        let json = format!("{{{}}}", embedding.finish());
        assert_eq!(json.matches("\"yes\"").count(), 1);
        assert!(!json.contains("something new"));
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
    }
}
