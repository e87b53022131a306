//! A package of this machine as a judge: asked in words alone, without an image.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::Globals;
use super::exit::Failure;
use super::model::{self, Model};
use crate::engine::{Engine, ImageGroup, Request, Scheduling};
use crate::judge::{ChatRequest, Refusal, Reply, Responder};
use crate::run::{PrompterStop, segments};

/// Longest reply where a rule leaves it open, in tokens.
const MAX_REPLY_TOKENS: u32 = 1024;

/// A loaded package that replies.
pub struct LocalJudge {
    /// Name and identity of the package.
    name: String,
    /// One question at a time.
    model: Mutex<Model>,
}

impl LocalJudge {
    /// Loads a package: a path, or the name of a shipped one.
    pub fn load(package: &Path, globals: &Globals) -> Result<Self, Failure> {
        let model = model::load(package, None, globals, Scheduling::PackedTree)?;
        let identity = &model.package.identity;
        let name = format!("{}@{}", model.package.manifest.name, identity.get(..16).unwrap_or(identity));
        Ok(Self { name, model: Mutex::new(model) })
    }

    fn reply(&self, request: &ChatRequest) -> Result<Reply, String> {
        // The templates have no place for a system text of one's own, so it stands before the question.
        let text = request.messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n\n");
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let Model { prompter, engine, .. } = &mut *model;
        let prompt = prompter.render(&text, 0).map_err(|error| error.to_string())?;
        let tokenized = prompter.tokenize(&prompt).map_err(|error| error.to_string())?;
        let segments = segments(&tokenized.pieces);
        let max_new_tokens = request.max_tokens.unwrap_or(MAX_REPLY_TOKENS) as usize;
        let stop = PrompterStop { prompter };
        let asked = Request { segments, max_new_tokens, stop: &stop };
        let group = ImageGroup { images: &[], requests: std::slice::from_ref(&asked) };
        let answers = engine.answer(&group).map_err(|error| error.to_string())?.answers;
        let generation =
            answers.into_iter().next().ok_or("the engine returned no answer")?.map_err(|failure| failure.to_string())?;
        let text = prompter.decode(&generation.token_ids).map_err(|error| error.to_string())?;
        let prompt_tokens = tokenized.expanded_ids(&[], 0).map_or(0, |(ids, _)| ids.len() as u64);
        Ok(Reply {
            text: prompter.trim_answer(&text),
            model: None,
            finish_reason: Some(generation.stop_reason.as_str().to_owned()),
            prompt_tokens,
            reply_tokens: generation.token_ids.len() as u64,
        })
    }
}

impl Responder for LocalJudge {
    fn model(&self) -> &str {
        &self.name
    }

    fn place(&self) -> &str {
        "local"
    }

    fn respond(&self, request: &ChatRequest) -> Result<Reply, Refusal> {
        self.reply(request).map_err(|reason| Refusal::Sample { reason })
    }
}
