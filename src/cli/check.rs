//! `gitsocket check`: is the configuration right, and can its remotes be reached?

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::AtomicBool,
};

use argh::{ArgsInfo, FromArgs};

use super::{config_file, fail, print, say};
use crate::{
    base::{fault::Failure, name::RunId, report::Reporter},
    config::{Config, Target},
    git::{
        begin::Begin,
        fetch,
        origin::Depth,
        refs::Tip,
        repository,
        transport::{Connections, Deadline},
    },
};

/// check the configuration
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "check")]
pub(super) struct Arguments {
    /// the configuration; default: $GITSOCKET_CONFIG, ./config.ron, /etc/gitsocket/config.ron
    #[argh(option, short = 'c', arg_name = "FILE")]
    config: Option<PathBuf>,
    /// ask every remote for its branch too; nothing is fetched
    #[argh(switch)]
    remote: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let file = config_file(arguments.config.as_ref());
    let config = match Config::load(&file) {
        Ok(config) => config,
        Err(err) => return fail(err),
    };
    let (triggers, listeners) = (config.triggers.len(), config.listen.len());
    print(&format!(
        "{} is right: {triggers} trigger(s), {listeners} listener(s)",
        file.display()
    ));
    if !arguments.remote {
        return ExitCode::SUCCESS;
    }
    let connections = Connections::new(config.keep_alive);
    let exits: Vec<u8> = config
        .triggers
        .values()
        .map(|target| ask(target, &connections))
        .collect();
    ExitCode::from(exits.into_iter().find(|exit| *exit != 0).unwrap_or(0))
}

/// Ask one remote, and give the exit status.
fn ask(target: &Target, connections: &Connections) -> u8 {
    match probe(target, connections) {
        Ok(line) => {
            print(&format!("{}: {line}", target.trigger));
            0
        }
        Err(failure) => {
            let help = failure.help.map(|help| format!(" ({help})")).unwrap_or_default();
            say(&format!(
                "{}: {}: {}{help}",
                target.trigger,
                failure.kind.as_str(),
                failure.message
            ));
            failure.kind.exit()
        }
    }
}

fn probe(target: &Target, connections: &Connections) -> Result<String, Failure> {
    let (_scratch, repo) = scratch(target).map_err(|err| Failure::of(&err))?;
    let options = fetch::Options {
        origin: &target.origin,
        deployed: None,
        deadline: Deadline::new(target.origin.timeout),
        depth: Depth::All,
        report: &Reporter::new(|_| {}),
        connections,
        over: &AtomicBool::new(false),
        begin: Begin(&|| Ok(())),
    };
    let (tip, object) = fetch::probe(&repo, &options).map_err(|err| Failure::of(&err))?;
    let name = match &tip {
        Tip::Branch(name) | Tip::Tag(name, _) => name.short(),
        Tip::Detached => "HEAD",
    };
    Ok(format!(
        "{name} of {} is at {}",
        target.origin.repo,
        object.to_hex_with_len(7)
    ))
}

/// git's protocol wants a repository to speak for: an empty one, for as long as this takes. Where there is nothing like
/// /tmp, as in a container, it is beside the target.
fn scratch(target: &Target) -> Result<(Scratch, gix::Repository), repository::Error> {
    let own = target
        .site
        .git_dir
        .as_ref()
        .unwrap_or(&target.site.path)
        .as_path();
    let init = |dir: &Path| {
        let scratch = Scratch(dir.join(format!("gitsocket-check-{}", RunId::new())));
        let config = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
        repository::init(&scratch.0, config).map(|repo| (scratch, repo))
    };
    init(&std::env::temp_dir()).or_else(|err| own.parent().and_then(|dir| init(dir).ok()).ok_or(err))
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
