//! A server for `git://` whose packs git makes, and which does in one of them what a test tells it to.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use super::world::git;

/// A server for `git://` that makes its packs with git, and does in one of them what it is told to.
pub struct Server {
    pub port: u16,
    orders: Arc<Mutex<Orders>>,
}

/// What is done in the next pack.
#[derive(Default)]
struct Orders {
    leave_out: Vec<String>,
    /// Commits of which it says that they have no parents here.
    cut: Vec<String>,
    /// Deltas to what the client has.
    is_thin: bool,
    /// Half of it, and then nothing until the client goes; it is said when that begins.
    stall: Option<mpsc::Sender<()>>,
}

impl Server {
    pub fn start(repo: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let orders = Arc::new(Mutex::new(Orders::default()));
        let (repo, all) = (repo.to_owned(), orders.clone());
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (repo, orders) = (repo.clone(), all.clone());
                // A client that has gone is no matter.
                thread::spawn(move || serve(&repo, &socket, &orders).ok());
            }
        });
        Self { port, orders }
    }

    /// Leave `ids` out of the next pack.
    pub fn leave_out(&self, ids: &[String]) {
        self.orders.lock().unwrap().leave_out = ids.to_vec();
    }

    /// Whether a pack was sent without them.
    pub fn has_left_out(&self) -> bool {
        self.orders.lock().unwrap().leave_out.is_empty()
    }

    /// Say with the next pack that history ends at `id`.
    pub fn cut(&self, id: &str) {
        self.orders.lock().unwrap().cut.push(id.to_owned());
    }

    /// Make the next pack a thin one.
    pub fn be_thin(&self) {
        self.orders.lock().unwrap().is_thin = true;
    }

    /// Send half of the next pack, and tell of it; then nothing more.
    #[allow(dead_code, reason = "not every test binary has a use for it")]
    pub fn stall(&self) -> mpsc::Receiver<()> {
        let (say, heard) = mpsc::channel();
        self.orders.lock().unwrap().stall = Some(say);
        heard
    }

    /// Whether a thin pack was sent.
    pub fn was_thin(&self) -> bool {
        !self.orders.lock().unwrap().is_thin
    }
}

fn serve(repo: &Path, socket: &TcpStream, orders: &Mutex<Orders>) -> std::io::Result<()> {
    let (mut from, mut to) = (socket, socket);
    packet(&mut from)?;
    for line in [
        "version 2\n",
        "agent=x/1\n",
        "ls-refs\n",
        "fetch=shallow\n",
        "object-format=sha1\n",
    ] {
        line_to(&mut to, line.as_bytes())?;
    }
    to.write_all(b"0000")?;
    loop {
        let request = request(&mut from)?;
        match request.first().map(String::as_str) {
            Some("command=ls-refs") => refs(repo, &mut to)?,
            Some("command=fetch") => fetch(repo, &request, (&mut from, &mut to), orders)?,
            _ => return Ok(()),
        }
    }
}

fn refs(repo: &Path, to: &mut impl Write) -> std::io::Result<()> {
    let main = git(repo, &["rev-parse", "main"]);
    line_to(
        to,
        format!("{} HEAD symref-target:refs/heads/main\n", main.trim()).as_bytes(),
    )?;
    line_to(to, format!("{} refs/heads/main\n", main.trim()).as_bytes())?;
    to.write_all(b"0000")
}

fn fetch(
    repo: &Path,
    request: &[String],
    (from, to): (&mut impl Read, &mut impl Write),
    orders: &Mutex<Orders>,
) -> std::io::Result<()> {
    let all = |word: &str| -> Vec<String> {
        request
            .iter()
            .filter_map(|line| line.strip_prefix(word))
            .map(str::to_owned)
            .collect()
    };
    let (wants, haves) = (all("want "), all("have "));
    let is_done = request.iter().any(|line| line == "done");
    let known: Vec<_> = haves.iter().filter(|id| is_there(repo, id)).cloned().collect();
    if !is_done {
        line_to(to, b"acknowledgments\n")?;
        for id in &known {
            line_to(to, format!("ACK {id}\n").as_bytes())?;
        }
        line_to(to, b"ready\n")?;
        to.write_all(b"0001")?;
    }
    let orders = std::mem::take(&mut *orders.lock().unwrap());
    let deepen: Option<usize> = all("deepen ").pop().and_then(|depth| depth.parse().ok());
    let (mut cut, mut uncut) = (orders.cut, Vec::new());
    let mut list = wants.clone();
    if let Some(depth) = deepen {
        let commits = git(repo, &["rev-list", &format!("-{depth}"), &wants[0]]);
        let commits: Vec<&str> = commits.lines().collect();
        let (last, others) = commits.split_last().unwrap();
        cut.push((*last).to_owned());
        uncut.extend(
            all("shallow ")
                .into_iter()
                .filter(|id| others.contains(&id.as_str())),
        );
        list.push(format!("-{depth}"));
    } else {
        list.extend(known.iter().map(|id| format!("^{id}")));
    }
    if !cut.is_empty() {
        line_to(to, b"shallow-info\n")?;
        for (word, ids) in [("shallow", cut), ("unshallow", uncut)] {
            for id in ids {
                line_to(to, format!("{word} {id}\n").as_bytes())?;
            }
        }
        to.write_all(b"0001")?;
    }
    let pack = if orders.is_thin {
        pack(repo, &["--revs", "--thin"], &format!("{}\n", list.join("\n")))
    } else {
        let mut args = vec!["rev-list", "--objects"];
        args.extend(list.iter().map(String::as_str));
        let ids = git(repo, &args);
        let ids = ids.lines().filter_map(|line| line.split(' ').next());
        let sent: String = ids
            .filter(|id| !orders.leave_out.iter().any(|out| out == id))
            .map(|id| format!("{id}\n"))
            .collect();
        pack(repo, &[], &sent)
    };
    line_to(to, b"packfile\n")?;
    if let Some(say) = orders.stall {
        line_to(to, &[b"\x01", &pack[..pack.len() / 2]].concat())?;
        say.send(()).ok();
        // It ends with the client.
        return packet(from).map(drop);
    }
    for part in pack.chunks(60_000) {
        line_to(to, &[b"\x01", part].concat())?;
    }
    to.write_all(b"0000")
}

fn is_there(repo: &Path, id: &str) -> bool {
    let status = Command::new("git")
        .args(["cat-file", "-e", id])
        .current_dir(repo)
        .stderr(Stdio::null())
        .status();
    status.unwrap().success()
}

fn pack(repo: &Path, how: &[&str], ids: &str) -> Vec<u8> {
    let mut child = Command::new("git")
        .args(["pack-objects", "--stdout", "-q"])
        .args(how)
        .current_dir(repo)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(ids.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

fn line_to(to: &mut impl Write, line: &[u8]) -> std::io::Result<()> {
    to.write_all(format!("{:04x}", line.len() + 4).as_bytes())?;
    to.write_all(line)
}

/// The lines up to a flush packet; none at the end.
fn request(from: &mut impl Read) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        match packet(from)? {
            Some(line) if line.is_empty() => {}
            Some(line) => lines.push(String::from_utf8_lossy(&line).trim_end().to_owned()),
            None => return Ok(lines),
        }
    }
}

fn packet(from: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
    if length == 0 {
        return Ok(None);
    }
    let mut content = vec![0; length.saturating_sub(4)];
    from.read_exact(&mut content)?;
    Ok(Some(content))
}
