//! `setup` writes the hook that it is asked for, and nothing else.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
};

use super::{
    source::{Source, file},
    world::{Ended, World},
};

/// A world whose `site` has been deployed.
fn deployed() -> (World, Source) {
    let (world, source) = World::deployed();
    (world, source)
}

fn hook(world: &World) -> PathBuf {
    world.path("site/.git/hooks/post-checkout")
}

/// `setup site` in somebody's terminal whose `$EDITOR` is the script `text`.
fn edit(world: &World, text: &str, args: &[&str]) -> Ended {
    let editor = world.script("editor", text);
    let tmp = world.path("tmp");
    fs::create_dir_all(&tmp).unwrap();
    let ended: Ended = world
        .command(["setup", "site"].iter().chain(args))
        .env("EDITOR", format!("  {} --wait ", editor.display()))
        .env("TMPDIR", &tmp)
        .output()
        .unwrap()
        .into();
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0, "no draft is left");
    ended
}

#[test]
fn a_command_becomes_the_hook_and_runs() {
    let (world, mut source) = deployed();
    let ended = world.run_to(0, ["setup", "site", "--command", "echo \"hooked $2\""]);
    assert_eq!(ended.out, format!("wrote {}\n", hook(&world).display()));
    assert_eq!(ended.err, "");
    assert_eq!(
        fs::read_to_string(hook(&world)).unwrap(),
        "#!/bin/sh\necho \"hooked $2\"\n"
    );
    assert_eq!(
        fs::metadata(hook(&world)).unwrap().permissions().mode() & 0o7777,
        0o755
    );
    let second = source.commit([("a", file("2"))]);
    let ended = world.deploy();
    assert!(ended.err.contains(&format!("| hooked {second}\n")), "{ended:?}");

    // The same again is no change; another one is kept out without --force.
    let ended = world.run(["setup", "site", "--command", "echo \"hooked $2\""]);
    assert_eq!(
        (ended.exit, ended.out.contains("holds this hook already")),
        (0, true),
        "{ended:?}"
    );
    let ended = world.run_to(1, ["setup", "site", "--command", "true"]);
    assert!(
        ended.err.contains("was kept") && ended.err.contains("--force to replace it"),
        "{ended:?}"
    );
    assert!(fs::read_to_string(hook(&world)).unwrap().contains("hooked"));
    world.run_to(0, ["setup", "site", "--force", "--command", "#!/bin/sh -e\ntrue"]);
    assert_eq!(fs::read_to_string(hook(&world)).unwrap(), "#!/bin/sh -e\ntrue\n");
    let names = fs::read_dir(hook(&world).parent().unwrap()).unwrap();
    assert_eq!(names.count(), 1, "nothing temporary is left");
}

#[test]
fn there_is_no_clone_yet() {
    let world = World::sourced();
    let config = world.config("");
    fs::rename(config, world.path("other.ron")).unwrap();
    let setup = || world.run(["setup", "-c", "other.ron", "site", "--command", "true"]);
    let ended = setup();
    assert_eq!(ended.exit, 1, "{ended:?}");
    let words = ended.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("gitsocket once -c other.ron site"), "{ended:?}");
    assert!(!world.path("site").exists());
    fs::create_dir(world.path("site")).unwrap();
    assert_eq!(setup().exit, 1);
    fs::write(world.path("site/mine"), "").unwrap();
    let ended = setup();
    assert!(ended.err.contains("not a git worktree"), "{ended:?}");
    assert!(!world.path("site/.git").exists());
}

#[test]
fn the_git_directory_is_elsewhere() {
    let world = World::sourced();
    world.config("git_dir: \"lib/site.git\"");
    world.deploy();
    assert_eq!(world.run(["setup", "site", "--command", "true"]).exit, 0);
    assert!(world.path("lib/site.git/hooks/post-checkout").exists());
    assert!(!world.path("site/.git").exists());
}

#[test]
fn an_editor_is_started_on_a_template() {
    let (world, _source) = deployed();
    let ended = edit(&world, "echo \"$1\" > args; echo 'make install' >> \"$2\"", &[]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert_eq!(fs::read_to_string(world.path("args")).unwrap(), "--wait\n");
    let text = fs::read_to_string(hook(&world)).unwrap();
    assert!(
        text.starts_with("#!/bin/sh\n# ") && text.ends_with("\nmake install\n"),
        "{text}"
    );
    for name in [
        "TRIGGER",
        "RUN",
        "REPO",
        "BRANCH",
        "PATH",
        "OLD",
        "NEW",
        "CHANGED_FILES",
    ] {
        assert!(text.contains(&format!("# GITSOCKET_{name} ")), "{name}");
    }
    let template = text
        .replace(&world.path("").display().to_string(), "/")
        .replace("make install\n", "");
    insta::with_settings!({ snapshot_path => "../../fixtures/cli", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("hook-template", template);
    });

    // What is there is edited, if that is allowed.
    let append = "echo more >> \"$2\"";
    let ended = edit(&world, append, &[]);
    assert_eq!(ended.exit, 1, "{ended:?}");
    assert!(ended.err.contains("--force to edit it"), "{ended:?}");
    assert_eq!(edit(&world, append, &["--force"]).exit, 0);
    assert_eq!(fs::read_to_string(hook(&world)).unwrap(), format!("{text}more\n"));
}

#[test]
fn an_editor_that_gives_up_leaves_nothing() {
    let (world, _source) = deployed();
    for (editor, word) in [
        ("exit 3", "exit status: 3"),
        ("exit 0", "unchanged"),
        (": > \"$2\"", "empty"),
        ("/bin/rm \"$2\"", "cannot read"),
        ("echo x >> \"$2\"; kill -9 $$", "signal: 9"),
    ] {
        let ended = edit(&world, editor, &[]);
        assert_eq!((ended.exit, ended.out.as_str()), (1, ""), "{editor}: {ended:?}");
        assert!(
            ended.err.contains(word) && ended.err.contains("nothing was"),
            "{editor}: {ended:?}"
        );
        assert!(!hook(&world).exists());
    }
    let with = |name: &str, value: &str| -> Ended {
        world
            .command(["setup", "site"])
            .env(name, value)
            .output()
            .unwrap()
            .into()
    };
    for (name, value, word) in [
        ("EDITOR", " ", "--command"),
        ("EDITOR", "/nowhere/ed", "/nowhere/ed"),
        ("VISUAL", "/nowhere/vi", "/nowhere/vi"),
    ] {
        let ended = with(name, value);
        assert_eq!(ended.exit, 2, "{ended:?}");
        assert!(ended.err.contains(word), "{ended:?}");
    }
    assert!(!hook(&world).exists());
}

#[test]
fn no_link_is_written_through() {
    let (world, _source) = deployed();
    fs::create_dir(world.path("elsewhere")).unwrap();
    let hooks = world.path("site/.git/hooks");
    fs::remove_dir_all(&hooks).ok();
    symlink(world.path("elsewhere"), &hooks).unwrap();
    let ended = world.run_to(1, ["setup", "site", "--command", "true"]);
    assert!(ended.err.contains("not a directory"), "{ended:?}");
    assert_eq!(fs::read_dir(world.path("elsewhere")).unwrap().count(), 0);

    // A hook that is a link is replaced, not followed.
    fs::remove_file(&hooks).unwrap();
    fs::create_dir(&hooks).unwrap();
    let mine = world.script("mine", "true");
    symlink(&mine, hook(&world)).unwrap();
    assert_eq!(world.run(["setup", "site", "--command", "echo"]).exit, 1);
    assert_eq!(
        world.run(["setup", "site", "--command", "echo", "--force"]).exit,
        0
    );
    assert_eq!(fs::read_to_string(mine).unwrap(), "#!/bin/sh\ntrue\n");
}

#[test]
fn what_keeps_a_hook_from_running_is_said() {
    let (world, _source) = deployed();
    let ended = world.run_to(0, ["setup", "site", "--command", "#!/nowhere/sh\ntrue"]);
    assert!(
        ended.err.contains("/nowhere/sh is missing") && ended.err.contains("Exec(run:"),
        "{ended:?}"
    );
    let ended = edit(&world, "echo true > \"$2\"", &["--force"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert!(ended.err.contains("a first line such as #!/bin/sh"), "{ended:?}");
    world.config("hooks: []");
    let ended = world.run_to(0, ["setup", "site", "--force", "--command", "true"]);
    assert!(ended.err.contains("does not contain PostCheckout"), "{ended:?}");
}

#[test]
fn usage() {
    let (world, _source) = deployed();
    for (args, exit, word) in [
        (&["setup"][..], 2, "NAME"),
        (&["setup", "sitte", "--command", "true"], 4, "did you mean site?"),
        (&["setup", "other", "--command", "true"], 4, "there are: site"),
        (&["setup", "site", "--command", " \n"], 2, "--command is empty"),
        (
            &["setup", "site", "-c", "missing.ron", "--command", "true"],
            2,
            "missing.ron",
        ),
    ] {
        let ended = world.run(args);
        assert_eq!(
            (ended.exit, ended.out.as_str()),
            (exit, ""),
            "{args:?}: {ended:?}"
        );
        assert!(ended.err.contains(word), "{args:?}: {ended:?}");
    }
    assert!(!hook(&world).exists());
}
