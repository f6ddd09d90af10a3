//! Whose fault an error is: that alone picks the exit status, and whether trying again can help.
//!
//! Every error enum of the other modules implements [`Blame`]; only the command line and the wire
//! render the [`Failure`] that results. This module knows no error in particular.

use serde::{Deserialize, Serialize};

/// What went wrong, in the one word that `client`, the log and JSON share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    BadRequest,
    Config,
    UnknownTrigger,
    /// No run of the trigger has that id, or it is remembered no longer.
    UnknownRun,
    /// The peer may not use this trigger, or its token is wrong.
    NotAllowed,
    /// The daemon has reached a limit.
    Busy,
    Stopping,
    /// Nothing listens at the address.
    NoDaemon,
    /// The remote could not be reached or broke off; trying again may help.
    Unreachable,
    /// The remote answered, but not with what was asked for: no such repository, branch or permission.
    Remote,
    Timeout,
    /// The target's path cannot be used.
    Path,
    /// The repository at the target is damaged or holds what cannot be checked out.
    Repository,
    /// The disk is full, or another resource is used up.
    Resources,
    /// A release could not be built, by a hook: nothing has changed.
    Build,
    /// The worktree is at the new commit, but a hook failed.
    Hook,
    /// The worktree is at the new commit, but what runs on it did not get well.
    Unhealthy,
    /// The newest commit was rolled back, and is not tried again by itself.
    Held,
    Paused,
    /// The run was killed, by hand or with the machine, before its end.
    Interrupted,
    Internal,
}

impl Kind {
    /// The word, as it stands in `error NAME KIND: message`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Config => "config",
            Self::UnknownTrigger => "unknown-trigger",
            Self::UnknownRun => "unknown-run",
            Self::NotAllowed => "not-allowed",
            Self::Busy => "busy",
            Self::Stopping => "stopping",
            Self::NoDaemon => "no-daemon",
            Self::Unreachable => "unreachable",
            Self::Remote => "remote",
            Self::Timeout => "timeout",
            Self::Path => "path",
            Self::Repository => "repository",
            Self::Resources => "resources",
            Self::Build => "build",
            Self::Hook => "hook",
            Self::Unhealthy => "unhealthy",
            Self::Held => "held",
            Self::Paused => "paused",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal",
        }
    }

    /// Whether the fault may pass by itself, so that trying again can help.
    pub fn passes(self) -> bool {
        matches!(self, Self::Unreachable | Self::Timeout)
    }

    /// The exit status of `once` and `client`.
    pub fn exit(self) -> u8 {
        match self {
            Self::Unreachable
            | Self::Remote
            | Self::Path
            | Self::Repository
            | Self::Resources
            | Self::Build
            | Self::Held
            | Self::Paused
            | Self::Stopping
            | Self::Interrupted
            | Self::Internal => 1,
            Self::BadRequest | Self::Config => 2,
            Self::NoDaemon => 3,
            Self::UnknownTrigger | Self::UnknownRun | Self::NotAllowed | Self::Busy => 4,
            Self::Hook | Self::Unhealthy => 5,
            Self::Timeout => 6,
        }
    }
}

/// An error that knows whose fault it is.
pub trait Blame: miette::Diagnostic {
    fn kind(&self) -> Kind;
}

/// An error as it leaves the program: on the socket, in the log, on a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: Kind,
    /// What failed, on what, and why: one line.
    pub message: String,
    /// What to do next, where that is known: one line, and what is to be written somewhere on a line of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Failure {
    pub fn new(kind: Kind, message: impl Into<String>, help: Option<&str>) -> Self {
        Self {
            kind,
            message: shortened(one_line(&message.into())),
            help: help.map(Into::into),
        }
    }

    /// The failure that `error` and the errors behind it amount to.
    pub fn of(error: &(impl Blame + ?Sized)) -> Self {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            let text = cause.to_string();
            // Errors often repeat their cause; say everything once.
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        Self {
            kind: error.kind(),
            message: shortened(one_line(&message)),
            help: error.help().map(|help| {
                let help = help.to_string();
                let lines: Vec<_> = help.lines().map(one_line).collect();
                lines.join("\n")
            }),
        }
    }

    /// The failure without what is to be written on a line of its own, and that line.
    pub fn split_line(&self) -> (Self, Option<&str>) {
        let (help, line) = match self.help.as_deref().map(|help| (help, help.split_once('\n'))) {
            Some((_, Some((help, line)))) => (Some(help), Some(line)),
            Some((help, None)) => (Some(help), None),
            None => (None, None),
        };
        let rest = Self {
            help: help.map(Into::into),
            ..self.clone()
        };
        (rest, line)
    }

    /// The message, and what to do next in parentheses.
    pub fn with_help(&self) -> String {
        match &self.help {
            Some(help) => format!("{} ({help})", self.message),
            None => self.message.clone(),
        }
    }

    /// What to do next, on one line.
    pub fn help_line(&self) -> Option<String> {
        let help = self.help.as_deref().map(one_line);
        // What is to be copied has nothing glued to its end.
        if self.help.as_deref().is_some_and(|help| help.contains('\n')) {
            help.map(|help| help + " ")
        } else {
            help
        }
    }
}

/// More of a message, in characters, does not help; a remote may have made it.
const MAX_MESSAGE: usize = 4000;

/// `text` without line breaks and other control characters, which would forge lines of a log or an answer, and
/// without those that let a line look like another one (Unicode's embeddings, overrides and isolates).
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// What failed stands at the beginning, and why at the end.
fn shortened(text: String) -> String {
    let length = text.chars().count();
    if length <= MAX_MESSAGE {
        return text;
    }
    let head: String = text.chars().take(MAX_MESSAGE / 2).collect();
    let tail: String = text.chars().skip(length - MAX_MESSAGE / 2).collect();
    format!("{head} … {tail}")
}

/// What is not there is nothing, and no error.
pub fn if_there<T>(found: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match found {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// What an operating system's error means for a run that writes files: a full disk is not a wrong path.
pub fn kind_of_io(error: &std::io::Error) -> Kind {
    use std::io::ErrorKind as E;
    match error.kind() {
        E::StorageFull | E::QuotaExceeded | E::OutOfMemory | E::FileTooLarge => Kind::Resources,
        E::TimedOut => Kind::Timeout,
        _ if matches!(error.raw_os_error(), Some(code) if is_exhaustion(code)) => Kind::Resources,
        _ => Kind::Path,
    }
}

/// `EMFILE` and `ENFILE`, which std gives no kind of their own, and `EAGAIN`: there is no thread or process left.
fn is_exhaustion(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::AGAIN]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_forge_lines() {
        assert_eq!(
            one_line("a\nok site up-to-date\x1b[2K"),
            "a ok site up-to-date\u{fffd}[2K"
        );
        assert_eq!(
            one_line("a\u{2028}b\u{2029}c\u{202e}d\u{2066}e\u{85}f"),
            "a b c\u{fffd}d\u{fffd}e\u{fffd}f"
        );
    }

    #[test]
    fn messages_end() {
        let half = MAX_MESSAGE / 2;
        let long = format!("what {} why", "ä".repeat(MAX_MESSAGE));
        let shown = format!("what {} … {} why", "ä".repeat(half - 5), "ä".repeat(half - 4));
        assert_eq!(Failure::new(Kind::Remote, long, None).message, shown);
        let fits = Failure::new(Kind::Remote, "ä".repeat(MAX_MESSAGE), None);
        assert_eq!(fits.message, "ä".repeat(MAX_MESSAGE));
    }

    #[test]
    fn words_and_json_agree() {
        for kind in [Kind::UnknownTrigger, Kind::BadRequest, Kind::NoDaemon, Kind::Hook] {
            assert_eq!(
                serde_json::to_string(&kind).unwrap(),
                format!("\"{}\"", kind.as_str())
            );
        }
    }
}
