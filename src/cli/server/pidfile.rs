//! The file with the daemon's process id.

use std::{cell::Cell, fs, path::Path, process::ExitCode};

use crate::{
    base::{fault::Kind, name::AbsPath},
    cli::{current_dir, say, usage},
};

/// The file; once written, it goes when this is dropped, but not in a process that was forked from the one that wrote it.
#[derive(Debug)]
pub(super) struct Pidfile {
    path: AbsPath,
    writer: Cell<Option<u32>>,
}

impl Pidfile {
    pub(super) fn at(path: &Path) -> Result<Self, ExitCode> {
        let path = AbsPath::resolve(&current_dir(), path)
            .map_err(|why| usage(&format!("cannot write the pidfile {}: {why}", path.display())))?;
        Ok(Self {
            path,
            writer: Cell::default(),
        })
    }

    /// Once the daemon listens: one that finds another at its address must leave the other's file alone. The error is
    /// the exit status.
    pub(super) fn write(&self) -> Result<(), u8> {
        let pid = std::process::id();
        fs::write(&self.path, format!("{pid}\n")).map_err(|why| {
            say(&format!("cannot write the pidfile {}: {why}", self.path));
            Kind::Config.exit()
        })?;
        self.writer.set(Some(pid));
        Ok(())
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if self.writer.get() == Some(std::process::id())
            && let Err(err) = fs::remove_file(&self.path)
        {
            say(&format!("cannot remove the pidfile {}: {err}", self.path));
        }
    }
}
