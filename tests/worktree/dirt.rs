//! Dirt: something that a user or a program could do to a worktree.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use fastrand::Rng;

use super::{
    compare::snapshot,
    content::{IGNORES, LINKS, content, in_some_dir, lines, path},
    model::{GIT, OURS, Pair},
};

#[derive(Clone, Debug, PartialEq)]
pub enum Dirt {
    Write(String, Vec<u8>),
    SameSize(String),
    Delete(String),
    Touch(String),
    Chmod(String, u32),
    Dir(String),
    Link(String, String),
    Out(String),
    Fifo(String),
    Repository(String),
    HardLink(String),
    Git(Vec<String>),
    Conflict(String),
    NoIndex,
    CorruptIndex,
}

impl Pair {
    /// Something that somebody could do to a worktree.
    pub fn dirt(&self, rng: &mut Rng) -> Option<Dirt> {
        let there: Vec<String> = snapshot(&self.root(GIT)).into_keys().collect();
        let some = |rng: &mut Rng| (!there.is_empty()).then(|| there[rng.usize(..there.len())].clone());
        let plain = |rng: &mut Rng| some(rng).filter(|path| !path.ends_with(".gitattributes"));
        Some(match rng.u8(..30) {
            0..=1 => Dirt::Write(plain(rng)?, content(rng)),
            2 => Dirt::SameSize(plain(rng)?),
            3 => Dirt::Delete(plain(rng)?),
            4 => Dirt::Touch(some(rng)?),
            5 => Dirt::Chmod(
                some(rng)?,
                [0o600, 0o755, 0o444, 0o777, 0o700, 0o4755][rng.usize(..6)],
            ),
            6 => Dirt::Dir(plain(rng)?),
            7..=8 => Dirt::Link(plain(rng)?, LINKS[rng.usize(..LINKS.len())].into()),
            9 => Dirt::Out(plain(rng)?),
            10..=12 => Dirt::Write(path(rng), content(rng)),
            13 => Dirt::Link(path(rng), LINKS[rng.usize(..LINKS.len())].into()),
            14..=15 => Dirt::Dir(path(rng)),
            16..=17 => Dirt::Fifo(path(rng)),
            18 => Dirt::Repository(path(rng)),
            19 => Dirt::Write(format!("{}/.git", path(rng)), b"junk".into()),
            20 => Dirt::Write(in_some_dir(rng, ".gitignore"), lines(rng, IGNORES)),
            21 => Dirt::HardLink(plain(rng)?),
            22 => Dirt::Git(vec!["add".into(), "-f".into(), "-A".into()]),
            23 => Dirt::Git(vec![
                "rm".into(),
                "-q".into(),
                "--cached".into(),
                "--ignore-unmatch".into(),
                "-f".into(),
                plain(rng)?,
            ]),
            24 => Dirt::Git(vec!["add".into(), "-f".into(), "-N".into(), plain(rng)?]),
            25 => Dirt::Conflict(path(rng)),
            26 => {
                if rng.bool() {
                    Dirt::NoIndex
                } else {
                    Dirt::CorruptIndex
                }
            }
            27 => Dirt::Write(format!("{}/{}", path(rng), path(rng)), content(rng)),
            28 => Dirt::Dir(format!("{}/{}", path(rng), path(rng))),
            _ => Dirt::Dir(format!("{}/{}/.git", path(rng), path(rng))),
        })
    }

    pub fn apply(&self, side: &str, dirt: &Dirt) -> bool {
        let root = self.root(side);
        let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let run = || self.try_apply(side, &root, dirt);
        // Otherwise the index is not touched at all, so that what is remembered of it still counts.
        let done = match dirt {
            Dirt::Git(_) | Dirt::Conflict(_) => self.unhurried(side, run),
            _ => run(),
        };
        rustix::process::umask(umask);
        done.is_some()
    }

    pub fn try_apply(&self, side: &str, root: &Path, dirt: &Dirt) -> Option<()> {
        let meta = |path: &str| fs::symlink_metadata(root.join(path)).ok();
        let is_file = |path: &str| meta(path).is_some_and(|meta| meta.is_file());
        match dirt {
            Dirt::Write(path, bytes) => {
                let path = clear(root, path, false)?;
                if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.nlink() > 1) {
                    return None;
                }
                fs::write(&path, bytes).ok()?;
                age(&path)?;
            }
            Dirt::SameSize(path) if is_file(path) => {
                let mut bytes = fs::read(root.join(path)).ok()?;
                *bytes.first_mut()? ^= 1;
                let path = clear(root, path, true)?;
                fs::write(&path, bytes).ok()?;
                age(&path)?;
            }
            Dirt::Delete(path) => drop(clear(root, path, true)?),
            Dirt::Touch(path) | Dirt::Chmod(path, _)
                if meta(path)?.is_symlink() || !(is_file(path) || meta(path)?.is_dir()) =>
            {
                return None;
            }
            Dirt::Touch(path) => age(&root.join(path))?,
            Dirt::Chmod(path, mode) => {
                let mode = mode | if is_file(path) { 0 } else { 0o700 };
                fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).ok()?;
                age(&root.join(path))?;
            }
            Dirt::Dir(path) => fs::create_dir_all(clear(root, path, true)?).ok()?,
            Dirt::Link(path, target) => symlink(target, clear(root, path, true)?).ok()?,
            Dirt::Out(path) => {
                let up = "../".repeat(path.matches('/').count() + 1);
                symlink(format!("{up}out"), clear(root, path, true)?).ok()?;
            }
            Dirt::Fifo(path) => {
                let path = clear(root, path, true)?;
                rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o644)).ok()?;
            }
            Dirt::Repository(path) => {
                let git = clear(root, path, true)?.join(".git");
                fs::create_dir_all(git.join("objects")).ok()?;
                fs::create_dir_all(git.join("refs")).ok()?;
                fs::write(git.join("HEAD"), "ref: refs/heads/main\n").ok()?;
                fs::write(git.join("../inside"), "x").ok()?;
            }
            Dirt::HardLink(path) if is_file(path) => {
                let name = path.replace('/', "_");
                fs::hard_link(root.join(path), self.out(side).join(name)).ok()?;
                age(&root.join(path))?;
            }
            Dirt::Git(args) => {
                if args[0] == "add" && has_repository(root, root) {
                    return None;
                }
                drop(
                    Command::new("git")
                        .args(args)
                        .current_dir(root)
                        .env("GIT_CONFIG_GLOBAL", "/dev/null")
                        .env("HOME", &self.dir)
                        .output()
                        .ok()?,
                );
            }
            Dirt::Conflict(path) => {
                if self.tree.keys().any(|other| {
                    path.starts_with(&format!("{other}/")) || other.starts_with(&format!("{path}/"))
                }) {
                    return None;
                }
                let id = Command::new("git")
                    .args(["hash-object", "-w", "--stdin"])
                    .current_dir(root)
                    .stdin(std::process::Stdio::null())
                    .output()
                    .ok()?;
                let id = String::from_utf8_lossy(&id.stdout).trim().to_owned();
                use std::io::Write;
                let mut child = Command::new("git")
                    .args(["update-index", "--index-info"])
                    .current_dir(root)
                    .stdin(std::process::Stdio::piped())
                    .spawn()
                    .ok()?;
                let zero = "0".repeat(id.len());
                let info = format!(
                    "0 {zero}\t{path}\n100644 {id} 1\t{path}\n100644 {id} 2\t{path}\n100755 {id} 3\t{path}\n"
                );
                child.stdin.take()?.write_all(info.as_bytes()).ok()?;
                child.wait().ok()?;
            }
            Dirt::NoIndex | Dirt::CorruptIndex => {
                // Without an index git falls back to attribute files that nobody committed; we do not.
                for path in snapshot(root)
                    .keys()
                    .filter(|path| path.ends_with(".gitattributes"))
                {
                    clear(root, path, true)?;
                }
                let index = root.join(".git/index");
                match fs::read(&index) {
                    // git gives up; for us it is the same as none.
                    Ok(mut bytes) if side == OURS && *dirt == Dirt::CorruptIndex => {
                        let at = bytes.len() / 2;
                        bytes[at] ^= 0xff;
                        fs::write(&index, bytes).ok()?;
                    }
                    _ => drop(fs::remove_file(&index)),
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// The place of `path`, with real directories above it and, if asked for, nothing in it.
pub fn clear(root: &Path, path: &str, empty: bool) -> Option<PathBuf> {
    let mut place = root.to_owned();
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        place.push(name);
        let meta = fs::symlink_metadata(&place).ok();
        match meta {
            Some(meta) if names.peek().is_some() && !meta.is_dir() => fs::remove_file(&place).ok()?,
            Some(meta) if names.peek().is_none() && meta.is_dir() => fs::remove_dir_all(&place).ok()?,
            Some(meta) if names.peek().is_none() && (empty || !meta.is_file()) => {
                fs::remove_file(&place).ok()?
            }
            _ => {}
        }
        if names.peek().is_some() {
            fs::create_dir_all(&place).ok()?;
        }
    }
    Some(place)
}

/// Give a file an age that no other has: git would not see a change within a second.
pub fn age(path: &Path) -> Option<()> {
    static SECONDS: AtomicU64 = AtomicU64::new(1_000_000_000);
    let seconds = Duration::from_secs(SECONDS.fetch_add(1, Ordering::Relaxed));
    fs::File::open(path)
        .ok()?
        .set_modified(SystemTime::UNIX_EPOCH + seconds)
        .ok()
}

pub fn has_repository(root: &Path, dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().flatten().any(|entry| {
        let is_dir = entry.file_type().unwrap().is_dir();
        (entry.file_name() == ".git" && dir != root)
            || (is_dir && entry.path() != root.join(".git") && has_repository(root, &entry.path()))
    })
}
