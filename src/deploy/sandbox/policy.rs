//! Which paths and ports a worker, or a run, needs: a list, made from the configuration alone. The content of a target never
//! adds to it, since hooks write there.
//!
//! A rule of Landlock is bound to the inode that is at a path now. Files are replaced by renaming (keys, known_hosts), and
//! targets are removed and cloned again: so the rules of the worker name the parent directories, unless the configuration,
//! or a file that it names, is in there as well. The rules of a run, which is short, name the files and directories
//! themselves.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    allowed::{Allowed, Lasts},
    sources,
};
use crate::{
    base::vitals,
    config::{Allow, Config, Hook, HookSide, Listener, Target},
    deploy::{health, links::Planted},
    git::transport::Needs,
};

/// Paths without links, by what is allowed beneath them. A path that does not exist gets no rule.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) read: BTreeSet<PathBuf>,
    pub(super) execute: BTreeSet<PathBuf>,
    pub(super) write: BTreeSet<PathBuf>,
    /// Where writing and executing are allowed: worktrees, for hooks.
    pub(super) build: BTreeSet<PathBuf>,
    pub(super) devices: BTreeSet<PathBuf>,
    /// TCP ports to connect to.
    pub(super) ports: BTreeSet<u16>,
    /// Paths that a worker gets without their directory, and loses access to once they are replaced.
    pub(super) by_inode: BTreeSet<PathBuf>,
}

/// Where a system's programs are, and what they read.
const PROGRAMS: [&str; 10] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix", "/gnu",
];
const DNS: u16 = 53;

impl Policy {
    /// What the worker needs for all triggers of `config`, and to write in the directories `state`.
    pub(super) fn of_worker(config: &Config, state: &[PathBuf], allowed: &Arc<Allowed>) -> Self {
        let mut policy = Self::default();
        policy.system(allowed);
        for target in config.triggers.values() {
            // A target whose path leads through a link that a hook may have made gets nothing: its runs report it.
            policy
                .target(target, config.sandbox.hooks, (Lasts::Long, allowed))
                .ok();
        }
        let targets = config.triggers.values().map(AsRef::as_ref);
        policy.sources(targets, (Lasts::Long, allowed));
        for listener in &config.listen {
            if let Listener::Tcp { token_file, .. } = listener {
                let tokens = token_file.iter();
                tokens.for_each(|file| policy.file(file.as_path(), (Lasts::Long, allowed)));
            }
        }
        // `daemon::peer` reads a client's groups there. Landlock still denies the files of other processes that need ptrace(2).
        let mut rules = config
            .triggers
            .values()
            .flat_map(|target| target.allow.iter().flatten());
        if rules.any(|rule| matches!(rule, Allow::Group(_))) {
            policy.read.insert("/proc".into());
        }
        let own = vitals::SOURCES
            .iter()
            .filter_map(|path| allowed.lead(Path::new(path)).ok());
        policy.read.extend(own);
        policy
            .write
            .extend(state.iter().filter_map(|dir| allowed.lead(dir).ok()));
        policy
    }

    /// What a run of `target` needs.
    pub(super) fn of_run(target: &Target, hooks: HookSide, allowed: &Arc<Allowed>) -> Result<Self, Planted> {
        let mut policy = Self::default();
        policy.system(allowed);
        policy.target(target, hooks, (Lasts::Short, allowed))?;
        policy.sources([target], (Lasts::Short, allowed));
        Ok(policy)
    }

    /// What a poll of the remote of `target` needs: it writes nothing, and no hook runs.
    pub(super) fn of_poll(target: &Target, allowed: &Arc<Allowed>) -> Result<Self, Planted> {
        let mut policy = Self::default();
        for dir in places(target) {
            policy.read.insert(allowed.lead(dir)?);
        }
        match target.origin.repo.local_path() {
            Some(_) => policy.sources([target], (Lasts::Short, allowed)),
            None => {
                policy.read.extend(allowed.system.iter().cloned());
                policy.ports.insert(DNS);
                policy.origin(target, (Lasts::Short, allowed));
            }
        }
        Ok(policy)
    }

    fn sources<'t>(
        &mut self,
        targets: impl IntoIterator<Item = &'t Target>,
        (lasts, allowed): (Lasts, &Arc<Allowed>),
    ) {
        let local = targets
            .into_iter()
            .filter_map(|target| target.origin.repo.local_path());
        let local = local.map(|path| path.as_path().into()).collect();
        self.read.extend(sources::storage(local, (lasts, allowed)));
    }

    fn system(&mut self, allowed: &Allowed) {
        let read = allowed.system.iter().chain(&allowed.kernel);
        self.read.extend(read.cloned());
        self.by_inode.extend(allowed.by_inode.iter().cloned());
        self.devices.insert("/dev/null".into());
        self.ports.insert(DNS);
    }

    fn target(
        &mut self,
        target: &Target,
        hooks: HookSide,
        (lasts, allowed): (Lasts, &Allowed),
    ) -> Result<(), Planted> {
        let builds = hooks == HookSide::Inside && target.programs().next().is_some();
        let mut written = Vec::new();
        for dir in places(target) {
            let real = allowed.lead(dir)?;
            if lasts == Lasts::Short {
                written.push(real);
                continue;
            }
            let kept = place(&real, allowed);
            if kept == real {
                self.by_inode.insert(real);
            }
            written.push(kept);
        }
        if builds {
            self.build.extend(written);
            self.hooks(target, allowed);
        } else {
            self.write.extend(written);
        }
        self.origin(target, (lasts, allowed));
        self.ports.extend(target.health.as_ref().and_then(health::port));
        Ok(())
    }

    /// What a connection to the remote needs.
    fn origin(&mut self, target: &Target, (lasts, allowed): (Lasts, &Allowed)) {
        let needs = Needs::of(&target.origin);
        let files = needs.files.iter();
        files.for_each(|file| self.file(file, (lasts, allowed)));
        let read = needs.system.iter().filter_map(|path| allowed.lead(path).ok());
        self.read.extend(read.flat_map(|real| allowed.around(&real)));
        self.ports.extend(needs.ports);
    }

    /// What hooks inside the sandbox need: programs, and what most programs read.
    fn hooks(&mut self, target: &Target, allowed: &Allowed) {
        let programs = PROGRAMS
            .iter()
            .filter_map(|dir| allowed.lead(Path::new(dir)).ok());
        self.execute.extend(programs.flat_map(|dir| allowed.around(&dir)));
        for hook in target.programs() {
            if let Hook::Exec { run, .. } = hook
                && let Some(program) = run.first().map(Path::new)
                && program.is_absolute()
                && let Ok(real) = allowed.lead(program)
            {
                // A program's own files are in its directory: all of that is opened, unless a key or another target is in it.
                let beside = [Some(real.as_path()), program.parent(), real.parent()];
                let beside = beside
                    .into_iter()
                    .flatten()
                    .filter_map(|dir| allowed.lead(dir).ok());
                self.execute.extend(beside.filter(|dir| {
                    let is_fit = || {
                        !allowed.holds_named(dir) && !allowed.is_anothers(dir, target.site.root().as_path())
                    };
                    *dir == real || dir.parent().is_some() && is_fit()
                }));
            }
        }
        self.read.extend(allowed.public.iter().cloned());
        self.read.insert("/proc".into());
        let devices = ["zero", "full", "random", "urandom", "tty"];
        self.devices
            .extend(devices.map(|name| Path::new("/dev").join(name)));
    }

    /// Allow reading a file that may be replaced.
    fn file(&mut self, file: &Path, (lasts, allowed): (Lasts, &Allowed)) {
        match lasts {
            Lasts::Long => {
                let beside = allowed.beside(file);
                // A file that is opened without its directory may be replaced.
                self.by_inode
                    .extend(beside.iter().filter(|path| path.is_file()).cloned());
                self.read.extend(beside);
            }
            Lasts::Short => self.read.extend(allowed.lead(file).ok()),
        }
    }
}

/// The directories of `target`. A `.git` in the worktree needs no rule of its own; one that is a link is not accepted.
fn places(target: &Target) -> impl Iterator<Item = &Path> {
    let dirs = [Some(target.site.root()), target.site.git_dir.as_ref()];
    dirs.into_iter().flatten().map(|dir| dir.as_path())
}

/// The directory that a worker may write to, so that it can use `dir`.
///
/// While the worker lives, `dir` may be removed and made again, for which it needs the parent directory. But a parent with the
/// configuration in it, or with a file that the configuration names, is never opened, nor is the root of the file system: then
/// it is `dir` itself, made now if it is missing, and cannot be removed.
fn place(dir: &Path, allowed: &Allowed) -> PathBuf {
    let Some(parent) = dir.parent() else {
        return dir.into();
    };
    let is_fit = |dir: &Path| dir.parent().is_some() && !allowed.holds_named(dir);
    let above: Vec<&Path> = parent.ancestors().collect();
    // The lowest one that exists; all below it is still to be made.
    let there = above
        .iter()
        .position(|dir| dir.parent().is_some() && dir.exists());
    let candidates = above[..=there.unwrap_or(0)].iter().rev().copied();
    let kept = candidates.into_iter().find(|dir| is_fit(dir)).unwrap_or(dir);
    if !allowed.is_written(kept.parent().unwrap_or(kept)) {
        // If that fails, the run reports it.
        fs::create_dir_all(kept).ok();
    }
    kept.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Source, deploy::target_dirs};

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

    fn allowed(config: &Config, dir: &Path) -> Arc<Allowed> {
        let links = target_dirs::look(config).unwrap().links().clone();
        Arc::new(Allowed::of(config, Some(&dir.join("config.ron")), links))
    }

    #[test]
    fn a_run_gets_its_own_target_and_the_worker_what_they_are_in() {
        let dir = crate::machine::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["in/a", "in/b", "keys"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let config = config(&dir, "");
        let allowed = allowed(&config, &dir);
        let run = |name: &str| Policy::of_run(&config.triggers[name], HookSide::Outside, &allowed).unwrap();
        let (a, b) = (run("a"), run("b"));
        assert!(a.write.contains(&dir.join("in/a")) && !a.write.contains(&dir.join("in")));
        assert!(a.read.contains(&dir.join("source")) && !a.read.contains(&dir.join("keys")));
        assert!(b.read.contains(&dir.join("keys/b")) && !b.read.contains(&dir.join("source")));
        assert!(b.write.iter().all(|path| !path.starts_with(dir.join("in/a"))));
        assert_eq!(a.ports, BTreeSet::from([53]));
        assert!(b.ports.contains(&8443));
        assert!(a.execute.is_empty() && a.build.is_empty());

        // A poll writes nothing.
        let poll = |name: &str| Policy::of_poll(&config.triggers[name], &allowed).unwrap();
        let reads = |read, ports| Policy {
            read,
            ports,
            ..Policy::default()
        };
        let read = ["in/a", "source"].map(|name| dir.join(name)).into();
        assert_eq!(poll("a"), reads(read, BTreeSet::new()));
        let read = poll("b").read;
        assert!(read.is_superset(&["in/b", "keys/b"].map(|name| dir.join(name)).into()));
        assert_eq!(poll("b"), reads(read, b.ports.clone()));
        let worker = Policy::of_worker(&config, &[], &allowed);
        assert!(worker.write.contains(&dir.join("in")) && worker.read.contains(&dir.join("keys")));
        assert!(!worker.write.contains(&dir), "{worker:?}");
        for policy in [&a, &b, &worker] {
            assert!(!policy.read.contains(Path::new("/etc")), "{policy:?}");
        }
    }

    #[test]
    fn a_run_may_ask_whether_all_is_well() {
        let dir = crate::machine::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["in/a", "in/b", "tools", "config.ron"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        for (check, port) in [
            ("Http(\"http://127.0.0.1:8080/healthz\")", Some(8080)),
            (
                "Http(url: \"https://localhost/\", host: \"www.example.com:1\")",
                Some(443),
            ),
            ("Tcp(\"[::1]:5432\")", Some(5432)),
            ("Exec(run: [\"tools/ask\"])", None),
        ] {
            let config = config(&dir, &format!("hooks: [], health: (check: {check})"));
            let allowed = allowed(&config, &dir);
            let run =
                |name: &str| Policy::of_run(&config.triggers[name], HookSide::Inside, &allowed).unwrap();
            let (a, b) = (run("a"), run("b"));
            assert_eq!(
                a.ports,
                [Some(53), port].into_iter().flatten().collect(),
                "{check}"
            );
            let worker = Policy::of_worker(&config, &[], &allowed);
            assert!(port.is_none_or(|port| worker.ports.contains(&port)), "{check}");
            assert!(
                port == Some(443) || port.is_none_or(|port| !b.ports.contains(&port)),
                "{check}"
            );
            // A program is a hook, in all respects.
            assert_eq!(a.build.contains(&dir.join("in/a")), port.is_none(), "{check}");
            assert_eq!(a.execute.is_empty(), port.is_some(), "{check}");
        }
    }

    #[test]
    fn hooks_inside_may_execute() {
        let dir = crate::machine::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["in/a", "tools", "config.ron"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let hooks = |program: &str| {
            let program = dir.join(program);
            fs::write(&program, "").unwrap();
            let config = config(&dir, &format!("hooks: [Exec(run: [{program:?}])]"));
            Policy::of_run(&config.triggers["a"], HookSide::Inside, &allowed(&config, &dir)).unwrap()
        };
        let policy = hooks("tools/hook");
        assert!(policy.build.contains(&dir.join("in/a")) && policy.execute.contains(Path::new("/usr")));
        assert!(policy.execute.contains(&dir.join("tools")));
        // Beside the configuration, and beside another target.
        for program in ["hook", "in/hook"] {
            let program = dir.join(program);
            let policy = hooks(program.to_str().unwrap());
            assert!(policy.execute.contains(&program), "{policy:?}");
            assert!(!policy.execute.contains(program.parent().unwrap()), "{policy:?}");
        }
    }

    #[test]
    fn what_is_beside_the_configuration_does_not_open_it() {
        let dir = crate::machine::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let config = config(&dir, "git_dir: \"a.git\"");
        let allowed = allowed(&config, &dir);
        for (path, kept) in [
            ("site", "site"),
            ("in/a", "in"),
            ("keys/site", "keys/site"),
            ("new/deep/site", "new"),
            ("", ""),
        ] {
            assert_eq!(place(&dir.join(path), &allowed), dir.join(kept), "{path}");
            assert!(dir.join(kept).is_dir());
        }
        let worker = Policy::of_worker(&config, &[dir.join("runs")], &allowed);
        let written: Vec<_> = ["a.git", "in", "runs"].map(|name| dir.join(name)).into();
        assert_eq!(worker.write.into_iter().collect::<Vec<_>>(), written);
    }

    #[test]
    fn a_source_with_the_configuration_in_it_is_opened_around_it() {
        let dir = crate::machine::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["in/a", "source/.git", "source/gs", "source/more"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let file = dir.join("source/gs/config.ron");
        let text = "(triggers: {\"a\": (repo: \"../../source\", path: \"../../in/a\")})";
        fs::write(&file, text).unwrap();
        let source = Source {
            file: file.clone(),
            text: text.into(),
        };
        let config = Config::parse(&source).unwrap();
        let allowed = allowed(&config, file.parent().unwrap());
        let run = Policy::of_run(&config.triggers["a"], HookSide::Inside, &allowed).unwrap();
        let of_source: Vec<_> = run
            .read
            .iter()
            .filter(|path| path.starts_with(dir.join("source")))
            .collect();
        assert_eq!(of_source, [&dir.join("source/.git"), &dir.join("source/more")]);
    }

    #[test]
    fn a_link_in_a_target_leads_nowhere() {
        let dir = crate::machine::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["in/a/.git", "in/b", "secret/.git", "source"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let config = config(&dir, "");
        fs::remove_dir(dir.join("in/a/.git")).unwrap();
        std::os::unix::fs::symlink(dir.join("secret/.git"), dir.join("in/a/.git")).unwrap();
        let allowed = allowed(&config, &dir);
        let of_secret = |policy: &Policy| {
            let all = [&policy.read, &policy.write, &policy.build, &policy.execute];
            let mut all = all.into_iter().flatten();
            all.any(|path| path.starts_with(dir.join("secret")) || *path == dir)
        };
        let a = Policy::of_run(&config.triggers["a"], HookSide::Inside, &allowed).unwrap();
        assert!(!of_secret(&a), "{a:?}");
        let worker = Policy::of_worker(&config, &[], &allowed);
        assert!(!of_secret(&worker), "{worker:?}");
    }

    #[test]
    fn the_root_is_never_a_place() {
        for (path, kept) in [
            ("/tmp", "/tmp"),
            ("/usr/no-such-target", "/usr"),
            ("/usr/no/such", "/usr"),
        ] {
            assert_eq!(place(Path::new(path), &Allowed::default()), Path::new(kept));
        }
    }
}
