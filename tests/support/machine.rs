//! What tests want of the machine: programs, root, other users, disks that are soon full.
//!
//! What is not there is said aloud; with `GITSOCKET_TEST_SERVERS=required`, as in CI, it is a failure.

#![allow(dead_code, reason = "each test binary that includes this needs a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, reason = "test binaries have no public API")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A user whom /etc/passwd does not know.
pub const STRANGER: u32 = 54321;

/// Say that a test does less than it should.
pub fn skipped(why: &str) {
    let required = std::env::var("GITSOCKET_TEST_SERVERS").is_ok_and(|value| value == "required");
    assert!(!required, "GITSOCKET_TEST_SERVERS=required, but {why}");
    eprintln!("SKIPPED: {why}");
}

/// What a test's randomness begins with: GITSOCKET_TEST_SEED, which repeats a run, or another one each time. It is said, and
/// shown where the test fails.
pub fn seed() -> u64 {
    let seed = match std::env::var("GITSOCKET_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("GITSOCKET_TEST_SEED={seed}");
    seed
}

/// Whether `program` is there.
pub fn have(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        skipped(&format!("{program} is not here"));
    }
    found
}

/// Whether what strace or another tracer said, `err`, means that it could trace.
pub fn may_trace(err: &str) -> bool {
    let may = !err.contains("ptrace");
    if !may {
        skipped(&format!("processes may not be traced here: {err}"));
    }
    may
}

/// Whether this is root. What only root can try is tried there: CI runs the tests as root and as an ordinary user.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: this is for root, which can become another user, and mount");
    }
    root
}

/// Whether this is not root, whom no permission stops. See [`is_root`].
pub fn is_ordinary() -> bool {
    let root = rustix::process::geteuid().is_root();
    if root {
        eprintln!("SKIPPED: this is for an ordinary user, since root may do everything");
    }
    !root
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
        if !is_root() || !have("mount") {
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
