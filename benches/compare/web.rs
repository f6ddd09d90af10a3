//! Deliveries over HTTP: to `gitsocket web` while a run goes on, and to adnanh/webhook where it is installed, which starts
//! `/bin/true` for each. Both verify GitHub's signature of the same body; both are asked by the same client, which keeps its
//! connections. And what the front takes at rest, and with two hundred streams.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use ring::hmac;

use super::{have, make_repository, median, say, shown, start};

const SECRET: &str = "It's a Secret to Everybody";
/// How long each is asked by all clients.
const SPAN: Duration = Duration::from_secs(5);
const CLIENTS: usize = 8;

/// A program that listens; it ends when this is dropped.
struct Server(Child, SocketAddr);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A push, as GitHub sends it, with an id of its own.
fn delivery(path: &str, id: usize) -> Vec<u8> {
    // Of about the size that a push of one commit has.
    let body = format!(
        "{{\"ref\":\"refs/heads/main\",\"before\":\"{0}\",\"after\":\"{0}\",\"deleted\":false,\"more\":\"{1}\"}}",
        "5d".repeat(20),
        "x".repeat(7000)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = hmac::sign(&key, body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-GitHub-Event: push\r\n\
         X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-{id:012x}\r\nX-Hub-Signature-256: sha256={hex}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Say it, and read the answer: its status.
fn ask(stream: &mut TcpStream, request: &[u8]) -> u16 {
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "the connection has ended");
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text[9..12].parse().unwrap();
            }
        }
    }
}

/// Deliveries that are accepted in a second, by all clients.
fn rate(at: SocketAddr, path: &str, status: u16) -> f64 {
    let (done, next) = (AtomicU64::new(0), AtomicU64::new(1 << 32));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(at).unwrap();
                let request = delivery(path, 0);
                let at = request
                    .windows(12)
                    .position(|part| part == b"000000000000")
                    .unwrap();
                let mut request = request;
                while begin.elapsed() < SPAN {
                    let id = format!("{:012x}", next.fetch_add(1, Ordering::Relaxed));
                    request[at..at + 12].copy_from_slice(id.as_bytes());
                    assert_eq!(ask(&mut stream, &request), status);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

/// The median of a thousand, one after the other: each on a connection of its own, or all on one.
fn latency(at: SocketAddr, path: &str, status: u16, is_kept: bool) -> f64 {
    let mut stream = TcpStream::connect(at).unwrap();
    let times = (0..1000).map(|id| {
        let request = delivery(path, id + if is_kept { 0 } else { 10_000 });
        let begin = Instant::now();
        if !is_kept {
            stream = TcpStream::connect(at).unwrap();
        }
        stream.set_nodelay(true).unwrap();
        assert_eq!(ask(&mut stream, &request), status);
        begin.elapsed().as_secs_f64()
    });
    median(times.collect())
}

/// The numbers behind `name` in a file of /proc, in KiB.
fn kib(pid: u32, file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// How often the threads of a process went to sleep.
fn sleeps(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let name = |task: fs::DirEntry| format!("task/{}/status", task.file_name().display());
    tasks
        .map(|task| kib(pid, &name(task.unwrap()), "voluntary_ctxt"))
        .sum()
}

pub(super) fn compare(dir: &Path) {
    make_repository(&dir.join("repo.git"), 200, 0);
    fs::write(dir.join("secret"), SECRET).unwrap();
    fs::set_permissions(
        dir.join("secret"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let url = format!("file://{}/repo.git", dir.display());
    // A run that goes on until it is told to end.
    let hook = "while [ ! -e ../go ]; do /bin/sleep 0.2; done";
    let mut daemon = start(
        dir,
        &format!(
            "(listen: [Unix(path: \"s\")], triggers: {{\"site\": (repo: {url:?}, branch: \"main\", path: \"site\", \
             hooks: [Exec(run: [\"/bin/sh\", \"-c\", {hook:?}])])}})"
        ),
    );
    let front = front(dir);
    let Server(ref process, at) = front;
    let pid = process.id();
    std::thread::sleep(Duration::from_secs(2));
    println!(
        "at rest: {:.1} MB PSS",
        kib(pid, "smaps_rollup", "Pss:") as f64 / 1024.0
    );
    let before = sleeps(pid);
    std::thread::sleep(Duration::from_secs(10));
    println!("at rest: {} wake-ups in 10 s", sleeps(pid) - before);
    let path = "/hooks/site";
    println!("gitsocket web, a run going on:");
    println!(
        "  202 at the median, one connection: {}",
        shown(latency(at, path, 202, true))
    );
    println!(
        "  202 at the median, each its own: {}",
        shown(latency(at, path, 202, false))
    );
    let ours = rate(at, path, 202);
    println!("  {ours:.0} verified deliveries a second by {CLIENTS} clients");
    println!(
        "  afterwards {:.1} MB PSS",
        kib(pid, "smaps_rollup", "Pss:") as f64 / 1024.0
    );
    streams(at, pid, dir);
    fs::write(dir.join("go"), "").unwrap();
    say(dir, "site");
    daemon.kill().ok();
    daemon.wait().ok();
    drop(front);
    if !have("webhook") {
        return println!("NOT CHECKED: webhook is not here");
    }
    let theirs = webhook(dir);
    println!("webhook (adnanh), /bin/true:");
    println!(
        "  at the median, one connection: {}",
        shown(latency(theirs.1, path, 200, true))
    );
    let rate = rate(theirs.1, path, 200);
    println!(
        "  {rate:.0} verified deliveries a second by {CLIENTS} clients; gitsocket web has {:.1} times as many",
        ours / rate
    );
    println!(
        "  {:.1} MB PSS",
        kib(theirs.0.id(), "smaps_rollup", "Pss:") as f64 / 1024.0
    );
}

fn front(dir: &Path) -> Server {
    let config = "(listen: [Http(addr: \"127.0.0.1:0\")], daemon: \"./s\", page: (),
        webhooks: {\"/hooks/site\": (trigger: \"site\", from: GitHub(secret_file: \"secret\"))})";
    fs::write(dir.join("web.ron"), config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_gitsocket"))
        .arg("web")
        .current_dir(dir)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut at = None;
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the front does not start");
        if let Some(addr) = line
            .split("address=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
        {
            at = addr.parse().ok();
        }
    }
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Server(child, at.unwrap())
}

fn webhook(dir: &Path) -> Server {
    let hooks = format!(
        "[{{\"id\": \"site\", \"execute-command\": \"/bin/true\", \"trigger-rule\": {{\"match\": {{\
         \"type\": \"payload-hmac-sha256\", \"secret\": {SECRET:?}, \"parameter\": {{\"source\": \"header\", \
         \"name\": \"X-Hub-Signature-256\"}}}}}}}}]"
    );
    fs::write(dir.join("hooks.json"), hooks).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let child = Command::new("webhook")
        .args([
            "-ip",
            "127.0.0.1",
            "-hooks",
            "hooks.json",
            "-port",
            &port.to_string(),
        ])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server(child, ([127, 0, 0, 1], port).into());
    while TcpStream::connect(server.1).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

/// Two hundred who watch the run that goes on.
fn streams(at: SocketAddr, pid: u32, dir: &Path) {
    let status = status(dir);
    let Some(run) = status
        .split("run ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
    else {
        return println!("NOT CHECKED: there is no run to watch: {status}");
    };
    let request = format!(
        "GET /triggers/site/runs/{run}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    );
    let mut open = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut first = [0; 4096];
        let read = stream.read(&mut first).unwrap_or(0);
        if !first[..read].starts_with(b"HTTP/1.1 200") {
            let text = String::from_utf8_lossy(&first[..read]);
            return println!("NOT CHECKED: no stream: {:?}", text.lines().next());
        }
        open.push(stream);
    }
    println!(
        "with {} streams: {:.1} MB PSS, {:.1} MB resident",
        open.len(),
        kib(pid, "smaps_rollup", "Pss:") as f64 / 1024.0,
        kib(pid, "status", "VmRSS:") as f64 / 1024.0
    );
}

/// What the daemon says of the trigger.
fn status(dir: &Path) -> String {
    let mut socket = std::os::unix::net::UnixStream::connect(dir.join("s")).unwrap();
    socket.write_all(b"status site\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}
