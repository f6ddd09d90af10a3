//! A paused trigger deploys nothing, whatever happens to the daemon meanwhile.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::PathBuf,
};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    access::{say, with_tcp},
    history::{hold, holding_hook, json, start, status},
    source::file,
    unfinished::{kill, log},
    world::{Daemon, World, last_line},
};

const REASON: &str = "no deploys before the holidays";

fn is_paused(daemon: &Daemon) {
    for request in [
        "site\n",
        "trigger site nowait\n",
        "trigger site hooks\n",
        "retry site\n",
        "{\"op\":\"trigger\",\"name\":\"site\",\"wait\":false}\n",
    ] {
        let answer = daemon.say(request);
        if request.starts_with('{') {
            let done = &json(&answer)[0];
            assert_eq!(
                (&done["kind"], &done["exit"]),
                (&"paused".into(), &1.into()),
                "{done}"
            );
            continue;
        }
        assert!(answer.starts_with("error site paused: paused by "), "{answer}");
        let expected = format!(": {REASON} (to let it go on: gitsocket resume site)\n");
        assert!(answer.ends_with(&expected), "{answer}");
    }
}

fn files(world: &World) -> Vec<PathBuf> {
    let files = fs::read_dir(world.path("state/paused")).unwrap();
    files.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_paused_trigger_deploys_nothing_until_it_is_resumed() {
    let world = World::sourced();
    world.config_of(
        "\"site\": (repo: \"repo.git\", path: \"site\"), \"other\": (repo: \"repo.git\", path: \"other\")",
    );
    let mut daemon = start(&world);
    assert_eq!(daemon.say("pause site some reason\n"), "ok site\n");
    let line = daemon.wait_for("paused");
    assert!(line.contains("some reason") && line.contains("uid="), "{line}");
    let since = status(&daemon)["paused"]["since"].clone();
    assert!(since.is_u64());
    assert_eq!(daemon.say(format!("pause site {REASON}\n")), "ok site\n");
    let before = status(&daemon)["paused"].clone();
    assert_eq!((&before["since"], &before["reason"]), (&since, &REASON.into()));
    assert_eq!(before["refused"], Value::Null);
    is_paused(&daemon);
    let paused = status(&daemon)["paused"].clone();
    assert!(paused["refused"].is_u64(), "{paused}");
    assert!(daemon.say("status site\n").contains("; paused by "));
    let listed = daemon.say("log site\n");
    assert!(listed.starts_with("warning: site is paused by "), "{listed}");
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let numbers = json(&daemon.say("{\"op\":\"metrics\"}\n"));
    let of = |name: &str| numbers.iter().find(|of| of["trigger"] == name).unwrap()["paused"].clone();
    assert_eq!((of("site"), of("other")), (true.into(), false.into()));
    daemon.deploys("other");
    // The commands say what they have done.
    for (done, request) in [("paused", "pause"), ("resumed", "resume")] {
        let ended = world.run([request, "other"]);
        assert_eq!(
            (ended.exit, ended.out.as_str()),
            (0, &*format!("ok other {done}\n")),
            "{ended:?}"
        );
    }
    // Whatever becomes of the daemon, and of the trigger.
    world.config("");
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready");
    is_paused(&daemon);
    kill(daemon);
    let mut daemon = start(&world);
    assert!(daemon.wait_for("paused by ").contains(REASON));
    is_paused(&daemon);
    assert_eq!(status(&daemon)["paused"], paused);
    assert!(!world.path("site/.git").exists());
    // Another daemon has pauses of its own.
    let text = fs::read_to_string(world.path("config.ron")).unwrap();
    world.write("other.ron", &text.replace("s.sock", "o.sock"));
    let mut command = world.command(["server", "-c", "other.ron"]);
    command.env("STATE_DIRECTORY", world.path("state"));
    let other = Daemon::start_by(command, world.path("o.sock"));
    assert_eq!(status(&other)["paused"], Value::Null);
    drop(other);

    let answer = daemon.say("resume site\n");
    assert!(
        answer.starts_with("warning: ")
            && answer.contains("gitsocket client site, or, if it was rolled back, gitsocket retry site\n"),
        "{answer}"
    );
    assert_eq!(last_line(&answer), "ok site");
    assert!(files(&world).is_empty());
    assert_eq!(daemon.say("resume site\n"), "ok site\n");
    assert_eq!(status(&daemon)["paused"], Value::Null);
    daemon.deploys("site");
    assert_eq!(log(&daemon).len(), 1);
    // Nothing was refused this time.
    daemon.say("pause site\n");
    assert_eq!(daemon.say("resume site\n"), "ok site\n");
}

#[test]
fn a_run_that_waits_ends_when_a_pause_has_come_before_it() {
    let world = World::sourced();
    holding_hook(&world);
    let daemon = start(&world);
    let (mut going_on, _) = hold(&daemon);
    let mut waiting = daemon.connect();
    waiting.write_all(b"site\n").unwrap();
    let mut first = [0; 12];
    waiting.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"queued site\n");
    assert_eq!(daemon.say("pause site\n"), "ok site\n");
    fs::write(world.path("go"), "\n").unwrap();
    let mut rest = String::new();
    going_on.read_to_string(&mut rest).unwrap();
    assert!(last_line(&rest).starts_with("ok site "), "{rest}");
    rest.clear();
    waiting.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("error site paused: "), "{rest}");
    assert_eq!(log(&daemon).len(), 2, "a warning, and the one that was going on");
    assert!(status(&daemon)["paused"]["refused"].is_u64());
    assert_eq!(
        fs::read_dir(world.path("state/waiting")).unwrap().count(),
        1,
        "the lock"
    );
}

/// The way back is open in a freeze; and it is no way around it.
#[test]
fn a_paused_trigger_can_be_rolled_back() {
    let (world, mut source) = World::with_source();
    world.config("");
    for text in ["1", "2"] {
        source.commit([("a", file(text))]);
        world.deploy();
    }
    let daemon = start(&world);
    daemon.say("pause site\n");
    daemon.answers("rollback site\n", "ok site ");
    assert_eq!(fs::read(world.path("site/a")).unwrap(), b"1");
    assert!(daemon.say("retry site\n").starts_with("error site paused: "));
    // What is typed on the machine itself is meant.
    assert_eq!(world.run(["once", "--retry", "site"]).exit, 0);
}

#[test]
fn a_start_finishes_nothing_that_is_paused() {
    let world = World::sourced();
    holding_hook(&world);
    let daemon = start(&world);
    let (client, _) = hold(&daemon);
    drop(client);
    let accepted = daemon.say("trigger site nowait\n");
    assert!(last_line(&accepted).starts_with("ok site accepted"), "{accepted}");
    assert_eq!(daemon.say("pause site\n"), "ok site\n");
    kill(daemon);
    let mut daemon = start(&world);
    assert!(daemon.wait_for("paused by ").contains("site"));
    daemon.wait_for("was left unfinished, and is not finished while");
    let line = daemon.wait_for("a run waited, and is refused since the trigger is paused");
    assert!(line.contains("WARN"), "{line}");
    assert!(status(&daemon)["paused"]["refused"].is_u64());
    assert_eq!(log(&daemon).len(), 1, "a warning");
    let answer = daemon.say("resume site\n");
    assert!(
        answer.contains("gitsocket client site, or, if it was rolled back, gitsocket retry site\n"),
        "{answer}"
    );
    // The hook of the killed run may still be there, and take a line, too.
    world.let_go();
    let answer = daemon.say("site\n");
    assert!(
        answer.contains("was interrupted") && answer.contains("| ended\n"),
        "{answer}"
    );
    fs::remove_file(world.path("go")).unwrap();
}

#[test]
fn a_pause_that_a_restart_would_forget_is_none() {
    let world = World::configured();
    let daemon = world.daemon();
    let answer = daemon.say("pause site\n");
    assert!(
        answer.starts_with("error site resources: nothing is paused: "),
        "{answer}"
    );
    assert!(answer.contains("set STATE_DIRECTORY"), "{answer}");
    assert_eq!(daemon.say("resume site\n"), "ok site\n");
    daemon.deploys("site");
    drop(daemon);
    world.write("state/paused", "");
    let daemon = start(&world);
    let answer = daemon.say("pause site\n");
    assert!(
        answer.starts_with(
            "error site resources: it stays paused as it was, for the reason before: cannot write "
        ),
        "{answer}"
    );
    assert!(daemon.say("site\n").starts_with("error site paused: "));
    let answer = daemon.say("resume site\n");
    assert!(
        answer.starts_with("error site resources: it is still paused: ")
            && answer.contains("(remove the file that is there instead of a directory)"),
        "{answer}"
    );
    fs::remove_file(world.path("state/paused")).unwrap();
    daemon.deploys("site");
}

/// A deploy in a freeze is worse than one that comes later.
#[test]
fn what_cannot_be_read_counts_as_a_pause() {
    let world = World::configured();
    let daemon = start(&world);
    daemon.say("pause site\n");
    let path = files(&world).remove(0);
    for text in ["", "{", "{\"since\":1}", &" ".repeat(100_000)] {
        fs::write(&path, text).unwrap();
        let answer = daemon.say("site\n");
        assert!(
            answer.starts_with("error site paused: paused by an unknown peer since 20"),
            "{answer}"
        );
    }
    fs::remove_file(&path).unwrap();
    world.fifo(path.strip_prefix(world.path("")).unwrap().to_str().unwrap());
    assert!(daemon.say("site\n").starts_with("error site paused: "));
    assert_eq!(last_line(&daemon.say("resume site\n")), "ok site");
    daemon.deploys("site");
    // A directory that leads in a circle can be read by no user, nor can one of another user.
    let dir = path.parent().unwrap();
    fs::remove_dir_all(dir).unwrap();
    std::os::unix::fs::symlink(dir, dir).unwrap();
    assert!(daemon.say("site\n").starts_with("error site paused: "));
}

/// Who may trigger may not pause for that, nor run hooks again.
#[test]
fn who_may_pause() {
    let world = World::sourced();
    world.secret("token", "s3cret\n");
    for (operate, pause, hooks) in [
        ("", "not-allowed: ", "error site not-allowed: "),
        // There is no directory to keep it in.
        ("operate: [Token]", "resources: ", "ok site "),
    ] {
        let text = format!(
            "(listen: [Tcp(addr: \"127.0.0.1:0\", token_file: \"token\")],
              triggers: {{ \"site\": (repo: \"repo.git\", path: \"site\", {operate}) }})"
        );
        world.write("config.ron", &text);
        let (_daemon, addresses) = with_tcp(&world, &[]);
        let say = |request: &str| say(&addresses[0], format!("token s3cret\n{request}\n"));
        let answer = say("pause site");
        assert!(answer.starts_with(&format!("error site {pause}")), "{answer}");
        let answer = say("resume site");
        assert_eq!(answer.starts_with("ok site\n"), !operate.is_empty(), "{answer}");
        let answer = say("trigger site hooks");
        assert!(last_line(&answer).starts_with(hooks), "{answer}");
        // What is not there looks the same as ever.
        let answer = say("pause sit");
        assert!(answer.starts_with("error sit "), "{answer}");
    }
}
