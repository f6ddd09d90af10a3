//! The completions hold the whole command line, and each shell that is installed can use its own.

use std::{fs, process::Command};

use super::{
    help,
    source::file,
    world::{World, need},
};

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// A world with the triggers `site` and `other`, and the script of `shell` in `script`.
fn world(shell: &str) -> World {
    let world = World::new();
    world.config_of(
        "\"site\": (repo: \"repo.git\", path: \"1\"), \"other\": (repo: \"repo.git\", path: \"2\"),",
    );
    let ended = world.run(["completions", shell]);
    assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "{shell}");
    world.write("script", &ended.out);
    world
}

#[test]
fn every_command_and_option_is_in_them() {
    for shell in SHELLS {
        let script = fs::read_to_string(world(shell).path("script")).unwrap();
        for help in help::all() {
            // The lines that are about this command, in the way of each shell.
            let lines: String = match shell {
                "fish" => {
                    let its = format!("'__gitsocket_in \"{}\"'", help.name);
                    script.lines().filter(|line| line.contains(&its)).collect()
                }
                _ if help.name.is_empty() => script.clone(),
                _ => {
                    let its = format!("\n    {})\n", help.name);
                    let (_, rest) = script
                        .split_once(&its)
                        .unwrap_or_else(|| panic!("{shell}: {}", help.name));
                    rest.split("\n        ;;").next().unwrap().to_owned()
                }
            };
            for option in &help.options {
                let form = match (shell, option.strip_prefix("--")) {
                    ("fish", Some(long)) => format!("-l {long}"),
                    ("fish", None) => format!("-s {}", option.trim_start_matches('-')),
                    _ => option.clone(),
                };
                let found = lines
                    .split([' ', '\'', '{', '}', ',', '(', ')', '[', '\n'])
                    .collect::<Vec<_>>();
                let found = found
                    .windows(2)
                    .any(|pair| pair[0] == form || pair.join(" ") == form);
                assert!(found, "{shell}: {} has no {form}:\n{lines}", help.name);
            }
            let name = help.name.as_str();
            assert!(
                script.split([' ', '\'', ':']).any(|word| word == name),
                "{shell}: {name}"
            );
        }
    }
}

#[test]
fn every_shell_can_read_its_own() {
    for shell in SHELLS {
        let world = world(shell);
        if need(shell) {
            let output = Command::new(shell)
                .arg("-n")
                .arg(world.path("script"))
                .output()
                .unwrap();
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{shell}: {output:?}"
            );
        }
    }
}

#[test]
fn bash_completes() {
    if !need("bash") {
        return;
    }
    let world = world("bash");
    // What bash itself does at the Tab key.
    let complete = |words: &str| {
        let script = format!(
            "compopt() {{ echo \"compopt $*\"; }}; . ./script; COMP_WORDS=({words} ''); \
             [[ '{words}' == *- ]] && COMP_WORDS=({words}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _gitsocket; echo \"${{COMPREPLY[*]}}\""
        );
        let output = Command::new("bash")
            .args(["--norc", "-c", &script])
            .current_dir(world.path("."))
            .output()
            .unwrap();
        assert!(output.stderr.is_empty(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    let program = env!("CARGO_BIN_EXE_gitsocket");
    for (words, expected) in [
        ("once", "other site"),
        ("once site", "other site"),
        ("client", "other site"),
        ("client --json", "other site"),
        ("status", "other site"),
        ("log", "other site"),
        ("log site", ""),
        ("setup", "other site"),
        ("client site", "other site"),
        ("status site", "other site"),
        ("pause", "other site"),
        ("resume site", "other site"),
        ("log --long", "other site"),
        ("log site -n", ""),
        ("client --timeout 5m", "other site"),
        ("client --timeout", ""),
        ("client -s", "compopt -o default"),
        ("once -g", "compopt -o dirnames"),
        ("once -c missing.ron", ""),
        ("server --log-format", "text json"),
        ("completions", "bash zsh fish man"),
        ("check -", "--help -c --config --remote --web"),
        ("nonsense", ""),
    ] {
        assert_eq!(complete(&format!("{program} {words}")), expected, "{words}");
    }
    let commands = complete(program);
    assert!(commands.starts_with("server once client "), "{commands}");
}

#[test]
fn fish_completes() {
    if !need("fish") {
        return;
    }
    let world = world("fish");
    // It asks the program itself, which it has to find.
    let path = format!(
        "{}:{}",
        std::path::Path::new(env!("CARGO_BIN_EXE_gitsocket"))
            .parent()
            .unwrap()
            .display(),
        std::env::var("PATH").unwrap()
    );
    for (words, expected) in [
        ("gitsocket once ", "other\ttrigger\nsite\ttrigger\n"),
        ("gitsocket client ", "other\ttrigger\nsite\ttrigger\n"),
        ("gitsocket completions z", "zsh\n"),
        (
            "gitsocket check --r",
            "--remote\talso contact every remote and look for the branch\n",
        ),
    ] {
        let output = Command::new("fish")
            .args([
                "--no-config",
                "-c",
                &format!("source script; complete -C '{words}'"),
            ])
            .current_dir(world.path("."))
            .env("PATH", &path)
            .env("HOME", world.path("."))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{words}");
    }
}

/// They come from the configuration, or from a daemon for those who may not read it.
#[test]
fn names_of_triggers() {
    let world = world("bash");
    let names = |args: &[&str]| {
        let ended = world.run(["completions", "triggers", "--"].iter().chain(args));
        assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "{args:?}");
        ended.out
    };
    let both = "other\nsite\n";
    assert_eq!(names(&[]), both);
    assert_eq!(names(&["client", "-s", "./nobody.sock"]), "");
    assert_eq!(names(&["once", "-c", "missing.ron"]), "");
    world.source().commit([("a", file("1"))]);
    let daemon = world.daemon();
    assert_eq!(names(&["client", "-s", "s.sock", "--json"]), both);
    fs::rename(world.path("config.ron"), world.path("hidden.ron")).unwrap();
    assert_eq!(names(&[]), "");
    assert_eq!(
        names(&["client", "--socket", daemon.socket.to_str().unwrap()]),
        both
    );
    assert_eq!(world.run(["completions", "bash", "zsh"]).exit, 2);
}
