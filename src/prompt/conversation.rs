//! How LLaVA's conversation templates (`llava/conversation.py`) join turns.
//!
//! The image rule is the one of LLaVA's evaluation scripts (`model_vqa_loader.py` and its siblings) for every template:
//! the image marks stand first in the user's turn, each followed by a newline, then the question, unless the question places
//! them itself (`run_llava.py`). Only the scripts of the first release put them after the question. The `mmtag` templates
//! wrap images in `<Image>…</Image>` in the web demo; the evaluation scripts do not, and neither does this room.

use super::conversation_templates::CONVERSATIONS;
use super::error::PromptError;
use super::turn::{ImagePlacement, Role, Turn};

/// How turns are joined, named as `SeparatorStyle` in LLaVA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `system sep (role ": " text sep)…`
    Single,
    /// As `Single`, with the second separator after answers.
    Two,
    /// As `Two`, each text and the whole prompt stripped, and a space after the second separator.
    TwoStripped,
    /// `system sep (role text sep)…`; the roles bring their own newline (ChatML).
    Mpt,
    /// `system sep newline (role newline text sep newline)…`
    ChatMl,
    /// As `Mpt` without a system text.
    Gemma,
    /// The chat template of LLaMA-3 Instruct.
    Llama3,
    /// `[INST] question [/INST] answer`, the system text inside the first question.
    Llama2,
    /// Texts only: the pretraining format.
    Plain,
}

#[derive(Debug)]
pub(super) struct Conversation {
    pub name: &'static str,
    pub style: Style,
    pub system: &'static str,
    pub user: &'static str,
    pub assistant: &'static str,
    pub separator: &'static str,
    pub second_separator: Option<&'static str>,
    /// Turns that come before the user's first, beginning with a question.
    pub examples: &'static [&'static str],
    /// Asked as the scripts of the first release do: images after the question, each after a newline, and the prompt ends
    /// behind the question, so that the model writes the role of the answer itself.
    pub first_release: bool,
    /// What those scripts cut off the front of an answer.
    pub answer_prefixes: &'static [&'static str],
}

/// Names of the conversation templates, as in `conv_templates` of LLaVA.
pub fn conversation_names() -> impl Iterator<Item = &'static str> {
    CONVERSATIONS.iter().map(|conversation| conversation.name)
}

/// Strings that end an answer under a conversation template besides the end-of-sequence ids, or `None` for an unknown
/// name. `###` for the single-separator templates and `<|im_end|>` for ChatML; empty for the templates whose answers end
/// with `</s>`, the end-of-sequence token, and for the plain ones.
pub fn conversation_stop_strings(name: &str) -> Option<Vec<&'static str>> {
    Conversation::by_name(name).map(Conversation::stop_strings)
}

impl Conversation {
    pub fn by_name(name: &str) -> Option<&'static Self> {
        CONVERSATIONS.iter().find(|conversation| conversation.name == name)
    }

    pub fn stop_strings(&self) -> Vec<&'static str> {
        match self.style {
            Style::Single | Style::Mpt | Style::ChatMl | Style::Llama3 => vec![self.separator],
            Style::Gemma => vec![self.separator.trim_end()],
            Style::Two | Style::TwoStripped | Style::Llama2 | Style::Plain => Vec::new(),
        }
    }

    /// The prompt that `get_prompt` of LLaVA gives after `append_message` of each turn and an empty last answer. The turns
    /// alternate from a first to a last question.
    pub fn render(&self, turns: &[Turn], image_mark: &str) -> Result<String, PromptError> {
        let asked = turns.iter().map(|turn| (turn.role, self.marked_text(turn, image_mark)));
        let examples = self.examples.iter().enumerate().map(|(index, text)| {
            let role = if index % 2 == 0 { Role::User } else { Role::Assistant };
            (role, (*text).to_owned())
        });
        let messages = examples.chain(asked);
        match self.style {
            Style::Single | Style::Two | Style::TwoStripped | Style::Mpt | Style::ChatMl | Style::Gemma => {
                self.render_roles(messages)
            }
            Style::Llama3 => Ok(self.render_llama_3(messages)),
            Style::Llama2 => self.render_llama_2(messages),
            Style::Plain => self.render_plain(messages),
        }
    }

    fn marked_text(&self, turn: &Turn, image_mark: &str) -> String {
        if self.first_release && turn.placement == ImagePlacement::BeforeText {
            return format!("{}{}", turn.text, format!("\n{image_mark}").repeat(turn.images));
        }
        turn.marked_text(image_mark)
    }

    /// An answer without what the template's scripts cut off its front.
    pub fn strip_prefixes<'a>(&self, answer: &'a str) -> &'a str {
        let mut rest = answer;
        loop {
            let before = rest.len();
            for prefix in self.answer_prefixes {
                rest = rest.trim_start();
                rest = rest.strip_prefix(prefix).unwrap_or(rest);
            }
            if rest.len() == before {
                return rest;
            }
        }
    }

    fn after_answer(&self) -> Result<&'static str, PromptError> {
        match self.style {
            Style::Single | Style::Mpt | Style::ChatMl | Style::Gemma | Style::Llama3 => Ok(self.separator),
            Style::Two | Style::TwoStripped | Style::Llama2 | Style::Plain => self
                .second_separator
                .ok_or_else(|| PromptError::Conversation(format!("template {} has no separator after an answer", self.name))),
        }
    }

    fn render_roles(&self, messages: impl Iterator<Item = (Role, String)>) -> Result<String, PromptError> {
        // Before a text, before an answer still to come, after each separator, and after that of an answer.
        let (before_text, before_nothing, after, after_answer) = match self.style {
            Style::Mpt | Style::Gemma => ("", "", "", ""),
            Style::ChatMl => ("\n", "\n", "\n", "\n"),
            Style::TwoStripped => (": ", ":", "", " "),
            _ => (": ", ":", "", ""),
        };
        let stripped = self.style == Style::TwoStripped;
        let mut prompt = match self.style {
            Style::Gemma => String::new(),
            _ => format!("{}{}{after}", self.system, self.separator),
        };
        for (role, text) in messages {
            let (name, separator, after) = match role {
                Role::User => (self.user, self.separator, after),
                Role::Assistant => (self.assistant, self.after_answer()?, after_answer),
            };
            prompt.push_str(name);
            // LLaVA takes an empty text for an answer still to come and writes the bare role.
            if text.is_empty() {
                prompt.push_str(before_nothing);
            } else {
                prompt.push_str(before_text);
                prompt.push_str(if stripped { text.trim() } else { &text });
                prompt.push_str(separator);
                prompt.push_str(after);
            }
        }
        if !self.first_release {
            prompt.push_str(self.assistant);
            prompt.push_str(before_nothing);
        }
        Ok(if stripped { prompt.trim().to_owned() } else { prompt })
    }

    fn render_llama_3(&self, messages: impl Iterator<Item = (Role, String)>) -> String {
        let turn =
            |role: &str, text: &str| format!("<|start_header_id|>{role}<|end_header_id|>\n\n{}{}", text.trim(), self.separator);
        let mut prompt = format!("<|begin_of_text|>{}", turn("system", self.system));
        for (role, text) in messages.filter(|(_, text)| !text.is_empty()) {
            prompt.push_str(&turn(role.as_str(), &text));
        }
        prompt.push_str("<|start_header_id|>assistant<|end_header_id|>\n\n");
        prompt
    }

    fn render_llama_2(&self, messages: impl Iterator<Item = (Role, String)>) -> Result<String, PromptError> {
        let mut prompt = String::new();
        for (index, (role, text)) in messages.enumerate() {
            if index == 0 && text.is_empty() {
                return Err(PromptError::Conversation(format!(
                    "template {} needs a first question that is not empty",
                    self.name
                )));
            }
            match role {
                _ if text.is_empty() => {}
                Role::User => {
                    let system = if index == 0 && !self.system.is_empty() {
                        format!("<<SYS>>\n{}\n<</SYS>>\n\n", self.system)
                    } else {
                        String::new()
                    };
                    prompt.push_str(&format!("{}[INST] {system}{text} [/INST]", self.separator));
                }
                Role::Assistant => prompt.push_str(&format!(" {text} {}", self.after_answer()?)),
            }
        }
        // Python's `lstrip(sep)` takes the separator as a set of characters.
        Ok(prompt.trim_start_matches(|character| self.separator.contains(character)).to_owned())
    }

    fn render_plain(&self, messages: impl Iterator<Item = (Role, String)>) -> Result<String, PromptError> {
        let mut prompt = self.system.to_owned();
        for (role, text) in messages.filter(|(_, text)| !text.is_empty()) {
            prompt.push_str(&text);
            prompt.push_str(match role {
                Role::User => self.separator,
                Role::Assistant => self.after_answer()?,
            });
        }
        Ok(prompt)
    }
}
