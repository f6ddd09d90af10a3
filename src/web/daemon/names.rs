//! Names on their way to the daemon: clients that ask for the same name share a request, and no name is lost while the daemon is
//! down.
//!
//! A request that was sent may have been handled already, so a client that asks after that needs another one. All clients that ask
//! until then share that one: a thousand deliveries are two requests. Only the names that still have to be sent are kept.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_std::{future::timeout, task};
use event_listener::Event as Bell;

use super::answer::{Connector, is_away};
use crate::base::{
    event::Task,
    fault::{Failure, Kind},
    mutex,
    name::{Note, RunId, TriggerName},
};

/// How long a delivery waits for the daemon: forges give up after 5 to 30 s, most after 10.
const PATIENCE: Duration = Duration::from_secs(5);

/// The first and the longest pause between attempts while the daemon is down; a new name starts with the first one again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How many names may be on their way at once: the pages take any name, not only configured ones.
const MAX_NAMES: usize = 10_000;

/// The names on their way.
#[derive(Debug)]
pub(super) struct Names {
    connector: Arc<Connector>,
    state: Mutex<State>,
    /// Rings when a name arrives while the daemon is down.
    arrival: Bell,
}

#[derive(Debug, Default)]
struct State {
    lanes: BTreeMap<TriggerName, Arc<Lane>>,
    /// Why the daemon is down, if it is; then one task tries again for all names.
    away: Option<Failure>,
}

/// The note of a shared request: the first client's note, and the number of others.
#[derive(Debug, Default)]
struct Asked {
    first: Option<Note>,
    more: u64,
}

impl Asked {
    fn add(&mut self, note: Option<Note>) {
        match &self.first {
            None => self.first = note,
            Some(_) => self.more += 1,
        }
    }

    /// Merge with the note of an earlier request, which comes first.
    fn add_before(&mut self, before: Self) {
        let after = std::mem::replace(self, before);
        if after.first.is_some() {
            self.add(after.first);
        }
        self.more += after.more;
    }

    fn note(&self) -> Option<Note> {
        let first = self.first.as_ref()?;
        let end = match self.more {
            0 => return Some(first.clone()),
            more => format!(" (and {more} more)"),
        };
        let most = Note::MAX_CHARS.saturating_sub(end.chars().count());
        let start: String = first.as_str().chars().take(most).collect();
        Note::lossy(&(start + &end))
    }
}

#[derive(Debug, Default)]
struct Lane {
    progress: Mutex<Progress>,
    answered: Bell,
}

#[derive(Debug, Default)]
struct Progress {
    /// The numbers of the request that is wanted, and of the last one that has begun.
    wanted: u64,
    begun: u64,
    answer: Option<(u64, Result<RunId, Failure>)>,
    /// The note of the next request.
    asked: Asked,
    /// Whether a task sends it.
    attended: bool,
}

impl Lane {
    /// The answer to the request `wanted`, or to a later one.
    async fn answer_to(&self, wanted: u64) -> Result<RunId, Failure> {
        loop {
            let answered = self.answered.listen();
            match &mutex::lock(&self.progress).answer {
                Some((number, answer)) if *number >= wanted => return answer.clone(),
                _ => {}
            }
            answered.await;
        }
    }
}

impl Names {
    pub(super) fn new(connector: Arc<Connector>) -> Arc<Self> {
        Arc::new(Self {
            connector,
            state: Mutex::default(),
            arrival: Bell::new(),
        })
    }

    /// Send `name` with `note`. It is sent even if this future is dropped.
    pub(super) async fn send(
        self: &Arc<Self>,
        name: &TriggerName,
        note: Option<Note>,
    ) -> Result<RunId, Failure> {
        let (lane, wanted) = self.want(name, note)?;
        timeout(PATIENCE, lane.answer_to(wanted))
            .await
            .unwrap_or_else(|_| Err(self.is_kept(name)))
    }

    /// The names whose requests are not answered.
    pub(super) fn pending(&self) -> Vec<TriggerName> {
        mutex::lock(&self.state).lanes.keys().cloned().collect()
    }

    /// The names that wait until the daemon is back.
    pub(super) fn kept(&self) -> Vec<TriggerName> {
        let state = mutex::lock(&self.state);
        match state.away {
            Some(_) => state.lanes.keys().cloned().collect(),
            None => Vec::new(),
        }
    }

    /// Let `name` be sent; gives its lane, and the number of the request.
    fn want(self: &Arc<Self>, name: &TriggerName, note: Option<Note>) -> Result<(Arc<Lane>, u64), Failure> {
        let mut state = mutex::lock(&self.state);
        if state.lanes.len() >= MAX_NAMES && !state.lanes.contains_key(name) {
            let message = format!("{MAX_NAMES} names wait for the daemon already");
            return Err(Failure::new(
                Kind::Busy,
                message,
                Some("see why the daemon is away"),
            ));
        }
        let lane = state.lanes.entry(name.clone()).or_default().clone();
        let mut progress = mutex::lock(&lane.progress);
        let wanted = progress.begun + 1;
        progress.wanted = wanted;
        progress.asked.add(note);
        if state.away.is_some() {
            self.arrival.notify(1);
        } else if !progress.attended {
            progress.attended = true;
            let (names, name, lane) = (self.clone(), name.clone(), lane.clone());
            task::spawn(async move {
                if let Err(failure) = names.attend(&name, &lane).await {
                    names.keep(failure);
                }
            });
        }
        drop(progress);
        Ok((lane, wanted))
    }

    /// Send `name` until no further request is wanted. An error means that the daemon is down, and that the name is still wanted.
    /// `Ok` gives the reason if the daemon refused it.
    async fn attend(&self, name: &TriggerName, lane: &Lane) -> Result<Option<Failure>, Failure> {
        loop {
            let (number, asked) = {
                let mut progress = mutex::lock(&lane.progress);
                progress.begun += 1;
                (progress.begun, std::mem::take(&mut progress.asked))
            };
            let answer = self.connector.send(name, Task::Update, asked.note()).await;
            let mut state = mutex::lock(&self.state);
            let mut progress = mutex::lock(&lane.progress);
            if let Err(failure) = &answer
                && is_away(failure)
            {
                progress.attended = false;
                progress.asked.add_before(asked);
                return Err(failure.clone());
            }
            let refused = answer.as_ref().err().cloned();
            progress.answer = Some((number, answer));
            lane.answered.notify(usize::MAX);
            if progress.wanted <= number {
                state.lanes.remove(name);
                return Ok(refused);
            }
        }
    }

    /// The daemon is down: try again until all names are sent.
    fn keep(self: &Arc<Self>, failure: Failure) {
        let mut state = mutex::lock(&self.state);
        if state.away.replace(failure.clone()).is_none() {
            tracing::warn!(
                kind = failure.kind.as_str(),
                "names are kept until the daemon is back: {}",
                failure.message
            );
            task::spawn(self.clone().try_again());
        }
    }

    async fn try_again(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let arrival = self.arrival.listen();
            pause = match timeout(pause, arrival).await {
                Ok(()) => {
                    // A limit for the attempts, however many names arrive.
                    task::sleep(FIRST_PAUSE).await;
                    FIRST_PAUSE
                }
                Err(_) => LONGEST_PAUSE.min(pause * 2),
            };
            match self.send_all().await {
                Ok(()) => return,
                Err(failure) => mutex::lock(&self.state).away = Some(failure),
            }
        }
    }

    /// Send all names, one after the other, since the daemon has only just started.
    async fn send_all(&self) -> Result<(), Failure> {
        let mut sent = 0;
        let mut failed = None;
        let mut after: Option<TriggerName> = None;
        loop {
            let next = {
                let mut state = mutex::lock(&self.state);
                if state.lanes.is_empty() {
                    state.away = None;
                    tracing::info!(sent, "the daemon is back");
                    return Ok(());
                }
                let is_next = |name: &TriggerName| after.as_ref().is_none_or(|after| name > after);
                let next = state.lanes.iter().find(|(name, _)| is_next(name));
                next.map(|(name, lane)| (name.clone(), lane.clone()))
            };
            let Some((name, lane)) = next else {
                match failed {
                    Some(failure) => return Err(failure),
                    // New names have arrived that come earlier in the order.
                    None => after = None,
                }
                continue;
            };
            // Another task may still be sending it, since before the daemon was found to be down.
            let attended = std::mem::replace(&mut mutex::lock(&lane.progress).attended, true);
            if attended {
                failed = mutex::lock(&self.state).away.clone();
            } else {
                match self.attend(&name, &lane).await {
                    Ok(None) => sent += 1,
                    // Logged, since the client was told only that the name is kept.
                    Ok(Some(failure)) => tracing::warn!(
                        trigger = name.as_str(),
                        kind = failure.kind.as_str(),
                        "a name that was kept is refused: {}",
                        failure.message
                    ),
                    Err(failure) => failed = Some(failure),
                }
            }
            after = Some(name);
        }
    }

    fn is_kept(&self, name: &TriggerName) -> Failure {
        let why = mutex::lock(&self.state).away.clone();
        let (kind, message) = why.map_or_else(
            || (Kind::Timeout, "the daemon has not answered yet".to_owned()),
            |failure| (failure.kind, failure.message),
        );
        let (once, help) = match kind {
            Kind::NotAllowed => (
                "once it is permitted",
                "let the front's user connect to the daemon's socket; if the trigger has `allow`, name that user in it",
            ),
            _ => (
                "when the daemon is back",
                "see whether the daemon runs, and its log",
            ),
        };
        Failure::new(
            kind,
            format!("{message}; the name {name} is kept, and sent {once}"),
            Some(help),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_say_is_one_note() {
        let note = |text: &str| Note::lossy(text);
        let mut asked = Asked::default();
        assert_eq!(asked.note(), None);
        asked.add(None);
        asked.add(note("one"));
        assert_eq!(asked.note(), note("one"));
        asked.add(note("two"));
        asked.add(None);
        assert_eq!(asked.note(), note("one (and 2 more)"));
        // What could not be sent comes again, before what has come meanwhile.
        let mut later = Asked::default();
        later.add_before(asked);
        assert_eq!(later.note(), note("one (and 2 more)"));
        let mut later = Asked::default();
        later.add(note("three"));
        let mut before = Asked::default();
        before.add(note(&"x".repeat(Note::MAX_CHARS)));
        later.add_before(before);
        let said = later.note().map(|note| note.to_string()).unwrap_or_default();
        assert!(
            said.chars().count() == Note::MAX_CHARS && said.ends_with("x (and 1 more)"),
            "{said}"
        );
    }
}
