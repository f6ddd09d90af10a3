//! What all commands that ask a daemon have in common: which one it is, with which token, and its answer.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use super::{Show, address, config_file, current_dir, fail, fail_named, usage};
use crate::{
    base::{
        address::Address,
        event::{Done, Record},
        fault::Failure,
        name::AbsPath,
        secret::{self, Secret},
    },
    config::{Config, Listener},
    daemon::{client, wire::Request},
};

/// Names the token's file where the command line does not.
const TOKEN_FILE: &str = "GITSOCKET_TOKEN_FILE";
/// Instead of the name of a file: standard input.
pub(super) const STDIN: &str = "-";

/// A daemon, and the token that its listener wants.
pub(super) struct Daemon {
    address: Address,
    token: Option<Secret>,
}

impl Daemon {
    /// The one that the command line names, or else the usual one. What is wrong is said.
    pub(super) fn find(socket: Option<&str>, token_file: Option<&PathBuf>) -> Result<Self, ExitCode> {
        // Before the configuration is read: who writes it to a pipe does not wait for that.
        let given = given_token(token_file)?;
        let (address, of_listener) = match socket.map(address) {
            Some(address) => (address?, None),
            None => usual(),
        };
        let token = match (given, of_listener) {
            (Some(token), _) => Some(token),
            (None, Some(file)) => token_of_listener(&file)?,
            (None, None) => None,
        };
        Ok(Self { address, token })
    }

    /// Ask it, and pass each record of its answer on.
    pub(super) fn ask(
        &self,
        request: &Request,
        timeout: Option<Duration>,
        each: impl FnMut(&Record),
    ) -> Result<Done, client::Error> {
        let options = client::Options {
            address: &self.address,
            request,
            token: self.token.as_ref().map(Secret::expose),
            timeout,
        };
        client::ask(&options, each)
    }
}

/// What is asked, as the command line has it.
pub(super) struct Asked<'a> {
    pub(super) socket: Option<&'a str>,
    pub(super) token_file: Option<&'a PathBuf>,
    pub(super) request: &'a Request,
    pub(super) timeout: Option<Duration>,
}

/// Why there is no answer.
pub(super) enum Ended {
    /// It has been said on the command line already.
    Said(ExitCode),
    /// The daemon did not answer.
    Unanswered(client::Error),
}

impl Ended {
    /// Show it in the form that a run's failure has.
    pub(super) fn show(self, show: &Show, name: &str) -> ExitCode {
        match self {
            Self::Said(code) => code,
            Self::Unanswered(err) => fail_named(show, name, Failure::of(&err)),
        }
    }
}

/// Ask a daemon one thing, and pass each record of its answer on.
pub(super) fn ask(asked: &Asked<'_>, each: impl FnMut(&Record)) -> Result<Done, Ended> {
    let daemon = Daemon::find(asked.socket, asked.token_file).map_err(Ended::Said)?;
    daemon
        .ask(asked.request, asked.timeout, each)
        .map_err(Ended::Unanswered)
}

/// The value of `--timeout`.
pub(super) fn duration(text: &str) -> Result<Duration, ExitCode> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err(usage(
            "--timeout is zero, so no answer could be in time; give a longer one",
        )),
        Ok(duration) => Ok(duration),
        Err(why) => Err(usage(&format!(
            "--timeout: {text:?} is no duration ({why}); write it as 90s or 5m"
        ))),
    }
}

/// The token of `--token-file`, or else of the variable. Which daemon it is meant for, who gives it knows.
fn given_token(option: Option<&PathBuf>) -> Result<Option<Secret>, ExitCode> {
    let Some(file) = named_token_file(option) else {
        return Ok(None);
    };
    if file == Path::new(STDIN) {
        return Secret::read_stdin().map(Some).map_err(fail);
    }
    let file = AbsPath::resolve(&current_dir(), &file)
        .map_err(|why| usage(&format!("the token's file {file:?} cannot be: {why}")))?;
    Secret::read(&file).map(Some).map_err(fail)
}

/// The token's file, by the option or else by the variable; [`STDIN`] stands for no file.
pub(super) fn named_token_file(option: Option<&PathBuf>) -> Option<PathBuf> {
    let variable = || std::env::var_os(TOKEN_FILE).filter(|file| !file.is_empty());
    option.cloned().or_else(|| variable().map(PathBuf::from))
}

/// The first listener of the configuration if that can be read, and the file of its token; else where a daemon
/// usually listens.
pub(super) fn usual() -> (Address, Option<AbsPath>) {
    const SYSTEM: &str = "/run/gitsocket/gitsocket.sock";
    if let Some(listener) = Config::first_listener(&config_file(None)) {
        let token_file = match &listener {
            Listener::Tcp { token_file, .. } => token_file.clone(),
            Listener::Unix { .. } => None,
        };
        return (listener.address(), token_file);
    }
    let here = current_dir().join("gitsocket.sock");
    let path = if here.exists() { here } else { SYSTEM.into() };
    let path = AbsPath::resolve(&current_dir(), &path).expect("neither is empty or holds a NUL");
    (Address::Unix(path), None)
}

/// Who may not read the token goes without it, and hears from the daemon what is missing.
fn token_of_listener(file: &AbsPath) -> Result<Option<Secret>, ExitCode> {
    match Secret::read(file) {
        Ok(token) => Ok(Some(token)),
        Err(secret::Error::Read { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(None)
        }
        Err(err) => Err(fail(err)),
    }
}
