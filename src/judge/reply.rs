//! What a chat endpoint answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The text; empty where the model said nothing.
    pub text: String,
    /// Model as the endpoint reports it, which may be a dated version of the one asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Why the reply ends, as the endpoint reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Tokens of the prompt, as the endpoint counts them; 0 where it does not.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Tokens of the reply, as the endpoint counts them; 0 where it does not.
    #[serde(default)]
    pub reply_tokens: u64,
}

impl Reply {
    /// Reads the body of a chat completion. What is missing is named.
    pub(super) fn from_completion(body: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(body).map_err(|error| format!("the reply is no JSON ({error})"))?;
        if !value.is_object() {
            return Err("the reply is no JSON object".to_owned());
        }
        if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
            return Err(format!("the reply is an error: {}", error_text(error)));
        }
        let choices = value.get("choices").and_then(Value::as_array).ok_or("the reply has no list `choices`")?;
        let choice = choices.first().ok_or("the list `choices` of the reply is empty")?;
        let message = choice.get("message").filter(|message| message.is_object());
        let message = message.ok_or("the first of the reply's `choices` has no `message`")?;
        let text = match message.get("content") {
            // A refusal, or a reply that was filtered out: an answer without text, which no rule can read.
            Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect::<Vec<_>>().concat()
            }
            None if message.get("refusal").is_some() || message.get("tool_calls").is_some() => String::new(),
            _ => return Err("the message of the reply has no text `content`".to_owned()),
        };
        let counted = |name: &str| value.get("usage").and_then(|usage| usage.get(name)).and_then(Value::as_u64).unwrap_or(0);
        Ok(Self {
            text,
            model: value.get("model").and_then(Value::as_str).map(str::to_owned),
            finish_reason: choice.get("finish_reason").and_then(Value::as_str).map(str::to_owned),
            prompt_tokens: counted("prompt_tokens"),
            reply_tokens: counted("completion_tokens"),
        })
    }
}

/// The message of an error object.
fn error_text(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str).or_else(|| error.as_str());
    message.map_or_else(|| error.to_string(), str::to_owned)
}

/// Code and message of an error's body, where it has them in the usual place.
pub(super) fn error_of(body: &str) -> (Option<String>, String) {
    let Ok(value) = serde_json::from_str::<Value>(body) else { return (None, body.trim().to_owned()) };
    let Some(error) = value.get("error") else { return (None, body.trim().to_owned()) };
    let code = error.get("code").and_then(Value::as_str).or_else(|| error.get("type").and_then(Value::as_str));
    (code.map(str::to_owned), error_text(error))
}
