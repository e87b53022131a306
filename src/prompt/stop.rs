//! When an answer is complete, and what of it counts.

use tokenizers::Tokenizer;

use super::error::PromptError;

/// Whether an answer is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The newest token is an end-of-sequence id.
    Eos,
    /// The newest token completed a stop string.
    StopString,
    /// It goes on.
    No,
}

/// Tokens decoded beyond the length of the longest stop string: a decoder may drop a leading space, and a tail cut inside
/// a character of several byte tokens begins with up to three replacement characters.
const MARGIN_TOKENS: usize = 8;

/// End ids and stop strings of a recipe and its template.
pub(super) struct StopRules {
    eos_ids: Vec<u32>,
    /// Stop strings that are special tokens: decoding skips them, so they are recognised by id.
    stop_ids: Vec<u32>,
    strings: Vec<String>,
    /// Bytes of the longest stop string.
    longest_bytes: usize,
}

impl StopRules {
    pub fn new(eos_ids: Vec<u32>, strings: Vec<String>, tokenizer: &Tokenizer) -> Self {
        let added = tokenizer.get_added_vocabulary();
        let stop_ids = strings.iter().filter(|text| added.is_special_token(text)).filter_map(|text| tokenizer.token_to_id(text));
        let longest_bytes = strings.iter().map(String::len).max().unwrap_or(0);
        Self { eos_ids, stop_ids: stop_ids.collect(), longest_bytes, strings }
    }

    /// Judges the newest of `ids`; to be asked after each token, so an earlier stop is not looked for again. `decode` turns
    /// ids into text, special tokens skipped.
    pub fn finished(&self, ids: &[u32], tokenizer: &Tokenizer, decode: impl Fn(&[u32]) -> Result<String, PromptError>) -> Finish {
        let Some(&newest) = ids.last() else { return Finish::No };
        if self.eos_ids.contains(&newest) {
            return Finish::Eos;
        }
        if self.stop_ids.contains(&newest) {
            return Finish::StopString;
        }
        if self.strings.is_empty() {
            return Finish::No;
        }
        // Each token that is not special gives at least one byte, so the stop string that the newest token completes lies
        // in this many of them.
        let wanted = self.longest_bytes + MARGIN_TOKENS;
        let added = tokenizer.get_added_vocabulary();
        let mut start = ids.len();
        let mut visible = 0;
        while start > 0 && visible < wanted {
            start -= 1;
            let id = ids.get(start).copied().unwrap_or_default();
            let skipped = added.simple_id_to_token(id).is_some_and(|token| added.is_special_token(&token));
            visible += usize::from(!skipped);
        }
        let tail = decode(ids.get(start..).unwrap_or_default()).unwrap_or_default();
        let holds = |text: &str| self.strings.iter().any(|stop| text.contains(stop.as_str()));
        // A tail that begins inside a run of byte tokens can read otherwise than the whole, in which one byte that is no UTF-8 spoils
        // the run; the whole has the last word, and is decoded only where the tail says stop.
        let stopped = holds(&tail) && (start == 0 || holds(&decode(ids).unwrap_or_default()));
        if stopped { Finish::StopString } else { Finish::No }
    }

    /// What of a text without a stop string stays in the answer whatever follows: all but an end that may begin a stop string.
    pub fn settled<'a>(&self, text: &'a str) -> &'a str {
        let mut kept = text.len();
        for stop in &self.strings {
            let beginnings = (1..stop.len()).rev().filter_map(|length| stop.get(..length));
            if let Some(longest) = beginnings.into_iter().find(|beginning| text.ends_with(beginning)) {
                kept = kept.min(text.len() - longest.len());
            }
        }
        text.get(..kept).unwrap_or(text)
    }

    /// The answer before the first stop string, stripped as Python's `str.strip` does.
    pub fn trim<'a>(&self, text: &'a str) -> &'a str {
        let end = self.strings.iter().filter_map(|stop| text.find(stop.as_str())).min().unwrap_or(text.len());
        text.get(..end).unwrap_or(text).trim_matches(is_python_space)
    }
}

/// Python counts the four information separators as white space; Unicode's property does not.
pub(super) fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}
