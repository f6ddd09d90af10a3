//! What the command line names: a trigger, a configuration, an address; and the errors where one is missing.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{say::usage, show::Show};
use crate::{
    base::{
        address::Address,
        event::{Done, Event, Record},
        fault::{Failure, Kind},
        name::{Earlier, Note, RunId, TriggerName},
    },
    config::{self, Config, SEARCH_PATH, SearchPath},
};

/// End with a failure that belongs to a trigger's name, in the form that a run's failure has.
pub(super) fn fail_named(show: &Show, name: &str, failure: Failure) -> ExitCode {
    let done = Done::failed(name, failure);
    let exit = done.exit;
    show.record(&Record {
        run: RunId::none(),
        event: Event::Done(done),
    });
    ExitCode::from(exit)
}

/// A trigger's name. What cannot be one is not shown in its place: it could hold anything.
pub(super) fn trigger_name(show: &Show, text: &str) -> Result<TriggerName, ExitCode> {
    TriggerName::new(text).map_err(|why| {
        let message = format!("{text:?} is not a valid name of a trigger: {why}");
        fail_named(show, "-", Failure::new(Kind::BadRequest, message, None))
    })
}

/// A commit or a release on the command line.
pub(super) fn earlier(text: &str) -> Result<Earlier, ExitCode> {
    Earlier::parse(text).map_err(|why| usage(&format!("{text:?} is neither a commit nor a release: {why}")))
}

pub(super) fn note(option: &str, text: &str) -> Result<Note, ExitCode> {
    Note::new(text).map_err(|why| usage(&format!("{option}: {text:?} is not a valid note: {why}")))
}

/// The configuration has no trigger `name`. The help names the triggers that it has: a user who can read it may know.
pub(super) fn unknown_trigger(name: &str, config: &Config) -> Failure {
    let mut failure = config::unknown_trigger(name, config.triggers.keys());
    let near = failure
        .help
        .as_deref()
        .is_some_and(|help| help.starts_with("did you mean"));
    if !near {
        failure.help = Some(format!("there are: {}", names(config)));
    }
    failure
}

/// The names of the triggers, as a list for people.
pub(super) fn names(config: &Config) -> String {
    const SHOWN: usize = 10;
    let count = config.triggers.len();
    let names = config.triggers.keys().take(SHOWN).map(ToString::to_string);
    let mut list = names.collect::<Vec<_>>().join(", ");
    if count > SHOWN {
        list += &format!(" and {} more", count - SHOWN);
    }
    list
}

pub(super) fn config_file(given: Option<&PathBuf>) -> PathBuf {
    file_in(SEARCH_PATH, given)
}

/// Which file to read: the one that is `given`, else the first one that exists in `search_path`. If the program may not
/// look whether a file exists, and an older place follows, it chooses that file, and reading it gives the error: without
/// this, a user who may not enter `/etc/gitsocket-web` would get the `web.ron` of an earlier installation.
pub(super) fn file_in(search_path: &SearchPath, given: Option<&PathBuf>) -> PathBuf {
    if let Some(file) = given {
        return file.clone();
    }
    match std::env::var_os(search_path.variable) {
        Some(file) if !file.is_empty() => file.into(),
        _ if Path::new(search_path.local).exists() => search_path.local.into(),
        _ => {
            let there = search_path.system.split_last().and_then(|(last, newer)| {
                let newer = newer.iter().find(|file| may_exist(file));
                newer.or(Some(last).filter(|last| Path::new(last).exists()))
            });
            there.unwrap_or(&search_path.local).into()
        }
    }
}

fn may_exist(file: &str) -> bool {
    !fs::metadata(file).is_err_and(|err| matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

pub(super) fn load(given: Option<&PathBuf>) -> Result<Config, config::Error> {
    Config::load(&config_file(given))
}

/// The directory that relative addresses on the command line are relative to.
pub(super) fn current_dir() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| "/".into())
}

pub(super) fn address(text: &str) -> Result<Address, ExitCode> {
    Address::parse(text, &current_dir()).map_err(|why| usage(&format!("{text:?} is not an address: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_looked_at_is_not_passed_over_for_an_older_one() {
        let dir = crate::machine::tempdir().unwrap();
        let of = |name: &str| -> &'static str { dir.path().join(name).to_string_lossy().into_owned().leak() };
        let (absent, closed, older, below) = (of("absent"), of("closed"), of("older"), of("older/file"));
        std::os::unix::fs::symlink("closed", closed).unwrap();
        fs::write(older, "()").unwrap();
        let found = |system: [&'static str; 2]| {
            let search_path = SearchPath {
                variable: "GITSOCKET_TEST_NEVER_SET",
                local: absent,
                system: Vec::from(system).leak(),
            };
            file_in(&search_path, None)
        };
        assert_eq!(found([closed, older]), Path::new(closed));
        assert_eq!(found([absent, older]), Path::new(older));
        assert_eq!(found([absent, closed]), Path::new(absent));
        assert_eq!(found([below, absent]), Path::new(absent));
    }
}
