//! `check` tries what a configuration names as a run would use it, and changes nothing.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    process::Command,
};

use rustix::process::geteuid;

use super::{
    source::file,
    world::{Ended, Need, World, machine, need},
};

/// `check` as somebody whom permissions stop: root becomes a stranger for it.
fn check(world: &World, args: &[&str]) -> Ended {
    let args = [&["check"], args].concat();
    let mut command = if geteuid().is_root() {
        world.command_as(machine::STRANGER, args)
    } else {
        world.command(args)
    };
    command.env("CREDENTIALS_DIRECTORY", world.path("hidden"));
    command.output().unwrap().into()
}

/// Let `name` belong to whom [`check`] runs as.
fn theirs(world: &World, name: &str) {
    if geteuid().is_root() {
        let id = Some(machine::STRANGER);
        chown(world.path(name), id, id).unwrap();
    }
}

fn mode(world: &World, name: &str, mode: u32) {
    fs::set_permissions(world.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

/// A secret of theirs.
fn secret(world: &World, name: &str, text: &str) {
    world.secret(name, text);
    theirs(world, name);
}

/// A world with directories that are shut; they are opened when it ends, so that it can be removed.
struct Shut(World);

impl std::ops::Deref for Shut {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl Drop for Shut {
    fn drop(&mut self) {
        for name in ["closed", "fixed", "hidden"] {
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).ok();
        }
    }
}

/// One with a repository, a directory `open` that they may write, and two, `closed` and `fixed`, that they may not.
fn world() -> Shut {
    let world = Shut(World::new());
    world.source().commit([("a", file("1"))]);
    for (name, bits) in [("open", 0o777), ("closed", 0o555), ("fixed", 0o555)] {
        fs::create_dir(world.path(name)).unwrap();
        mode(&world, name, bits);
    }
    world
}

/// All that is below `dir`, and when it was changed. Not of the program: other tests link it, too, and that changes its times.
fn state(dir: &Path) -> BTreeSet<(String, i64, i64)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_file() && path.ends_with("gitsocket") {
            continue;
        }
        found.insert((path.display().to_string(), meta.mtime(), meta.ctime_nsec()));
        if meta.is_dir() {
            found.extend(state(&path));
        }
    }
    found
}

const SSH: &str = "repo: \"git@git.example.com:me/site.git\"";
const WEB: &str = "repo: \"https://git.example.com/site.git\"";

#[test]
fn what_cannot_be_used_is_found_and_said_at_once() {
    let world = world();
    secret(&world, "damaged", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    secret(&world, "shut", "s3cret\n");
    mode(&world, "shut", 0);
    secret(&world, "bare", "s3cret\n");
    mode(&world, "bare", 0o644);
    world.write("garbage.pem", "none");
    mode(&world, "garbage.pem", 0o644);
    world.script("plain", "exit 0");
    mode(&world, "plain", 0o644);
    world.write("open/foreign/mine", "precious");
    theirs(&world, "open/foreign");
    world.write("open/left/.git/gitsocket/lock", "");
    for name in ["open/left", "open/left/.git", "open/left/.git/gitsocket"] {
        theirs(&world, name);
    }
    mode(&world, "open/left/.git/gitsocket/lock", 0);
    let triggers = format!(
        r#""a": ({SSH}, path: "open/a", auth: Ssh(key: "none", known_hosts: "nowhere")),
        "b": ({SSH}, path: "open/b", auth: Ssh(key: "damaged", known_hosts: "damaged")),
        "c": ({WEB}, path: "open/c", auth: Bearer(token_file: "bare")),
        "d": ({WEB}, path: "open/d", auth: Basic(user: "me", password_file: "shut"), tls: (ca_file: "garbage.pem")),
        "e": (repo: "none.git", path: "closed/e"),
        "f": (repo: "repo.git", path: "open/f", git_dir: "closed/f.git"),
        "g": (repo: "repo.git", path: "open/g", hooks: [
            Exec(run: ["./none"]), Exec(run: ["./plain"]), Exec(run: ["no-such-program"]),
            Exec(run: ["open/g/comes/with/it"]), PostCheckout,
        ], health: (check: Exec(run: ["./no-question"]))),
        "h": (repo: "repo.git", path: "open/foreign"),
        "i": (repo: "repo.git", path: "open/left"),
        "j": (repo: "repo.git", path: "fixed"),"#
    );
    let text = format!(
        r#"(listen: [
            Unix(path: "closed/s.sock"), Unix(path: "open/1.sock", group: "no-such-group"),
            Unix(path: "open/2.sock", group: "54399"), Unix(path: "none/s.sock"), Unix(path: "plain"),
            Tcp(addr: "127.0.0.1:0", token_file: "missing"),
        ], triggers: {{ {triggers} }})"#
    );
    world.write("config.ron", &text);
    // Made now, if at all.
    drop(check(&world, &["--help"]));
    let before = state(&world.path("."));
    let ended = check(&world, &[]);
    assert_eq!(state(&world.path(".")), before, "nothing changes");
    assert_eq!((ended.exit, ended.out.as_str()), (2, ""), "{ended:?}");
    let expected = [
        ("listen: path: ", "closed/s.sock: Permission denied"),
        ("listen: group: ", "/etc/group has no such name"),
        ("listen: group: ", "must be a member of the group"),
        ("listen: path: ", "none/s.sock: No such file"),
        ("listen: path: ", "plain exists and is not a socket"),
        ("listen: token_file: ", "missing: No such file"),
        ("a: key: ", "none: No such file"),
        ("a: known_hosts: ", "nowhere: No such file"),
        ("b: key: ", "damaged cannot be used: "),
        ("c: token_file: ", "bare can be read by others"),
        ("d: password_file: ", "shut: Permission denied"),
        ("d: tls: ", "garbage.pem"),
        ("e: repo: ", "none.git cannot be read: No such file"),
        ("e: path: ", "closed: Permission denied"),
        ("f: git_dir: ", "f.git does not exist, and cannot be made in "),
        ("g: hooks: ", "/none: No such file"),
        ("g: hooks: ", "/plain: Permission denied"),
        ("g: hooks: ", "no-such-program: "),
        ("g: health: ", "/no-question: No such file"),
        ("h: path: ", "\"mine\""),
        ("i: path: ", "gitsocket/lock cannot be written: "),
        ("j: path: ", "fixed cannot be written: Permission denied"),
    ];
    let lines: Vec<&str> = ended.err.lines().collect();
    for (at, (begin, word)) in expected.iter().enumerate() {
        let line = lines.get(at).copied().unwrap_or_default();
        assert!(
            line.starts_with(begin) && line.contains(word),
            "{begin}{word}: {line}"
        );
        assert!(line.ends_with(')'), "there is something to do: {line}");
    }
    assert_eq!(lines.len(), expected.len() + 1, "{}", ended.err);
    assert!(lines[expected.len()].contains(&format!("{} fault(s)", expected.len())));
    assert!(!ended.err.contains("s3cret"));
}

#[test]
fn what_can_be_used_is_right() {
    let world = world();
    let key = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/ssh/ed25519")).unwrap();
    secret(&world, "key", &key);
    secret(&world, "token", "s3cret\n");
    world.write("known_hosts", "# none yet\n");
    world.script("hook", "exit 0");
    // As systemd makes it, in a directory that is nobody else's.
    mode(&world, "closed", 0o755);
    drop(std::os::unix::net::UnixListener::bind(world.path("closed/s.sock")).unwrap());
    mode(&world, "closed", 0o555);
    fs::create_dir(world.path("hidden")).unwrap();
    mode(&world, "hidden", 0);
    world.fifo("open/pipe");
    mode(&world, "open/pipe", 0o666);
    let triggers = format!(
        r#""a": ({SSH}, path: "open/new/a", auth: Ssh(key: "key", known_hosts: "known_hosts")),
        "b": ({WEB}, path: "open/b", git_dir: "open/new/b.git", auth: Bearer(token_file: "token")),
        "c": (repo: "repo.git", path: "open/c", hooks: [Exec(run: ["./hook"]), Exec(run: ["hook"], user_env: {{"PATH": {:?}}})]),
        "d": ({WEB}, path: "open/d", auth: Bearer(token_file: "open/pipe")),
        "e": ({WEB}, path: "open/e", auth: Bearer(token_file: "$CREDENTIALS_DIRECTORY/token")),
        "retry": ({WEB}, path: "open/f"),"#,
        world.path(".")
    );
    let text = format!(
        r#"(listen: [
            Unix(path: "closed/s.sock", group: "54399"), Unix(path: "open/s.sock", group: "{}"),
            Unix(path: "/run/no-such-directory/s.sock"), Tcp(addr: "127.0.0.1:0", token_file: "token"),
        ], triggers: {{ {triggers} }})"#,
        if geteuid().is_root() {
            machine::STRANGER
        } else {
            rustix::process::getegid().as_raw()
        }
    );
    world.write("config.ron", &text);
    let ended = check(&world, &[]);
    assert_eq!((ended.exit, ended.err.as_str()), (0, ""), "{ended:?}");
    let (remark, right) = ended.out.split_once('\n').unwrap();
    assert!(
        remark.starts_with("retry: ") && remark.contains("`trigger retry`"),
        "{remark}"
    );
    assert_eq!(right, "config.ron is right: 6 trigger(s), 4 listener(s)\n");
}

/// No permission stops root, and a key that it shares with the daemon's group is not for root.
#[test]
fn root_is_told_how_to_be_the_daemon() {
    if !need(Need::Root) {
        return;
    }
    let world = world();
    world.secret("key", "is not looked at");
    mode(&world, "key", 0o640);
    let config = format!("\"a\": ({SSH}, path: \"open/site\", auth: Ssh(key: \"key\")),");
    world.config_of(&config);
    chown(world.path("open"), Some(65534), Some(65534)).unwrap();
    let ended = world.run_to(0, ["check"]);
    assert!(ended.out.contains("config.ron is right"), "{ended:?}");
    let config = fs::canonicalize(world.path("config.ron")).unwrap();
    let line = format!("runuser -u nobody -- gitsocket check -c {}\n", config.display());
    assert!(ended.err.ends_with(&line), "{ended:?}");
    mode(&world, "key", 0o644);
    let ended = world.run_to(2, ["check"]);
    assert!(ended.err.contains("key can be read by others"), "{ended:?}");
}

/// A command that names a user is printed only where that user exists.
#[test]
fn root_is_told_of_no_user_that_there_is_not() {
    if !need(Need::Root) {
        return;
    }
    let world = World::sourced();
    world.write(
        "config.ron",
        "(triggers: {\"site\": (repo: \"repo.git\", path: \"site\")})",
    );
    let ended = world.run(["check"]);
    assert!(
        ended
            .out
            .ends_with(": 1 trigger(s), 1 listener(s) (the default, ./gitsocket.sock)\n"),
        "{ended:?}"
    );
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().any(|line| line.starts_with("gitsocket:"));
    assert!(ended.err.contains("the daemon's user, type"), "{ended:?}");
    assert_eq!(ended.err.contains("runuser"), named, "{ended:?}");
}

#[test]
fn a_revision_has_to_be_at_the_remote() {
    let (world, mut source) = World::with_source();
    let first = source.commit([("a", file("1"))]);
    let second = source.commit([("a", file("2"))]);
    source.point("refs/tags/v1.2", first);
    let none = "5d6e7f8a9b5d6e7f8a9b5d6e7f8a9b5d6e7f8a9b";
    let sha256 = "5d6e7f8a".repeat(8);
    for (revision, exit, words) in [
        (
            format!("rev: \"{first}\""),
            0,
            vec!["is at", &first.to_string()[..7]],
        ),
        (format!("rev: \"{second}\""), 0, vec!["is at"]),
        ("tag: \"v1.2\"".into(), 0, vec!["v1.2 of "]),
        ("branch: \"main\"".into(), 0, vec!["main of "]),
        (
            format!("rev: \"{none}\""),
            1,
            vec!["remote: ", none, "correct `rev`", "it has main, v1.2"],
        ),
        (format!("rev: \"{sha256}\""), 1, vec!["names its objects by sha1"]),
        (
            "tag: \"v1.3\"".into(),
            1,
            vec!["no tag \"v1.3\"", "did you mean \"v1.2\"?"],
        ),
        (
            "branch: \"v9\"".into(),
            1,
            vec!["no branch \"v9\"", "it has main, v1.2"],
        ),
    ] {
        world.config_of(&format!(
            "\"site\": (repo: \"repo.git\", path: \"site\", {revision}),"
        ));
        let ended = world.run(["check", "--remote"]);
        assert_eq!(ended.exit, exit, "{revision}: {ended:?}");
        let said = if exit == 0 { &ended.out } else { &ended.err };
        let line = said.lines().find(|line| line.starts_with("site: ")).unwrap();
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
        let verdict = match exit {
            0 => "config.ron is right: 1 trigger(s), 1 listener(s)",
            _ => "config.ron can be read (1 trigger(s), 1 listener(s)), but 1 of 1 remotes cannot be used",
        };
        assert_eq!(said.lines().last(), Some(verdict), "{ended:?}");
    }
    assert!(!world.path("site").exists());
    assert!(
        fs::read_dir(world.path("repo.git/objects/pack"))
            .unwrap()
            .next()
            .is_none()
    );
}

/// Whether the file system can exchange directories is tried, and nothing is left of that.
#[test]
fn directories_are_exchanged_on_trial() {
    let world = World::sourced();
    let site = world.path("site");
    fs::create_dir(&site).unwrap();
    world.config("releases: (live: Exchange(\"www\"))");
    world.run_to(0, ["check"]);
    assert_eq!(fs::read_dir(&site).unwrap().count(), 0);
    if !need(Need::Tracing) {
        return;
    }
    let dirs = std::env::var_os("PATH").unwrap();
    let strace = std::env::split_paths(&dirs).map(|dir| dir.join("strace"));
    let mut command = Command::new(strace.into_iter().find(|path| path.is_file()).unwrap());
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "inject=renameat2:error=EINVAL",
    ]);
    command.args([env!("CARGO_BIN_EXE_gitsocket"), "check"]);
    let ended = Ended::from(command.env_clear().current_dir(world.path(".")).output().unwrap());
    assert_eq!(ended.exit, 2, "{ended:?}");
    let line = ended.err.lines().next().unwrap();
    assert!(line.starts_with("site: releases: two directories in "), "{line}");
    assert!(
        line.ends_with("Btrfs or tmpfs)") && line.contains("Symlink(\"www\")"),
        "{line}"
    );
    assert_eq!(fs::read_dir(&site).unwrap().count(), 0);
}
