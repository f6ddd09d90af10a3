//! Messages between the supervisor and its workers: JSON over a socket pair (unix(7), `SOCK_SEQPACKET`), with the ends of
//! a hook's pipes, or the log, beside it.
//!
//! Strangers connect to the worker, so the supervisor does not trust what it says: a worker can have the hooks started
//! that its configuration names, and nothing else.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::base::{event::Refused, name::TriggerName};

mod life;
mod worker_end;
pub use life::{Change, Life};
pub use worker_end::{Refusal, StartedHook, WorkerEnd};

#[derive(Debug, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// The state that the worker has reached.
    Reached(Life),
    /// The worker's sandbox holds on to what is at a path now, even if that is replaced.
    Holds {
        path: OsString,
        /// The device and inode there; `None`: nothing is there.
        identity: Option<(u64, u64)>,
    },
    /// What the worker does, in a line for people.
    Status(String),
    /// The worker is alive (sd_notify(3), `WATCHDOG=1`).
    Alive,
    /// A hook is to be started; its standard output and standard error come beside this.
    Start(Start),
    /// The process group of a hook that was started is to end.
    Kill {
        id: u64,
        /// By SIGKILL, instead of SIGTERM: sent last, for each hook that was asked to end.
        at_once: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    pub id: u64,
    pub trigger: TriggerName,
    pub which: Which,
    /// The release that the hook is started in; `None`: the trigger's path.
    pub release: Option<Release>,
    /// The variables of its environment that depend on the run.
    pub env: BTreeMap<String, OsString>,
    /// The commit before, and the one now.
    pub old_new: (String, String),
}

/// A program of a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Which {
    /// A hook, counted from 0.
    Hook(usize),
    Health,
}

/// A release, by its name alone: the supervisor knows where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub id: String,
    /// The name of the release before it.
    pub previous: Option<String>,
    pub is_live: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// The state that the worker is to reach.
    Be(Life),
    /// Another worker was killed, or failed: this one is to finish what that left.
    WorkerGone,
    /// The log was reopened, and comes beside this.
    ReopenLog,
    /// A reload was refused: the configuration before it stays in force.
    Refused(Refused),
    /// A hook was started, as a process group of this number.
    Started {
        id: u64,
        /// The hook's process, and the group that it leads.
        pid: i32,
    },
    NotStarted {
        id: u64,
        errno: i32,
    },
    Ended {
        id: u64,
        /// The wait status, see wait(2).
        status: i32,
    },
}

/// One end of the socket pair.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// The longest message, in bytes; the system's buffer for one is not larger by default.
const MAX_MESSAGE: usize = 200 * 1024;
const MAX_FDS: usize = 2;

impl Channel {
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(a), Self(b)))
    }

    /// Send a message. While the other end has no room for it, this waits, or fails if `flags` has `DONTWAIT`.
    pub fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MAX_MESSAGE {
            return Err(io::ErrorKind::ArgumentListTooLong.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            beside.push(SendAncillaryMessage::ScmRights(fds));
        }
        rustix::io::retry_on_intr(|| {
            sendmsg(
                &self.0,
                &[IoSlice::new(&bytes)],
                &mut beside,
                flags | SendFlags::NOSIGNAL,
            )
        })?;
        Ok(())
    }

    /// The next message, and what came beside it; `None` once the other end is closed. While there is none, this waits, or
    /// fails with [`io::ErrorKind::WouldBlock`] if `flags` has `DONTWAIT`.
    pub fn receive<T: DeserializeOwned>(&self, flags: RecvFlags) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut beside, flags)
        })?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let fds = beside.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fds = fds.flatten().collect();
        let message = serde_json::from_slice(&bytes[..received.bytes])?;
        Ok(Some((message, fds)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn messages_stay_whole_and_descriptors_come_along() {
        let (a, b) = Channel::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let start = |id| {
            ToSupervisor::Start(Start {
                id,
                trigger: TriggerName::new("site").unwrap(),
                which: Which::Hook(1),
                release: None,
                env: BTreeMap::from([("GITSOCKET_PATH".into(), OsString::from("/srv/\u{e4}"))]),
                old_new: ("0".into(), "1".into()),
            })
        };
        a.send(&start(1), &[writer.as_fd()], SendFlags::empty()).unwrap();
        a.send(&ToSupervisor::Alive, &[], SendFlags::empty()).unwrap();
        drop(writer);
        let (first, fds) = b.receive::<ToSupervisor>(RecvFlags::empty()).unwrap().unwrap();
        assert_eq!(format!("{first:?}"), format!("{:?}", start(1)));
        let mut fds = fds.into_iter().map(std::fs::File::from);
        fds.next().unwrap().write_all(b"hello").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert!(
            matches!(b.receive(RecvFlags::empty()), Ok(Some((ToSupervisor::Alive, fds))) if fds.is_empty())
        );
        let empty = b.receive::<ToSupervisor>(RecvFlags::DONTWAIT).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert!(b.receive::<ToSupervisor>(RecvFlags::empty()).unwrap().is_none());
    }

    #[test]
    fn what_is_too_long_is_not_cut() {
        let (a, _b) = Channel::pair().unwrap();
        let err = a
            .send(
                &ToSupervisor::Status("x".repeat(MAX_MESSAGE)),
                &[],
                SendFlags::empty(),
            )
            .unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::ArgumentListTooLong);
    }
}
