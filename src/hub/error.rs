//! Why a named checkpoint was not found or fetched.

use std::path::PathBuf;

use crate::guard::files::GuardError;

/// Why a named checkpoint was not found or fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A file of the cache could not be read within its cap.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The name is not of the form that is understood.
    #[error("{name:?} is not a name of the form hf://organisation/name or hf://organisation/name@revision: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The cache does not have it.
    #[error(
        "{name} is not in the local cache: {looked_for} does not exist. Fetch it into the cache with the Hugging Face tools on a \
         machine that has access, or give --download here"
    )]
    NotCached {
        /// The checkpoint.
        name: String,
        /// What was looked for last.
        looked_for: PathBuf,
    },
    /// The place of the cache is unknown.
    #[error("no cache folder: set HF_HOME or HF_HUB_CACHE, as there is no home folder")]
    NoCache,
    /// A link of a snapshot leads out of its repository.
    #[error("{link} leads to {target}, outside of its repository {repository} in the cache; it is not followed")]
    Escapes {
        /// The link.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
        /// The repository's folder.
        repository: PathBuf,
    },
    /// A link of a snapshot leads nowhere.
    #[error("{link} leads to nothing: the file that it stood for was removed from the cache")]
    BrokenLink {
        /// The link.
        link: PathBuf,
    },
    /// A file of the cache is not what it should be.
    #[error("{path}: {reason}")]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No server was named.
    #[error("--download needs the address of a hub in HF_ENDPOINT, such as https://hub.example.org; none is built in")]
    NoEndpoint,
    /// The server's address is not usable.
    #[error("HF_ENDPOINT is {found:?}, expected an address beginning with https:// (or http:// for this machine or a mirror)")]
    Endpoint {
        /// The address.
        found: String,
    },
    /// `HF_HUB_OFFLINE` forbids what was asked for.
    #[error("--download was given while HF_HUB_OFFLINE forbids it")]
    Offline,
    /// The server refused.
    #[error("the hub answered {status} for {what}{hint}")]
    Status {
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// What it may mean; empty or beginning with `: `.
        hint: &'static str,
    },
    /// The server was not reached, or the connection broke too often.
    #[error("cannot fetch {what} from the hub: {reason}")]
    Transport {
        /// What was asked for.
        what: String,
        /// The reason.
        reason: String,
    },
    /// The server's answer is not what its interface promises.
    #[error("the hub's answer for {what} is not usable: {reason}")]
    Answer {
        /// What was asked for.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// A file is longer or shorter than the server said.
    #[error("{file}: the hub said {expected} bytes and sent {found}; nothing of it is kept")]
    Size {
        /// The file.
        file: String,
        /// Bytes that were announced.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// A file is not the one that the server named.
    #[error("{file}: its {kind} is {found}, and the hub said {expected}; nothing of it is kept")]
    Hash {
        /// The file.
        file: String,
        /// Kind of hash.
        kind: &'static str,
        /// Hash that was announced.
        expected: String,
        /// Hash of what came.
        found: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}
