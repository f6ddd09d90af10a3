//! Ignore rules and attributes that are in no tree count as for git, or are an error before anything changes.
//!
//! Each case is prepared twice, beside git's own clone. git goes on without rules that it cannot read, and waits for a
//! fifo without end; there, and only there, the program refuses what git does.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use Expected::{Refused, RefusedByUs, Same};

use super::{
    mortal::Mortal,
    source::file,
    world::{World, copy, git, need, tree},
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    /// git and the program do the same.
    Same,
    /// Both refuse.
    Refused,
    /// git would do something that we do not.
    RefusedByUs,
}

/// One of the two kinds of rules.
struct Kind {
    name: &'static str,
    info: &'static str,
    setting: &'static str,
    rules: &'static str,
    /// What becomes of a directory in the place of a file.
    dir: Expected,
}

const KINDS: [Kind; 2] = [
    Kind {
        name: "exclude",
        info: ".git/info/exclude",
        setting: "excludesFile",
        rules: "keepme\n",
        dir: Refused,
    },
    Kind {
        name: "attributes",
        info: ".git/info/attributes",
        setting: "attributesFile",
        rules: "*.t text eol=crlf\n",
        dir: Same,
    },
];

/// What stands at a file's place.
const FORMS: [&str; 11] = [
    "missing",
    "empty",
    "file",
    "link",
    "dangling",
    "below-a-file",
    "dir",
    "link-to-dir",
    "loop",
    "fifo",
    "unreadable",
];

/// Put `form` at `path`.
fn put(form: &str, path: &Path, rules: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::remove_file(path).ok();
    let beside = path.with_extension("beside");
    let name = |path: &Path| path.file_name().unwrap().to_owned();
    match form {
        "missing" => {}
        "empty" => fs::write(path, "").unwrap(),
        "file" => fs::write(path, rules).unwrap(),
        "link" => {
            fs::write(&beside, rules).unwrap();
            symlink(name(&beside), path).unwrap();
        }
        "dangling" => symlink("nowhere", path).unwrap(),
        "below-a-file" => {
            fs::write(&beside, rules).unwrap();
            symlink(Path::new(&name(&beside)).join("below"), path).unwrap();
        }
        "dir" => fs::create_dir(path).unwrap(),
        "link-to-dir" => {
            fs::create_dir(&beside).unwrap();
            symlink(name(&beside), path).unwrap();
        }
        "loop" => symlink(name(path), path).unwrap(),
        "fifo" => {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }
        "giant" => fs::File::create(path).unwrap().set_len(3 << 30).unwrap(),
        "unreadable" => {
            fs::write(path, rules).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        }
        _ => panic!("{form}"),
    }
}

struct Case {
    name: String,
    prepare: Box<dyn Fn(&Path)>,
    expected: Expected,
    /// What the error names.
    names: &'static str,
}

fn set(root: &Path, setting: &str, value: &str) {
    let config = root.join(".git/config");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(config, format!("{text}[core]\n\t{setting}{value}\n")).unwrap();
}

/// Each form at each place.
fn forms() -> Vec<Case> {
    let mut cases = Vec::new();
    for Kind {
        name,
        info,
        setting,
        rules,
        dir,
    } in KINDS
    {
        for form in FORMS.into_iter().chain(["giant"]) {
            let expected = match form {
                "dir" | "link-to-dir" => dir,
                "loop" | "fifo" | "unreadable" | "giant" => RefusedByUs,
                _ => Same,
            };
            cases.push(Case {
                name: format!("info-{name}-{form}"),
                prepare: Box::new(move |root| put(form, &root.join(info), rules)),
                expected,
                names: info,
            });
            cases.push(Case {
                name: format!("set-{name}-{form}"),
                prepare: Box::new(move |root| {
                    put(form, &root.join(".git/rules"), rules);
                    set(root, setting, " = .git/rules");
                }),
                expected,
                names: setting,
            });
        }
    }
    cases
}

/// Each way to write a path.
fn values() -> Vec<Case> {
    let mut cases = Vec::new();
    for Kind {
        name, setting, rules, ..
    } in KINDS
    {
        for (title, value, expected) in [
            ("above", " = ../rules", Same),
            // There is one of that name where the processes are, and none in the worktree.
            ("elsewhere", " = rules", Same),
            ("dots", " = .git/../.git/info/../rules", Same),
            ("empty", " =", Same),
            ("last", " = .git/rules\n\t#\n[core]\n\tX = rules", Same),
            ("nothing", "", Refused),
            ("nosuch", " = ~nosuchuser/rules", Refused),
            ("home", " = ~/rules", RefusedByUs),
            ("prefix", " = %(prefix)/rules", RefusedByUs),
        ] {
            cases.push(Case {
                name: format!("{name}-{title}"),
                prepare: Box::new(move |root| {
                    put("file", &root.join(".git/rules"), rules);
                    put("file", &root.join("../rules"), rules);
                    fs::create_dir_all(root.join(".git/info")).unwrap();
                    set(root, setting, &value.replace('X', setting));
                }),
                expected,
                names: setting,
            });
        }
    }
    cases
}

#[test]
fn rules_in_no_tree_are_as_for_git() {
    if !need("git") {
        return;
    }
    let cases: Vec<Case> = forms().into_iter().chain(values()).collect();
    let world = World::new();
    world.source().commit([
        ("a.t", file("a\nb\n")),
        ("sub/b.t", file("a\nb\n")),
        // `info/attributes` counts more.
        ("sub/.gitattributes", file("*.t eol=lf\n")),
    ]);
    world.write("rules", "keepme\n*.t text eol=crlf\n");
    git(&world.path(""), &["clone", "-q", "repo.git", "clone"]);
    for Case { name, .. } in &cases {
        copy(&world.path("clone"), &world.path(format!("{name}/git")));
    }
    let mortal = Mortal::new(world);
    for case in &cases {
        check(&mortal, case);
    }
}

fn check(mortal: &Mortal, case: &Case) {
    let Case {
        name,
        prepare,
        expected,
        names,
    } = case;
    let world = &mortal.world;
    // One trigger at a time: each of several hundred commands reads the file.
    world.config_of(&format!(
        "\"{name}\": (repo: \"repo.git\", branch: \"main\", path: \"{name}/ours\"),"
    ));
    let ended = mortal.run(["once", name]);
    assert_eq!(ended.exit, 0, "{name}: {ended:?}");
    let [ours, git] = ["ours", "git"].map(|side| world.path(name).join(side));
    for root in [&ours, &git] {
        prepare(root);
        fs::remove_file(root.join("a.t")).unwrap();
        fs::remove_file(root.join("sub/b.t")).unwrap();
        fs::write(root.join("keepme"), "").unwrap();
        fs::write(root.join("junk"), "").unwrap();
    }
    mortal.give(&world.path(name));
    let before = tree(&ours);
    if *expected != RefusedByUs {
        let mut is_refused = false;
        for args in [
            ["reset", "--hard", "-q", "origin/main"].as_slice(),
            &["clean", "-dfq"],
        ] {
            let mut command = mortal.command("git", &git);
            command.args(args).env("GIT_CONFIG_GLOBAL", "/dev/null");
            command
                .env("GIT_CONFIG_SYSTEM", "/dev/null")
                .env("HOME", "/nonexistent");
            is_refused |= !command.output().unwrap().status.success();
        }
        assert_eq!(is_refused, *expected == Refused, "git, {name}");
    }
    for args in [["once", "--dry-run", name].as_slice(), &["once", name]] {
        let ended = mortal.run(args);
        // A dry run says that it is one behind it.
        let error = ended.err.lines().find(|line| line.starts_with("error "));
        let error = error.unwrap_or_default();
        match expected {
            Same => assert_eq!(ended.exit, 0, "{name}: {ended:?}"),
            Refused | RefusedByUs => {
                assert_eq!(ended.exit, 1, "{name}: {ended:?}");
                assert!(
                    error.starts_with(&format!("error {name} path: ")),
                    "{name}: {ended:?}"
                );
                for word in [names, "nothing was changed"] {
                    assert!(error.contains(word), "{name}: {word:?}: {error}");
                }
                assert_eq!(tree(&ours), before, "{name}");
            }
        }
    }
    match expected {
        Same => assert_eq!(tree(&ours), tree(&git), "{name}"),
        Refused | RefusedByUs => {
            // As the help says: it is removed, and the setting as well.
            let path = ours.join(names);
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).ok();
            let config = ours.join(".git/config");
            let text = fs::read_to_string(&config).unwrap();
            let lines = text.lines().filter(|line| !line.contains("sFile"));
            fs::write(&config, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
            let ended = mortal.run(["once", name]);
            assert_eq!(ended.exit, 0, "{name}: {ended:?}");
            assert!(!ours.join("keepme").exists(), "{name}");
        }
    }
}

/// git 2.52 and later: a path may be said to be optional.
#[test]
fn an_optional_file_may_be_missing() {
    let world = World::configured();
    world.deploy();
    let root = world.path("site");
    world.write("site/.git/rules", "keepme\n");
    world.write("site/keepme", "");
    set(&root, "excludesFile", " = :(optional).git/rules");
    world.deploy();
    assert!(root.join("keepme").exists());
    set(&root, "excludesFile", " = :(optional)nowhere");
    world.deploy();
    assert!(!root.join("keepme").exists());
}

/// A path begins at the top of the worktree, wherever the git directory is.
#[test]
fn relative_paths_begin_at_the_worktree() {
    let world = World::new();
    world
        .source()
        .commit([("a", file("1")), ("rules", file("keepme\n"))]);
    world.config("git_dir: \"apart.git\"");
    world.deploy();
    world.write("apart.git/rules", "junk\n");
    let config = world.path("apart.git/config");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(config, format!("{text}[core]\n\texcludesFile = rules\n")).unwrap();
    world.write("site/keepme", "");
    world.write("site/junk", "");
    world.deploy();
    assert!(world.path("site/keepme").exists() && !world.path("site/junk").exists());
}

/// Releases are no untracked files, whatever the git directory apart says; and what is said to be typed works.
#[test]
fn releases_are_not_cleaned_away_from_outside() {
    let world = World::sourced();
    let apart = "git_dir: \"lib/site.git\"";
    world.config(apart);
    world.deploy();
    fs::remove_dir_all(world.path("site")).unwrap();
    world.config("releases: ()");
    world.deploy();
    world.write("site/shared/upload", "kept");
    world.config(apart);
    let refused = || {
        let ended = world.run(["once", "site"]);
        let expected = "has releases, and the trigger has no `releases`; nothing was touched";
        assert!(ended.exit == 1 && ended.err.contains(expected), "{ended:?}");
        for path in ["site/current/a", "site/shared/upload", "site/repo.git/HEAD"] {
            assert!(world.path(path).exists(), "{path}");
        }
        ended.err
    };
    refused();
    fs::remove_dir_all(world.path("lib")).unwrap();
    let said = refused();
    let commands = said.split("type: ").nth(1).unwrap().split(';').next().unwrap();
    let mut sh = std::process::Command::new("sh");
    let status = sh.args(["-c", commands]).status().unwrap();
    assert!(status.success(), "{commands}");
    world.deploy();
    assert_eq!(
        fs::read(world.path("site.releases/shared/upload")).unwrap(),
        b"kept"
    );
    // The other way: what is to be shared is named.
    world.config(&format!("{apart}, releases: (shared: [\"up/\", \".env\"])"));
    let said = world.run(["once", "site"]).err;
    let expected = "then, before the first run, copy what is in `shared` (up/, .env) from ";
    assert!(
        said.contains(expected) && said.contains("/site.in-place to "),
        "{said}"
    );
}
