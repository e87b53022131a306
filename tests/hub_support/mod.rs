//! A hub on this machine: a server that lists a repository, redirects large files to a second server, and can be told to
//! fail in every way.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use llava_gauge::hub::{Cache, Remote};
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The commit that the server has.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong, by the name of the file.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The content server closes the connection after so many bytes, so many times.
    Cut(usize, usize),
    /// The content server sends this in place of the content.
    Content(Vec<u8>),
    /// The content server says nothing of the length, and sends this.
    Unsized(Vec<u8>),
    /// The hub says this length.
    LinkedSize(u64),
    /// The hub says this entity tag.
    Etag(String),
    /// The hub answers with this status, so many times.
    Status(u16, usize),
    /// The content server does not know ranges.
    NoRanges,
    /// The hub answers for another commit.
    OtherCommit,
    /// The hub redirects to itself for ever.
    Loop,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub server: &'static str,
    pub line: String,
    pub headers: BTreeMap<String, String>,
}

#[derive(Default)]
pub struct State {
    pub files: BTreeMap<String, Vec<u8>>,
    pub faults: BTreeMap<String, Fault>,
    pub requests: Vec<Request>,
    /// Takes the place of the list of files.
    pub listing: Option<String>,
    content_address: String,
}

/// The server with what it has and has seen.
#[derive(Clone)]
pub struct Hub {
    pub address: String,
    pub state: Arc<Mutex<State>>,
}

impl Hub {
    /// Serves the files of a folder as `hf://org/name`.
    pub fn serve(folder: &Path) -> Self {
        let mut state = State::default();
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            state.files.insert(entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
        }
        let state = Arc::new(Mutex::new(state));
        let content = listen(state.clone(), "content", serve_content);
        state.lock().unwrap().content_address = content;
        Self { address: listen(state.clone(), "hub", serve_hub), state }
    }

    pub fn fault(&self, file: &str, fault: Fault) {
        self.state.lock().unwrap().faults.insert(file.to_owned(), fault);
    }

    pub fn remote(&self) -> Remote {
        let address = self.address.clone();
        let value = move |name: &str| match name {
            "HF_ENDPOINT" => Some(address.clone()),
            "HF_TOKEN" => Some("secret-token".to_owned()),
            _ => None,
        };
        Remote::from_environment(value).unwrap()
    }

    /// Requests whose first line contains a text.
    pub fn requests(&self, part: &str) -> Vec<Request> {
        self.state.lock().unwrap().requests.iter().filter(|request| request.line.contains(part)).cloned().collect()
    }
}

pub fn cache(folder: &tempfile::TempDir) -> Cache {
    Cache::at(folder.path().join("cache"))
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn git_hash(bytes: &[u8]) -> String {
    let content = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    Sha1::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin") || name.ends_with(".model")
}

fn listen(state: Arc<Mutex<State>>, server: &'static str, answer: fn(&mut State, &Request) -> Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let state = state.clone();
            std::thread::spawn(move || drop(exchange(stream.unwrap(), &state, server, answer)));
        }
    });
    address
}

fn exchange(
    mut stream: TcpStream,
    state: &Mutex<State>,
    server: &'static str,
    answer: fn(&mut State, &Request) -> Vec<u8>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = Request { server, line: String::new(), headers: BTreeMap::new() };
    reader.read_line(&mut request.line)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        let (name, value) = line.trim().split_once(": ").unwrap();
        request.headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let bytes = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        answer(&mut state, &request)
    };
    stream.write_all(&bytes)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Until the other side closes, so that nothing that was sent is thrown away.
    let _ = reader.read_to_end(&mut Vec::new());
    Ok(())
}

fn reply(status: u16, headers: &[(&str, String)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// Counts down a fault that happens only so often.
fn happens(state: &mut State, name: &str) -> Option<Fault> {
    let fault = state.faults.get_mut(name)?;
    if let Fault::Cut(_, times) | Fault::Status(_, times) = fault {
        if *times == 0 {
            return None;
        }
        *times -= 1;
    }
    Some(fault.clone())
}

fn serve_hub(state: &mut State, request: &Request) -> Vec<u8> {
    let mut words = request.line.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
    if path.starts_with("/api/models/org/name/revision/") {
        if let Some(Fault::Status(status, _)) = happens(state, "listing") {
            return reply(status, &[("Content-Length", "0".to_owned())], b"");
        }
        let files: Vec<_> = state.files.keys().map(|name| json!({"rfilename": name})).collect();
        let text = state.listing.clone().unwrap_or_else(|| json!({"sha": COMMIT, "siblings": files}).to_string());
        return reply(200, &[("Content-Length", text.len().to_string())], text.as_bytes());
    }
    let Some(name) = path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/")).map(str::to_owned) else {
        return reply(404, &[("Content-Length", "0".to_owned())], b"");
    };
    let Some(bytes) = state.files.get(&name).cloned() else {
        return reply(404, &[("Content-Length", "0".to_owned())], b"");
    };
    // Faults of the content server are counted there.
    let fault = match state.faults.get(&name) {
        Some(Fault::Cut(..)) => None,
        _ => happens(state, &name),
    };
    let mut headers = vec![("X-Repo-Commit", COMMIT.to_owned())];
    let mut etag = if is_large(&name) { sha256(&bytes) } else { git_hash(&bytes) };
    let mut size = bytes.len() as u64;
    match fault {
        Some(Fault::Status(status, _)) => return reply(status, &[("Content-Length", "0".to_owned())], b""),
        Some(Fault::OtherCommit) => headers = vec![("X-Repo-Commit", "f".repeat(40))],
        Some(Fault::Etag(found)) => etag = found,
        Some(Fault::LinkedSize(found)) => size = found,
        Some(Fault::Loop) => return reply(302, &[("Location", path), ("Content-Length", "0".to_owned())], b""),
        _ => {}
    }
    if is_large(&name) {
        headers.push(("X-Linked-Etag", format!("\"{etag}\"")));
        headers.push(("X-Linked-Size", size.to_string()));
        headers.push(("ETag", "\"of-the-answer\"".to_owned()));
        headers.push(("Location", format!("{}/{name}?signature=s", state.content_address)));
        headers.push(("Content-Length", "0".to_owned()));
        return reply(302, &headers, b"");
    }
    headers.push(("ETag", format!("W/\"{etag}\"")));
    headers.push(("Content-Length", bytes.len().to_string()));
    reply(200, &headers, if method == "HEAD" { b"" } else { &bytes })
}

fn serve_content(state: &mut State, request: &Request) -> Vec<u8> {
    let path = request.line.split(' ').nth(1).unwrap();
    let name = path.trim_start_matches('/').split('?').next().unwrap().to_owned();
    let mut bytes = state.files[&name].clone();
    let start = request
        .headers
        .get("range")
        .map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap());
    let (mut start, mut cut) = (start.unwrap_or(0), None);
    match happens(state, &name) {
        Some(Fault::Cut(length, _)) => cut = Some(length),
        Some(Fault::Content(other)) => bytes = other,
        Some(Fault::Unsized(other)) => return reply(200, &[], &other),
        Some(Fault::NoRanges) => start = 0,
        _ => {}
    }
    let mut headers = vec![("Content-Length", (bytes.len() - start).to_string())];
    if start > 0 {
        headers.push(("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())));
    }
    let body = &bytes[start..];
    reply(if start > 0 { 206 } else { 200 }, &headers, &body[..cut.unwrap_or(body.len()).min(body.len())])
}
