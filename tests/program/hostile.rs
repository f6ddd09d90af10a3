//! A tree or repository made to do harm is refused, and nothing is written outside the target.

use std::fs;

use super::{
    source::file,
    world::{World, tree},
};

/// Names that no checkout may write, see fsck's list in git-fsck(1) and CVE-2014-9390.
const NAMES: [&[u8]; 17] = [
    b"..",
    b".",
    b".git",
    b".GIT",
    b".Git",
    b"git~1",
    b"GIT~1",
    b".git ",
    b".git.",
    b".git::$INDEX_ALLOCATION",
    ".g\u{200c}it".as_bytes(),
    ".gi\u{feff}t".as_bytes(),
    br".git\x",
    br"GIT~1\x",
    br"a\.git\x",
    b"a/b",
    b"../../escape",
];

#[test]
fn names_that_lead_out_of_the_tree() {
    let (world, mut source) = World::deployed();
    let blob = source.blob(b"evil");
    let inner = source.raw_tree(&[("100644", b"config", blob)]);
    let before = tree(&world.path("site"));
    for name in NAMES {
        for (mode, id) in [("100644", blob), ("40000", inner), ("120000", blob)] {
            let evil = source.raw_tree(&[(mode, name, id)]);
            for evil in [evil, source.raw_tree(&[("40000", b"dir", evil)])] {
                source.commit_tree("refs/heads/main", None, evil);
                let ended = world.run(["once", "site"]);
                let shown = String::from_utf8_lossy(name);
                assert_eq!(ended.exit, 1, "{mode} {shown:?}: {ended:?}");
                assert_eq!(tree(&world.path("site")), before, "{mode} {shown:?}");
                assert!(!world.path("escape").exists() && !world.path("site/../config").exists());
            }
        }
    }
    source.rewrite([("a", file("2"))]);
    world.deploy();
}

#[test]
fn a_symlink_and_a_directory_of_one_name() {
    let (world, mut source) = World::with_source();
    fs::create_dir(world.path("outside")).unwrap();
    world.config("");
    let link = source.blob(world.path("outside").to_str().unwrap().as_bytes());
    let blob = source.blob(b"evil");
    let inner = source.raw_tree(&[("100644", b"file", blob)]);
    for entries in [
        [("120000", &b"x"[..], link), ("40000", b"x", inner)],
        [("40000", b"x", inner), ("120000", b"x", link)],
        [("100644", b"x", blob), ("100644", b"x", link)],
    ] {
        let evil = source.raw_tree(&entries);
        source.commit_tree("refs/heads/main", None, evil);
        world.run_to(1, ["once", "site"]);
        assert_eq!(fs::read_dir(world.path("outside")).unwrap().count(), 0);
    }
}

#[test]
fn local_symlinks_are_never_followed() {
    let (world, mut source) = World::with_source();
    let outside = world
        .write("outside/canary", "alive")
        .parent()
        .unwrap()
        .to_owned();
    source.commit([("d/canary", file("1")), ("d/e/f", file("1"))]);
    world.config("");
    world.deploy();
    for dir in ["site/d", "site/d/e"] {
        fs::remove_dir_all(world.path(dir)).unwrap();
        std::os::unix::fs::symlink(&outside, world.path(dir)).unwrap();
        world.deploy();
        assert_eq!(world.site()["d/e/f"], file("1"));
    }
    // Deleting and cleaning through a symlink.
    fs::remove_dir_all(world.path("site/d")).unwrap();
    std::os::unix::fs::symlink(&outside, world.path("site/d")).unwrap();
    std::os::unix::fs::symlink(&outside, world.path("site/untracked")).unwrap();
    source.commit([("g", file("1"))]);
    world.deploy();
    assert_eq!(world.site().len(), 1);
    assert_eq!(tree(&outside)["canary"], file("alive"));
}

#[test]
fn a_hostile_configuration_of_the_clone_is_harmless() {
    let (world, mut source) = World::with_source();
    source.commit([
        ("a", file("1")),
        (".gitattributes", file("*.f filter=evil\n")),
        ("b.f", file("1")),
    ]);
    world.config("");
    world.deploy();
    let evil = world.script("evil", "echo ran >> ../ran; cat");
    fs::create_dir(world.path("elsewhere")).unwrap();
    world.write("elsewhere/precious", "alive");
    world.write("included", "[core]\n\tworktree = ../../elsewhere\n");
    let config = world.path("site/.git/config");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        format!(
            "{text}[core]\n\tworktree = {0}\n\tfsmonitor = {1}\n\thooksPath = {0}\n\tsshCommand = {1}\n\tgitProxy = {1}\n\
             [include]\n\tpath = ../../included\n[filter \"evil\"]\n\tsmudge = {1}\n\tclean = {1}\n\tprocess = {1}\n\trequired = true\n\
             [credential]\n\thelper = {1}\n[url \"file:///nowhere/\"]\n\tinsteadOf = {2}\n[uploadpack]\n\tpackObjectsHook = {1}\n\
             [remote \"origin\"]\n\tuploadpack = {1}\n",
            world.path("elsewhere").display(),
            evil.display(),
            world.path("").display(),
        ),
    )
    .unwrap();
    source.commit([
        ("a", file("2")),
        (".gitattributes", file("*.f filter=evil\n")),
        ("b.f", file("2")),
    ]);
    let ended = world.deploy();
    assert_eq!(world.site()["b.f"], file("2"));
    assert!(
        ended.err.contains("warning"),
        "an external filter is not passed over in silence: {ended:?}"
    );
    assert!(
        !world.path("ran").exists(),
        "a program of the clone's configuration was run"
    );
    assert_eq!(tree(&world.path("elsewhere")).len(), 1);
}
