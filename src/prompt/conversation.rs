//! LLaVA's conversation templates (`llava/conversation.py`) as data, and the five ways in which they join turns.
//!
//! The image rule is the one of LLaVA's evaluation scripts (`model_vqa_loader.py` and its siblings) for every template:
//! the image marks stand first in the user's turn, each followed by a newline, then the question, unless the question places
//! them itself (`run_llava.py`). The 2023 models of the `v0` kind were trained with the image after the question as well, and
//! the `mmtag` templates wrap it in `<Image>…</Image>` in the web demo; the evaluation scripts do neither, and neither does
//! this room.

use super::error::PromptError;
use super::turn::{Role, Turn};

/// How turns are joined, named as `SeparatorStyle` in LLaVA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `system sep (role ": " text sep)…`
    Single,
    /// As `Single`, with the second separator after answers.
    Two,
    /// `system sep (role text sep)…`; the roles bring their own newline (ChatML).
    Mpt,
    /// `[INST] question [/INST] answer`, the system text inside the first question.
    Llama2,
    /// Texts only: the pretraining format.
    Plain,
}

#[derive(Debug)]
pub(super) struct Conversation {
    pub name: &'static str,
    style: Style,
    system: &'static str,
    user: &'static str,
    assistant: &'static str,
    separator: &'static str,
    second_separator: Option<&'static str>,
    /// Turns that come before the user's first, beginning with a question.
    examples: &'static [&'static str],
}

const HUMAN_SYSTEM: &str = "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the human's questions.";
const USER_SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions.";
// LLaVA joins the two sentences without a space.
const MMTAG_SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant is able to understand the visual content that the user provides, and assist the user with a variety of tasks using natural language.The visual content will be provided with the following format: <Image>visual content</Image>.";
const LLAMA_2_SYSTEM: &str = "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.  Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. Please ensure that your responses are socially unbiased and positive in nature.\n\nIf a question does not make any sense, or is not factually coherent, explain why instead of answering something not correct. If you don't know the answer to a question, please don't share false information.";
const LLAVA_LLAMA_2_SYSTEM: &str = "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, and assist the user with a variety of tasks using natural language.";
const MPT_SYSTEM: &str = "<|im_start|>system\nA conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers.";
const CHATML_DIRECT_SYSTEM: &str = "<|im_start|>system\nAnswer the questions.";

const RENEWABLE_EXAMPLE: &[&str] = &[
    "What are the key differences between renewable and non-renewable energy sources?",
    "Renewable energy sources are those that can be replenished naturally in a relatively short amount of time, such as solar, wind, hydro, geothermal, and biomass. Non-renewable energy sources, on the other hand, are finite and will eventually be depleted, such as coal, oil, and natural gas. Here are some key differences between renewable and non-renewable energy sources:\n1. Availability: Renewable energy sources are virtually inexhaustible, while non-renewable energy sources are finite and will eventually run out.\n2. Environmental impact: Renewable energy sources have a much lower environmental impact than non-renewable sources, which can lead to air and water pollution, greenhouse gas emissions, and other negative effects.\n3. Cost: Renewable energy sources can be more expensive to initially set up, but they typically have lower operational costs than non-renewable sources.\n4. Reliability: Renewable energy sources are often more reliable and can be used in more remote locations than non-renewable sources.\n5. Flexibility: Renewable energy sources are often more flexible and can be adapted to different situations and needs, while non-renewable sources are more rigid and inflexible.\n6. Sustainability: Renewable energy sources are more sustainable over the long term, while non-renewable sources are not, and their depletion can lead to economic and social instability.\n",
];

const fn single(name: &'static str, system: &'static str, examples: &'static [&'static str]) -> Conversation {
    Conversation {
        name,
        style: Style::Single,
        system,
        user: "Human",
        assistant: "Assistant",
        separator: "###",
        second_separator: None,
        examples,
    }
}

const fn two(name: &'static str, system: &'static str) -> Conversation {
    Conversation {
        name,
        style: Style::Two,
        system,
        user: "USER",
        assistant: "ASSISTANT",
        separator: " ",
        second_separator: Some("</s>"),
        examples: &[],
    }
}

const fn mpt(name: &'static str, system: &'static str) -> Conversation {
    Conversation {
        name,
        style: Style::Mpt,
        system,
        user: "<|im_start|>user\n",
        assistant: "<|im_start|>assistant\n",
        separator: "<|im_end|>",
        second_separator: None,
        examples: &[],
    }
}

const fn llama_2(name: &'static str, system: &'static str, separator: &'static str) -> Conversation {
    Conversation {
        name,
        style: Style::Llama2,
        system,
        user: "USER",
        assistant: "ASSISTANT",
        separator,
        second_separator: Some("</s>"),
        examples: &[],
    }
}

const fn plain(name: &'static str) -> Conversation {
    Conversation {
        name,
        style: Style::Plain,
        system: "",
        user: "",
        assistant: "",
        separator: "\n",
        second_separator: None,
        examples: &[],
    }
}

static CONVERSATIONS: [Conversation; 16] = [
    plain("plain"),
    single("llava_v0", HUMAN_SYSTEM, &[]),
    two("llava_v1", HUMAN_SYSTEM),
    two("vicuna_v1", USER_SYSTEM),
    // Below: the other names of `conv_templates`. `default` and `v0` carry a worked example, `llava_v0` does not.
    single("default", HUMAN_SYSTEM, RENEWABLE_EXAMPLE),
    single("v0", HUMAN_SYSTEM, RENEWABLE_EXAMPLE),
    two("v1", USER_SYSTEM),
    plain("v0_plain"),
    single("v0_mmtag", MMTAG_SYSTEM, &[]),
    two("v1_mmtag", MMTAG_SYSTEM),
    llama_2("llama_2", LLAMA_2_SYSTEM, "<s>"),
    llama_2("llava_llama_2", LLAVA_LLAMA_2_SYSTEM, "<s>"),
    llama_2("mistral_instruct", "", ""),
    mpt("chatml_direct", CHATML_DIRECT_SYSTEM),
    mpt("mistral_direct", CHATML_DIRECT_SYSTEM),
    mpt("mpt", MPT_SYSTEM),
];

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
            Style::Single | Style::Mpt => vec![self.separator],
            Style::Two | Style::Llama2 | Style::Plain => Vec::new(),
        }
    }

    /// The prompt that `get_prompt` of LLaVA gives after `append_message` of each turn and an empty last answer. The turns
    /// alternate from a first to a last question.
    pub fn render(&self, turns: &[Turn], image_mark: &str) -> Result<String, PromptError> {
        let asked = turns.iter().map(|turn| (turn.role, turn.marked_text(image_mark)));
        let examples = self.examples.iter().enumerate().map(|(index, text)| {
            let role = if index % 2 == 0 { Role::User } else { Role::Assistant };
            (role, (*text).to_owned())
        });
        let messages = examples.chain(asked);
        match self.style {
            Style::Single | Style::Two | Style::Mpt => self.render_roles(messages),
            Style::Llama2 => self.render_llama_2(messages),
            Style::Plain => self.render_plain(messages),
        }
    }

    fn after_answer(&self) -> Result<&'static str, PromptError> {
        match self.style {
            Style::Single | Style::Mpt => Ok(self.separator),
            Style::Two | Style::Llama2 | Style::Plain => self
                .second_separator
                .ok_or_else(|| PromptError::Conversation(format!("template {} has no separator after an answer", self.name))),
        }
    }

    fn render_roles(&self, messages: impl Iterator<Item = (Role, String)>) -> Result<String, PromptError> {
        let (before_text, before_nothing) = if self.style == Style::Mpt { ("", "") } else { (": ", ":") };
        let mut prompt = format!("{}{}", self.system, self.separator);
        for (role, text) in messages {
            let (name, separator) = match role {
                Role::User => (self.user, self.separator),
                Role::Assistant => (self.assistant, self.after_answer()?),
            };
            prompt.push_str(name);
            // LLaVA takes an empty text for an answer still to come and writes the bare role.
            if text.is_empty() {
                prompt.push_str(before_nothing);
            } else {
                prompt.push_str(before_text);
                prompt.push_str(&text);
                prompt.push_str(separator);
            }
        }
        prompt.push_str(self.assistant);
        prompt.push_str(before_nothing);
        Ok(prompt)
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
