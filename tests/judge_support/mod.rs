//! An endpoint of chat completions that misbehaves by script.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What the endpoint does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// A completion with this text.
    Say(String),
    /// A completion after a while.
    SayLate(String, Duration),
    /// This status, these header lines, and this body.
    Status(u16, Vec<String>, String),
    /// A body with status 200, of this content type.
    Body(&'static str, String),
    /// No answer for this long; then the connection is closed.
    Hang(Duration),
    /// The beginning of a completion, then the connection is closed.
    Break,
    /// A chunked body that ends in the middle of a chunk.
    BreakChunked,
    /// A chunked completion, whole.
    Chunked(String),
    /// A byte now and then, for ever.
    Drip(Duration),
    /// A body of so many bytes.
    Huge(usize),
    /// No bytes at all.
    Close,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Value,
    pub at: Instant,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The last message.
    pub fn content(&self) -> &str {
        self.body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap()
    }
}

type Script = dyn Fn(usize, &Seen) -> Act + Send + Sync;

struct Shared {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    now: AtomicUsize,
    most: AtomicUsize,
    over: AtomicBool,
}

/// The endpoint; it ends with the value.
pub struct Server {
    pub url: String,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts an endpoint that acts by the number of the request, from 0, and the request.
    pub fn start(script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            script: Box::new(script),
            seen: Mutex::new(Vec::new()),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let in_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if in_thread.over.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&in_thread);
                std::thread::spawn(move || {
                    let _ = serve(stream, &shared);
                });
            }
        });
        Self { url, shared }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// Most requests that were in work at the same time.
    pub fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://").trim_end_matches("/v1"));
    }
}

/// A completion as OpenAI sends it.
pub fn completion(text: &str) -> String {
    json!({
        "id": "x", "object": "chat.completion", "model": "judge-2026-01-01",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107 },
    })
    .to_string()
}

/// An error as OpenAI sends it.
pub fn error(code: &str, message: &str) -> String {
    json!({ "error": { "message": message, "type": "x", "code": code } }).to_string()
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let seen = Seen { path, headers, body: serde_json::from_slice(&body).unwrap_or_default(), at: Instant::now() };
        let now = shared.now.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(now, Ordering::SeqCst);
        let number = {
            let mut all = shared.seen.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        let act = (shared.script)(number, &seen);
        let again = perform(&mut stream, act, shared);
        if !again? {
            return Ok(());
        }
    }
}

fn respond(stream: &mut TcpStream, status: u16, headers: &[String], body: &str) -> std::io::Result<bool> {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    write!(stream, "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())?;
    Ok(true)
}

/// Whether the connection may be used again. The request counts as done just before its last bytes go out.
fn perform(stream: &mut TcpStream, act: Act, shared: &Shared) -> std::io::Result<bool> {
    let kind = ["content-type: application/json".to_owned()];
    let done = || shared.now.fetch_sub(1, Ordering::SeqCst);
    match act {
        Act::Say(text) => {
            done();
            respond(stream, 200, &kind, &completion(&text))
        }
        Act::SayLate(text, wait) => {
            std::thread::sleep(wait);
            done();
            respond(stream, 200, &kind, &completion(&text))
        }
        Act::Status(status, headers, body) => {
            done();
            respond(stream, status, &headers, &body)
        }
        Act::Body(kind, body) => {
            done();
            respond(stream, 200, &[format!("content-type: {kind}")], &body)
        }
        Act::Hang(time) => {
            std::thread::sleep(time);
            done();
            Ok(false)
        }
        Act::Break => {
            done();
            let body = completion("8 9");
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", body.len(), &body[..20])?;
            Ok(false)
        }
        Act::BreakChunked => {
            done();
            write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n40\r\n{{\"choices\"")?;
            Ok(false)
        }
        Act::Chunked(text) => {
            done();
            let body = completion(&text);
            let (first, second) = body.split_at(30);
            let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
            write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}{}0\r\n\r\n", chunk(first), chunk(second))?;
            Ok(true)
        }
        Act::Drip(pause) => {
            let end = Instant::now() + Duration::from_secs(20);
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{{")?;
            let mut dripped = Ok(());
            while dripped.is_ok() && Instant::now() < end && !shared.over.load(Ordering::SeqCst) {
                std::thread::sleep(pause);
                dripped = stream.write_all(b" ").and_then(|()| stream.flush());
            }
            done();
            Ok(false)
        }
        Act::Huge(bytes) => {
            done();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n")?;
            let block = [b' '; 65_536];
            let mut left = bytes;
            while left > 0 {
                let part = left.min(block.len());
                stream.write_all(&block[..part])?;
                left -= part;
            }
            Ok(false)
        }
        Act::Close => {
            done();
            Ok(false)
        }
    }
}
