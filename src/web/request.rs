//! Reading one request, and refusing what is none.

use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest request line and headers together.
const HEAD_LIMIT_BYTES: usize = 16 << 10;

/// Longest path.
const PATH_LIMIT_BYTES: usize = 2 << 10;

/// The whole head must be there after so long, however slowly it comes.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Only the head of the answer is wanted.
    pub head_only: bool,
    /// Path as sent, without the query: begins with `/`, and holds only visible ASCII without `%`, `\`, empty, `.` and `..`
    /// parts.
    pub path: String,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No HTTP that this server reads.
    Malformed,
    /// Larger than what is read.
    TooLarge,
    /// The head did not come in time.
    TooSlow,
    /// Neither GET nor HEAD.
    Method,
    /// Not for this server's name.
    Host,
    /// The other side went away before it asked.
    Gone,
}

impl Refusal {
    /// Status code and phrase; `None` where nobody is left to tell.
    pub fn status(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Malformed => Some((400, "Bad Request")),
            Self::TooLarge => Some((431, "Request Header Fields Too Large")),
            Self::TooSlow => Some((408, "Request Timeout")),
            Self::Method => Some((405, "Method Not Allowed")),
            Self::Host => Some((421, "Misdirected Request")),
            Self::Gone => None,
        }
    }
}

/// Reads the head of a request. `allowed` is a name besides addresses and `localhost` under which the server may be asked;
/// `stop` ends the wait.
pub(super) fn read(stream: &mut dyn Read, allowed: &str, stop: &AtomicBool) -> Result<Request, Refusal> {
    let started = Instant::now();
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    let end = loop {
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if head.len() >= HEAD_LIMIT_BYTES {
            return Err(Refusal::TooLarge);
        }
        // One read waits a part of the time only, so that a trickle of bytes cannot stretch it.
        if started.elapsed() >= HEAD_TIME {
            return Err(Refusal::TooSlow);
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Refusal::Gone);
        }
        match stream.read(&mut chunk) {
            Ok(0) if head.is_empty() => return Err(Refusal::Gone),
            Ok(0) => return Err(Refusal::Malformed),
            Ok(count) => head.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return Err(Refusal::Gone),
        }
    };
    parse(head.get(..end).unwrap_or_default(), allowed)
}

fn parse(head: &[u8], allowed: &str) -> Result<Request, Refusal> {
    let text = std::str::from_utf8(head).map_err(|_| Refusal::Malformed)?;
    let mut lines = text.split("\r\n");
    let mut parts = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Refusal::Malformed);
    };
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(Refusal::Malformed);
    }
    let mut hosts = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Refusal::Malformed)?;
        if name.is_empty()
            || name.bytes().any(|byte| !byte.is_ascii_graphic())
            || value.bytes().any(|byte| byte == b'\n' || byte == 0)
        {
            return Err(Refusal::Malformed);
        }
        if name.eq_ignore_ascii_case("host") {
            hosts.push(value.trim());
        }
    }
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Refusal::Method),
    };
    match hosts.as_slice() {
        [host] if may_ask(host, allowed) => {}
        _ => return Err(Refusal::Host),
    }
    let path = target.split('?').next().unwrap_or_default();
    if path.len() > PATH_LIMIT_BYTES {
        return Err(Refusal::TooLarge);
    }
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\'));
    // The last part is empty where the path ends in a slash.
    let mut inner = path.split('/').skip(1).peekable();
    let mut climbs = false;
    while let Some(part) = inner.next() {
        climbs |= matches!(part, "." | "..") || part.is_empty() && inner.peek().is_some();
    }
    if !path.starts_with('/') || !plain || climbs {
        return Err(Refusal::Malformed);
    }
    Ok(Request { head_only, path: path.to_owned() })
}

/// Whether a `Host` is an address, `localhost` or the allowed name. An address cannot be rebound: only names can.
fn may_ask(host: &str, allowed: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if is_port(port) => return address.parse::<std::net::Ipv6Addr>().is_ok(),
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if is_port(&format!(":{port}")) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(allowed)
}

/// Nothing, or a colon and a number.
fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|digits| digits.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Result<Request, Refusal> {
        read(&mut text.as_bytes(), "127.0.0.1", &AtomicBool::new(false))
    }

    #[test]
    fn ordinary_requests_are_read() {
        let get = |path: &str| Ok(Request { head_only: false, path: path.to_owned() });
        assert_eq!(ask("GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n"), get("/"));
        assert_eq!(ask("GET /status.json?x=../.. HTTP/1.1\r\nhost:localhost\r\nA: b\r\n\r\n"), get("/status.json"));
        assert_eq!(ask("GET /report/ HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"), get("/report/"));
        assert_eq!(
            ask("HEAD /report/index.html HTTP/1.0\r\nHost: LOCALHOST:1\r\n\r\n"),
            Ok(Request { head_only: true, path: "/report/index.html".to_owned() })
        );
    }

    #[test]
    fn names_of_others_are_refused() {
        for host in [
            "evil.example",
            "evil.example:80",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "[::1",
            "[x]",
            "1:2:3",
            "localhost:99999",
        ] {
            assert_eq!(ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), Err(Refusal::Host), "{host}");
        }
        assert_eq!(ask("GET / HTTP/1.1\r\n\r\n"), Err(Refusal::Host));
        assert_eq!(ask("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"), Err(Refusal::Host));
        let named =
            read(&mut "GET / HTTP/1.1\r\nHost: lab.example:80\r\n\r\n".as_bytes(), "lab.example", &AtomicBool::new(false));
        assert!(named.is_ok());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for path in ["/../etc/passwd", "/a/../b", "/./", "//host/", "/a//b", "/%2e%2e/x", "/a\\b", "http://x/", "*", "/\u{e9}"] {
            assert_eq!(ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")), Err(Refusal::Malformed), "{path}");
        }
        assert_eq!(ask("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n"), Err(Refusal::Method));
        assert_eq!(ask("GET / HTTP/2\r\nHost: localhost\r\n\r\n"), Err(Refusal::Malformed));
        assert_eq!(ask("GET /\r\nHost: localhost\r\n\r\n"), Err(Refusal::Malformed));
        assert_eq!(ask("GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n"), Err(Refusal::Malformed));
        assert_eq!(ask("GET / HTTP/1.1\r\nHost: local"), Err(Refusal::Malformed));
        assert_eq!(ask(""), Err(Refusal::Gone));
        assert_eq!(
            ask(&format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000))),
            Err(Refusal::TooLarge)
        );
        assert_eq!(ask(&format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(3_000))), Err(Refusal::TooLarge));
    }
}
