//! The process or host at the other end of a connection, as the kernel knows it.
//!
//! What a peer may do is decided in `accounts`, by the rules of `allow`.

use std::{
    fmt, fs,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::socket::{
    getsockopt,
    sockopt::{PeerCredentials, PeerPidfd},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

mod accounts;
pub use accounts::{Accounts, Look};

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine, over a Unix socket.
    Unix(Credentials),
    /// A client over TCP.
    Tcp {
        addr: SocketAddr,
        /// Whether it has sent the token of a listener that has one.
        token: bool,
    },
    /// A client over a Unix socket that the kernel does not identify. No rule fits it.
    Unknown,
}

/// The process that connected, as it was at that time (`SO_PEERCRED`, unix(7)).
///
/// A peer in another user namespace without a mapping to ours has the overflow ids, usually 65534 ("nobody").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// The process; 0 if it is in a PID namespace that cannot be seen from here.
    pub pid: i32,
    /// Its supplementary groups, if they can be found out.
    pub groups: Vec<u32>,
}

impl Peer {
    /// The peer of a Unix socket.
    pub fn of_unix(stream: &impl AsFd) -> Self {
        let stream = stream.as_fd();
        let Ok(peer) = getsockopt(&stream, PeerCredentials) else {
            return Self::Unknown;
        };
        let (uid, pid) = (peer.uid(), peer.pid());
        let process = getsockopt(&stream, PeerPidfd).ok();
        Self::Unix(Credentials {
            uid,
            gid: peer.gid(),
            pid,
            groups: groups(uid, pid, process.as_ref()).unwrap_or_default(),
        })
    }

    /// A peer over TCP, which has not sent a token yet.
    pub fn of_tcp(addr: SocketAddr) -> Self {
        Self::Tcp { addr, token: false }
    }

    /// Whether it is a process of root, or of the user that the daemon runs as.
    pub fn is_own(&self) -> bool {
        match self {
            Self::Unix(peer) => peer.uid == 0 || peer.uid == rustix::process::geteuid().as_raw(),
            Self::Tcp { .. } | Self::Unknown => false,
        }
    }

    /// It has sent the token of its listener.
    pub fn has_sent_token(&mut self) {
        if let Self::Tcp { token, .. } = self {
            *token = true;
        }
    }
}

/// For logs and answers: only numbers, which the peer cannot choose freely. [`Look::named`] adds the user's name.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(Credentials { uid, gid, pid, .. }) => write!(f, "uid={uid} gid={gid} pid={pid}"),
            Self::Tcp { addr, .. } => addr.fmt(f),
            Self::Unknown => f.write_str("unix"),
        }
    }
}

/// The supplementary groups of the process `pid`, if it is still one of `uid`.
///
/// `SO_PEERGROUPS` would give the groups at the time of `connect`, but no crate reads it without unsafe code; so they are read a
/// moment later, and a peer that has ended by then, or that `hidepid` of proc(5) hides, has none. `process` (Linux 6.5) makes sure
/// that the process id does not belong to another process now. Without it, a user could let another of their processes with more
/// groups get that id, which is no gain if they can trace that process.
fn groups(uid: u32, pid: i32, process: Option<&OwnedFd>) -> Option<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let groups = groups_in(&status, uid)?;
    match process {
        Some(process) if has_ended(process) => None,
        _ => Some(groups),
    }
}

/// The groups in a process's `status` (proc_pid_status(5)), if its effective user is `uid`.
fn groups_in(status: &str, uid: u32) -> Option<Vec<u32>> {
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    // Real, effective, saved, file system.
    let effective = line("Uid:")?.split_whitespace().nth(1)?;
    if effective.parse() != Ok(uid) {
        return None;
    }
    line("Groups:")?
        .split_whitespace()
        .map(|gid| gid.parse().ok())
        .collect()
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::net::UnixStream,
        process::{Command, Stdio},
    };

    use super::*;

    const STATUS: &str =
        "Name:\tGroups:\t7\nUid:\t0\t1000\t0\t0\nGid:\t5\t5\t5\t5\nGroups:\t10 33 \nNStgid:\t1\n";

    #[test]
    fn groups_of_a_process() {
        assert_eq!(groups_in(STATUS, 1000), Some(vec![10, 33]));
        assert_eq!(groups_in(STATUS, 0), None, "the effective user counts");
        let none = STATUS.replace("10 33 ", "");
        assert_eq!(groups_in(&none, 1000), Some(vec![]));
        assert_eq!(groups_in("", 1000), None);
        assert_eq!(groups_in(&STATUS.replace("33", "x"), 1000), None);
    }

    #[test]
    fn we_are_known_to_ourselves() {
        let (one, _other) = UnixStream::pair().unwrap();
        let Peer::Unix(peer) = Peer::of_unix(&one) else {
            panic!("unknown");
        };
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
        assert_eq!(peer.pid, std::process::id() as i32);
        let ours = rustix::process::getgroups().unwrap();
        let mut ours: Vec<_> = ours.into_iter().map(|gid| gid.as_raw()).collect();
        let mut theirs = peer.groups;
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(theirs, ours);
    }

    #[test]
    fn a_process_that_has_ended_has_no_groups() {
        let mut child = Command::new("/proc/self/exe")
            .arg("--list")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
        child.wait().unwrap();
        let Ok(process) = process else {
            crate::machine::skipped("this kernel has no pidfd_open");
            return;
        };
        let ours = std::process::id() as i32;
        let uid = rustix::process::geteuid().as_raw();
        assert!(groups(uid, ours, None).is_some());
        assert_eq!(
            groups(uid, ours, Some(&process)),
            None,
            "the number is another's now"
        );
    }

    #[test]
    fn peers_in_logs() {
        let unix = Peer::Unix(Credentials {
            uid: 1,
            gid: 2,
            pid: 3,
            groups: vec![4],
        });
        assert_eq!(unix.to_string(), "uid=1 gid=2 pid=3");
        let tcp = Peer::of_tcp(([127, 0, 0, 1], 9).into());
        assert_eq!(tcp.to_string(), "127.0.0.1:9");
    }
}
