//! Another user's files stay in a worktree, and root does not deploy where another user does.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
};

use super::{
    adopt::{cloned, refused},
    history::json,
    mortal::Mortal,
    source::file,
    world::{Need, World, machine::STRANGER, need},
};

/// Whether root, or somebody in another directory, follows it.
#[test]
fn the_help_can_be_typed_where_another_configuration_was_used() {
    let Some((world, _, site)) = cloned(&[("a", "1")]) else {
        return;
    };
    world.write("site/a", "edited");
    fs::rename(world.path("config.ron"), world.path("my site.ron")).unwrap();
    let ended = world.run(["once", "-c", "my site.ron", "site"]);
    let file = world.path("my site.ron");
    let help = format!("type: gitsocket once --adopt site -c '{}'; or ", file.display());
    refused(&ended, &["edited files: a", &help]);
    let ended = world
        .command(["once", "--adopt", "site", "-c"])
        .arg(&file)
        .current_dir(&site)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

/// Uploads of another user: what the message says first is to keep them, and it works.
#[test]
fn uploads_of_another_user_stay_by_what_the_message_says() {
    if !need(Need::Root) {
        return;
    }
    let (world, mut source) = World::with_source();
    source.commit([("a", file("1")), ("media/.gitkeep", file(""))]);
    world.config("keep: [\"/cache/\"]");
    let mortal = Mortal::new(world);
    let world = &mortal.world;
    mortal.deploy();
    let other = STRANGER + 1;
    for dir in ["up loads/2026", "media"] {
        for name in ["1.jpg", "2.jpg"] {
            world.write(&format!("site/{dir}/{name}"), "photo");
        }
    }
    for path in ["up loads", "up loads/2026", "up loads/2026/1.jpg", "media"] {
        chown(world.path("site").join(path), Some(other), Some(other)).unwrap();
    }
    let ended = mortal.run_to(1, ["once", "site"]);
    let keep = r#"keep: ["/cache/", "/media/", "/up\\ loads/"]"#;
    let first = ended.err.find(keep).unwrap_or_else(|| panic!("{ended:?}"));
    assert!(first < ended.err.find("chown or chmod").unwrap(), "{ended:?}");
    world.config(keep);
    mortal.deploy();
    let site = world.site();
    for path in [
        "up loads/2026/1.jpg",
        "up loads/2026/2.jpg",
        "media/1.jpg",
        "media/2.jpg",
    ] {
        assert!(site.contains_key(path), "{path}");
    }
    // The other way: they go.
    world.config("");
    mortal.give(&world.path("site"));
    let ended = mortal.deploy();
    assert!(ended.err.contains("untracked files gone: "), "{ended:?}");
    assert_eq!(world.site().len(), 2);
}

#[test]
fn root_does_not_deploy_where_another_user_does() {
    if !need(Need::Root) {
        return;
    }
    let (world, mut source) = World::with_commit();
    world.config("");
    let mortal = Mortal::new(world);
    let world = &mortal.world;
    mortal.deploy();
    source.commit([("a", file("2"))]);
    mortal.give(&source.path);
    let config = fs::canonicalize(world.path("config.ron")).unwrap();
    let typed = format!("gitsocket once site -c {}", config.display());
    let become_user = format!("setpriv --reuid={STRANGER} --regid={STRANGER} --clear-groups -- ");
    let ended = world.run_to(1, ["once", "site"]);
    assert!(ended.err.starts_with("error site path: "), "{ended:?}");
    assert!(ended.err.contains(&format!("{become_user}{typed};")), "{ended:?}");
    assert_eq!(world.site()["a"], file("1"));
    let ended = world.run(["once", "--json", "-c", "config.ron", "--all"]);
    assert_eq!((ended.exit, &json(&ended.out)[0]["kind"]), (1, &"path".into()));
    assert!(
        ended.out.contains("gitsocket once --json -c config.ron --all;"),
        "{ended:?}"
    );
    // A user who has a name; and the repository alone.
    if fs::read_to_string("/etc/passwd").is_ok_and(|text| text.contains("\nnobody:")) {
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let line = passwd.lines().find(|line| line.starts_with("nobody:")).unwrap();
        let uid = line.split(':').nth(2).unwrap().parse().unwrap();
        chown(world.path("site"), Some(0), Some(0)).unwrap();
        chown(world.path("site/.git"), Some(uid), None).unwrap();
        let ended = world.run(["once", "site"]);
        assert!(
            ended.err.contains(&format!("runuser -u nobody -- {typed};")),
            "{ended:?}"
        );
        mortal.give(&world.path("site"));
    }
    // Nothing was left that would be in that user's way.
    mortal.deploy();
    assert_eq!(world.site()["a"], file("2"));

    let third = source.commit([("a", file("3"))]);
    world.run_to(0, ["once", "--as-root", "site"]);
    assert_eq!(world.site()["a"], file("3"));
    // What root has left: it is said whose it is, and what helps.
    let hex = third.to_string();
    assert!(
        fs::read_to_string(world.path("site/.git/refs/heads/main"))
            .unwrap()
            .contains(&hex)
    );
    for path in ["site/.git/refs/heads/main", "site/.git/refs/heads"] {
        fs::set_permissions(world.path(path), fs::Permissions::from_mode(0o700)).unwrap();
    }
    chown(world.path("site/.git/refs/heads"), Some(0), Some(0)).unwrap();
    source.commit([("a", file("4"))]);
    mortal.give(&source.path);
    let ended = mortal.run_to(1, ["once", "site"]);
    let last = ended.err.lines().next_back().unwrap();
    assert!(last.starts_with("error site path: "), "{last}");
    let git_dir = fs::canonicalize(world.path("site")).unwrap().join(".git");
    for words in [
        "belongs to root, and gitsocket runs as",
        &format!("chown -R {STRANGER} {}", git_dir.display()),
    ] {
        assert!(last.contains(words), "{words}: {last}");
    }
    mortal.give(&world.path("site/.git"));
    mortal.deploy();
    assert_eq!(world.site()["a"], file("4"));
}

/// As README installs it: root's, and for the group of the daemon.
#[test]
fn a_key_that_is_the_daemons_groups_is_one_for_root_too() {
    if !need(Need::Root) {
        return;
    }
    let world = World::new();
    world.secret("token", "s3cret\n");
    world.write(
        "config.ron",
        "(triggers: {\"site\": (repo: \"https://127.0.0.1:1/x.git\", path: \"site\", retries: 0, \
         auth: Basic(user: \"me\", password_file: \"token\"))})",
    );
    let try_as = |gid: u32, mode: u32| {
        chown(world.path("token"), Some(0), Some(gid)).unwrap();
        fs::set_permissions(world.path("token"), fs::Permissions::from_mode(mode)).unwrap();
        world.run(["once", "site"]).err
    };
    assert!(!try_as(STRANGER, 0o640).contains("chmod"));
    assert!(try_as(STRANGER, 0o644).contains("chmod o= "));
    assert!(try_as(0, 0o640).contains("chmod 600 "));
}
