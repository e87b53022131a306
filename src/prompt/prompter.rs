//! One package's way from a question to tokens and back.

use std::path::Path;

use tokenizers::Tokenizer;
use tokenizers::utils::parallelism::set_parallelism;

use super::chat_template::ChatTemplate;
use super::conversation::{Conversation, conversation_names};
use super::error::PromptError;
use super::pieces::TokenizedPrompt;
use super::stop::{Finish, StopRules, is_python_space};
use super::template_source;
use super::tokenizer_file::{load, shielded};
use super::turn::{self, Turn};
use crate::guard::files::{contained, read_capped, read_text_capped};
use crate::package::{Package, PromptRecipe, PromptTemplate, TokenizationMode};

/// Most text that one conversation may hold, image marks included, in bytes: several times the longest LLaVA context.
pub const MAXIMUM_TEXT_BYTES: usize = 256 << 10;

/// Largest `tokenizer.json` that is read; the largest published ones have about 35 MB.
pub(super) const MAXIMUM_TOKENIZER_BYTES: u64 = 64 << 20;

/// Largest file with a chat template that is read: `tokenizer_config.json` also lists added tokens.
const MAXIMUM_TEMPLATE_FILE_BYTES: u64 = 4 << 20;

/// Longest stop string in bytes: each generated token is judged against as many tokens.
const MAXIMUM_STOP_STRING_BYTES: usize = 256;

/// What stands for an image in the texts of people and of LLaVA's data files, whatever mark the package itself has.
pub const USER_IMAGE_MARK: &str = "<image>";

const IMAGE_START: &str = "<im_start>";
const IMAGE_END: &str = "<im_end>";

enum Template {
    Conversation(&'static Conversation),
    Chat(Box<ChatTemplate>),
}

/// Renders, tokenises, decodes and stops as the package's recipe says. Made once for a package and shared by threads.
pub struct Prompter {
    recipe: PromptRecipe,
    tokenizer: Tokenizer,
    template: Template,
    stop: StopRules,
    /// Text of the beginning-of-sequence token.
    bos_token: Option<String>,
}

impl Prompter {
    /// Opens the prompt side of a package.
    pub fn open(package: &Package) -> Result<Self, PromptError> {
        Self::open_folder(&package.root, &package.manifest.prompt)
    }

    /// Opens the tokenizer and the chat template, if the recipe names one, of the package in `root`.
    pub fn open_folder(root: &Path, recipe: &PromptRecipe) -> Result<Self, PromptError> {
        let tokenizer_json = read_capped(&contained(root, "tokenizer.json")?, MAXIMUM_TOKENIZER_BYTES)?;
        let chat_template = match &recipe.template {
            PromptTemplate::Conversation(_) => None,
            PromptTemplate::ChatTemplate(file) => {
                let text = read_text_capped(&contained(root, file)?, MAXIMUM_TEMPLATE_FILE_BYTES)?;
                let source = template_source::extract(file, text)
                    .map_err(|message| PromptError::ChatTemplate { template: file.clone(), message })?;
                Some(source)
            }
        };
        Self::new(recipe.clone(), &tokenizer_json, chat_template)
    }

    /// A token that both tokenizers know under different ids, with its id here and there; the first in alphabetical order. Added
    /// tokens, such as the mark of an image, stand where each checkpoint has put them and do not count. With none, text is the same
    /// to both.
    pub fn token_conflict(&self, other: &Self) -> Option<(String, u32, u32)> {
        let theirs = other.tokenizer.get_vocab(false);
        let mine = self.tokenizer.get_vocab(false);
        let conflicts = mine.into_iter().filter_map(|(token, id)| {
            let their_id = *theirs.get(&token)?;
            (id != their_id).then_some((token, id, their_id))
        });
        conflicts.min()
    }

    /// Builds a prompter from the contents of `tokenizer.json` and the source of the chat template, which is needed exactly
    /// if the recipe names one.
    pub fn new(recipe: PromptRecipe, tokenizer_json: &[u8], chat_template: Option<String>) -> Result<Self, PromptError> {
        // One prompt at a time gains nothing from threads inside the tokenizer, and the engine needs the cores.
        set_parallelism(false);
        if tokenizer_json.len() as u64 > MAXIMUM_TOKENIZER_BYTES {
            return Err(PromptError::TokenizerFile(format!("larger than {MAXIMUM_TOKENIZER_BYTES} bytes")));
        }
        check_strings(&recipe)?;
        let tokenizer = load(tokenizer_json)?;
        check_tokens(&recipe, &tokenizer)?;
        let bos_token = recipe.bos_token_id.and_then(|id| tokenizer.id_to_token(id));
        let mut stop_strings = recipe.stop_strings.clone();
        let template = match &recipe.template {
            PromptTemplate::Conversation(name) => {
                let conversation = Conversation::by_name(name).ok_or_else(|| PromptError::Recipe {
                    field: "template",
                    expected: format!("one of {}", conversation_names().collect::<Vec<_>>().join(", ")),
                    found: name.clone(),
                })?;
                stop_strings.extend(conversation.stop_strings().into_iter().map(str::to_owned));
                Template::Conversation(conversation)
            }
            PromptTemplate::ChatTemplate(file) => {
                let source = chat_template.ok_or_else(|| PromptError::ChatTemplate {
                    template: file.clone(),
                    message: "its source is missing".to_owned(),
                })?;
                let eos_token = recipe.eos_token_ids.first().and_then(|&id| tokenizer.id_to_token(id));
                let special_tokens = [("bos_token", bos_token.clone()), ("eos_token", eos_token)];
                let special_tokens = special_tokens.into_iter().filter_map(|(name, token)| Some((name, token?))).collect();
                Template::Chat(Box::new(ChatTemplate::new(file, &source, &recipe.image_mark, special_tokens)?))
            }
        };
        stop_strings.sort_unstable();
        stop_strings.dedup();
        let stop = StopRules::new(recipe.eos_token_ids.clone(), stop_strings, &tokenizer);
        Ok(Self { recipe, tokenizer, template, stop, bos_token })
    }

    /// What stands for an image in a rendered prompt.
    pub(super) fn image_mark(&self) -> &str {
        &self.recipe.image_mark
    }

    /// The first of the ids that end an answer.
    pub(super) fn first_end_of_sequence(&self) -> Option<u32> {
        self.recipe.eos_token_ids.first().copied()
    }

    /// Name of the template: that of the conversation template, or the chat template's file name.
    pub fn template_name(&self) -> &str {
        match &self.recipe.template {
            PromptTemplate::Conversation(name) | PromptTemplate::ChatTemplate(name) => name,
        }
    }

    /// Renders one question with `images` images before it, up to where the answer begins.
    pub fn render(&self, user_text: &str, images: usize) -> Result<String, PromptError> {
        self.render_conversation(&[Turn::user(user_text, images)])
    }

    /// A question with `images` images. If its text has [`USER_IMAGE_MARK`] as often, they stand there; if it has none, they
    /// stand before it.
    pub fn user_turn(&self, text: &str, images: usize) -> Result<Turn, PromptError> {
        let marks = text.matches(USER_IMAGE_MARK).count();
        if marks == 0 {
            return Ok(Turn::user(text, images));
        }
        if marks != images {
            return Err(PromptError::ImageMarks { mark: USER_IMAGE_MARK.to_owned(), marks, images });
        }
        Ok(Turn::user_at_marks(text.replace(USER_IMAGE_MARK, &self.recipe.image_mark), images))
    }

    /// Renders a conversation that begins and ends with a question, up to where the next answer begins. Each image is one
    /// mark, at the marks of its turn or where the reference puts it; a text with other marks is refused.
    pub fn render_conversation(&self, turns: &[Turn]) -> Result<String, PromptError> {
        let mark = self.recipe.image_mark.as_str();
        turn::check(turns, mark, MAXIMUM_TEXT_BYTES)?;
        let prompt = match &self.template {
            Template::Conversation(conversation) => conversation.render(turns, mark)?,
            Template::Chat(chat_template) => chat_template.render(turns, mark)?,
        };
        // The texts hold no other marks, so every mark in the prompt is an image.
        if self.recipe.image_start_end {
            return Ok(prompt.replace(mark, &format!("{IMAGE_START}{mark}{IMAGE_END}")));
        }
        Ok(prompt)
    }

    /// Tokenises a rendered prompt; every image mark in it becomes an image.
    pub fn tokenize(&self, rendered: &str) -> Result<TokenizedPrompt, PromptError> {
        match (self.recipe.tokenization, self.recipe.image_token_id) {
            (TokenizationMode::WholeString, Some(image_token_id)) => self.tokenize_whole(rendered, image_token_id),
            _ => self.tokenize_chunks(rendered),
        }
    }

    /// LLaVA's `tokenizer_image_token`: chunks between marks are tokenised apart, each with the special tokens that the
    /// tokenizer adds; if the first begins with the beginning-of-sequence token, that one stays and the first token of
    /// every other chunk goes.
    fn tokenize_chunks(&self, rendered: &str) -> Result<TokenizedPrompt, PromptError> {
        let mut prompt = TokenizedPrompt::default();
        let mut repeated = 0;
        for (index, chunk) in rendered.split(self.recipe.image_mark.as_str()).enumerate() {
            let ids = encode(&self.tokenizer, chunk, true)?;
            if index == 0 {
                repeated = usize::from(ids.first().is_some_and(|first| Some(*first) == self.recipe.bos_token_id));
                ids.into_iter().for_each(|id| prompt.push_token(id));
            } else {
                prompt.push_image();
                ids.into_iter().skip(repeated).for_each(|id| prompt.push_token(id));
            }
        }
        Ok(prompt)
    }

    /// `LlavaProcessor`: the whole text at once; each id of the image mark is an image. The processor repeats the mark before
    /// it tokenises, which gives the same ids, since an added token is cut out of the text first.
    fn tokenize_whole(&self, rendered: &str, image_token_id: u32) -> Result<TokenizedPrompt, PromptError> {
        // As `apply_chat_template` of transformers' processors: a text that brings its own beginning gets no other.
        let begins = self.bos_token.as_ref().is_some_and(|token| rendered.starts_with(token.as_str()));
        let mut prompt = TokenizedPrompt::default();
        for id in encode(&self.tokenizer, rendered, !begins)? {
            if id == image_token_id { prompt.push_image() } else { prompt.push_token(id) }
        }
        let (marks, found) = (rendered.matches(self.recipe.image_mark.as_str()).count(), prompt.image_count());
        if marks != found {
            return Err(PromptError::ImageTokens { marks, found, image_token_id });
        }
        Ok(prompt)
    }

    /// Text of generated ids, special tokens skipped, as `batch_decode(…, skip_special_tokens=True)` gives it.
    pub fn decode(&self, ids: &[u32]) -> Result<String, PromptError> {
        shielded(|| self.tokenizer.decode(ids, true)).map_err(|message| PromptError::Tokenizer { doing: "decoding", message })
    }

    /// A decoded answer, cut before the first stop string and stripped of white space.
    pub fn trim_answer(&self, text: &str) -> String {
        let text = match &self.template {
            Template::Conversation(conversation) => conversation.strip_prefixes(text),
            Template::Chat(_) => text,
        };
        self.stop.trim(text).to_owned()
    }

    /// The beginning of the final answer that some generated ids have settled, white space before it stripped: whatever ids follow,
    /// [`trim_answer`](Self::trim_answer) of the whole gives this text and perhaps more, white space around it stripped. `None`
    /// where the newest id leaves that open: within the bytes of a character, or where a template's prefixes might still be cut.
    pub fn settled(&self, ids: &[u32]) -> Option<String> {
        // Special tokens leave no trace in the text, so that bytes on both sides of one are one run.
        let added = self.tokenizer.get_added_vocabulary();
        let visible = |id: &&u32| !added.simple_id_to_token(**id).is_some_and(|token| added.is_special_token(&token));
        let newest = self.tokenizer.id_to_token(*ids.iter().rev().find(visible)?)?;
        // The text of a run of byte tokens is known when the run ends: one byte that is no UTF-8 spoils all of it.
        if newest.len() == 6 && newest.starts_with("<0x") && newest.ends_with('>') {
            return None;
        }
        let text = self.decode(ids).ok()?;
        if text.ends_with(char::REPLACEMENT_CHARACTER) {
            return None;
        }
        let start = text.trim_start_matches(is_python_space);
        if let Template::Conversation(conversation) = &self.template
            && conversation.answer_prefixes.iter().any(|prefix| start.is_empty() || prefix.chars().next() == start.chars().next())
        {
            return None;
        }
        Some(self.stop.settled(start).to_owned())
    }

    /// Whether the newest of the generated ids completes the answer. To be asked after every token.
    pub fn finished(&self, ids: &[u32]) -> Finish {
        self.stop.finished(ids, &self.tokenizer, |tail| self.decode(tail))
    }
}

fn encode(tokenizer: &Tokenizer, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, PromptError> {
    shielded(|| tokenizer.encode_fast(text, add_special_tokens))
        .map(|encoding| encoding.get_ids().to_vec())
        .map_err(|message| PromptError::Tokenizer { doing: "encoding", message })
}

fn check_strings(recipe: &PromptRecipe) -> Result<(), PromptError> {
    if recipe.image_mark.is_empty() {
        return Err(PromptError::Recipe { field: "image_mark", expected: "a text".to_owned(), found: "an empty one".to_owned() });
    }
    for stop in &recipe.stop_strings {
        if stop.is_empty() || stop.len() > MAXIMUM_STOP_STRING_BYTES {
            return Err(PromptError::Recipe {
                field: "stop_strings",
                expected: format!("texts of 1 to {MAXIMUM_STOP_STRING_BYTES} bytes"),
                found: format!("one of {}", stop.len()),
            });
        }
    }
    Ok(())
}

/// The recipe's token ids must mean to this tokenizer what they mean to the recipe.
fn check_tokens(recipe: &PromptRecipe, tokenizer: &Tokenizer) -> Result<(), PromptError> {
    if recipe.tokenization == TokenizationMode::WholeString {
        let mark = recipe.image_mark.as_str();
        let wrong = |found: String| PromptError::Recipe {
            field: "image_token_id",
            expected: format!("the id of the added token {mark:?} of tokenizer.json"),
            found,
        };
        let id = recipe.image_token_id.ok_or_else(|| wrong("none".to_owned()))?;
        let ids = encode(tokenizer, mark, false)?;
        if ids != [id] {
            return Err(wrong(format!("{id}, while the mark is tokenised as {ids:?}")));
        }
    }
    // Also shows whether the tokenizer works at all: some broken files only fail on a text.
    let added = encode(tokenizer, "", true)?;
    encode(tokenizer, "USER: a", true)?;
    if recipe.tokenization == TokenizationMode::Chunks
        && let Some(&first) = added.first()
        && recipe.bos_token_id != Some(first)
    {
        return Err(PromptError::Recipe {
            field: "bos_token_id",
            expected: format!("{first}, which tokenizer.json puts before a text"),
            found: recipe.bos_token_id.map_or("none".to_owned(), |id| id.to_string()),
        });
    }
    if let Some(id) = recipe.bos_token_id
        && tokenizer.id_to_token(id).is_none()
    {
        return Err(PromptError::Recipe {
            field: "bos_token_id",
            expected: "an id of tokenizer.json".to_owned(),
            found: id.to_string(),
        });
    }
    if recipe.image_start_end
        && let Some(missing) = [IMAGE_START, IMAGE_END].into_iter().find(|token| tokenizer.token_to_id(token).is_none())
    {
        return Err(PromptError::Recipe {
            field: "image_start_end",
            expected: format!("{missing:?} among the tokens of tokenizer.json"),
            found: "none".to_owned(),
        });
    }
    Ok(())
}
