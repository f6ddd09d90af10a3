//! Requests as text: words separated by spaces.

use super::{Format, Line, Request, Which, bad, earlier, note, shown, trigger_name, which};
use crate::base::{event::Task, fault::Failure, name::TriggerName};

/// The request, or the token, in `line`.
pub(super) fn parse(line: &str) -> Result<Line, Failure> {
    if line.trim_end_matches('\r').contains(char::is_control) {
        return Err(bad("the request contains control characters"));
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let request = match words.as_slice() {
        [] => return Err(bad("the request is empty")),
        ["token"] => return Err(bad("the token is missing")),
        ["token", token] => return Ok(Line::Token((*token).into())),
        ["ping"] => Request::Ping,
        ["metrics"] => Request::Metrics,
        ["status", names @ ..] => Request::Status {
            names: names
                .iter()
                .map(|name| trigger_name(name))
                .collect::<Result<_, _>>()?,
        },
        ["log"] => log(None, None),
        ["log", name] => log(Some(trigger_name(name)?), None),
        ["log", name, run] => log(Some(trigger_name(name)?), Some(which(run)?)),
        ["attach"] => return Err(bad("the trigger's name is missing")),
        ["attach", name] => log(Some(trigger_name(name)?), Some(Which::Newest)),
        ["trigger"] => return Err(bad("the trigger's name is missing")),
        // Triggers may have these names, since the words were not always reserved.
        ["rollback" | "retry" | "pause" | "resume"] => {
            return Err(bad(format!(
                "the trigger's name is missing; if {0} is one, say: trigger {0}",
                words[0]
            )));
        }
        ["rollback", name] => task(name, Task::Rollback { to: None })?,
        ["rollback", name, to] => task(
            name,
            Task::Rollback {
                to: Some(earlier(to)?),
            },
        )?,
        ["retry", name] => task(name, Task::Retry)?,
        ["rollback" | "retry", ..] => {
            return Err(bad(
                "there are too many words; say: rollback NAME [RELEASE|COMMIT], or: retry NAME",
            ));
        }
        ["pause", name, reason @ ..] => Request::Pause {
            name: trigger_name(name)?,
            reason: match reason {
                [] => None,
                words => Some(note(&words.join(" "))?),
            },
        },
        ["resume", name] => Request::Resume {
            name: trigger_name(name)?,
        },
        ["resume", ..] => return Err(bad("there are too many words; say: resume NAME")),
        ["trigger", name, how @ ..] => trigger(name, how)?,
        [name] => task(name, Task::Update)?,
        [word, ..] => return Err(bad(format!("{:?} is not a valid request", shown(word)))),
    };
    Ok(Line::Request(request, Format::Text, None))
}

fn log(name: Option<TriggerName>, run: Option<Which>) -> Request {
    Request::Log {
        name,
        run,
        limit: None,
    }
}

/// The request to trigger `name`, with further words.
fn trigger(name: &str, how: &[&str]) -> Result<Request, Failure> {
    let (mut wait, mut task) = (true, Task::Update);
    for word in how {
        match *word {
            "nowait" => wait = false,
            "hooks" => task = Task::Hooks,
            word => {
                return Err(bad(format!(
                    "{:?} is not a valid word there; say: trigger NAME [nowait] [hooks]",
                    shown(word)
                )));
            }
        }
    }
    Ok(Request::Trigger {
        name: trigger_name(name)?,
        task,
        wait,
        note: None,
    })
}

fn task(name: &str, task: Task) -> Result<Request, Failure> {
    Ok(Request::Trigger {
        name: trigger_name(name)?,
        task,
        wait: true,
        note: None,
    })
}
