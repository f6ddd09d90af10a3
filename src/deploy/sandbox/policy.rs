//! Which paths and ports a worker, or a run, needs: a list, made from the configuration.
//!
//! Landlock's rules are about what is at a path now. Files are replaced by renaming (keys, known_hosts, resolv.conf,
//! this daemon's own configuration), and targets are removed and cloned anew: so the worker gets the directories that
//! such things are in, and a run, which does not last, the things themselves.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::sources;
use crate::{
    config::{Allow, Config, Hook, HookPlace, Listener, Target},
    git::{repository, transport::Needs},
};

/// What the worker reads and writes besides what its configuration names.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// The directory that past runs are kept in.
    pub history: Option<&'a Path>,
    /// The log.
    pub log: Option<&'a Path>,
}

/// Paths by what is allowed beneath them. What is not there is passed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// To read.
    pub(super) read: BTreeSet<PathBuf>,
    /// To read and execute.
    pub(super) execute: BTreeSet<PathBuf>,
    /// To write.
    pub(super) write: BTreeSet<PathBuf>,
    /// To write and execute: worktrees, for hooks.
    pub(super) build: BTreeSet<PathBuf>,
    /// Devices.
    pub(super) devices: BTreeSet<PathBuf>,
    /// TCP ports to connect to.
    pub(super) ports: BTreeSet<u16>,
}

/// Where a system's programs are, and what they read.
const PROGRAMS: [&str; 10] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix", "/gnu",
];
/// Hosts, name servers, users, groups, and certificates.
const SYSTEM: &str = "/etc";
/// How many processors a container may use, see cgroups(7).
const PROCESSORS: [&str; 2] = ["/proc/self/cgroup", "/sys/fs/cgroup"];
/// Who holds which locks, see proc_locks(5).
const LOCKS: &str = "/proc/locks";
/// Name servers, over TCP.
const DNS: u16 = 53;

/// Whether the policy outlives what is at the paths.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasts {
    /// A worker's.
    Long,
    /// A run's.
    Short,
}

impl Policy {
    /// What the worker needs for all triggers of `config`.
    pub(super) fn of_worker(config: &Config, files: Files<'_>) -> Self {
        let mut policy = Self::default();
        policy.system();
        for target in config.triggers.values() {
            policy.target(target, config.sandbox.hooks, Lasts::Long);
        }
        policy.sources(config.triggers.values().map(AsRef::as_ref));
        for listener in &config.listen {
            if let Listener::Tcp { token_file, .. } = listener {
                let tokens = token_file.iter();
                tokens.for_each(|file| policy.file(file.as_path(), Lasts::Long));
            }
        }
        // `peer` reads there in which groups a client is. What belongs to it alone, Landlock keeps from us all the same.
        let mut rules = config
            .triggers
            .values()
            .flat_map(|target| target.allow.iter().flatten());
        if rules.any(|rule| matches!(rule, Allow::Group(_))) {
            policy.read.insert("/proc".into());
        }
        policy.write.extend(files.history.map(Into::into));
        policy
            .write
            .extend(files.log.and_then(Path::parent).map(Into::into));
        policy
    }

    /// What a run of `target` needs.
    pub(super) fn of_run(target: &Target, hooks: HookPlace) -> Self {
        let mut policy = Self::default();
        policy.system();
        policy.target(target, hooks, Lasts::Short);
        policy.sources([target]);
        policy
    }

    fn sources<'t>(&mut self, targets: impl IntoIterator<Item = &'t Target>) {
        let local = targets
            .into_iter()
            .filter_map(|target| target.origin.repo.local_path());
        self.read.extend(sources::storage(
            local.map(|path| path.as_path().into()).collect(),
        ));
    }

    fn system(&mut self) {
        self.read.insert(SYSTEM.into());
        self.read.extend(PROCESSORS.map(PathBuf::from));
        self.read.insert(LOCKS.into());
        // It may be a symlink to where a resolver's daemon writes it.
        self.file(Path::new("/etc/resolv.conf"), Lasts::Long);
        self.devices.insert("/dev/null".into());
        self.ports.insert(DNS);
    }

    fn target(&mut self, target: &Target, hooks: HookPlace, lasts: Lasts) {
        let git_dir = target.site.git_dir();
        let builds = hooks == HookPlace::Inside && !target.hooks.is_empty();
        let written = [target.site.root().as_path(), git_dir.as_path()];
        let written = written.into_iter().flat_map(|dir| places(dir, lasts));
        if builds {
            self.build.extend(written);
            self.hooks(target);
        } else {
            self.write.extend(written);
        }
        self.read.extend(repository::storage(&git_dir));
        let needs = Needs::of(&target.origin);
        needs.files.iter().for_each(|file| self.file(file, lasts));
        self.read.extend(needs.directories);
        self.ports.extend(needs.ports);
    }

    /// What hooks inside need: programs, and what most of them look at.
    fn hooks(&mut self, target: &Target) {
        self.execute.extend(PROGRAMS.map(PathBuf::from));
        for hook in &target.hooks {
            if let Hook::Exec { run, .. } = hook
                && let Some(program) = run.first().map(Path::new)
                && program.is_absolute()
            {
                self.execute.extend(program.parent().map(Into::into));
            }
        }
        self.read.insert("/proc".into());
        let devices = ["zero", "full", "random", "urandom", "tty"];
        self.devices
            .extend(devices.map(|name| Path::new("/dev").join(name)));
    }

    /// A file that is read, and may be replaced.
    fn file(&mut self, file: &Path, lasts: Lasts) {
        let real = file.canonicalize().ok();
        for file in [Some(file), real.as_deref()].into_iter().flatten() {
            let dir = file.parent().filter(|dir| dir.parent().is_some());
            match (lasts, dir) {
                (Lasts::Long, Some(dir)) => self.read.insert(dir.into()),
                _ => self.read.insert(file.into()),
            };
        }
    }
}

/// Where `dir` is, or will be made.
///
/// A run needs the directory itself. In a worker's life it may be removed and made anew, for which the worker needs
/// the directory that it is in; but the root of the file system is never that: there, `dir` is made now.
fn places(dir: &Path, lasts: Lasts) -> BTreeSet<PathBuf> {
    let real = dir.canonicalize().unwrap_or_else(|_| dir.into());
    [dir, &real]
        .into_iter()
        .map(|dir| match (lasts, dir.parent()) {
            (Lasts::Short, _) if dir.exists() => dir.into(),
            (_, Some(parent)) => match existing(parent) {
                Some(found) => found,
                None => {
                    let kept = if parent.parent().is_some() { parent } else { dir };
                    // If that fails, the run says why.
                    fs::create_dir_all(kept).ok();
                    kept.into()
                }
            },
            (_, None) => dir.into(),
        })
        .collect()
}

/// `dir`, or the first directory above it that exists, but for the root.
fn existing(dir: &Path) -> Option<PathBuf> {
    dir.ancestors()
        .filter(|dir| dir.parent().is_some())
        .find(|dir| dir.exists())
        .map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn config(dir: &Path, fields: &str) -> Config {
        let text = format!(
            "(triggers: {{\"a\": (repo: \"source\", path: \"in/a\", {fields}), \
             \"b\": (repo: \"https://h:8443/b\", path: \"in/b\", auth: Basic(user: \"u\", password_file: \"keys/b\"))}})"
        );
        Config::parse(&Source {
            file: dir.join("config.ron"),
            text,
        })
        .unwrap()
    }

    #[test]
    fn a_run_gets_its_own_target_and_the_worker_what_they_are_in() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["in/a", "in/b", "keys"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let config = config(&dir, "");
        let run = |name: &str| Policy::of_run(&config.triggers[name], HookPlace::Outside);
        let (a, b) = (run("a"), run("b"));
        assert!(a.write.contains(&dir.join("in/a")) && !a.write.contains(&dir.join("in")));
        assert!(a.read.contains(&dir.join("source")) && !a.read.contains(&dir.join("keys")));
        assert!(b.read.contains(&dir.join("keys/b")) && !b.read.contains(&dir.join("source")));
        assert!(b.write.iter().all(|path| !path.starts_with(dir.join("in/a"))));
        assert_eq!(a.ports, BTreeSet::from([53]));
        assert!(b.ports.contains(&8443));
        assert!(a.execute.is_empty() && a.build.is_empty());

        let worker = Policy::of_worker(&config, Files::default());
        assert!(worker.write.contains(&dir.join("in")) && worker.read.contains(&dir.join("keys")));
        assert!(!worker.write.contains(&dir), "{worker:?}");
    }

    #[test]
    fn hooks_inside_may_execute() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("in/a")).unwrap();
        let config = config(dir.path(), "hooks: [Exec(run: [\"/srv/tools/hook\"])]");
        let policy = Policy::of_run(&config.triggers["a"], HookPlace::Inside);
        assert!(policy.build.contains(&dir.path().join("in/a")));
        assert!(
            policy.execute.contains(Path::new("/srv/tools")) && policy.execute.contains(Path::new("/usr"))
        );
    }

    #[test]
    fn the_root_is_never_a_place() {
        for (path, lasts) in [("/no-such-target", Lasts::Short), ("/tmp", Lasts::Long)] {
            if lasts == Lasts::Long {
                assert_eq!(places(Path::new(path), lasts), BTreeSet::from([path.into()]));
            }
            assert_ne!(existing(Path::new(path)).as_deref(), Some(Path::new("/")));
        }
    }
}
