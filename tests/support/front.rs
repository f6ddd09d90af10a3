//! A front, as `gitsocket web` is started, and what is said to it: bytes in, an answer out.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStderr, Command, Stdio},
    time::Duration,
};

use super::world::World;

/// A running front; it is killed when this is dropped.
pub struct Front {
    pub child: Child,
    /// Where it listens over TCP, in the order of its configuration.
    pub addrs: Vec<SocketAddr>,
    log: BufReader<ChildStderr>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// How long a test waits for an answer that must come: longer than any limit of the front's.
const PATIENCE: Duration = Duration::from_secs(120);

impl Front {
    /// Start it with `fields` in `web.ron`, besides `listen` on a port of its own and `daemon`.
    pub fn start(world: &World, fields: &str) -> Self {
        Self::listening(world, "Http(addr: \"127.0.0.1:0\")", fields)
    }

    /// The same, with other listeners.
    pub fn listening(world: &World, listen: &str, fields: &str) -> Self {
        let text = format!("(listen: [{listen}], daemon: \"s.sock\", {fields})");
        world.write("web.ron", &text);
        Self::by(world.command(["web"]))
    }

    /// Start it by `command`, and wait until it is ready.
    pub fn by(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut front = Self {
            child,
            addrs: Vec::new(),
            log,
        };
        loop {
            let line = front.line();
            if line.contains("ready") {
                return front;
            }
            let addr = line
                .split("address=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next());
            front
                .addrs
                .extend(addr.and_then(|addr| addr.parse::<SocketAddr>().ok()));
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "the front has ended");
        line
    }

    /// Read the log up to the line that contains `text`.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Wait for its end: the exit status, and the rest of its log.
    pub fn wait(&mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addrs[0]).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Say `request` as it is, on a connection of its own, and read the answer.
    pub fn say(&self, request: impl AsRef<[u8]>) -> Reply {
        let mut stream = self.connect();
        // It may refuse before it has read everything.
        stream.write_all(request.as_ref()).ok();
        reply(&mut stream).expect("an answer")
    }

    pub fn get(&self, path: &str) -> Reply {
        self.say(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Read one answer, or nothing if the connection ends without one.
pub fn reply(stream: &mut impl Read) -> Option<Reply> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) | Err(_) if head.is_empty() => return None,
            other => panic!("{other:?} in {:?}", String::from_utf8_lossy(&head)),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut reply = Reply {
        status,
        headers,
        body: String::new(),
    };
    let length = reply
        .header("content-length")
        .map(|length| length.parse().unwrap());
    let mut body = vec![0; length.unwrap_or(0)];
    if status >= 200 {
        stream.read_exact(&mut body).unwrap();
    }
    reply.body = String::from_utf8(body).unwrap();
    Some(reply)
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(header, _)| header == name);
        named.next().map(|(_, value)| value.as_str())
    }

    /// What stands in the body, as JSON, under `name`.
    pub fn json(&self, name: &str) -> String {
        let value: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        value[name].as_str().unwrap_or_default().to_owned()
    }
}
