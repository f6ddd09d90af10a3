//! A deploy in place that turns out bad is rolled back by itself, and its commit is held.

use std::fs;

use gix::ObjectId;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    source::{Source, file},
    world::{Daemon, Ended, World, last_line},
};

/// A world whose hook fails at a file `a` that is sick, or where `ill` is; and tells in `log` which commits it was told of.
pub struct Ward {
    pub world: World,
    pub source: Source,
}

impl Ward {
    pub fn new(more: &str) -> Self {
        let (world, source) = World::with_source();
        let ward = Self { world, source };
        ward.config(more);
        ward
    }

    pub fn config(&self, more: &str) {
        let hook = self.world.script(
            "hook",
            "read x < a; echo \"$GITSOCKET_OLD $GITSOCKET_NEW $x\" >> ../log
             [ -e ../wait ] && read y < ../go
             while read -r line; do echo \"$line\" >> ../log; done < \"$GITSOCKET_CHANGED_FILES\"
             [ -e ../ill ] && exit 4
             case $x in sick*) exit 3;; esac",
        );
        self.world
            .config(&format!("hooks: [Exec(run: [{hook:?}])], {more}"));
    }

    /// A commit whose file `a` says `text`.
    pub fn push(&mut self, text: &str) -> String {
        let a = file(&format!("{text}\n"));
        short(self.source.commit([("a", a), ("b", file("b"))]))
    }

    pub fn once(&self, args: &[&str]) -> Ended {
        self.world.run(["once"].iter().chain(args))
    }

    /// What the hook was told, as short ids, and forget it.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.world.path("log")).unwrap_or_default();
        fs::remove_file(self.world.path("log")).ok();
        let words = |line: &str| {
            let words = line.split(' ').map(|word| match word.len() {
                40 => &word[..7],
                _ => word,
            });
            words.collect::<Vec<_>>().join(" ")
        };
        text.lines().map(words).collect()
    }

    /// What the file `a` says.
    pub fn live(&self) -> String {
        fs::read_to_string(self.world.path("site/a"))
            .unwrap()
            .trim_end()
            .into()
    }

    pub fn head(&self) -> String {
        let branch = self.world.path("site/.git/refs/heads/main");
        fs::read_to_string(branch).unwrap()[..7].into()
    }

    /// The answer to `status site`, in JSON.
    pub fn status(&self, daemon: &Daemon) -> Value {
        let answer = daemon.say("{\"op\":\"status\",\"name\":\"site\"}\n");
        serde_json::from_str(answer.lines().next().unwrap()).unwrap()
    }

    /// How many runs are remembered.
    pub fn runs(&self, daemon: &Daemon) -> usize {
        daemon.say("log site\n").lines().count() - 1
    }
}

pub fn short(id: ObjectId) -> String {
    id.to_hex_with_len(7).to_string()
}

pub const ROLLBACK: &str = "on_failure: Rollback,";

#[test]
fn what_is_not_good_is_rolled_back_and_held() {
    let mut ward = Ward::new(ROLLBACK);
    // What it remembers survives it.
    let start = |world: &World| Daemon::start_with(world, &[], &[("STATE_DIRECTORY", world.path("state"))]);
    let good = ward.push("good");
    let mut daemon = start(&ward.world);
    daemon.deploys("site");
    ward.log();

    let sick = ward.push("sick");
    let answer = daemon.say("site\n");
    let expected = format!("error site rolled-back: {good} is live again: hook: the hook ");
    assert!(last_line(&answer).starts_with(&expected), "{answer}");
    assert!(
        last_line(&answer).contains(" ended with exit status 3 (push another commit; or, "),
        "{answer}"
    );
    assert!(
        answer.contains(&format!("rolled back {sick}..{good}\n")),
        "{answer}"
    );
    assert_eq!((ward.live(), ward.head()), ("good".into(), good.clone()));
    let seen = [
        format!("{good} {sick} sick"),
        "a".into(),
        format!("{sick} {good} good"),
        "a".into(),
    ];
    assert_eq!(ward.log(), seen);

    // It stays away, costs nothing, and is no run of the log; and the trigger is failing until there is a good one.
    let (runs, log) = (ward.runs(&daemon), daemon.say("log site\n"));
    for request in ["site\n", "{\"op\":\"trigger\",\"name\":\"site\"}\n"] {
        let answer = daemon.say(request);
        assert!(
            !answer.contains("fetched") && !answer.contains("worktree"),
            "{answer}"
        );
        let expected = format!("{sick} was rolled back ");
        assert!(answer.contains(&expected), "{answer}");
        let hint = " s ago: hook: the hook ";
        assert!(answer.contains(hint), "{answer}");
        assert!(
            answer.contains("; push another commit, or: gitsocket retry site"),
            "{answer}"
        );
    }
    let ended = ward.world.run(["client", "site"]);
    assert_eq!(ended.exit, 1, "{ended:?}");
    assert!(ended.err.contains("error site held: "), "{ended:?}");
    assert_eq!((ward.runs(&daemon), daemon.say("log site\n")), (runs, log));
    assert!(ward.log().is_empty());
    let status = ward.status(&daemon);
    assert_eq!(
        status["held"][0]["commit"].as_str().unwrap()[..7],
        sick,
        "{status}"
    );
    assert_eq!(status["held"][0]["kind"], "hook", "{status}");
    assert!(
        status["held"][0]["since"].is_u64() && status["held"][0]["message"].is_string(),
        "{status}"
    );
    assert_eq!(status["failing"]["kind"], "hook", "{status}");
    assert_eq!(
        (&status["hooks_owed"], &status["last"]["outcome"]),
        (&json!(false), &json!("rolled-back"))
    );
    assert_eq!(status["last"]["exit"], 7, "{status}");
    let shown = ward.world.run(["status", "site"]).out;
    assert!(shown.contains(&format!("held      {sick} since ")), "{shown}");
    assert!(shown.contains(", for the error above\n"), "{shown}");
    for once in ["gitsocket retry site", "hook: "] {
        assert_eq!(shown.matches(once).count(), 1, "{once}: {shown}");
    }

    // So it does after a restart.
    daemon.signal(Signal::TERM);
    daemon.wait();
    daemon = start(&ward.world);
    assert!(last_line(&daemon.say("site\n")).starts_with("error site held: "));
    assert_eq!(ward.runs(&daemon), runs);
    assert_eq!(ward.status(&daemon)["failing"]["kind"], "hook");

    let better = ward.push("better");
    assert_eq!(
        last_line(&daemon.say("site\n")),
        format!("ok site {good}..{better}")
    );
    let status = ward.status(&daemon);
    assert_eq!(
        (&status["held"], &status["failing"]),
        (&json!([]), &Value::Null),
        "{status}"
    );
    assert!(!ward.world.path("site/.git/gitsocket/held.json").exists());
}

/// The exit status, and the forms of the end, by every command that has one.
#[test]
fn the_end_of_a_run_that_was_rolled_back() {
    let mut ward = Ward::new(ROLLBACK);
    let good = ward.push("good");
    ward.world.deploy();
    for round in 0..2 {
        ward.push(&format!("sick {round}"));
        let ended = match round {
            0 => ward.once(&["--json", "site"]),
            _ => {
                let _daemon = ward.world.daemon();
                ward.world.run(["client", "--json", "site"])
            }
        };
        assert_eq!(ended.exit, 7, "{ended:?}");
        let done: Value = serde_json::from_str(ended.out.lines().next_back().unwrap()).unwrap();
        assert_eq!(
            (&done["outcome"], &done["kind"], &done["exit"]),
            (&json!("rolled-back"), &json!("hook"), &json!(7))
        );
        assert_eq!(&done["new"].as_str().unwrap()[..7], good);
        let said = done["message"].as_str().unwrap();
        assert!(
            said.starts_with(&format!("{good} is live again: hook: ")),
            "{said}"
        );
        let event = ended
            .out
            .lines()
            .find(|line| line.contains("\"event\":\"rolled-back\""))
            .unwrap();
        let event: Value = serde_json::from_str(event).unwrap();
        assert_eq!(&event["new"].as_str().unwrap()[..7], good);
    }
    let ended = ward.once(&["site"]);
    assert_eq!(ended.exit, 1, "{ended:?}");
    assert!(
        ended
            .err
            .contains("(without a daemon: gitsocket once --retry site -c "),
        "{ended:?}"
    );
}

/// The advice that such a run gives is followed.
#[test]
fn what_is_held_is_tried_again_on_request() {
    let mut ward = Ward::new(ROLLBACK);
    let good = ward.push("good");
    ward.world.deploy();
    ward.world.write("ill", "");
    let second = ward.push("second");
    let ended = ward.once(&["site"]);
    // What was good before is no better off.
    let both = format!("error site rolled-back: {good} is live again: hook: the hook ");
    assert!(ended.exit == 7 && ended.err.contains(&both), "{ended:?}");
    assert!(
        ended
            .err
            .contains("ended with exit status 4; and then hook: the hook "),
        "{ended:?}"
    );
    // Its hooks are pending; a run that finds the newest commit held goes on with that.
    let ended = ward.once(&["site"]);
    assert!(ended.exit == 7 && ended.err.contains(&both), "{ended:?}");
    fs::remove_file(ward.world.path("ill")).unwrap();
    ward.log();
    let ended = ward.once(&["site"]);
    let well = format!("; what was pending for {good}, which is live, is done now; push another commit");
    assert!(
        ended.exit == 1 && ended.err.contains("error site held: ") && ended.err.contains(&well),
        "{ended:?}"
    );
    assert_eq!(
        ward.log().iter().filter(|line| line.ends_with(" good")).count(),
        1
    );
    assert_eq!(ward.once(&["site"]).exit, 1, "it is held, and nothing is pending");

    let daemon = ward.world.daemon();
    assert!(ward.log().is_empty());
    let ended = ward.world.run(["retry", "site"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert_eq!(ended.out, format!("ok site {good}..{second}\n"));
    assert!(
        daemon.say("log site\n").contains(" retry by "),
        "{}",
        daemon.say("log site\n")
    );
    assert_eq!(ward.status(&daemon)["held"], json!([]));
    // Where nothing is held, it is a trigger.
    assert_eq!(
        last_line(&daemon.say("retry site\n")),
        format!("ok site up-to-date {second}")
    );
    ward.push("sick");
    assert!(last_line(&daemon.say("site\n")).starts_with("error site rolled-back: "));
    let answer = daemon.say("{\"op\":\"retry\",\"name\":\"site\"}\n");
    assert!(
        answer.contains(&format!("\"message\":\"{second} is live again")),
        "{answer}"
    );
    drop(daemon);
    let ended = ward.once(&["--retry", "site"]);
    assert!(
        ended.exit == 7 && ended.err.contains(&format!("{second} is live again")),
        "{ended:?}"
    );
}

/// `Keep` is the default in place; and without anything to go back to, it stays as well.
#[test]
fn what_is_not_to_be_rolled_back_stays() {
    let mut ward = Ward::new("");
    ward.push("good");
    ward.world.deploy();
    let sick = ward.push("sick");
    for _ in 0..2 {
        let ended = ward.once(&["site"]);
        assert_eq!((ended.exit, ward.head()), (5, sick.clone()), "{ended:?}");
    }
    let mut ward = Ward::new(ROLLBACK);
    let sick = ward.push("sick");
    for _ in 0..2 {
        let ended = ward.once(&["site"]);
        assert_eq!((ended.exit, ward.head()), (5, sick.clone()), "{ended:?}");
    }
    let good = ward.push("good");
    assert_eq!(ward.once(&["site"]).exit, 0);
    // One that was good is not taken back because something else is wrong.
    ward.world.write("ill", "");
    ward.config("on_failure: Rollback, umask: \"0027\",");
    let hook = ward.world.path("hook");
    ward.world.config(&format!(
        "hooks: [Exec(run: [{hook:?}], when: Always)], {ROLLBACK}"
    ));
    let ended = ward.once(&["site"]);
    assert_eq!((ended.exit, ward.head()), (5, good), "{ended:?}");
}

/// What is held stays so until a newer commit of its branch is good. That it is held is no news for hooks at Failed, nor is it that
/// there is nothing to go back to.
#[test]
fn what_is_held_stays_so_until_there_is_a_good_one() {
    let mut ward = Ward::new("");
    let hook = ward.world.path("hook");
    let tell = ward
        .world
        .script("tell", "echo \"$GITSOCKET_FAILURE\" >> ../told");
    ward.world.config(&format!(
        "hooks: [Exec(run: [{hook:?}]), Exec(run: [{tell:?}], at: Failed)], {ROLLBACK}"
    ));
    let told = |ward: &Ward| {
        let text = fs::read_to_string(ward.world.path("told")).unwrap_or_default();
        text.lines().count()
    };
    ward.push("good");
    ward.world.deploy();
    for args in [&["--rollback", "site"][..], &["--rollback", "site", "5d6e"]] {
        let ended = ward.once(args);
        assert_eq!((ended.exit, told(&ward)), (1, 0), "{ended:?}");
    }
    let sick = ward.source.commit([("a", file("sick\n"))]);
    assert_eq!(ward.once(&["site"]).exit, 7);
    assert_eq!((ward.once(&["site"]).exit, told(&ward)), (1, 1));
    let worse = ward.source.commit([("a", file("sick, too\n"))]);
    assert_eq!((ward.once(&["site"]).exit, told(&ward)), (7, 2));
    for newest in [sick, worse, sick] {
        ward.source.point("refs/heads/main", newest);
        let ended = ward.once(&["site"]);
        let expected = format!("error site held: {} was rolled back ", short(newest));
        assert!(ended.exit == 1 && ended.err.contains(&expected), "{ended:?}");
        assert_eq!((ward.live().as_str(), told(&ward)), ("good", 2));
    }
    ward.push("better");
    assert_eq!(ward.once(&["site"]).exit, 0);
    assert!(!ward.world.path("site/.git/gitsocket/held.json").exists());
}

/// The trigger is failing until a newer commit is good, whatever becomes of the hooks of the older one.
#[test]
fn what_is_held_is_failing() {
    let mut ward = Ward::new(ROLLBACK);
    let good = ward.push("good");
    let daemon = ward.world.daemon();
    daemon.say("site\n");
    ward.world.write("ill", "");
    ward.push("second");
    assert!(daemon.say("site\n").contains("; and then hook: "));
    let status = ward.status(&daemon);
    assert_eq!(
        (&status["failing"]["kind"], &status["hooks_owed"]),
        (&json!("hook"), &json!(true)),
        "{status}"
    );
    fs::remove_file(ward.world.path("ill")).unwrap();
    let answer = daemon.say("site\n");
    let last = last_line(&answer);
    assert!(
        last.starts_with("error site held: ") && last.contains(&good),
        "{answer}"
    );
    let status = ward.status(&daemon);
    assert_eq!(
        (&status["failing"]["kind"], &status["hooks_owed"]),
        (&json!("hook"), &json!(false)),
        "{status}"
    );
    let checked = ward.world.run(["healthcheck", "--failing-for", "0s"]);
    assert_eq!(checked.exit, 1, "{checked:?}");
    assert!(checked.err.contains("site has been failing "), "{checked:?}");
    // One that an operator has left is another matter.
    ward.push("third");
    daemon.deploys("site");
    assert!(last_line(&daemon.say("rollback site\n")).starts_with("ok site "));
    assert!(last_line(&daemon.say("site\n")).starts_with("error site held: "));
    assert_eq!(ward.status(&daemon)["failing"], Value::Null);
}

/// What asks for health is the same as a hook.
#[test]
fn what_is_not_healthy_is_rolled_back() {
    let mut ward = Ward::new(ROLLBACK);
    let check = ward
        .world
        .script("check", "read x < a; case $x in sick*) exit 1;; esac");
    ward.world.config(&format!(
        "hooks: [], health: (check: Exec(run: [{check:?}]), within: \"100ms\", every: \"10ms\"), {ROLLBACK}"
    ));
    let good = ward.push("good");
    ward.world.deploy();
    let sick = ward.push("sick");
    let ended = ward.once(&["site"]);
    assert_eq!((ended.exit, ward.live().as_str()), (7, "good"), "{ended:?}");
    let expected = format!("error site rolled-back: {good} is live again: unhealthy: ");
    assert!(ended.err.contains(&expected), "{ended:?}");
    let daemon = ward.world.daemon();
    let answer = daemon.say("site\n");
    assert!(
        answer.contains(&format!("error site held: {sick} was rolled back ")),
        "{answer}"
    );
    assert_eq!(ward.status(&daemon)["held"][0]["kind"], "unhealthy");
}
