//! Starts hooks for a worker, outside of its sandbox: only those of its configuration.

use std::{io, os::fd::OwnedFd};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Supervisor, worker::tell};
use crate::{
    base::control::{Start, ToWorker},
    config::{Config, HookSide},
    deploy::{
        hook,
        release::located::{Located, by_descriptor},
    },
};

/// A hook that was started for `worker`, with the worker's `id` for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct HookId {
    pub(super) worker: Pid,
    pub(super) id: u64,
}

impl Supervisor<'_> {
    /// Start a hook for the worker `pid`, if its configuration has that hook.
    pub(super) fn start_hook(&mut self, pid: Pid, start: &Start, outputs: Vec<OwnedFd>) {
        let Some(worker) = self.workers.iter().find(|worker| worker.pid == pid) else {
            return;
        };
        let id = start.id;
        let answer = match spawn(&worker.config, start, outputs) {
            Ok(child) => {
                Pid::from_raw(child)
                    .into_iter()
                    .for_each(|group| self.options.guard.add(group));
                self.hooks.insert(child, HookId { worker: pid, id });
                ToWorker::Started { id, pid: child }
            }
            Err(err) => ToWorker::NotStarted {
                id,
                errno: err
                    .raw_os_error()
                    .unwrap_or(rustix::io::Errno::INVAL.raw_os_error()),
            },
        };
        tell(worker, answer);
    }

    /// End the process group of a hook for its worker, which may not signal processes outside of its sandbox.
    pub(super) fn kill_hook(&mut self, hook: HookId, at_once: bool) {
        let mut running = self.hooks.iter();
        let running = running.find_map(|(group, started)| (*started == hook).then_some(*group));
        // After SIGTERM, the worker always asks for SIGKILL as well: some processes may outlive the group's leader.
        let left = if at_once { self.left.remove(&hook) } else { None };
        let signal = if at_once { Signal::KILL } else { Signal::TERM };
        if let Some(group) = running.or(left).and_then(Pid::from_raw) {
            kill_process_group(group, signal).ok();
        }
        if let (Some(group), false) = (running, at_once) {
            self.left.insert(hook, group);
        }
    }
}

/// Start the hook; gives its process id. The worker can only choose among the hooks of its configuration.
fn spawn(config: &Config, start: &Start, outputs: Vec<OwnedFd>) -> io::Result<i32> {
    let refused = || io::Error::from(rustix::io::Errno::PERM);
    if config.sandbox.hooks != HookSide::Outside {
        // Only a compromised worker asks for that.
        return Err(refused());
    }
    let target = config.triggers.get(&start.trigger).ok_or_else(refused)?;
    let [out, err] = <[_; 2]>::try_from(outputs).map_err(|_| refused())?;
    let git_dir = target.site.git_dir();
    let located = start.release.as_ref().map(Located::try_from).transpose();
    let located = located.map_err(|_| refused())?;
    let mut env = start.env.clone();
    // The worker must not set variables that the configuration or the release determines.
    env.retain(|name, _| name.starts_with("GITSOCKET_") && !hook::OF_RELEASES.contains(&name.as_str()));
    env.extend(hook::fixed(target, located.as_ref()));
    let program = (start.which, located.as_ref());
    let mut command = hook::command(target, program, &git_dir, &env, &start.old_new).ok_or_else(refused)?;
    // Stays open until the hook is started.
    let dir = located
        .as_ref()
        .map(|located| located.open(&target.site))
        .transpose()?;
    if let (Some(located), Some(dir)) = (&located, &dir) {
        command.current_dir(by_descriptor(dir, located.dir(&target.site)));
    }
    let child = command.stdout(out).stderr(err).spawn()?;
    // `reap` waits for it.
    i32::try_from(child.id()).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{io::Read as _, num::NonZeroU32, sync::Arc};

    use rustix::process::{WaitOptions, waitpid};

    use super::*;
    use crate::{
        base::control::{Release, Which},
        config::{Live, Releases, Source},
    };

    #[test]
    fn hooks_that_are_to_be_inside_are_not_started_outside() {
        let dir = crate::machine::tempdir().unwrap();
        for (sandbox, starts) in [("sandbox: Required,", false), ("", true)] {
            let text = format!(
                "({sandbox} triggers: {{\"a\": (repo: \"r\", path: \"a\", hooks: [Exec(run: [\"/none\"])])}})"
            );
            let file = dir.path().join("config.ron");
            let config = Config::parse(&Source { file, text }).unwrap();
            let start = Start {
                id: 0,
                trigger: config.triggers["a"].trigger.clone(),
                which: Which::Hook(0),
                release: None,
                env: Default::default(),
                old_new: Default::default(),
            };
            let outputs = [std::io::pipe().unwrap(), std::io::pipe().unwrap()];
            let outputs = outputs.map(|(_, writer)| OwnedFd::from(writer)).into();
            // There is no such program.
            let found = spawn(&config, &start, outputs).unwrap_err().kind();
            assert_eq!(found != io::ErrorKind::PermissionDenied, starts, "{found}");
        }
    }

    /// A worker names a release; where the hook is started, and what it is told of that, follows from the name.
    #[test]
    fn a_release_is_found_by_its_name_alone() {
        let dir = crate::machine::tempdir().unwrap();
        let text = "(triggers: {\"a\": (repo: \"r\", path: \"a\", \
            hooks: [Exec(run: [\"/bin/sh\", \"-c\", \"/bin/pwd -P; echo $GITSOCKET_RELEASE $GITSOCKET_PREVIOUS $GIT_DIR\"])])})";
        let file = dir.path().join("config.ron");
        let text = text.to_owned();
        let mut config = Config::parse(&Source { file, text }).unwrap();
        let target = Arc::make_mut(config.triggers.get_mut("a").unwrap());
        target.site.releases = Some(Releases {
            keep: NonZeroU32::MIN,
            live: Live::Symlink("current".into()),
            shared: Vec::new(),
        });
        let path = dir.path().canonicalize().unwrap().join("a");
        let id = "20261125T201500Z-5d6e7f8";
        let release = path.join("releases").join(id);
        std::fs::create_dir_all(&release).unwrap();
        let say = |id: &str| {
            let start = Start {
                id: 0,
                trigger: config.triggers["a"].trigger.clone(),
                which: Which::Hook(0),
                release: Some(Release {
                    id: id.into(),
                    previous: None,
                    is_live: false,
                }),
                env: ["GITSOCKET_PREVIOUS", "GITSOCKET_RELEASE", "GIT_DIR"]
                    .map(|name| (name.to_owned(), "/etc".into()))
                    .into(),
                old_new: Default::default(),
            };
            let (mut said, out) = std::io::pipe().unwrap();
            let (_, err) = std::io::pipe().unwrap();
            let child = spawn(&config, &start, vec![out.into(), err.into()])?;
            let mut text = String::new();
            said.read_to_string(&mut text).unwrap();
            waitpid(Pid::from_raw(child), WaitOptions::empty()).unwrap();
            Ok::<_, io::Error>(text)
        };
        let [release, repo] = [release, dir.path().join("a/repo.git")].map(|path| path.display().to_string());
        let told = say(id).unwrap();
        let mut lines = told.lines();
        assert_eq!(lines.next(), Some(release.as_str()));
        let env = lines.next().unwrap();
        assert!(
            env.ends_with(&format!("{id} {repo}")) && !env.contains("/etc"),
            "{env}"
        );
        for wrong in ["../../..", "", "20261125T201500Z-0000000"] {
            assert!(say(wrong).is_err(), "{wrong}");
        }
        std::fs::remove_dir(&release).unwrap();
        std::os::unix::fs::symlink("/", &release).unwrap();
        assert!(say(id).is_err());
    }
}
