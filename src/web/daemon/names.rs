//! Names on their way to the daemon: each is sent once for all clients that ask for it meanwhile, and none is lost while the
//! daemon is away.
//!
//! A name that is on its way may have arrived already, so a client that asks then needs it to be sent once more. All that ask
//! until that is done share it: a thousand deliveries are two requests. Only the names that are to be sent are kept.

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

/// How long after a failure the daemon is tried again, at first and at most; a name that arrives counts as a first one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Names on their way at once: an operator's page may name what no configuration does.
const MAX_NAMES: usize = 10_000;

/// The names on their way.
#[derive(Debug)]
pub(super) struct Names {
    connector: Arc<Connector>,
    state: Mutex<State>,
    /// A name has come while the daemon is away.
    arrival: Bell,
}

#[derive(Debug, Default)]
struct State {
    lanes: BTreeMap<TriggerName, Arc<Lane>>,
    /// Why the daemon is away, if it is; then one task tries again for all.
    away: Option<Failure>,
}

/// The note of a name that many may ask for: that of the first, and how many more there are.
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

    /// The note of before comes first.
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
    /// The number of the request that is wanted, that has begun last, and that was answered last.
    wanted: u64,
    begun: u64,
    answer: Option<(u64, Result<RunId, Failure>)>,
    /// The note of the next request.
    asked: Asked,
    /// Whether a task sees to it.
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

    /// Send `name` with `note`. It is sent even if this is dropped.
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

    /// Names that wait for the daemon to be back.
    pub(super) fn kept(&self) -> Vec<TriggerName> {
        let state = mutex::lock(&self.state);
        match state.away {
            Some(_) => state.lanes.keys().cloned().collect(),
            None => Vec::new(),
        }
    }

    /// Have `name` sent: its lane, and the number of the request.
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

    /// Send `name` as often as it is wanted. What fails because the daemon is away stays wanted.
    /// Gives why it was refused, if it was.
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

    /// The daemon is away: try again until all names are sent.
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
                    // However many arrivals there are, the daemon is not asked more often.
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

    /// Send all that is wanted, one after the other: the daemon has just begun to serve.
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
                    // Some came before that we had passed.
                    None => after = None,
                }
                continue;
            };
            // Another task may still be at it: it has begun before the daemon was found to be away.
            let attended = std::mem::replace(&mut mutex::lock(&lane.progress).attended, true);
            if attended {
                failed = mutex::lock(&self.state).away.clone();
            } else {
                match self.attend(&name, &lane).await {
                    Ok(None) => sent += 1,
                    // The client was told that it is kept.
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
