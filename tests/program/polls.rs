//! Polls ask a remote when they should, over few connections, and deploy what is new.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    history::start,
    over_http::Asked,
    remote::Remote,
    source::{Source, file},
    world::{Daemon, World, last_line, need},
};

/// A world with a commit, and a server of it.
fn served() -> Option<(World, Source, Remote)> {
    if !need("git") {
        return None;
    }
    let (world, source) = World::with_commit();
    let remote = Remote::start(&source.path);
    Some((world, source, remote))
}

/// A server that never answers.
fn silent_remote() -> Remote {
    let remote = Remote::start(Path::new("nowhere"));
    remote.shared.change(|seen| seen.holds = true);
    remote
}

/// Another worker, which asks at its beginning.
fn reload(daemon: &mut Daemon) {
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready");
}

/// What `status` says of how `name` is polled, once that `is_so`.
fn polled(daemon: &Daemon, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    status(daemon, name, |status| is_so(&status["poll"]))["poll"].clone()
}

/// What `status` says of `name`, once that `is_so`.
fn status(daemon: &Daemon, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    loop {
        let answer = daemon.say(format!("{{\"op\":\"status\",\"name\":\"{name}\"}}\n"));
        let status: Value = serde_json::from_str(answer.lines().next().unwrap()).unwrap();
        if is_so(&status) {
            return status;
        }
        thread::yield_now();
    }
}

/// Who asked for the runs of `name` that are remembered, the newest first.
fn peers(daemon: &Daemon, name: &str) -> Vec<String> {
    let answer = daemon.say(format!("{{\"op\":\"log\",\"name\":\"{name}\"}}\n"));
    let records = answer
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let peers = records.filter_map(|record| Some(record["peer"].as_str()?.split(' ').next()?.to_owned()));
    peers.collect()
}

#[test]
fn a_push_that_no_trigger_followed_is_deployed() {
    let Some((world, mut source, remote)) = served() else {
        return;
    };
    let url = remote.url();
    world.config_of(&format!(
        "\"site\": (repo: \"{url}\", branch: \"main\", path: \"site\", poll: \"1h\"),
         \"local\": (repo: \"repo.git\", path: \"local\", poll: \"2h\"),
         \"by-hand\": (repo: \"{url}\", path: \"by-hand\"),"
    ));
    let mut daemon = start(&world);
    daemon.wait_for(" ok ");
    daemon.wait_for(" ok ");
    assert_eq!(
        (peers(&daemon, "site"), peers(&daemon, "local")),
        (vec!["timer".into()], vec!["timer".into()])
    );
    assert_eq!(world.site()["a"], file("1"));
    assert!(peers(&daemon, "by-hand").is_empty() && polled(&daemon, "by-hand", |_| true).is_null());
    // The poll and its run, over one connection.
    assert_eq!(
        (remote.asked(), remote.look(|seen| seen.connections)),
        ((2, 1), 1)
    );

    // Nothing new: no run, no objects.
    reload(&mut daemon);
    let poll = polled(&daemon, "site", |poll| !poll["asked"].is_null());
    polled(&daemon, "local", |poll| !poll["asked"].is_null());
    assert_eq!((&poll["every"], &poll["failing"]), (&3600.into(), &Value::Null));
    let next = poll["next"].as_u64().unwrap() - poll["asked"].as_u64().unwrap();
    assert!((3200..=3970).contains(&next), "{poll}");
    assert_eq!(
        (
            remote.asked(),
            peers(&daemon, "site").len(),
            peers(&daemon, "local").len()
        ),
        ((3, 1), 1, 1)
    );

    source.commit([("a", file("2"))]);
    reload(&mut daemon);
    daemon.wait_for(" ok ");
    daemon.wait_for(" ok ");
    assert_eq!(world.site()["a"], file("2"));

    // What was rolled back is not deployed again.
    world.run_to(0, ["rollback", "site"]);
    reload(&mut daemon);
    for name in ["site", "local"] {
        polled(&daemon, name, |poll| !poll["asked"].is_null());
    }
    assert_eq!(world.site()["a"], file("1"));
    assert_eq!(peers(&daemon, "site").len(), 3);
    // Who takes away what is there gets it again.
    std::fs::remove_dir_all(world.path("local")).unwrap();
    reload(&mut daemon);
    daemon.wait_for(" ok ");
    assert!(world.path("local/a").exists());
    assert_eq!(peers(&daemon, "site").len(), 3);
}

#[test]
fn a_remote_that_does_not_answer_is_in_the_log_once() {
    let Some((world, _source, remote)) = served() else {
        return;
    };
    remote.shared.change(|seen| seen.refuses = true);
    world.config_of(&format!(
        "\"site\": (repo: \"{}\", path: \"site\", poll: \"1h\"),",
        remote.url()
    ));
    let mut daemon = start(&world);
    let line = daemon.wait_for("error site ");
    assert!(line.contains("timer") && line.contains("remote"), "{line}");
    let failing = |poll: &Value| !poll["failing"].is_null();
    let poll = polled(&daemon, "site", failing);
    assert_eq!(
        (&poll["failing"]["times"], &poll["failing"]["kind"]),
        (&1.into(), &"remote".into()),
        "{poll}"
    );
    assert_eq!(poll["asked"], Value::Null);
    // The run says what the poll has found, and does not ask again.
    assert_eq!(remote.look(|seen| seen.asked(Asked::Capabilities)), 1);
    let last = status(&daemon, "site", |status| !status["last"].is_null())["last"].clone();
    assert_eq!(
        (&last["kind"], &last["message"]),
        (&poll["failing"]["kind"], &poll["failing"]["message"]),
        "{last} {poll}"
    );
    let next = poll["next"].as_u64().unwrap() - poll["failing"]["since"].as_u64().unwrap();
    assert!((3200..=3970).contains(&next), "an hour at the latest: {poll}");
    assert_eq!(peers(&daemon, "site"), ["timer"]);

    reload(&mut daemon);
    polled(&daemon, "site", failing);
    assert_eq!(peers(&daemon, "site"), ["timer"], "it is known already");

    remote.shared.change(|seen| seen.refuses = false);
    reload(&mut daemon);
    daemon.wait_for("ok site ");
    let poll = polled(&daemon, "site", |poll| !poll["asked"].is_null());
    assert!(!failing(&poll), "{poll}");
    assert_eq!(world.site()["a"], file("1"));
}

#[test]
fn polls_leave_a_job_and_are_given_up_on_at_the_end() {
    let world = World::sourced();
    let remote = silent_remote();
    let polled: String = (0..120)
        .map(|n| {
            format!(
                "\"t{n}\": (repo: \"{}\", path: \"t{n}\", poll: \"10s\"),",
                remote.url()
            )
        })
        .collect();
    let text = format!(
        "(listen: [Unix(path: \"s.sock\")], jobs: 3, triggers: {{ {polled}
         \"site\": (repo: \"repo.git\", path: \"site\") }})"
    );
    world.write("config.ron", &text);
    let mut daemon = start(&world);
    let begin = Instant::now();
    remote.wait_for(|seen| seen.inside == 2);
    daemon.deploys("site");
    assert!(daemon.say("status site\n").contains("site idle"));
    assert_eq!(remote.look(|seen| (seen.most, seen.connections)), (2, 2));
    daemon.signal(Signal::TERM);
    let (status, log) = daemon.wait();
    assert!(status.success(), "{log}");
    assert!(
        begin.elapsed() < Duration::from_secs(9),
        "before the polls' time was over"
    );
    assert_eq!(remote.look(|seen| seen.most), 2);
}

/// With one job, a remote that says nothing holds it as long as a poll may take, and not once more.
#[test]
fn a_silent_remote_holds_the_only_job_no_longer_than_its_poll() {
    let world = World::sourced();
    let silent = silent_remote();
    let text = format!(
        "(listen: [Unix(path: \"s.sock\")], jobs: 1, triggers: {{
         \"silent\": (repo: \"{}\", path: \"silent\", poll: \"10s\"),
         \"site\": (repo: \"repo.git\", path: \"site\") }})",
        silent.url()
    );
    world.write("config.ron", &text);
    let mut daemon = start(&world);
    silent.wait_for(|seen| seen.inside == 1);
    let begin = Instant::now();
    let line = daemon.wait_for("error silent ");
    assert!(line.contains("timer") && line.contains("timeout"), "{line}");
    assert_eq!(silent.look(|seen| seen.connections), 1);
    daemon.deploys("site");
    // A poll has ten seconds, a fetch ten minutes.
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    assert_eq!(peers(&daemon, "silent"), ["timer"]);
    assert!(!status(&daemon, "silent", |_| true)["failing"].is_null());
    let begin = Instant::now();
    daemon.signal(Signal::TERM);
    let (status, log) = daemon.wait();
    assert!(status.success(), "{log}");
    assert!(begin.elapsed() < Duration::from_secs(9), "{log}");
}

/// The only one that waits for an interval.
#[test]
fn the_remote_is_asked_again_and_again_over_one_connection() {
    let Some((world, mut source, remote)) = served() else {
        return;
    };
    world.config_of(&format!(
        "\"site\": (repo: \"{}\", path: \"site\", poll: \"10s\"),
         \"local\": (repo: \"repo.git\", branch: \"main\", path: \"local\", poll: \"1h\"),",
        remote.url()
    ));
    let mut daemon = start(&world);
    daemon.wait_for(" ok ");
    daemon.wait_for(" ok ");
    let begin = Instant::now();
    source.commit([("a", file("2"))]);
    daemon.wait_for("ok site ");
    assert!(begin.elapsed() >= Duration::from_secs(8), "{:?}", begin.elapsed());
    assert_eq!(world.site()["a"], file("2"));
    // Twice a poll and its run.
    assert_eq!(
        (remote.asked(), remote.look(|seen| seen.connections)),
        ((4, 2), 1)
    );
    assert_eq!(peers(&daemon, "site"), ["timer", "timer"]);
    a_source_is_not_opened_for_nothing(&world, source, &mut daemon);
}

/// The files of `source` have been as they are for a while, but for its branch.
fn a_source_is_not_opened_for_nothing(world: &World, mut source: Source, daemon: &mut Daemon) {
    let at = |name: &str| source.path.join(name);
    resume(daemon, "local");
    daemon.wait_for("ok local ");
    assert_eq!(peers(daemon, "local"), ["timer", "timer"]);
    resume(daemon, "local");
    is_quiet(daemon, "local");
    // Without objects it is no repository.
    let (objects, away) = (at("objects"), at("away"));
    fs::rename(&objects, &away).unwrap();
    resume(daemon, "local");
    is_quiet(daemon, "local");
    fs::rename(&away, &objects).unwrap();

    // Where the branch becomes another's name, and that moves.
    fs::rename(at("refs/heads/main"), at("refs/heads/next")).unwrap();
    fs::write(at("refs/heads/main"), "ref: refs/heads/next\n").unwrap();
    resume(daemon, "local");
    is_quiet(daemon, "local");
    source.commit_on("next", [("a", file("3"))]);
    resume(daemon, "local");
    daemon.wait_for("ok local ");
    assert_eq!(fs::read(world.path("local/a")).unwrap(), b"3");
}

/// Pause `name` and let it go on: it is polled at once.
fn resume(daemon: &Daemon, name: &str) {
    // The end of a run settles when its turn is.
    status(daemon, name, |status| {
        status["state"] == "idle" && !status["poll"]["next"].is_null()
    });
    let paused = daemon.say(format!("pause {name}\n"));
    assert_eq!(paused, format!("ok {name}\n"));
    let resumed = daemon.say(format!("resume {name}\n"));
    assert!(last_line(&resumed).starts_with("ok "), "{resumed}");
}

/// The poll of `name` that was due has found nothing.
fn is_quiet(daemon: &Daemon, name: &str) {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let poll = polled(daemon, name, |poll| {
        poll["next"].as_u64().is_some_and(|next| next > now() + 3000)
    });
    assert_eq!(poll["failing"], Value::Null);
}

#[test]
fn what_a_server_offers_is_asked_for_once() {
    let Some((world, mut source, remote)) = served() else {
        return;
    };
    world.config_of(&format!(
        "\"site\": (repo: \"{}\", branch: \"main\", path: \"site\", poll: \"1h\"),",
        remote.url()
    ));
    let mut daemon = start(&world);
    daemon.wait_for(" ok ");
    let asked = || {
        remote.look(|seen| {
            (
                seen.asked(Asked::Capabilities),
                seen.asked(Asked::Refs),
                seen.asked(Asked::Fetch),
            )
        })
    };
    assert_eq!(asked(), (2, 2, 1));
    for n in 3..6 {
        resume(&daemon, "site");
        is_quiet(&daemon, "site");
        assert_eq!(asked(), (3, n, 1));
    }
    assert_eq!(remote.look(|seen| seen.connections), 1);

    // A proxy may end a connection between two polls.
    remote.shared.change(|seen| seen.hangs_up = true);
    for n in 6..8 {
        resume(&daemon, "site");
        is_quiet(&daemon, "site");
        assert_eq!(asked(), (3, n, 1));
    }
    remote.shared.change(|seen| seen.hangs_up = false);

    // Another server takes the place of that one.
    remote.shared.change(|seen| seen.is_old = true);
    resume(&daemon, "site");
    is_quiet(&daemon, "site");
    assert_eq!(asked(), (4, 8, 1));
    resume(&daemon, "site");
    is_quiet(&daemon, "site");
    assert_eq!(asked(), (5, 8, 1), "it offers nothing that could be kept");
    source.commit([("a", file("2"))]);
    resume(&daemon, "site");
    daemon.wait_for("ok site ");
    assert_eq!(world.site()["a"], file("2"));
}

#[test]
fn a_paused_trigger_is_not_polled() {
    let Some((world, mut source, remote)) = served() else {
        return;
    };
    world.config_of(&format!(
        "\"site\": (repo: \"{}\", path: \"site\", poll: \"1h\"),
         \"other\": (repo: \"repo.git\", path: \"other\", poll: \"1h\"),",
        remote.url()
    ));
    let mut daemon = start(&world);
    daemon.wait_for(" ok ");
    daemon.wait_for(" ok ");
    assert_eq!(daemon.say("pause site\n"), "ok site\n");
    source.commit([("a", file("2"))]);
    let before = remote.asked();
    let next = polled(&daemon, "site", |_| true)["next"].clone();
    assert_eq!(next, Value::Null);
    // Nor by the next worker, which asks all at its beginning.
    reload(&mut daemon);
    daemon.wait_for("ok other ");
    assert_eq!((remote.asked(), peers(&daemon, "site").len()), (before, 1));
    assert_eq!(polled(&daemon, "site", |_| true)["next"], Value::Null);
    assert!(last_line(&daemon.say("resume site\n")).starts_with("ok site"));
    daemon.wait_for("ok site ");
    assert_eq!(remote.asked(), (before.0 + 2, before.1 + 1));
    assert_eq!(world.site()["a"], file("2"));
}
