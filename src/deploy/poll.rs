//! Whether the remote of a target has a new commit: the remote is asked for its newest commit, and that is compared with the
//! deployed one.
//!
//! A poll takes no lock, opens no repository here and writes nothing: a run may go on at the same time, and a kill leaves nothing
//! behind.

use std::{path::Path, time::Duration};

use crate::{
    base::{
        fault::{Failure, Kind},
        identity::Stamp,
        report::Reporter,
    },
    config::Target,
    deploy::{
        held::Holds,
        links::Links,
        run::Error,
        sandbox::Sandbox,
        state::{self, State},
    },
    git::{
        fetch::{self, Known, Newest},
        transport::{Connections, Deadline},
    },
};

/// How long a remote may take to answer, unless the target's `timeout` is shorter: a poll takes one of the `jobs`.
pub const PATIENCE: Duration = Duration::from_secs(10);

const IMPATIENT: &str = "a remote has ten seconds to answer a poll; if that is too short, trigger a run instead: it has the \
                         trigger's `timeout`";

/// What the newest commit of a remote is to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub newest: Newest,
    /// Whether it is deployed.
    pub is: Is,
    /// What the next poll can reuse.
    known: Option<Known>,
    /// The version of the state file that `is` was taken from.
    state: Option<Stamp>,
}

#[cfg(test)]
impl Answer {
    /// An answer for tests.
    pub fn new(newest: Newest, is: Is) -> Self {
        Self {
            newest,
            is,
            known: None,
            state: None,
        }
    }
}

/// Whether a commit is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// Deployed, with its hooks.
    Deployed,
    /// Rolled back, and not to be deployed again.
    Held,
    /// To be deployed, or to have its hooks.
    News,
}

/// Ask the remote of `target`, in a `sandbox` that is narrower than a run's, over the `connections` that runs use. The result of
/// the answer `before` is used again while neither the newest commit nor the state file has changed.
pub fn ask(
    target: &Target,
    (sandbox, links): (&Sandbox, &Links),
    connections: &Connections,
    before: Option<&Answer>,
) -> Result<Answer, Failure> {
    let asked = || {
        links.look(target)?;
        sandbox.confine_poll(target, || ask_inside(target, connections, before))?
    };
    asked().map_err(|err: Error| {
        let failure = Failure::of(&err);
        match failure.kind {
            // The limit of polls was too short, not the trigger's `timeout`.
            Kind::Timeout if PATIENCE < target.origin.timeout => Failure {
                help: Some(IMPATIENT.into()),
                ..failure
            },
            _ => failure,
        }
    })
}

fn ask_inside(target: &Target, connections: &Connections, before: Option<&Answer>) -> Result<Answer, Error> {
    let git_dir = target.site.git_dir();
    // No client follows a poll, so the remote's messages are dropped.
    let report = Reporter::new(drop);
    let deadline = Deadline::new(target.origin.timeout.min(PATIENCE));
    let known = before.map(|before| (&before.newest, before.known.as_ref()));
    let (newest, known) = fetch::newest(&target.origin, &git_dir, deadline, (&report, connections), known)?;
    let state = state::stamp(&git_dir);
    let is = match before.filter(|before| before.newest == newest && before.state == state) {
        Some(before) => before.is,
        None => look_up(target, &git_dir, &newest),
    };
    Ok(Answer {
        newest,
        is,
        known,
        state,
    })
}

/// Look up in the state at `git_dir` whether `newest` is deployed.
fn look_up(target: &Target, git_dir: &Path, newest: &Newest) -> Is {
    let holds = Holds::read(git_dir).unwrap_or_default();
    if holds.find(newest.commit).is_some() {
        return Is::Held;
    }
    let state = State::read(git_dir);
    let is_deployed = state.hooks(target).have_succeeded_for(newest.commit);
    if is_deployed && !state.has_pending_hooks(target, newest.commit) {
        Is::Deployed
    } else {
        Is::News
    }
}
