//! The list of runs on a terminal: a line for each, as wide as the terminal.

use std::time::Duration;

use crate::{
    base::event::{Event, GoingOn, Outcome, Past, Record, duration, said, short, time},
    cli::columns::{self, Size},
};

const TITLES: [&str; 6] = ["RUN", "BEGAN (UTC)", "TOOK", "TRIGGER", "BY", "RESULT"];

/// The lines of the table. Which trigger a run is of stands in them where runs `of_all` are listed.
pub(super) fn lines(runs: &[Record], of_all: bool, size: Size) -> Vec<String> {
    let mut titles = TITLES.map(str::to_owned);
    if !of_all {
        titles[3].clear();
    }
    let rows: Vec<_> = [titles]
        .into_iter()
        .chain(runs.iter().filter_map(|run| row(run, of_all)))
        .collect();
    columns::lines(&rows, size.columns)
}

fn row(record: &Record, of_all: bool) -> Option<[String; 6]> {
    let (began, took, trigger, peer, result) = match &record.event {
        Event::GoingOn(run) => (
            run.began.unwrap_or(run.accepted),
            "-".to_owned(),
            run.trigger.as_ref().map(ToString::to_string),
            &run.peer,
            going_on(run),
        ),
        Event::Past(run) => (
            run.began,
            duration(Duration::from_millis(run.done.ms)),
            Some(run.done.trigger.clone()),
            &run.peer,
            past(run),
        ),
        _ => return None,
    };
    Some([
        record.run.to_string(),
        minute(began),
        took,
        trigger.filter(|_| of_all).unwrap_or_default(),
        // The user's name, or else the first number; the rest is in the long form.
        peer.split(' ').next().unwrap_or_default().to_owned(),
        result,
    ])
}

/// `2026-11-25 02:10`
fn minute(secs: u64) -> String {
    let time = time(secs).replacen('T', " ", 1);
    time.get(..16).unwrap_or(&time).to_owned()
}

fn going_on(run: &GoingOn) -> String {
    let state = match (run.began, run.overdue) {
        (Some(_), Some(_)) => "running, overdue",
        (Some(_), None) => "running",
        (None, _) => "waiting",
    };
    format!("{}{state}{}", run.task.shown(), said(&run.notes))
}

fn past(run: &Past) -> String {
    let done = &run.done;
    let new = done.new.as_deref().map_or("-", short);
    let task = run.task.shown();
    let notes = said(&run.notes);
    match (&done.failure, &done.old) {
        (Some(failure), _) if done.outcome == Outcome::RolledBack => {
            format!(
                "{task}rolled back ({}): {}{notes}",
                failure.kind.as_str(),
                failure.message
            )
        }
        (Some(failure), _) => format!(
            "{task}failed ({}): {}{notes}",
            failure.kind.as_str(),
            failure.message
        ),
        (None, _) if done.outcome == Outcome::UpToDate => format!("{task}up-to-date {new}{notes}"),
        (None, Some(old)) => format!("{task}ok {}..{new}{notes}", short(old)),
        (None, None) => format!("{task}ok {}..{new}{notes}", "0".repeat(new.len())),
    }
}
