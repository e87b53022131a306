//! The prompt room: from a question to tokens, and from tokens to an answer.
//!
//! Owns LLaVA's conversation templates, Hugging Face chat templates (in a sandbox), the image splice plan, both ways of
//! tokenising around images, decoding, and the stop rules. Versions of LLaVA are data: a `PromptRecipe` picks among them.
//! It must not know benchmarks, engines or graphs: it takes questions and gives token pieces.

mod chat_template;
mod clip_tokenizer;
mod continuation;
mod conversation;
mod conversation_templates;
mod error;
mod json;
mod pieces;
mod prompter;
mod stop;
mod template_source;
mod tokenizer_file;
mod turn;

pub use clip_tokenizer::ClipTokenizer;
pub use continuation::Continuations;
pub use conversation::{conversation_names, conversation_stop_strings};
pub use error::PromptError;
pub use pieces::{MAXIMUM_EXPANDED_TOKENS, Piece, TokenizedPrompt};
pub use prompter::{MAXIMUM_TEXT_BYTES, Prompter, USER_IMAGE_MARK};
pub use stop::Finish;
pub use turn::{ImagePlacement, Role, Turn};

#[cfg(test)]
mod tests;
