//! Turns of a conversation, before any template.

use serde::{Deserialize, Serialize};

use super::error::PromptError;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name that chat templates use: `user` or `assistant`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said, without image marks.
    pub text: String,
    /// Images shown with it; they stand before its text. Always 0 for the assistant.
    pub images: usize,
}

impl Turn {
    /// A question with `images` images before it.
    pub fn user(text: impl Into<String>, images: usize) -> Self {
        Self { role: Role::User, text: text.into(), images }
    }

    /// An answer.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self { role: Role::Assistant, text: text.into(), images: 0 }
    }
}

/// Images of all turns together.
pub(super) fn image_count(turns: &[Turn]) -> usize {
    turns.iter().map(|turn| turn.images).fold(0, usize::saturating_add)
}

/// Refuses what no template renders: turns that do not alternate from a first to a last question, images in answers, texts
/// that hold the image mark, and texts or image counts that are too large.
pub(super) fn check(turns: &[Turn], image_mark: &str, limit_bytes: usize) -> Result<(), PromptError> {
    if turns.len().is_multiple_of(2) {
        return Err(PromptError::Conversation("it must begin and end with a question".to_owned()));
    }
    for (index, turn) in turns.iter().enumerate() {
        let expected = if index % 2 == 0 { Role::User } else { Role::Assistant };
        if turn.role != expected {
            return Err(PromptError::Conversation(format!(
                "turn {index} must be of the {}, found the {}",
                expected.as_str(),
                turn.role.as_str()
            )));
        }
        if turn.role == Role::Assistant && turn.images > 0 {
            return Err(PromptError::Conversation(format!("turn {index} is an answer and cannot show images")));
        }
        if turn.text.contains(image_mark) {
            return Err(PromptError::ImageMarkInText { turn: index, mark: image_mark.to_owned() });
        }
    }
    // An image mark counts like text here: a prompt with a million images is as absurd as one with megabytes of text.
    let found_bytes = turns
        .iter()
        .map(|turn| turn.text.len().saturating_add(turn.images.saturating_mul(image_mark.len() + 1)))
        .fold(0, usize::saturating_add);
    if found_bytes > limit_bytes {
        return Err(PromptError::TextTooLong { found_bytes, limit_bytes });
    }
    Ok(())
}
