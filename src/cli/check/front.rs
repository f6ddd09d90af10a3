//! `gitsocket check --web FILE`: is the front's file right, can this user read what it names, and does the daemon answer?

use std::{path::Path, process::ExitCode};

use super::as_user;
use crate::{
    base::fault::{Failure, Kind, one_line},
    cli::{fail, print, say},
    web::{
        config::Config,
        trial::{self, Finding},
    },
};

pub(super) fn run(file: &Path) -> ExitCode {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(err) => return fail(err),
    };
    let findings = trial::findings(&config);
    findings.iter().for_each(|finding| say(&line(finding)));
    let parts = format!(
        "{} webhook(s), {} listener(s)",
        config.webhooks.len(),
        config.listen.len().max(1)
    );
    if rustix::process::geteuid().is_root() {
        say(&as_user("the front's user", "gitsocket-web", "--web", file));
    }
    let Some(first) = findings.first() else {
        print(&format!(
            "{} is right: {parts}; the daemon answers",
            file.display()
        ));
        return ExitCode::SUCCESS;
    };
    say(&format!(
        "{} can be read ({parts}), but not all that it names can be used: {} fault(s)",
        file.display(),
        findings.len()
    ));
    let kind = if first.is_daemons {
        first.failure.kind
    } else {
        Kind::Config
    };
    ExitCode::from(kind.exit())
}

/// `webhooks: /hooks/site: from: cannot read …: … (what to do)`
fn line(finding: &Finding) -> String {
    let Failure { message, help, .. } = &finding.failure;
    let help = help.as_ref().map(|help| format!(" ({help})"));
    one_line(&format!(
        "{}: {message}{}",
        finding.field,
        help.unwrap_or_default()
    ))
}
