//! `gitsocket server`: the daemon.

use std::{
    io::{self, IsTerminal as _},
    path::{self, Path, PathBuf},
    process::ExitCode,
};

use argh::{ArgsInfo, FromArgs};

use super::{ad_hoc, address, config_file, current_dir, fail, say, start_guard, usage};
use crate::{
    base::{
        address::Address,
        control::{ToSupervisor, WorkerEnd},
        fault::{Blame, Failure, Kind},
        name::AbsPath,
        words::typed,
    },
    config::{self, Config, Listener},
    daemon::{
        listen,
        scheduler::Process,
        server::{self, Outcome},
        store::{self, Store},
        supervisor,
    },
    deploy::{
        hook::{Guard, Starter},
        sandbox::{self, Sandbox},
        target_dirs::{self, TargetDirs},
    },
};

mod detach;
pub(super) mod log;
mod pidfile;
use detach::Detached;
use log::{Log, LogFormat};
use pidfile::Pidfile;

/// start the daemon: listen for triggers, and run them
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "server")]
pub(super) struct Arguments {
    /// the configuration; default: $GITSOCKET_CONFIG, ./config.ron, /etc/gitsocket/config.ron
    #[argh(option, short = 'c', arg_name = "FILE")]
    config: Option<PathBuf>,
    /// listen here instead of at the addresses of the configuration: a path with a slash, HOST:PORT, or a PORT of
    /// 127.0.0.1; may be repeated
    #[argh(option, short = 'l', arg_name = "ADDR")]
    listen: Vec<String>,
    /// write the process id to this file
    #[argh(option, arg_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// append the log to this file; default: stderr
    #[argh(option, short = 'o', arg_name = "FILE")]
    log: Option<PathBuf>,
    /// detach from the terminal, and return as soon as the socket accepts connections
    #[argh(switch, short = 'd')]
    detach: bool,
    /// the format of the log; default: text
    #[argh(option, default = "LogFormat::Text", arg_name = "text|json")]
    log_format: LogFormat,
    /// without a configuration: serve the existing clone DIR, as the trigger `default`
    #[argh(option, short = 'g', arg_name = "DIR")]
    git: Option<PathBuf>,
    /// with -g: the remote to fetch from; default: origin
    #[argh(option, short = 'r', arg_name = "REMOTE")]
    remote: Option<String>,
    /// with -g: the branch; default: the branch of HEAD
    #[argh(option, short = 'b', arg_name = "BRANCH")]
    branch: Option<String>,
    /// with -g: let the first run delete what is edited, untracked or never pushed there
    #[argh(switch)]
    adopt: bool,
}

pub(super) fn run(arguments: &Arguments, umask: u32) -> Result<ExitCode, ExitCode> {
    // Before anything is opened that it would hold.
    let guard = start_guard();
    let inherited = listen::inherited().map_err(fail)?;
    let passed: Vec<Listener> = inherited.iter().map(|(listener, _)| listener.clone()).collect();
    let chosen = Chosen::from(arguments, &passed)?;
    let config = chosen.load().map_err(Unusable::show)?;
    warn_root();
    let log = arguments.log.as_deref().map(Log::open).transpose()?;
    let pidfile = arguments.pidfile.as_deref().map(Pidfile::at).transpose()?;
    let detached = arguments.detach.then(Detached::new).transpose()?;
    log::start(log.clone(), arguments.log_format);
    let reopen_log = || log.as_ref().and_then(Log::reopen);
    let options = supervisor::Options {
        load: &|| chosen.load().map_err(Unusable::lines),
        check: chosen.check(),
        work: &|work| {
            let file = chosen.ad_hoc.is_none().then_some(chosen.file.as_path());
            serve(work, file, umask, &guard, log.clone(), detached.as_ref())
        },
        guard: &guard,
        reopen_log: &reopen_log,
        listening: &|| pidfile.iter().try_for_each(Pidfile::write),
        ready: &|| {
            if detached.is_some() && log.is_none() {
                say("detached without -o: from now on, the daemon's log is lost");
            }
            detached.iter().for_each(Detached::ready);
        },
    };
    let exit = supervisor::supervise(config, inherited, &options).map_err(fail)?;
    Ok(ExitCode::from(exit))
}

/// Tell a user at a terminal that the daemon runs as root. In a container, and with a unit that has no `User=`, that is
/// the administrator's choice.
fn warn_root() {
    if rustix::process::geteuid().is_root() && io::stderr().is_terminal() {
        say(&format!(
            "warning: the daemon runs as root, and so does each hook; let a user without privileges run it: \
             systemctl start gitsocket, or: runuser -u gitsocket -- {}",
            typed(std::env::args())
        ));
    }
}

/// A worker: in the sandbox, then at work.
fn serve(
    work: supervisor::Work,
    file: Option<&Path>,
    umask: u32,
    guard: &Guard,
    log: Option<Log>,
    detached: Option<&Detached>,
) -> u8 {
    let supervisor::Work {
        config,
        sockets,
        channel,
        watchdog,
        is_first,
    } = work;
    let store = Store::new(store::dir(), &known_by(file, &config));
    let dirs = store.made();
    let files = sandbox::Files {
        config: file,
        state: &dirs,
    };
    let (target_dirs, sandbox) = match shut_in(&config, files) {
        Ok(shut) => shut,
        Err(exit) => return exit,
    };
    let reopen = move |opened| {
        if let Some(log) = &log {
            log.take(opened);
        }
    };
    // This process is being killed, too, and the guard kills the hooks; the next run runs those that are pending.
    let alone = || std::process::exit(1);
    let link = WorkerEnd::new(channel, reopen, alone);
    let link = match link.and_then(|link| server::try_threads().map(|()| link)) {
        Ok(link) => link,
        Err(err) => {
            tracing::error!("cannot start a thread: {err} ({MORE_THREADS})");
            return Kind::Resources.exit();
        }
    };
    for (path, identity) in sandbox.by_inode() {
        let identity = identity.map(Into::into);
        let path = path.clone().into_os_string();
        link.report(&ToSupervisor::Holds { path, identity });
    }
    let starter = if sandbox.hooks_are_outside() {
        Starter::Supervisor(link.clone())
    } else {
        Starter::Here
    };
    let options = server::Options {
        process: Process {
            umask,
            sandbox,
            starter,
            guard: guard.clone(),
            store,
            refusal: link.refusal(),
            target_dirs,
        },
        supervisor: link.clone(),
        watchdog,
        is_first,
    };
    // The command waits until no process can write to its terminal any more.
    detached.iter().for_each(|detached| detached.let_go());
    let outcome = server::serve(&config, sockets, options);
    link.close();
    match outcome {
        Outcome::Stopped => 0,
        Outcome::Aborted => 1,
    }
}

/// The path that a daemon is known by, whatever else changes: its configuration's, or else its only target's. However the
/// directory is spelt, it is the same; the file may be a link that leads to another one with each change.
fn known_by(file: Option<&Path>, config: &Config) -> PathBuf {
    let file = file.and_then(|file| path::absolute(file).ok());
    let file = file.map(
        |file| match (file.parent().map(Path::canonicalize), file.file_name()) {
            (Some(Ok(dir)), Some(name)) => dir.join(name),
            _ => file,
        },
    );
    let target = || config.triggers.values().next();
    let place = || target().map(|target| target.site.key().as_path().to_owned());
    file.or_else(place).unwrap_or_default()
}

/// What to do where the daemon's own threads cannot be started.
const MORE_THREADS: &str =
    "raise the limit of processes and threads of the user that gitsocket runs as, or of its service";

/// Close the sandbox, as the targets' places need; else give the exit status.
fn shut_in(config: &Config, files: sandbox::Files<'_>) -> Result<(TargetDirs, Sandbox), u8> {
    let target_dirs = target_dirs::look(config).map_err(unusable)?;
    let sandbox = Sandbox::enforce(config, files, target_dirs.links()).map_err(unusable)?;
    tracing::info!("sandbox: {sandbox}");
    Ok((target_dirs, sandbox))
}

/// The configuration cannot be served: log and print why, and give the exit status.
fn unusable(err: impl Blame + Send + Sync + 'static) -> u8 {
    let failure = Failure::of(&err);
    match failure.help {
        Some(help) => tracing::error!("{} ({help})", failure.message),
        None => tracing::error!("{}", failure.message),
    }
    fail(err);
    Kind::Config.exit()
}

/// Where the configuration comes from, each time that it is read.
struct Chosen<'a> {
    file: PathBuf,
    ad_hoc: Option<ad_hoc::Options<'a>>,
    /// Listeners instead of those of the configuration.
    listen: Vec<Listener>,
    /// Listeners that systemd passed on.
    passed: &'a [Listener],
}

/// Why a configuration cannot be used.
enum Unusable {
    Config(config::Error),
    AdHoc(ad_hoc::Error),
    Listen(listen::Error),
}

impl<'a> Chosen<'a> {
    fn from(arguments: &'a Arguments, passed: &'a [Listener]) -> Result<Self, ExitCode> {
        let listen = arguments
            .listen
            .iter()
            .map(|text| listener(text))
            .collect::<Result<_, _>>()?;
        let ad_hoc = ad_hoc::Options::from(
            &arguments.git,
            &arguments.remote,
            &arguments.branch,
            arguments.adopt,
            &arguments.config,
        )
        .map_err(usage)?;
        if arguments.adopt && ad_hoc.is_none() {
            return Err(usage(
                "--adopt needs -g DIR; in a configuration, write adopt: true into the trigger",
            ));
        }
        Ok(Self {
            file: config_file(arguments.config.as_ref()),
            ad_hoc,
            listen,
            passed,
        })
    }

    fn load(&self) -> Result<Config, Unusable> {
        let mut config = match &self.ad_hoc {
            None => Config::load(&self.file).map_err(Unusable::Config)?,
            Some(options) => ad_hoc::config(options).map_err(Unusable::AdHoc)?,
        };
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        } else if config.listen.is_empty() && self.passed.is_empty() {
            config.listen = vec![default_listener()];
        }
        listen::mention(&mut config.listen, self.passed).map_err(Unusable::Listen)?;
        Ok(config)
    }

    /// The command that shows all that is wrong with the configuration.
    fn check(&self) -> String {
        let file = path::absolute(&self.file).unwrap_or_else(|_| self.file.clone());
        typed(["gitsocket", "check", "-c", &file.to_string_lossy()].map(str::to_owned))
    }
}

impl Unusable {
    fn show(self) -> ExitCode {
        match self {
            Self::Config(err) => fail(err),
            Self::AdHoc(err) => fail(err),
            Self::Listen(err) => fail(err),
        }
    }

    fn lines(self) -> Vec<String> {
        match self {
            Self::Config(config::Error::Invalid(invalid)) => invalid.lines().collect(),
            Self::Config(err) => vec![Failure::of(&err).message],
            Self::AdHoc(err) => vec![Failure::of(&err).message],
            Self::Listen(err) => vec![Failure::of(&err).message],
        }
    }
}

fn default_listener() -> Listener {
    Listener::Unix {
        path: AbsPath::resolve(&current_dir(), Path::new("gitsocket.sock"))
            .expect("it is neither empty nor holds a NUL"),
        mode: 0o600,
        group: None,
    }
}

/// A listener of the command line. It has no token, so it must not be reachable from elsewhere.
fn listener(text: &str) -> Result<Listener, ExitCode> {
    let address = address(text)?;
    if !address.is_local() {
        return Err(usage(&format!(
            "-l {address} can be reached from other hosts, so it needs a token: \
             write Tcp(addr: \"{address}\", token_file: \"…\") into the configuration's `listen`"
        )));
    }
    Ok(match address {
        Address::Unix(path) => Listener::Unix {
            path,
            mode: 0o600,
            group: None,
        },
        Address::Tcp(addr) => Listener::Tcp {
            addr,
            token_file: None,
        },
    })
}
