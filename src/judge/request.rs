//! What a judge is asked.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions.
    System,
    /// The question.
    User,
}

/// One message of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// A request to a chat model, whatever endpoint it goes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// Model as the endpoint names it.
    pub model: String,
    /// Messages in order.
    pub messages: Vec<Message>,
    /// Sampling temperature; `None` leaves it to the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Longest reply in tokens; `None` leaves it to the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

impl ChatRequest {
    /// SHA-256 of the request, hexadecimal: equal requests share a reply in the cache, whatever endpoint gave it.
    pub fn sha256(&self) -> String {
        // A request holds texts and finite numbers, which always serialise.
        let text = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Its settings in a few words, such as `temperature 0.2, 1024 tokens`.
    pub fn settings_text(temperature: Option<f64>, max_tokens: Option<u32>) -> String {
        let temperature = temperature.map_or("the endpoint's temperature".to_owned(), |value| format!("temperature {value}"));
        let tokens = max_tokens.map_or("replies of any length".to_owned(), |count| format!("{count} tokens"));
        format!("{temperature}, {tokens}")
    }
}
