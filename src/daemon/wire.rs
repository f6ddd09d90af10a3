//! Bytes become requests, events become bytes: the protocol of the socket, without any I/O.
//!
//! A request is one line of at most [`MAX_LINE`] bytes, text or JSON. Everything a stranger can send ends
//! here as a checked [`Request`] or as a [`Failure`] that says what was expected.

use serde::Deserialize;

use crate::base::{
    event::{Record, Task},
    fault::{Failure, Kind},
    name::{Earlier, RunId, TriggerName},
};

/// The longest request, in bytes, its line end included.
pub const MAX_LINE: usize = 8 * 1024;

/// In which form the answer is wanted: the one that the request came in.
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
    },
    /// Say how things are.
    Status {
        /// Of this trigger only.
        name: Option<TriggerName>,
    },
    /// Say which runs there were, the newest first, or what one of them said.
    Log {
        /// Of this trigger.
        name: TriggerName,
        /// Replay this one, or follow it if it goes on.
        run: Option<Which>,
    },
    /// Say the numbers of the daemon and of its triggers.
    Metrics,
    /// Say that the daemon is there.
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

/// The word for [`Which::Newest`]; not hexadecimal, so it is no id.
const NEWEST: &str = "newest";

impl Request {
    /// The trigger that it is about, if it is about one.
    pub fn trigger(&self) -> Option<&TriggerName> {
        match self {
            Self::Trigger { name, .. } | Self::Log { name, .. } => Some(name),
            Self::Status { name } => name.as_ref(),
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
        .and_then(|text| if json { parse_json(text) } else { parse_text(text) });
    parsed.map_err(|failure| (failure, format))
}

fn parse_text(line: &str) -> Result<Line, Failure> {
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
        ["status"] => Request::Status { name: None },
        ["status", name] => Request::Status {
            name: Some(trigger_name(name)?),
        },
        ["log" | "attach"] => return Err(bad("the trigger's name is missing")),
        ["log", name] => Request::Log {
            name: trigger_name(name)?,
            run: None,
        },
        ["log", name, run] => Request::Log {
            name: trigger_name(name)?,
            run: Some(which(run)?),
        },
        ["attach", name] => Request::Log {
            name: trigger_name(name)?,
            run: Some(Which::Newest),
        },
        ["trigger"] => return Err(bad("the trigger's name is missing")),
        // They were names before they were words.
        ["rollback" | "retry"] => {
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
        ["trigger", name] | [name] => task(name, Task::Update)?,
        [word, ..] => return Err(bad(format!("{:?} is no request", shown(word)))),
    };
    Ok(Line::Request(request, Format::Text, None))
}

fn task(name: &str, task: Task) -> Result<Request, Failure> {
    Ok(Request::Trigger {
        name: trigger_name(name)?,
        task,
        wait: true,
    })
}

/// A request as programs send it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    op: String,
    name: Option<String>,
    token: Option<String>,
    wait: Option<bool>,
    run: Option<String>,
    to: Option<String>,
}

fn parse_json(line: &str) -> Result<Line, Failure> {
    let json: Json = serde_json::from_str(line).map_err(|err| {
        bad(format!(
            "the request is not the JSON expected: {}",
            cut(&err.to_string(), 200)
        ))
    })?;
    let name = json.name.as_deref().map(trigger_name).transpose()?;
    let run = json.run.as_deref().map(which).transpose()?;
    let to = json.to.as_deref().map(earlier).transpose()?;
    let wait = json.wait.unwrap_or(true);
    let request = match (json.op.as_str(), name) {
        ("log", Some(name)) => Request::Log { name, run },
        ("log", None) => return Err(bad("\"name\" is missing")),
        _ if run.is_some() => return Err(bad("only \"log\" takes a \"run\"")),
        ("rollback", Some(name)) => Request::Trigger {
            name,
            task: Task::Rollback { to },
            wait,
        },
        _ if to.is_some() => return Err(bad("only \"rollback\" takes a \"to\"")),
        ("ping", None) => Request::Ping,
        ("metrics", None) => Request::Metrics,
        ("status", name) => Request::Status { name },
        ("trigger", Some(name)) => Request::Trigger {
            name,
            task: Task::Update,
            wait,
        },
        ("retry", Some(name)) => Request::Trigger {
            name,
            task: Task::Retry,
            wait,
        },
        ("trigger" | "rollback" | "retry", None) => return Err(bad("\"name\" is missing")),
        ("ping" | "metrics", Some(_)) => {
            return Err(bad(format!("{:?} takes no \"name\"", json.op)));
        }
        (op, _) => return Err(bad(format!("the op {:?} is unknown", shown(op)))),
    };
    Ok(Line::Request(request, Format::Json, json.token))
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

/// What a client said, short enough to be said back.
fn shown(text: &str) -> String {
    cut(text, 40)
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

fn bad(message: impl Into<String>) -> Failure {
    const HELP: &str = "send one line: NAME, trigger NAME, status [NAME], log NAME [RUN], attach NAME, \
                        rollback NAME [RELEASE|COMMIT], retry NAME, metrics, ping, \
                        or JSON such as {\"op\":\"trigger\",\"name\":\"NAME\"}";
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

/// The line for `record`, with its end; nothing where people need not see it.
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
        Request::Trigger { task, .. } if task.is_update() => "trigger",
        Request::Trigger { task, .. } => task.word(),
        Request::Status { .. } => "status",
        Request::Log { .. } => "log",
        Request::Metrics => "metrics",
        Request::Ping => "ping",
    };
    let mut object = serde_json::Map::from_iter([("op".to_owned(), op.into())]);
    if let Some(name) = request.trigger() {
        object.insert("name".into(), name.as_str().into());
    }
    if let Request::Trigger { wait, task, .. } = request {
        object.insert("wait".into(), (*wait).into());
        if let Task::Rollback { to: Some(to) } = task {
            object.insert("to".into(), to.as_str().into());
        }
    }
    if let Request::Log { run: Some(run), .. } = request {
        let run = match run {
            Which::Newest => NEWEST,
            Which::Id(id) => id.as_str(),
        };
        object.insert("run".into(), run.into());
    }
    if let Some(token) = token {
        object.insert("token".into(), token.into());
    }
    format!("{}\n", serde_json::Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(name: &str, wait: bool) -> Request {
        operation(name, Task::Update, wait)
    }

    fn operation(name: &str, task: Task, wait: bool) -> Request {
        Request::Trigger {
            name: TriggerName::new(name).unwrap(),
            task,
            wait,
        }
    }

    fn rollback(to: Option<&str>) -> Task {
        Task::Rollback {
            to: to.map(|to| Earlier::parse(to).unwrap()),
        }
    }

    fn log(run: Option<Which>) -> Request {
        Request::Log {
            name: TriggerName::new("site").unwrap(),
            run,
        }
    }

    fn id() -> Which {
        Which::Id(RunId::parse("0198c0ffee0001").unwrap())
    }

    #[test]
    fn good_lines() {
        let text = |request| Line::Request(request, Format::Text, None);
        let json = |request, token: Option<&str>| Line::Request(request, Format::Json, token.map(Into::into));
        let name = || TriggerName::new("site").unwrap();
        for (line, expected) in [
            ("site", text(trigger("site", true))),
            ("  site \r", text(trigger("site", true))),
            ("trigger site", text(trigger("site", true))),
            ("status", text(Request::Status { name: None })),
            ("status site", text(Request::Status { name: Some(name()) })),
            ("log site", text(log(None))),
            ("log site 0198c0ffee0001", text(log(Some(id())))),
            ("log site newest", text(log(Some(Which::Newest)))),
            ("attach site", text(log(Some(Which::Newest)))),
            ("rollback site", text(operation("site", rollback(None), true))),
            (
                "rollback site 5D6E7F8",
                text(operation("site", rollback(Some("5d6e7f8")), true)),
            ),
            (
                "rollback site 20261125T201500Z-5d6e7f8",
                text(operation(
                    "site",
                    rollback(Some("20261125T201500Z-5d6e7f8")),
                    true,
                )),
            ),
            ("retry site", text(operation("site", Task::Retry, true))),
            // Names that were there before the words.
            ("trigger rollback", text(trigger("rollback", true))),
            ("trigger retry", text(trigger("retry", true))),
            (
                "rollback rollback",
                text(operation("rollback", rollback(None), true)),
            ),
            (
                r#"{"op":"rollback","name":"site","to":"5d6e7f8"}"#,
                json(operation("site", rollback(Some("5d6e7f8")), true), None),
            ),
            (
                r#"{"op":"rollback","name":"site","wait":false,"token":"t"}"#,
                json(operation("site", rollback(None), false), Some("t")),
            ),
            (
                r#"{"op":"retry","name":"site"}"#,
                json(operation("site", Task::Retry, true), None),
            ),
            (r#"{"op":"log","name":"site"}"#, json(log(None), None)),
            (
                r#"{"op":"log","name":"site","run":"0198c0ffee0001"}"#,
                json(log(Some(id())), None),
            ),
            (
                r#"{"op":"log","name":"site","run":"newest"}"#,
                json(log(Some(Which::Newest)), None),
            ),
            ("ping", text(Request::Ping)),
            ("metrics", text(Request::Metrics)),
            ("trigger metrics", text(trigger("metrics", true))),
            (r#"{"op":"metrics"}"#, json(Request::Metrics, None)),
            ("token s3cret", Line::Token("s3cret".into())),
            (r#"{"op":"ping"}"#, json(Request::Ping, None)),
            (
                r#"{"op":"trigger","name":"site"}"#,
                json(trigger("site", true), None),
            ),
            (
                r#" {"op":"trigger","name":"site","wait":false,"token":"t"}"#,
                json(trigger("site", false), Some("t")),
            ),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(expected), "{line}");
        }
    }

    #[test]
    fn bad_lines_are_answered_in_their_format() {
        for (line, format) in [
            (&b""[..], Format::Text),
            (b"\0\0\0", Format::Text),
            (b"\xff\xfe", Format::Text),
            (b"two words", Format::Text),
            (b"../etc", Format::Text),
            (b"token", Format::Text),
            (b"trigger", Format::Text),
            (b"trigger a b", Format::Text),
            (b"log", Format::Text),
            (b"attach", Format::Text),
            (b"log site ../0198c0ffee0001", Format::Text),
            (b"log site /etc/passwd", Format::Text),
            (b"log site -", Format::Text),
            (b"log site 0198c0ffee0001 more", Format::Text),
            (b"rollback", Format::Text),
            (b"retry", Format::Text),
            (b"retry site 5d6e7f8", Format::Text),
            (b"rollback site ../5d6e7f8", Format::Text),
            (b"rollback site 5d6", Format::Text),
            (b"rollback site 5d6e7f8 more", Format::Text),
            (
                b"{\"op\":\"retry\",\"name\":\"a\",\"to\":\"5d6e7f8\"}",
                Format::Json,
            ),
            (
                b"{\"op\":\"trigger\",\"name\":\"a\",\"to\":\"5d6e7f8\"}",
                Format::Json,
            ),
            (
                b"{\"op\":\"rollback\",\"name\":\"a\",\"to\":\"HEAD\"}",
                Format::Json,
            ),
            (b"{\"op\":\"rollback\",\"to\":\"5d6e7f8\"}", Format::Json),
            (b"{\"op\":\"log\"}", Format::Json),
            (b"{\"op\":\"log\",\"name\":\"a\",\"run\":\"../b\"}", Format::Json),
            (b"{\"op\":\"log\",\"name\":\"a\",\"run\":7}", Format::Json),
            (
                b"{\"op\":\"status\",\"name\":\"a\",\"run\":\"newest\"}",
                Format::Json,
            ),
            (b"GET / HTTP/1.1", Format::Text),
            (b"{", Format::Json),
            (b"{\"op\":\"trigger\"", Format::Json),
            (b"{\"op\":\"trigger\"}", Format::Json),
            (b"{\"op\":\"trigger\",\"name\":\"a b\"}", Format::Json),
            (b"metrics site", Format::Text),
            (b"{\"op\":\"metrics\",\"name\":\"a\"}", Format::Json),
            (b"{\"op\":\"format\"}", Format::Json),
            (b"{\"op\":\"ping\",\"extra\":1}", Format::Json),
            (b"{\"op\":\"ping\xff\"}", Format::Json),
        ] {
            let (failure, answered) = parse(line).unwrap_err();
            assert_eq!(failure.kind, Kind::BadRequest);
            assert_eq!(answered, format, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn what_the_client_sends_is_understood() {
        for request in [
            trigger("site", false),
            operation("site", rollback(None), true),
            operation("site", rollback(Some("5d6e7f8")), false),
            operation("site", Task::Retry, true),
            Request::Status { name: None },
            log(None),
            log(Some(id())),
            log(Some(Which::Newest)),
            Request::Metrics,
            Request::Ping,
        ] {
            let line = request_line(&request, Some("t"));
            let parsed = parse(line.trim_end().as_bytes()).unwrap();
            assert_eq!(parsed, Line::Request(request, Format::Json, Some("t".into())));
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = fastrand::Rng::with_seed(crate::machine::seed());
        let seeds: [&[u8]; 7] = [
            b"rollback site 5d6e7f8",
            br#"{"op":"rollback","name":"s","to":"5d6e"}"#,
            b"trigger site",
            b"token x",
            br#"{"op":"trigger","name":"s"}"#,
            b"status",
            b"log site 0198c0ffee0001",
        ];
        for _ in 0..20_000 {
            let mut line = seeds[rng.usize(..seeds.len())].to_vec();
            for _ in 0..rng.usize(0..4) {
                let at = rng.usize(..line.len());
                match rng.u8(0..3) {
                    0 => line[at] = rng.u8(..),
                    1 => line.insert(at, rng.u8(..)),
                    _ => line.truncate(at.max(1)),
                }
            }
            if let Err((failure, _)) = parse(&line) {
                assert!(!failure.message.contains(char::is_control), "{failure:?}");
            }
        }
    }
}
