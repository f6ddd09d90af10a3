//! `gitsocket web`: the front.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use argh::{ArgsInfo, FromArgs};

use super::{
    fail,
    server::log::{self, LogFormat},
};
use crate::web::{config::Config, sandbox, serve};

/// hear webhooks over HTTP, say their triggers to a daemon, and show how things are
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "web")]
pub(super) struct Arguments {
    /// the configuration; default: $GITSOCKET_WEB_CONFIG, ./web.ron, /etc/gitsocket/web.ron
    #[argh(option, short = 'c', arg_name = "FILE")]
    config: Option<PathBuf>,
    /// how the log is written; default: text
    #[argh(option, default = "LogFormat::Text", arg_name = "text|json")]
    log_format: LogFormat,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let file = config_file(arguments.config.as_ref());
    let config = match Config::load(&file) {
        Ok(config) => config,
        Err(err) => return fail(err),
    };
    let sockets = match serve::listen(&config) {
        Ok(sockets) => sockets,
        Err(err) => return fail(err),
    };
    log::start(None, arguments.log_format);
    tracing::info!("sandbox: {}", sandbox::close(&config));
    match serve::serve(config, sockets) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => fail(err),
    }
}

/// Which configuration to read: `-c`, else `$GITSOCKET_WEB_CONFIG`, else `./web.ron`, else `/etc/gitsocket/web.ron`.
pub(super) fn config_file(given: Option<&PathBuf>) -> PathBuf {
    const LOCAL: &str = "web.ron";
    const SYSTEM: &str = "/etc/gitsocket/web.ron";
    if let Some(file) = given {
        return file.clone();
    }
    match std::env::var_os("GITSOCKET_WEB_CONFIG") {
        Some(file) if !file.is_empty() => file.into(),
        _ if Path::new(LOCAL).exists() || !Path::new(SYSTEM).exists() => LOCAL.into(),
        _ => SYSTEM.into(),
    }
}
