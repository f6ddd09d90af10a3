//! `-d`: the daemon goes on without the terminal, and the command ends once it serves, or with its exit status.

use std::{
    cell::RefCell,
    io::{self, PipeWriter, Read as _, Write as _},
    process::{ExitCode, ExitStatus},
};

use std::os::unix::process::ExitStatusExt as _;

use crate::cli::{say, usage};

/// The way to the process that waits for the daemon to be ready.
#[derive(Debug)]
pub(super) struct Detached(RefCell<Option<PipeWriter>>);

const READY: &[u8] = b"ready";

impl Detached {
    /// Go on in another process, in a session of its own. This one ends here: with 0 once [`Self::ready`] is said there,
    /// or else as that one ends.
    pub(super) fn new() -> Result<Self, ExitCode> {
        let failed = |err: io::Error| usage(&format!("cannot detach: {err}"));
        let (reader, writer) = io::pipe().map_err(failed)?;
        match fork::fork().map_err(failed)? {
            fork::Fork::Parent(daemon) => {
                drop(writer);
                Err(wait(daemon, reader).unwrap_or_else(failed))
            }
            fork::Fork::Child => {
                fork::setsid().map_err(failed)?;
                Ok(Self(RefCell::new(Some(writer))))
            }
        }
    }

    /// The daemon serves: the other process may end, and the terminal is let go of.
    pub(super) fn ready(&self) {
        if let Some(mut waiting) = self.0.take() {
            waiting.write_all(READY).ok();
        }
        self.let_go();
    }

    /// In a worker: let go of the terminal, and of the process that waits for the daemon.
    pub(super) fn let_go(&self) {
        self.0.take();
        if let Err(err) = fork::redirect_stdio() {
            say(&format!("cannot detach from the terminal: {err}"));
        }
    }
}

fn wait(daemon: i32, mut reader: io::PipeReader) -> io::Result<ExitCode> {
    let mut said = Vec::new();
    reader.read_to_end(&mut said)?;
    if said == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let status = ExitStatus::from_raw(fork::waitpid(daemon)?);
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.filter(|code| *code != 0).unwrap_or(1).into())
}
