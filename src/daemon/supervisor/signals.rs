//! Signals (signal(7)) from systemd and administrators.

use std::{io, io::IsTerminal as _, os::unix::net::UnixStream};

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1},
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};

/// The meaning of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// SIGTERM, SIGINT, or the end of the terminal.
    Stop,
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    ReopenLog,
    /// SIGCHLD.
    Reap,
}

/// Receives signals for as long as it lives.
#[derive(Debug)]
pub(super) struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let signals = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD];
        // The parent process may have blocked them.
        let blocked =
            signals.map(|signal| nix::sys::signal::Signal::try_from(signal).map_err(io::Error::from));
        blocked
            .into_iter()
            .collect::<io::Result<SigSet>>()?
            .thread_unblock()?;
        SignalDelivery::with_pipe(read, write, SignalOnly, signals).map(Self)
    }

    /// Readable when a signal has come.
    pub(super) fn wakes(&self) -> &UnixStream {
        self.0.get_read()
    }

    /// The signals since the last call.
    pub(super) fn requests(&mut self) -> Vec<Request> {
        self.0
            .pending()
            .map(|signal| match signal {
                // For a daemon in the foreground, it means that its terminal was closed.
                SIGHUP if terminal_is_gone() => Request::Stop,
                SIGHUP => Request::Reload,
                SIGUSR1 => Request::ReopenLog,
                SIGCHLD => Request::Reap,
                _ => Request::Stop,
            })
            .collect()
    }
}

fn terminal_is_gone() -> bool {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::empty())];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    let hung_up = polled.is_ok() && fds[0].revents().intersects(PollFlags::HUP);
    // A terminal that has hung up may no longer say that it is one; a pipe is not a terminal.
    hung_up && (stdin.is_terminal() || is_character_device(&stdin))
}

fn is_character_device(stdin: &io::Stdin) -> bool {
    rustix::fs::fstat(stdin).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice
    })
}
