//! What a kill or a failed hook leaves unfinished is remembered for each trigger, and finished.

use std::{fs, io::Write as _, net::TcpListener};

use serde_json::Value;

use super::{
    history::{hold, holding_hook, start, status, trigger},
    source::file,
    waiting,
    world::{Daemon, World},
};

fn lines(world: &World, name: &str) -> Vec<String> {
    let text = fs::read_to_string(world.path(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn state(world: &World) -> Value {
    let text = fs::read(world.path("site/.git/gitsocket/state.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Kill the daemon, and wait until its worker is gone, too: it holds the target's lock.
pub(super) fn kill(mut daemon: Daemon) {
    let is_worker = |pid: &rustix::process::Pid| {
        // A hook that is outside is the supervisor's child as well, and goes on.
        let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
        name.is_ok_and(|name| name.trim() == "gitsocket")
    };
    let workers: Vec<_> = daemon.workers().into_iter().filter(is_worker).collect();
    assert!(!workers.is_empty());
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    for worker in workers {
        let gone = |pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ")
        };
        while !gone(worker.as_raw_nonzero()) {
            std::thread::yield_now();
        }
    }
}

/// The log of `site`, the newest run first.
pub(super) fn log(daemon: &Daemon) -> Vec<Value> {
    waiting::log(daemon, "site")
}

/// Wait until no run of `site` goes on: the next one that is said follows it.
pub(super) fn settled(daemon: &Daemon) -> Vec<Value> {
    waiting::settled(daemon, "site")
}

#[test]
fn a_run_that_was_killed_in_a_hook_is_finished_at_the_start() {
    let world = World::sourced();
    holding_hook(&world);
    let daemon = start(&world);
    let (client, seen) = hold(&daemon);
    drop(client);
    assert!(seen.contains("queued site"), "{seen}");
    let killed = log(&daemon).remove(0);
    kill(daemon);
    let mut daemon = start(&world);
    assert!(daemon.wait_for("left unfinished").contains("site"));
    // The hook of the killed run may still be there, and take a line, too.
    world.let_go();
    let records = settled(&daemon);
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!(records[0]["peer"], "start");
    assert_eq!(records[0]["exit"], 0);
    let past = &records[1];
    assert_eq!(past["run"], killed["run"]);
    assert_eq!(past["peer"], killed["peer"], "who had asked for it");
    assert_eq!((&past["kind"], &past["exit"]), (&"interrupted".into(), &1.into()));
    assert_eq!(past["outcome"], "failed");
    assert_eq!(status(&daemon)["hooks_owed"], false);
    let replay = daemon.say(format!("log site {}\n", past["run"].as_str().unwrap()));
    assert!(replay.starts_with("error site interrupted: "), "{replay}");
    // Nothing is left: the next start does nothing.
    kill(daemon);
    let daemon = start(&world);
    trigger(&daemon);
    let records = settled(&daemon);
    assert_eq!(records.len(), 3, "{records:?}");
    assert_ne!(records[0]["peer"], "start");
}

/// A server that accepts, and says nothing.
#[test]
fn a_run_that_was_killed_in_a_fetch_is_finished_at_the_start() {
    let world = World::sourced();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let stalled = format!(
        "\"site\": (repo: \"git://127.0.0.1:{port}/repo.git\", branch: \"main\", path: \"site\", timeout: \"1h\"),"
    );
    world.config_of(&stalled);
    let daemon = start(&world);
    let mut client = daemon.connect();
    client.write_all(b"site\n").unwrap();
    // It is in the middle of a clone.
    let (_held, _) = silent.accept().unwrap();
    let killed = log(&daemon).remove(0);
    kill(daemon);
    world.config("");
    let daemon = start(&world);
    while fs::read(world.path("site/a")).is_err() {
        std::thread::yield_now();
    }
    let records = settled(&daemon);
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!(
        (&records[0]["peer"], &records[0]["outcome"]),
        (&"start".into(), &"updated".into())
    );
    assert_eq!(
        (&records[1]["run"], &records[1]["kind"]),
        (&killed["run"], &"interrupted".into())
    );
    assert_eq!(world.site().len(), 1);
}

/// Without a directory for its runs, it finishes them all the same; and what was killed may have been `once`.
#[test]
fn once_that_was_killed_is_finished_by_a_daemon() {
    let (world, mut source) = World::with_source();
    let tip = source.commit([("a", file("1"))]);
    world.hook(
        "if [ ! -e ../killed ]; then : > ../killed; kill -9 $PPID; exit 0; fi; echo $GITSOCKET_NEW >> ../log",
    );
    assert_eq!(world.run(["once", "site"]).exit, -1);
    let mut daemon = Daemon::start(&world, &[]);
    daemon.wait_for("ok site");
    let log = log(&daemon);
    let peers = log.iter().map(|run| run["peer"].as_str().unwrap());
    let peers: Vec<_> = peers.map(|peer| peer.split(' ').next().unwrap()).collect();
    assert_eq!(peers, ["start", "once"], "{log:?}");
    assert_eq!(lines(&world, "log"), [tip.to_string()]);
    // The next `once` says it too, if it finds it first.
    fs::remove_file(world.path("killed")).unwrap();
    source.commit([("a", file("2"))]);
    kill(daemon);
    assert_eq!(world.run(["once", "site"]).exit, -1);
    let ended = world.deploy();
    assert!(ended.err.contains("was interrupted"), "{ended:?}");
    assert!(!world.deploy().err.contains("was interrupted"));
}

#[test]
fn a_hook_that_failed_runs_again_at_the_start_and_others_do_not() {
    let (world, mut source) = World::with_commit();
    let hook = world.script("hook", "echo hook >> ../log; test -e ../well");
    world.config_of(&format!(
        "\"site\": (repo: \"repo.git\", branch: \"main\", path: \"site\", hooks: [Exec(run: [{hook:?}])]),
         \"other\": (repo: \"repo.git\", branch: \"main\", path: \"other\"),
         \"none\": (repo: \"repo.git\", branch: \"main\", path: \"none\"),"
    ));
    assert_eq!(world.run(["once", "site"]).exit, 5);
    assert_eq!(world.run(["once", "other"]).exit, 0);
    source.commit([("a", file("2"))]);
    world.write("well", "");
    let mut daemon = start(&world);
    daemon.wait_for("ok site");
    assert_eq!(settled(&daemon).len(), 1);
    assert_eq!(lines(&world, "log"), ["hook", "hook"]);
    assert_eq!(
        fs::read(world.path("other/a")).unwrap(),
        b"1",
        "it had nothing to finish"
    );
    assert!(!world.path("none/.git").exists());
    // A reload is not a start.
    fs::remove_file(world.path("well")).unwrap();
    source.commit([("a", file("3"))]);
    assert!(daemon.say("site\n").contains("error site hook"));
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait_for("ready");
    assert_eq!(settled(&daemon).len(), 2);
    assert_eq!(lines(&world, "log").len(), 3);
}

#[test]
fn triggers_of_one_path_remember_their_own_hooks() {
    let (world, mut source) = World::with_source();
    let first = source.commit([("a", file("1"))]);
    let well = world.script("well", "echo well $GITSOCKET_OLD >> ../log");
    let ill = world.script("ill", "echo ill $GITSOCKET_OLD >> ../log; test -e ../cured");
    world.config_of(&format!(
        "\"a\": (repo: \"repo.git\", branch: \"main\", path: \"site\", hooks: [Exec(run: [{well:?}])]),
         \"b\": (repo: \"repo.git\", branch: \"main\", path: \"site\", hooks: [Exec(run: [{ill:?}])]),"
    ));
    let run = |name: &str| world.run(["once", name]).exit;
    assert_eq!((run("b"), run("a"), run("a")), (5, 0, 0));
    let entry = |name: &str| {
        lines(&world, "log")
            .iter()
            .filter(|line| line.starts_with(name))
            .count()
    };
    assert_eq!((entry("ill"), entry("well")), (1, 1));
    assert_eq!(state(&world)["version"], 1);
    assert_eq!(
        state(&world)["hooks_succeeded_for"],
        Value::Null,
        "b's are pending"
    );
    assert_eq!((run("b"), entry("ill")), (5, 2), "a's success is not b's");
    world.write("cured", "");
    assert_eq!((run("b"), run("b"), entry("ill")), (0, 0, 3));
    assert_eq!(state(&world)["hooks_succeeded_for"], first.to_string());
    // What a deploys, b's hooks have not seen.
    source.commit([("a", file("2"))]);
    assert_eq!((run("a"), run("b"), entry("ill")), (0, 0, 4));
    let last = lines(&world, "log").pop().unwrap();
    assert_eq!(last, format!("ill {first}"));
}

/// README: a hook starts if it has not yet succeeded for the commit.
#[test]
fn a_hook_that_is_added_runs_at_the_next_trigger() {
    let world = World::new();
    let tip = world.source().commit([("a", file("1"))]);
    let hooks: Vec<_> = ["1", "2"]
        .iter()
        .map(|n| {
            let path = world.script(&format!("hook{n}"), &format!("echo {n} >> ../log"));
            format!("Exec(run: [{path:?}])")
        })
        .collect();
    let deploy = |hooks: &str| {
        world.config(&format!("hooks: [{hooks}]"));
        world.deploy();
        lines(&world, "log").join("")
    };
    assert_eq!(deploy(&hooks[0]), "1");
    assert_eq!(deploy(&hooks.join(",")), "12", "the one that is new");
    assert_eq!(deploy(&hooks.join(",")), "12");
    assert_eq!(deploy(&hooks[1]), "12");
    assert_eq!(
        deploy(&hooks[1].replace("])", ", \"x\"])")),
        "122",
        "it is another one"
    );
    // What the version before wrote: nothing runs because of the upgrade, and then everything is as usual.
    world.write(
        "site/.git/gitsocket/state.json",
        &format!("{{\"hooks_succeeded_for\":\"{tip}\"}}"),
    );
    assert_eq!(deploy(&hooks[0]), "122");
    assert_eq!(deploy(&hooks.join(",")), "1222");
    assert_eq!(state(&world)["hooks_succeeded_for"], tip.to_string());
    // A damaged one: once too often.
    world.write("site/.git/gitsocket/state.json", "\0\0\0\0");
    assert_eq!(deploy(&hooks.join(",")), "122212");
}

/// Nothing at the place of the files keeps the daemon from starting.
#[test]
fn traps_in_place_of_what_is_remembered() {
    let world = World::configured();
    world.deploy();
    let dir = world.path("site/.git/gitsocket");
    for name in ["state.json", "run.json"] {
        fs::remove_file(dir.join(name)).ok();
        world.fifo(&format!("site/.git/gitsocket/{name}"));
    }
    let mut daemon = start(&world);
    daemon.wait_for("ok site");
    assert!(trigger(&daemon).last().unwrap()["exit"] == 0);
    assert!(!dir.join("run.json").exists() && dir.join("state.json").is_file());
}
