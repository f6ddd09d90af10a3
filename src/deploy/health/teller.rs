//! Which answers of a health check become events: each new answer, but not the same answer again and again.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::base::{
    event::{Event, Sink},
    mutex,
};

/// So many new answers are told without a pause.
const AT_ONCE: u32 = 10;
/// After those, one answer in this time, since each answer may be a new one.
const PACE: Duration = Duration::from_secs(10);
/// So many events, most of them lines, of one check by a program are kept until it is known whether they are told.
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

    /// Tell an answer that is not the last.
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

    /// Tell what the program has printed in the last check, if it was not told.
    pub(super) fn flush(&mut self) {
        self.heard.drain(..).for_each(|event| self.events.emit(event));
    }

    /// Run a program. What it prints is told at once in the first check, and later only if its answer is told.
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
