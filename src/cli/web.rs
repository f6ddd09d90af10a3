//! `gitsocket web`: the front.

use std::{path::PathBuf, process::ExitCode};

use argh::{ArgsInfo, FromArgs};

use super::{
    fail, file_in, print,
    server::log::{self, LogFormat},
};
use crate::web::{
    config::{Config, SEARCH_PATH},
    explain::{Explained, explain},
    sandbox, serve,
};

/// receive webhooks over HTTP, send the names of their triggers to a daemon, and show the state of the triggers on a page
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "web")]
pub(super) struct Arguments {
    /// the configuration; default: $GITSOCKET_WEB_CONFIG, ./web.ron, /etc/gitsocket-web/web.ron, /etc/gitsocket/web.ron
    #[argh(option, short = 'c', arg_name = "FILE")]
    config: Option<PathBuf>,
    /// the format of the log; default: text
    #[argh(option, default = "LogFormat::Text", arg_name = "text|json")]
    log_format: LogFormat,
    /// print what to enter in the forge's form for each webhook, and end
    #[argh(switch)]
    explain: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, ExitCode> {
    let file = file_in(SEARCH_PATH, arguments.config.as_ref());
    let config = Config::load(&file).map_err(fail)?;
    if arguments.explain {
        explain(&config).iter().for_each(show);
        return Ok(ExitCode::SUCCESS);
    }
    let sockets = serve::listen(&config).map_err(fail)?;
    log::start(None, arguments.log_format);
    tracing::info!("sandbox: {}", sandbox::enforce(&config));
    serve::serve(config, sockets).map_err(fail)?;
    Ok(ExitCode::SUCCESS)
}

fn show(explained: &Explained) {
    print(&explained.title);
    for (name, value) in &explained.fields {
        print(&format!("  {name:<15}{value}"));
    }
}
