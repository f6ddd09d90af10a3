//! A newcomer's mistakes on the command line and in the configuration get an answer that helps.

use std::fs;

use super::{
    help,
    world::{Ended, World},
};

/// What `args` print, as one would see it in a terminal.
fn transcript(world: &World, lines: &[&[&str]]) -> String {
    let mut text = String::new();
    for args in lines {
        let shown: Vec<String> = args
            .iter()
            .map(|arg| {
                if arg.is_empty() || arg.contains(' ') {
                    format!("'{arg}'")
                } else {
                    (*arg).to_owned()
                }
            })
            .collect();
        let Ended { exit, out, err } = world.run(*args);
        assert!(exit > 0 && exit <= 6, "{args:?}: {exit}");
        assert_eq!(out, "", "{args:?}: a failure is no result");
        text += &format!("$ gitsocket {}\n{err}[{exit}]\n\n", shown.join(" "));
    }
    let dir = fs::canonicalize(world.path(".")).unwrap();
    text.replace(&dir.display().to_string(), "DIR")
}

fn assert_snapshot(name: &str, text: &str) {
    insta::with_settings!({ snapshot_path => "../../fixtures/cli", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, text);
    });
}

/// The help is complete and true where others are held to it (`completions`, `manual`); here it is read.
#[test]
fn help() {
    for help in help::all() {
        let name = match help.name.as_str() {
            "" => "help".to_owned(),
            name => format!("help-{name}"),
        };
        assert_snapshot(&name, &help.text);
    }
    let world = World::new();
    let long = world.run(["once", "--help"]).out;
    for args in [["once", "-h"], ["once", "help"], ["help", "once"]] {
        assert_eq!(world.run(args).out, long, "{args:?}");
    }
    assert_eq!(world.run(["-V"]).out, world.run(["--version"]).out);
}

#[test]
fn commands_and_options() {
    let world = World::new();
    let text = transcript(
        &world,
        &[
            &[],
            &[""],
            &["servr"],
            &["deploy", "site"],
            &["undo", "site"],
            &["ls"],
            &["stop"],
            &["version"],
            &["frobnicate"],
            &["-x"],
            &["--json", "client", "site"],
            &["help", "me"],
            &["once", "--alll"],
            &["once", "--nothing"],
            &["once", "-c"],
            &["once", "-b", "main"],
            &["once", "-c", "config.ron", "-g", "."],
            &["client"],
            &["retry", "site", "site"],
            &["client", "-s"],
            &["client", "-s", "1", "-s", "2", "site"],
            &["client", "--timeout", "soon", "site"],
            &["client", "--timeout", "5", "site"],
            &["client", "--timeout", "0s", "site"],
            &["healthcheck", "site"],
            &["log", "one", "two", "three"],
            &["log", "-nx", "one"],
            &["log", "--limit=x", "one"],
            &["log", "-fn3", "one"],
            &["check", "site"],
            &["server", "site"],
            &["server", "--log-format", "xml"],
            &["setup"],
            &["setup", "site", "--command"],
            &["completions"],
            &["completions", "csh"],
            &["completions", "bash", "zsh"],
        ],
    );
    assert_snapshot("mistakes-options", &text);
}

#[test]
fn names() {
    let world = World::configured();
    let text = transcript(
        &world,
        &[
            &["once"],
            &["once", ""],
            &["once", "a b"],
            &["once", "../site"],
            &["once", "sitte"],
            &["once", "other"],
            &["once", "--all", "site"],
            &["client", ""],
            &["client", "a b"],
            &["status", "a/b"],
            &["setup", "a/b"],
            &["setup", "other"],
        ],
    );
    assert_snapshot("mistakes-names", &text);
    let _daemon = world.daemon();
    let text = transcript(
        &world,
        &[
            &["client", "sitte"],
            &["client", "other"],
            &["client", "--quiet", "other"],
            &["status", "other"],
        ],
    );
    assert_snapshot("mistakes-names-daemon", &text);
}

#[test]
fn configurations() {
    let world = World::new();
    fs::create_dir(world.path("dir")).unwrap();
    world.write("empty.ron", "");
    world.write("words", "not a configuration\n");
    let text = transcript(
        &world,
        &[
            &["once", "-c", "missing.ron", "site"],
            &["check", "-c", "missing.ron"],
            &["check", "-c", "dir"],
            &["server", "-c", "dir"],
            &["setup", "-c", "dir", "site"],
            &["check", "-c", "empty.ron"],
            &["check", "-c", "words"],
            &["once", "-g", "dir"],
        ],
    );
    assert_snapshot("mistakes-configurations", &text);
}

#[test]
fn addresses() {
    let world = World::new();
    world.config("");
    world.write("file", "no socket");
    fs::create_dir(world.path("dir")).unwrap();
    let text = transcript(
        &world,
        &[
            &["client", "-s", "nonsense", "site"],
            &["client", "-s", "", "site"],
            &["client", "-s", "99999", "site"],
            &["client", "-s", "::1:9418", "site"],
            &["client", "-s", ":9418", "site"],
            &["client", "-s", "./nobody.sock", "site"],
            &["client", "-s", "./file", "site"],
            &["client", "-s", "./dir", "site"],
            &["client", "-s", "127.0.0.1:1", "site"],
            &["client", "site"],
            &["client", "--quiet", "site"],
            &["status"],
            &["client", "--token-file", "missing", "site"],
        ],
    );
    assert_snapshot("mistakes-addresses", &text);
}
