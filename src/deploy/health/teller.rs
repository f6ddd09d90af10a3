//! What is told of a long wait: each new answer, and no line again and again.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::base::{
    event::{Event, Sink},
    mutex,
};

/// As many new answers are told at once.
const AT_ONCE: u32 = 10;
/// After those, one in that time: it may be another one each time.
const PACE: Duration = Duration::from_secs(10);
/// As many events, lines most of them, of one question to a program are kept until it is known whether they are told.
const KEPT: usize = 100;

pub(super) struct Teller<'a> {
    events: &'a Sink,
    /// The answer that was told last.
    told: Option<String>,
    count: u32,
    last: Instant,
    /// What the program has printed since then.
    heard: Vec<Event>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(events: &'a Sink) -> Self {
        Self {
            events,
            told: None,
            count: 0,
            last: Instant::now(),
            heard: Vec::new(),
        }
    }

    /// There was an answer, which is not the last.
    pub(super) fn tell(&mut self, answer: &str, good: bool, again: Duration) {
        let is_due = self.count < AT_ONCE || self.last.elapsed() >= PACE;
        if self.told.as_deref() == Some(answer) || !is_due {
            return;
        }
        self.flush();
        self.events.emit(Event::Health {
            answer: answer.into(),
            good,
            again_ms: u64::try_from(again.as_millis()).ok(),
        });
        self.told = Some(answer.into());
        self.count += 1;
        self.last = Instant::now();
    }

    pub(super) fn end(&mut self, answer: String) {
        self.flush();
        self.events.emit(Event::Health {
            answer,
            good: true,
            again_ms: None,
        });
    }

    /// Tell what the program has printed last, if it was not told.
    pub(super) fn flush(&mut self) {
        self.heard.drain(..).for_each(|event| self.events.emit(event));
    }

    /// Let a program print: the first time as it goes, and later only if its answer is told.
    pub(super) fn listen<T>(&mut self, run: impl FnOnce(&Sink) -> T) -> T {
        if self.count == 0 {
            return run(self.events);
        }
        let heard = Arc::new(Mutex::new(Vec::new()));
        let keeper = heard.clone();
        let ended = run(&Sink::new(move |event| {
            let mut heard = mutex::lock(&keeper);
            if heard.len() < KEPT {
                heard.push(event);
            }
        }));
        self.heard = std::mem::take(&mut *mutex::lock(&heard));
        ended
    }
}
