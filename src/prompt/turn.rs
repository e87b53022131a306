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

/// Where the images of a turn stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImagePlacement {
    /// Before its text, as the reference has it for a question about images.
    #[default]
    BeforeText,
    /// At the image marks in its text, of which there are as many as images.
    AtMarks,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said; with image marks only if they place its images.
    pub text: String,
    /// Images shown with it. Always 0 for the assistant.
    pub images: usize,
    /// Where they stand.
    #[serde(default)]
    pub placement: ImagePlacement,
}

/// A part of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// An image.
    Image,
    /// Text between images.
    Text(&'a str),
}

impl Turn {
    /// A question with `images` images before it.
    pub fn user(text: impl Into<String>, images: usize) -> Self {
        Self { role: Role::User, text: text.into(), images, placement: ImagePlacement::BeforeText }
    }

    /// A question whose text holds an image mark for each of its `images`.
    pub fn user_at_marks(text: impl Into<String>, images: usize) -> Self {
        Self { placement: ImagePlacement::AtMarks, ..Self::user(text, images) }
    }

    /// An answer.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self { role: Role::Assistant, text: text.into(), images: 0, placement: ImagePlacement::BeforeText }
    }

    /// The turn as one string: with its marks where they are, or a mark and a newline for each image before the text.
    pub(super) fn marked_text(&self, image_mark: &str) -> String {
        match self.placement {
            ImagePlacement::BeforeText => format!("{}{}", format!("{image_mark}\n").repeat(self.images), self.text),
            ImagePlacement::AtMarks => self.text.clone(),
        }
    }

    /// The turn as parts in order. Empty texts between marks are no parts.
    pub(super) fn parts<'a>(&'a self, image_mark: &str) -> Vec<Part<'a>> {
        if self.placement == ImagePlacement::BeforeText {
            let images = std::iter::repeat_n(Part::Image, self.images);
            return images.chain([Part::Text(self.text.as_str())]).collect();
        }
        let mut parts = Vec::new();
        for (index, text) in self.text.split(image_mark).enumerate() {
            if index > 0 {
                parts.push(Part::Image);
            }
            if !text.is_empty() {
                parts.push(Part::Text(text));
            }
        }
        parts
    }
}

/// Images of all turns together.
pub(super) fn image_count(turns: &[Turn]) -> usize {
    turns.iter().map(|turn| turn.images).fold(0, usize::saturating_add)
}

/// Refuses what no template renders: turns that do not alternate from a first to a last question, images in answers, texts
/// whose image marks do not place their images, and texts or image counts that are too large.
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
        let marks = turn.text.matches(image_mark).count();
        match turn.placement {
            ImagePlacement::BeforeText if marks > 0 => {
                return Err(PromptError::ImageMarkInText { turn: index, mark: image_mark.to_owned() });
            }
            ImagePlacement::AtMarks if marks != turn.images => {
                return Err(PromptError::ImageMarks { mark: image_mark.to_owned(), marks, images: turn.images });
            }
            _ => {}
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
