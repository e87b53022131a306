//! Replies by content, in the user's cache folder: an equal request is not paid for twice.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};

use super::reply::Reply;
use super::request::ChatRequest;
use crate::guard::files::read_capped;

/// Largest entry that is read.
const ENTRY_LIMIT_BYTES: u64 = 16 << 20;

/// Format of entries.
const FORMAT: u32 = 1;

/// A file of the cache. It holds the whole request, so that a reply to another one can never be taken for its own.
#[derive(Serialize, Deserialize)]
struct Entry {
    format: u32,
    request: ChatRequest,
    reply: Reply,
}

/// A folder of replies. What cannot be read counts as absent, and what cannot be written is left out: a cache only saves work.
#[derive(Clone, Debug)]
pub struct ReplyCache {
    folder: PathBuf,
}

impl ReplyCache {
    /// The cache in a folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// `llava-gauge/judge` in the user's cache folder; `None` where there is no such folder.
    pub fn of_user() -> Option<Self> {
        let strategy = etcetera::choose_base_strategy().ok()?;
        Some(Self::at(strategy.cache_dir().join("llava-gauge").join("judge")))
    }

    fn path(&self, request_sha256: &str) -> PathBuf {
        self.folder.join(request_sha256.get(..2).unwrap_or("--")).join(format!("{request_sha256}.json"))
    }

    /// The reply to an equal request.
    pub fn find(&self, request: &ChatRequest) -> Option<Reply> {
        let bytes = read_capped(&self.path(&request.sha256()), ENTRY_LIMIT_BYTES).ok()?;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        (entry.format == FORMAT && entry.request == *request).then_some(entry.reply)
    }

    /// Keeps a reply.
    pub fn keep(&self, request: &ChatRequest, reply: &Reply) {
        let path = self.path(&request.sha256());
        let entry = Entry { format: FORMAT, request: request.clone(), reply: reply.clone() };
        if let Err(error) = write(&path, &entry) {
            tracing::debug!("the judge's cache does not take {}: {error}", path.display());
        }
    }
}

/// Writes beside the place and renames, so that a reader sees a whole entry or none.
fn write(path: &Path, entry: &Entry) -> std::io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
    let written = std::fs::write(&temporary, serde_json::to_vec(entry)?).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // Nothing to do where even that fails.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Message, Role};

    #[test]
    fn only_an_equal_request_finds_a_reply() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ReplyCache::at(folder.path());
        let request = |content: &str, temperature| ChatRequest {
            model: "m".to_owned(),
            messages: vec![Message { role: Role::User, content: content.to_owned() }],
            temperature,
            max_tokens: Some(3),
        };
        let reply = Reply { text: "0.5".to_owned(), ..Reply::default() };
        cache.keep(&request("é", Some(0.0)), &reply);
        assert_eq!(cache.find(&request("é", Some(0.0))), Some(reply.clone()));
        assert_eq!(cache.find(&request("é", Some(0.5))), None);
        assert_eq!(cache.find(&request("e", Some(0.0))), None);
        let other = request("other", None);
        let (from, to) = (cache.path(&request("é", Some(0.0)).sha256()), cache.path(&other.sha256()));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(&from, to).unwrap();
        assert_eq!(cache.find(&other), None, "an entry under a wrong name");
        std::fs::write(&from, b"{").unwrap();
        assert_eq!(cache.find(&request("é", Some(0.0))), None, "a broken entry");
    }
}
