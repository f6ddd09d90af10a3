//! Checks whether this user can do what a configuration says, before a daemon is started or reloaded. Nothing is locked or sent, and
//! nothing is written except by the check of `Exchange` (see `deploy::trial`).
//!
//! A file may be on a file system that does not answer, and a thread that looks at it cannot be interrupted. So another process
//! does the checks, and is abandoned if one of its threads hangs.

use std::{
    io::{self, Read as _, Write as _},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::listen;
use crate::{
    base::{
        fault::{Failure, Kind},
        mutex,
    },
    config::{Config, Listener, Target},
    deploy::{target_dirs::TargetDirs, trial},
    git::transport::Unusable,
};

/// How long to wait for the next result. Local disks need microseconds; a key with a passphrase needs half a second of CPU time.
const PATIENCE: Duration = Duration::from_secs(5);
/// The number of threads: some may hang.
const THREADS: usize = 8;

/// The longest result of that process, in bytes: a few lines for each name in a configuration of at most 1 MiB.
const MAX_ANSWER: u64 = 64 << 20;

/// Something that cannot be used.
#[derive(Debug, Serialize, Deserialize)]
pub struct Finding {
    /// The trigger; none for listeners.
    pub trigger: Option<String>,
    /// The field that names it.
    pub field: String,
    pub failure: Failure,
}

#[derive(Clone)]
enum Subject {
    Listener(Listener),
    Target(Arc<Target>, TargetDirs),
}

impl Subject {
    fn look(&self) -> Vec<Unusable> {
        match self {
            Self::Listener(listener) => listen::unusable(listener),
            Self::Target(target, target_dirs) => trial::unusable(target, target_dirs),
        }
    }

    fn finding(&self, (field, failure): Unusable) -> Finding {
        let trigger = match self {
            Self::Listener(_) => None,
            Self::Target(target, _) => Some(target.trigger.to_string()),
        };
        Finding {
            trigger,
            field: field.into(),
            failure,
        }
    }

    /// The finding if there was no result in time.
    fn silence(&self) -> Unusable {
        let field = match self {
            Self::Listener(_) => "path",
            Self::Target(..) => "path, repo or auth",
        };
        let patience = humantime::format_duration(PATIENCE);
        let message = format!("a file or directory did not answer within {patience}");
        let help = "see whether a file system hangs (NFS, FUSE)";
        (field, Failure::new(Kind::Timeout, message, Some(help)))
    }
}

/// All that a daemon with `config` could not use as the user of this process. `target_dirs` are the directories of its targets.
pub fn findings(config: &Config, target_dirs: &TargetDirs) -> Vec<Finding> {
    // If no other process can be started, this one does the checks.
    elsewhere(config, target_dirs).unwrap_or_else(|_| look(config, target_dirs))
}

fn elsewhere(config: &Config, target_dirs: &TargetDirs) -> io::Result<Vec<Finding>> {
    let (reader, mut writer) = io::pipe()?;
    match fork::fork()? {
        fork::Fork::Child => {
            drop(reader);
            // A program that reads the command's output to its end must not wait for this process.
            fork::redirect_stdio().ok();
            let text = serde_json::to_vec(&look(config, target_dirs)).unwrap_or_default();
            writer.write_all(&text).ok();
            drop(writer);
            std::process::exit(0);
        }
        fork::Fork::Parent(child) => {
            drop(writer);
            let mut text = Vec::new();
            reader.take(MAX_ANSWER).read_to_end(&mut text)?;
            // If it hangs in the kernel, it ends later.
            let child = Pid::from_raw(child).ok_or(io::ErrorKind::InvalidData)?;
            kill_process(child, Signal::KILL).ok();
            fork::waitpid_nohang(child.as_raw_nonzero().get()).ok();
            Ok(serde_json::from_slice(&text)?)
        }
    }
}

fn look(config: &Config, target_dirs: &TargetDirs) -> Vec<Finding> {
    let listeners = config.listen.iter().cloned().map(Subject::Listener);
    let targets = config.triggers.values();
    let targets = targets.map(|target| Subject::Target(target.clone(), target_dirs.clone()));
    let subjects: Vec<_> = listeners.chain(targets).collect();
    let left = Arc::new(Mutex::new(subjects.clone().into_iter().enumerate()));
    let (sender, heard) = mpsc::channel();
    for _ in 0..THREADS.min(subjects.len()) {
        let (sender, left) = (sender.clone(), left.clone());
        let look = move || {
            let next = || mutex::lock(&left).next();
            while let Some((at, subject)) = next() {
                if sender.send((at, subject.look())).is_err() {
                    return;
                }
            }
        };
        // One thread is enough if no more can be started; without any, all subjects count as silent.
        thread::Builder::new().name("trial".into()).spawn(look).ok();
    }
    drop(sender);
    let mut answers: Vec<_> = subjects.iter().map(|_| None).collect();
    for (at, found) in std::iter::from_fn(|| heard.recv_timeout(PATIENCE).ok()) {
        answers[at] = Some(found);
    }
    let answered = subjects.iter().zip(answers);
    answered
        .flat_map(|(subject, found)| {
            let found = found.unwrap_or_else(|| vec![subject.silence()]);
            found.into_iter().map(|unusable| subject.finding(unusable))
        })
        .collect()
}
