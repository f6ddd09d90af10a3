//! What the front needs of this machine and of the daemon, tried without changing anything.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    config::{Config, Listener, Webhook},
    forge,
    secret::{Secret, Secrets},
    serve,
};
use crate::{
    base::{
        access,
        event::Done,
        fault::{Blame, Failure, Kind},
        name::{AbsPath, TriggerName},
    },
    daemon::{client, wire::Request},
};

/// How long the daemon may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that cannot be used.
#[derive(Debug)]
pub struct Finding {
    /// What the configuration calls it.
    pub field: String,
    /// Why.
    pub failure: Failure,
    /// Whether it is the daemon's affair: away, or without such a trigger.
    pub is_daemons: bool,
}

/// All of `config` that this process's user cannot use.
pub fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = secrets(config);
    for listener in &config.listen {
        findings.extend(listening(listener));
    }
    if findings.is_empty() {
        findings.extend(daemon(config));
    }
    findings
}

/// Files of secrets that are of no use.
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

/// Why a listener cannot be made.
fn listening(listener: &Listener) -> Option<Finding> {
    match listener {
        Listener::Unix { path, .. } => {
            let dir = path.parent().unwrap_or(Path::new("/"));
            let source = access::fill(dir).err()?;
            let dir = dir.into();
            Some(own("listen".into(), &NoSocket { dir, source }))
        }
        Listener::Http { tls, .. } => {
            let err = serve::try_tls(tls.as_ref()?).err()?;
            Some(own("listen: tls".into(), &err))
        }
    }
}

/// A socket cannot be made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("cannot make a socket in {}: {source}", dir.display())]
#[diagnostic(help(
    "the directory must exist, and the user that the front runs as must be able to write to it"
))]
struct NoSocket {
    dir: PathBuf,
    source: io::Error,
}

impl Blame for NoSocket {
    fn kind(&self) -> Kind {
        Kind::Config
    }
}

/// Why the daemon cannot be told the triggers.
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
        let name = Some(trigger.clone());
        match ask(&Request::Status { name }) {
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
