//! `gitsocket check --web FILE`: is the front's file right, can this user read what it names, and does the daemon answer?

use std::{path::Path, process::ExitCode};

use super::as_user;
use crate::{
    base::fault::{Kind, one_line},
    cli::{fail, print, say},
    web::{
        config::Config,
        trial::{self, Finding},
    },
};

pub(super) fn run(file: &Path) -> Result<ExitCode, ExitCode> {
    let config = Config::load(file).map_err(fail)?;
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
        return Ok(ExitCode::SUCCESS);
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
    Ok(ExitCode::from(kind.exit()))
}

/// `webhooks: /hooks/site: from: cannot read …: … (what to do)`
fn line(finding: &Finding) -> String {
    one_line(&format!("{}: {}", finding.field, finding.failure.with_help()))
}
