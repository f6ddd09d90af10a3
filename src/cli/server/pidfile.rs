//! The file with the daemon's process id.

use std::{fs, path::Path, process::ExitCode};

use crate::{
    cli::{current_dir, say, usage},
    name::AbsPath,
};

/// The file; once written, it goes when this is dropped, but not in a process that was forked from the one that wrote it.
#[derive(Debug)]
pub(super) struct Pidfile {
    path: AbsPath,
    writer: Option<u32>,
}

impl Pidfile {
    /// Not written yet.
    pub(super) fn at(path: &Path) -> Result<Self, ExitCode> {
        let path = AbsPath::resolve(&current_dir(), path).map_err(|why| failed(path, &why))?;
        Ok(Self { path, writer: None })
    }

    pub(super) fn write(mut self) -> Result<Self, ExitCode> {
        let pid = std::process::id();
        fs::write(&self.path, format!("{pid}\n")).map_err(|why| failed(self.path.as_path(), &why))?;
        self.writer = Some(pid);
        Ok(self)
    }
}

fn failed(path: &Path, why: &dyn std::fmt::Display) -> ExitCode {
    usage(&format!("cannot write the pidfile {}: {why}", path.display()))
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if self.writer == Some(std::process::id())
            && let Err(err) = fs::remove_file(&self.path)
        {
            say(&format!("cannot remove the pidfile {}: {err}", self.path));
        }
    }
}
