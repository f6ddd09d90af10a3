//! What a deploy makes belongs to the `group` of its trigger from the moment it has its name.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown},
    path::Path,
};

use super::{
    source::{Entry, file},
    world::{Need, World, machine, need},
};

/// A group that files of this process do not have by themselves, and that it may give; as an ordinary user, if there is one.
fn another() -> Option<u32> {
    let own = rustix::process::getegid().as_raw();
    if rustix::process::geteuid().is_root() {
        return Some(54321);
    }
    let groups = rustix::process::getgroups().unwrap();
    let found = groups.iter().map(|gid| gid.as_raw()).find(|gid| *gid != own);
    if found.is_none() {
        machine::left_to_others("this is for root, or a user who is in two groups");
    }
    found
}

/// The groups of all below `dir`, but for what is git's.
fn groups(dir: &Path) -> BTreeMap<String, u32> {
    fn walk(base: &Path, dir: &Path, out: &mut BTreeMap<String, u32>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
            if [".git", "repo.git"].contains(&name.as_str()) {
                continue;
            }
            out.insert(name, meta.gid());
            if meta.is_dir() {
                walk(base, &path, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(dir, dir, &mut out);
    out
}

/// Those of `groups` that are not `gid`.
fn others(groups: &BTreeMap<String, u32>, gid: u32) -> Vec<&str> {
    let others = groups.iter().filter(|(_, group)| **group != gid);
    others.map(|(name, _)| name.as_str()).collect()
}

fn tree(text: &str) -> [(&'static str, Entry); 4] {
    [
        ("deep/er/a", file(text)),
        ("run", Entry::Executable(text.into())),
        ("same", file("same")),
        ("link", Entry::Symlink(text.into())),
    ]
}

#[test]
fn new_files_have_the_group_and_old_ones_keep_theirs() {
    let Some(gid) = another() else { return };
    let own = rustix::process::getegid().as_raw();
    let (world, mut source) = World::with_source();
    source.commit(tree("1"));
    world.config(&format!("umask: \"0027\", group: \"{gid}\""));
    world.deploy();
    let site = world.path("site");
    assert_eq!(others(&groups(&site), gid), [""; 0]);
    assert_eq!(fs::metadata(&site).unwrap().gid(), gid);
    // What git keeps is none of the web server's business.
    assert_eq!(fs::metadata(site.join(".git")).unwrap().gid(), own);
    let mode = |name: &str| fs::metadata(site.join(name)).unwrap().mode() & 0o7777;
    assert_eq!(["deep/er", "deep/er/a", "run"].map(mode), [0o750, 0o640, 0o750]);

    // It is another one now: what the next deploy writes gets it.
    for name in ["deep", "deep/er", "deep/er/a", "run", "same"] {
        chown(site.join(name), None, Some(own)).unwrap();
    }
    lchown(site.join("link"), None, Some(own)).unwrap();
    world.config("umask: \"0027\"");
    world.deploy();
    world.config(&format!("umask: \"0027\", group: \"{gid}\""));
    source.commit(tree("2").into_iter().chain([("deep/new/b", file("b"))]));
    world.deploy();
    assert_eq!(others(&groups(&site), gid), ["deep", "deep/er", "same"]);
    // What has it by another's hand is left alone; a directory that hands its group down goes on to.
    for name in ["deep", "deep/er", "same"] {
        chown(site.join(name), None, Some(gid)).unwrap();
    }
    fs::set_permissions(site.join("deep"), Permissions::from_mode(0o2750)).unwrap();
    let inode = || fs::metadata(site.join("same")).unwrap().ino();
    let before = inode();
    source.commit(tree("3").into_iter().chain([("deep/newer/b", file("b"))]));
    world.deploy();
    assert_eq!(inode(), before);
    assert_eq!(["deep", "deep/newer"].map(mode), [0o2750, 0o2750]);
    assert_eq!(others(&groups(&site), gid), [""; 0]);
    // Nothing is left of how they were made.
    assert!(groups(&site).keys().all(|name| !name.contains("gitsocket-tmp")));
}

#[test]
fn a_directory_that_a_kill_has_left_goes() {
    let world = World::sourced();
    world.config("clean: Nothing");
    world.deploy();
    let [left, users] =
        [".gitsocket-tmp-1-0", ".gitsocket-tmp-1-1"].map(|name| world.path("site").join(name));
    fs::create_dir(&left).unwrap();
    fs::create_dir(&users).unwrap();
    fs::write(users.join("x"), "x").unwrap();
    world.deploy();
    assert!(!left.exists() && users.join("x").exists());
}

#[test]
fn a_release_has_the_group_whatever_it_is_made_of() {
    let Some(gid) = another() else { return };
    let (world, mut source) = World::with_source();
    let releases = "releases: (keep: 1, shared: [\"uploads/\"])";
    for text in ["1", "2", "3"] {
        source.commit(tree(text));
        world.config(releases);
        world.deploy();
    }
    // The tree of the next one is that of the first.
    source.commit(tree("4"));
    world.config(&format!("{releases}, group: \"{gid}\""));
    world.deploy();
    let live = fs::canonicalize(world.path("site/current")).unwrap();
    assert_eq!(others(&groups(&live), gid), [""; 0]);
    assert_eq!(fs::metadata(&live).unwrap().gid(), gid);
    let link = fs::symlink_metadata(world.path("site/current")).unwrap();
    assert_eq!(link.gid(), gid);
    // A new one, as well.
    let world = World::new();
    world.source().commit(tree("1"));
    world.config(&format!("{releases}, group: \"{gid}\""));
    world.deploy();
    let groups = groups(&world.path("site"));
    assert!(groups.contains_key("shared/uploads"), "{groups:?}");
    assert_eq!(others(&groups, gid), [""; 0]);
}

#[test]
fn a_group_that_cannot_be_given_is_said_before_anything_is_done() {
    let world = World::sourced();
    world.config("group: \"no-such-group\"");
    let said = "the trigger's `group` is \"no-such-group\", and /etc/group has no such name";
    let ended = world.run_to(1, ["once", "site"]);
    assert!(
        ended.err.contains(&format!("error site path: {said}")),
        "{ended:?}"
    );
    let ended = world.run_to(2, ["check"]);
    assert!(ended.err.contains(&format!("site: group: {said}")), "{ended:?}");
    assert!(!world.path("site").exists());
    // Two triggers of one path have one group.
    world.config_of(
        "\"a\": (repo: \"repo.git\", path: \"site\"), \"b\": (repo: \"repo.git\", path: \"site\", group: \"0\"),",
    );
    let ended = world.run(["check"]);
    assert!(ended.err.contains("not the same `group`"), "{ended:?}");
    if need(Need::Root) {
        world.config("group: \"root\"");
        let mut command = world.command_as(machine::STRANGER, ["once", "site"]);
        chown(world.path(""), Some(machine::STRANGER), Some(machine::STRANGER)).unwrap();
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(
            err.contains(
                "error site path: files cannot be given to the trigger's `group` \"root\": 54321, as which"
            ) && err.contains("start gitsocket with the group 0: by SupplementaryGroups= "),
            "{err}"
        );
    }
}
