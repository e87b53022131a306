//! What judges are asked, rule by rule.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use super::error::JudgeError;
use super::request::{ChatRequest, Message, Role};
use crate::benchmark::{JudgeContext, Reference, ScorerRule};

/// The texts, which ship with the program.
const TEXTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/benchmarks/judge/prompts.toml"));

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Texts {
    llava_bench: LlavaBench,
    llava_med_chat: SystemAndRule,
    mm_vet: MmVet,
    judge_match: SystemAndRule,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LlavaBench {
    system: String,
    /// Rules by category.
    coco: BTreeMap<String, String>,
    in_the_wild: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SystemAndRule {
    system: String,
    rule: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MmVet {
    examples: String,
    again: String,
}

fn texts() -> Result<&'static Texts, JudgeError> {
    static READ: OnceLock<Result<Texts, String>> = OnceLock::new();
    let read = READ.get_or_init(|| toml::from_str(TEXTS).map_err(|error| error.to_string()));
    read.as_ref().map_err(|message| JudgeError::Prompts(message.clone()))
}

/// An answer to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Sample key.
    pub key: &'a str,
    /// The question as the data file gives it.
    pub question: &'a str,
    /// Category, if the benchmark has any.
    pub category: Option<&'a str>,
    /// What a right answer is.
    pub reference: &'a Reference,
    /// The model's answer.
    pub answer: &'a str,
}

/// A rule by which answers are judged, with the settings of its requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JudgeRule {
    rule: ScorerRule,
    /// Temperature in the place of the rule's own.
    temperature: Option<f64>,
    /// Longest reply in the place of the rule's own, in tokens.
    max_tokens: Option<u32>,
    /// Whether the judge always takes the likeliest token, so that a temperature means nothing.
    greedy: bool,
}

/// Prompts of MM-Vet for one answer. The script asks once more after the last one and does not look at the reply.
const MM_VET_ATTEMPTS: usize = 5;

impl JudgeRule {
    /// The judge's side of a scorer; `None` if it needs no judge. `temperature` and `max_tokens` take the place of what the
    /// official script asks for.
    pub fn new(rule: ScorerRule, temperature: Option<f64>, max_tokens: Option<u32>) -> Option<Self> {
        rule.needs_judge().then_some(Self { rule, temperature, max_tokens, greedy: false })
    }

    /// The same for a judge that always takes the likeliest token: no temperature, and no prompt twice.
    pub fn greedy(self) -> Self {
        Self { greedy: true, ..self }
    }

    /// The scorer.
    pub fn scorer(&self) -> &ScorerRule {
        &self.rule
    }

    /// Name and version of the prompts, such as `llava-bench-coco/1`: scorers that only count replies otherwise share them.
    pub fn identity(&self) -> String {
        match self.rule {
            ScorerRule::LlavaBench { context: JudgeContext::Coco, .. } => "llava-bench-coco/1".to_owned(),
            ScorerRule::LlavaBench { context: JudgeContext::InTheWild, .. } => "llava-bench-in_the_wild/1".to_owned(),
            rule => rule.identity(),
        }
    }

    /// Settings of the first request in a few words.
    pub fn settings_text(&self) -> String {
        let (temperature, max_tokens) = self.settings(1);
        let text = if self.greedy {
            format!("greedy, {}", max_tokens.map_or("replies of any length".to_owned(), |count| format!("{count} tokens")))
        } else {
            ChatRequest::settings_text(temperature, max_tokens)
        };
        match self.attempts() {
            1 => text,
            attempts => format!("{text}, up to {attempts} prompts an answer"),
        }
    }

    /// Prompts that are tried until a reply can be read.
    pub fn attempts(&self) -> usize {
        match self.rule {
            ScorerRule::MmVet if self.greedy => 2,
            ScorerRule::MmVet => MM_VET_ATTEMPTS,
            _ => 1,
        }
    }

    /// Temperature and longest reply of a prompt, from 1.
    fn settings(&self, attempt: usize) -> (Option<f64>, Option<u32>) {
        let (temperature, max_tokens) = match self.rule {
            ScorerRule::LlavaBench { .. } => (0.2, Some(1024)),
            // 0, and 0 again with the plainer prompt, then half a degree more each time.
            ScorerRule::MmVet => (0.5 * attempt.saturating_sub(2) as f64, Some(3)),
            ScorerRule::JudgeMatch => (0.0, Some(8)),
            // LLaVA-Med leaves the length to the endpoint.
            _ => (0.0, None),
        };
        let temperature = match (self.temperature, self.rule) {
            (None, _) => temperature,
            (Some(given), ScorerRule::MmVet) => given + temperature,
            (Some(given), _) => given,
        };
        (Some(temperature).filter(|_| !self.greedy), self.max_tokens.or(max_tokens))
    }

    /// What the judge is asked about an answer; `attempt` is from 1.
    pub fn request(&self, model: &str, subject: &Subject<'_>, attempt: usize) -> Result<ChatRequest, JudgeError> {
        let wrong = |reason: String| JudgeError::Sample { key: subject.key.to_owned(), rule: self.identity(), reason };
        let texts = texts()?;
        let judged = || match subject.reference {
            Reference::Judged { answer, context, .. } => Ok((answer.as_str(), context.as_deref())),
            _ => Err(wrong("its reference is not one for a judge".to_owned())),
        };
        let told =
            |context: Option<&str>| context.map(str::to_owned).ok_or_else(|| wrong("it has no context of the image".to_owned()));
        let mut messages = Vec::with_capacity(2);
        match self.rule {
            ScorerRule::LlavaBench { context, .. } => {
                let rules = match context {
                    JudgeContext::Coco => &texts.llava_bench.coco,
                    JudgeContext::InTheWild => &texts.llava_bench.in_the_wild,
                };
                let category = subject.category.unwrap_or_default();
                let rule = rules.get(category).ok_or_else(|| {
                    let known: Vec<&str> = rules.keys().map(String::as_str).collect();
                    wrong(format!("its category is {category:?}, and there are rules for {}", known.join(", ")))
                })?;
                let (answer, context) = judged()?;
                messages.push(system(&texts.llava_bench.system));
                messages.push(user(two_answers(&told(context)?, subject, answer, rule)));
            }
            ScorerRule::LlavaMedChat => {
                let (answer, context) = judged()?;
                messages.push(system(&texts.llava_med_chat.system));
                messages.push(user(two_answers(&told(context)?, subject, answer, &texts.llava_med_chat.rule)));
            }
            ScorerRule::MmVet => {
                let (answer, _) = judged()?;
                let answer = answer.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ");
                let again = if attempt > 1 { texts.mm_vet.again.as_str() } else { "" };
                let (examples, question, given) = (&texts.mm_vet.examples, subject.question, subject.answer);
                messages.push(user(format!("{examples}\n{question} | {answer} | {given} | {again}")));
            }
            ScorerRule::JudgeMatch => {
                let references = references(subject.reference);
                if references.is_empty() {
                    return Err(wrong("it has no reference answer".to_owned()));
                }
                messages.push(system(&texts.judge_match.system));
                let listed = references.iter().map(|answer| format!("- {answer}")).collect::<Vec<_>>().join("\n");
                let (question, answer, rule) = (subject.question, subject.answer, &texts.judge_match.rule);
                messages.push(user(format!(
                    "[Question]\n{question}\n\n[Reference answers]\n{listed}\n\n[Answer]\n{answer}\n\n[End of answer]\n\n{rule}"
                )));
            }
            rule => return Err(wrong(format!("{} needs no judge", rule.identity()))),
        }
        let (temperature, max_tokens) = self.settings(attempt);
        Ok(ChatRequest { model: model.to_owned(), messages, temperature, max_tokens })
    }
}

fn system(text: &str) -> Message {
    Message { role: Role::System, content: text.to_owned() }
}

fn user(text: String) -> Message {
    Message { role: Role::User, content: text }
}

/// LLaVA's prompt: the reference answer is that of assistant 1.
fn two_answers(context: &str, subject: &Subject<'_>, reference: &str, rule: &str) -> String {
    let (question, answer) = (subject.question, subject.answer);
    format!(
        "[Context]\n{context}\n\n[Question]\n{question}\n\n[Assistant 1]\n{reference}\n\n[End of Assistant 1]\n\n[Assistant 2]\n\
         {answer}\n\n[End of Assistant 2]\n\n[System]\n{rule}\n\n"
    )
}

/// Reference answers, each once, in order.
fn references(reference: &Reference) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    let all: Vec<&str> = match reference {
        Reference::Judged { answer, .. } | Reference::OpenOrClosed { answer, .. } => vec![answer],
        Reference::Answers { answers } => answers.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    for answer in all {
        if !found.contains(&answer) {
            found.push(answer);
        }
    }
    found
}
