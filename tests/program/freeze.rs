//! The front shows a freeze and who asked for what, and passes both on to the daemon.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    sync::{Arc, Mutex},
};

use gitsocket::base::{
    event::{
        Current, Done, Event, GoingOn, Last, May, Outcome, Past, Paused, Polled, Record, Standing, State,
        Status, Unasked,
    },
    fault::{Failure, Kind},
    name::{Note, RunId, TriggerName},
};
use serde_json::{Value, json};

use super::{
    sender::{Answer, Front, JSON, sign},
    visitor::Visitor,
    world::{Daemon, World, last_line},
};

/// What a daemon answers to a request.
type Answers = Box<dyn FnMut(&Value) -> Vec<Record> + Send>;

/// A daemon that answers as it is told; what it is asked is written down.
struct Fake {
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Fake {
    fn start(world: &World, mut answers: Answers) -> Self {
        let listener = UnixListener::bind(world.path("s.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let list = asked.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let request: Value = serde_json::from_str(&line).unwrap();
                let answer = answers(&request);
                list.lock().unwrap().push(request);
                for record in answer {
                    let line = serde_json::to_string(&record).unwrap() + "\n";
                    stream.get_mut().write_all(line.as_bytes()).ok();
                }
            }
        });
        Self { asked }
    }

    /// What it was asked of this `op`.
    fn asked(&self, op: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|request| request["op"] == op)
            .cloned()
            .collect()
    }
}

fn site() -> TriggerName {
    TriggerName::new("site").unwrap()
}

fn note(text: &str) -> Note {
    Note::new(text).unwrap()
}

fn record(event: Event) -> Record {
    Record {
        run: RunId::new(),
        event,
    }
}

fn answered(outcome: Outcome) -> Record {
    record(Event::Done(Done::answered("site", outcome)))
}

fn refused(kind: Kind, message: &str) -> Record {
    record(Event::Done(Done::failed(
        "site",
        Failure::new(kind, message, None),
    )))
}

const SECRET: &str = "It's a Secret";

fn deliver(front: &Front, id: &str, branch: &str) -> Answer {
    let body = format!("{{\"ref\":\"refs/heads/{branch}\"}}");
    let signature = format!("sha256={}", sign(SECRET, body.as_bytes()));
    let head = [
        JSON,
        ("X-GitHub-Event", "push"),
        ("X-GitHub-Delivery", id),
        ("X-Hub-Signature-256", &signature),
    ];
    front.ask("POST /h", &head, body.as_bytes())
}

const HOOK: &str =
    r#""/h": (trigger: "site", from: GitHub(secret_file: "secret"), refs: ["refs/heads/main"]),"#;

#[test]
fn a_delivery_says_what_it_is() {
    let world = World::new();
    world.secret("secret", &format!("{SECRET}\n"));
    let fake = Fake::start(&world, Box::new(|_| vec![answered(Outcome::Accepted)]));
    let mut front = Front::start(&world, HOOK, "");
    assert_eq!(deliver(&front, "72d3162e-cc78", "main").status, 202);
    assert_eq!(deliver(&front, "\u{e9}\"'<b>", "main").status, 202);
    let notes: Vec<Value> = fake
        .asked("trigger")
        .iter()
        .map(|asked| asked["note"].clone())
        .collect();
    assert_eq!(
        notes,
        [
            "GitHub push to refs/heads/main, delivery 72d3162e-cc78",
            "GitHub push to refs/heads/main"
        ]
    );
    // Which refs were pushed instead.
    let answer = deliver(&front, "2", "mian");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({"trigger": "site", "ignored": "a push to other refs", "refs": ["refs/heads/mian"]})
    );
    // Whose secret it is not, is for the log alone.
    world.secret("secret", "another\n");
    let answer = deliver(&front, "3", "main");
    assert!(
        answer.status == 401 && !answer.body.contains("secret"),
        "{answer:?}"
    );
    let line = front.process.wait_for("delivery refused");
    assert!(
        line.contains(&world.path("secret").display().to_string()),
        "{line}"
    );
}

/// A daemon of the version before knows no notes, and refuses what it does not know.
#[test]
fn a_daemon_that_takes_no_notes_is_triggered_all_the_same() {
    let world = World::new();
    world.secret("secret", &format!("{SECRET}\n"));
    let fake = Fake::start(
        &world,
        Box::new(|request| match request.get("note") {
            Some(_) => vec![refused(Kind::BadRequest, "unknown field `note`")],
            None => vec![answered(Outcome::Accepted)],
        }),
    );
    let front = Front::start(&world, HOOK, "");
    assert_eq!(deliver(&front, "1", "main").status, 202);
    assert_eq!(fake.asked("trigger").len(), 2);
}

#[test]
fn no_forge_is_told_of_a_failure_while_a_trigger_is_paused() {
    let world = World::new();
    world.secret("secret", &format!("{SECRET}\n"));
    let paused = Arc::new(Mutex::new(true));
    let is_paused = paused.clone();
    let _fake = Fake::start(
        &world,
        Box::new(move |_| {
            if *is_paused.lock().unwrap() {
                vec![refused(Kind::Paused, "paused by alice: <secret> plans")]
            } else {
                vec![answered(Outcome::Accepted)]
            }
        }),
    );
    let mut front = Front::start(&world, HOOK, "metrics: true");
    for _ in 0..2 {
        let answer = deliver(&front, "1", "main");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json(), json!({"trigger": "site", "paused": true}));
    }
    front
        .process
        .wait_for("not triggered by the delivery 1 of GitHub");
    let metrics = front.ask("GET /metrics", &[], b"").body;
    for line in [
        r#"gitsocket_deliveries_total{webhook="/h",result="paused"} 2"#,
        r#"gitsocket_deliveries_total{webhook="/h",result="unavailable"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    // To deliver it once more is another try, and nothing was kept.
    assert!(metrics.contains("gitsocket_names_kept 0"), "{metrics}");
    *paused.lock().unwrap() = false;
    assert_eq!(deliver(&front, "1", "main").status, 202);
}

fn status(paused: Option<Paused>) -> Status {
    Status {
        trigger: site(),
        state: State::Idle,
        follows: None,
        paused,
        poll: Some(Polled {
            every: 600,
            next: Some(1_764_036_631),
            asked: None,
            failing: Some(Unasked {
                since: 1_764_000_000,
                times: 3,
                failure: Failure::new(Kind::Unreachable, "no route <b>", None),
            }),
        }),
        stuck: None,
        runs: Vec::new(),
        last: None,
        standing: Standing {
            commit: Some("5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80".into()),
            ..Standing::default()
        },
        failing_for: None,
        may: vec![May::Trigger, May::Pause],
        reload_refused: None,
    }
}

/// Two runs: one that waits, and one that has ended.
fn log() -> Vec<Record> {
    let going_on = GoingOn {
        task: Default::default(),
        peer: "www uid=33 pid=7".into(),
        accepted: 1_764_000_000,
        began: None,
        overdue: None,
        trigger: None,
        notes: vec![note("GitHub push to refs/heads/<main>"), note("deploy by alice")],
    };
    let past = Past {
        task: Default::default(),
        peer: "www uid=33 pid=7".into(),
        accepted: 1_764_000_000,
        began: 1_764_000_000,
        ended: 1_764_000_001,
        phases_ms: Default::default(),
        notes: vec![note("deploy by bob")],
        done: Done::answered("site", Outcome::UpToDate),
    };
    let run = RunId::parse("0198c0ffee0001").unwrap();
    let (waits, ended) = (
        Current {
            run: RunId::new(),
            going_on,
        },
        Last { run, past },
    );
    vec![
        Record {
            run: waits.run,
            event: Event::GoingOn(waits.going_on),
        },
        Record {
            run: ended.run,
            event: Event::Past(ended.past),
        },
        answered(Outcome::Answered),
    ]
}

#[test]
fn a_trigger_is_paused_and_resumed_by_hand() {
    let world = World::new();
    let paused = Arc::new(Mutex::new(None));
    let now = paused.clone();
    let fake = Fake::start(
        &world,
        Box::new(move |request| {
            let mut now = now.lock().unwrap();
            match request["op"].as_str().unwrap() {
                "status" => vec![
                    record(Event::Status(Box::new(status(now.clone())))),
                    answered(Outcome::Answered),
                ],
                "log" => log(),
                "pause" => {
                    *now = Some(Paused {
                        since: 1_764_036_631,
                        peer: "www uid=33 pid=7".into(),
                        reason: request["reason"].as_str().map(note),
                        refused: Some(1_764_040_000),
                    });
                    vec![answered(Outcome::Answered)]
                }
                "resume" => {
                    *now = None;
                    vec![answered(Outcome::Answered)]
                }
                _ => vec![answered(Outcome::Accepted)],
            }
        }),
    );
    let mut visitor = Visitor::signed_in(&world);
    let page = visitor.get("/triggers/site").body;
    for text in [
        "polls its remote every 10m, next",
        "Polls of the remote have been failing since",
        "3 times",
        "<bdi>no route &lt;b&gt;</bdi>",
        "“<bdi>GitHub push to refs/heads/&lt;main&gt;</bdi>”, “<bdi>deploy by alice</bdi>”",
        "“<bdi>deploy by bob</bdi>”",
        "action=\"/triggers/site/pause\"",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains("uid=33") && !page.contains("Paused"), "{page}");
    let form = visitor.get("/triggers/site").field("form").to_owned();
    let pause = |more: &str| visitor.post("/triggers/site/pause", &format!("form={form}{more}"));
    // What is no reason is not asked for; nor is anything without the form's token.
    for wrong in ["x".repeat(200), "a%0ab".into()] {
        let reply = pause(&format!("&reason={wrong}"));
        assert!(
            reply.status == 400 && reply.body.contains("this is not a valid reason"),
            "{reply:?}"
        );
    }
    assert_eq!(visitor.post("/triggers/site/pause", "reason=x").status, 403);
    assert_eq!(visitor.get("/triggers/site/pause").status, 405);
    assert!(fake.asked("pause").is_empty());
    let reply = pause("&reason=+the+<holiday>+&deploy=yes");
    assert_eq!((reply.status, reply.header("location")), (303, "/triggers/site"));
    assert_eq!(fake.asked("pause")[0]["reason"], "the <holiday>, by admin");

    let page = visitor.get("/triggers/site").body;
    for text in [
        "Paused since",
        "By <bdi>www uid=33 pid=7</bdi>: “<bdi>the &lt;holiday&gt;, by admin</bdi>”",
        "triggers were refused, the first one",
        "Resume and deploy",
        "<title>site: paused",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains("/triggers/site/deploy") && !page.contains("/triggers/site/pause"));
    let overview = visitor.get("/").body;
    for text in [
        "1 trigger is</b> paused",
        "<title>1 paused",
        "paused</span> since",
        "the &lt;holiday&gt;, by admin",
    ] {
        let found =
            overview.contains(text) || overview.contains(&text.replace("is</b> paused", "is paused.</b>"));
        assert!(found, "{text}: {overview}");
    }
    assert_eq!(
        visitor.press("/triggers/site", "/triggers/site/resume"),
        "/triggers/site"
    );
    assert!(fake.asked("trigger").is_empty());
    // Both at once.
    pause("");
    assert_eq!(fake.asked("pause")[1]["reason"], "by admin");
    let form = visitor.get("/triggers/site").field("form").to_owned();
    let reply = visitor.post("/triggers/site/resume", &format!("form={form}&deploy=yes"));
    assert!(
        reply.header("location").starts_with("/triggers/site/runs/"),
        "{reply:?}"
    );
    assert_eq!(fake.asked("resume").len(), 2);
    assert_eq!(fake.asked("trigger")[0]["note"], "deploy by admin");
    // A run's page tells both: who asked, as the daemon knows it, and what was said.
    let page = visitor.get("/triggers/site/runs/0198c0ffee0001").body;
    assert!(
        page.contains("by <bdi>www uid=33 pid=7</bdi>: “<bdi>deploy by bob</bdi>”"),
        "{page}"
    );
    visitor.front.wait_for("paused by admin from 127.0.0.1");
    visitor.front.wait_for("resumed by admin from 127.0.0.1");
}

/// With a daemon that does it.
#[test]
fn what_is_pushed_in_a_freeze_is_one_press_away() {
    let world = World::configured();
    world.secret("secret", &format!("{SECRET}\n"));
    std::fs::create_dir(world.path("state")).unwrap();
    let daemon = Daemon::start_with(&world, &[], &[("STATE_DIRECTORY", world.path("state"))]);
    let front = Front::start(&world, HOOK, "page: ()");
    let page = || front.ask("GET /triggers/site", &[], b"").body;
    let token = {
        let page = page();
        let (_, rest) = page.split_once("name=\"form\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let press = |what: &str, more: &str| {
        let body = format!("form={token}{more}");
        let answer = front.ask(&format!("POST /triggers/site/{what}"), &[form], body.as_bytes());
        assert_eq!(answer.status, 303, "{answer:?}");
    };
    press("pause", "&reason=holidays");
    assert!(page().contains("“<bdi>holidays</bdi>”"), "{}", page());
    assert_eq!(
        deliver(&front, "1", "main").json(),
        json!({"trigger": "site", "paused": true})
    );
    assert!(!world.path("site/a").exists());
    press("resume", "&deploy=yes");
    assert!(last_line(&daemon.say("attach site\n")).starts_with("ok site"));
    assert!(world.site().contains_key("a"));
    let said = daemon.say("log site\n");
    assert!(said.contains("(deploy on the page)"), "{said}");
    assert!(page().contains("“<bdi>deploy on the page</bdi>”") && !page().contains("Paused since"));
    assert_eq!(deliver(&front, "1", "main").status, 202);
    assert!(last_line(&daemon.say("attach site\n")).starts_with("ok site"));
    let said = daemon.say("log site\n");
    assert!(
        said.contains("(GitHub push to refs/heads/main, delivery 1)"),
        "{said}"
    );
}
