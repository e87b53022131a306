//! A tokenised prompt: text tokens with images between them.

use std::ops::Range;

use super::error::PromptError;

/// Longest prompt that is expanded, image rows included, in tokens: far beyond any LLaVA context, small enough that a
/// wrong row count cannot exhaust memory.
pub const MAXIMUM_EXPANDED_TOKENS: usize = 1 << 22;

/// A part of a tokenised prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text tokens, at least one.
    Tokens(Vec<u32>),
    /// The rows of the image with this number; images are numbered from 0 in the order of the prompt.
    Image(usize),
}

/// A prompt in tokens, its images not yet expanded to rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizedPrompt {
    /// Its parts in order.
    pub pieces: Vec<Piece>,
}

impl TokenizedPrompt {
    pub(super) fn push_token(&mut self, id: u32) {
        if let Some(Piece::Tokens(ids)) = self.pieces.last_mut() {
            ids.push(id);
        } else {
            self.pieces.push(Piece::Tokens(vec![id]));
        }
    }

    pub(super) fn push_image(&mut self) {
        self.pieces.push(Piece::Image(self.image_count()));
    }

    /// Number of images.
    pub fn image_count(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece, Piece::Image(_))).count()
    }

    /// Number of text tokens.
    pub fn text_token_count(&self) -> usize {
        self.pieces.iter().map(|piece| if let Piece::Tokens(ids) = piece { ids.len() } else { 0 }).sum()
    }

    /// The ids of the whole prompt with `image_token` repeated once per row of each image, and where each image's rows
    /// stand. `rows_per_image` are in tokens, one entry per image. With the image token of a Hugging Face checkpoint these
    /// are the `input_ids` of its processor; with one row per image and -200 they are those of LLaVA's
    /// `tokenizer_image_token`.
    pub fn expanded_ids(&self, rows_per_image: &[usize], image_token: i64) -> Result<(Vec<i64>, Vec<Range<usize>>), PromptError> {
        if rows_per_image.len() != self.image_count() {
            return Err(PromptError::RowCount { images: self.image_count(), rows: rows_per_image.len() });
        }
        let total = rows_per_image.iter().copied().fold(self.text_token_count(), usize::saturating_add);
        if total > MAXIMUM_EXPANDED_TOKENS {
            return Err(PromptError::TooManyTokens { limit_tokens: MAXIMUM_EXPANDED_TOKENS });
        }
        let mut ids = Vec::with_capacity(total);
        let mut spans = Vec::with_capacity(rows_per_image.len());
        let mut rows = rows_per_image.iter().copied();
        for piece in &self.pieces {
            match piece {
                Piece::Tokens(tokens) => ids.extend(tokens.iter().map(|&id| i64::from(id))),
                Piece::Image(_) => {
                    let start = ids.len();
                    ids.resize(start + rows.next().unwrap_or(0), image_token);
                    spans.push(start..ids.len());
                }
            }
        }
        Ok((ids, spans))
    }
}
