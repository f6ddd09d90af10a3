//! A front, and what sends requests to it.

#![allow(dead_code, reason = "not every test binary needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, reason = "test binaries have no public API")]

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    process::Stdio,
};

use ring::hmac;
use serde_json::Value;

use super::world::{Daemon, World};

/// A front on a Unix socket.
pub struct Front {
    pub process: Daemon,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }
}

impl Front {
    /// One with these `webhooks`, and `more` of the file's fields.
    pub fn start(world: &World, webhooks: &str, more: &str) -> Self {
        world.write(
            "web.ron",
            &format!(
                "(listen: [Unix(path: \"web.sock\")], daemon: \"./s.sock\", webhooks: {{ {webhooks} }}, {more})"
            ),
        );
        let mut command = world.command(["web", "-c", "web.ron"]);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut process = Daemon::of(child, world.path("web.sock"));
        process.wait_for("ready");
        Self { process }
    }

    /// One request, of which `head` are the lines behind the first one.
    pub fn ask(&self, first: &str, head: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = UnixStream::connect(&self.process.socket).unwrap();
        let mut request = format!("{first} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in head {
            request += &format!("{name}: {value}\r\n");
        }
        if !head.iter().any(|(name, _)| *name == "Content-Length") {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += "\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        // It may refuse before it has read everything.
        stream.write_all(body).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        Answer {
            status: head
                .split(' ')
                .nth(1)
                .unwrap_or_default()
                .parse()
                .unwrap_or_default(),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }
}

pub const JSON: (&str, &str) = ("Content-Type", "application/json");

/// HMAC-SHA256 of `body`, in hexadecimal.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
