//! The judge room: language models that read answers and say what they are worth.
//!
//! It owns the prompts of the official evaluations (`benchmarks/judge/prompts.toml`), speaking with an OpenAI-compatible
//! endpoint, retries, the pace of requests, the log of replies beside a run (`judge.jsonl`) and the cache of replies by
//! content. What a reply is worth is the score room's to say. It must not know engines: a local model comes in as a
//! [`Responder`]. A key is held in a [`Secret`], which nothing prints or stores.

mod cache;
mod endpoint;
mod error;
mod http_date;
mod log;
mod pace;
mod prompts;
mod reply;
mod request;
mod session;

pub use cache::ReplyCache;
pub use endpoint::{Endpoint, EndpointSettings, Secret};
pub use error::{JudgeError, Refusal};
pub use log::{JUDGE_FILE, ReplyLog, ReplyRecord};
pub use prompts::{JudgeRule, Subject};
pub use reply::Reply;
pub use request::{ChatRequest, Message, Role};
pub use session::{Judged, Outcome, Prices, Progress, Responder, Session, SessionSettings, from_log};
