//! Bytes become requests, events become bytes: the protocol of the socket, without any I/O.
//!
//! A request is one line of at most [`MAX_LINE`] bytes, text or JSON. Everything a stranger can send ends
//! here as a checked [`Request`] or as a [`Failure`] that says what was expected.

use crate::base::{
    event::{Record, Task},
    fault::{Failure, Kind},
    name::{Earlier, Note, RunId, TriggerName},
    words::cut,
};

mod json;
mod text;

/// The longest request, in bytes, its line end included.
pub const MAX_LINE: usize = 8 * 1024;

/// The form of the answer: that of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// JSON Lines.
    Json,
}

/// One line of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// `token SECRET`, before the request.
    Token(String),
    /// A request, with the token that a JSON request may carry.
    Request(Request, Format, Option<String>),
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Deploy, or go back.
    Trigger {
        /// The trigger.
        name: TriggerName,
        /// What is to be done.
        task: Task,
        /// Stay until the run has ended.
        wait: bool,
        /// The client's note.
        note: Option<Note>,
    },
    /// Deploy nothing until the trigger is resumed.
    Pause {
        /// The trigger.
        name: TriggerName,
        /// Why.
        reason: Option<Note>,
    },
    /// Let a trigger that was paused deploy again.
    Resume {
        /// The trigger.
        name: TriggerName,
    },
    /// Show the state of triggers.
    Status {
        /// Of these triggers; of all, if there is none.
        names: Vec<TriggerName>,
    },
    /// List runs, the newest first, or show the events of one.
    Log {
        /// Of this trigger; nothing: of all.
        name: Option<TriggerName>,
        /// Replay this one, or follow it if it goes on. Only with a name.
        run: Option<Which>,
        /// So many at most.
        limit: Option<u32>,
    },
    /// Show numbers of the daemon and of its triggers.
    Metrics,
    /// Answer, to show that the daemon is there.
    Ping,
}

/// Which run of a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one that goes on; else the one that waits; else the last that ended.
    Newest,
    /// The one with this id.
    Id(RunId),
}

impl Which {
    /// As in a request.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Newest => NEWEST,
            Self::Id(id) => id.as_str(),
        }
    }
}

/// The word for [`Which::Newest`]. It is not hexadecimal, so it cannot be an id.
const NEWEST: &str = "newest";

impl Request {
    /// The trigger that it is about, if it is about one.
    pub fn trigger(&self) -> Option<&TriggerName> {
        match self {
            Self::Trigger { name, .. } | Self::Pause { name, .. } | Self::Resume { name } => Some(name),
            Self::Log { name, .. } => name.as_ref(),
            Self::Status { names } => match names.as_slice() {
                [name] => Some(name),
                _ => None,
            },
            Self::Metrics | Self::Ping => None,
        }
    }
}

/// Read one line, without its end.
///
/// The error comes with the format in which it should be answered.
pub fn parse(line: &[u8]) -> Result<Line, (Failure, Format)> {
    let json = line.trim_ascii_start().first() == Some(&b'{');
    let format = if json { Format::Json } else { Format::Text };
    let parsed = std::str::from_utf8(line)
        .map_err(|_| bad("the request is not UTF-8"))
        .and_then(|text| {
            if json {
                json::parse(text)
            } else {
                text::parse(text)
            }
        });
    parsed.map_err(|failure| (failure, format))
}

fn trigger_name(name: &str) -> Result<TriggerName, Failure> {
    TriggerName::new(name).map_err(|why| {
        bad(format!(
            "{:?} is not a valid name of a trigger: {why}",
            shown(name)
        ))
    })
}

fn which(run: &str) -> Result<Which, Failure> {
    match run {
        NEWEST => Ok(Which::Newest),
        id => RunId::parse(id)
            .map(Which::Id)
            .map_err(|why| bad(format!("{:?} is not a valid id of a run: {why}", shown(id)))),
    }
}

fn earlier(to: &str) -> Result<Earlier, Failure> {
    Earlier::parse(to).map_err(|why| {
        bad(format!(
            "{:?} is neither a commit nor a release: {why}",
            shown(to)
        ))
    })
}

fn note(text: &str) -> Result<Note, Failure> {
    Note::new(text).map_err(|why| bad(format!("{:?} cannot be noted: {why}", shown(text))))
}

/// What a client sent, short enough for an answer.
fn shown(text: &str) -> String {
    cut(text, 40)
}

fn bad(message: impl Into<String>) -> Failure {
    const HELP: &str = "send one line: NAME, trigger NAME [nowait] [hooks], status [NAME…], log [NAME [RUN]], \
                        attach NAME, rollback NAME [RELEASE|COMMIT], retry NAME, pause NAME [REASON], resume NAME, \
                        metrics, ping, or JSON such as {\"op\":\"trigger\",\"name\":\"NAME\"}";
    Failure::new(Kind::BadRequest, message, Some(HELP))
}

/// The failure of a line that does not end within [`MAX_LINE`].
pub fn too_long() -> Failure {
    bad(format!("the request is longer than {MAX_LINE} bytes"))
}

/// The failure of a line whose client stopped in the middle.
pub fn unfinished() -> Failure {
    bad("the request breaks off before the end of its line")
}

/// The line for `record`, with its end; nothing for a record that people need not see.
pub fn render(record: &Record, format: Format) -> Option<String> {
    let mut line = match format {
        Format::Text => record.line()?,
        Format::Json => serde_json::to_string(record).expect("records consist of strings and numbers"),
    };
    line.push('\n');
    Some(line)
}

/// The request line for `request`, as `client` sends it.
pub fn request_line(request: &Request, token: Option<&str>) -> String {
    let op = match request {
        Request::Trigger {
            task: Task::Update | Task::Hooks,
            ..
        } => "trigger",
        Request::Trigger { task, .. } => task.word(),
        Request::Pause { .. } => "pause",
        Request::Resume { .. } => "resume",
        Request::Status { .. } => "status",
        Request::Log { .. } => "log",
        Request::Metrics => "metrics",
        Request::Ping => "ping",
    };
    let mut object = serde_json::Map::from_iter([("op".to_owned(), op.into())]);
    let mut put = |field: &str, value: serde_json::Value| object.insert(field.to_owned(), value);
    if let Some(name) = request.trigger() {
        put("name", name.as_str().into());
    }
    match request {
        Request::Trigger { task, wait, note, .. } => {
            put("wait", (*wait).into());
            if let Task::Rollback { to: Some(to) } = task {
                put("to", to.as_str().into());
            }
            if *task == Task::Hooks {
                put("hooks", true.into());
            }
            if let Some(note) = note {
                put("note", note.as_str().into());
            }
        }
        Request::Pause {
            reason: Some(reason), ..
        } => {
            put("reason", reason.as_str().into());
        }
        // For one name, a daemon of an older version answers, too.
        Request::Status { names } if names.len() > 1 => {
            put("names", names.iter().map(TriggerName::as_str).collect());
        }
        Request::Log { run, limit, .. } => {
            if let Some(run) = run {
                put("run", run.as_str().into());
            }
            if let Some(limit) = limit {
                put("limit", (*limit).into());
            }
        }
        _ => {}
    }
    if let Some(token) = token {
        object.insert("token".into(), token.into());
    }
    format!("{}\n", serde_json::Value::Object(object))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
