//! The file of `ask --conversation`: the earlier turns of a conversation, with their images.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde::Deserialize;

use super::exit::{Exit, Failure};
use crate::guard::files::read_text_capped;
use crate::prompt::{Prompter, Role, Turn};

/// Largest conversation file; more text than any context holds.
const LIMIT_BYTES: u64 = 1 << 20;

/// Turns and the images of all of them, in order.
#[derive(Debug, Default)]
pub struct Conversation {
    /// The turns.
    pub turns: Vec<Turn>,
    /// Image files in the order of the turns.
    pub images: Vec<PathBuf>,
}

/// A turn as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTurn {
    role: Role,
    text: String,
    /// Paths from the folder of the file.
    #[serde(default)]
    images: Vec<PathBuf>,
}

impl Conversation {
    /// Reads `[{"role": "user", "text": …, "images": […]}, {"role": "assistant", "text": …}, …]`. Image files are named from
    /// the folder of the file; `<image>` in a text places them.
    pub fn read(path: &Path, prompter: &Prompter) -> Result<Self, Failure> {
        let text = read_text_capped(path, LIMIT_BYTES)?;
        let rejected = |message: String| Failure::new(Exit::Rejected, anyhow!("{}: {message}", path.display()));
        let turns: Vec<FileTurn> = serde_json::from_str(&text).map_err(|error| rejected(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut conversation = Self::default();
        for (index, turn) in turns.into_iter().enumerate() {
            let FileTurn { role, text, images } = turn;
            let turn = match role {
                Role::User => {
                    prompter.user_turn(&text, images.len()).map_err(|error| rejected(format!("turn {index}: {error}")))?
                }
                Role::Assistant => Turn { images: images.len(), ..Turn::assistant(text) },
            };
            conversation.turns.push(turn);
            conversation.images.extend(images.into_iter().map(|image| folder.join(image)));
        }
        Ok(conversation)
    }

    /// Adds the question of the command line, which must be the next turn; without one, the file's last turn is the
    /// question.
    pub fn ask(&mut self, prompter: &Prompter, prompt: Option<&str>, images: &[PathBuf]) -> Result<(), Failure> {
        let setup = |message: &str| Err(Failure::new(Exit::Setup, anyhow!("{message}")));
        let ends_with_question = self.turns.last().is_some_and(|turn| turn.role == Role::User);
        match prompt {
            Some(_) if ends_with_question => {
                setup("the conversation file ends with a question; leave --prompt out, or end the file with an answer")
            }
            Some(text) => {
                let turn = prompter.user_turn(text, images.len()).map_err(|error| Failure::new(Exit::Setup, error))?;
                self.turns.push(turn);
                self.images.extend_from_slice(images);
                Ok(())
            }
            None if !ends_with_question => setup("the conversation file does not end with a question; give it with --prompt"),
            None if !images.is_empty() => {
                setup("--image belongs to the question of --prompt; images of the file's turns stand in its `images`")
            }
            None => Ok(()),
        }
    }
}
