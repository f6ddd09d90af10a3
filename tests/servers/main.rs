//! Deploys from foreign servers work, through the real binary: git's own behind nginx, `git daemon`, dulwich.
//!
//! Each test starts its own server on high ports of the loopback. `ssh` does the same with OpenSSH's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]
#![allow(unreachable_pub, reason = "a test binary has no public API")]
#![allow(dead_code, reason = "modules are shared with other tests")]

mod browser;
#[path = "../support/cut.rs"]
mod cut;
mod daily;
mod dulwich;
#[path = "../support/foreign.rs"]
mod foreign;
#[path = "../support/front.rs"]
mod front;
mod git_daemon;
mod https;
mod lost;
#[path = "../support/nginx.rs"]
mod nginx;
mod prometheus;
mod proxied;
mod refusals;
mod secrets;
#[path = "../support/sender.rs"]
mod sender;
mod services;
mod signers;
#[path = "../support/source.rs"]
mod source;
mod warm;
#[path = "../support/world.rs"]
mod world;

use world::{Ended, World};

/// What all triggers of these tests say besides: the place for an option that all need.
const OPTIONS: &str = "path: \"site\", retries: 0,";

/// Let `site` be deployed from the branch main of `url`, with `more` of a trigger's fields.
fn configure(world: &World, url: &str, more: &str) {
    configure_branch(world, url, "main", more);
}

fn configure_branch(world: &World, url: &str, branch: &str, more: &str) {
    world.config_of(&format!(
        "\"site\": (repo: {url:?}, branch: {branch:?}, {OPTIONS} {more}),"
    ));
}

/// `once site`, which has to fail with `exit`; gives its last line, and the remedy that every one has to name.
fn fails(world: &World, exit: i32) -> String {
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, exit, "{ended:?}");
    assert_eq!(ended.out, "", "a failure is no result");
    last_line(&ended)
}

fn last_line(ended: &Ended) -> String {
    let last = ended.err.lines().next_back().unwrap_or_default();
    assert!(last.starts_with("error site "), "{ended:?}");
    assert!(last.ends_with(')'), "no remedy: {last}");
    last.to_owned()
}

/// Compare `text` with what is recorded, ports and paths aside.
fn snapshot(world: &World, ports: &[u16], name: &str, text: &str) {
    let mut text = text.replace(world.path("").to_str().unwrap(), "DIR/");
    for port in ports {
        text = text.replace(&format!(":{port}"), ":PORT");
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../fixtures/refusals");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
