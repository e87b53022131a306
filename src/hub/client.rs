//! Speaking with a hub: one request at a time, redirects followed by hand, the token sent to the hub alone.

use std::io::Read;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::name::{is_commit, is_revision};
use super::{HubError, HubName};

/// Longest answer that lists a repository.
const LIST_LIMIT_BYTES: u64 = 16 << 20;
/// Most redirects of one request.
const REDIRECT_LIMIT: usize = 5;
/// Longest time to connect and to wait for an answer or for the next bytes of one.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A hub and what is needed to speak with it.
pub struct Remote {
    endpoint: String,
    token: Option<String>,
    agent: Agent,
}

/// A repository at one commit.
pub(super) struct Listing {
    pub commit: String,
    /// Names of its files.
    pub files: Vec<String>,
}

/// What the hub says about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileInformation {
    /// Its entity tag, the SHA-256 of large files and git's hash of small ones, which names its blob.
    pub etag: String,
    pub bytes: u64,
}

/// An answer with the bytes of a file.
pub(super) struct Content {
    /// First byte that it brings.
    pub start: u64,
    pub reader: Box<dyn Read>,
}

impl Remote {
    /// The hub that the environment names: `HF_ENDPOINT`, and `HF_TOKEN` for it. `variable` reads a variable.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let set = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        if set("HF_HUB_OFFLINE").is_some_and(|value| ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())) {
            return Err(HubError::Offline);
        }
        let endpoint = set("HF_ENDPOINT").ok_or(HubError::NoEndpoint)?;
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let known = ["https://", "http://"].iter().find_map(|scheme| endpoint.strip_prefix(scheme));
        if known.is_none_or(|host| host.is_empty() || host.contains(['?', '#', '@', ' '])) {
            return Err(HubError::Endpoint { found: endpoint });
        }
        // A token is not for anybody who listens on the way.
        let secret = endpoint.starts_with("https://") || is_this_machine(&endpoint);
        let config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .timeout_per_read(Some(TIMEOUT))
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        Ok(Self { endpoint, token: set("HF_TOKEN").filter(|_| secret), agent: config.new_agent() })
    }

    /// The commit of a revision and the repository's files at it.
    pub(super) fn list(&self, name: &HubName) -> Result<Listing, HubError> {
        let what = name.to_string();
        let revision = name.revision().replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}", self.endpoint, name.repository());
        let (_, response) = self.get(&url, &what, None)?;
        let wrong = |reason: &str| HubError::Answer { what: what.clone(), reason: reason.to_owned() };
        let text = response.into_body().into_with_config().limit(LIST_LIMIT_BYTES).read_to_vec();
        let text = text.map_err(|error| HubError::Transport { what: what.clone(), reason: error.to_string() })?;
        let value: Value = serde_json::from_slice(&text).map_err(|error| wrong(&error.to_string()))?;
        let commit = value.get("sha").and_then(Value::as_str).filter(|commit| is_commit(commit));
        let commit = commit.ok_or_else(|| wrong("it names no commit (sha)"))?.to_owned();
        let files = value.get("siblings").and_then(Value::as_array).ok_or_else(|| wrong("it lists no files (siblings)"))?;
        let name = |file: &Value| file.get("rfilename").and_then(Value::as_str).map(str::to_owned);
        Ok(Listing { commit, files: files.iter().filter_map(name).collect() })
    }

    /// Entity tag and length of a file, from the headers of the hub's own answer: those of a content server behind it are
    /// its own.
    pub(super) fn information(&self, name: &HubName, commit: &str, file: &str) -> Result<FileInformation, HubError> {
        let mut url = self.file_url(name, commit, file);
        for _ in 0..=REDIRECT_LIMIT {
            let answer = self.request("HEAD", &url, file, None)?;
            let (status, headers) = (answer.status().as_u16(), answer.headers());
            // A repository that was renamed is redirected within the hub; large files are redirected out of it.
            if let Some(target) = text(headers, "location").filter(|_| (300..400).contains(&status))
                && target.starts_with('/')
                && text(headers, "x-linked-etag").is_none()
            {
                url = format!("{}{target}", origin(&self.endpoint));
                continue;
            }
            if !(200..400).contains(&status) {
                return Err(self.refusal(status, file));
            }
            let wrong = |reason: String| HubError::Answer { what: file.to_owned(), reason };
            if let Some(found) = text(headers, "x-repo-commit").filter(|found| *found != commit) {
                return Err(wrong(format!("it is of commit {found}, and {commit} was asked for")));
            }
            let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
            let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned()).unwrap_or_default();
            if etag.len() > 128 || etag.contains('/') || !is_revision(&etag) {
                return Err(wrong(format!("its entity tag {etag:?} cannot name a file")));
            }
            let bytes = text(headers, "x-linked-size").or_else(|| text(headers, "content-length"));
            let bytes = bytes.and_then(|bytes| bytes.parse::<u64>().ok());
            return Ok(FileInformation { etag, bytes: bytes.ok_or_else(|| wrong("it says no length".to_owned()))? });
        }
        Err(HubError::Answer { what: file.to_owned(), reason: format!("it is redirected more than {REDIRECT_LIMIT} times") })
    }

    /// The bytes of a file from `start` on, or from the beginning if the server prefers that.
    pub(super) fn content(&self, name: &HubName, commit: &str, file: &str, start: u64, bytes: u64) -> Result<Content, HubError> {
        let range = (start > 0).then(|| format!("bytes={start}-"));
        let (status, response) = self.get(&self.file_url(name, commit, file), file, range.as_deref())?;
        let wrong = |reason: String| HubError::Answer { what: file.to_owned(), reason };
        let (mut begins, mut expected) = (0, bytes);
        if status == 206 {
            // `bytes START-END/TOTAL`
            let range = text(response.headers(), "content-range").unwrap_or_default().to_owned();
            if !range.starts_with(&format!("bytes {start}-")) || !range.ends_with(&format!("/{bytes}")) {
                return Err(wrong(format!("its range is {range:?}, expected bytes {start}- of {bytes}")));
            }
            (begins, expected) = (start, bytes.saturating_sub(start));
        }
        let length = text(response.headers(), "content-length").and_then(|length| length.parse::<u64>().ok());
        if let Some(found) = length.filter(|&found| found != expected) {
            return Err(HubError::Size { file: file.to_owned(), expected: bytes, found: begins.saturating_add(found) });
        }
        // One byte more than expected shows a file that is longer than it was said to be.
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader().take(expected.saturating_add(1));
        Ok(Content { start: begins, reader: Box::new(reader) })
    }

    fn file_url(&self, name: &HubName, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{}", self.endpoint, name.repository(), encoded(file))
    }

    /// GET with redirects; gives the status with the answer.
    fn get(&self, url: &str, what: &str, range: Option<&str>) -> Result<(u16, Response<Body>), HubError> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECT_LIMIT {
            let answer = self.request("GET", &url, what, range)?;
            let status = answer.status().as_u16();
            match (status, text(answer.headers(), "location")) {
                (300..400, Some(target)) => {
                    let next = if target.starts_with('/') { format!("{}{target}", origin(&url)) } else { target.to_owned() };
                    let secret = next.starts_with("https://");
                    let open = next.starts_with("http://") && url.starts_with("http://");
                    if !secret && !open {
                        let reason = "it is redirected to an address without https".to_owned();
                        return Err(HubError::Answer { what: what.to_owned(), reason });
                    }
                    url = next;
                }
                (200..300, _) => return Ok((status, answer)),
                _ => return Err(self.refusal(status, what)),
            }
        }
        Err(HubError::Answer { what: what.to_owned(), reason: format!("it is redirected more than {REDIRECT_LIMIT} times") })
    }

    fn request(&self, method: &str, url: &str, what: &str, range: Option<&str>) -> Result<Response<Body>, HubError> {
        let mut request = if method == "HEAD" { self.agent.head(url) } else { self.agent.get(url) };
        // Compressed answers would have another length and could not be continued.
        request = request.header("accept-encoding", "identity");
        if let Some(token) = self.token.as_ref().filter(|_| origin(url) == origin(&self.endpoint)) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header("range", range);
        }
        request.call().map_err(|error| HubError::Transport { what: what.to_owned(), reason: error.to_string() })
    }

    fn refusal(&self, status: u16, what: &str) -> HubError {
        let hint = match (status, &self.token) {
            (401 | 403, None) => ": it may be private or gated; set HF_TOKEN to a token that may read it (sent over https only)",
            (401 | 403, Some(_)) => ": HF_TOKEN may not read it, or its terms were not accepted",
            (404, _) => ": there is no such repository, revision or file, or HF_TOKEN is needed to see it",
            _ => "",
        };
        HubError::Status { what: what.to_owned(), status, hint }
    }
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(url.len(), |at| host + at);
    url.get(..end).unwrap_or(url)
}

fn is_this_machine(endpoint: &str) -> bool {
    let host = origin(endpoint).trim_start_matches("http://");
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| host == *name || host.starts_with(&format!("{name}:")))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A file name as part of an address.
fn encoded(file: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    file.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(origin("https://a.example:8080/b/c?d"), "https://a.example:8080");
        assert_eq!(origin("https://a.example"), "https://a.example");
        assert_ne!(origin("https://a.example.evil/b"), origin("https://a.example/b"));
        assert_eq!(encoded("a b+ä.json"), "a%20b%2B%C3%A4.json");
        assert!(is_this_machine("http://127.0.0.1:5000/x") && !is_this_machine("http://127.0.0.1.example/x"));
    }

    #[test]
    fn the_environment_must_name_a_hub() {
        let remote = |variables: &[(&str, &str)]| {
            let value = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            Remote::from_environment(value)
        };
        assert!(matches!(remote(&[]), Err(HubError::NoEndpoint)));
        assert!(matches!(remote(&[("HF_ENDPOINT", "ftp://a")]), Err(HubError::Endpoint { .. })));
        assert!(matches!(remote(&[("HF_ENDPOINT", "https://user@a")]), Err(HubError::Endpoint { .. })));
        assert!(matches!(remote(&[("HF_ENDPOINT", "https://a"), ("HF_HUB_OFFLINE", "1")]), Err(HubError::Offline)));
        let token = |endpoint| remote(&[("HF_ENDPOINT", endpoint), ("HF_TOKEN", "t")]).unwrap().token;
        assert_eq!(token("https://a/").as_deref(), Some("t"));
        assert_eq!(token("http://127.0.0.1:1").as_deref(), Some("t"));
        assert_eq!(token("http://mirror.example"), None, "a token in clear text");
    }
}
