//! One thing asked of a daemon for several triggers at once, each over a connection of its own.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Show, ask::Daemon, given::trigger_name};
use crate::{
    base::{
        event::{Done, Event, Record},
        fault::{Failure, Kind},
        mutex,
        name::{RunId, TriggerName},
    },
    daemon::wire::Request,
};

/// How many connections there are at a time: a daemon has room for 256 over each listener, which others want to use as well.
const AT_ONCE: usize = 16;

#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    pub(super) json: bool,
    pub(super) quiet: bool,
}

impl Shown {
    /// For one name of those that there are.
    fn of(self, name: &TriggerName, is_alone: bool) -> Show {
        if is_alone {
            Show::new(self.json, self.quiet)
        } else {
            Show::among(self.json, self.quiet, name)
        }
    }
}

/// The names of triggers on the command line, each once. With one that cannot be, nothing is asked.
pub(super) fn names(shown: Shown, texts: &[&String]) -> Result<Vec<TriggerName>, ExitCode> {
    let show = Show::new(shown.json, shown.quiet);
    let mut names = Vec::new();
    for text in texts {
        let name = trigger_name(&show, text.as_str())?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// What is asked for each name, as the command line has it.
pub(super) struct Question<'a> {
    pub(super) names: Vec<&'a String>,
    pub(super) request: &'a (dyn Fn(&TriggerName) -> Request + Sync),
    pub(super) socket: Option<&'a str>,
    pub(super) token_file: Option<&'a PathBuf>,
    pub(super) shown: Shown,
    /// How long all of it may take.
    pub(super) timeout: Option<Duration>,
    /// What has been done if all is well, where the answer does not say it.
    pub(super) done: Option<&'static str>,
}

/// Ask the question, and show what comes of it: what happens as it happens, the last lines in the order of the names. The highest exit
/// status is that of all.
pub(super) fn ask(question: &Question<'_>) -> Result<ExitCode, ExitCode> {
    let names = names(question.shown, &question.names)?;
    let daemon = Daemon::find(question.socket, question.token_file)?;
    let until = question.timeout.map(|timeout| Instant::now() + timeout);
    let (next, ends) = (AtomicUsize::new(0), Mutex::new(Ends::new(names.len())));
    let work = || {
        while let Some((at, name)) = take(&names, &next) {
            let show = question.shown.of(name, names.len() == 1).saying(question.done);
            // Those that are asked at once have all of it.
            let left = until.filter(|_| at >= AT_ONCE).map(left).or(question.timeout);
            let last = question.put(&daemon, name, left, &show);
            mutex::lock(&ends).put(at, last, show);
        }
    };
    thread::scope(|scope| {
        for _ in 1..names.len().min(AT_ONCE) {
            let thread = thread::Builder::new().name("ask".into());
            // With fewer threads it only takes longer.
            if thread.spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let exit = mutex::lock(&ends).exit;
    Ok(ExitCode::from(exit))
}

fn take<'a>(names: &'a [TriggerName], next: &AtomicUsize) -> Option<(usize, &'a TriggerName)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    names.get(at).map(|name| (at, name))
}

/// How long it is until `until`, as it can be said.
fn left(until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    Duration::from_millis(left.as_millis().try_into().unwrap_or(u64::MAX))
}

impl Question<'_> {
    /// Put the question to `daemon` for `name`, which has `left`, and give the last record of the answer.
    fn put(&self, daemon: &Daemon, name: &TriggerName, left: Option<Duration>, show: &Show) -> Record {
        let failed = |failure| Record {
            run: RunId::none(),
            event: Event::Done(Done::failed(name.as_str(), failure)),
        };
        if left == Some(Duration::ZERO) {
            return failed(Failure::new(
                Kind::Timeout,
                format!(
                    "this request was not sent: {AT_ONCE} are sent at a time, and the others took the whole time"
                ),
                Some("name fewer triggers at once, or give a longer --timeout"),
            ));
        }
        let mut last = None;
        let answer = daemon.ask(&(self.request)(name), left, |record| match record.event {
            Event::Done(_) => last = Some(record.clone()),
            _ => show.record(record),
        });
        match (answer, last) {
            (Ok(_), Some(last)) => last,
            (Ok(done), None) => Record {
                run: RunId::none(),
                event: Event::Done(done),
            },
            (Err(failure), _) => failed(failure),
        }
    }
}

/// The ends of all answers. One is shown when those in front of it have been.
struct Ends {
    waiting: Vec<Option<(Record, Show)>>,
    shown: usize,
    exit: u8,
}

impl Ends {
    fn new(count: usize) -> Self {
        Self {
            waiting: (0..count).map(|_| None).collect(),
            shown: 0,
            exit: 0,
        }
    }

    fn put(&mut self, at: usize, last: Record, show: Show) {
        if let Event::Done(done) = &last.event {
            self.exit = self.exit.max(done.exit);
        }
        self.waiting[at] = Some((last, show));
        while let Some((last, show)) = self.waiting.get_mut(self.shown).and_then(Option::take) {
            show.record(&last);
            self.shown += 1;
        }
    }
}
