//! git's own servers: `git daemon`, and `git http-backend` behind a small CGI server.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use tempfile::TempDir;

use super::server::{Answer, Request, Server};
use crate::machine;

/// A folder with the repository `x.git`.
pub(super) struct Origin(TempDir);

impl Origin {
    /// A repository with three commits on `main`, if git is there.
    pub(super) fn new() -> Option<Self> {
        if !machine::need("git") {
            return None;
        }
        let origin = Self(crate::machine::tempdir().unwrap());
        origin.git(&["init", "-q", "--bare", "-b", "main", "."]);
        for name in ["one", "two", "three"] {
            origin.commit(name);
        }
        Some(origin)
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn commit(&self, name: &str) {
        let parent = match self.try_git(&["rev-parse", "-q", "--verify", "main"], b"") {
            Some(tip) => format!("from {tip}\n"),
            None => String::new(),
        };
        let stream = format!(
            "commit refs/heads/main\ncommitter A <a@example.com> 1700000000 +0000\ndata <<.\n{name}\n.\n{parent}\
             M 100644 inline {name}\ndata <<.\n{}\n.\n\ndone\n",
            name.repeat(1000)
        );
        self.try_git(&["fast-import", "--quiet", "--done"], stream.as_bytes())
            .unwrap();
    }

    pub(super) fn tip(&self) -> String {
        self.git(&["rev-parse", "main"])
    }

    fn git(&self, args: &[&str]) -> String {
        self.try_git(args, b"").unwrap()
    }

    fn try_git(&self, args: &[&str], input: &[u8]) -> Option<String> {
        let repo = self.folder().join("x.git");
        std::fs::create_dir_all(&repo).unwrap();
        let mut child = isolated(self.folder())
            .args(args)
            .current_dir(&repo)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| text.trim().to_owned())
    }
}

fn isolated(home: &Path) -> Command {
    let mut git = Command::new("git");
    git.env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1");
    git
}

/// A port at which `git daemon` serves `origin`: one for each connection, as inetd does it.
pub(super) fn daemon(origin: &Origin) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = origin.folder().to_owned();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = OwnedFd::from(socket.unwrap());
            let mut base = std::ffi::OsString::from("--base-path=");
            base.push(&folder);
            let mut child = isolated(&folder)
                .args(["daemon", "--inetd", "--export-all", "--informative-errors"])
                .arg(base)
                .stdin(socket.try_clone().unwrap())
                .stdout(socket)
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            thread::spawn(move || child.wait());
        }
    });
    port
}

/// `git http-backend` serving `origin`; without `modern`, it never hears of protocol version 2.
pub(super) fn http_backend(origin: &Origin, modern: bool) -> Server {
    let folder = origin.folder().to_owned();
    Server::start(move |request| Answer::Say(cgi(&folder, request, modern)))
}

/// RFC 3875, as far as git goes.
fn cgi(folder: &Path, request: &Request, modern: bool) -> Vec<u8> {
    let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
    let mut git = isolated(folder);
    git.arg("http-backend")
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", request.method())
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", request.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if modern {
        git.env("GIT_PROTOCOL", request.header("git-protocol").unwrap_or_default());
    }
    let mut child = git.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let body = request.body.clone();
    let sent = thread::spawn(move || {
        let _gone = input.write_all(&body);
    });
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    sent.join().unwrap();
    child.wait().unwrap();
    answer(&output)
}

/// What a CGI program printed, as HTTP.
fn answer(output: &[u8]) -> Vec<u8> {
    let end = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let (head, body) = (
        String::from_utf8(output[..end].to_vec()).unwrap(),
        &output[end + 4..],
    );
    let status = head
        .lines()
        .find_map(|line| line.strip_prefix("Status: "))
        .unwrap_or("200 OK");
    let mut out = format!(
        "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(body);
    out
}
