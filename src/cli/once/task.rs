//! What the runs are to do: deploy, go back, or try again.

use std::process::ExitCode;

use super::Arguments;
use crate::{
    base::event::Task,
    cli::{given::earlier, say::usage},
};

/// What the runs are to do, and the names of the triggers.
pub(super) fn of(arguments: &Arguments) -> Result<(Task, &[String]), ExitCode> {
    let names = arguments.names.as_slice();
    let word = match (arguments.rollback, arguments.retry) {
        (false, false) => return Ok((Task::Update, names)),
        (true, true) => return Err(usage("give --rollback or --retry, not both")),
        (true, false) => "--rollback",
        (false, true) => "--retry",
    };
    if arguments.dry_run {
        return Err(usage(&format!("{word} has no dry run; leave out --dry-run")));
    }
    if arguments.retry {
        return Ok((Task::Retry, names));
    }
    if arguments.all {
        return Err(usage(
            "--rollback goes back in one trigger; name it instead of --all",
        ));
    }
    // With -g, there is one trigger, which is not named.
    let (names, to) = names.split_at(names.len().min(usize::from(arguments.git.is_none())));
    let to = match to {
        [] => None,
        [to] => Some(earlier(to)?),
        _ => {
            return Err(usage(
                "--rollback takes one NAME, and one RELEASE or COMMIT behind it",
            ));
        }
    };
    Ok((Task::Rollback { to }, names))
}
