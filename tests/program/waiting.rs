//! A run that was accepted is done, once, even by a daemon that starts after the first was killed.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};
use serde_json::{Value, json};

use super::{
    history::{hold, json as records, start},
    source::{Source, file},
    unfinished::kill,
    world::{Daemon, World, machine},
};

/// `site` has a hook that holds the only job, `next` and `back` wait for it. `back` can be rolled back.
fn world() -> (World, Source) {
    let (world, mut source) = World::with_source();
    let trigger = |name: &str, more: &str| {
        format!("{name:?}: (repo: \"repo.git\", branch: \"main\", path: {name:?}, {more}),")
    };
    let hook = world.script("hook", "echo started; read line < ../go; echo ended");
    let hook = format!("hooks: [Exec(run: [{hook:?}], when: Always)]");
    let triggers = [trigger("site", &hook), trigger("next", ""), trigger("back", "")].concat();
    world.write(
        "config.ron",
        &format!("(listen: [Unix(path: \"s.sock\")], jobs: 1, triggers: {{ {triggers} }})"),
    );
    world.fifo("go");
    for text in ["1", "2"] {
        source.commit([("a", file(text))]);
        world.run_to(0, ["once", "back"]);
    }
    (world, source)
}

/// Have a run accepted, and give its id.
fn accept(daemon: &Daemon, request: Value) -> String {
    let mut request = request;
    request["wait"] = false.into();
    let done = records(&daemon.say(format!("{request}\n"))).remove(0);
    assert_eq!(done["outcome"], "accepted", "{done}");
    done["run"].as_str().unwrap().into()
}

pub(super) fn log(daemon: &Daemon, name: &str) -> Vec<Value> {
    let mut records = records(&daemon.say(format!("{}\n", json!({"op": "log", "name": name}))));
    assert_eq!(records.pop().unwrap()["event"], "done");
    records
}

fn waiting(world: &World) -> Vec<String> {
    let files = fs::read_dir(world.path("state/waiting")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".lock")).collect()
}

/// Wait until no run of `name` goes on or waits.
pub(super) fn settled(daemon: &Daemon, name: &str) -> Vec<Value> {
    loop {
        let records = log(daemon, name);
        if records.iter().all(|record| record["event"] == "past") {
            return records;
        }
        daemon.say(format!("attach {name}\n"));
    }
}

#[test]
fn runs_that_waited_when_the_daemon_was_killed_are_done_by_the_next() {
    let (world, _) = world();
    let daemon = start(&world);
    let (client, _) = hold(&daemon);
    drop(client);
    let begun = log(&daemon, "site").remove(0);
    let next = accept(
        &daemon,
        json!({"op": "trigger", "name": "next", "note": "delivery 7"}),
    );
    let same = accept(
        &daemon,
        json!({"op": "trigger", "name": "next", "note": "delivery 8"}),
    );
    assert_eq!(next, same);
    let back = accept(&daemon, json!({"op": "rollback", "name": "back"}));
    let before = [log(&daemon, "next").remove(0), log(&daemon, "back").remove(0)];
    assert_eq!(waiting(&world).len(), 3);
    kill(daemon);
    assert_eq!(fs::read(world.path("back/a")).unwrap(), b"2");

    let mut daemon = start(&world);
    world.let_go();
    // They are looked at in the order of their names.
    daemon.wait_for("waited; it is done now");
    daemon.wait_for("; it is done now");
    let (nexts, backs) = (settled(&daemon, "next"), settled(&daemon, "back"));
    for ((records, run), before) in [(&nexts, next), (&backs, back)].into_iter().zip(before) {
        assert_eq!(records.len(), 1, "{records:?}");
        let record = &records[0];
        assert_eq!(
            (&record["run"], &record["exit"]),
            (&run.into(), &0.into()),
            "{record}"
        );
        for field in ["peer", "task", "notes", "accepted"] {
            assert_eq!(record[field], before[field], "{field}");
        }
    }
    assert_eq!(nexts[0]["notes"], json!(["delivery 7", "delivery 8"]));
    assert!(
        daemon
            .say("log next\n")
            .contains(" (delivery 7; delivery 8) took ")
    );
    assert_eq!(fs::read(world.path("back/a")).unwrap(), b"1");
    // The one that had begun is finished as ever.
    let sites = settled(&daemon, "site");
    assert_eq!(
        (&sites[0]["peer"], &sites[1]["run"]),
        (&"start".into(), &begun["run"])
    );
    assert_eq!(sites[1]["kind"], "interrupted");
    // All is done.
    assert!(waiting(&world).is_empty());
    kill(daemon);
    let mut daemon = start(&world);
    daemon.signal(Signal::TERM);
    let (_, rest) = daemon.wait();
    assert!(!rest.contains("waited"), "{rest}");
    assert_eq!(fs::read(world.path("back/a")).unwrap(), b"1");
    fs::remove_file(world.path("go")).unwrap();
}

/// The only worker of `daemon`. A hook is the supervisor's child as well.
fn worker(daemon: &Daemon) -> Pid {
    let is_worker = |pid: &Pid| {
        let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
        name.is_ok_and(|name| name.trim() == "gitsocket")
    };
    let workers: Vec<_> = daemon.workers().into_iter().filter(is_worker).collect();
    assert_eq!(workers.len(), 1);
    workers[0]
}

/// What an operator saw then may be otherwise by now: an operation is not done days later, or after another run.
#[test]
fn an_operation_is_not_done_when_it_comes_too_late() {
    let (world, mut source) = world();
    let daemon = start(&world);
    let (client, _) = hold(&daemon);
    drop(client);
    let back = accept(&daemon, json!({"op": "rollback", "name": "back"}));
    kill(daemon);
    let files = waiting(&world)
        .into_iter()
        .map(|name| world.path("state/waiting").join(name));
    let is_back = |path: &PathBuf| fs::read_to_string(path).unwrap().contains("\"rollback\"");
    let path = files.into_iter().find(is_back).unwrap();
    let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let accepted = written["accepted"].as_u64().unwrap();
    // Both ways of a clock.
    for wrong in [accepted - 11 * 60, accepted + 24 * 60 * 60] {
        let mut late = written.clone();
        late["accepted"] = wrong.into();
        fs::write(&path, late.to_string()).unwrap();
        let mut daemon = start(&world);
        let line = daemon.wait_for("waited, and is not done");
        assert!(
            line.contains("WARN") && line.contains(&back) && line.contains("gitsocket rollback back"),
            "{line}"
        );
        kill(daemon);
        assert!(!path.exists());
    }
    let mut daemon = start(&world);
    daemon.wait_for("; it is done now");
    // After a reload the new worker deploys; the old one is killed, which has not gone back yet.
    let old = worker(&daemon);
    accept(&daemon, json!({"op": "rollback", "name": "back"}));
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready");
    source.commit([("a", file("3"))]);
    daemon.deploys("back");
    kill_process(old, Signal::KILL).unwrap();
    let line = daemon.wait_for("waited, and is not done");
    assert!(line.contains("another run"), "{line}");
    world.let_go();
    settled(&daemon, "site");
    assert_eq!(log(&daemon, "back").len(), 1);
    assert_eq!(fs::read(world.path("back/a")).unwrap(), b"3");
    fs::remove_file(world.path("go")).unwrap();
}

#[test]
fn what_a_killed_worker_leaves_is_done_by_the_one_that_serves() {
    let (world, _) = world();
    let mut daemon = start(&world);
    let (client, _) = hold(&daemon);
    drop(client);
    let begun = log(&daemon, "site").remove(0);
    let next = accept(&daemon, json!({"op": "trigger", "name": "next"}));
    let back = accept(&daemon, json!({"op": "rollback", "name": "back"}));
    let old = worker(&daemon);
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready");
    assert_eq!(waiting(&world).len(), 3);
    let_go_once_killed(&world, old);
    // They are looked at in the order of their names.
    daemon.wait_for("waited; it is done now");
    daemon.wait_for("waited; it is done now");
    daemon.wait_for("was left unfinished; it is done now");
    for (name, run, text) in [("next", next, "2"), ("back", back, "1")] {
        let records = settled(&daemon, name);
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!(
            (&records[0]["run"], &records[0]["exit"]),
            (&run.into(), &0.into())
        );
        assert_eq!(fs::read_to_string(world.path(name).join("a")).unwrap(), text);
    }
    let sites = settled(&daemon, "site");
    assert_eq!(
        (&sites[0]["peer"], &sites[0]["exit"]),
        (&"start".into(), &0.into())
    );
    assert_eq!(
        (&sites[1]["run"], &sites[1]["kind"]),
        (&begun["run"], &"interrupted".into())
    );
    assert!(waiting(&world).is_empty());
    fs::remove_file(world.path("go")).unwrap();
}

/// Kill the worker `old`, and let the hooks go on of those that come after it.
fn let_go_once_killed(world: &World, old: Pid) {
    kill_process(old, Signal::KILL).unwrap();
    while fs::exists(format!("/proc/{}", old.as_raw_nonzero())).unwrap() {
        std::thread::yield_now();
    }
    world.let_go();
}

/// An operation is not done twice: it is over once it has begun.
#[test]
fn an_operation_that_had_begun_is_not_begun_again() {
    let (world, mut source) = world();
    let daemon = start(&world);
    world.let_go();
    for text in ["3", "4"] {
        source.commit([("a", file(text))]);
        daemon.deploys("site");
    }
    fs::remove_file(world.path("go")).unwrap();
    world.fifo("go");
    let run = accept(&daemon, json!({"op": "rollback", "name": "site"}));
    let mut client = BufReader::new(daemon.connect());
    client.get_mut().write_all(b"attach site\n").unwrap();
    let mut seen = String::new();
    while !seen.ends_with("| started\n") {
        assert_ne!(client.read_line(&mut seen).unwrap(), 0, "{seen}");
    }
    assert!(waiting(&world).is_empty());
    kill(daemon);
    let mut daemon = start(&world);
    world.let_go();
    daemon.wait_for("; it is done now");
    let records = settled(&daemon, "site");
    let of = |run: &str| records.iter().filter(|record| record["run"] == run).count();
    assert_eq!(of(&run), 1, "{records:?}");
    assert_eq!(records[0]["peer"], "start");
    assert_eq!(fs::read(world.path("site/a")).unwrap(), b"3");
    fs::remove_file(world.path("go")).unwrap();
}

#[test]
fn a_reload_does_nothing_twice_and_what_cannot_be_done_is_said() {
    let (world, _) = world();
    let mut daemon = start(&world);
    let (client, _) = hold(&daemon);
    drop(client);
    let next = accept(&daemon, json!({"op": "trigger", "name": "next"}));
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready");
    assert_eq!(waiting(&world).len(), 2);
    fs::write(world.path("go"), "\n").unwrap();
    // The worker before finishes both.
    loop {
        let records = log(&daemon, "next");
        if !records.is_empty() {
            assert_eq!((records.len(), &records[0]["run"]), (1, &next.into()));
            break;
        }
        std::thread::yield_now();
    }
    while !waiting(&world).is_empty() {
        std::thread::yield_now();
    }

    let (client, _) = hold(&daemon);
    drop(client);
    accept(&daemon, json!({"op": "trigger", "name": "next"}));
    accept(&daemon, json!({"op": "retry", "name": "back"}));
    kill(daemon);
    let text = fs::read_to_string(world.path("config.ron")).unwrap();
    world.write("config.ron", &text.replace("\"next\":", "\"gone\":"));
    let damaged = waiting(&world).into_iter().find(|name| {
        let text = fs::read_to_string(world.path("state/waiting").join(name)).unwrap();
        text.contains("\"retry\"")
    });
    world.write(&format!("state/waiting/{}", damaged.unwrap()), "{");
    let mut daemon = start(&world);
    let line = daemon.wait_for("is not done");
    assert!(
        line.contains("there is no such trigger") && line.contains("next"),
        "{line}"
    );
    world.let_go();
    daemon.wait_for("; it is done now");
    settled(&daemon, "site");
    assert!(log(&daemon, "back").is_empty());
    assert!(waiting(&world).is_empty());
    fs::remove_file(world.path("go")).unwrap();
}

/// Without a directory, or where it cannot be written, runs go on as ever.
#[test]
fn no_run_fails_as_it_cannot_be_written_down() {
    let world = World::configured();
    world.write("state/waiting", "");
    let daemon = start(&world);
    daemon.deploys("site");
    drop(daemon);
    let daemon = world.daemon();
    daemon.deploys("site");
}

#[test]
fn notes_of_all_who_share_a_run_are_kept() {
    let (world, _) = world();
    let mut daemon = start(&world);
    let (client, _) = hold(&daemon);
    drop(client);
    for n in [1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10] {
        let note = format!("delivery {n}");
        accept(&daemon, json!({"op": "trigger", "name": "next", "note": note}));
    }
    let going_on = log(&daemon, "next").remove(0);
    let notes = going_on["notes"].as_array().unwrap();
    assert_eq!((notes.len(), &notes[7]), (8, &"and 3 more".into()));
    fs::write(world.path("go"), "\n").unwrap();
    let line = daemon.wait_for("ok next ");
    assert!(
        line.contains("delivery 1; delivery 2; delivery 3") && line.contains("and 3 more"),
        "{line}"
    );
    assert_eq!(settled(&daemon, "next")[0]["notes"], going_on["notes"]);
    // What is no line of text is none.
    let answer = daemon.say("{\"op\":\"trigger\",\"name\":\"next\",\"note\":\"a\\nb\"}\n");
    assert!(answer.contains("bad-request"), "{answer}");
}

/// The run that finishes what a killed one left is not lost either, even where the lock is still held when the next daemon
/// looks: a process that was killed may take a while to end.
#[test]
fn a_run_that_finishes_another_is_not_lost_when_it_is_killed() {
    let goes_on = |daemon: &Daemon| {
        let until = Instant::now() + Duration::from_secs(60);
        while log(daemon, "site")
            .first()
            .is_none_or(|run| run["event"] == "past")
        {
            assert!(Instant::now() < until, "no run is accepted");
            std::thread::yield_now();
        }
    };
    let (world, _) = world();
    let daemon = start(&world);
    drop(hold(&daemon));
    kill(daemon);
    let daemon = start(&world);
    goes_on(&daemon);
    let mut client = BufReader::new(daemon.connect());
    client.get_mut().write_all(b"attach site\n").unwrap();
    let mut line = String::new();
    while !line.ends_with("| started\n") {
        line.clear();
        assert_ne!(client.read_line(&mut line).unwrap(), 0);
    }
    kill(daemon);
    let lock = fs::File::open(world.path("site/.git/gitsocket/lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let daemon = start(&world);
    goes_on(&daemon);
    drop(lock);
    world.let_go();
    let runs = settled(&daemon, "site");
    assert_eq!((&runs[0]["exit"], runs.len()), (&json!(0), 2), "{runs:?}");
    fs::remove_file(world.path("go")).unwrap();
}

/// Whenever it is killed: the newest commit is deployed by each trigger that was accepted since, and no run is listed twice.
#[test]
fn killed_at_any_time_it_loses_nothing_that_was_accepted() {
    let (world, mut source) = World::with_source();
    let trigger = |name: &str| format!("{name:?}: (repo: \"repo.git\", branch: \"main\", path: {name:?}),");
    world.write(
        "config.ron",
        &format!(
            "(listen: [Unix(path: \"s.sock\")], jobs: 1, triggers: {{ {} {} }})",
            trigger("a"),
            trigger("b")
        ),
    );
    let mut rng = fastrand::Rng::with_seed(machine::seed());
    let mut wanted = [0, 0];
    for round in 1..=8 {
        source.commit([("a", file(&round.to_string()))]);
        let daemon = start(&world);
        for _ in 0..rng.usize(1..6) {
            let which = rng.usize(..2);
            let name = ["a", "b"][which];
            accept(&daemon, json!({"op": "trigger", "name": name}));
            wanted[which] = round;
        }
        if rng.bool() {
            daemon.say("attach a\n");
        }
        kill(daemon);
    }
    let daemon = start(&world);
    // By then all that was left is accepted again, at least.
    while !waiting(&world).is_empty() {
        std::thread::yield_now();
    }
    for (name, wanted) in ["a", "b"].into_iter().zip(wanted) {
        let records = settled(&daemon, name);
        let text = fs::read_to_string(world.path(name).join("a")).unwrap_or("0".into());
        assert!(
            text.parse::<u32>().unwrap() >= wanted,
            "{text} {wanted}: {records:?}"
        );
        let mut runs: Vec<_> = records.iter().map(|record| record["run"].to_string()).collect();
        let all = runs.len();
        runs.sort();
        runs.dedup();
        assert_eq!(runs.len(), all, "{records:?}");
    }
}
