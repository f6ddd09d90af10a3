//! Whether there is something new for a target: its remote is asked for the newest commit, and that is compared with what has
//! been deployed.
//!
//! It takes no lock, opens no repository here and writes nothing: a run may go on beside it, and a process that ends in the
//! middle leaves nothing behind.

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

/// How long a remote may take to answer, where the target's `timeout` is no shorter: a poll holds a place among `jobs`.
pub const PATIENCE: Duration = Duration::from_secs(10);

const IMPATIENT: &str = "a remote has ten seconds to answer a poll; where that is too short for it, have a run: it has the \
                         trigger's `timeout`";

/// What the newest commit of a remote is to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The commit.
    pub newest: Newest,
    /// What it is.
    pub is: Is,
    /// What is known of the remote besides, until it is asked again.
    known: Option<Known>,
    /// What is remembered here of runs, when that was looked up.
    state: Option<Stamp>,
}

#[cfg(test)]
impl Answer {
    /// As if it had been given.
    pub fn new(newest: Newest, is: Is) -> Self {
        Self {
            newest,
            is,
            known: None,
            state: None,
        }
    }
}

/// What a commit is to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// Deployed, with its hooks.
    Deployed,
    /// Rolled back, and not to be deployed again.
    Held,
    /// To be deployed, or to have its hooks.
    News,
}

/// Ask the remote of `target`, in a `sandbox` that is closer than that of a run, over one of the `connections` that runs use. As long as
/// neither it nor what is remembered here has changed since it gave the answer `before`, it is that.
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
            // It is not the trigger's `timeout` that was too short.
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
    // No client reads what the remote says for people.
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

/// What `newest` is to `target`, which is remembered at `git_dir`.
fn look_up(target: &Target, git_dir: &Path, newest: &Newest) -> Is {
    let holds = Holds::read(git_dir).unwrap_or_default();
    if holds.find(newest.commit).is_some() {
        return Is::Held;
    }
    let state = State::read(git_dir);
    let is_deployed = state.hooks(target).have_succeeded_for(newest.commit);
    if is_deployed && !state.owes(target, newest.commit) {
        Is::Deployed
    } else {
        Is::News
    }
}
