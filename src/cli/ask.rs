//! What all commands that ask a daemon have in common: the daemon's address, the token, and the answer.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use super::{address, config_file, current_dir, fail, usage};
use crate::{
    base::{
        address::Address,
        event::{Done, Record},
        fault::{Blame, Failure, Kind},
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

/// The file of [`TOKEN_FILE`] cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("${TOKEN_FILE}: {0}")]
#[diagnostic(help(
    "let the variable name a file that you can read, or unset it; --token-file FILE counts before it"
))]
struct Variable(secret::Error);

impl Blame for Variable {
    fn kind(&self) -> Kind {
        self.0.kind()
    }
}

pub(super) struct Daemon {
    address: Address,
    token: Option<Secret>,
    /// The configuration, where it could not be read to learn the address.
    unread: Option<PathBuf>,
}

impl Daemon {
    /// The daemon that the command line names, or else the usual one. What is wrong is printed.
    pub(super) fn find(socket: Option<&str>, token_file: Option<&PathBuf>) -> Result<Self, ExitCode> {
        // Before the configuration is read: the program that writes the token to a pipe does not wait for that.
        let given = token_file.map(|file| token_in(file).and_then(|token| token.map_err(fail)));
        let given = given.transpose()?;
        let Usual {
            address,
            token_file: of_listener,
            unread,
        } = match socket.map(address) {
            Some(address) => Usual::at(address?),
            None => usual(),
        };
        let token = match (given, variable()) {
            (Some(token), _) => Some(token),
            (None, Some(file)) => match (token_in(&file)?, &address) {
                (Ok(token), _) => Some(token),
                // The variable is for other daemons: a Unix socket needs no token, unless it leads to one of these.
                (Err(_), Address::Unix(_)) => None,
                (Err(why), Address::Tcp(_)) => return Err(fail(Variable(why))),
            },
            (None, None) => match of_listener {
                Some(file) => token_of_listener(&file)?,
                None => None,
            },
        };
        Ok(Self {
            address,
            token,
            unread,
        })
    }

    /// Ask the daemon, and pass each record of its answer on.
    pub(super) fn ask(
        &self,
        request: &Request,
        timeout: Option<Duration>,
        each: impl FnMut(&Record),
    ) -> Result<Done, Failure> {
        let options = client::Options {
            address: &self.address,
            request,
            token: self.token.as_ref().map(Secret::expose),
            timeout,
        };
        client::ask(&options, each).map_err(|err| {
            let mut failure = Failure::of(&err);
            if let (client::Error::NoDaemon { .. }, Some(file)) = (&err, &self.unread) {
                failure.help = Some(format!(
                    "the configuration {} cannot be read, so the address is the default: see `gitsocket check`, or name the \
                     daemon's address with -s; if no daemon runs, start it",
                    file.display()
                ));
            }
            failure
        })
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, ExitCode> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err(usage(
            "--timeout is zero, so no answer could be in time; give a longer one",
        )),
        Ok(duration) => Ok(duration),
        Err(why) => Err(usage(&format!(
            "--timeout: {text:?} is not a valid duration ({why}); write it as 90s or 5m"
        ))),
    }
}

/// The token in `file`, which the option or the variable names; [`STDIN`] stands for no file.
fn token_in(file: &Path) -> Result<Result<Secret, secret::Error>, ExitCode> {
    if file == Path::new(STDIN) {
        return Ok(Secret::read_stdin());
    }
    let file = AbsPath::resolve(&current_dir(), file).map_err(|why| {
        usage(&format!(
            "{file:?} is not a valid name of the token's file: {why}"
        ))
    })?;
    Ok(Secret::read(&file))
}

fn variable() -> Option<PathBuf> {
    let file = std::env::var_os(TOKEN_FILE).filter(|file| !file.is_empty());
    file.map(PathBuf::from)
}

/// The token's file, by the option or else by the variable.
pub(super) fn named_token_file(option: Option<&PathBuf>) -> Option<PathBuf> {
    option.cloned().or_else(variable)
}

/// Where a daemon is that the command line does not name.
pub(super) struct Usual {
    pub(super) address: Address,
    /// The file of the listener's token.
    pub(super) token_file: Option<AbsPath>,
    /// The configuration, where it is there and could not be read.
    unread: Option<PathBuf>,
}

impl Usual {
    fn at(address: Address) -> Self {
        Self {
            address,
            token_file: None,
            unread: None,
        }
    }
}

/// The first listener of the configuration if that can be read, and the file of its token; else where a daemon
/// usually listens.
pub(super) fn usual() -> Usual {
    const SYSTEM: &str = "/run/gitsocket/gitsocket.sock";
    let file = config_file(None);
    let unread = match Config::first_listener(&file) {
        Ok(Some(listener)) => {
            let token_file = match &listener {
                Listener::Tcp { token_file, .. } => token_file.clone(),
                Listener::Unix { .. } => None,
            };
            return Usual {
                token_file,
                ..Usual::at(listener.address())
            };
        }
        Ok(None) => None,
        Err(_) => file.try_exists().unwrap_or(true).then_some(file),
    };
    let here = current_dir().join("gitsocket.sock");
    let path = if here.exists() { here } else { SYSTEM.into() };
    let path = AbsPath::resolve(&current_dir(), &path).expect("neither is empty or holds a NUL");
    Usual {
        unread,
        ..Usual::at(Address::Unix(path))
    }
}

/// A user who may not read the token asks without it, and the daemon answers what is missing.
fn token_of_listener(file: &AbsPath) -> Result<Option<Secret>, ExitCode> {
    match Secret::read(file) {
        Ok(token) => Ok(Some(token)),
        Err(secret::Error::Read { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            Ok(None)
        }
        Err(err) => Err(fail(err)),
    }
}
