//! Damage in a target's own repository heals in the run that meets it; damage of a source is an error, and no more.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    mortal::Mortal,
    source::{Entry, Source, file},
    world::{
        Ended, Need, World, copy, git, last_line,
        machine::{self, STRANGER},
        need, tree,
    },
};

/// What a run says that has healed.
const HEALED: &str = "fetched again";

fn files(round: u32) -> BTreeMap<String, Entry> {
    // Long enough for deltas.
    let text: String = (0..60)
        .map(|n| format!("{} of line {n}\n", round * (n / 59)))
        .collect();
    [
        ("same".to_owned(), file("same")),
        ("d/same".to_owned(), file("the same below")),
        ("d/e/text".to_owned(), file(&text)),
        (format!("d/new{round}"), file(&format!("round {round}"))),
    ]
    .into()
}

fn commit(source: &mut Source, round: u32) {
    let files = files(round);
    source.commit(files.iter().map(|(path, entry)| (path.as_str(), entry.clone())));
}

/// A site that was deployed at each of `rounds` commits.
fn deployed(rounds: u32, more: &str) -> (World, Source) {
    let (world, mut source) = World::with_source();
    world.config(&format!("retries: 0, {more}"));
    for round in 1..=rounds {
        commit(&mut source, round);
        world.deploy();
    }
    (world, source)
}

fn check(world: &World, round: u32, what: &str) {
    assert_eq!(world.site(), files(round), "{what}");
    let site = world.path("site");
    git(&site, &["fsck", "--strict", "--no-dangling"]);
    assert_eq!(git(&site, &["status", "--porcelain"]), "", "{what}");
    assert!(!site.join(".git/gitsocket/heal").exists(), "{what}");
}

/// Files below `dir` with one of these extensions, in order.
fn with_extension(dir: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = tree(dir)
        .keys()
        .map(|name| dir.join(name))
        .filter(|path| {
            path.extension()
                .is_some_and(|ext| extensions.iter().any(|other| ext == *other))
        })
        .collect();
    found.sort();
    found
}

/// Let one bit of a file be another.
fn flip(path: &Path, rng: &mut fastrand::Rng) -> String {
    let mut bytes = fs::read(path).unwrap();
    let (at, bit) = (rng.usize(..bytes.len()), rng.u8(..8));
    bytes[at] ^= 1 << bit;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
    format!("bit {bit} of byte {at} of {}", path.display())
}

/// The loose object `name`.
fn loose(git_dir: &Path, name: &str) -> PathBuf {
    let id = git(git_dir, &["rev-parse", name]);
    let (dir, rest) = id.trim().split_at(2);
    git_dir.join("objects").join(dir).join(rest)
}

#[test]
fn a_target_that_an_older_version_wedged() {
    if !need("git") {
        return;
    }
    for depth in ["", "depth: 1"] {
        for lost in ["d/new2", "d", ""] {
            for more in [false, true] {
                let (world, mut source) = deployed(1, depth);
                commit(&mut source, 2);
                let git_dir = world.path("site/.git");
                // The remote-tracking ref was written first, and something of it has never come.
                let url = source.path.to_str().unwrap();
                let fetch = ["fetch", "-q", url, "+main:refs/remotes/origin/main"];
                git(
                    &git_dir,
                    &[&["-c", "fetch.unpackLimit=1000"], &fetch[..]].concat(),
                );
                fs::remove_file(loose(&git_dir, &format!("origin/main:{lost}"))).unwrap();
                if more {
                    commit(&mut source, 3);
                }
                let what = format!("{depth} {lost:?} {more}");
                let ended = world.deploy();
                // With a bound, what is newer needs nothing of it.
                let is_needed = depth.is_empty() || !more;
                assert!(!is_needed || ended.err.contains(HEALED), "{what}: {ended:?}");
                assert_eq!(world.site(), files(if more { 3 } else { 2 }), "{what}");
                if is_needed {
                    check(&world, if more { 3 } else { 2 }, &what);
                }
                assert!(!world.deploy().err.contains(HEALED), "{what}");
            }
        }
    }
}

#[test]
fn files_that_are_lost_with_their_objects_come_back() {
    if !need("git") {
        return;
    }
    let (world, _) = deployed(2, "");
    let packs = world.path("site/.git/objects/pack");
    fs::remove_dir_all(&packs).unwrap();
    fs::create_dir(&packs).unwrap();
    fs::remove_file(world.path("site/same")).unwrap();
    let ended = world.deploy();
    assert!(ended.err.contains(HEALED), "{ended:?}");
    check(&world, 2, "no packs");
}

#[test]
fn small_files_of_git_that_are_rubbish() {
    if !need("git") {
        return;
    }
    for (name, depth) in [
        ("HEAD", ""),
        ("HEAD", "git_dir: \"lib/x.git\""),
        ("packed-refs", ""),
        ("index", ""),
        ("refs/heads/other", ""),
        ("refs/remotes/origin/main", ""),
        ("shallow", "depth: 1"),
        ("objects/pack/multi-pack-index", ""),
        ("objects/info/commit-graph", ""),
    ] {
        let (world, mut source) = deployed(2, depth);
        let git_dir = if depth.contains("git_dir") {
            world.path("lib/x.git")
        } else {
            world.path("site/.git")
        };
        fs::write(git_dir.join(name), "\u{1}rubbish\n").unwrap();
        commit(&mut source, 3);
        world.deploy();
        assert_eq!(world.site(), files(3), "{name}");
        if !depth.contains("git_dir") && !name.starts_with("objects/") {
            check(&world, 3, name);
        }
    }
}

/// Even where the remote has nothing new.
#[test]
fn small_files_of_git_that_are_rubbish_while_nothing_is_new() {
    if !need("git") {
        return;
    }
    for (name, depth) in [
        ("packed-refs", ""),
        ("packed-refs", "depth: 1"),
        ("shallow", ""),
        ("shallow", "depth: 1"),
    ] {
        let (world, _) = deployed(2, depth);
        for rubbish in ["rubbish\n", "\u{1}\u{2}", "0123456789 refs/heads/main\n"] {
            fs::write(world.path("site/.git").join(name), rubbish).unwrap();
            let ended = world.deploy();
            assert!(ended.err.contains(HEALED), "{name} {rubbish:?}: {ended:?}");
            check(&world, 2, name);
            assert!(!world.deploy().err.contains(HEALED), "{name} {rubbish:?}");
        }
    }
}

/// Each run either succeeds, or says whose fault it is; once the source is as it was, all is well.
#[test]
fn flips_in_a_source() {
    if !need("git") {
        return;
    }
    let mut rng = fastrand::Rng::with_seed(machine::seed());
    let (world, mut source) = deployed(1, "");
    copy(&world.path("site"), &world.path("kept"));
    for round in 2..=6 {
        commit(&mut source, round);
    }
    git(&source.path, &["repack", "-adfq"]);
    let pack = with_extension(&source.path.join("objects/pack"), &["pack"]).remove(0);
    let whole = fs::read(&pack).unwrap();
    let mut failed = 0;
    for n in 0..machine::rounds(15) {
        let site = world.path("site");
        fs::remove_dir_all(&site).unwrap();
        if n % 2 == 0 {
            copy(&world.path("kept"), &site);
        }
        let what = flip(&pack, &mut rng);
        let ended = world.run(["once", "site"]);
        fs::write(&pack, &whole).unwrap();
        match ended.exit {
            0 => assert_eq!(world.site(), files(6), "{what}"),
            _ => {
                failed += 1;
                blames_the_source(&ended, &what);
                assert!(n % 2 == 1 || world.site() == files(1), "{what}");
            }
        }
        let next = world.run(["once", "site"]);
        assert_eq!(next.exit, 0, "{what}: {next:?}");
        assert_eq!(world.site(), files(6), "{what}");
        if n % 25 == 0 {
            check(&world, 6, &what);
        }
    }
    assert!(failed > 0);
    eprintln!("{failed} runs failed");
}

fn blames_the_source(ended: &Ended, what: &str) {
    let last = last_line(&ended.err);
    assert!(last.starts_with("error site remote: "), "{what}: {ended:?}");
    assert!(last.contains("repo.git"), "{what}: {ended:?}");
}

#[test]
fn flips_in_a_target() {
    if !need("git") {
        return;
    }
    let mut rng = fastrand::Rng::with_seed(machine::seed());
    let healed = try_flips_in_a_target(&mut rng, &["", "depth: 1"], machine::rounds(6));
    eprintln!("{healed} were healed");
    assert!(healed > 0);
}

/// A bit of a delta's base: what comes of it passes the sums of zlib, and is another object.
#[test]
fn flips_in_a_target_that_zlib_does_not_see() {
    if !need("git") {
        return;
    }
    let mut rng = fastrand::Rng::with_seed(4_992_686_616_520_066_702);
    assert!(try_flips_in_a_target(&mut rng, &[""], 25) > 0);
}

/// How many runs have healed.
fn try_flips_in_a_target(rng: &mut fastrand::Rng, depths: &[&str], flips: usize) -> usize {
    let mut healed = 0;
    for depth in depths {
        let (world, mut source) = deployed(3, depth);
        copy(&world.path("site"), &world.path("kept"));
        let site = world.path("site");
        commit(&mut source, 4);
        for _ in 0..flips {
            fs::remove_dir_all(&site).unwrap();
            copy(&world.path("kept"), &site);
            let files_of_packs = with_extension(&site.join(".git/objects/pack"), &["pack", "idx"]);
            let what = flip(&files_of_packs[rng.usize(..files_of_packs.len())], rng);
            // Everything is read again.
            fs::remove_file(site.join(".git/index")).unwrap();
            fs::remove_dir_all(site.join("d")).unwrap();
            fs::remove_file(site.join("same")).unwrap();
            let ended = world.run(["once", "site"]);
            assert_eq!(ended.exit, 0, "{what}: {ended:?}");
            assert_eq!(world.site(), files(4), "{what}: {ended:?}");
            if ended.err.contains(HEALED) {
                healed += 1;
                check(&world, 4, &what);
            }
        }
    }
    eprintln!("{healed} were healed");
    healed
}

/// Objects that are whole, and others than their ids say: no sum of zlib tells.
#[test]
fn objects_with_the_content_of_others() {
    if !need("git") {
        return;
    }
    let (world, mut source) = deployed(1, "");
    source.commit([
        ("same", file("same")),
        ("d/same", file("the same below")),
        ("d/.gitattributes", file("*.crlf text eol=crlf\n")),
        ("d/a.crlf", file("a\nb\n")),
        ("d/b.crlf", file("c\nd\n")),
        ("large", file(&"l".repeat(17 << 20))),
        ("d/large", file(&"L".repeat(17 << 20))),
    ]);
    world.deploy();
    let expected = world.site();
    let (site, kept) = (world.path("site"), world.path("kept"));
    unpack(&site);
    copy(&site, &kept);
    for (damaged, other) in [
        ("HEAD", "HEAD^"),
        ("HEAD^{tree}", "HEAD^^{tree}"),
        ("HEAD:d", "HEAD^:d"),
        ("HEAD:same", "HEAD:d/same"),
        ("HEAD:d/.gitattributes", "HEAD:same"),
        ("HEAD:d/a.crlf", "HEAD:d/b.crlf"),
        ("HEAD:large", "HEAD:d/large"),
    ] {
        fs::remove_dir_all(&site).unwrap();
        copy(&kept, &site);
        let git_dir = site.join(".git");
        let (to, from) = (loose(&git_dir, damaged), loose(&git_dir, other));
        fs::remove_file(&to).unwrap();
        fs::copy(from, to).unwrap();
        // Everything is read again.
        fs::remove_file(git_dir.join("index")).unwrap();
        fs::remove_dir_all(site.join("d")).unwrap();
        fs::remove_file(site.join("same")).unwrap();
        fs::remove_file(site.join("large")).unwrap();
        let ended = world.deploy();
        assert!(ended.err.contains(HEALED), "{damaged}: {ended:?}");
        assert!(world.site() == expected, "{damaged}");
        assert_eq!(git(&site, &["status", "--porcelain"]), "", "{damaged}");
    }
}

/// Let all objects of the repository of `site` be loose.
fn unpack(site: &Path) {
    let packs = site.join(".git/objects/pack");
    let moved = site.join(".git/packs");
    fs::rename(&packs, &moved).unwrap();
    fs::create_dir(&packs).unwrap();
    for pack in with_extension(&moved, &["pack"]) {
        let unpacked = Command::new("git")
            .args(["unpack-objects", "-q"])
            .current_dir(site)
            .stdin(fs::File::open(pack).unwrap())
            .status();
        assert!(unpacked.unwrap().success());
    }
    fs::remove_dir_all(moved).unwrap();
}

/// git shows a replacement, and does not take it for the object: neither does a run.
#[test]
fn a_replaced_object_is_deployed_as_it_was_committed() {
    if !need("git") {
        return;
    }
    let (world, mut source) = deployed(1, "");
    let site = world.path("site");
    for (name, other) in [("HEAD:same", "HEAD:d/same"), ("HEAD:d", "HEAD^{tree}")] {
        let [name, other] = [name, other].map(|name| git(&site, &["rev-parse", name]).trim().to_owned());
        git(&site, &["update-ref", &format!("refs/replace/{name}"), &other]);
    }
    fs::remove_file(site.join("same")).unwrap();
    fs::remove_dir_all(site.join("d")).unwrap();
    fs::remove_file(site.join(".git/index")).unwrap();
    commit(&mut source, 2);
    let ended = world.deploy();
    assert!(!ended.err.contains(HEALED), "{ended:?}");
    assert_eq!(world.site(), files(2));
}

#[test]
fn what_is_in_no_remote_is_lost_by_name() {
    if !need("git") {
        return;
    }
    let (world, mut source) = deployed(2, "");
    let git_dir = world.path("site/.git");
    let blob = world.write("mine", "only here");
    let made = |args: &[&str]| git(&git_dir, args).trim().to_owned();
    let id = made(&["hash-object", "-w", blob.to_str().unwrap()]);
    made(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("100644,{id},mine"),
    ]);
    let tree = made(&["write-tree"]);
    let name = ["-c", "user.name=x", "-c", "user.email=x@x"];
    let work = made(&[&name[..], &["commit-tree", "-p", "HEAD", "-m", "x", &tree]].concat());
    let fine = made(
        &[
            &name[..],
            &["commit-tree", "-p", "HEAD", "-m", "y", "HEAD^{tree}"],
        ]
        .concat(),
    );
    made(&["update-ref", "refs/heads/work", &work]);
    made(&["update-ref", "refs/heads/fine", &fine]);
    fs::remove_file(loose(&git_dir, &id)).unwrap();
    for pack in with_extension(&git_dir.join("objects/pack"), &["pack", "idx"]) {
        fs::remove_file(pack).unwrap();
    }
    commit(&mut source, 3);
    let ended = world.deploy();
    assert!(ended.err.contains(HEALED), "{ended:?}");
    let warning = ended
        .err
        .lines()
        .find(|line| line.contains("refs/heads/work"))
        .unwrap_or_default();
    assert!(
        warning.contains(&work) && warning.contains(&id) && warning.contains("lost"),
        "{ended:?}"
    );
    let refs = made(&["for-each-ref", "--format=%(refname)"]);
    assert!(
        !refs.contains("refs/heads/work") && refs.contains("refs/heads/fine"),
        "{refs}"
    );
    check(&world, 3, "lost");
}

/// What only a damaged pack has, and can be read in it, is kept.
#[test]
fn what_a_damaged_pack_has_alone_is_kept() {
    if !need("git") {
        return;
    }
    let (world, mut source) = deployed(1, "");
    let git_dir = world.path("site/.git");
    let made = |args: &[&str]| git(&git_dir, args).trim().to_owned();
    let name = ["-c", "user.name=x", "-c", "user.email=x@x"];
    let mine = made(
        &[
            &name[..],
            &["commit-tree", "-p", "HEAD", "-m", "mine", "HEAD^{tree}"],
        ]
        .concat(),
    );
    made(&["update-ref", "refs/heads/mine", &mine]);
    made(&["repack", "-adfq"]);
    let pack = with_extension(&git_dir.join("objects/pack"), &["pack"]).remove(0);
    // The first byte of the blob's content.
    let blob = made(&["rev-parse", "HEAD:same"]);
    let listed = made(&["verify-pack", "-v", pack.with_extension("idx").to_str().unwrap()]);
    let line = listed.lines().find(|line| line.starts_with(&blob)).unwrap();
    let at: usize = line.split_whitespace().nth(4).unwrap().parse().unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[at + 4] ^= 0x55;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    fs::remove_file(world.path("site/same")).unwrap();
    commit(&mut source, 2);
    let ended = world.deploy();
    assert!(
        ended.err.contains(HEALED) && !ended.err.contains("lost"),
        "{ended:?}"
    );
    assert_eq!(made(&["rev-parse", "refs/heads/mine"]), mine);
    check(&world, 2, "kept");
}

/// In the sandbox, where files may be moved within the target only.
#[test]
fn a_daemon_heals() {
    if !need("git") {
        return;
    }
    let (world, mut source) = deployed(2, "");
    let daemon = world.daemon();
    for round in 3..=5 {
        for pack in with_extension(&world.path("site/.git/objects/pack"), &["pack"]) {
            fs::remove_file(&pack).unwrap();
            fs::write(&pack, "rubbish").unwrap();
        }
        fs::remove_file(world.path("site/same")).unwrap();
        commit(&mut source, round);
        let answer = daemon.deploys("site");
        assert!(answer.contains(HEALED), "{answer}");
        check(&world, round, "daemon");
    }
}

/// What cannot be read may be whole: work that is nowhere else is not taken for lost.
#[test]
fn what_may_not_be_read_is_not_damage() {
    if !need("git") {
        return;
    }
    let (world, mut source) = deployed(1, "");
    let git_dir = world.path("site/.git");
    let made = |args: &[&str]| {
        let trusted = [
            "-c",
            "safe.directory=*",
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@x",
        ];
        git(&git_dir, &[&trusted[..], args].concat()).trim().to_owned()
    };
    let make = |message: &str| made(&["commit-tree", "-p", "HEAD", "-m", message, "HEAD^{tree}"]);
    let (work, stash) = (make("work"), make("stash"));
    made(&["update-ref", "refs/heads/work", &work]);
    made(&["update-ref", "--create-reflog", "refs/stash", &stash]);
    made(&["repack", "-adfq"]);
    let packs = || with_extension(&git_dir.join("objects/pack"), &["pack", "idx"]);
    let mut closed: Vec<PathBuf> = packs();
    closed.push(git_dir.join("refs/heads/work"));
    let mortal = Mortal::new(world);
    let world = &mortal.world;
    let mut round = 1;
    let close = |path: &Path, mode: u32, is_roots: bool| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        if is_roots {
            chown(path, Some(0), Some(0)).unwrap();
        }
    };
    let dir = fs::canonicalize(&git_dir).unwrap();
    for is_roots in [false, true] {
        if is_roots && !need(Need::Root) {
            continue;
        }
        for paths in [&closed[..], &closed[..1], &closed[1..2], &closed[2..]] {
            let what = format!("{is_roots} {paths:?}");
            paths
                .iter()
                .for_each(|path| close(path, if is_roots { 0o600 } else { 0 }, is_roots));
            round += 1;
            commit(&mut source, round);
            mortal.give(&source.path);
            let before = packs();
            let ended = mortal.run(["once", "site"]);
            // A ref that no run needs is no matter while all else is whole.
            if paths.len() > 1 || !paths[0].ends_with("work") {
                assert_eq!(ended.exit, 1, "{what}: {ended:?}");
                let last = last_line(&ended.err);
                assert!(last.starts_with("error site path: "), "{what}: {last}");
                let advice = if is_roots {
                    format!("as root, type: chown -R {STRANGER} {}", dir.display())
                } else {
                    format!("type: chmod -R u+rwX {}", dir.display())
                };
                assert!(last.contains(&advice), "{what}: {last}");
            }
            assert!(
                !ended.err.contains("gone") && !ended.err.contains(HEALED),
                "{what}: {ended:?}"
            );
            assert!(packs().starts_with(&before), "{what}");
            // The advice works.
            mortal.give(&git_dir);
            paths.iter().for_each(|path| close(path, 0o644, false));
            let ended = mortal.run(["once", "site"]);
            assert_eq!(ended.exit, 0, "{what}: {ended:?}");
            assert!(!ended.err.contains("lost"), "{what}: {ended:?}");
            assert_eq!(
                made(&["rev-parse", "work", "stash@{0}"]),
                format!("{work}\n{stash}"),
                "{what}"
            );
            made(&["fsck", "--strict", "--no-dangling"]);
        }
    }
    assert_eq!(world.site(), files(round));
}
