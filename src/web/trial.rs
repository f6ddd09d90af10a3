//! Checks what the front needs of this machine and of the daemon, without changing anything.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    config::{Config, Listener, Webhook},
    forge,
    secret::{Secret, Secrets},
    serve,
};
use crate::{
    base::{
        address::Address,
        event::Done,
        fault::{Blame, Failure, Kind},
        name::{AbsPath, TriggerName},
    },
    daemon::{client, listen, wire::Request},
};

/// How long the daemon may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that cannot be used.
#[derive(Debug)]
pub struct Finding {
    /// Its field in the configuration.
    pub field: String,
    pub failure: Failure,
    /// Whether the daemon is the reason: it is down, or has no such trigger.
    pub is_daemons: bool,
}

/// All of `config` that this process's user cannot use.
pub fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = secrets(config);
    for listener in &config.listen {
        findings.extend(listening(listener, &config.daemon));
    }
    if findings.is_empty() {
        findings.extend(daemon(config));
    }
    findings
}

/// Files of secrets that cannot be used.
fn secrets(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut try_file = |field: String, file: &AbsPath, usable| {
        if let Err(err) = Secrets::read(vec![file.clone()], usable) {
            findings.push(own(field, &err));
        }
    };
    for (path, webhook) in &config.webhooks {
        for file in webhook.from.files() {
            try_file(
                format!("webhooks: {path}: from"),
                file,
                forge::usable(&webhook.from),
            );
        }
    }
    for (user, file) in config.page.iter().flat_map(|page| &page.users) {
        try_file(format!("page: users: {user}"), file, |_| Ok(()));
    }
    let token = config
        .metrics
        .as_ref()
        .and_then(|metrics| metrics.token_file.as_ref());
    if let Some(file) = token {
        try_file("metrics: token_file".into(), file, |_| Ok(()));
    }
    if let Some(file) = &config.daemon_token_file {
        try_file("daemon_token_file".into(), file, |_| Ok(()));
    }
    findings
}

fn own(field: String, err: &(impl Blame + ?Sized)) -> Finding {
    Finding {
        field,
        failure: Failure::of(err),
        is_daemons: false,
    }
}

/// Why a listener cannot be made. `daemon` is the daemon's address, which must be another one.
fn listening(listener: &Listener, daemon: &Address) -> Vec<Finding> {
    match listener {
        Listener::Unix { path, .. } if matches!(daemon, Address::Unix(daemon) if daemon.as_path() == path) => {
            vec![own("listen: path".into(), &DaemonsOwn { path: path.clone() })]
        }
        Listener::Unix { path, group, .. } => listen::unusable_unix(path, group.as_deref())
            .into_iter()
            .map(|(field, failure)| Finding {
                field: format!("listen: {field}"),
                failure,
                is_daemons: false,
            })
            .collect(),
        Listener::Http { tls, .. } => {
            let err = tls.as_ref().and_then(|tls| serve::try_tls(tls).err());
            err.map(|err| own("listen: tls".into(), &err))
                .into_iter()
                .collect()
        }
    }
}

/// A listener has the address of the daemon.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("cannot listen on {}: that is the socket of the daemon, as `daemon` has it", path.display())]
#[diagnostic(help("choose another path for the front's own socket"))]
struct DaemonsOwn {
    path: PathBuf,
}

impl Blame for DaemonsOwn {
    fn kind(&self) -> Kind {
        Kind::Config
    }
}

/// Why the daemon cannot be asked, or refuses a trigger.
fn daemon(config: &Config) -> Vec<Finding> {
    let token = config.daemon_token_file.as_ref().map(Secret::read);
    let token = token.and_then(Result::ok);
    let mut triggers = BTreeMap::<&TriggerName, &str>::new();
    for (path, Webhook { trigger, .. }) in &config.webhooks {
        triggers.entry(trigger).or_insert(path);
    }
    let daemons = |field: String, failure| Finding {
        field,
        failure,
        is_daemons: true,
    };
    let ask = |request: &Request| {
        let options = client::Options {
            address: &config.daemon,
            request,
            token: token.as_ref().map(Secret::expose),
            timeout: Some(PATIENCE),
        };
        client::ask(&options, |_| {})
    };
    let status = |(trigger, path): (&TriggerName, &str)| {
        let names = vec![trigger.clone()];
        match ask(&Request::Status { names }) {
            Ok(Done { failure, .. }) => {
                failure.map(|failure| daemons(format!("webhooks: {path}: trigger"), failure))
            }
            Err(err) => Some(daemons("daemon".into(), Failure::of(&err))),
        }
    };
    match ask(&Request::Ping) {
        Ok(Done { failure: None, .. }) => triggers.into_iter().filter_map(status).collect(),
        Ok(Done {
            failure: Some(failure),
            ..
        }) => vec![daemons("daemon".into(), failure)],
        Err(err) => vec![daemons("daemon".into(), Failure::of(&err))],
    }
}
