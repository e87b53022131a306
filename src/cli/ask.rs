//! `ask`: one question about images, perhaps after earlier turns.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::conversation::Conversation;
use super::exit::{Exit, Failure};
use super::{Globals, VerbResult, model, terminal};
use crate::engine::{Engine, ImageGroup, Request, Scheduling};
use crate::prompt::{Prompter, Turn};
use crate::run::{PreparedImages, PrompterStop, segments};

/// Arguments of `ask`.
#[derive(Debug, Args)]
pub struct AskArguments {
    /// Package folder, or the name of a shipped package
    package: PathBuf,
    /// Precision to take where another program's folder has several, such as fp16 or embed_tokens=fp16,decoder_model_merged=q4
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Image file; repeat for several images
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// The question; `<image>` in it places the images, as many marks as images (a chat template may still gather them);
    /// without marks they stand before it
    #[arg(long, required_unless_present = "conversation")]
    prompt: Option<String>,
    /// Earlier turns: a JSON file `[{"role": "user", "text": "…", "images": ["file", …]}, {"role": "assistant", "text": "…"}]`
    /// with image files named from its folder. If its last turn is a question, that is asked
    #[arg(long, value_name = "FILE")]
    conversation: Option<PathBuf>,
    /// Take the prompt as it is, `<image>` marks included, without any template
    #[arg(long, requires = "prompt", conflicts_with = "conversation")]
    raw_prompt: bool,
    /// Longest answer in tokens
    #[arg(long, value_name = "N", default_value = "128")]
    max_new_tokens: std::num::NonZeroUsize,
    /// Print prompt, tokens, log-probabilities and timings as JSON
    #[arg(long)]
    json: bool,
}

/// What `ask --json` prints.
#[derive(Debug, Serialize)]
struct Answer {
    format: u32,
    package: String,
    /// Empty for a raw prompt.
    turns: Vec<Turn>,
    /// All images in the order of the prompt.
    images: Vec<AskedImage>,
    /// As rendered, image marks included.
    prompt: String,
    /// Image marks expanded to the image's rows; the rows carry the image token id, or -200 where the format has none.
    prompt_token_ids: Vec<i64>,
    /// First and last-plus-one position of each image in `prompt_token_ids`.
    image_spans: Vec<[usize; 2]>,
    /// Generated ids without the final end-of-sequence token.
    token_ids: Vec<u32>,
    text: String,
    /// Natural-log probability of each generated id.
    logprobs: Vec<f32>,
    stop_reason: &'static str,
    timings_ms: Timings,
    /// How questions run and why, for packages that another program wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduling: Option<AskScheduling>,
}

#[derive(Debug, Serialize)]
struct AskScheduling {
    name: &'static str,
    reason: String,
}

#[derive(Debug, Serialize)]
struct AskedImage {
    file: PathBuf,
    width: u32,
    height: u32,
    /// Tiles that the vision encoder saw, the view of the whole picture included.
    tiles: usize,
    /// Tokens in the prompt.
    rows: usize,
}

#[derive(Debug, Serialize)]
struct Timings {
    load: f64,
    image: f64,
    vision: f64,
    /// Absent where the projector is inside the vision graph: its time is then in `vision`.
    #[serde(skip_serializing_if = "Option::is_none")]
    projector: Option<f64>,
    prefill: f64,
    decode: f64,
    time_to_first_token: f64,
    time_per_output_token: Option<f64>,
}

/// Token id that stands for an image row where the checkpoint has none (`IMAGE_TOKEN_INDEX` of LLaVA).
const IMAGE_TOKEN_INDEX: i64 = -200;

/// Runs the verb.
pub fn run(arguments: AskArguments, globals: &Globals) -> VerbResult {
    let started = Instant::now();
    let mut model = model::load(&arguments.package, arguments.variant.as_deref(), globals, Scheduling::PackedTree)?;
    let load_ms = milliseconds(started);

    let manifest = &model.package.manifest;
    let (conversation, prompt) = rendered(&arguments, &model.prompter)?;
    let started = Instant::now();
    let prepared = PreparedImages::load(&conversation.images, manifest)?;
    let image_ms = milliseconds(started);

    let tokenized = model.prompter.tokenize(&prompt)?;
    if tokenized.image_count() != prepared.images.len() {
        let error = anyhow::anyhow!(
            "the prompt has {} image marks ({}) but {} images were given",
            tokenized.image_count(),
            manifest.prompt.image_mark,
            prepared.images.len()
        );
        return Err(Failure::new(Exit::Setup, error));
    }
    let image_token = manifest.prompt.image_token_id.map_or(IMAGE_TOKEN_INDEX, i64::from);
    let (prompt_token_ids, spans) = tokenized.expanded_ids(&prepared.rows, image_token)?;

    let stop = PrompterStop { prompter: &model.prompter };
    let request = Request { segments: segments(&tokenized.pieces), max_new_tokens: arguments.max_new_tokens.get(), stop: &stop };
    let mut group = model.engine.answer(&ImageGroup { images: &prepared.images, requests: std::slice::from_ref(&request) })?;
    let generation = group
        .answers
        .pop()
        .context("the engine returned no answer")?
        .map_err(|failure| Failure::new(Exit::TooManyFailures, failure))?;
    let text = model.prompter.trim_answer(&model.prompter.decode(&generation.token_ids)?);

    if !arguments.json {
        terminal::print(&terminal::clean(&text))?;
        return Ok(Exit::Success);
    }
    let (scheduling, reason) = model.engine.scheduling();
    let later = generation.decoded_tokens.saturating_sub(1);
    terminal::print_json(&Answer {
        format: 1,
        package: manifest.name.clone(),
        images: asked_images(conversation.images, &prepared),
        turns: conversation.turns,
        prompt,
        prompt_token_ids,
        image_spans: spans.into_iter().map(|span| [span.start, span.end]).collect(),
        text,
        logprobs: generation.log_probabilities,
        stop_reason: generation.stop_reason.as_str(),
        token_ids: generation.token_ids,
        timings_ms: Timings {
            load: load_ms,
            image: image_ms,
            vision: group.timings.vision_ms,
            projector: manifest.foreign.is_none().then_some(group.timings.projector_ms),
            prefill: group.timings.prefill_ms,
            decode: group.timings.decode_ms,
            time_to_first_token: image_ms + generation.first_token_ms,
            time_per_output_token: (later > 0).then(|| generation.remaining_tokens_ms / later as f64),
        },
        scheduling: reason.map(|reason| AskScheduling { name: scheduling, reason: reason.to_owned() }),
    })?;
    Ok(Exit::Success)
}

/// The conversation that is asked, and its prompt. A raw prompt has images but no turns.
fn rendered(arguments: &AskArguments, prompter: &Prompter) -> Result<(Conversation, String), Failure> {
    if let (true, Some(prompt)) = (arguments.raw_prompt, &arguments.prompt) {
        return Ok((Conversation { images: arguments.image.clone(), ..Conversation::default() }, prompt.clone()));
    }
    let mut conversation = match &arguments.conversation {
        Some(path) => Conversation::read(path, prompter)?,
        None => Conversation::default(),
    };
    conversation.ask(prompter, arguments.prompt.as_deref(), &arguments.image)?;
    let prompt = prompter.render_conversation(&conversation.turns)?;
    Ok((conversation, prompt))
}

fn asked_images(files: Vec<PathBuf>, prepared: &PreparedImages) -> Vec<AskedImage> {
    let images = prepared.images.iter().zip(&prepared.rows);
    let asked = files.into_iter().zip(images).map(|(file, (image, &rows))| AskedImage {
        file,
        width: image.width,
        height: image.height,
        tiles: image.pixels.shape().first().copied().unwrap_or(0),
        rows,
    });
    asked.collect()
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
