//! `serve`: runs watched through their directories while they grow, and what a small server must bear.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop where it failed")]

mod common;
mod made_runs;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{gauge_fails, text};
use llava_gauge::store::RunWriter;
use made_runs::{header, record, write};
use serde_json::{Value, json};

/// A server that ends with the test.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn start(folder: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_llava-gauge"))
            .args(["serve", text(folder), "--port", "0"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix('/')).unwrap().to_owned();
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends bytes and returns status, head and body.
    fn send(&self, bytes: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = self.connect();
        // A server that refuses early may close while we still write.
        let _ = stream.write_all(bytes);
        answer(&mut stream)
    }

    fn get(&self, path: &str) -> (u16, String, Vec<u8>) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).as_bytes())
    }

    fn status(&self) -> Value {
        let (code, head, body) = self.get("/status.json");
        assert_eq!(code, 200);
        assert!(head.contains("Content-Type: application/json"));
        serde_json::from_slice(&body).unwrap()
    }

    /// Asks until the state is as wanted.
    fn wait_for(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let status = self.status();
            if is(&status) {
                return status;
            }
            assert!(Instant::now() < until, "{what} was not seen: {status}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Ends it as Ctrl-C does; exit code and what it wrote to standard error.
    fn interrupt(mut self, signal: &str) -> (Option<i32>, String) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(stream: &mut TcpStream) -> (u16, String, Vec<u8>) {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, head, bytes.get(end + 4..).unwrap_or_default().to_vec())
}

#[test]
fn a_run_is_seen_while_it_grows() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let served = Served::start(&runs, &[]);
    let before = served.status();
    assert_eq!(before["runs"], json!([]));
    assert_eq!(before["finished"], false);
    assert!(before["notes"][0].as_str().unwrap().contains("no run yet"));
    let (code, ..) = served.get("/report/");
    assert_eq!(code, 409);

    let directory = runs.join("deep/down/pack/yes-no");
    let run = header("pack", 8, "2026-05-01T00:00:00Z", |header| header["tag"] = json!("nightly"));
    let (mut writer, _) = RunWriter::open_or_resume(&directory, &run).unwrap();
    let records: Vec<_> = (0..8).map(|index| record(index, index % 4 != 3, 20.0 + (index / 2) as f64)).collect();
    writer.append(&records[..4]).unwrap();
    let status = served.wait_for("the first half", |status| status["recorded"] == 4);
    let seen = &status["runs"][0];
    assert_eq!((seen["package"].as_str(), seen["tag"].as_str()), (Some("pack"), Some("nightly")));
    assert_eq!((seen["planned"].as_u64(), seen["complete"].as_bool()), (Some(8), Some(false)));
    assert_eq!(seen["metric"]["name"], "accuracy");
    assert_eq!(seen["metric"]["value"], 75.0);
    assert_eq!(seen["metric"]["clusters"], 2);
    assert_eq!(seen["latest"][0]["key"], "q3");
    // Vision 20 + 21 of 58 milliseconds in two groups, and the rest of each 8.5.
    let vision = seen["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == "vision").unwrap();
    assert!((vision["share"].as_f64().unwrap() - 41.0 / 58.0).abs() < 1e-9, "{vision}");
    // Before any pace was seen it is that of the engine: 56 ms without the images for four questions.
    assert!(seen["questions_per_second"].as_f64().unwrap() > 0.0);
    assert!(seen["eta_seconds"].as_f64().unwrap() > 0.0);

    // A line that is being written is not there yet, and then it is.
    writer.append(&records[4..6]).unwrap();
    writer.sync().unwrap();
    let log = directory.join("samples.jsonl");
    let whole = std::fs::read(&log).unwrap();
    drop(writer);
    let mut torn = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    torn.write_all(b"{\"record\":{\"key\":\"q6\",").unwrap();
    served.wait_for("the third part", |status| status["recorded"] == 6);
    std::thread::sleep(Duration::from_millis(700));
    let status = served.status();
    assert_eq!((status["recorded"].as_u64(), status["runs"][0]["damaged_lines"].as_u64()), (Some(6), Some(0)));
    drop(torn);
    // Continuing cuts the torn line off, which is behind everything that was read.
    let (mut writer, recovered) = RunWriter::open_or_resume(&directory, &run).unwrap();
    assert_eq!(recovered.len(), 6);
    assert_eq!(std::fs::read(&log).unwrap(), whole);
    writer.append(&records[6..]).unwrap();
    writer.finish(b"{}").unwrap();
    let status = served.wait_for("the end", |status| status["finished"] == true);
    assert_eq!(status["runs"][0]["metric"]["value"], 75.0);
    assert_eq!(status["runs"][0]["eta_seconds"], Value::Null);

    // The same folder begun anew is another run.
    std::fs::remove_dir_all(&directory).unwrap();
    let anew = header("pack", 8, "2026-05-02T00:00:00Z", |_| {});
    let (mut writer, _) = RunWriter::open_or_resume(&directory, &anew).unwrap();
    writer.append(&records[..2]).unwrap();
    let status = served.wait_for("the new run", |status| status["recorded"] == 2);
    assert_eq!(status["runs"][0]["started"], "2026-05-02T00:00:00Z");
    let (code, said) = served.interrupt("-INT");
    assert_eq!(code, Some(0));
    assert!(said.contains("no run is there yet"), "{said}");
}

#[test]
fn the_report_is_made_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("one"), &header("one", 20, "2026-05-01T00:00:00Z", |_| {}), 10, 20.0);
    write(&folder.path().join("two"), &header("two", 20, "2026-05-01T00:00:00Z", |_| {}), 15, 20.0);
    let served = Served::start(folder.path(), &[]);
    let (code, head, _) = served.get("/report");
    assert_eq!(code, 303);
    assert!(head.contains("Location: /report/"));
    let (code, head, body) = served.get("/report/");
    assert_eq!(code, 200);
    assert!(head.contains("Content-Type: text/html"));
    let page = String::from_utf8(body).unwrap();
    assert!(page.contains("one") && page.contains("two") && page.contains("Content-Security-Policy"));
    let (code, _, body) = served.get("/report/results.json");
    assert_eq!(code, 200);
    assert!(serde_json::from_slice::<Value>(&body).unwrap()["runs"].as_array().unwrap().len() == 2);
    assert_eq!(served.get("/report/nothing.html").0, 404);
    assert_eq!(served.interrupt("-TERM").0, Some(0));

    // Runs that cannot be compared have no report, and the answer says why.
    write(
        &folder.path().join("three"),
        &header("three", 20, "2026-05-01T00:00:00Z", |header| header["benchmark"]["scorer"] = json!("yes-no/9")),
        15,
        20.0,
    );
    let served = Served::start(folder.path(), &[]);
    let (code, _, body) = served.get("/report/");
    assert_eq!(code, 409);
    assert!(String::from_utf8(body).unwrap().contains("yes-no/9"));
}

#[test]
fn hostile_requests_are_refused_and_others_still_answered() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("one"), &header("one", 4, "2026-05-01T00:00:00Z", |_| {}), 2, 20.0);
    let served = Served::start(folder.path(), &[]);
    let host = served.address.clone();
    let (code, head, body) = served.get("/");
    assert_eq!(code, 200);
    for wanted in
        ["default-src 'none'", "connect-src 'self'", "script-src 'sha256-", "frame-ancestors 'none'", "nosniff", "no-store"]
    {
        assert!(head.contains(wanted), "{wanted} is not in {head}");
    }
    assert!(!head.to_ascii_lowercase().contains("access-control"), "{head}");
    assert!(!head.contains("unsafe"), "{head}");
    let page = String::from_utf8(body).unwrap();
    assert!(!page.contains("http://") && !page.contains("https://"), "the page names another place");

    let sized = |size: usize| format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "x".repeat(size)).into_bytes();
    assert_eq!(served.send(&sized(100)).0, 200);
    assert_eq!(served.send(&sized(1 << 20)).0, 431);
    for name in ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""] {
        assert_eq!(served.send(format!("GET /status.json HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes()).0, 421, "{name}");
    }
    assert_eq!(served.send(b"GET /status.json HTTP/1.1\r\n\r\n").0, 421);
    let port = host.rsplit_once(':').unwrap().1;
    assert_eq!(served.send(format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n").as_bytes()).0, 200);
    for path in ["/../run.json", "/report/../../run.json", "/report/%2e%2e/run.json", "//etc/passwd", "/report/..\\x"] {
        assert_eq!(served.get(path).0, 400, "{path}");
    }
    for path in ["/run.json", "/samples.jsonl", "/one/run.json", "/report/run.json", "/favicon.ico", "/status.json/"] {
        assert_eq!(served.get(path).0, 404, "{path}");
    }
    for method in ["POST", "PUT", "OPTIONS", "DELETE"] {
        let (code, head, _) =
            served.send(format!("{method} / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nabc").as_bytes());
        assert_eq!(code, 405);
        assert!(head.contains("Allow: GET, HEAD"));
    }
    let (code, head, body) = served.send(format!("HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    assert_eq!((code, body.len()), (200, 0));
    assert!(head.contains("Content-Length: "));
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\xff: x\r\n\r\n",
    ] {
        assert_eq!(served.send(junk).0, 400, "{junk:?}");
    }

    // Slow ones keep nobody else waiting, as long as they leave a place.
    let mut slow: Vec<TcpStream> = (0..llava_gauge::web::MOST_CONNECTIONS - 2).map(|_| served.connect()).collect();
    slow.iter_mut().for_each(|stream| stream.write_all(b"GET / HT").unwrap());
    assert_eq!(served.get("/status.json").0, 200);
    // One too many is told so at once; those before it stay and take the last places.
    let turned_away = (0..8).any(|_| {
        let mut stream = served.connect();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let (code, ..) = answer(&mut stream);
        slow.push(stream);
        code == 503
    });
    assert!(turned_away);
    // All are let go in the end.
    assert_eq!(answer(&mut slow[0]).0, 408);
    assert_eq!(served.interrupt("-INT").0, Some(0));
}

#[test]
fn what_a_model_says_is_text() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = "</script><img src=x onerror=alert(1)>\u{1b}[31m\u{202e}\u{0}\u{2028}";
    let run = header(hostile, 2, "2026-05-01T00:00:00Z", |header| {
        for field in ["name", "title"] {
            header["benchmark"][field] = json!(hostile);
        }
        header["tag"] = json!(hostile);
        header["benchmark"]["metrics"][0]["name"] = json!(hostile);
    });
    let (mut writer, _) = RunWriter::open_or_resume(&folder.path().join("run"), &run).unwrap();
    let mut said = record(0, true, 1.0);
    (said.text, said.question, said.parsed) = (hostile.repeat(100), hostile.to_owned(), Some(hostile.to_owned()));
    let mut failed = record(1, false, 1.0);
    failed.score = None;
    failed.failure = Some(llava_gauge::store::Failure { kind: "image".into(), message: hostile.into() });
    writer.append(&[said, failed]).unwrap();
    let served = Served::start(folder.path(), &[]);
    let (_, head, body) = served.get("/status.json");
    assert!(head.contains("nosniff"));
    let status: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status["failed"], 1);
    let shown = status["runs"][0]["latest"][1]["answer"].as_str().unwrap();
    assert!(shown.starts_with("</script><img src=x onerror=alert(1)>␛[31m⟨U+202E⟩␀⟨U+2028⟩"), "{shown}");
    assert!(status["runs"][0]["latest"][0]["failure"].as_str().unwrap().starts_with("image: </script>"));
    assert!(body.len() < 10_000, "long answers are cut: {} bytes", body.len());
    let text = String::from_utf8(body).unwrap();
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{2028}']));
    // The page itself holds nothing of a run.
    let (_, _, page) = served.get("/");
    assert!(!String::from_utf8(page).unwrap().contains("onerror"));
}

#[test]
fn where_it_listens_is_checked_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path(), &[]);
    assert!(served.address.starts_with("127.0.0.1:"));
    let port = served.address.rsplit_once(':').unwrap().1.to_owned();
    assert!(gauge_fails(&["serve", text(folder.path()), "--port", &port], 96).contains("cannot listen"));
    // An address of nobody (RFC 5737), and a name that is longer than names can be: neither asks a name server.
    assert!(gauge_fails(&["serve", text(folder.path()), "--host", "192.0.2.1"], 96).contains("cannot listen"));
    assert!(gauge_fails(&["serve", text(folder.path()), "--host", &"x".repeat(70)], 96).contains("--host"));
    gauge_fails(&["serve", text(folder.path()), "--port", "70000"], 2);
    drop(served);
    let open = Served::start(folder.path(), &["--host", "0.0.0.0"]);
    let (code, said) = open.interrupt("-INT");
    assert_eq!(code, Some(0));
    assert!(said.contains("warning: 0.0.0.0:") && said.contains("other machines"), "{said}");
}
