//! Deliveries that foreign programs sign are accepted: GitHub's library, Standard Webhooks, a hook of git.

use std::process::Command;

use super::{
    foreign::{find, skipped},
    sender::{Front, JSON},
    source::file,
    world::{World, git},
};

const SECRET: &str = "It's a Secret to Everybody";
/// Bodies as they come: with characters that are not ASCII, with white space that counts, with a line's end.
const BODIES: [&str; 3] = [
    r#"{"ref":"refs/heads/main"}"#,
    r#"{"ref":"refs/heads/main","pusher":{"name":"Zoë 🦀"}}"#,
    "{\n  \"ref\" : \"refs/heads/main\"  \n}\n",
];

/// What `command` prints, unless it cannot do its work here.
fn printed(command: &mut Command, what: &str) -> Option<String> {
    let output = command.output().unwrap();
    if output.status.success() {
        return Some(String::from_utf8(output.stdout).unwrap());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let why = said
        .lines()
        .find(|line| line.contains("rror"))
        .unwrap_or("it says nothing");
    skipped(&format!("{what}: {why}"));
    None
}

fn served(world: &World) -> super::world::Daemon {
    super::configure(world, "repo.git", "");
    world.daemon()
}

#[test]
fn githubs_own_library_signs() {
    let Some(node) = find("node") else {
        return;
    };
    let modules = std::env::var("GITSOCKET_TEST_NODE_MODULES").unwrap_or_else(|_| "node_modules".into());
    let world = World::sourced();
    world.secret("secret", SECRET);
    let _daemon = served(&world);
    let hook = r#""/hooks/site": (trigger: "site", from: GitHub(secret_file: "secret"))"#;
    let front = Front::start(&world, hook, "");
    for body in BODIES {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/sign.mjs");
        let mut command = Command::new(&node);
        command.args([script, &modules, SECRET, body]);
        let Some(signature) = printed(&mut command, "node has no @octokit/webhooks-methods") else {
            return;
        };
        let head = [
            JSON,
            ("X-GitHub-Event", "push"),
            ("X-Hub-Signature-256", &*signature),
        ];
        let answer = front.ask("POST /hooks/site", &head, body.as_bytes());
        assert_eq!(answer.status, 202, "{body}: {answer:?}");
        let other = format!("{body} ");
        assert_eq!(front.ask("POST /hooks/site", &head, other.as_bytes()).status, 401);
    }
}

#[test]
fn the_library_of_standard_webhooks_signs() {
    const KEY: &str = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";
    let python = std::env::var("GITSOCKET_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let Some(python) = find(&python) else {
        return;
    };
    let world = World::sourced();
    world.secret("secret", KEY);
    let _daemon = served(&world);
    let hook = r#""/hooks/site": (trigger: "site", from: StandardWebhooks(secret_file: "secret"))"#;
    let front = Front::start(&world, hook, "");
    for (body, event) in BODIES
        .into_iter()
        .zip([None, Some("Push Hook"), Some("Tag Push Hook")])
    {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/sign.py");
        let id = format!("id-{}", body.len());
        let mut command = Command::new(&python);
        command.args([script, KEY, &id, body]);
        let Some(signed) = printed(&mut command, "python has no standardwebhooks") else {
            return;
        };
        let (time, signature) = signed.trim().split_once(' ').unwrap();
        let mut head = vec![
            JSON,
            ("webhook-id", &*id),
            ("webhook-timestamp", time),
            ("webhook-signature", signature),
        ];
        head.extend(event.map(|event| ("X-Gitlab-Event", event)));
        let answer = front.ask("POST /hooks/site", &head, body.as_bytes());
        assert_eq!(answer.status, 202, "{body}: {answer:?}");
        head[1].1 = "another";
        assert_eq!(front.ask("POST /hooks/site", &head, body.as_bytes()).status, 401);
    }
}

/// `git push` to a bare repository: its hook posts, as Gitea does, and the pushed commit is live.
#[test]
fn a_push_by_git_is_live() {
    let Some(python) = find("python3") else {
        return;
    };
    let world = World::new();
    let dir = world.path("");
    git(&dir, &["init", "--quiet", "--bare", "-b", "main", "repo.git"]);
    git(&dir, &["clone", "--quiet", "repo.git", "work"]);
    world.secret("secret", SECRET);
    let _daemon = served(&world);
    let hook =
        r#""/hooks/site": (trigger: "site", from: Gitea(secret_file: "secret"), refs: ["refs/heads/main"])"#;
    let _front = Front::start(&world, hook, "");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/post_receive.py");
    world.script(
        "repo.git/hooks/post-receive",
        &format!(
            "exec {python:?} {script:?} {:?} {:?} '{}' \"$@\"",
            world.path("web.sock"),
            world.path("secret"),
            "/hooks/site"
        ),
    );
    let work = world.path("work");
    let identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
    for text in ["1", "2"] {
        world.write("work/a", text);
        git(&work, &["add", "a"]);
        git(
            &work,
            &[&identity[..], &["commit", "--quiet", "-m", text]].concat(),
        );
        git(&work, &["push", "--quiet", "origin", "HEAD:main"]);
        let answered = std::fs::read_to_string(world.path("repo.git/answered")).unwrap();
        let (status, body) = answered.split_once(' ').unwrap();
        assert_eq!(status, "202", "{answered}");
        let run: serde_json::Value = serde_json::from_str(body).unwrap();
        world.run_to(0, ["log", "site", run["run"].as_str().unwrap(), "-s", "s.sock"]);
        assert_eq!(world.site()["a"], file(text));
    }
    // Neither a branch that is not meant nor one that goes triggers.
    for refspec in ["HEAD:other", ":other"] {
        git(&work, &["push", "--quiet", "origin", refspec]);
        let answered = std::fs::read_to_string(world.path("repo.git/answered")).unwrap();
        assert!(answered.starts_with("200 "), "{refspec}: {answered}");
    }
}
