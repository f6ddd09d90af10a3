//! Runs are remembered across restarts, and can be listed, replayed and followed.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    source::file,
    world::{Daemon, World, last_line},
};

/// A daemon that remembers its runs in state/.
pub(super) fn start(world: &World) -> Daemon {
    Daemon::start_with(world, &[], &[("STATE_DIRECTORY", world.path("state"))])
}

pub(super) fn restart(world: &World, mut daemon: Daemon) -> Daemon {
    daemon.stop();
    start(world)
}

/// Have the sandbox closed around what is there now.
fn reload(daemon: &mut Daemon) {
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready");
}

pub(super) fn trigger(daemon: &Daemon) -> Vec<Value> {
    json(&daemon.say("{\"op\":\"trigger\",\"name\":\"site\"}\n"))
}

pub(super) fn json(answer: &str) -> Vec<Value> {
    let lines = answer.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

pub(super) fn id(records: &[Value]) -> String {
    records.last().unwrap()["run"].as_str().unwrap().to_owned()
}

/// The status of `site`.
pub(super) fn status(daemon: &Daemon) -> Value {
    let answer = daemon.say("{\"op\":\"status\",\"name\":\"site\"}\n");
    json(&answer).remove(0)
}

/// The files in which runs are remembered, the oldest first.
fn files(world: &World) -> Vec<PathBuf> {
    let dirs: Vec<_> = fs::read_dir(world.path("state/runs")).unwrap().collect();
    assert_eq!(dirs.len(), 1);
    let dir = dirs.into_iter().next().unwrap().unwrap().path();
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    // Runs that found nothing new have numbers with a sign.
    files.sort_by_key(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.trim_start_matches('+').to_owned()
    });
    files
}

/// The runs of `site` that have ended, as `log` lists them.
fn past(daemon: &Daemon) -> Vec<String> {
    let records = json(&daemon.say("{\"op\":\"log\",\"name\":\"site\"}\n"));
    let past = records.iter().filter(|record| record["event"] == "past");
    past.map(|record| record["run"].as_str().unwrap().to_owned())
        .collect()
}

/// Trigger, and read up to the line `| started` of a hook that then waits for the FIFO `go`.
pub(super) fn hold(daemon: &Daemon) -> (BufReader<UnixStream>, String) {
    let mut client = BufReader::new(daemon.connect());
    client.get_mut().write_all(b"site\n").unwrap();
    let mut seen = String::new();
    while !seen.ends_with("| started\n") {
        assert_ne!(client.read_line(&mut seen).unwrap(), 0, "{seen}");
    }
    (client, seen)
}

pub(super) fn holding_hook(world: &World) {
    world.fifo("go");
    let hook = world.script("hook", "echo started; read line < ../go; echo ended");
    world.config(&format!("hooks: [Exec(run: [{hook:?}], when: Always)]"));
}

#[test]
fn runs_are_known_after_a_restart() {
    let world = World::configured();
    let daemon = start(&world);
    let first = trigger(&daemon);
    let second = json(&daemon.say("{\"op\":\"trigger\",\"name\":\"site\"}\n"));
    let before = status(&daemon);
    let list = daemon.say("log site\n");
    let daemon = restart(&world, daemon);

    assert_eq!(daemon.say("log site\n"), list);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    assert!(
        lines[0].starts_with(&id(&second)) && lines[0].contains("up-to-date"),
        "{list}"
    );
    assert!(
        lines[1].starts_with(&id(&first)) && lines[1].contains("uid="),
        "{list}"
    );
    assert_eq!(lines[2], "ok site");

    let after = status(&daemon);
    assert_eq!(after, before);
    assert_eq!(after["last"]["run"], id(&second));
    assert_eq!(after["commit"], first.last().unwrap()["new"]);
    // Since the run that deployed it, not since the last.
    let listed = json(&daemon.say("{\"op\":\"log\",\"name\":\"site\"}\n"));
    assert_eq!(
        (&listed[1]["event"], &listed[1]["run"]),
        (&"past".into(), &id(&first).into())
    );
    assert_eq!(after["since"], listed[1]["ended"]);
    for field in ["accepted", "began", "ended", "peer", "outcome", "ms"] {
        assert!(!listed[1][field].is_null(), "{field}: {}", listed[1]);
    }
    assert_eq!(listed[2]["outcome"], "answered");

    for path in [
        world.path("state/runs"),
        files(&world)[0].parent().unwrap().into(),
    ] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
    for file in files(&world) {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_replay_is_what_the_client_got() {
    let world = World::sourced();
    world.hook("echo one; echo two >&2; exit 3");
    let daemon = start(&world);
    let got = daemon.say("{\"op\":\"trigger\",\"name\":\"site\"}\n");
    let got: String = got
        .split_inclusive('\n')
        .filter(|line| !line.contains("\"event\":\"progress\""))
        .collect();
    let run = id(&json(&got));
    let file = fs::read_to_string(&files(&world)[0]).unwrap();
    assert_eq!(
        file.split_once('\n').unwrap().1,
        got,
        "the file holds the client's lines"
    );
    let by_id = format!("{{\"op\":\"log\",\"name\":\"site\",\"run\":\"{run}\"}}\n");
    let newest = "{\"op\":\"log\",\"name\":\"site\",\"run\":\"newest\"}\n";
    for request in [by_id.as_str(), newest] {
        assert_eq!(daemon.say(request), got);
    }
    let text = daemon.say(format!("log site {run}\n"));
    assert_eq!(daemon.say("attach site\n"), text);
    assert!(
        text.starts_with("queued site\n") && text.contains("\n| one\n"),
        "{text}"
    );
    assert!(last_line(&text).starts_with("error site hook: "), "{text}");

    // On the command line, the run is the result, and its exit status.
    for args in [&["log", "site", run.as_str()][..], &["log", "-f", "site"]] {
        let ended = world.run(args);
        assert_eq!((ended.exit, ended.out.as_str()), (5, text.as_str()));
        // Of which day it is, as its lines do not tell.
        let date = format!("run {run}, accepted 2");
        assert!(
            ended.err.starts_with(&date) && ended.err.lines().count() == 1,
            "{ended:?}"
        );
    }
    let ended = world.run(["log", "--json", "site", &run]);
    assert_eq!((ended.exit, &ended.out), (5, &got));
    let ended = world.run(["log", "site"]);
    assert_eq!((ended.exit, ended.out.lines().count()), (0, 1), "{ended:?}");
    assert!(ended.out.starts_with(&run), "{ended:?}");
    // After a restart, which runs the hook again.
    let daemon = restart(&world, daemon);
    assert_eq!(daemon.say(by_id), got);
}

#[test]
fn a_failed_first_clone_is_remembered() {
    let world = World::new();
    world.config("");
    let daemon = start(&world);
    let failed = trigger(&daemon);
    assert_eq!(failed.last().unwrap()["outcome"], "failed");
    assert!(!world.path("site/.git").exists());
    let daemon = restart(&world, daemon);
    let now = status(&daemon);
    assert_eq!(now["commit"], Value::Null);
    assert_eq!(now["failing"]["runs"], 1);
    assert_eq!(now["failing"]["run"], id(&failed));
    assert_eq!(now["failing"]["message"], failed.last().unwrap()["message"]);
    assert_eq!(now["last"]["kind"], failed.last().unwrap()["kind"]);
    trigger(&daemon);
    assert_eq!(status(&daemon)["failing"]["runs"], 2);
    assert_eq!(status(&daemon)["failing"]["since"], now["failing"]["since"]);

    world.source().commit([("a", file("1"))]);
    trigger(&daemon);
    let good = status(&daemon);
    assert_eq!(
        (&good["failing"], &good["hooks_owed"]),
        (&Value::Null, &false.into())
    );
    assert_eq!(good["since"], good["last"]["ended"]);
}

/// A run that was to run hooks again, even if there are none, is none that found nothing new.
fn run_hooks_again(daemon: &Daemon, name: &str) -> String {
    id(&json(&daemon.say(format!(
        "{{\"op\":\"trigger\",\"name\":\"{name}\",\"hooks\":true}}\n"
    ))))
}

#[test]
fn the_last_fifty_are_kept() {
    let world = World::sourced();
    world.config("fsync: false");
    let daemon = start(&world);
    let runs: Vec<String> = (0..60).map(|_| run_hooks_again(&daemon, "site")).collect();
    let daemon = restart(&world, daemon);
    let mut expected: Vec<String> = runs[10..].iter().rev().cloned().collect();
    assert_eq!(past(&daemon), expected);
    assert_eq!(files(&world).len(), 50);
    assert!(
        daemon
            .say(format!("log site {}\n", runs[9]))
            .contains("unknown-run")
    );
    assert!(
        daemon
            .say(format!("log site {}\n", runs[10]))
            .contains("ok site ")
    );
    // The run that deployed is forgotten, since when is not.
    assert!(status(&daemon)["since"].is_u64());
    // Those that find nothing new have places of their own.
    expected.insert(0, id(&trigger(&daemon)));
    assert_eq!(past(&daemon), expected);
}

#[test]
fn runs_that_find_nothing_new_push_out_no_other() {
    let world = World::sourced();
    world.config("fsync: false, retries: 0");
    let daemon = start(&world);
    let deployed = trigger(&daemon);
    fs::rename(world.path("repo.git"), world.path("gone")).unwrap();
    let failed = trigger(&daemon);
    assert_eq!(failed.last().unwrap()["outcome"], "failed");
    fs::rename(world.path("gone"), world.path("repo.git")).unwrap();
    // It finds nothing new either, but tells when the remote was there again.
    let recovered = trigger(&daemon);
    assert_eq!(recovered.last().unwrap()["outcome"], "up-to-date");
    let mut idle: Vec<String> = (0..30).map(|_| id(&trigger(&daemon))).collect();
    let daemon = restart(&world, daemon);
    idle.extend((0..30).map(|_| id(&trigger(&daemon))));

    let [deployed, failed, recovered] = [deployed, failed, recovered].map(|records| id(&records));
    let mut expected: Vec<String> = idle[50..].iter().rev().cloned().collect();
    expected.extend([recovered, failed.clone(), deployed.clone()]);
    assert_eq!(past(&daemon), expected);
    assert_eq!(files(&world).len(), expected.len());
    let daemon = restart(&world, daemon);
    assert_eq!(past(&daemon), expected);
    let ended = world.run(["log", "site"]);
    assert_eq!(listed(&ended.out), expected, "{ended:?}");
    assert!(last_line(&ended.out).contains(": ok site 0000000.."), "{ended:?}");
    assert_eq!(listed(&world.run(["log"]).out), expected);

    // Each is found as before.
    let replay = |run: &str| daemon.say(format!("log site {run}\n"));
    assert!(last_line(&replay(&deployed)).starts_with("ok site 0000000.."));
    assert!(last_line(&replay(&failed)).starts_with("error site "));
    assert!(replay(&idle[49]).contains("unknown-run"));
    assert_eq!(daemon.say("attach site\n"), replay(&idle[59]));
    let now = status(&daemon);
    assert_eq!(now["last"]["run"], idle[59]);
    let records = json(&daemon.say("{\"op\":\"log\",\"name\":\"site\"}\n"));
    let of = |run: &String| records.iter().find(|record| record["run"] == **run).unwrap();
    assert_eq!(now["since"], of(&deployed)["ended"]);
    // Runs are counted whether they are remembered or not.
    let records = json(&daemon.say("{\"op\":\"metrics\"}\n"));
    let counted = &records.iter().find(|record| record["trigger"] == "site").unwrap()["runs"];
    assert_eq!(counted["up-to-date"], 61, "{counted}");

    // What comes then is the newest.
    expected.insert(0, run_hooks_again(&daemon, "site"));
    assert_eq!(past(&daemon), expected);
    assert_eq!(status(&daemon)["last"]["run"], expected[0]);
}

#[test]
fn a_second_client_follows_a_run_from_its_start() {
    let world = World::sourced();
    holding_hook(&world);
    let mut daemon = start(&world);
    let (mut first, seen) = hold(&daemon);
    let run = status(&daemon)["runs"][0]["run"].as_str().unwrap().to_owned();

    let mut others = Vec::new();
    for request in ["attach site\n".into(), format!("log site {run}\n")] {
        let mut stream = BufReader::new(daemon.connect());
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        others.push((stream, line));
    }
    let mut follow = world
        .command(["log", "site", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut follow_out = BufReader::new(follow.stdout.take().unwrap());
    let mut followed = String::new();
    follow_out.read_line(&mut followed).unwrap();

    fs::write(world.path("go"), "\n").unwrap();
    let mut whole = seen;
    first.read_to_string(&mut whole).unwrap();
    assert!(
        whole.contains("\n| ended\n") && last_line(&whole).starts_with("ok site "),
        "{whole}"
    );
    for (mut stream, mut text) in others {
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, whole);
    }
    follow_out.read_to_string(&mut followed).unwrap();
    assert_eq!(followed, whole);
    assert!(follow.wait().unwrap().success());
    daemon.signal(Signal::TERM);
    let (_, log) = daemon.wait();
    assert_eq!(
        log.matches(" run=").count(),
        1,
        "nobody started another run: {log}"
    );
}

#[test]
fn damaged_files_are_passed_over() {
    let world = World::configured();
    let daemon = start(&world);
    let runs: Vec<String> = (0..5).map(|_| id(&trigger(&daemon))).collect();
    let files = files(&world);
    let dir = files[0].parent().unwrap();
    // What a power cut, a full disk, a killed daemon and somebody's fingers leave.
    fs::write(&files[4], "").unwrap();
    fs::write(&files[3], [0; 4096]).unwrap();
    let text = fs::read_to_string(&files[2]).unwrap();
    fs::write(&files[2], &text[..text.len() - 100]).unwrap();
    fs::write(&files[1], b"\xff\xfe{\"run\":").unwrap();
    let mut gone = Command::new(env!("CARGO_BIN_EXE_gitsocket"))
        .arg("--help")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    gone.wait().unwrap();
    let half = |end: &str| dir.join(format!("0198c0ffee0001.{end}new"));
    let killed = half(&format!("{}.", gone.id()));
    // Another worker may be at it, such as one of the version before. After an hour, none is.
    let [alive, before, old] = [half(&format!("{}.", std::process::id())), half(""), half("x.")];
    for path in [&killed, &alive, &before, &old] {
        fs::write(path, "half").unwrap();
    }
    let then = SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    fs::File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_modified(then)
        .unwrap();
    fs::write(dir.join("README.jsonl"), "hello").unwrap();
    fs::create_dir(dir.join("9999999999-0198c0ffee0001.jsonl")).unwrap();
    let daemon = restart(&world, daemon);

    let list = daemon.say("log site\n");
    let ids: Vec<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(ids, [runs[2].as_str(), runs[0].as_str(), "ok"], "{list}");
    let cut = daemon.say(format!("log site {}\n", runs[2]));
    assert!(
        cut.contains("lines are lost") && last_line(&cut).starts_with("ok site "),
        "{cut}"
    );
    for run in [&runs[4], &runs[3], &runs[1]] {
        assert!(daemon.say(format!("log site {run}\n")).contains("unknown-run"));
    }
    assert_eq!(status(&daemon)["last"]["run"], runs[2]);
    let new = id(&trigger(&daemon));
    assert!(daemon.say("log site\n").starts_with(&new));
    assert!(!killed.exists() && !old.exists());
    assert!(alive.exists() && before.exists());
}

#[test]
fn a_directory_that_cannot_be_written_stops_nothing() {
    let world = World::configured();
    // A file is in the way: root would write to a read-only directory.
    world.write("state", "");
    let mut daemon = start_unready(&world);
    let line = daemon.wait_for("cannot write runs to");
    assert!(
        line.contains("state/runs") && line.contains("STATE_DIRECTORY"),
        "{line}"
    );
    daemon.wait_for("ready");
    let runs = [id(&trigger(&daemon)), id(&trigger(&daemon))];
    let list = daemon.say("log site\n");
    assert!(
        list.starts_with(&runs[1]) && list.contains(&format!("\n{}", runs[0])),
        "{list}"
    );
    assert!(last_line(&daemon.say(format!("log site {}\n", runs[0]))).starts_with("ok site "));
    // It can be mended while the daemon runs.
    fs::remove_file(world.path("state")).unwrap();
    reload(&mut daemon);
    let third = id(&trigger(&daemon));
    assert_eq!(files(&world).len(), 1);
    assert_eq!(daemon.say("log site\n").lines().count(), 2);
    daemon.signal(Signal::TERM);
    let (_, log) = daemon.wait();
    assert!(!log.contains("cannot write"), "said once: {log}");
    let daemon = start(&world);
    assert!(daemon.say("log site\n").starts_with(&third));
}

fn start_unready(world: &World) -> Daemon {
    Daemon::spawn(world, &[], &[("STATE_DIRECTORY", world.path("state"))])
}

#[test]
fn where_runs_are_remembered() {
    let world = World::configured();
    let (state, xdg, home) = (world.path("state"), world.path("xdg"), world.path("home"));
    let relative = PathBuf::from("relative");
    let both = PathBuf::from(format!("{}:/nowhere", state.display()));
    for (env, dir) in [
        (
            vec![("STATE_DIRECTORY", both), ("HOME", home.clone())],
            "state/runs",
        ),
        (
            vec![("XDG_STATE_HOME", xdg.clone()), ("HOME", home.clone())],
            "xdg/gitsocket/runs",
        ),
        (
            vec![("XDG_STATE_HOME", relative), ("HOME", home)],
            "home/.local/state/gitsocket/runs",
        ),
    ] {
        let mut daemon = Daemon::start_with(&world, &[], &env);
        trigger(&daemon);
        assert_eq!(fs::read_dir(world.path(dir)).unwrap().count(), 1, "{dir}");
        daemon.signal(Signal::TERM);
        daemon.wait();
    }
    let mut daemon = Daemon::spawn(&world, &[], &[]);
    let line = daemon.wait_for("in memory only");
    assert!(line.contains("STATE_DIRECTORY"), "{line}");
    daemon.wait_for("ready");
    let run = id(&trigger(&daemon));
    assert!(daemon.say("log site\n").starts_with(&run));
}

#[test]
fn two_daemons_on_one_account_do_not_mix() {
    let worlds = [World::sourced(), World::sourced()];
    let state = worlds[0].path("state");
    for world in &worlds {
        world.config("");
        let daemon = Daemon::start_with(world, &[], &[("STATE_DIRECTORY", state.clone())]);
        let run = id(&trigger(&daemon));
        let list = daemon.say("log site\n");
        assert!(list.starts_with(&run) && list.lines().count() == 2, "{list}");
    }
    assert_eq!(fs::read_dir(state.join("runs")).unwrap().count(), 2);
}

#[test]
fn what_is_not_there_is_refused() {
    let world = World::configured();
    let daemon = start(&world);
    let refused = |request: &str| last_line(&daemon.say(request)).to_owned();
    assert_eq!(
        refused("attach site\n"),
        "error site unknown-run: no run of this trigger is remembered (trigger it first: gitsocket client site)"
    );
    trigger(&daemon);
    assert_eq!(
        refused("log site 0123456789abcd\n"),
        "error site unknown-run: no run 0123456789abcd of this trigger is remembered \
         (see which there are: gitsocket log site)"
    );
    for request in ["log nosuch\n", "log nosuch 0123456789abcd\n", "attach nosuch\n"] {
        assert!(
            refused(request).starts_with("error nosuch unknown-trigger: "),
            "{request}"
        );
    }
    for run in ["../../config.ron", "/etc/passwd", "0198C0FFEE0001", "-", "0..0"] {
        assert!(
            refused(&format!("log site {run}\n")).starts_with("error - bad-request: "),
            "{run}"
        );
    }
    for (args, exit, word) in [
        (&["log", "site", "0123456789abcd"][..], 4, "unknown-run"),
        (&["log", "nosuch"], 4, "unknown-trigger"),
        (&["log", "a/b"], 2, "not a valid name of a trigger"),
        (&["log", "site", "../x"], 2, "not a valid id of a run"),
        (&["log", "-s", "./nobody.sock", "site"], 3, "no daemon"),
        (&["log", "--timeout", "soon", "site"], 2, "90s"),
    ] {
        let ended = world.run(args);
        assert_eq!(
            (ended.exit, ended.out.as_str()),
            (exit, ""),
            "{args:?}: {ended:?}"
        );
        assert!(ended.err.contains(word), "{args:?}: {ended:?}");
    }
}

#[test]
fn a_run_of_many_lines_keeps_the_newest() {
    let world = World::sourced();
    world.hook("i=0; while [ $i -lt 6000 ]; do echo \"line $i of a hook that says more than anybody wants to keep\"; i=$((i+1)); done");
    let daemon = start(&world);
    let run = id(&trigger(&daemon));
    let size = fs::metadata(&files(&world)[0]).unwrap().len();
    assert!((250_000..270_000).contains(&size), "{size}");
    let records = json(&daemon.say(format!(
        "{{\"op\":\"log\",\"name\":\"site\",\"run\":\"{run}\"}}\n"
    )));
    assert_eq!(records[0]["event"], "lagged");
    // Queued, started, fetched, updated, the hook's start, its lines and end, done.
    let lost = records[0]["lost"].as_u64().unwrap();
    assert_eq!(lost + records.len() as u64 - 1, 6000 + 7);
    assert!(
        records[records.len() - 3]["line"]
            .as_str()
            .unwrap()
            .starts_with("line 5999 ")
    );
}

/// The ids that a list begins its lines with.
fn listed(list: &str) -> Vec<&str> {
    let lines = list
        .lines()
        .filter(|line| !line.starts_with("ok ") && !line.starts_with("error "));
    lines.filter_map(|line| line.split(' ').next()).collect()
}

fn trigger_of(daemon: &Daemon, name: &str) -> String {
    id(&json(
        &daemon.say(format!("{{\"op\":\"trigger\",\"name\":\"{name}\"}}\n")),
    ))
}

#[test]
fn runs_of_all_triggers() {
    let world = World::sourced();
    world.fifo("go");
    let hook = world.script("hook", "echo started; read line < ../go");
    let of = |name: &str, more: &str| {
        format!("\"{name}\": (repo: \"repo.git\", path: \"{name}\", fsync: false, {more}),")
    };
    world.config_of(
        &[
            of("a", ""),
            of("b", ""),
            of("site", &format!("hooks: [Exec(run: [{hook:?}], when: Always)]")),
            of("hidden", "allow: [User(54321)]"),
        ]
        .concat(),
    );
    let daemon = start(&world);
    assert_eq!(daemon.say("log\n"), "ok -\n");
    let mut runs = Vec::new();
    for name in ["a", "b", "a", "a", "b"] {
        runs.push(trigger_of(&daemon, name));
    }
    runs.reverse();
    let ended = world.run(["log"]);
    assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "{ended:?}");
    // Those of one second are in the order of their triggers; those of one trigger in their own.
    let sorted = |ids: &[&str]| {
        let mut ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        ids.sort();
        ids
    };
    let all = listed(&ended.out);
    assert_eq!(
        sorted(&all),
        sorted(&runs.iter().map(String::as_str).collect::<Vec<_>>()),
        "{ended:?}"
    );
    let of_a: Vec<_> = all
        .iter()
        .filter(|run| [1, 2, 4].iter().any(|at| runs[*at] == **run))
        .collect();
    assert_eq!(of_a, [&runs[1], &runs[2], &runs[4]], "{ended:?}");
    let times: Vec<_> = ended
        .out
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    assert!(times.is_sorted_by(|later, earlier| later >= earlier), "{ended:?}");

    // One that goes on is first, and says whose it is.
    let (mut client, _) = hold(&daemon);
    let going_on = status(&daemon)["runs"][0]["run"].as_str().unwrap().to_owned();
    let list = daemon.say("log\n");
    let first = list.lines().next().unwrap();
    assert!(
        first.starts_with(&going_on) && first.contains(" site by ") && first.ends_with(": running"),
        "{list}"
    );
    let ended = world.run(["log", "-n", "2"]);
    assert_eq!(listed(&ended.out).len(), 2, "{ended:?}");
    assert!(ended.out.starts_with(&going_on), "{ended:?}");
    let records = json(&daemon.say("{\"op\":\"log\",\"limit\":3}\n"));
    let events: Vec<_> = records
        .iter()
        .map(|record| record["event"].as_str().unwrap())
        .collect();
    assert_eq!(events, ["going-on", "past", "past", "done"]);
    assert_eq!(
        (&records[0]["trigger"], &records[3]["trigger"]),
        (&"site".into(), &"-".into())
    );
    fs::write(world.path("go"), "\n").unwrap();
    client.read_to_string(&mut String::new()).unwrap();

    // Twenty, if nobody says; and after a restart, from the disk.
    for _ in 0..20 {
        run_hooks_again(&daemon, "b");
    }
    let list = daemon.say("log\n");
    assert_eq!(list.lines().count(), 21, "{list}");
    let most = world.run(["log", "-n", "1000"]);
    assert_eq!(listed(&most.out).len(), 26, "{most:?}");
    let daemon = restart(&world, daemon);
    assert_eq!(daemon.say("log\n"), list);
    assert_eq!(world.run(["log", "-n", "1000"]).out, most.out);
    for args in [
        ["log", "b", "-n", "3"].as_slice(),
        &["log", "b", "-n3"],
        &["log", "--limit=3", "b"],
    ] {
        assert_eq!(listed(&world.run(args).out).len(), 3, "{args:?}");
    }
    assert_eq!(listed(&world.run(["log", "b"]).out).len(), 22);

    // Whole ids, for those who want them.
    let commit = records[1]["new"].as_str().unwrap();
    assert!(
        most.out.contains(&commit[..7]) && !most.out.contains(&commit[..8]),
        "{most:?}"
    );
    let long = world.run(["log", "--long", "a"]);
    assert!(long.out.lines().all(|line| line.contains(commit)), "{long:?}");
}

#[test]
fn a_run_is_named_by_its_first_digits() {
    let world = World::configured();
    let daemon = start(&world);
    let first = id(&trigger(&daemon));
    // The last digits of an id count; the others are a time.
    let unique = &first[..13];
    let whole = daemon.say(format!("log site {first}\n"));
    assert_eq!(daemon.say(format!("log site {}\n", &first[..4])), whole);
    let second = id(&trigger(&daemon));
    assert_eq!(first[..4], second[..4], "that changes twice a century");
    let ended = world.run(["log", "site", unique]);
    assert_eq!((ended.exit, ended.out), (0, whole.clone()));
    // What more than one begin with is none; fewer than four digits say nothing.
    let several = daemon.say(format!("log site {}\n", &first[..4]));
    assert_eq!(
        several,
        format!(
            "error site unknown-run: the ids of 2 runs of this trigger begin or end with {} (give more digits of it)\n",
            &first[..4]
        )
    );
    for run in [&first[..3], "ffff", &format!("{first}0")] {
        let answer = daemon.say(format!("log site {run}\n"));
        assert!(
            answer.starts_with(&format!("error site unknown-run: no run {run} ")),
            "{answer}"
        );
    }
    let daemon = restart(&world, daemon);
    assert_eq!(daemon.say(format!("log site {unique}\n")), whole);
}

/// The name of a user is the first in /etc/passwd that has its number.
#[test]
fn users_are_named() {
    let world = World::configured();
    let mut daemon = start(&world);
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd
        .lines()
        .find(|line| line.split(':').nth(2) == Some(uid.as_str()));
    let name = line.map(|line| format!("{} ", line.split(':').next().unwrap()));
    let who = format!("{}uid={uid} gid=", name.unwrap_or_default());
    trigger(&daemon);
    assert!(daemon.wait_for(" run=").contains(&format!("peer=\"{who}")));
    assert!(daemon.say("log site\n").contains(&format!(" by {who}")));
    assert!(world.run(["status"]).out.contains(&format!(" by {who}")));
    assert!(
        status(&daemon)["last"]["peer"]
            .as_str()
            .unwrap()
            .starts_with(&who)
    );
}
