//! Which paths of a configuration may be opened, and how much around them. `links` resolves them.
//!
//! Each result is a path without links. It is opened without following any (`RESOLVE_NO_SYMLINKS`, openat2(2)): so a directory
//! that is replaced by a link in between cannot be opened.

use std::{
    collections::BTreeSet,
    fs,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{self, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, StatxFlags, statx},
    io::Errno,
};

use crate::{
    config::{Config, HookSide, Listener},
    deploy::links::{Links, Planted, open},
    git::transport::Needs,
};

/// How many files and directories of `/etc` are looked at for hooks inside the sandbox. A usual system has two thousand; the
/// rest is denied to hooks.
const MAX_SYSTEM: usize = 50_000;

#[derive(Debug, Default)]
pub(super) struct Allowed {
    links: Links,
    /// The configuration, and the files that it names: as written, and without links.
    named: BTreeSet<PathBuf>,
    /// The file systems that targets are on, or will be.
    disks: BTreeSet<(u32, u32)>,
    /// Files of the system that name hosts and users; each process reads them.
    pub(super) system: Vec<PathBuf>,
    /// Files of the kernel; each process reads them.
    pub(super) kernel: Vec<PathBuf>,
    /// The files of `system` as the system names them: they may be replaced.
    pub(super) by_inode: Vec<PathBuf>,
    /// What all users may read in [`ETC`], except what is `named`; only if hooks run inside the sandbox.
    pub(super) public: Vec<PathBuf>,
}

/// Name servers and hosts; users and groups, which `allow` and listeners name.
const FILES: [&str; 4] = ["/etc/resolv.conf", "/etc/hosts", "/etc/passwd", "/etc/group"];
/// It is never opened as a whole: keys are in it as well.
const ETC: &str = "/etc";
/// How many processors a container may use, see cgroups(7); and who holds which locks, see proc_locks(5).
const KERNEL: [&str; 3] = ["/proc/self/cgroup", "/sys/fs/cgroup", "/proc/locks"];

/// Whether the policy may outlive the inodes at its paths: a worker's does, a run's does not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasts {
    Long,
    Short,
}

impl Allowed {
    /// What `config` allows, which was read from `file`.
    pub(super) fn of(config: &Config, file: Option<&Path>, links: Links) -> Self {
        let mut allowed = Self {
            links,
            ..Self::default()
        };
        // /etc/resolv.conf may be a link to a file that a resolver's daemon writes.
        let files = FILES.iter().flat_map(|file| allowed.beside(Path::new(file)));
        allowed.system = files.collect();
        let kernel = KERNEL
            .iter()
            .filter_map(|path| allowed.lead(Path::new(path)).ok());
        allowed.kernel = kernel.collect();
        allowed.by_inode = FILES.map(PathBuf::from).into();
        let mut named: Vec<PathBuf> = file
            .and_then(|file| path::absolute(file).ok())
            .into_iter()
            .collect();
        let included = config.included.iter().flat_map(|included| &included.files);
        named.extend(included.map(|(file, _)| file.clone()));
        for listener in &config.listen {
            if let Listener::Tcp { token_file, .. } = listener {
                named.extend(token_file.iter().map(|file| file.as_path().into()));
            }
        }
        for target in config.triggers.values() {
            named.extend(Needs::of(&target.origin).files);
        }
        // Only now, since the targets' directories decide which links count.
        let real: Vec<PathBuf> = allowed
            .links
            .written()
            .filter_map(|dir| allowed.lead(dir).ok())
            .collect();
        let there = |dir: &PathBuf| dir.ancestors().find_map(|dir| open(dir).ok());
        allowed.disks = real.iter().filter_map(|dir| disk(&there(dir)?).ok()).collect();
        allowed.links.extend(real);
        let real: Vec<PathBuf> = named.iter().filter_map(|file| allowed.lead(file).ok()).collect();
        allowed.named.extend(named);
        allowed.named.extend(real);
        let is_inside = config.sandbox.hooks == HookSide::Inside;
        if is_inside
            && config
                .triggers
                .values()
                .any(|target| target.programs().next().is_some())
        {
            allowed.look_at(Path::new(ETC));
        }
        allowed
    }

    /// Find what hooks may read in the directory `system`.
    fn look_at(&mut self, system: &Path) {
        let (mut left, mut public) = (MAX_SYSTEM, Vec::new());
        if self.is_public(system, &mut left, &mut public) {
            public = vec![system.into()];
        }
        self.public = public;
    }

    /// Whether all users may read all of `dir`, and nothing in it is named. If not, the parts for which that is true go to `found`.
    fn is_public(&self, dir: &Path, left: &mut usize, found: &mut Vec<PathBuf>) -> bool {
        let Ok(entries) = fs::read_dir(dir) else {
            return false;
        };
        let (mut whole, mut below) = (true, Vec::new());
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(meta) = entry.metadata() else {
                whole = false;
                continue;
            };
            if meta.is_symlink() {
                // The file that it leads to has its own rule.
                continue;
            }
            let Some(fewer) = left.checked_sub(1) else {
                whole = false;
                break;
            };
            *left = fewer;
            let wanted = if meta.is_dir() { 0o005 } else { 0o004 };
            let is_open = meta.mode() & wanted == wanted && !self.is_named(&path);
            if is_open && (!meta.is_dir() || self.is_public(&path, left, &mut below)) {
                below.push(path)
            } else {
                whole = false
            }
        }
        if !whole {
            found.append(&mut below);
        }
        whole
    }

    /// Whether `real` is a file that the configuration names, or the directory of one.
    fn is_named(&self, real: &Path) -> bool {
        let mut named = self.named.iter();
        named.any(|file| file == real || file.parent() == Some(real))
    }

    pub(super) fn lead(&self, path: &Path) -> Result<PathBuf, Planted> {
        self.links.lead(path)
    }

    /// What a worker needs to read `file`, which may be replaced: its directory, and that of the file that it links to; in
    /// [`ETC`] and in the root, the file alone.
    pub(super) fn beside(&self, file: &Path) -> Vec<PathBuf> {
        let Ok(real) = self.lead(file) else {
            return Vec::new();
        };
        let dirs = [
            file.parent().and_then(|dir| self.lead(dir).ok()),
            real.parent().map(Into::into),
        ];
        let own = |dir: PathBuf| {
            if dir.parent().is_some() && dir != Path::new(ETC) {
                dir
            } else {
                real.clone()
            }
        };
        dirs.into_iter().flatten().map(own).collect()
    }

    /// Whether the directory `dir` is on the file system of a target, as far as the kernel knows without asking that file system.
    pub(super) fn is_on_a_targets_disk(&self, dir: &OwnedFd) -> Result<bool, Errno> {
        Ok(self.disks.contains(&disk(dir)?))
    }

    /// Whether hooks may write to `real`, a path without links.
    pub(super) fn is_written(&self, real: &Path) -> bool {
        self.links.is_written(real)
    }

    /// Whether `real` is in a directory that hooks of a target may write to, or holds one; targets that `own` is in do not count.
    pub(super) fn is_anothers(&self, real: &Path, own: &Path) -> bool {
        let mut others = self.links.written().filter(|dir| !own.starts_with(dir));
        others.any(|dir| real.starts_with(dir) || dir.starts_with(real))
    }

    /// Whether `real` is, or holds, a file that the configuration names.
    pub(super) fn holds_named(&self, real: &Path) -> bool {
        self.named.iter().any(|file| file.starts_with(real))
    }

    /// `real`; or, if it holds a file that the configuration names, the parts of it that do not.
    pub(super) fn around(&self, real: &Path) -> Vec<PathBuf> {
        if !self.holds_named(real) {
            return vec![real.into()];
        }
        let entries = fs::read_dir(real).into_iter().flatten().flatten();
        let is_link = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_symlink());
        entries
            .filter(|entry| !is_link(entry))
            .flat_map(|entry| self.around(&entry.path()))
            .collect()
    }
}

/// The file system that a file is on. The kernel knows it without asking that file system.
fn disk(file: &OwnedFd) -> Result<(u32, u32), Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(file, "", flags, StatxFlags::TYPE)?;
    Ok((found.stx_dev_major, found.stx_dev_minor))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn allowed(written: &[PathBuf], named: &[PathBuf]) -> Allowed {
        Allowed {
            links: Links::of(written.iter().cloned(), []),
            named: named.iter().cloned().collect(),
            ..Allowed::default()
        }
    }

    #[test]
    fn included_files_are_named() {
        let dir = crate::machine::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir(dir.join("conf.d")).unwrap();
        let text = r#"(triggers: {"a": (repo: "r", path: "p")})"#;
        fs::write(dir.join("conf.d/a.ron"), text).unwrap();
        let file = dir.join("config.ron");
        fs::write(&file, r#"(include: ["conf.d/*"])"#).unwrap();
        let config = Config::load(&file).unwrap();
        let allowed = Allowed::of(&config, Some(&file), Links::of([], []));
        assert!(allowed.is_named(&dir.join("conf.d/a.ron")) && allowed.is_named(&dir.join("conf.d")));
        assert!(allowed.is_named(&file) && !allowed.is_named(&dir.join("p")));
    }

    #[test]
    fn named_files_are_left_out() {
        let dir = crate::machine::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let at = |name: &str| dir.join(name);
        for name in [
            "gs/keys/site",
            "gs/config.ron",
            "ssl/certs/ca",
            "ssl/private/key",
            "hosts",
            "shadow",
        ] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), "").unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        for name in ["", "gs", "gs/keys", "ssl", "ssl/certs", "ssl/private"] {
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(at("shadow"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("gs/keys/site", at("link")).unwrap();
        let sorted = |mut paths: Vec<PathBuf>| {
            paths.sort();
            paths
        };
        let mut allowed = allowed(&[], &[at("gs/keys/site"), at("gs/config.ron")]);
        allowed.look_at(&dir);
        assert_eq!(
            sorted(allowed.public.clone()),
            [at("hosts"), at("ssl")],
            "the directory of a file that is named has nothing for hooks"
        );
        fs::set_permissions(at("ssl/private"), fs::Permissions::from_mode(0o710)).unwrap();
        allowed.look_at(&dir);
        assert_eq!(sorted(allowed.public.clone()), [at("hosts"), at("ssl/certs")]);
        assert_eq!(allowed.around(&at("ssl")), [at("ssl")]);
        assert_eq!(
            sorted(allowed.around(&dir)),
            [at("hosts"), at("shadow"), at("ssl")]
        );
        assert!(allowed.holds_named(&at("gs")) && !allowed.holds_named(&at("ssl")));
    }
}
