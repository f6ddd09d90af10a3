//! The events of one run, kept so that any number of clients can follow it at their own pace.
//!
//! A run writes and never waits. A follower that is too slow misses events, and gets their number; it cannot delay the run or other
//! followers, and needs no memory for events that it has not read.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use event_listener::Event as Bell;

use crate::base::{
    event::{Event, Record},
    mutex,
    name::RunId,
};

/// How many events are kept for followers, and how many bytes of text from hooks and remotes.
const KEPT: usize = 4096;
const KEPT_BYTES: usize = 2 * 1024 * 1024;

/// The events of one run.
#[derive(Debug)]
pub struct Journal {
    run: RunId,
    pages: Mutex<Pages>,
    bell: Bell,
}

#[derive(Debug, Default)]
struct Pages {
    events: VecDeque<Event>,
    /// The sum of their [`weight`]s.
    bytes: usize,
    /// How many events were dropped.
    dropped: u64,
    /// How many of these were more than progress.
    lost: u64,
    is_done: bool,
}

impl Journal {
    /// An empty journal for `run`.
    pub fn new(run: RunId) -> Arc<Self> {
        Arc::new(Self {
            run,
            pages: Mutex::default(),
            bell: Bell::new(),
        })
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Add `event` and wake all followers.
    ///
    /// Nothing follows [`Event::Done`].
    pub fn write(&self, event: Event) {
        let mut pages = self.pages();
        if pages.is_done {
            return;
        }
        pages.is_done = matches!(event, Event::Done(_));
        pages.push(event);
        drop(pages);
        self.bell.notify(usize::MAX);
    }

    /// The events that are kept, without progress, and how many events before them are lost.
    pub fn kept(&self) -> (u64, Vec<Event>) {
        let pages = self.pages();
        let events = pages.events.iter().filter(|event| is_to_keep(event));
        (pages.lost, events.cloned().collect())
    }

    /// Follow from the first event that is still kept.
    pub fn follow(self: &Arc<Self>) -> Follower {
        Follower {
            journal: self.clone(),
            next: 0,
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        mutex::lock(&self.pages)
    }
}

impl Pages {
    fn push(&mut self, event: Event) {
        self.bytes += weight(&event);
        self.events.push_back(event);
        while self.events.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some(first) = self.events.pop_front() else {
                return;
            };
            self.bytes -= weight(&first);
            self.dropped += 1;
            self.lost += u64::from(is_to_keep(&first));
        }
    }
}

/// The size of the text in an event, if a hook or a remote has written it.
fn weight(event: &Event) -> usize {
    match event {
        Event::HookLine { line, .. } | Event::Remote { line } => line.len(),
        Event::Warning { message } => message.len(),
        _ => 0,
    }
}

/// Whether the event is kept in the history: progress is only for clients that follow.
fn is_to_keep(event: &Event) -> bool {
    !matches!(event, Event::Progress { .. })
}

/// The position of a client in a journal.
#[derive(Debug)]
pub struct Follower {
    journal: Arc<Journal>,
    next: u64,
}

impl Follower {
    /// The next event. It must not be called again after [`Event::Done`].
    pub async fn next(&mut self) -> Record {
        loop {
            let listener = self.journal.bell.listen();
            if let Some(event) = self.try_next() {
                return Record {
                    run: self.journal.run.clone(),
                    event,
                };
            }
            listener.await;
        }
    }

    fn try_next(&mut self) -> Option<Event> {
        let pages = self.journal.pages();
        if self.next < pages.dropped {
            let lost = pages.dropped - self.next;
            self.next = pages.dropped;
            return Some(Event::Lagged { lost });
        }
        let at = usize::try_from(self.next - pages.dropped).ok()?;
        let event = pages.events.get(at)?.clone();
        self.next += 1;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::base::event::{Done, Outcome};

    fn warning(n: usize) -> Event {
        Event::Warning {
            message: n.to_string(),
        }
    }

    #[test]
    fn all_followers_see_all_events() {
        let journal = Journal::new(RunId::new());
        let mut early = journal.follow();
        journal.write(warning(1));
        journal.write(Event::Done(Done::answered("x", Outcome::Updated)));
        journal.write(warning(2));
        let mut late = journal.follow();
        for follower in [&mut early, &mut late] {
            assert_eq!(block_on(follower.next()).event, warning(1));
            assert!(matches!(block_on(follower.next()).event, Event::Done(_)));
        }
    }

    #[test]
    fn a_slow_follower_is_told_what_it_missed() {
        let journal = Journal::new(RunId::new());
        let mut follower = journal.follow();
        for n in 0..KEPT + 10 {
            journal.write(warning(n));
        }
        assert_eq!(block_on(follower.next()).event, Event::Lagged { lost: 10 });
        assert_eq!(block_on(follower.next()).event, warning(10));
    }

    #[test]
    fn long_lines_are_bounded_in_bytes() {
        let journal = Journal::new(RunId::new());
        let line = |n: usize| Event::HookLine {
            stream: crate::base::event::Stream::Stdout,
            line: format!("{n:08192}"),
        };
        for n in 0..300 {
            journal.write(line(n));
        }
        let room = KEPT_BYTES / 8192;
        let (lost, events) = journal.kept();
        assert_eq!((lost, events.len()), (300 - room as u64, room));
        assert_eq!(events.last(), Some(&line(299)));
    }

    #[test]
    fn progress_is_followed_but_not_kept() {
        let journal = Journal::new(RunId::new());
        let progress = Event::Progress {
            phase: crate::base::event::Phase::Fetch,
            done: 1,
            total: None,
            unit: crate::base::event::Unit::Objects,
        };
        journal.write(warning(0));
        for _ in 0..KEPT + 9 {
            journal.write(progress.clone());
        }
        journal.write(warning(1));
        assert_eq!(
            block_on(journal.follow().next()).event,
            Event::Lagged { lost: 11 }
        );
        assert_eq!(journal.kept(), (1, vec![warning(1)]));
    }

    #[test]
    fn a_waiting_follower_is_woken() {
        let journal = Journal::new(RunId::new());
        let mut follower = journal.follow();
        let waiting = std::thread::spawn(move || block_on(follower.next()).event);
        journal.write(warning(1));
        assert_eq!(waiting.join().unwrap(), warning(1));
    }
}
