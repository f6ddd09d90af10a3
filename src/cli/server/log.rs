//! Where the log goes: stderr, or a file that is opened anew on request, after somebody has rotated it.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::cli::{current_dir, usage};

/// How log records are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum LogFormat {
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
pub(super) struct Log {
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

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Open it anew: the old one has been moved away. If that fails, the old one is gone on with.
    pub(super) fn reopen(&self) {
        match append(&self.path) {
            Ok(file) => *self.lock() = file,
            Err(err) => tracing::error!("cannot open the log {} anew: {err}", self.path.display()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
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
    OpenOptions::new().append(true).create(true).open(path)
}

/// Write log records from now on.
pub(super) fn start(log: Option<Log>, format: LogFormat) {
    // Said on stderr instead, it would be a panic where stderr is what cannot be written.
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
            records.with_ansi(colours).with_writer(io::stderr).init();
        }
        (None, LogFormat::Json) => records.json().with_writer(io::stderr).init(),
    }
}
