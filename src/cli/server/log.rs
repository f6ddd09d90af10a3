//! The log: stderr, or a file that is reopened on request, after it was rotated.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    base::mutex,
    cli::{current_dir, usage},
};

#[derive(Debug, Clone, Copy)]
pub(in crate::cli) enum LogFormat {
    Text,
    Json,
}

impl argh::FromArgValue for LogFormat {
    fn from_arg_value(value: &str) -> Result<Self, String> {
        match value {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("write text or json".into()),
        }
    }
}

/// A log file. Clones write to the same one.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Log {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl Log {
    /// Append to the file `path`, which is made if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, ExitCode> {
        let path = current_dir().join(path);
        let file =
            append(&path).map_err(|err| usage(&format!("cannot write the log {}: {err}", path.display())))?;
        Ok(Self {
            path,
            file: Arc::new(Mutex::new(file)),
        })
    }

    /// Reopen the file, after it was moved away. If that fails, the log goes on in the old file.
    pub(super) fn reopen(&self) -> Option<OwnedFd> {
        let opened = append(&self.path).and_then(|file| Ok((file.try_clone()?, file)));
        match opened {
            Ok((ours, theirs)) => {
                self.take(ours.into());
                Some(theirs.into())
            }
            Err(err) => {
                tracing::error!("cannot reopen the log {}: {err}", self.path.display());
                None
            }
        }
    }

    /// Go on with `file`, which another process has opened.
    pub(super) fn take(&self, file: OwnedFd) {
        *self.lock() = file.into();
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        mutex::lock(&self.file)
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    // A pipe without a reader is an error; a blocking open would wait for one.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(flags)
        .open(path)
}

/// Standard error, without waiting: where it is a pipe whose reader is slow, lines are lost, and no run waits.
#[derive(Debug, Clone, Copy)]
struct Stderr(LogFormat);

/// Lines that are lost since the last one that was written.
static LOST: AtomicU64 = AtomicU64::new(0);

impl Write for Stderr {
    /// One line; a pipe that can be written at all takes 4 KiB at once, see pipe(7).
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        let polled = poll(&mut fds, Some(&Timespec::default()));
        if polled.is_ok() && fds[0].revents().is_empty() {
            LOST.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let message = format!("{lost} lines of the log are lost: the reader of the pipe was too slow");
            match self.0 {
                LogFormat::Text => writeln!(stderr, "{message}")?,
                LogFormat::Json => writeln!(
                    stderr,
                    "{}",
                    serde_json::json!({"level": "WARN", "fields": {"message": message}})
                )?,
            }
        }
        stderr.write_all(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(in crate::cli) fn start(log: Option<Log>, format: LogFormat) {
    // Reported on stderr, an error would be a panic where stderr cannot be written.
    let records = tracing_subscriber::fmt()
        .with_target(false)
        .log_internal_errors(false);
    match (log, format) {
        (Some(log), format) => {
            let records = records.with_ansi(false).with_writer(move || log.clone());
            match format {
                LogFormat::Text => records.init(),
                LogFormat::Json => records.json().init(),
            }
        }
        (None, LogFormat::Text) => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let records = records.with_ansi(colours);
            records.with_writer(move || Stderr(format)).init();
        }
        (None, LogFormat::Json) => records.json().with_writer(move || Stderr(format)).init(),
    }
}
