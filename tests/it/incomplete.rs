//! Remotes that leave something out of a pack, once: that run fails, and the next one makes up for it.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use gix::ObjectId;

use super::{
    source::{Entry, Source, file},
    world::{Ended, World, git, have, last_line, tree},
};

/// A server for `git://` that makes its packs with git, and leaves out what it is told to, in one pack.
pub struct Server {
    pub port: u16,
    leave_out: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start(repo: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let leave_out = Arc::new(Mutex::new(Vec::new()));
        let (repo, out) = (repo.to_owned(), leave_out.clone());
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (repo, out) = (repo.clone(), out.clone());
                // A client that has gone is no matter.
                thread::spawn(move || serve(&repo, &socket, &out).ok());
            }
        });
        Self { port, leave_out }
    }

    /// Leave `ids` out of the next pack.
    pub fn leave_out(&self, ids: &[String]) {
        *self.leave_out.lock().unwrap() = ids.to_vec();
    }

    /// Whether a pack was sent without them.
    pub fn has_left_out(&self) -> bool {
        self.leave_out.lock().unwrap().is_empty()
    }
}

fn serve(repo: &Path, socket: &TcpStream, leave_out: &Mutex<Vec<String>>) -> std::io::Result<()> {
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
            Some("command=fetch") => fetch(repo, &request, &mut to, leave_out)?,
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
    to: &mut impl Write,
    leave_out: &Mutex<Vec<String>>,
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
    let mut list = vec!["rev-list".to_owned(), "--objects".to_owned()];
    if request.iter().any(|line| line == "deepen 1") {
        line_to(to, b"shallow-info\n")?;
        for id in &wants {
            line_to(to, format!("shallow {id}\n").as_bytes())?;
        }
        to.write_all(b"0001")?;
        list.push("-1".into());
    } else {
        list.extend(known.iter().map(|id| format!("^{id}")));
    }
    list.extend(wants);
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let out: BTreeSet<String> = std::mem::take(&mut *leave_out.lock().unwrap())
        .into_iter()
        .collect();
    let ids: String = git(repo, &list)
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|id| !out.contains(*id))
        .map(|id| format!("{id}\n"))
        .collect();
    line_to(to, b"packfile\n")?;
    for part in pack(repo, &ids).chunks(60_000) {
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

fn pack(repo: &Path, ids: &str) -> Vec<u8> {
    let mut child = Command::new("git")
        .args(["pack-objects", "--stdout", "-q"])
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

/// What is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Blob,
    Tree,
    OldCommit,
}

/// A site, its source, and a server between them.
struct Stage {
    world: World,
    source: Source,
    server: Server,
    round: u32,
}

impl Stage {
    fn new(more: &str) -> Self {
        let world = World::new();
        let mut source = world.source();
        for round in 1..=3 {
            commit(&mut source, round);
        }
        let server = Server::start(&source.path);
        world.config_of(&format!(
            "\"site\": (repo: \"git://127.0.0.1:{}/x\", branch: \"main\", path: \"site\", retries: 0, {more}),",
            server.port
        ));
        Self {
            world,
            source,
            server,
            round: 3,
        }
    }

    fn push(&mut self) {
        self.round += 1;
        commit(&mut self.source, self.round);
    }

    fn id(&self, what: What) -> String {
        let name = match what {
            What::Blob => "main:d/e/new",
            What::Tree => "main:d",
            What::OldCommit => "main~1",
        };
        git(&self.source.path, &["rev-parse", name]).trim().to_owned()
    }

    fn run(&self) -> Ended {
        self.world.run(["once", "site"])
    }

    fn check(&self, what: &str) {
        let ended = self.run();
        assert_eq!(ended.exit, 0, "{what}: {ended:?}");
        assert_eq!(self.world.site(), files(self.round), "{what}");
        git(&self.world.path("site"), &["fsck", "--strict", "--no-dangling"]);
        assert_eq!(
            git(&self.world.path("site"), &["status", "--porcelain"]),
            "",
            "{what}"
        );
    }
}

fn files(round: u32) -> std::collections::BTreeMap<String, Entry> {
    [
        ("same".to_owned(), file("same")),
        ("d/same".to_owned(), file("the same below")),
        ("d/e/new".to_owned(), file(&format!("round {round}"))),
    ]
    .into()
}

fn commit(source: &mut Source, round: u32) -> ObjectId {
    let files = files(round);
    source.commit(files.iter().map(|(path, entry)| (path.as_str(), entry.clone())))
}

#[test]
fn a_clone_from_an_incomplete_pack() {
    if !have("git") {
        return;
    }
    for depth in ["", "depth: 1"] {
        for what in [What::Blob, What::Tree, What::OldCommit] {
            if what == What::OldCommit && !depth.is_empty() {
                continue;
            }
            let stage = Stage::new(depth);
            stage.server.leave_out(&[stage.id(what)]);
            let ended = stage.run();
            let name = format!("{what:?} {depth}");
            refused(&ended, &stage.id(what), &name);
            assert!(!stage.world.path("site/.git").exists(), "{name}");
            stage.check(&name);
        }
    }
}

/// It says what is missing, and that nothing was deployed.
fn refused(ended: &Ended, id: &str, name: &str) {
    let last = last_line(&ended.err);
    assert!(last.starts_with("error site remote: "), "{name}: {ended:?}");
    assert!(
        last.contains(id) && last.contains("nothing was deployed"),
        "{name}: {last}"
    );
}

#[test]
fn an_update_from_an_incomplete_pack() {
    if !have("git") {
        return;
    }
    for depth in ["", "depth: 1"] {
        for what in [What::Blob, What::Tree, What::OldCommit] {
            for more in [false, true] {
                if what == What::OldCommit && !depth.is_empty() {
                    continue;
                }
                let mut stage = Stage::new(depth);
                stage.check("the first");
                let before = (objects(&stage.world), boundary(&stage.world));
                stage.push();
                stage.push();
                let id = stage.id(what);
                stage.server.leave_out(std::slice::from_ref(&id));
                let ended = stage.run();
                let name = format!("{what:?} {depth} {more}");
                assert!(stage.server.has_left_out());
                refused(&ended, &id, &name);
                assert_eq!(stage.world.site(), files(3), "{name}");
                assert_eq!((objects(&stage.world), boundary(&stage.world)), before, "{name}");
                if more {
                    stage.push();
                }
                stage.check(&name);
            }
        }
    }
}

/// The packs and loose objects that are there.
fn objects(world: &World) -> Vec<PathBuf> {
    let mut files: Vec<_> = tree(&world.path("site/.git/objects"))
        .keys()
        .map(PathBuf::from)
        .collect();
    files.sort();
    files
}

fn boundary(world: &World) -> Option<String> {
    std::fs::read_to_string(world.path("site/.git/shallow")).ok()
}
