//! All communication with the daemon: [`Daemon`].
//!
//! The daemon may be down for a moment, busy or restarted. Names that deliveries trigger are kept until it is back, each once; other
//! requests fail.

use std::{sync::Arc, time::Duration};

use crate::{
    base::{
        address::Address,
        event::{Current, Done, Event, Last, Outcome, Record, Status, Task},
        fault::{Failure, Kind},
        name::{AbsPath, Note, RunId, TriggerName},
    },
    daemon::wire::Request,
};

mod answer;
mod follow;
mod names;

pub use follow::{Follower, Line};

use answer::Connector;
use follow::Runs;
use names::Names;

/// How long a question may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer to a question, in bytes: each trigger's status takes a few kilobytes.
const MAX_ANSWER: usize = 64 << 20;

/// A daemon, as the front reaches it. Clones share it.
#[derive(Debug, Clone)]
pub struct Daemon {
    connector: Arc<Connector>,
    names: Arc<Names>,
    runs: Arc<Runs>,
}

/// The runs of a trigger.
#[derive(Debug, Default)]
pub struct Log {
    /// Those that go on or wait.
    pub current: Vec<Current>,
    /// Those that have ended, the newest first.
    pub past: Vec<Last>,
}

impl Daemon {
    /// For the daemon at `address`; `token_file` holds the token of its listener, if it has one.
    pub fn new(address: Address, token_file: Option<AbsPath>) -> Self {
        let connector = Arc::new(Connector::new(address, token_file));
        Self {
            names: Names::new(connector.clone()),
            runs: Arc::default(),
            connector,
        }
    }

    /// Send `name` with `note`, and give the run's id as soon as the daemon has accepted it. `by` names the client in the log
    /// of this process.
    ///
    /// All clients that ask for an update while the one before is on its way share one request. If the daemon is down, this waits as
    /// long as most forges do, and then fails; the name is kept, and sent once the daemon is back. Other tasks are sent at once or not at all,
    /// since an operator sees the error.
    pub async fn trigger(
        &self,
        name: &TriggerName,
        task: Task,
        (note, by): (Option<Note>, &str),
    ) -> Result<RunId, Failure> {
        let said = match task {
            Task::Update => self.names.send(name, note).await,
            task => self.connector.send(name, task, note).await,
        };
        match &said {
            Ok(run) => tracing::info!(trigger = name.as_str(), run = run.as_str(), "triggered by {by}"),
            Err(failure) if failure.kind == Kind::Paused => {
                tracing::info!(
                    trigger = name.as_str(),
                    "not triggered by {by}: {}",
                    failure.message
                );
            }
            Err(failure) => tracing::warn!(
                trigger = name.as_str(),
                kind = failure.kind.as_str(),
                "not triggered by {by}: {}",
                failure.message
            ),
        }
        said
    }

    /// Pause or resume a trigger: sent at once, or not at all. `by` names the client in the log of this process.
    pub async fn pause(&self, request: &Request, by: &str) -> Result<(), Failure> {
        let said = self.ask(request).await;
        let (what, name) = match request {
            Request::Pause { name, .. } => ("paused", name.as_str()),
            _ => ("resumed", request.trigger().map_or("-", TriggerName::as_str)),
        };
        match &said {
            Ok(_) => tracing::info!(trigger = name, "{what} by {by}"),
            Err(failure) => {
                let kind = failure.kind.as_str();
                tracing::warn!(trigger = name, kind, "not {what} by {by}: {}", failure.message);
            }
        }
        said.map(drop)
    }

    /// The status of `name`, or of all triggers that this process's user may use.
    pub async fn status(&self, name: Option<&TriggerName>) -> Result<Vec<Status>, Failure> {
        let request = Request::Status {
            names: name.cloned().into_iter().collect(),
        };
        let records = self.ask(&request).await?;
        let status = |record: Record| match record.event {
            Event::Status(status) => Some(*status),
            _ => None,
        };
        Ok(records.into_iter().filter_map(status).collect())
    }

    /// The runs of `name`.
    pub async fn log(&self, name: &TriggerName) -> Result<Log, Failure> {
        let request = Request::Log {
            name: Some(name.clone()),
            run: None,
            limit: None,
        };
        let mut log = Log::default();
        for Record { run, event } in self.ask(&request).await? {
            match event {
                Event::GoingOn(going_on) => log.current.push(Current { run, going_on }),
                Event::Past(past) => log.past.push(Last { run, past }),
                _ => {}
            }
        }
        Ok(log)
    }

    /// Whether the daemon answers.
    pub async fn ping(&self) -> Result<(), Failure> {
        self.ask(&Request::Ping).await.map(drop)
    }

    /// The events of the answer to a question, without its end.
    pub async fn ask(&self, request: &Request) -> Result<Vec<Record>, Failure> {
        self.connector.ask(request, PATIENCE, MAX_ANSWER).await
    }

    /// Follow the run `run` of `name`, whether or not it has ended, from the line after `after`.
    pub fn follow(&self, name: &TriggerName, run: &RunId, after: Option<&str>) -> Follower {
        self.runs.follow(&self.connector, name, run, after)
    }

    /// Names that the daemon has not accepted yet: a request is on its way, or waits until the daemon is back.
    pub fn pending(&self) -> Vec<TriggerName> {
        self.names.pending()
    }

    /// Names that are kept until the daemon is back.
    pub fn kept(&self) -> Vec<TriggerName> {
        self.names.kept()
    }
}

/// The result that the last event of an answer has.
fn ended(done: Done) -> Result<Outcome, Failure> {
    match done.failure {
        Some(failure) => Err(failure),
        None => Ok(done.outcome),
    }
}
