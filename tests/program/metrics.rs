//! Metrics count runs rightly, survive a restart, and are shown only to clients that may see them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    history::{hold, holding_hook, json, restart, start, status, trigger},
    sender::{Answer, Front},
    source::file,
    supervisor::wait_until,
    world::{Daemon, World, last_line},
};

/// What the daemon says of itself.
fn daemon(daemon: &Daemon) -> Value {
    let records = json(&daemon.say("{\"op\":\"metrics\"}\n"));
    assert_eq!(records[0]["event"], "daemon", "{records:?}");
    records[0].clone()
}

/// The numbers of `trigger`; null if there are none.
fn numbers(daemon: &Daemon, trigger: &str) -> Value {
    let records = json(&daemon.say("{\"op\":\"metrics\"}\n"));
    let found = records
        .iter()
        .find(|record| record["event"] == "metrics" && record["trigger"] == trigger);
    found.cloned().unwrap_or_default()
}

fn count(histogram: &Value) -> u64 {
    let counts = histogram["counts"].as_array().unwrap();
    counts.iter().map(|count| count.as_u64().unwrap()).sum()
}

#[test]
fn runs_are_counted_and_the_counts_survive() {
    let (world, mut source) = World::with_commit();
    let site = "\"site\": (repo: \"repo.git\", branch: \"main\", path: \"site\"),";
    let bad = "\"bad\": (repo: \"missing.git\", path: \"bad\"),";
    world.config_of(&[site, bad].concat());
    let mut the = start(&world);
    let none = numbers(&the, "site");
    assert_eq!(
        none["runs"]["updated"], 0,
        "a trigger that has never run has numbers, too"
    );
    assert!(
        none["succeeded"].is_null() && none["deployed"].is_null(),
        "{none}"
    );
    trigger(&the);
    trigger(&the);
    the.say("bad\n");
    let site_now = numbers(&the, "site");
    let expected = serde_json::json!({"updated": 1, "up-to-date": 1, "failed": 0, "rolled-back": 0});
    assert_eq!(site_now["runs"], expected);
    assert_eq!(count(&site_now["took"]), 2, "{site_now}");
    let phases = &site_now["phases"];
    let hooks: Vec<u64> = ["lock", "fetch", "worktree", "publish"]
        .map(|phase| count(&phases[phase]))
        .into();
    assert_eq!(hooks, [2, 2, 2, 2], "{site_now}");
    assert!(phases.get("health").is_none(), "no run came to that: {site_now}");
    let sum = |of: &Value| of["us"].as_u64().unwrap();
    let all: u64 = phases.as_object().unwrap().values().map(sum).sum();
    assert_eq!(sum(&site_now["took"]).abs_diff(all) / 100, 0, "{site_now}");
    assert!(site_now["fetched_bytes"].as_u64() > Some(50), "{site_now}");
    assert!(
        site_now["succeeded"].is_u64() && site_now["deployed"].is_u64(),
        "{site_now}"
    );
    assert!(site_now["failing_since"].is_null(), "{site_now}");
    let bad_now = numbers(&the, "bad");
    assert_eq!(
        (&bad_now["runs"]["failed"], &bad_now["succeeded"]),
        (&1.into(), &Value::Null)
    );
    assert!(
        bad_now["failing_since"].is_u64() && count(&bad_now["phases"]["fetch"]) == 1,
        "{bad_now}"
    );

    // A reload, which takes a trigger away.
    world.config_of(site);
    the.signal(Signal::HUP);
    the.wait_for("ready");
    assert_eq!(numbers(&the, "site"), site_now);
    assert_eq!(numbers(&the, "bad"), Value::Null);
    source.commit([("a", file("2"))]);
    trigger(&the);
    let site_now = numbers(&the, "site");
    assert_eq!(site_now["runs"]["updated"], 2);
    // It comes back with what was counted.
    world.config_of(&[site, bad].concat());
    let the = restart(&world, the);
    assert_eq!(numbers(&the, "site"), site_now);
    assert_eq!(numbers(&the, "bad"), bad_now);

    let process = daemon(&the)["process"].clone();
    for field in ["since", "cpu_us", "max_fds"] {
        assert!(process[field].as_u64() > Some(0), "{field}: {process}");
    }
    // Also behind the sandbox.
    for field in ["resident_bytes", "threads", "open_fds"] {
        assert!(process[field].as_u64() > Some(3), "{field}: {process}");
    }
    let text = the.say("metrics\n");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("gitsocket ") && lines[0].contains(" jobs; "),
        "{text}"
    );
    assert!(
        lines[1].starts_with("bad: 0 updated, 0 up-to-date, 1 failed, 0 rolled-back; took ")
            && lines[1].ends_with("; failing"),
        "{text}"
    );
    assert!(lines[2].starts_with("site: 2 updated, 1 up-to-date, "), "{text}");
    assert_eq!(lines[3..], ["ok -"]);
}

#[test]
fn what_goes_on_and_what_was_damaged() {
    let world = World::sourced();
    holding_hook(&world);
    let the = start(&world);
    let held = hold(&the);
    the.say("{\"op\":\"trigger\",\"name\":\"site\",\"wait\":false}\n");
    let now = numbers(&the, "site");
    assert_eq!(
        (&now["state"], &now["running"], &now["waiting"]),
        (&"running-then-queued".into(), &1.into(), &1.into())
    );
    // One for each.
    fs::write(world.path("go"), "\n").unwrap();
    let mut rest = String::new();
    { held }.0.read_to_string(&mut rest).unwrap();
    fs::write(world.path("go"), "\n").unwrap();
    wait_until(|| status(&the)["state"] == "idle");
    let now = numbers(&the, "site");
    assert_eq!(count(&now["phases"]["hooks"]), 2, "{now}");

    // What another version, or a disk, has left there instead of numbers hides no run.
    drop(the);
    let dir = fs::read_dir(world.path("state/runs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (before, after) = text.split_once("\"tally\":{").unwrap();
        fs::write(
            &path,
            format!("{before}\"tally\":{{\"runs\":-1}},\"more\":{{{after}"),
        )
        .unwrap();
    }
    let the = start(&world);
    assert_eq!(the.say("log site\n").lines().count(), 3);
    let again = numbers(&the, "site");
    assert_eq!(again["runs"]["updated"], 0, "{again}");
    assert_eq!(again["succeeded"], now["succeeded"], "the last run says it");
}

/// `request` on the TCP port `port`, with the token.
fn say(port: u16, request: &str) -> String {
    super::access::say(&format!("127.0.0.1:{port}"), format!("token s3cret\n{request}\n"))
}

#[test]
fn each_sees_what_it_may_use_and_what_it_may_do() {
    let world = World::sourced();
    world.secret("token", "s3cret\n");
    world.write(
        "config.ron",
        "(listen: [Unix(path: \"s.sock\"), Tcp(addr: \"127.0.0.1:0\", token_file: \"token\")], triggers: {
            \"site\": (repo: \"repo.git\", path: \"site\"),
            \"hidden\": (repo: \"repo.git\", path: \"hidden\", allow: [User(54321)]),
            \"shop\": (repo: \"repo.git\", path: \"shop\", allow: [Token, User(0)], operate: [Token]),
            \"metrics\": (repo: \"repo.git\", path: \"metrics\", allow: [Token]),
        })",
    );
    let mut the = Daemon::spawn(&world, &[], &[("STATE_DIRECTORY", world.path("state"))]);
    let port = the.port();
    the.wait_for("ready");
    let names = |answer: String| -> Vec<String> {
        let records = json(&answer).into_iter();
        let numbers = records.filter(|record| record["event"] == "metrics");
        numbers
            .map(|record| record["trigger"].as_str().unwrap().into())
            .collect()
    };
    assert_eq!(
        names(say(port, "{\"op\":\"metrics\"}")),
        ["metrics", "shop", "site"]
    );
    let unix = names(the.say("{\"op\":\"metrics\"}\n"));
    assert!(
        !unix.contains(&"hidden".into()) && unix.contains(&"site".into()),
        "{unix:?}"
    );
    // A word that was a name: who may use that trigger is told what to say, and is not answered with something else.
    let answer = say(port, "metrics");
    assert!(
        answer.starts_with("error - bad-request: metrics is a trigger's name")
            && answer.contains("trigger metrics"),
        "{answer}"
    );
    assert!(last_line(&say(port, "trigger metrics")).starts_with("ok metrics "));
    assert!(
        the.say("metrics\n").starts_with("gitsocket "),
        "it may not use that"
    );

    let may = |answer: &str, trigger: &str| {
        let records = json(answer);
        let found = records.into_iter().find(|record| record["trigger"] == trigger);
        found.unwrap()["may"].clone()
    };
    let (trigger, all) = (
        serde_json::json!(["trigger"]),
        serde_json::json!(["trigger", "rollback", "retry", "hooks", "pause"]),
    );
    let answer = say(port, "{\"op\":\"status\"}");
    assert_eq!(
        (may(&answer, "site"), may(&answer, "shop")),
        (trigger, all.clone())
    );
    let answer = the.say("{\"op\":\"status\",\"name\":\"site\"}\n");
    assert_eq!(may(&answer, "site"), all, "the daemon's own user");
}

/// `GET path`, with these tokens.
fn get(front: &Front, path: &str, tokens: &[&str]) -> Answer {
    let said: Vec<String> = tokens.iter().map(|token| format!("Bearer {token}")).collect();
    let head: Vec<_> = said.iter().map(|said| ("Authorization", said.as_str())).collect();
    front.ask(&format!("GET {path}"), &head, b"")
}

#[test]
fn the_front_tells_prometheus() {
    let world = World::configured();
    let the = start(&world);
    world.secret("hook", "h00k\n");
    world.secret("scrape", "t0ken\n");
    let webhook = "\"/hooks/site\": (trigger: \"site\", from: Bearer(token_file: \"hook\"))";
    let front = Front::start(&world, webhook, "metrics: (token_file: \"scrape\")");
    let deliver = |token: &str| {
        let said = format!("Bearer {token}");
        front
            .ask("POST /hooks/site", &[("Authorization", &said)], b"")
            .status
    };
    assert_eq!((deliver("h00k"), deliver("wrong")), (202, 401));
    wait_until(|| status(&the)["last"].is_object());

    for tokens in [&[][..], &["t0ke"], &["t0ken", "t0ken"], &[""]] {
        let answer = get(&front, "/metrics", tokens);
        assert_eq!((answer.status, answer.body.as_str()), (401, ""), "{tokens:?}");
        assert!(answer.head.contains("\r\nwww-authenticate: bearer"), "{answer:?}");
    }
    let answer = get(&front, "/metrics", &["t0ken"]);
    let content_type = "\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n";
    assert!(
        answer.status == 200 && answer.head.contains(content_type),
        "{answer:?}"
    );
    for line in [
        "gitsocket_daemon_up 1",
        "gitsocket_runs_total{trigger=\"site\",outcome=\"updated\"} 1",
        "gitsocket_deliveries_total{webhook=\"/hooks/site\",result=\"accepted\"} 1",
        "gitsocket_deliveries_total{webhook=\"/hooks/site\",result=\"refused\"} 1",
        // So that Prometheus sees the first one.
        "gitsocket_deliveries_total{webhook=\"/hooks/site\",result=\"unavailable\"} 0",
    ] {
        assert!(
            answer.body.lines().any(|found| found == line),
            "{line}\n{}",
            answer.body
        );
    }
    // Also behind the front's own sandbox.
    for process in ["daemon", "web"] {
        let series = format!("gitsocket_process_open_fds{{process=\"{process}\"}} ");
        assert!(answer.body.contains(&series), "{series}\n{}", answer.body);
    }
    // Labels are what a configuration names: no commit, no run, no peer.
    let commit = status(&the)["commit"].as_str().unwrap()[..7].to_owned();
    assert!(
        !answer.body.contains(&commit) && !answer.body.contains("uid="),
        "{}",
        answer.body
    );

    world.secret("scrape", "other\n");
    assert_eq!(get(&front, "/metrics", &["t0ken"]).status, 401);
    assert_eq!(get(&front, "/metrics", &["other"]).status, 200);
    let answer = front.ask("POST /metrics", &[], b"");
    assert!(
        answer.status == 405 && answer.head.contains("\r\nallow: get, head"),
        "{answer:?}"
    );
    // Probes have no token.
    assert_eq!(
        (
            get(&front, "/healthz", &[]).status,
            get(&front, "/readyz", &[]).status
        ),
        (200, 200)
    );
    drop(front);

    fs::set_permissions(world.path("scrape"), fs::Permissions::from_mode(0o644)).unwrap();
    let ended = world.run(["web", "-c", "web.ron"]);
    assert!(
        ended.exit == 2 && ended.err.contains("can be read by others"),
        "{ended:?}"
    );
}

/// Whoever may connect to the front may ask; the daemon is not to feel it.
#[test]
fn however_many_ask_the_daemon_is_asked_once_a_second() {
    let world = World::new();
    let listener = UnixListener::bind(world.path("s.sock")).unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            let done = "\"trigger\":\"-\",\"outcome\":\"answered\",\"old\":null,\"new\":null,\"changed\":0,\"exit\":0,\"ms\":0";
            let answer = format!("{{\"run\":\"-\",\"event\":\"done\",{done}}}\n");
            stream.write_all(answer.as_bytes()).ok();
            stream.shutdown(Shutdown::Write).ok();
            stream.read_to_end(&mut Vec::new()).ok();
        }
    });
    let front = Front::start(&world, "", "metrics: true");
    for path in ["/readyz", "/metrics"] {
        let (begin, before) = (Instant::now(), asked.load(Ordering::SeqCst));
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| assert_eq!(get(&front, path, &[]).status, 200));
            }
        });
        let count = asked.load(Ordering::SeqCst) - before;
        assert!(
            count > 0 && count <= begin.elapsed().as_secs() + 1,
            "{path}: {count}"
        );
    }
}
