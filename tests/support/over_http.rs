//! A repository over HTTP, as far as polls need it: requests are read, and git makes the answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, reason = "test binaries have no public API")]

use std::{
    io::{BufRead, Write},
    path::Path,
    process::{Command, Stdio},
};

/// What a client of a repository asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    Capabilities,
    Refs,
    Fetch,
}

/// What is asked for, and the body; nothing at the end of the connection.
pub fn request(from: &mut impl BufRead) -> std::io::Result<Option<(Asked, Vec<u8>)>> {
    let (mut first, mut length) = (String::new(), 0);
    if from.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut line = first.clone();
    while !line.trim_end().is_empty() {
        line.clear();
        from.read_line(&mut line)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    let asked = if !first.starts_with("POST ") {
        Asked::Capabilities
    } else if String::from_utf8_lossy(&body).contains("command=ls-refs") {
        Asked::Refs
    } else {
        Asked::Fetch
    };
    Ok(Some((asked, body)))
}

/// What git answers, in this version of the protocol.
pub fn upload_pack(repo: &Path, asked: Asked, body: &[u8], version: u8) -> Vec<u8> {
    let is_post = asked != Asked::Capabilities;
    let mode = if is_post {
        "--stateless-rpc"
    } else {
        "--http-backend-info-refs"
    };
    let mut child = Command::new("git")
        .args(["upload-pack", mode])
        .arg(repo)
        .env("GIT_PROTOCOL", format!("version={version}"))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    let answer = child.wait_with_output().unwrap().stdout;
    if is_post {
        answer
    } else {
        [b"001e# service=git-upload-pack\n0000", answer.as_slice()].concat()
    }
}

/// Send `answer`; nothing says that the repository is not there.
pub fn respond(to: &mut impl Write, asked: Asked, answer: Option<&[u8]>) -> std::io::Result<()> {
    let kind = if asked == Asked::Capabilities {
        "advertisement"
    } else {
        "result"
    };
    let status = if answer.is_some() {
        "200 OK"
    } else {
        "404 Not Found"
    };
    let answer = answer.unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/x-git-upload-pack-{kind}\r\nContent-Length: {}\r\n\r\n",
        answer.len()
    );
    to.write_all(&[head.as_bytes(), answer].concat())
}
