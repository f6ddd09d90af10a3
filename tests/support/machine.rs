//! What tests need of the machine: programs, a user, leave to trace; and disks that are soon full.
//!
//! [`need`] says aloud what is missing; with `GITSOCKET_TEST_SERVERS=required`, as in CI, that is a failure.

#![allow(dead_code, reason = "each test binary that includes this needs a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, reason = "test binaries have no public API")]
#![allow(clippy::print_stderr, reason = "a seed is shown where a test fails")]

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{LazyLock, Mutex},
};

#[path = "temporary.rs"]
mod temporary;

#[allow(unused_imports, reason = "not every test binary has directories of its own")]
pub use temporary::{MEMORY, tempdir};

/// A user whom /etc/passwd does not know.
pub const STRANGER: u32 = 54321;

/// What a test needs.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    Program(&'static str),
    /// Root, which can become another user, and mount. CI runs the tests as root and as an ordinary user.
    Root,
    /// An ordinary user, since root may do everything.
    Ordinary,
    /// strace, and leave to trace processes.
    Tracing,
}

impl From<&'static str> for Need {
    fn from(program: &'static str) -> Self {
        Self::Program(program)
    }
}

/// Whether `what` is there. What only an attempt can tell, such as a mount, is told by [`skipped`].
#[must_use]
pub fn need(what: impl Into<Need>) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    match what.into() {
        Need::Program(program) => find(program).is_some(),
        Need::Root => is_root || left_to_others("this is for root"),
        Need::Ordinary => !is_root || left_to_others("this is for an ordinary user"),
        Need::Tracing => find("strace").is_some() && may_trace(),
    }
}

/// Where `program` is; servers are often not in an ordinary user's PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/lib/ssh"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|path| path.is_file());
    if found.is_none() {
        skipped(&format!("{program} is not here"));
    }
    found
}

fn may_trace() -> bool {
    static MAY: LazyLock<bool> = LazyLock::new(|| {
        let mut strace = Command::new("strace");
        let output = strace.args(["-o", "/dev/null", "true"]).output();
        output.is_ok_and(|output| output.status.success())
    });
    if !*MAY {
        skipped("processes may not be traced here");
    }
    *MAY
}

/// Say that a test does less than it should, for want of something.
pub fn skipped(why: &str) {
    let required = std::env::var("GITSOCKET_TEST_SERVERS").is_ok_and(|value| value == "required");
    assert!(!required, "GITSOCKET_TEST_SERVERS=required, but {why}");
    aloud(why);
}

/// Say that what a test leaves out is for another run of it: by another user, or with another program.
pub fn left_to_others(why: &str) -> bool {
    aloud(why);
    false
}

/// Say once why a test does less: past the capture, which keeps what a test that passes says.
fn aloud(why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let thread = std::thread::current();
    let line = format!("SKIPPED in {}: {why}\n", thread.name().unwrap_or("a test"));
    let is_new = SAID.lock().unwrap().insert(line.clone());
    if is_new {
        std::io::stderr().write_all(line.as_bytes()).ok();
    }
}

/// What a test's randomness begins with: GITSOCKET_TEST_SEED, which repeats a run, or another one each time. It is shown
/// where the test fails.
pub fn seed() -> u64 {
    let seed = match std::env::var("GITSOCKET_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("GITSOCKET_TEST_SEED={seed}");
    seed
}

/// How many rounds a test makes that makes `usual` by default: GITSOCKET_TEST_ROUNDS times as many.
pub fn rounds(usual: usize) -> usize {
    usual * rounds_wanted()
}

fn rounds_wanted() -> usize {
    std::env::var("GITSOCKET_TEST_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap())
}

/// The points that a test tries, of which one in `usual` will do by default: some other ones each time, and
/// GITSOCKET_TEST_ROUNDS times as many. From the first, which is 1 or later, on without an end.
pub fn points(usual: usize) -> impl Iterator<Item = usize> {
    let step = usual.div_ceil(rounds_wanted());
    let first = fastrand::Rng::with_seed(seed()).usize(1..=step);
    (first..).step_by(step)
}

/// Let others, too, enter the directory of a test.
pub fn open_to_all(dir: &Path) {
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir, all).unwrap();
}

/// Put `program` at `to`, where somebody else can reach it. A copy is written by a process of its own: while another test
/// starts one, that would hold what is being written here, and what somebody may write cannot be executed.
pub fn install(program: &Path, to: &Path) {
    if fs::hard_link(program, to).is_err() {
        let copied = Command::new("cp").arg("--").arg(program).arg(to).status();
        assert!(copied.unwrap().success());
    }
}

/// A file system of its own, in memory, that is unmounted when this is dropped.
pub struct Disk {
    path: PathBuf,
    _unmount: Unmount,
}

impl Disk {
    /// With room for `kib` at the new directory `path`; nothing for an ordinary user.
    pub fn mount(path: &Path, kib: u64) -> Option<Self> {
        if !need(Need::Root) || !need("mount") {
            return None;
        }
        fs::create_dir(path).unwrap();
        let disk = Self {
            path: path.to_owned(),
            _unmount: Unmount(path.to_owned()),
        };
        if !disk.try_mount(&format!("size={kib}k")) {
            skipped("no file system can be mounted here");
            return None;
        }
        Some(disk)
    }

    /// Let it have room for `kib` in all.
    pub fn resize(&self, kib: u64) {
        assert!(self.try_mount(&format!("remount,size={kib}k")), "{kib} KiB");
    }

    /// Let it have room for that many files and directories.
    pub fn limit_files(&self, files: u64) {
        assert!(self.try_mount(&format!("remount,nr_inodes={files}")), "{files}");
    }

    /// How many files and directories it has.
    pub fn files(&self) -> u64 {
        let now = rustix::fs::statvfs(&self.path).unwrap();
        now.f_files - now.f_ffree
    }

    fn try_mount(&self, options: &str) -> bool {
        let args = ["-t", "tmpfs", "-o", options, "tmpfs"].map(OsStr::new);
        let mut mount = Command::new("mount");
        mount.args(args).arg(&self.path);
        mount.status().is_ok_and(|status| status.success())
    }

    /// How much of it is used, in KiB.
    pub fn used(&self) -> u64 {
        let now = rustix::fs::statvfs(&self.path).unwrap();
        (now.f_blocks - now.f_bfree) * now.f_frsize / 1024
    }

    /// How much of it is free, in KiB.
    pub fn free(&self) -> u64 {
        let now = rustix::fs::statvfs(&self.path).unwrap();
        now.f_bavail * now.f_frsize / 1024
    }

    /// Fill it with a file, so that `left` KiB are free.
    pub fn fill(&self, left: u64) -> Ballast {
        let path = self.path.join("ballast");
        let mut file = File::create(&path).unwrap();
        let block = [1; 1024];
        while self.free() > left {
            file.write_all(&block).unwrap();
        }
        Ballast(path)
    }
}

/// Unmounts what is mounted there when this is dropped.
pub struct Unmount(pub PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        // Lazily: a process that was killed may not be gone yet.
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

/// What fills a [`Disk`], and is removed when this is dropped.
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}
