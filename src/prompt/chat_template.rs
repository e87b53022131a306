//! Hugging Face chat templates: Jinja in a sandbox, set up as transformers sets it up.
//!
//! A template comes with a checkpoint and may be hostile. Its source is capped; each render has a budget (minijinja's
//! "fuel", which counts steps and bytes); and it is compiled and rendered on a thread of its own, with a large stack for
//! deep nesting and a time limit for the few operations that fuel does not count, such as comparing lists that share
//! their parts. A template that runs into the time limit is never started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;
use serde_json::json;

use super::error::PromptError;
use super::json::tojson;
use super::template_source;
use super::turn::{Part, Turn, image_count};

/// Longest template source in bytes; the longest published ones have about 30 kB.
const MAXIMUM_SOURCE_BYTES: usize = 128 << 10;

/// Budget of a render: a step costs about 1, 64 bytes of data cost 1. Bounds a render to some 20 MB and a fraction of a
/// second; a real template on a prompt of 2,000 words takes a few hundred.
const FUEL: u64 = 300_000;

/// Address space for the stack of the template thread; pages are only used when touched.
const STACK_BYTES: usize = 256 << 20;

/// Longest that a template may take; real ones take less than a millisecond.
const TIME_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 15 });

/// Longest part of a template's own error message that is shown, in characters.
const MAXIMUM_MESSAGE_CHARACTERS: usize = 400;

const PROBE: &str = "llava-gauge-probe";

/// How a template takes the content of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentForm {
    /// A list of typed parts: `[{"type": "image"}, {"type": "text", "text": …}]`.
    Parts,
    /// One string with image marks: where the question places them, else each with a newline before the text.
    Text,
}

pub(super) struct ChatTemplate {
    name: String,
    environment: Arc<Environment<'static>>,
    form: ContentForm,
    special_tokens: Vec<(&'static str, String)>,
    /// Set once a render has run into the time limit.
    hung: AtomicBool,
}

impl ChatTemplate {
    /// Compiles a template and finds out which form of content it wants: typed parts if a question with one image then
    /// renders with exactly one mark and the question's text, else strings under the same condition.
    pub fn new(
        name: &str,
        source: &str,
        image_mark: &str,
        special_tokens: Vec<(&'static str, String)>,
    ) -> Result<Self, PromptError> {
        let refused = |message: String| PromptError::ChatTemplate { template: name.to_owned(), message };
        if source.len() > MAXIMUM_SOURCE_BYTES {
            return Err(refused(format!("its source is longer than {MAXIMUM_SOURCE_BYTES} bytes")));
        }
        let source = template_source::adapt(source);
        let compiled = on_own_thread(move || compile(source)).map_err(|stop| refused(stop.describe()))?;
        let mut template = Self {
            name: name.to_owned(),
            environment: Arc::new(compiled.map_err(refused)?),
            form: ContentForm::Parts,
            special_tokens,
            hung: AtomicBool::new(false),
        };
        let mut reasons = Vec::new();
        for form in [ContentForm::Parts, ContentForm::Text] {
            template.form = form;
            match template.probe(image_mark) {
                Ok(()) => return Ok(template),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(PromptError::ChatTemplate {
            template: name.to_owned(),
            message: format!(
                "it renders a question with one image neither from typed parts ({}) nor from a string ({})",
                reasons.first().map_or("", String::as_str),
                reasons.last().map_or("", String::as_str)
            ),
        })
    }

    fn probe(&self, image_mark: &str) -> Result<(), String> {
        let prompt = self.render_text(&[Turn::user(PROBE, 1)], image_mark)?;
        match (prompt.matches(image_mark).count(), prompt.matches(PROBE).count()) {
            // A template made for strings writes a list as Python does; its own mark may then stand beside it.
            (1, 1) if !prompt.contains("'type':") => Ok(()),
            (marks, texts) => Err(format!("the mark {image_mark:?} appears {marks} times and the text {texts} times")),
        }
    }

    #[cfg(test)]
    pub fn form(&self) -> ContentForm {
        self.form
    }

    /// Renders a conversation with the generation prompt after it. An error if the template loses or doubles images.
    pub fn render(&self, turns: &[Turn], image_mark: &str) -> Result<String, PromptError> {
        let refused = |message: String| PromptError::ChatTemplate { template: self.name.clone(), message };
        let prompt = self.render_text(turns, image_mark).map_err(refused)?;
        let (expected, found) = (image_count(turns), prompt.matches(image_mark).count());
        if expected != found {
            return Err(refused(format!("it rendered {found} image marks {image_mark:?} for {expected} images")));
        }
        Ok(prompt)
    }

    fn render_text(&self, turns: &[Turn], image_mark: &str) -> Result<String, String> {
        let messages: Vec<_> = turns.iter().map(|turn| self.message(turn, image_mark)).collect();
        let mut variables = json!({
            "messages": messages,
            "tools": null,
            "documents": null,
            "add_generation_prompt": true,
        });
        if let Some(variables) = variables.as_object_mut() {
            variables.extend(self.special_tokens.iter().map(|(name, token)| ((*name).to_owned(), json!(token))));
        }
        if self.hung.load(Ordering::Relaxed) {
            return Err("it ran into the time limit before".to_owned());
        }
        let environment = Arc::clone(&self.environment);
        let rendered = on_own_thread(move || {
            let template = environment.get_template(TEMPLATE).map_err(describe)?;
            template.render(Value::from(Serde(&variables))).map_err(describe)
        });
        match rendered {
            Ok(result) => result,
            Err(stop) => {
                self.hung.fetch_or(matches!(stop, Stop::TimeLimit), Ordering::Relaxed);
                Err(stop.describe())
            }
        }
    }

    fn message(&self, turn: &Turn, image_mark: &str) -> serde_json::Value {
        let content = match self.form {
            ContentForm::Parts => {
                let parts = turn.parts(image_mark).into_iter().map(|part| match part {
                    Part::Image => json!({"type": "image"}),
                    Part::Text(text) => json!({"type": "text", "text": text}),
                });
                parts.collect()
            }
            ContentForm::Text => json!(turn.marked_text(image_mark)),
        };
        json!({"role": turn.role.as_str(), "content": content})
    }
}

/// Name of the template inside its environment; shown in its error messages.
const TEMPLATE: &str = "chat_template";

fn compile(source: String) -> Result<Environment<'static>, String> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(describe)?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(python_method);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
    });
    environment.add_function("strftime_now", strftime_now);
    environment.add_template_owned(TEMPLATE, source).map_err(describe)?;
    Ok(environment)
}

/// Python's methods on strings, maps and lists, at a price: the library charges a call for its result, here the dangerous
/// ones pay before they allocate.
fn python_method(state: &mut State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    const BYTES_PER_FUEL: usize = 64;
    if let Some(text) = value.as_str() {
        let bytes = match method {
            // A width in the format makes text out of nothing, and chat templates have no use for it.
            "format" => return Err(Error::from(ErrorKind::UnknownMethod)),
            "replace" => {
                let (old, new): (&str, &str) = from_args(arguments.get(..2).unwrap_or(arguments))?;
                text.matches(old).count().saturating_mul(new.len())
            }
            // A value of 24 bytes for as little as one byte of text.
            "split" | "splitlines" => text.len().saturating_mul(24),
            "join" => {
                let items = arguments.first().and_then(Value::len).unwrap_or(0);
                items.saturating_mul(text.len())
            }
            _ => text.len(),
        };
        state.consume_fuel((bytes / BYTES_PER_FUEL) as u64)?;
    }
    pycompat::unknown_method_callback(state, value, method, arguments)
}

/// `strftime_now` of transformers, but always at midnight of Friday 26 July 2024 (the day that Llama 3's templates fall
/// back to): a prompt that changes with the day of the run would make runs incomparable.
fn strftime_now(format: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(format.len());
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let (directive, padded) = match characters.next() {
            Some('-') => (characters.next(), false),
            other => (other, true),
        };
        out.push_str(match directive {
            Some('Y') => "2024",
            Some('y') => "24",
            Some('m') => {
                if padded {
                    "07"
                } else {
                    "7"
                }
            }
            Some('d' | 'e') => "26",
            Some('b' | 'h') => "Jul",
            Some('B') => "July",
            Some('a') => "Fri",
            Some('A') => "Friday",
            Some('w' | 'u') => "5",
            Some('j') => "208",
            Some('H' | 'M' | 'S') => {
                if padded {
                    "00"
                } else {
                    "0"
                }
            }
            Some('I') => "12",
            Some('p') => "AM",
            Some('F') => "2024-07-26",
            Some('D') => "07/26/24",
            Some('T') => "00:00:00",
            Some('R') => "00:00",
            Some('%') => "%",
            other => {
                let directive = other.map(String::from).unwrap_or_default();
                return Err(Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know %{directive}")));
            }
        });
    }
    Ok(out)
}

fn describe(error: Error) -> String {
    let text = error.to_string();
    match text.char_indices().nth(MAXIMUM_MESSAGE_CHARACTERS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Why a template thread gave no result.
enum Stop {
    TimeLimit,
    Failed(String),
}

impl Stop {
    fn describe(self) -> String {
        match self {
            Self::TimeLimit => format!("it takes longer than {} s", TIME_LIMIT.as_secs()),
            Self::Failed(message) => message,
        }
    }
}

/// Runs `work` on a thread with a large stack; a panic in it becomes an error. A thread cannot be ended from outside: past
/// the time limit it is left behind until the program ends.
fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Stop> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("chat-template".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // Nobody listens any more after the time limit.
            let _ = sender.send(work());
        })
        .map_err(|error| Stop::Failed(format!("no thread to render it: {error}")))?;
    receiver.recv_timeout(TIME_LIMIT).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => Stop::TimeLimit,
        mpsc::RecvTimeoutError::Disconnected => Stop::Failed("the template engine failed internally".to_owned()),
    })
}
