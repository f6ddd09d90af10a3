//! The list of runs on a terminal: a line for each, as wide as the terminal.

use std::time::Duration;

use crate::{
    base::event::{Event, GoingOn, Outcome, Past, Record, duration, said, short, time},
    cli::columns::{self, Size},
};

const TITLES: [&str; 6] = ["RUN", "BEGAN (UTC)", "TOOK", "TRIGGER", "BY", "RESULT"];

/// The lines of the table. Which trigger a run is of stands in them where runs `of_all` are listed. On a narrow terminal, other
/// columns make room for what came of the runs.
pub(super) fn lines(runs: &[Record], of_all: bool, size: Size) -> Vec<String> {
    let mut titles = TITLES.map(str::to_owned);
    if !of_all {
        titles[3].clear();
    }
    let runs = || runs.iter().filter_map(|run| row(run, of_all));
    let mut rows: Vec<_> = [titles].into_iter().chain(runs().map(|(row, _)| row)).collect();
    let needed = runs().map(|(_, needed)| needed).max().unwrap_or_default();
    let fits = |rows: &[[String; 6]]| columns::last_column(rows).saturating_add(needed) <= size.columns;
    for make_room in [without_user, without_duration, without_year] {
        if fits(&rows) {
            break;
        }
        rows.iter_mut().for_each(make_room);
    }
    if !fits(&rows) {
        let mut without_began = rows.clone();
        without_began.iter_mut().for_each(|row| row[1].clear());
        if fits(&without_began) {
            rows = without_began;
        }
    }
    columns::lines(&rows, size.columns)
}

fn without_user(row: &mut [String; 6]) {
    row[4].clear();
}

fn without_duration(row: &mut [String; 6]) {
    row[2].clear();
}

fn without_year(row: &mut [String; 6]) {
    if let Some((_, day)) = row[1].split_once('-') {
        row[1] = day.to_owned();
    }
}

/// The cells of a run, and how many characters of the last one have to be seen: up to the commit that it deployed.
fn row(record: &Record, of_all: bool) -> Option<([String; 6], usize)> {
    let (began, took, trigger, peer, (result, notes)) = match &record.event {
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
    let result = result + &notes;
    let needed = match result.split_once(" (") {
        // A sign stands for what is cut off.
        Some((seen, _)) => seen.chars().count() + 1,
        None => result.chars().count(),
    };
    let cells = [
        record.run.to_string(),
        minute(began),
        took,
        trigger.filter(|_| of_all).unwrap_or_default(),
        // The user's name, or else the first number; the rest is in the long form.
        peer.split(' ').next().unwrap_or_default().to_owned(),
        result,
    ];
    Some((cells, needed))
}

/// `2026-11-25 02:10`
fn minute(secs: u64) -> String {
    let time = time(secs).replacen('T', " ", 1);
    time.get(..16).unwrap_or(&time).to_owned()
}

fn going_on(run: &GoingOn) -> (String, String) {
    let state = match (run.began, run.overdue) {
        (Some(_), Some(_)) => "running, overdue",
        (Some(_), None) => "running",
        (None, _) => "waiting",
    };
    (format!("{}{state}", run.task.shown()), said(&run.notes))
}

/// What came of a run, and its notes.
fn past(run: &Past) -> (String, String) {
    let done = &run.done;
    let new = done.new.as_deref().map_or("-", short);
    let task = run.task.shown();
    let result = match (&done.failure, &done.old) {
        (Some(failure), _) if done.outcome == Outcome::RolledBack => {
            format!(
                "{task}rolled back ({}): {}",
                failure.kind.as_str(),
                failure.message
            )
        }
        (Some(failure), _) => format!("{task}failed ({}): {}", failure.kind.as_str(), failure.message),
        (None, _) if done.outcome == Outcome::UpToDate => format!("{task}up-to-date {new}"),
        (None, Some(old)) => format!("{task}ok {}..{new}", short(old)),
        (None, None) => format!("{task}ok {}..{new}", "0".repeat(new.len())),
    };
    (result, said(&run.notes))
}
