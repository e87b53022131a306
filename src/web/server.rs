//! Listening, one thread a connection up to a cap, and writing answers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::request::{self, Request};

/// Connections at a time; more are told to come back.
pub const MOST_CONNECTIONS: usize = 32;

/// How long one read waits, so that the deadline of the whole request is looked at.
const READ_WAIT: Duration = Duration::from_secs(1);

/// How long one write may take.
const WRITE_WAIT: Duration = Duration::from_secs(20);

/// How often the stop signal is looked at.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is none.
    #[error("--host {host:?} is no address of this machine: {message}")]
    Host {
        /// What was given.
        host: String,
        /// The reason.
        message: String,
    },
    /// The port cannot be had.
    #[error("cannot listen at {address}: {source}; another --port may be free, 0 takes any")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The reason.
        source: std::io::Error,
    },
}

/// What is sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Content type.
    pub content_type: &'static str,
    /// The page's own policy; without one nothing may be loaded or run.
    pub policy: Option<String>,
    /// Where to go instead.
    pub location: Option<&'static str>,
    /// Content.
    pub body: Arc<[u8]>,
}

impl Answer {
    /// A whole page or file.
    pub fn ok(content_type: &'static str, body: impl Into<Arc<[u8]>>) -> Self {
        Self { status: 200, content_type, policy: None, location: None, body: body.into() }
    }

    /// A line of plain text.
    pub fn text(status: u16, text: &str) -> Self {
        let body = format!("{text}\n").into_bytes();
        Self { status, content_type: "text/plain; charset=utf-8", policy: None, location: None, body: body.into() }
    }
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    host: String,
}

impl Server {
    /// Listens at a host (an address or a name of this machine) and port; port 0 takes any that is free.
    pub fn listen(host: &str, port: u16) -> Result<Self, ServerError> {
        let no_host = |message: String| ServerError::Host { host: host.to_owned(), message };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = (bare, port).to_socket_addrs().map_err(|error| no_host(error.to_string()))?;
        let address = addresses.next().ok_or_else(|| no_host("it has no address".to_owned()))?;
        let failed = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, host: bare.to_owned() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Answers requests until `stop` is set. `answer` is called from many threads.
    pub fn run(&self, stop: &AtomicBool, answer: &(dyn Fn(&Request) -> Answer + Sync)) {
        let open = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            while !stop.load(Ordering::Relaxed) {
                let stream = match self.listener.accept() {
                    Ok((stream, _)) => stream,
                    // Nobody is there, or a connection went away before it was taken.
                    Err(_) => {
                        std::thread::sleep(ACCEPT_PAUSE);
                        continue;
                    }
                };
                if open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
                    open.fetch_sub(1, Ordering::Relaxed);
                    turn_away(stream);
                    continue;
                }
                let open = &open;
                let spawned = std::thread::Builder::new().name("web".to_owned()).spawn_scoped(scope, move || {
                    serve(stream, &self.host, stop, answer);
                    open.fetch_sub(1, Ordering::Relaxed);
                });
                if spawned.is_err() {
                    // The closure, and with it the connection, is gone.
                    open.fetch_sub(1, Ordering::Relaxed);
                }
            }
        });
    }
}

/// Too many are here already: says so without reading, and without waiting for anybody.
fn turn_away(mut stream: TcpStream) {
    let _ = stream.set_nonblocking(true);
    let _ = stream.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

/// One request and its answer. Errors of the connection end it: nobody is left to be told.
fn serve(mut stream: TcpStream, host: &str, stop: &AtomicBool, answer: &(dyn Fn(&Request) -> Answer + Sync)) {
    let ready = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(READ_WAIT)))
        .and_then(|()| stream.set_write_timeout(Some(WRITE_WAIT)));
    if ready.is_err() {
        return;
    }
    match request::read(&mut stream, host, stop) {
        Ok(request) => {
            let _ = write(&mut stream, &answer(&request), request.head_only);
        }
        Err(refusal) => {
            let Some((status, phrase)) = refusal.status() else { return };
            let _ = write(&mut stream, &Answer::text(status, phrase), false);
            drain(&mut stream);
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// Reads a little of what is still coming, because closing on unread bytes would take the refusal away from the client.
fn drain(stream: &mut TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let until = Instant::now() + READ_WAIT;
    let mut chunk = [0; 4096];
    let mut left = 256;
    while left > 0 && Instant::now() < until && matches!(stream.read(&mut chunk), Ok(count) if count > 0) {
        left -= 1;
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        303 => "See Other",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

fn write(stream: &mut TcpStream, answer: &Answer, head_only: bool) -> std::io::Result<()> {
    let policy = answer.policy.as_deref().unwrap_or("default-src 'none'; frame-ancestors 'none'");
    let location = answer.location.map_or_else(String::new, |to| format!("Location: {to}\r\n"));
    let allow = if answer.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nContent-Security-Policy: {policy}\r\n{location}{allow}\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n\
         Cross-Origin-Opener-Policy: same-origin\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        answer.status,
        phrase(answer.status),
        answer.content_type,
        answer.body.len(),
    );
    stream.write_all(head.as_bytes())?;
    if !head_only {
        stream.write_all(&answer.body)?;
    }
    stream.flush()
}
