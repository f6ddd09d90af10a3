//! `gitsocket server`: the daemon.

use std::{
    fs::{self, File, OpenOptions},
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use argh::{ArgsInfo, FromArgs};

use super::{ad_hoc, address, current_dir, fail, load, say, usage};
use crate::{
    address::Address,
    config::Listener,
    listen::{self, Socket},
    name::AbsPath,
    server::{self, Outcome},
};

/// listen for triggers and run them
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "server")]
pub(super) struct Arguments {
    /// the configuration; default: $GITSOCKET_CONFIG, ./config.ron, /etc/gitsocket/config.ron
    #[argh(option, short = 'c', arg_name = "FILE")]
    config: Option<PathBuf>,
    /// listen here instead of where the configuration says: a path with a slash, HOST:PORT, or a PORT of
    /// 127.0.0.1; may be repeated
    #[argh(option, short = 'l', arg_name = "ADDR")]
    listen: Vec<String>,
    /// write the process id to this file
    #[argh(option, arg_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// append the log to this file; default: stderr
    #[argh(option, short = 'o', arg_name = "FILE")]
    log: Option<PathBuf>,
    /// detach from the terminal (not supported yet: let systemd or a supervisor start it)
    #[argh(switch, short = 'd')]
    detach: bool,
    /// how the log is written; default: text
    #[argh(option, default = "LogFormat::Text", arg_name = "text|json")]
    log_format: LogFormat,
    /// without a configuration: serve the existing clone DIR, as the trigger `default`
    #[argh(option, short = 'g', arg_name = "DIR")]
    git: Option<PathBuf>,
    /// with -g: the remote to fetch from; default: origin
    #[argh(option, short = 'r', arg_name = "REMOTE")]
    remote: Option<String>,
    /// with -g: the branch; default: the one that HEAD is on
    #[argh(option, short = 'b', arg_name = "BRANCH")]
    branch: Option<String>,
}

/// How log records are written.
#[derive(Debug, Clone, Copy)]
enum LogFormat {
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

pub(super) fn run(arguments: &Arguments, umask: u32) -> ExitCode {
    match start(arguments, umask) {
        Ok(code) | Err(code) => code,
    }
}

fn start(arguments: &Arguments, umask: u32) -> Result<ExitCode, ExitCode> {
    if arguments.detach {
        return Err(usage(
            "-d is not supported yet; let systemd or a supervisor start the server",
        ));
    }
    let mut config = match ad_hoc::Options::from(&arguments.git, &arguments.remote, &arguments.branch) {
        Ok(None) => load(arguments.config.as_ref()).map_err(fail)?,
        Ok(Some(options)) => ad_hoc::config(&options).map_err(fail)?,
        Err(message) => return Err(usage(message)),
    };
    if !arguments.listen.is_empty() {
        config.listen = arguments
            .listen
            .iter()
            .map(|text| listener(text))
            .collect::<Result<_, _>>()?;
    } else if config.listen.is_empty() {
        config.listen = vec![listener("./gitsocket.sock")?];
    }
    start_log(arguments)?;
    let sockets: Vec<Socket> = config
        .listen
        .iter()
        .map(listen::bind)
        .collect::<Result<_, _>>()
        .map_err(fail)?;
    let _pidfile = arguments.pidfile.as_deref().map(Pidfile::write).transpose()?;
    match server::serve(&config, sockets, umask).map_err(fail)? {
        Outcome::Stopped => Ok(ExitCode::SUCCESS),
        Outcome::Aborted => Ok(ExitCode::FAILURE),
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

fn start_log(arguments: &Arguments) -> Result<(), ExitCode> {
    let log = tracing_subscriber::fmt().with_target(false);
    match (&arguments.log, arguments.log_format) {
        (Some(file), format) => {
            let open = OpenOptions::new().append(true).create(true).open(file);
            let file: File =
                open.map_err(|err| usage(&format!("cannot write the log {}: {err}", file.display())))?;
            let log = log.with_ansi(false).with_writer(std::sync::Mutex::new(file));
            match format {
                LogFormat::Text => log.init(),
                LogFormat::Json => log.json().init(),
            }
        }
        (None, LogFormat::Text) => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            log.with_ansi(colours).with_writer(std::io::stderr).init();
        }
        (None, LogFormat::Json) => log.json().with_writer(std::io::stderr).init(),
    }
    Ok(())
}

/// The file with our process id; it goes when this is dropped.
struct Pidfile(AbsPath);

impl Pidfile {
    fn write(path: &Path) -> Result<Self, ExitCode> {
        let failed = |why: &dyn std::fmt::Display| {
            usage(&format!("cannot write the pidfile {}: {why}", path.display()))
        };
        let file = AbsPath::resolve(&current_dir(), path).map_err(|why| failed(&why))?;
        fs::write(&file, format!("{}\n", std::process::id())).map_err(|why| failed(&why))?;
        Ok(Self(file))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if let Err(err) = fs::remove_file(&self.0) {
            say(&format!("cannot remove the pidfile {}: {err}", self.0));
        }
    }
}
