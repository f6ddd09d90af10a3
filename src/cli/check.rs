//! `gitsocket check`: is the configuration right, can this user do what it asks for, and can its remotes be reached?

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use argh::{ArgsInfo, FromArgs};

mod front;

use super::{config_file, current_dir, fail, print, say};
use crate::{
    base::{
        bounded::{self, LIST},
        fault::{Failure, Kind, one_line},
        name::{RunId, TriggerName},
        report::Reporter,
    },
    config::{Config, Revision, Target},
    daemon::trial::{self, Finding},
    deploy::{state::State, target_dirs},
    git::{
        begin::Begin,
        fetch,
        origin::Depth,
        refs::Tip,
        repository,
        transport::{Connections, Deadline},
    },
};

/// check the configuration, and the keys, directories and hooks that it names
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "check",
    note = "Run it as the daemon's user: it reads keys, secrets and certificates, and looks at\n\
            directories, local repositories and hooks with the permissions of the user that\n\
            starts it. It changes nothing.",
    error_code(0, "the configuration is right, and this user can do all that it asks for"),
    error_code(1, "with --remote: a remote lacks the branch, or cannot be reached"),
    error_code(2, "the configuration is wrong, or names something that this user cannot use"),
    error_code(3, "with --web: no daemon answers"),
    error_code(4, "with --web: the daemon has no such trigger, or does not allow it"),
    error_code(6, "with --remote: a remote does not answer in time")
)]
pub(super) struct Arguments {
    /// the configuration; default: $GITSOCKET_CONFIG, ./config.ron, /etc/gitsocket/config.ron
    #[argh(option, short = 'c', arg_name = "FILE")]
    config: Option<PathBuf>,
    /// also contact every remote and look for the branch; nothing is fetched
    #[argh(switch)]
    remote: bool,
    /// check this configuration of `gitsocket web` instead, and whether its daemon answers
    #[argh(option, arg_name = "FILE")]
    web: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    if let Some(file) = &arguments.web {
        return front::run(file);
    }
    let file = config_file(arguments.config.as_ref());
    let config = Config::load(&file).map_err(fail)?;
    let target_dirs = target_dirs::look(&config).map_err(fail)?;
    included(&config).for_each(|line| print(&line));
    let findings = trial::findings(&config, &target_dirs);
    let (triggers, listeners) = (config.triggers.len(), config.listen.len().max(1));
    let default = if config.listen.is_empty() {
        " (the default, ./gitsocket.sock)"
    } else {
        ""
    };
    let parts = format!("{triggers} trigger(s), {listeners} listener(s){default}");
    if findings.is_empty() {
        let targets = config.triggers.values();
        let remarks = targets.flat_map(|target| [spent(target), called_like_a_word(target)]);
        remarks.flatten().for_each(|line| print(&line));
    }
    findings.iter().for_each(|finding| say(&line(finding)));
    let exits = if arguments.remote {
        ask_all(&config, &findings)
    } else {
        Vec::new()
    };
    if rustix::process::geteuid().is_root() {
        let hangs = findings
            .iter()
            .any(|finding| finding.failure.kind == Kind::Timeout);
        let owner = (!hangs).then(|| owner(&config)).flatten();
        let user = owner.as_deref().unwrap_or("gitsocket");
        say(&as_user("the daemon's user", user, "-c", &file));
    }
    Ok(verdict(&file, &parts, &findings, &exits))
}

/// The last line, and the exit status.
fn verdict(file: &Path, parts: &str, findings: &[Finding], exits: &[u8]) -> ExitCode {
    let file = file.display();
    if !findings.is_empty() {
        say(&format!(
            "{file} can be read ({parts}), but not all that it names can be used: {} fault(s)",
            findings.len()
        ));
        return ExitCode::from(Kind::Config.exit());
    }
    let mut failed = exits.iter().filter(|exit| **exit != 0);
    let Some(first) = failed.next() else {
        print(&format!("{file} is right: {parts}"));
        return ExitCode::SUCCESS;
    };
    say(&format!(
        "{file} can be read ({parts}), but {} of {} remotes cannot be used",
        1 + failed.count(),
        exits.len()
    ));
    ExitCode::from(*first)
}

/// The files that are included, and the patterns that mean none.
fn included(config: &Config) -> impl Iterator<Item = String> {
    config.included.iter().flat_map(|included| {
        let nothing = included.files.is_empty();
        let pattern = &included.pattern;
        let none = nothing.then(|| format!("include {pattern:?} adds no file"));
        let files = included.files.iter();
        let files = files.map(|(file, triggers)| format!("{}: {triggers} trigger(s)", file.display()));
        files.chain(none)
    })
}

/// `site: key: cannot read …: … (what to do)`
fn line(finding: &Finding) -> String {
    let of = finding.trigger.as_deref().unwrap_or("listen");
    one_line(&format!(
        "{of}: {}: {}",
        finding.field,
        finding.failure.with_help()
    ))
}

/// A remark for root, whom no permission stops: run it as `whose` user, which is `user` if there is such a user.
fn as_user(whose: &str, user: &str, option: &str, file: &Path) -> String {
    let there_is = users().lines().any(|line| line.split(':').next() == Some(user));
    let how = if there_is {
        format!("type: runuser -u {user} -- ")
    } else {
        "type as that user: ".into()
    };
    let file = current_dir().join(file);
    format!(
        "this check ran as root, which may do everything; to run it as {whose}, {how}gitsocket check {option} {}",
        file.display()
    )
}

/// The users of this machine, a line each.
fn users() -> String {
    let passwd = bounded::read(Path::new("/etc/passwd"), LIST).unwrap_or_default();
    String::from_utf8_lossy(&passwd).into_owned()
}

/// The user to whom the first target belongs, unless that is root; or the directory that it will be made in.
fn owner(config: &Config) -> Option<String> {
    let roots = config
        .triggers
        .values()
        .map(|target| target.site.root().as_path());
    let owners = roots.filter_map(|root| root.ancestors().find_map(|path| fs::metadata(path).ok()));
    let uid = owners.map(|meta| meta.uid()).find(|uid| *uid != 0)?.to_string();
    let passwd = users();
    let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = users.find(|fields| fields.get(2) == Some(&uid.as_str()))?;
    Some(user[0].to_owned())
}

/// Faults in these fields do not keep the remote from being asked.
const OWN: [&str; 6] = ["path", "git_dir", "group", "releases", "hooks", "health"];

/// Ask the remotes of triggers whose fetches would begin, and give the exit status of each.
fn ask_all(config: &Config, findings: &[Finding]) -> Vec<u8> {
    let connections = Connections::new(config.keep_alive);
    let is_sound = |target: &&Arc<Target>| {
        let name = target.trigger.as_str();
        let mut of_it = findings
            .iter()
            .filter(|finding| finding.trigger.as_deref() == Some(name));
        of_it.all(|finding| OWN.contains(&finding.field.as_str()))
    };
    let asked = config.triggers.values().filter(is_sound);
    asked.map(|target| ask(target, &connections)).collect()
}

/// That the trigger's `adopt` does nothing any more, if so.
fn spent(target: &Target) -> Option<String> {
    let is_spent = target.adopt && State::read(&target.site.git_dir()).is_ours();
    is_spent.then(|| {
        format!(
            "{}: `adopt` does nothing any more, since {} is gitsocket's by now: remove the field",
            target.trigger, target.site.path
        )
    })
}

/// That the trigger's name is a word of the protocol by now, if so.
fn called_like_a_word(target: &Target) -> Option<String> {
    let name = target.trigger.as_str();
    TriggerName::LATER_WORDS.contains(&name).then(|| {
        format!(
            "{name}: `{name}` is now a word of the socket's protocol: clients that send the name alone must send \
             `trigger {name}`; `gitsocket client {name}` does"
        )
    })
}

/// Ask one remote, and give the exit status.
fn ask(target: &Target, connections: &Connections) -> u8 {
    match probe(target, connections) {
        Ok(line) => {
            print(&format!("{}: {line}", target.trigger));
            0
        }
        Err(failure) => {
            let (failure, line) = failure.split_line();
            say(&format!(
                "{}: {}: {}",
                target.trigger,
                failure.kind.as_str(),
                failure.with_help()
            ));
            line.into_iter().for_each(say);
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

/// git's protocol needs a local repository: an empty one, for the time of the check. Where /tmp is missing, as in a
/// container, it is made beside the target.
fn scratch(target: &Target) -> Result<(Scratch, gix::Repository), repository::Error> {
    let own = target
        .site
        .git_dir
        .as_ref()
        .unwrap_or(&target.site.path)
        .as_path();
    let init = |dir: &Path| {
        let scratch = Scratch(dir.join(format!("gitsocket-check-{}", RunId::new())));
        let config = match target.origin.revision {
            // A repository of SHA-1 cannot even name it.
            Revision::Commit(id) if id.kind() == gix::hash::Kind::Sha256 => SHA256,
            _ => "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
        };
        repository::init(&scratch.0, config).map(|repo| (scratch, repo))
    };
    init(&std::env::temp_dir()).or_else(|err| own.parent().and_then(|dir| init(dir).ok()).ok_or(err))
}

const SHA256: &str =
    "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = sha256\n";

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
