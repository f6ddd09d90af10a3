//! A target's repository has the permissions that git would give it, file by file.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use super::{
    source::{Entry, Source, file},
    world::{World, git, need},
};

/// Run `program` with a umask.
fn with_umask(umask: &str, program: &Path, args: &[&str], dir: &Path) {
    let output = Command::new("/bin/sh")
        .args(["-c", "umask $0 && exec \"$@\"", umask])
        .arg(program)
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
}

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_gitsocket").into()
}

/// The permissions of all that is in a git directory. Packs have other names here and there, and loose objects too.
fn modes(git_dir: &Path) -> BTreeMap<String, u32> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![git_dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(git_dir).unwrap().to_str().unwrap().to_owned();
            let name = match name.strip_prefix("objects/") {
                Some(pack) if pack.starts_with("pack/") => {
                    format!("*.{}", path.extension().unwrap_or_default().to_str().unwrap())
                }
                Some(other) if other != "pack" && other != "info" => continue,
                _ => name,
            };
            if meta.is_dir() && name != "gitsocket" {
                dirs.push(path);
            }
            let mode = meta.permissions().mode() & 0o7777;
            let before = found.insert(name.clone(), mode);
            assert!(before.is_none_or(|before| before == mode), "{name} differs");
        }
    }
    found
}

/// What both have is the same.
fn same(ours: &Path, theirs: &Path, what: &str) {
    let (ours, theirs) = (modes(ours), modes(theirs));
    let mut both = 0;
    for (name, mode) in &ours {
        if let Some(theirs) = theirs.get(name) {
            assert_eq!(format!("{mode:o}"), format!("{theirs:o}"), "{what}: {name}");
            both += 1;
        }
    }
    for name in [
        "*.pack",
        "*.idx",
        "HEAD",
        "config",
        "index",
        "refs/heads/main",
        "logs/HEAD",
    ] {
        assert!(
            ours.contains_key(name) && theirs.contains_key(name),
            "{what}: {name}"
        );
    }
    assert!(both > 15, "{what}: {both}");
}

fn commit(source: &mut Source, n: u64) {
    let mut rng = fastrand::Rng::with_seed(n);
    let noise = std::iter::repeat_with(|| rng.u8(..)).take(400_000).collect();
    source.commit([("d/a", file(&n.to_string())), ("noise", Entry::File(noise))]);
}

/// Let everything in packs be garbage, or collected.
fn collect(git_dir: &Path) {
    fs::write(
        git_dir.join("gitsocket/tidy.json"),
        r#"{"alive_bytes":0,"loose":0}"#,
    )
    .unwrap();
    for entry in fs::read_dir(git_dir.join("objects/pack")).unwrap() {
        let file = File::open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(7200))
            .unwrap();
    }
}

#[test]
fn as_git_has_them() {
    if !need("git") {
        return;
    }
    for (umask, shared) in [("022", ""), ("077", ""), ("027", "group"), ("022", "0640")] {
        let what = format!("{umask} {shared:?}");
        let (world, mut source) = World::with_source();
        commit(&mut source, 1);
        world.config("depth: 1");
        let root = world.path("");
        let url = format!("file://{}", source.path.display());
        let by_git = |args: &[&str], dir: &Path| with_umask(umask, Path::new("git"), args, dir);
        let deploy = || with_umask(umask, &program(), &["once", "site"], &root);
        let clone = ["clone", "-q", "--depth=1", &url];
        by_git(&[&clone[..], &["theirs"]].concat(), &root);
        let (ours, theirs) = (world.path("site/.git"), world.path("theirs/.git"));
        match shared {
            "" => deploy(),
            // A clone of a user's.
            _ => {
                by_git(
                    &[
                        &clone[..1],
                        &["-c"],
                        &[&format!("core.sharedRepository={shared}")],
                        &clone[1..],
                        &["site"],
                    ]
                    .concat(),
                    &root,
                );
                git(
                    &world.path("theirs"),
                    &["config", "core.sharedRepository", shared],
                );
                fs::remove_dir_all(world.path("theirs")).unwrap();
                by_git(
                    &[
                        &clone[..1],
                        &["-c"],
                        &[&format!("core.sharedRepository={shared}")],
                        &clone[1..],
                        &["theirs"],
                    ]
                    .concat(),
                    &root,
                );
            }
        }
        same(&ours, &theirs, &format!("{what}: clone"));
        for n in 2..=3 {
            commit(&mut source, n);
            deploy();
            by_git(
                &["-c", "fetch.unpackLimit=1", "fetch", "-q", "--depth=1"],
                &world.path("theirs"),
            );
            by_git(&["reset", "-q", "--hard", "origin/main"], &world.path("theirs"));
            same(&ours, &theirs, &format!("{what}: update"));
        }
        assert!(modes(&ours).contains_key("ORIG_HEAD") && modes(&ours).contains_key("shallow"));
        collect(&ours);
        deploy();
        let packs = fs::read_dir(ours.join("objects/pack")).unwrap();
        assert_eq!(packs.count(), 2, "{what}: it was tidied");
        by_git(&["repack", "-adq"], &world.path("theirs"));
        same(&ours, &theirs, &format!("{what}: tidied"));
        // Damage heals.
        for entry in fs::read_dir(ours.join("objects/pack")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        fs::write(ours.join("packed-refs"), "rubbish\n").unwrap();
        by_git(&["pack-refs", "--all", "--no-prune"], &world.path("theirs"));
        deploy();
        assert!(modes(&ours).contains_key("packed-refs"));
        same(&ours, &theirs, &format!("{what}: healed"));
    }
}

/// What is group-writable is so whoever of the group made it.
#[test]
fn directories_of_new_refs_are_shared() {
    if !need("git") {
        return;
    }
    let (world, mut source) = World::with_source();
    commit(&mut source, 1);
    world.config("");
    world.deploy();
    git(&world.path("site"), &["config", "core.sharedRepository", "group"]);
    source.commit_on("a/b/c", [("a", file("1"))]);
    world.config_of("\"site\": (repo: \"repo.git\", branch: \"a/b/c\", path: \"site\"),");
    with_umask("077", &program(), &["once", "site"], &world.path(""));
    for (name, mode) in [
        ("refs/heads/a/b", 0o2770),
        ("refs/remotes/origin/a", 0o2770),
        ("logs/refs/heads/a/b", 0o2770),
        ("refs/heads/a/b/c", 0o660),
        ("logs/refs/heads/a/b/c", 0o660),
        ("index", 0o660),
    ] {
        let meta = fs::metadata(world.path("site/.git").join(name)).unwrap();
        let found = meta.permissions().mode() & 0o7777;
        assert_eq!(format!("{found:o}"), format!("{mode:o}"), "{name}");
    }
}
