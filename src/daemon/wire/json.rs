//! Requests in JSON.

use serde::Deserialize;

use super::{Format, Line, Request, bad, earlier, note, shown, trigger_name, which};
use crate::base::{event::Task, fault::Failure, name::TriggerName, words::cut};

/// The object of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    op: String,
    name: Option<String>,
    token: Option<String>,
    wait: Option<bool>,
    names: Option<Vec<String>>,
    run: Option<String>,
    to: Option<String>,
    hooks: Option<bool>,
    note: Option<String>,
    reason: Option<String>,
    limit: Option<u32>,
}

/// The request in `line`, with its token.
pub(super) fn parse(line: &str) -> Result<Line, Failure> {
    let json: Json = serde_json::from_str(line).map_err(|err| {
        bad(format!(
            "the request is not the JSON expected: {}",
            cut(&err.to_string(), 200)
        ))
    })?;
    let token = json.token.clone();
    json.request()
        .map(|request| Line::Request(request, Format::Json, token))
}

impl Json {
    fn request(self) -> Result<Request, Failure> {
        self.only("rollback", "to", self.to.is_some())?;
        self.only("log", "run", self.run.is_some())?;
        self.only("log", "limit", self.limit.is_some())?;
        self.only("status", "names", self.names.is_some())?;
        self.only("trigger", "hooks", self.hooks.is_some())?;
        self.only("pause", "reason", self.reason.is_some())?;
        let task = match self.op.as_str() {
            "trigger" if self.hooks == Some(true) => Task::Hooks,
            "trigger" => Task::Update,
            "retry" => Task::Retry,
            "rollback" => Task::Rollback {
                to: self.to.as_deref().map(earlier).transpose()?,
            },
            _ => return self.question(),
        };
        Ok(Request::Trigger {
            name: self.needed()?,
            task,
            wait: self.wait.unwrap_or(true),
            note: self.note.as_deref().map(note).transpose()?,
        })
    }

    /// A request that starts no run.
    fn question(self) -> Result<Request, Failure> {
        if self.note.is_some() {
            return Err(bad(format!("{:?} takes no \"note\"", shown(&self.op))));
        }
        match self.op.as_str() {
            "pause" => Ok(Request::Pause {
                name: self.needed()?,
                reason: self.reason.as_deref().map(note).transpose()?,
            }),
            "resume" => Ok(Request::Resume { name: self.needed()? }),
            "status" => {
                let named = self.name.iter().chain(self.names.iter().flatten());
                let names = named.map(|name| trigger_name(name)).collect::<Result<_, _>>()?;
                Ok(Request::Status { names })
            }
            "log" => {
                let name = self.name.as_deref().map(trigger_name).transpose()?;
                let run = self.run.as_deref().map(which).transpose()?;
                if name.is_none() && run.is_some() {
                    return Err(bad("\"name\" is missing"));
                }
                let limit = self.limit;
                Ok(Request::Log { name, run, limit })
            }
            "ping" | "metrics" if self.name.is_some() => Err(bad(format!("{:?} takes no \"name\"", self.op))),
            "ping" => Ok(Request::Ping),
            "metrics" => Ok(Request::Metrics),
            op => Err(bad(format!("the op {:?} is unknown", shown(op)))),
        }
    }

    /// Check that only the request `op` has `field`.
    fn only(&self, op: &str, field: &str, is_there: bool) -> Result<(), Failure> {
        if is_there && self.op != op {
            return Err(bad(format!("only {op:?} takes a {field:?}")));
        }
        Ok(())
    }

    fn needed(&self) -> Result<TriggerName, Failure> {
        let name = self.name.as_deref().ok_or_else(|| bad("\"name\" is missing"))?;
        trigger_name(name)
    }
}
