//! The user's editor: starts it on a text, and gives the edited text.
//!
//! The editor is `$VISUAL`, else `$EDITOR`, split at white space, without a shell.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use signal_hook::{
    consts::{SIGINT, SIGQUIT},
    iterator::Signals,
};

use crate::base::{
    bounded::{self, RULES},
    fault::{Blame, Kind},
    name::RunId,
};

#[derive(Debug)]
pub(super) struct Editor {
    /// The program, and its first arguments.
    words: Vec<String>,
}

/// The file that was edited, in a directory of its own; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Draft {
    dir: PathBuf,
    keep: bool,
}

/// The editor gave no text.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(super) enum Error {
    #[error("neither $VISUAL nor $EDITOR names an editor")]
    #[diagnostic(help("give the hook with --command, or set EDITOR"))]
    None,
    #[error("cannot start the editor {editor:?}: {source}; nothing was written")]
    #[diagnostic(help(
        "give the hook with --command, or let $VISUAL or $EDITOR name a program; it is started without a shell"
    ))]
    Start { editor: String, source: io::Error },
    #[error("the editor {editor:?} ended with {status}; nothing was written")]
    #[diagnostic(help("try again, or give the hook with --command"))]
    Failed { editor: String, status: ExitStatus },
    #[error("the text was left {state}; nothing was written")]
    #[diagnostic(help("write the hook's commands, and save them before you leave the editor"))]
    Nothing { state: &'static str },
    #[error("cannot {doing} {path}, the file to be edited: {source}; nothing was written")]
    #[diagnostic(help("let $TMPDIR name a directory that can be written, or give the hook with --command"))]
    Draft {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::None | Self::Start { .. } => Kind::Config,
            // No better word has the exit status 1; it is not shown.
            Self::Failed { .. } | Self::Nothing { .. } | Self::Draft { .. } => Kind::Internal,
        }
    }
}

impl Editor {
    pub(super) fn of_environment() -> Result<Self, Error> {
        ["VISUAL", "EDITOR"]
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .map(|value| value.split_whitespace().map(Into::into).collect::<Vec<String>>())
            .find(|words| !words.is_empty())
            .map(|words| Self { words })
            .ok_or(Error::None)
    }

    pub(super) fn edit(&self, start: &[u8]) -> Result<(Vec<u8>, Draft), Error> {
        let (draft, file) = Draft::new(start)?;
        let status = self.run(&file)?;
        if !status.success() {
            let editor = self.words[0].clone();
            return Err(Error::Failed { editor, status });
        }
        let text = bounded::read(&file, RULES).map_err(|source| Error::Draft {
            doing: "read",
            path: file,
            source,
        })?;
        if text == start {
            return Err(Error::Nothing { state: "unchanged" });
        }
        if text.trim_ascii().is_empty() {
            return Err(Error::Nothing { state: "empty" });
        }
        Ok((text, draft))
    }

    fn run(&self, file: &Path) -> Result<ExitStatus, Error> {
        let failed = |source| Error::Start {
            editor: self.words[0].clone(),
            source,
        };
        // Ctrl-C is the editor's while it runs, as with git: caught here, it ends nothing.
        let _signals = Signals::new([SIGINT, SIGQUIT]).map_err(failed)?;
        Command::new(&self.words[0])
            .args(&self.words[1..])
            .arg(file)
            .status()
            .map_err(failed)
    }
}

impl Draft {
    /// A file that holds `text`, for us alone.
    fn new(text: &[u8]) -> Result<(Self, PathBuf), Error> {
        let dir = std::env::temp_dir().join(format!("gitsocket-setup-{}", RunId::new()));
        let file = dir.join("post-checkout");
        let failed = |source| Error::Draft {
            doing: "write",
            path: file.clone(),
            source,
        };
        // It must be new: in a directory for all, another one's could be anybody's.
        DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
        let draft = Self { dir, keep: false };
        let mut options = fs::OpenOptions::new();
        let mut to = options
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&file)
            .map_err(failed)?;
        io::Write::write_all(&mut to, text).map_err(failed)?;
        Ok((draft, file))
    }

    /// Let the file stay, and say where it is.
    pub(super) fn keep(mut self) -> PathBuf {
        self.keep = true;
        self.dir.join("post-checkout")
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.keep {
            // A temporary file that stays does no harm.
            fs::remove_dir_all(&self.dir).ok();
        }
    }
}
