//! An OpenAI-compatible chat endpoint.

use std::fmt;
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::HeaderMap;
use ureq::tls::{RootCerts, TlsConfig};

use super::error::{JudgeError, Refusal};
use super::http_date::{retry_after, seconds_of_date};
use super::reply::{Reply, error_of};
use super::request::ChatRequest;
use super::session::Responder;

/// Longest body of a reply: a thousand times the longest that a rule asks for.
const REPLY_LIMIT_BYTES: u64 = 4 << 20;

/// Longest text of an endpoint in a message of ours.
const MESSAGE_LIMIT_CHARACTERS: usize = 400;

/// Errors of one request that say nothing about the next: what was asked is too long, or was filtered out.
const SAMPLE_ERRORS: [&str; 4] =
    ["context_length_exceeded", "content_filter", "content_policy_violation", "string_above_max_length"];

/// Errors that waiting does not cure although their status says so.
const LASTING_ERRORS: [&str; 3] = ["insufficient_quota", "billing_hard_limit_reached", "account_deactivated"];

/// A key. It is sent with requests and shown nowhere.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Holds a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The text with the key, should it be there, taken out.
    fn redacted(&self, text: String) -> String {
        // A key of a few characters would take ordinary words apart, and is none.
        if self.0.len() >= 4 && text.contains(&self.0) { text.replace(&self.0, "[key]") } else { text }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret([key])")
    }
}

/// Where and how to ask.
#[derive(Clone, Debug)]
pub struct EndpointSettings {
    /// Base address such as `https://host/v1`, or the whole address if it ends in `/chat/completions`.
    pub url: String,
    /// Model as the endpoint names it.
    pub model: String,
    /// Key, if there is one.
    pub key: Option<Secret>,
    /// Header for the key where it is not `Authorization: Bearer`.
    pub key_header: Option<String>,
    /// Whether the longest reply is called `max_completion_tokens`, as newer models of OpenAI want it.
    pub max_completion_tokens: bool,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time of a request from beginning to end.
    pub timeout: Duration,
}

/// An endpoint, ready to be asked by several threads.
pub struct Endpoint {
    settings: EndpointSettings,
    /// Address of requests.
    address: String,
    /// The address without its query, for people and records.
    shown: String,
    agent: Agent,
}

impl Endpoint {
    /// Checks the settings. Nothing is sent.
    ///
    /// A key is never sent in clear text to another machine: with `http://` it is left out there, unless `key_is_wanted`,
    /// where it is an error.
    pub fn new(mut settings: EndpointSettings, key_is_wanted: bool) -> Result<Self, JudgeError> {
        let url = settings.url.trim();
        // What stands before an @ is a password.
        let shown = without_query(url).rsplit('@').next().unwrap_or_default().to_owned();
        let wrong = |reason: &str| JudgeError::Address { found: shown.clone(), reason: reason.to_owned() };
        let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme)) else {
            return Err(wrong("it must begin with https:// or http://"));
        };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if host.contains('@') {
            return Err(wrong("it has a user or a password in it; give the key by its environment variable"));
        }
        if host.is_empty() || url.contains(char::is_whitespace) || url.contains('#') {
            return Err(wrong("it is not of the form https://host/v1"));
        }
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let path = path.trim_end_matches('/');
        let path = if path.ends_with("/chat/completions") { path.to_owned() } else { format!("{path}/chat/completions") };
        let address = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        if scheme == "http" && settings.key.is_some() && !is_this_machine(host) {
            if key_is_wanted {
                return Err(wrong("a key is not sent in clear text to another machine; use https"));
            }
            settings.key = None;
        }
        let header = settings.key_header.as_deref().unwrap_or("authorization");
        let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if header.is_empty() || !header.bytes().all(token) {
            return Err(JudgeError::Setting {
                name: "key header",
                expected: "a header's name".into(),
                found: format!("{header:?}"),
            });
        }
        if settings
            .key
            .as_ref()
            .is_some_and(|Secret(key)| key.is_empty() || !key.bytes().all(|byte| (0x21..0x7f).contains(&byte)))
        {
            let found = "other characters in it, or nothing".to_owned();
            return Err(JudgeError::Setting { name: "judge's key", expected: "visible ASCII characters".to_owned(), found });
        }
        if settings.model.trim().is_empty() {
            return Err(JudgeError::Setting { name: "judge's model", expected: "a name".into(), found: "none".into() });
        }
        let config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_global(Some(settings.timeout))
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        let shown = path.trim_end_matches("/chat/completions").to_owned();
        Ok(Self { settings, address, shown, agent: config.new_agent() })
    }

    /// Without the key, and without the address's query, where some endpoints want a key.
    fn redacted(&self, text: String) -> String {
        let text = match self.address.split_once('?') {
            Some((_, query)) if !query.is_empty() => text.replace(query, "[query]"),
            _ => text,
        };
        match &self.settings.key {
            Some(key) => key.redacted(text),
            None => text,
        }
    }

    fn temporary(&self, reason: String) -> Refusal {
        Refusal::Temporary { reason: self.redacted(reason), retry_after: None }
    }

    /// The body of a request.
    fn body(&self, request: &ChatRequest) -> Value {
        let mut body = json!({ "model": request.model, "messages": request.messages });
        if let Some(fields) = body.as_object_mut() {
            if let Some(temperature) = request.temperature {
                fields.insert("temperature".to_owned(), json!(temperature));
            }
            if let Some(tokens) = request.max_tokens {
                let name = if self.settings.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
                fields.insert(name.to_owned(), json!(tokens));
            }
        }
        body
    }

    fn refusal(&self, status: u16, headers: &HeaderMap, body: &str) -> Refusal {
        let (code, message) = error_of(body);
        let has = |codes: &[&str]| code.as_deref().is_some_and(|code| codes.contains(&code));
        let message = shortened(&self.redacted(message));
        let described = if message.is_empty() { format!("status {status}") } else { format!("status {status}: {message}") };
        match status {
            300..400 => {
                let target = header(headers, "location").map(|target| without_query(target).to_owned()).unwrap_or_default();
                let target = shortened(&self.redacted(target));
                Refusal::Fatal {
                    reason: format!("status {status}, a redirection to {target:?}, which is not followed; give that address"),
                }
            }
            429 if has(&LASTING_ERRORS) => Refusal::Fatal { reason: described },
            408 | 409 | 429 | 500.. => {
                let now = header(headers, "date").and_then(seconds_of_date);
                let now = now.or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|elapsed| elapsed.as_secs()));
                let wait = header(headers, "retry-after").zip(now).and_then(|(value, now)| retry_after(value, now));
                Refusal::Temporary { reason: described, retry_after: wait }
            }
            400 | 413 | 422 if has(&SAMPLE_ERRORS) => Refusal::Sample { reason: described },
            401 | 403 if self.settings.key.is_none() => Refusal::Fatal {
                reason: format!("{described}; no key was sent: set it in the environment variable that --judge-key-env names"),
            },
            404 => Refusal::Fatal {
                reason: format!("{described}; is {:?} its model and {} its address?", self.settings.model, self.shown),
            },
            _ => Refusal::Fatal { reason: described },
        }
    }
}

impl Responder for Endpoint {
    fn model(&self) -> &str {
        &self.settings.model
    }

    fn place(&self) -> &str {
        &self.shown
    }

    fn respond(&self, request: &ChatRequest) -> Result<Reply, Refusal> {
        let body = self.body(request).to_string();
        let mut call =
            self.agent.post(&self.address).header("content-type", "application/json").header("accept", "application/json");
        if let Some(Secret(key)) = &self.settings.key {
            call = match &self.settings.key_header {
                Some(name) => call.header(name, key),
                None => call.header("authorization", format!("Bearer {key}")),
            };
        }
        let response = call.send(body).map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Refusal::Fatal { reason: self.redacted(error.to_string()) },
            error => self.temporary(error.to_string()),
        })?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let kind = header(&headers, "content-type").unwrap_or("unknown").to_owned();
        let mut bytes = Vec::new();
        // One byte more shows a body that is too long.
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        if let Err(error) = reader.take(REPLY_LIMIT_BYTES + 1).read_to_end(&mut bytes)
            && (200..300).contains(&status)
        {
            return Err(self.temporary(format!("the reply breaks off: {error}")));
        }
        if bytes.len() as u64 > REPLY_LIMIT_BYTES {
            return Err(self.temporary(format!("the reply is longer than {REPLY_LIMIT_BYTES} bytes")));
        }
        let text = self.redacted(String::from_utf8_lossy(&bytes).into_owned());
        if !(200..300).contains(&status) {
            return Err(self.refusal(status, &headers, &text));
        }
        Reply::from_completion(&text).map_err(|message| self.temporary(shortened(&format!("{message} (content type {kind})"))))
    }
}

/// An address without what follows `?` or `#`, where some endpoints want a key.
fn without_query(address: &str) -> &str {
    address.split(['?', '#']).next().unwrap_or_default()
}

fn is_this_machine(host: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| host == *name || host.starts_with(&format!("{name}:")))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The beginning of a text from outside, in one line.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = line.chars().take(MESSAGE_LIMIT_CHARACTERS).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, key: Option<&str>) -> EndpointSettings {
        EndpointSettings {
            url: url.to_owned(),
            model: "m".to_owned(),
            key: key.map(Secret::new),
            key_header: None,
            max_completion_tokens: false,
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn addresses_are_completed_and_their_secrets_kept() {
        let made = |url: &str| Endpoint::new(settings(url, None), false).map(|endpoint| (endpoint.address, endpoint.shown));
        let plain = ("https://a.example/v1/chat/completions".to_owned(), "https://a.example/v1".to_owned());
        assert_eq!(made("https://a.example/v1/").unwrap(), plain);
        assert_eq!(made("https://a.example/v1/chat/completions").unwrap(), plain);
        let (address, shown) = made("https://a.example/x?api-version=1&code=secret").unwrap();
        assert_eq!(address, "https://a.example/x/chat/completions?api-version=1&code=secret");
        assert_eq!(shown, "https://a.example/x");
        for url in ["ftp://a", "a.example", "https://", "https://user:secret@a.example/v1", "https://a b/", "https://a/#x"] {
            let error = made(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_key_is_not_sent_in_clear_text_to_another_machine() {
        let key = |url: &str| Endpoint::new(settings(url, Some("sk-1")), false).unwrap().settings.key.is_some();
        assert!(key("https://a.example/v1") && key("http://127.0.0.1:8000/v1") && key("http://localhost/v1"));
        assert!(!key("http://a.example/v1") && !key("http://127.0.0.1.example/v1"));
        assert!(Endpoint::new(settings("http://a.example/v1", Some("sk-1")), true).is_err());
        assert!(Endpoint::new(settings("https://a.example", Some("a\nb")), true).is_err());
        assert!(!format!("{:?}", settings("https://a", Some("sk-1"))).contains("sk-1"));
    }
}
