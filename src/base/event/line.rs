//! Events as lines for people: the same words on the socket, on a terminal and in the log.

use std::time::Duration;

use super::{
    Action, Event, Local, Nth,
    done::{Done, Ids, Outcome},
};
use crate::base::name::short;
use crate::base::report::Lost;

impl Event {
    /// The event as a line for people, or nothing where a bar says it better.
    ///
    /// For [`Event::Done`] this is the last line of an answer: `ok NAME …` or `error NAME KIND: …`.
    pub fn line(&self) -> Option<String> {
        Some(match self {
            Self::Queued { trigger } => format!("queued {trigger}"),
            Self::Started {
                repo, revision, path, ..
            } => match revision.as_str() {
                "" => format!("deploying {repo} to {path}"),
                revision => format!("deploying {repo} ({revision}) to {path}"),
            },
            Self::Waiting { on } => format!("waiting for {on}"),
            Self::Progress { .. } => return None,
            Self::Remote { line } => format!("remote: {line}"),
            Self::Fetched {
                old,
                new,
                rewound,
                dropped,
            } => {
                let rewound = match (rewound, dropped.is_empty()) {
                    (false, _) => String::new(),
                    (true, true) => ", rewound".into(),
                    (true, false) => format!(", rewound: it no longer contains {}", dropped.line()),
                };
                match old {
                    Some(old) if old == new => format!("nothing new: {}", short(new)),
                    Some(old) => format!("fetched {}..{}{rewound}", short(old), short(new)),
                    None => format!("fetched {}{rewound}", short(new)),
                }
            }
            Self::Change { action, path, local } => match (action, local) {
                (Action::Write, None) => format!("would write {path}"),
                (Action::Write, Some(Local::Edited)) => format!("would write {path} (edited here)"),
                (Action::Write, Some(Local::Untracked)) => format!("would write {path} (untracked here)"),
                (Action::Delete, None) => format!("would delete {path}"),
                (Action::Delete, Some(_)) => format!("would delete {path} (edited here)"),
                (Action::Clean, _) => format!("would clean {path}"),
            },
            Self::Updated {
                written: 0,
                deleted: 0,
                cleaned: 0,
                ..
            } => return None,
            Self::Updated {
                written,
                deleted,
                cleaned,
                edited,
                untracked,
            } => {
                let counts = format!("{written} written, {deleted} deleted, {cleaned} cleaned");
                let lost = Lost {
                    edited: edited.clone(),
                    untracked: untracked.clone(),
                };
                format!("worktree updated: {counts}{}", lost.line())
            }
            Self::Warning { message } => format!("warning: {message}"),
            Self::HookStarted { hook, nth } => hook_line(hook, *nth),
            Self::HookLine { line, .. } => format!("| {line}"),
            Self::HookEnded { success: true, .. } => return None,
            Self::HookEnded {
                hook, nth, status, ..
            } => format!("{} failed: {status}", hook_line(hook, *nth)),
            Self::Built { release } => format!("built {release}"),
            Self::Live { release, .. } => format!("live {release}"),
            Self::Health {
                answer,
                again_ms: None,
                ..
            } => format!("health {answer}"),
            Self::Health {
                answer,
                again_ms: Some(again),
                ..
            } => {
                let again = humantime::format_duration(Duration::from_millis(*again));
                format!("health {answer}, again in {again}")
            }
            Self::RolledBack { old, new } => format!("rolled back {}..{}", short(old), short(new)),
            Self::Lagged { lost } => format!("... {lost} lines are lost"),
            Self::Status(status) => status.line(),
            Self::GoingOn(run) => run.line(),
            Self::Past(run) => run.line(),
            Self::Metrics(numbers) => numbers.line(),
            Self::Daemon(daemon) => daemon.line(),
            Self::Pong => "pong".into(),
            Self::Done(done) => done.line(),
        })
    }
}

fn hook_line(hook: &str, nth: Option<Nth>) -> String {
    match nth {
        Some(Nth { number, of }) => format!("hook {number} of {of}: {hook}"),
        None => format!("hook {hook}"),
    }
}

impl Done {
    /// `ok site 1a2b3c4..5d6e7f8`, `ok site up-to-date 5d6e7f8` or `error site KIND: message`.
    pub fn line(&self) -> String {
        self.line_with(Ids::Short)
    }

    pub fn line_with(&self, ids: Ids) -> String {
        let short = |id| match ids {
            Ids::Short => short(id),
            Ids::Whole => id,
        };
        let trigger = &self.trigger;
        let new = self.new.as_deref().map(short).unwrap_or_default();
        match (&self.failure, &self.old) {
            (Some(failure), _) => {
                let help = failure.help_line().map(|help| format!(" ({help})"));
                let how = match self.outcome {
                    Outcome::RolledBack => "rolled-back",
                    _ => failure.kind.as_str(),
                };
                format!(
                    "error {trigger} {how}: {}{}",
                    failure.message,
                    help.unwrap_or_default()
                )
            }
            (None, _) if self.outcome == Outcome::Answered => format!("ok {trigger}"),
            (None, _) if self.outcome == Outcome::Accepted => format!("ok {trigger} accepted"),
            (None, _) if self.outcome == Outcome::UpToDate => {
                format!("ok {trigger} up-to-date {new}{}", self.undone())
            }
            (None, Some(old)) => format!("ok {trigger} {}..{new}", short(old)),
            (None, None) => format!("ok {trigger} {}..{new}", "0".repeat(new.len())),
        }
    }

    /// What a run that found nothing new has done all the same.
    fn undone(&self) -> String {
        match self.changed {
            0 => String::new(),
            1 => " (1 local change undone)".into(),
            more => format!(" ({more} local changes undone)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::{Failure, Kind};

    #[test]
    fn last_lines() {
        let mut done = Done {
            trigger: "site".into(),
            outcome: Outcome::Updated,
            old: Some("1a2b3c4d5e".into()),
            new: Some("5d6e7f8a9b".into()),
            changed: 3,
            exit: 0,
            failure: None,
            ms: 12,
        };
        assert_eq!(done.line(), "ok site 1a2b3c4..5d6e7f8");
        done.old = None;
        assert_eq!(done.line(), "ok site 0000000..5d6e7f8");
        done.outcome = Outcome::UpToDate;
        assert_eq!(done.line(), "ok site up-to-date 5d6e7f8 (3 local changes undone)");
        done.changed = 0;
        assert_eq!(done.line(), "ok site up-to-date 5d6e7f8");
        done.failure = Some(Failure::new(Kind::Timeout, "the remote is silent", None));
        assert_eq!(done.line(), "error site timeout: the remote is silent");
        done.outcome = Outcome::RolledBack;
        done.failure = Some(Failure::new(
            Kind::Hook,
            "5d6e7f8 is live again: hook: it ended",
            None,
        ));
        assert_eq!(
            done.line(),
            "error site rolled-back: 5d6e7f8 is live again: hook: it ended"
        );
    }
}
