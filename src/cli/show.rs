//! Events for the user of the command: bars on a terminal, plain lines elsewhere, JSON Lines on request.

use std::{
    io::IsTerminal as _,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{
    base::{
        event::{Done, Event, Ids, Outcome, Phase, Record, Unit},
        mutex,
        name::{RunId, TriggerName},
    },
    daemon::wire::{self, Format},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Lines on stderr, and progress bars.
    Bars,
    Lines,
    /// Every event as JSON on stdout.
    Json,
    Quiet,
    /// Lines on stdout: the events of a run are what was asked for.
    Results,
}

#[derive(Debug)]
pub(super) struct Show {
    style: Style,
    dry_run: bool,
    /// In front of each line but the last: whose it is, where there are several.
    of: String,
    /// How lists say the ids of commits.
    ids: Ids,
    /// What has been done, where a good answer does not say it.
    done: Option<&'static str>,
    bar: Mutex<Option<(Phase, ProgressBar)>>,
    /// How many changes a dry run has shown.
    changes: AtomicUsize,
}

/// A record of a dry run.
#[derive(Serialize)]
struct Rehearsed<'a> {
    #[serde(flatten)]
    record: &'a Record,
    dry_run: bool,
}

impl Show {
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        let style = match (json, quiet) {
            (true, _) => Style::Json,
            (_, true) => Style::Quiet,
            _ if std::io::stderr().is_terminal() => Style::Bars,
            _ => Style::Lines,
        };
        Self {
            style,
            dry_run: false,
            of: String::new(),
            ids: Ids::Short,
            done: None,
            bar: Mutex::default(),
            changes: AtomicUsize::new(0),
        }
    }

    /// For what is done for `name` while the same is done for others: without bars, and each line says whose it is.
    pub(super) fn among(json: bool, quiet: bool, name: &TriggerName) -> Self {
        let show = Self::new(json, quiet);
        Self {
            style: match show.style {
                Style::Bars => Style::Lines,
                style => style,
            },
            of: format!("{name}: "),
            ..show
        }
    }

    /// The same, for an answer that does not say what was `done` if all is well.
    pub(super) fn saying(self, done: Option<&'static str>) -> Self {
        Self { done, ..self }
    }

    /// For what only says what would be done.
    pub(super) fn rehearsal(json: bool, quiet: bool) -> Self {
        Self {
            dry_run: true,
            ..Self::new(json, quiet)
        }
    }

    /// For a command whose results are past runs, or the events of one; lists have these `ids`.
    pub(super) fn replay(json: bool, ids: Ids) -> Self {
        Self {
            style: if json { Style::Json } else { Style::Results },
            ids,
            ..Self::new(json, false)
        }
    }

    /// Show one event. The last one is the result: on stdout if it is good.
    pub(super) fn record(&self, record: &Record) {
        if self.style == Style::Json && self.dry_run {
            let dry_run = true;
            if let Ok(line) = serde_json::to_string(&Rehearsed { record, dry_run }) {
                super::print(&line);
            }
            return;
        }
        if self.style == Style::Json {
            if let Some(line) = wire::render(record, Format::Json) {
                super::print(line.trim_end());
            }
            return;
        }
        match &record.event {
            Event::Progress {
                phase,
                done,
                total,
                unit,
            } if self.style == Style::Bars => self.bar(*phase, *done, *total, *unit),
            Event::Progress { .. } => {}
            // A run has an id; a refusal is none.
            _ if self.style == Style::Results && record.run != RunId::none() => {
                record
                    .line_with(self.ids)
                    .iter()
                    .for_each(|line| super::print(line));
            }
            // The end of a list adds nothing.
            Event::Done(done) if self.style == Style::Results && done.failure.is_none() => {}
            Event::Done(done) => {
                self.clear();
                match &done.failure {
                    None if self.dry_run => {
                        super::print(&self.rehearsed(done));
                    }
                    None => {
                        let what = self.done.filter(|_| done.outcome == Outcome::Answered);
                        let what = what.map(|what| format!(" {what}"));
                        super::print(&format!("{}{}", done.line(), what.unwrap_or_default()));
                    }
                    // A person can copy the line that is to be written; for a program, the error is the last line.
                    Some(failure) if self.style == Style::Bars => {
                        let (failure, line) = failure.split_line();
                        let failure = Some(failure);
                        super::say(
                            &Done {
                                failure,
                                ..done.clone()
                            }
                            .line(),
                        );
                        line.into_iter().for_each(super::say);
                    }
                    Some(_) => super::say(&done.line()),
                }
            }
            // Answers to a question are results too.
            event @ (Event::Status(_) | Event::Pong | Event::Change { .. }) => {
                self.clear();
                let is_change = matches!(event, Event::Change { .. });
                self.changes.fetch_add(is_change.into(), Ordering::Relaxed);
                self.line(event).iter().for_each(|line| super::print(line));
            }
            _ if self.style == Style::Quiet => {}
            event => {
                self.clear();
                self.line(event).iter().for_each(|line| super::say(line));
            }
        }
    }

    /// The last line of a dry run, and of that one only what it has shown.
    fn rehearsed(&self, done: &Done) -> String {
        let changes = self.changes.swap(0, Ordering::Relaxed);
        let line = Done {
            changed: 0,
            ..done.clone()
        }
        .line();
        match changes {
            0 => format!("{line} (dry run: nothing was changed)"),
            changes => {
                let plural = if changes == 1 { "" } else { "s" };
                // `up-to-date` is about the commit.
                let line = match line.rsplit_once(" up-to-date ") {
                    Some((trigger, commit)) => format!("{trigger} {commit}"),
                    None => line,
                };
                format!("{line} (dry run: {changes} change{plural} would be made; nothing was changed)")
            }
        }
    }

    fn line(&self, event: &Event) -> Option<String> {
        event.line().map(|line| format!("{}{line}", self.of))
    }

    fn bar(&self, phase: Phase, done: u64, total: Option<u64>, unit: Unit) {
        let mut shown = mutex::lock(&self.bar);
        let bar = match &*shown {
            Some((before, bar)) if *before == phase => bar,
            _ => {
                if let Some((_, bar)) = shown.take() {
                    bar.finish_and_clear();
                }
                &shown.insert((phase, new_bar(phase, unit))).1
            }
        };
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    }

    fn clear(&self) {
        let mut shown = mutex::lock(&self.bar);
        if let Some((_, bar)) = shown.take() {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(phase: Phase, unit: Unit) -> ProgressBar {
    let (name, count) = match (phase, unit) {
        (Phase::Remote, _) => ("remote", "{pos}/{len}"),
        (Phase::Fetch, _) => ("fetching", "{pos}/{len} objects"),
        (Phase::Index, _) => ("indexing", "{pos}/{len} objects"),
        (Phase::Checkout, _) => ("checking out", "{pos}/{len} files"),
    };
    let template = format!("{{prefix:>12}} [{{bar:30}}] {count}");
    let style = ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::no_length().with_style(style).with_prefix(name)
}
