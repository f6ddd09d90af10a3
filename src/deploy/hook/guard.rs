//! A process that kills the hooks of a daemon that was killed.
//!
//! A hook is a process group of its own, and does not end with the process that waits for it. It would go on while the next run
//! starts the same hook again. So the daemon starts a guard before it opens anything else. The guard waits for the end of a pipe
//! that only the daemon holds, kills the groups that it was told of, and ends. It is a daemon of its own (setsid(2), no parent
//! that waits for it) and blocks all signals, so that what kills the daemon does not kill the guard as well.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    sync::Arc,
};

use nix::sys::signal::SigSet;
use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};

/// The daemon's end of the pipe to the guard. Clones share it; the default guards nothing.
#[derive(Debug, Clone, Default)]
pub struct Guard(Option<Arc<PipeWriter>>);

/// How many hooks are guarded at a time, which is more than any daemon has `jobs`.
const MAX_GROUPS: usize = 1024;
/// The length of a message: the kind, the owner's process id, the group.
const MESSAGE: usize = 9;

const ADD: u8 = b'+';
const REMOVE: u8 = b'-';
const END: u8 = b'x';

impl Guard {
    /// Start the guard. It inherits all open descriptors and holds them while it lives, so the caller has none that matter.
    pub fn start() -> io::Result<Self> {
        if getpid().is_init() {
            // All of a container ends with process 1.
            return Ok(Self::default());
        }
        let (reader, writer) = io::pipe()?;
        match fork::fork()? {
            fork::Fork::Child => {
                drop(writer);
                if let Ok(fork::Fork::Child) = fork::fork() {
                    stand(reader);
                }
                // Without exit handlers, which are the parent's.
                kill_process(getpid(), Signal::KILL).ok();
                std::process::abort()
            }
            fork::Fork::Parent(between) => {
                fork::waitpid(between)?;
                Ok(Self(Some(Arc::new(writer))))
            }
        }
    }

    /// This process runs the hook `group`.
    pub fn add(&self, group: Pid) {
        self.tell(ADD, getpid(), group.as_raw_nonzero().get());
    }

    /// The hook `group` of this process has ended.
    pub fn remove(&self, group: Pid) {
        self.tell(REMOVE, getpid(), group.as_raw_nonzero().get());
    }

    /// The process `owner` is dead: what it ran is killed.
    pub fn end_of(&self, owner: Pid) {
        self.tell(END, owner, 0);
    }

    fn tell(&self, what: u8, owner: Pid, group: i32) {
        if let Some(pipe) = &self.0 {
            let owner = owner.as_raw_nonzero().get();
            let mut message = [what; MESSAGE];
            message[1..5].copy_from_slice(&owner.to_le_bytes());
            message[5..].copy_from_slice(&group.to_le_bytes());
            // A message this short is written atomically, see pipe(7). If the guard itself was killed, hooks run unguarded.
            (&**pipe).write_all(&message).ok();
        }
    }
}

/// The process of the guard, until it ends.
fn stand(mut pipe: PipeReader) {
    fork::setsid().ok();
    SigSet::all().thread_block().ok();
    fork::redirect_stdio().ok();
    let mut groups = Groups([None; MAX_GROUPS]);
    let mut message = [0; MESSAGE];
    while pipe.read_exact(&mut message).is_ok() {
        groups.hear(message);
    }
    groups.kill(|_| true);
}

/// Owners and groups. Nothing is allocated: this process is a copy of one that may have had threads.
struct Groups([Option<(i32, i32)>; MAX_GROUPS]);

impl Groups {
    fn hear(&mut self, message: [u8; MESSAGE]) {
        let [what, a, b, c, d, e, f, g, h] = message;
        let owner = i32::from_le_bytes([a, b, c, d]);
        let group = i32::from_le_bytes([e, f, g, h]);
        let wanted = match what {
            ADD => None,
            REMOVE => Some((owner, group)),
            _ => return self.kill(|of| of == owner),
        };
        if let Some(slot) = self.0.iter_mut().find(|slot| **slot == wanted) {
            *slot = match what {
                ADD => Some((owner, group)),
                _ => None,
            };
        }
    }

    fn kill(&mut self, which: impl Fn(i32) -> bool) {
        for slot in &mut self.0 {
            if let Some((owner, group)) = *slot
                && which(owner)
            {
                *slot = None;
                // Process group 0 would be the guard's own, and 1 stands for all processes in kill(2).
                if let Some(group) = Pid::from_raw(group).filter(|group| !group.is_init()) {
                    kill_process_group(group, Signal::KILL).ok();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_and_go() {
        let message = |what: u8, owner: i32, group: i32| {
            let mut message = [what; MESSAGE];
            message[1..5].copy_from_slice(&owner.to_le_bytes());
            message[5..].copy_from_slice(&group.to_le_bytes());
            message
        };
        // No system has so many processes.
        let (one, two, three) = (i32::MAX - 1, i32::MAX - 2, i32::MAX - 3);
        let mut groups = Groups([None; MAX_GROUPS]);
        let known = |groups: &Groups| groups.0.iter().flatten().copied().collect::<Vec<_>>();
        for (owner, group) in [(1, one), (2, two), (2, three)] {
            groups.hear(message(ADD, owner, group));
        }
        groups.hear(message(REMOVE, 1, two));
        assert_eq!(known(&groups), [(1, one), (2, two), (2, three)], "each its own");
        groups.hear(message(REMOVE, 2, two));
        groups.hear(message(END, 2, 0));
        assert_eq!(known(&groups), [(1, one)]);
        for _ in 0..2 * MAX_GROUPS {
            groups.hear(message(ADD, 3, three));
        }
        assert_eq!(known(&groups).len(), MAX_GROUPS, "no more are remembered");
    }
}
