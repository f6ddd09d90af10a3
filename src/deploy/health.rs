//! The health check of a deployed commit: the check is repeated until it has succeeded often enough in a row, or the time for it
//! is over.

use std::time::{Duration, Instant};

use crate::{
    base::{
        address::TcpAddr,
        event::Sink,
        fault::{Blame, Kind},
        watch::{Early, Watch},
    },
    config::{Check, Health},
    deploy::hook,
    git::transport::{
        Deadline,
        http::Question,
        tcp::{self, Peer},
    },
};

mod teller;
use teller::Teller;

/// How long one check may take, whatever `within` is: the end of the daemon waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long before the end of `within` the last check begins: this, or a tenth of `within` if that is less.
const LAST: Duration = Duration::from_secs(1);
/// The answer before the first check.
const NOT_ASKED: &str = "it was not checked yet";

/// The health check did not succeed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// It did not succeed within `within`.
    #[error("{what} was not healthy within {within}; its last answer: {answer}")]
    #[diagnostic(help(
        "see the log of that service; raise `within` if it needs longer to start; the next trigger repeats the check"
    ))]
    Unhealthy {
        what: String,
        within: String,
        answer: String,
    },
    /// The run's time was over before that.
    #[error("{what} was not healthy yet: {answer}")]
    #[diagnostic(help(
        "raise the trigger's `run_timeout` above what hooks and `health` need; the next trigger repeats the check"
    ))]
    Late { what: String, answer: String },
    /// The daemon stops.
    #[error("the daemon stops, and {what} was not healthy yet: {answer}")]
    #[diagnostic(help("the check is repeated once the daemon is back"))]
    Stopping { what: String, answer: String },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unhealthy { .. } => Kind::Unhealthy,
            Self::Late { .. } => Kind::Timeout,
            Self::Stopping { .. } => Kind::Stopping,
        }
    }
}

/// Runs the program of the check, with its time limit and the receiver of its lines.
pub type Program<'a> = &'a dyn Fn(Duration, &Sink) -> Result<(), hook::Error>;

struct Answer {
    text: String,
    is_good: bool,
}

/// Repeat the check until it has succeeded often enough.
pub fn wait(health: &Health, watch: &Watch, events: &Sink, program: Program<'_>) -> Result<(), Error> {
    let asked = Asked::new(&health.check, program);
    let mut answer = NOT_ASKED.to_owned();
    watch
        .pause(health.after)
        .map_err(|early| asked.early(early, answer.clone()))?;
    let began = Instant::now();
    let left = || health.within.saturating_sub(began.elapsed());
    let mut teller = Teller::new(events);
    let mut row = 0;
    loop {
        let said = asked.ask(left().min(watch.left()), &mut teller);
        row = if said.is_good { row + 1 } else { 0 };
        if row >= health.times.get() {
            teller.end(said.text);
            return Ok(());
        }
        answer = match row {
            // A check that had no time left says less than the one before.
            0 if left() < Duration::from_millis(1) && answer != NOT_ASKED => answer,
            0 => said.text,
            row => format!("{}, {row} of {} times", said.text, health.times),
        };
        if watch.is_over() {
            return Err(asked.early(Early::Over, answer));
        }
        let Some(pause) = pause(health, left()) else {
            teller.flush();
            return Err(Error::Unhealthy {
                what: asked.name(),
                within: humantime::format_duration(health.within).to_string(),
                answer,
            });
        };
        teller.tell(&answer, said.is_good, pause);
        watch
            .pause(pause)
            .map_err(|early| asked.early(early, answer.clone()))?;
    }
}

/// How long to wait before the next check, with so much time `left`; `None` if there is no next one. The last check begins early
/// enough to get an answer.
fn pause(health: &Health, left: Duration) -> Option<Duration> {
    let before = left.saturating_sub(LAST.min(health.within / 10));
    (!before.is_zero()).then(|| health.every.min(before))
}

/// The TCP port of the check, for the sandbox.
pub fn port(health: &Health) -> Option<u16> {
    match &health.check {
        Check::Http { url, host } => Some(Question::new(url, host.as_deref()).ok()?.port()),
        Check::Tcp(address) => Some(address.host_and_port().1),
        Check::Exec(_) => None,
    }
}

/// The check, ready to be made.
enum Asked<'a> {
    Http(Box<Question>),
    Tcp(&'a TcpAddr),
    Program(Program<'a>),
    Nothing(String, String),
}

impl<'a> Asked<'a> {
    fn new(check: &'a Check, program: Program<'a>) -> Self {
        match check {
            Check::Http { url, host } => match Question::new(url, host.as_deref()) {
                Ok(question) => Self::Http(Box::new(question)),
                Err(err) => Self::Nothing("`health`".into(), err.to_string()),
            },
            Check::Tcp(address) => Self::Tcp(address),
            Check::Exec(_) => Self::Program(program),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Http(question) => question.shown().into(),
            Self::Tcp(address) => address.addr.clone(),
            Self::Program(_) => "the program of `health`".into(),
            Self::Nothing(name, _) => name.clone(),
        }
    }

    fn ask(&self, left: Duration, teller: &mut Teller<'_>) -> Answer {
        // More digits are of no interest.
        let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        let deadline = Deadline::new(left.min(PATIENCE));
        let answered = match self {
            Self::Http(question) => match question.ask(deadline) {
                Ok(status) if (200..400).contains(&status.as_u16()) => Ok(status.to_string()),
                Ok(status) => Err(status.to_string()),
                Err(err) => Err(err.to_string()),
            },
            Self::Tcp(address) => connect(address, deadline).map(|()| "a connection is accepted".into()),
            Self::Program(run) => teller.listen(|events| match run(left, events) {
                Ok(()) => Ok("exit status 0".into()),
                Err(hook::Error::Failed { status, .. }) => Err(status),
                Err(err) => Err(err.to_string()),
            }),
            Self::Nothing(_, why) => Err(why.clone()),
        };
        match answered {
            Ok(text) => Answer { text, is_good: true },
            Err(text) => Answer { text, is_good: false },
        }
    }

    fn early(&self, early: Early, answer: String) -> Error {
        let what = self.name();
        match early {
            Early::Over => Error::Late { what, answer },
            Early::Stopping => Error::Stopping { what, answer },
        }
    }
}

fn connect(address: &TcpAddr, deadline: Deadline) -> Result<(), String> {
    let (host, port) = address.host_and_port();
    let peer = Peer {
        host: address.addr.clone(),
        url: String::new(),
    };
    match tcp::connect(host, port, peer, deadline) {
        Ok(_) => Ok(()),
        Err(tcp::Error::Timeout { after, .. }) => Err(format!(
            "no connection within {}",
            humantime::format_duration(after)
        )),
        Err(tcp::Error::Resolve { source, .. }) => Err(format!("it has no address: {source}")),
        Err(tcp::Error::Connect { source, .. } | tcp::Error::Lost { source, .. }) => Err(source.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
