//! A directory of its own for each test, the binary in it, and a daemon where one is wanted.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::{
        fd::AsFd as _,
        unix::{fs::PermissionsExt as _, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio},
    sync::Mutex,
    thread::JoinHandle,
};

#[path = "machine.rs"]
pub mod machine;

#[allow(unused_imports, reason = "not every test binary asks")]
pub use machine::{Need, need};

use super::source::{Entry, Source};

/// Where a test happens.
pub struct World {
    dir: tempfile::TempDir,
    /// The fifos that are open by [`World::let_go`].
    gone: Mutex<Vec<File>>,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub exit: i32,
    pub out: String,
    pub err: String,
}

impl World {
    pub fn new() -> Self {
        Self {
            dir: machine::tempdir().unwrap(),
            gone: Mutex::default(),
        }
    }

    /// One with a repository to deploy from, which is empty.
    pub fn with_source() -> (Self, Source) {
        let world = Self::new();
        let source = world.source();
        (world, source)
    }

    /// One with something to deploy: the file `a`.
    pub fn with_commit() -> (Self, Source) {
        let (world, mut source) = Self::with_source();
        source.commit([("a", super::source::file("1"))]);
        (world, source)
    }

    /// The same, where nothing more is to be committed.
    pub fn sourced() -> Self {
        Self::with_commit().0
    }

    /// One with a configuration, too.
    pub fn configured() -> Self {
        let world = Self::sourced();
        world.config("");
        world
    }

    /// One in which that is deployed by the trigger `site`.
    pub fn deployed() -> (Self, Source) {
        let (world, source) = Self::with_commit();
        world.config("");
        world.deploy();
        (world, source)
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A bare repository `repo.git` to deploy from.
    pub fn source(&self) -> Source {
        Source::new(&self.path("repo.git"))
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Write a file that only its owner may read.
    pub fn secret(&self, name: &str, text: &str) {
        let path = self.write(name, text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Write an executable; scripts in tests name /bin/sh themselves.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.write(name, &format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A FIFO, which holds its reader until somebody writes: hooks wait for tests without a clock.
    pub fn fifo(&self, name: &str) {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, self.path(name), fifo, mode, 0).unwrap();
    }

    /// Let hooks that read from the FIFO `go` go on, for as long as it is there.
    pub fn let_go(&self) {
        // Open for as long as the test goes on: so there is always a line, and none for another fifo of that name.
        let mut go = File::options()
            .read(true)
            .write(true)
            .open(self.path("go"))
            .unwrap();
        go.write_all(&[b'\n'; 1024]).unwrap();
        self.gone.lock().unwrap().push(go);
    }

    /// A configuration with the trigger `site` (repo.git to site/) and `more` of its fields.
    pub fn config(&self, more: &str) -> PathBuf {
        self.config_of(&format!(
            "\"site\": (repo: \"repo.git\", branch: \"main\", path: \"site\", {more}),"
        ))
    }

    /// The same with one hook, which is the script `text`.
    pub fn hook(&self, text: &str) {
        let hook = self.script("hook", text);
        self.config(&format!("hooks: [Exec(run: [{hook:?}])]"));
    }

    pub fn config_of(&self, triggers: &str) -> PathBuf {
        let text = format!("(listen: [Unix(path: \"s.sock\")], triggers: {{ {triggers} }})");
        self.write("config.ron", &text)
    }

    /// The program, in this directory, with nothing else in its environment: no PATH, no HOME.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gitsocket"));
        command
            .args(args)
            .env_clear()
            .env("PATH", "")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// The same as the user `uid`, who may enter this directory then; only root can start it.
    pub fn command_as<S: AsRef<OsStr>>(&self, uid: u32, args: impl IntoIterator<Item = S>) -> Command {
        use std::os::unix::process::CommandExt as _;
        let program = self.path("gitsocket");
        if !program.exists() {
            // Where the tests' own lies, others may have no access.
            machine::install(env!("CARGO_BIN_EXE_gitsocket").as_ref(), &program);
        }
        machine::open_to_all(self.dir.path());
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .env("PATH", "")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .uid(uid)
            .gid(uid);
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        Ended::from(self.command(args).output().unwrap())
    }

    /// The same, to this exit status.
    #[track_caller]
    pub fn run_to<S: AsRef<OsStr>>(&self, exit: i32, args: impl IntoIterator<Item = S>) -> Ended {
        let ended = self.run(args);
        assert_eq!(ended.exit, exit, "{ended:?}");
        ended
    }

    /// `once site`, which has to succeed.
    #[track_caller]
    pub fn deploy(&self) -> Ended {
        self.run_to(0, ["once", "site"])
    }

    /// The files below `site`, without `.git`.
    pub fn site(&self) -> BTreeMap<String, Entry> {
        tree(&self.path("site"))
    }

    pub fn daemon(&self) -> Daemon {
        Daemon::start(self, &[])
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            exit: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// All files below `dir`, without `.git`.
pub fn tree(dir: &Path) -> BTreeMap<String, Entry> {
    fn walk(base: &Path, dir: &Path, out: &mut BTreeMap<String, Entry>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let name = path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
            let meta = fs::symlink_metadata(&path).unwrap();
            if name == ".git" {
            } else if meta.is_symlink() {
                let to = fs::read_link(&path).unwrap().to_str().unwrap().to_owned();
                out.insert(name, Entry::Symlink(to));
            } else if meta.is_dir() {
                walk(base, &path, out);
            } else {
                let bytes = fs::read(&path).unwrap();
                let executable = meta.permissions().mode() & 0o100 != 0;
                out.insert(
                    name,
                    if executable {
                        Entry::Executable(bytes)
                    } else {
                        Entry::File(bytes)
                    },
                );
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(dir, dir, &mut out);
    out
}

/// Copy the directory `from`, and all that is in it, to `to`.
#[allow(dead_code, reason = "not every test binary copies")]
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A running daemon; it is killed when this is dropped.
pub struct Daemon {
    pub child: Child,
    pub socket: PathBuf,
    log: BufReader<ChildStderr>,
}

impl Daemon {
    /// Start it and wait until it says that it is ready.
    pub fn start(world: &World, args: &[&str]) -> Self {
        Self::start_with(world, args, &[])
    }

    /// The same, with variables in its environment.
    pub fn start_with(world: &World, args: &[&str], env: &[(&str, PathBuf)]) -> Self {
        let mut command = world.command(["server"].iter().chain(args));
        command.envs(env.iter().cloned());
        Self::start_by(command, world.path("s.sock"))
    }

    /// Start it by `command`, and wait until it says that it is ready.
    pub fn start_by(mut command: Command, socket: PathBuf) -> Self {
        let mut daemon = Self::of(command.stderr(Stdio::piped()).spawn().unwrap(), socket);
        daemon.wait_for("ready");
        daemon
    }

    /// Start it if its sandbox holds; nothing where the kernel cannot make one.
    pub fn start_shut_in(world: &World, args: &[&str]) -> Option<Self> {
        let mut daemon = Self::spawn(world, args, &[]);
        let line = daemon.wait_for("sandbox: ");
        if line.contains("sandbox: none") {
            machine::skipped(&line);
            return None;
        }
        daemon.wait_for("ready");
        Some(daemon)
    }

    /// As [`Self::start`], with what the log says up to there.
    pub fn start_and_tell(world: &World, args: &[&str]) -> (Self, String) {
        let mut daemon = Self::spawn(world, args, &[]);
        let seen = daemon.look_for("ready");
        let seen = seen.unwrap_or_else(|seen| panic!("the daemon ended:\n{seen}"));
        (daemon, seen)
    }

    /// Start it, and do not wait.
    pub fn spawn(world: &World, args: &[&str], env: &[(&str, PathBuf)]) -> Self {
        let child = world
            .command(["server"].iter().chain(args))
            .envs(env.iter().cloned())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self::of(child, world.path("s.sock"))
    }

    /// Start the front of `web.ron`, wait until it says that it is ready, and give the port that it has chosen.
    pub fn front(world: &World) -> (Self, u16) {
        let mut command = world.command(["web", "-c", "web.ron"]);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut front = Self::of(child, world.path("s.sock"));
        let port = front.port();
        front.wait_for("ready");
        (front, port)
    }

    /// Read the log up to the first address of 127.0.0.1, and give its port.
    pub fn port(&mut self) -> u16 {
        let line = self.wait_for("127.0.0.1:");
        let (_, rest) = line.split_once("127.0.0.1:").unwrap();
        let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
        port.parse().unwrap()
    }

    /// The daemon that `child` is, or has become; its standard error is a pipe.
    pub fn of(mut child: Child, socket: PathBuf) -> Self {
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, socket, log }
    }

    /// Read the log up to the line that contains `text`, and give that line.
    pub fn wait_for(&mut self, text: &str) -> String {
        let seen = self.look_for(text);
        let seen = seen.unwrap_or_else(|seen| panic!("the daemon ended without saying {text:?}:\n{seen}"));
        seen.lines().next_back().unwrap_or_default().to_owned() + "\n"
    }

    /// Whether it says `text` before it ends.
    pub fn says(&mut self, text: &str) -> bool {
        self.look_for(text).is_ok()
    }

    /// The log up to the line that contains `text`; all of it if there is none.
    pub fn look_for(&mut self, text: &str) -> Result<String, String> {
        let mut seen = String::new();
        loop {
            let before = seen.len();
            if self.log.read_line(&mut seen).unwrap() == 0 {
                return Err(seen);
            }
            if seen[before..].contains(text) {
                return Ok(seen);
            }
        }
    }

    /// Read the rest of its log on a thread: it ends with the daemon.
    pub fn collect(&mut self) -> JoinHandle<String> {
        let mut seen = self.log.buffer().to_vec();
        let mut log = ChildStderr::from(self.log.get_ref().as_fd().try_clone_to_owned().unwrap());
        std::thread::spawn(move || {
            log.read_to_end(&mut seen).unwrap();
            String::from_utf8(seen).unwrap()
        })
    }

    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).unwrap()
    }

    /// Say `request` as it is, and read the whole answer.
    pub fn say(&self, request: impl AsRef<[u8]>) -> String {
        ask(&self.socket, request)
    }

    /// Say the name of a trigger, whose run has to succeed, and give the answer.
    #[track_caller]
    pub fn deploys(&self, name: &str) -> String {
        self.answers(format!("{name}\n"), &format!("ok {name} "))
    }

    /// Say `request`, and give the answer, whose last line has to begin with `last`.
    #[track_caller]
    pub fn answers(&self, request: impl AsRef<[u8]>, last: &str) -> String {
        let answer = self.say(request);
        assert!(last_line(&answer).starts_with(last), "{answer}");
        answer
    }

    /// Tell it to stop, which it has to do well.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert!(self.wait().0.success());
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// The processes that do its work.
    pub fn workers(&self) -> Vec<rustix::process::Pid> {
        children(self.child.id())
    }

    /// Wait for its end, and give the rest of its log.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The children of the process `pid`, of which there is one at least.
pub fn children(pid: u32) -> Vec<rustix::process::Pid> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).unwrap();
    let children: Vec<_> = children
        .split_whitespace()
        .filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().unwrap()))
        .collect();
    assert!(!children.is_empty());
    children
}

/// Say `request` as it is at `socket`, and read the whole answer.
pub fn ask(socket: &Path, request: impl AsRef<[u8]>) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    // The daemon may refuse before it has read everything.
    stream.write_all(request.as_ref()).ok();
    stream.shutdown(Shutdown::Write).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8(answer).unwrap()
}

/// The last line of an answer.
pub fn last_line(answer: &str) -> &str {
    answer.trim_end().lines().next_back().unwrap_or_default()
}

/// Run git in `dir`, isolated from whoever runs the tests, and give what it printed.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
