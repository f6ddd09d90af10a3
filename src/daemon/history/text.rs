//! A run as text: a line with its data, then its events in JSON, as clients got them.
//!
//! Even if the text is damaged, the last record that is read is the run's end, and other lines that cannot be read count as lost.

use serde::{Deserialize, Serialize};

use crate::{
    base::event::{Event, Last, Record, Standing, Tally, Took},
    daemon::wire::{self, Format},
};

/// A run that has ended, as it is to be remembered.
#[derive(Debug)]
pub struct EndedRun<'a> {
    pub last: Last,
    /// Its events, without progress.
    pub events: &'a [Event],
    /// How many events before these are lost.
    pub lost: u64,
    /// Its times and bytes, if they are known.
    pub took: Option<Took>,
}

/// The first line: a run, the trigger's state since, and the counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// `None` if no run is remembered.
    pub(super) last: Option<Last>,
    pub(super) standing: Standing,
    pub(super) tally: Tally,
}

/// The first line, as it is written.
#[derive(Serialize, Deserialize)]
struct Line<L, S, T> {
    #[serde(flatten)]
    last: L,
    #[serde(flatten)]
    standing: S,
    #[serde(default)]
    tally: T,
}

/// The text for a run: the newest events that fit into `max_bytes`, the last one in any case.
pub(super) fn write(head: &Head, ended: &EndedRun<'_>, max_bytes: usize) -> String {
    let first = Line {
        last: &ended.last,
        standing: &head.standing,
        tally: &head.tally,
    };
    let mut text = serde_json::to_string(&first).expect("a run consists of strings and numbers");
    text.push('\n');
    let mut lines = Vec::new();
    let mut bytes = 0;
    for event in ended.events.iter().rev() {
        let line = render(&ended.last, event.clone());
        bytes += line.len();
        if bytes > max_bytes && !lines.is_empty() {
            break;
        }
        lines.push(line);
    }
    let lost = ended.lost + (ended.events.len() - lines.len()) as u64;
    if lost > 0 {
        lines.push(render(&ended.last, Event::Lagged { lost }));
    }
    text.extend(lines.into_iter().rev());
    text
}

fn render(last: &Last, event: Event) -> String {
    let record = Record {
        run: last.run.clone(),
        event,
    };
    wire::render(&record, Format::Json).unwrap_or_default()
}

/// The run that `text` begins with.
pub(super) fn head(text: &str) -> Option<Head> {
    let Line {
        last,
        standing,
        tally,
    } = serde_json::from_str::<Line<_, _, serde_json::Value>>(text.lines().next()?).ok()?;
    Some(Head {
        last: Some(last),
        standing,
        // Another version may have other counters, which must not hide the run.
        tally: serde_json::from_value(tally).unwrap_or_default(),
    })
}

/// The events of a run, parsed one by one, so that a slow reader needs memory for the text only.
#[derive(Debug)]
pub struct Replay {
    text: String,
    /// The offset of the next line.
    at: usize,
    last: Last,
    /// Lines that could not be read since the last one that could.
    lost: u64,
    /// The record after a [`Event::Lagged`].
    next: Option<Event>,
    is_over: bool,
}

impl Replay {
    /// `None` if the text does not begin with a run.
    pub(super) fn new(text: String) -> Option<Self> {
        let last = head(&text)?.last?;
        let mut replay = Self {
            text,
            at: 0,
            last,
            lost: 0,
            next: None,
            is_over: false,
        };
        replay.line();
        Some(replay)
    }

    fn line(&mut self) -> Option<&str> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let line = rest.split('\n').next()?;
        self.at += line.len() + 1;
        Some(line)
    }

    /// The next event that can be read; at the end of the text, the end of the run.
    fn event(&mut self) -> Event {
        let run = self.last.run.clone();
        while let Some(line) = self.line() {
            match serde_json::from_str::<Record>(line) {
                Ok(record) if record.run == run => return record.event,
                _ => self.lost += 1,
            }
        }
        // Only a damaged text ends without the last event.
        self.lost = self.lost.max(1);
        Event::Done(self.last.past.done.clone())
    }
}

impl Iterator for Replay {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if self.is_over {
            return None;
        }
        let event = match self.next.take() {
            Some(event) => event,
            None => self.event(),
        };
        let event = match std::mem::take(&mut self.lost) {
            0 => event,
            lost => {
                self.next = Some(event);
                Event::Lagged { lost }
            }
        };
        self.is_over = matches!(event, Event::Done(_));
        Some(Record {
            run: self.last.run.clone(),
            event,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        event::{Done, Outcome, Past, Task},
        name::RunId,
    };

    fn last() -> Last {
        Last {
            run: RunId::new(),
            past: Past {
                task: Task::Update,
                peer: "uid=33 pid=7".into(),
                notes: Vec::new(),
                accepted: 1,
                began: 2,
                ended: 3,
                phases_ms: Default::default(),
                done: Done {
                    new: Some("5d6e7f8".into()),
                    ..Done::answered("site", Outcome::Updated)
                },
            },
        }
    }

    fn warning(n: usize) -> Event {
        Event::Warning {
            message: format!("{n:0100}"),
        }
    }

    /// The text of a run of `n` warnings, and what it is about.
    fn text(n: usize, lost: u64, max_bytes: usize) -> (Head, String) {
        let last = last();
        let head = Head {
            standing: Standing::default().after(&last),
            last: Some(last.clone()),
            tally: Tally {
                fetched_bytes: 7,
                ..Tally::default()
            },
        };
        let mut events: Vec<_> = (0..n).map(warning).collect();
        events.push(Event::Done(last.past.done.clone()));
        let ended = EndedRun {
            last,
            events: &events,
            lost,
            took: None,
        };
        let text = write(&head, &ended, max_bytes);
        (head, text)
    }

    fn events(text: &str) -> Vec<Event> {
        let replay = Replay::new(text.into()).unwrap();
        replay.map(|record| record.event).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let (written, text) = text(3, 0, 10_000);
        let done = Event::Done(last().past.done);
        assert_eq!(head(&text), Some(written));
        assert_eq!(events(&text), [warning(0), warning(1), warning(2), done]);
    }

    #[test]
    fn the_newest_events_are_kept() {
        let done = Event::Done(last().past.done);
        let (_, long) = text(1000, 5, 1000);
        let kept = events(&long);
        assert!(long.len() < 2000, "{}", long.len());
        let Event::Lagged { lost } = kept[0] else {
            panic!("{:?}", kept[0]);
        };
        assert_eq!(lost as usize + kept.len() - 2, 1005);
        assert_eq!(kept[kept.len() - 2..], [warning(999), done.clone()]);
        let (_, tiny) = text(7, 0, 1);
        assert_eq!(events(&tiny), [Event::Lagged { lost: 7 }, done]);
    }

    #[test]
    fn damage_is_lost_and_the_end_is_not() {
        let (_, whole) = text(3, 0, 10_000);
        let done = Event::Done(last().past.done);
        let mut lines: Vec<&str> = whole.lines().collect();
        lines[2] = "{\"run\":\"abc\",\"event\":\"pong\"}";
        let expected = [warning(0), Event::Lagged { lost: 1 }, warning(2), done.clone()];
        assert_eq!(events(&lines.join("\n")), expected);
        // Cut off anywhere: no panic, and either no run or one that ends.
        for end in 0..whole.len() {
            let cut = Replay::new(whole[..end].into());
            assert_eq!(cut.is_some(), head(&whole[..end]).is_some());
            let last = cut.map(|replay| replay.last().unwrap().event);
            assert!(last.is_none_or(|last| last == done), "{end}");
        }
    }

    #[test]
    fn random_damage_never_panics() {
        let mut rng = fastrand::Rng::with_seed(crate::machine::seed());
        let (_, whole) = text(3, 0, 10_000);
        let mut read = 0;
        for _ in 0..5_000 {
            let mut bytes = whole.clone().into_bytes();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                bytes[at] = rng.u8(..);
            }
            let replay = Replay::new(String::from_utf8_lossy(&bytes).into_owned());
            for replay in replay.into_iter() {
                read += 1;
                assert!(matches!(replay.last().unwrap().event, Event::Done(_)));
            }
        }
        assert!(read > 1_000, "only {read} had a first line");
    }
}
