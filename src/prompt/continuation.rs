//! Given answers in tokens: what a model would have to generate to say them.
//!
//! The rule: a candidate is tokenised as the text that follows the prompt. The whole text, prompt and candidate, is tokenised
//! at once, and what it has beyond the tokens that it shares with the prompt is the candidate. Where a tokenizer joins the end
//! of a prompt with the beginning of a candidate, all candidates of a question keep to the shortest shared part, so that they
//! are judged after the same tokens.
//!
//! Between prompt and candidate stands what the template itself writes before an answer: `ASSISTANT:` is followed by a space,
//! ChatML's `assistant` and its newline by nothing, and the templates of the first release have the model write its own role.
//! It is found by rendering the conversation with an answer.

use super::error::PromptError;
use super::pieces::{Piece, TokenizedPrompt};
use super::prompter::{MAXIMUM_TEXT_BYTES, Prompter};
use super::turn::Turn;

/// An answer that no template changes and no question contains.
const PROBE: &str = "Qx7probe7xQ";

/// A prompt with the continuations that are to be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuations {
    /// What all of them follow.
    pub prompt: TokenizedPrompt,
    /// Token ids of each, at least one.
    pub candidates: Vec<Vec<u32>>,
}

impl Prompter {
    /// The candidates `texts` after the prompt that [`render_conversation`](Self::render_conversation) gave for `turns`. With
    /// `end_of_sequence` each is followed by the package's first end-of-sequence token, as an answer that is complete.
    pub fn continuations(
        &self,
        turns: &[Turn],
        rendered: &str,
        texts: &[String],
        end_of_sequence: bool,
    ) -> Result<Continuations, PromptError> {
        let lead = self.answer_lead(turns, rendered);
        let prompt = flat(&self.tokenize(rendered)?);
        let mut sequences = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            if text.trim().is_empty() {
                return Err(PromptError::Continuation { index, message: "it has no text".to_owned() });
            }
            if text.len() > MAXIMUM_TEXT_BYTES {
                return Err(PromptError::TextTooLong { found_bytes: text.len(), limit_bytes: MAXIMUM_TEXT_BYTES });
            }
            if text.contains(self.image_mark()) {
                let message = format!("{text:?} contains the image mark {:?}", self.image_mark());
                return Err(PromptError::Continuation { index, message });
            }
            sequences.push(flat(&self.tokenize(&format!("{rendered}{lead}{text}"))?));
        }
        let shared = sequences.iter().map(|sequence| common(&prompt, sequence)).min().unwrap_or(prompt.len());
        let end = if end_of_sequence { self.first_end_of_sequence() } else { None };
        let mut candidates = Vec::with_capacity(sequences.len());
        for (index, sequence) in sequences.iter().enumerate() {
            let rest = sequence.get(shared..).unwrap_or_default();
            let mut ids: Vec<u32> =
                rest.iter().filter_map(|item| if let Item::Token(id) = item { Some(*id) } else { None }).collect();
            if ids.is_empty() || ids.len() < rest.len() {
                let message = format!("{:?} does not follow the prompt in tokens of its own", texts.get(index));
                return Err(PromptError::Continuation { index, message });
            }
            ids.extend(end);
            candidates.push(ids);
        }
        let mut context = TokenizedPrompt::default();
        for item in prompt.iter().take(shared) {
            match item {
                Item::Token(id) => context.push_token(*id),
                Item::Image => context.push_image(),
            }
        }
        Ok(Continuations { prompt: context, candidates })
    }

    /// What the template writes between a rendered prompt and its answer. A template that does not render a finished turn
    /// after that prompt leaves the usual rule: a space, unless the prompt ends in white space.
    fn answer_lead(&self, turns: &[Turn], rendered: &str) -> String {
        let mut finished = turns.to_vec();
        finished.extend([Turn::assistant(PROBE), Turn::user("next", 0)]);
        let lead = self.render_conversation(&finished).ok().and_then(|text| {
            let rest = text.strip_prefix(rendered)?;
            Some(rest.get(..rest.find(PROBE)?)?.to_owned())
        });
        lead.unwrap_or_else(|| {
            let ends_open = rendered.is_empty() || rendered.ends_with(char::is_whitespace);
            if ends_open { String::new() } else { " ".to_owned() }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Token(u32),
    Image,
}

fn flat(prompt: &TokenizedPrompt) -> Vec<Item> {
    let mut items = Vec::new();
    for piece in &prompt.pieces {
        match piece {
            Piece::Tokens(ids) => items.extend(ids.iter().map(|&id| Item::Token(id))),
            Piece::Image(_) => items.push(Item::Image),
        }
    }
    items
}

fn common(left: &[Item], right: &[Item]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::package::Package;

    fn prompter(name: &str) -> Prompter {
        Prompter::open(&Package::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("exports").join(name)).unwrap()).unwrap()
    }

    fn with_template(name: &str) -> Prompter {
        let package = Package::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("exports/pico-llava-v1")).unwrap();
        let template = crate::package::PromptTemplate::Conversation(name.to_owned());
        Prompter::open_folder(&package.root, &crate::package::PromptRecipe { template, ..package.manifest.prompt }).unwrap()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn made(prompter: &Prompter, candidates: &[&str], end: bool) -> (String, Result<Continuations, PromptError>) {
        let turns = [Turn::user("What color is it?", 1)];
        let rendered = prompter.render_conversation(&turns).unwrap();
        let made = prompter.continuations(&turns, &rendered, &texts(candidates), end);
        (rendered, made)
    }

    #[test]
    fn candidates_follow_as_the_template_writes_answers() {
        for (name, lead) in [
            ("pico-llava-1.5", " "),
            ("pico-llava-next", " "),
            ("pico-llava-med", " "),
            ("pico-llava-1.5-stage1", " "),
            ("pico-llava-v1", " "),
            // The first release asks without a role for the answer, which the model writes itself.
            ("llava_med_simple", "Assistant: "),
            ("chatml_direct", ""),
            ("llava_llama_2", " "),
        ] {
            let prompter = if name.starts_with("pico") { prompter(name) } else { with_template(name) };
            let (rendered, made) = made(&prompter, &["red", "A", "dark green"], false);
            assert_eq!(prompter.answer_lead(&[Turn::user("What color is it?", 1)], &rendered), lead, "{name}: {rendered:?}");
            let made = made.unwrap();
            let whole = flat(&prompter.tokenize(&rendered).unwrap());
            assert_eq!(flat(&made.prompt), whole, "{name}: no part of the prompt is tokenised otherwise");
            for (text, ids) in ["red", "A", "dark green"].iter().zip(&made.candidates) {
                let all = flat(&prompter.tokenize(&format!("{rendered}{lead}{text}")).unwrap());
                let own: Vec<Item> = ids.iter().map(|&id| Item::Token(id)).collect();
                assert_eq!(all, [whole.clone(), own].concat(), "{name}: {text}");
                let said = prompter.decode(ids).unwrap();
                assert!(format!("{lead}{text}").trim().ends_with(said.trim()) && said.ends_with(text), "{name}: {said:?}");
            }
            let (_, ended) = self::made(&prompter, &["red"], true);
            let ended = ended.unwrap();
            assert_eq!(ended.candidates[0].len(), made.candidates[0].len() + 1, "{name}");
            assert_eq!(ended.candidates[0].last().copied(), prompter.first_end_of_sequence(), "{name}");
        }
    }

    #[test]
    fn what_cannot_follow_is_refused() {
        let prompter = prompter("pico-llava-1.5");
        for (candidates, part) in [
            (&["red", ""][..], "candidate 1: it has no text"),
            (&[" \n"][..], "candidate 0: it has no text"),
            (&["<image>"][..], "contains the image mark"),
        ] {
            let message = made(&prompter, candidates, false).1.unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn joined_tokens_leave_all_candidates_the_same_prompt() {
        let prompter = prompter("pico-llava-1.5");
        // A prompt that ends within a word: some candidates would join its last token.
        let turns = [Turn::user("x", 0)];
        let rendered = "the color is r".to_owned();
        let made = prompter.continuations(&turns, &rendered, &texts(&["ed", "(A)"]), false).unwrap();
        let lead = prompter.answer_lead(&turns, &rendered);
        for (text, ids) in ["ed", "(A)"].iter().zip(&made.candidates) {
            let all = flat(&prompter.tokenize(&format!("{rendered}{lead}{text}")).unwrap());
            let own: Vec<Item> = ids.iter().map(|&id| Item::Token(id)).collect();
            assert_eq!(all, [flat(&made.prompt), own].concat());
        }
    }
}
