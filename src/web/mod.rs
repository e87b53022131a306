//! The web room: a small HTTP/1.1 server for pages that a person looks at on the same machine.
//!
//! It answers GET and HEAD alone, reads no request body, closes each connection after one answer, and bounds everything that a
//! client can send or keep: size and time of the request, connections at a time. A request whose `Host` is a name that nobody
//! gave to this server is refused, so that a page from elsewhere cannot reach it through its own name (DNS rebinding). It
//! knows no run and writes no file.

mod request;
mod server;

pub use request::{Refusal, Request};
pub use server::{Answer, MOST_CONNECTIONS, Server, ServerError};
