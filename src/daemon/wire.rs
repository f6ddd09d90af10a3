//! The protocol of the socket, without I/O: bytes become requests, and events become bytes.
//!
//! A request is one line of at most [`MAX_LINE`] bytes, text or JSON. Whatever a client sends becomes a checked [`Request`], or a
//! [`Failure`] that says what was expected.

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

/// The format of the answer, which is that of the request.
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

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Start a run: deploy, roll back, retry, or run the hooks again.
    Trigger {
        name: TriggerName,
        /// The task of the run.
        task: Task,
        /// Whether the client waits for the end of the run.
        wait: bool,
        /// The client's note.
        note: Option<Note>,
    },
    /// Deploy nothing until the trigger is resumed.
    Pause { name: TriggerName, reason: Option<Note> },
    /// Let a trigger that was paused deploy again.
    Resume { name: TriggerName },
    /// Show the state of triggers.
    Status {
        /// The triggers; all, if there are no names.
        names: Vec<TriggerName>,
    },
    /// List runs, the newest first, or show the events of one.
    Log {
        /// The trigger; all, if there is no name.
        name: Option<TriggerName>,
        /// The run to replay, or to follow if it goes on. Only with a name.
        run: Option<Which>,
        /// How many runs to list at most.
        limit: Option<u32>,
    },
    /// Show numbers of the daemon and of its triggers.
    Metrics,
    /// Only answer.
    Ping,
}

/// Which run of a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The run that goes on; else the one that waits; else the last one that has ended.
    Newest,
    /// The run with this id.
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
/// The error comes with the format of its answer.
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

/// A text of a client, short enough for an answer.
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

/// The failure of a line that ends before its line end.
pub fn unfinished() -> Failure {
    bad("the request breaks off before the end of its line")
}

/// The line for `record`, with its line end; `None` for a record that has no text line.
pub fn render(record: &Record, format: Format) -> Option<String> {
    let mut line = match format {
        Format::Text => record.line()?,
        Format::Json => serde_json::to_string(record).expect("records consist of strings and numbers"),
    };
    line.push('\n');
    Some(line)
}

/// The line for `request`, in JSON.
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
        // An older daemon understands `name` only.
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
