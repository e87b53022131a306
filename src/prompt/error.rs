//! What can go wrong between a question and its tokens.

use crate::guard::files::GuardError;

/// Why a prompt could not be made, or a package's prompt files could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// A file of the package could not be read.
    #[error(transparent)]
    File(#[from] GuardError),
    /// `tokenizer.json` is not a tokenizer, or one that is refused.
    #[error("tokenizer.json: {0}")]
    TokenizerFile(String),
    /// The tokenizer failed on a text or on ids.
    #[error("the tokenizer failed while {doing}: {message}")]
    Tokenizer {
        /// `encoding` or `decoding`.
        doing: &'static str,
        /// Its own words.
        message: String,
    },
    /// A field of the package's prompt recipe does not fit the rest of the package.
    #[error("prompt.{field} in package.toml: expected {expected}, found {found}")]
    Recipe {
        /// The field.
        field: &'static str,
        /// What would fit.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A chat template does not compile, or fails or misbehaves on a conversation.
    #[error("chat template {template}: {message}")]
    ChatTemplate {
        /// Its file name.
        template: String,
        /// What is wrong.
        message: String,
    },
    /// A text holds the mark that stands for an image, which would splice an image where the benchmark has none.
    #[error("the text of turn {turn} contains the image mark {mark:?}; a question's text must not place images itself")]
    ImageMarkInText {
        /// Position in the conversation, from 0.
        turn: usize,
        /// The mark.
        mark: String,
    },
    /// A question's text places another number of images than are shown with it.
    #[error(
        "the question has {marks} image marks {mark:?} for {images} images; expected one mark for each image, or none: then they \
         stand before the question"
    )]
    ImageMarks {
        /// The mark.
        mark: String,
        /// Marks in the text.
        marks: usize,
        /// Images shown with it.
        images: usize,
    },
    /// The turns are not a conversation that the template can render.
    #[error("conversation: {0}")]
    Conversation(String),
    /// A text is longer than any prompt can be.
    #[error("the conversation has {found_bytes} bytes of text; at most {limit_bytes} are accepted")]
    TextTooLong {
        /// Bytes found.
        found_bytes: usize,
        /// Bytes accepted.
        limit_bytes: usize,
    },
    /// A rendered prompt and its tokens do not agree on the number of images.
    #[error("the prompt has {marks} image marks, but the tokenizer found {found} of them (expected token id {image_token_id})")]
    ImageTokens {
        /// Marks in the text.
        marks: usize,
        /// Image tokens found.
        found: usize,
        /// The id looked for.
        image_token_id: u32,
    },
    /// A prompt is expanded with rows for another number of images than it has.
    #[error("the prompt has {images} images, but row counts for {rows} were given")]
    RowCount {
        /// Images in the prompt.
        images: usize,
        /// Row counts given.
        rows: usize,
    },
    /// A prompt with its image rows is longer than any graph runs.
    #[error("the prompt with its image rows has more than {limit_tokens} tokens")]
    TooManyTokens {
        /// The cap.
        limit_tokens: usize,
    },
    /// A given answer cannot follow its prompt.
    #[error("candidate {index}: {message}")]
    Continuation {
        /// Position among the candidates, from 0.
        index: usize,
        /// What is wrong.
        message: String,
    },
}
