//! Repositories that lack objects of their own, partial clones and those that borrow, are deployed from and to.

use std::{fs, path::Path};

use super::{
    source::{Source, file},
    world::{World, git, last_line, need},
};

/// What a run says that has healed.
const HEALED: &str = "fetched again";

fn commit(source: &mut Source, round: u32) {
    let new = format!("round {round}");
    source.commit([
        ("same", file("same")),
        ("d/same", file("the same below")),
        ("d/new", file(&new)),
    ]);
}

/// A world whose source has three commits.
fn world() -> (World, Source) {
    let (world, mut source) = World::with_source();
    world.config("retries: 0");
    (1..=3).for_each(|round| commit(&mut source, round));
    (world, source)
}

/// The site is as in that round, and git knows of no change. What it says of a lender that has gone is no matter.
fn check(world: &World, round: u32, what: &str) {
    let text = |name: &str| fs::read_to_string(world.path("site").join(name)).unwrap();
    assert_eq!(text("d/new"), format!("round {round}"), "{what}");
    assert_eq!(
        (text("same"), text("d/same")),
        ("same".into(), "the same below".into()),
        "{what}"
    );
    assert_eq!(git(&world.path("site"), &["status", "--porcelain"]), "", "{what}");
    assert!(!world.path("site/.git/gitsocket/heal").exists(), "{what}");
}

fn is_whole(world: &World) {
    git(&world.path("site"), &["fsck", "--strict", "--no-dangling"]);
}

/// The loose object `name` of `git_dir`.
fn loose(git_dir: &Path, name: &str) -> std::path::PathBuf {
    let id = git(git_dir, &["rev-parse", name]);
    let (dir, rest) = id.trim().split_at(2);
    git_dir.join("objects").join(dir).join(rest)
}

#[test]
fn a_target_is_a_partial_clone() {
    if !need("git") {
        return;
    }
    for filter in ["--filter=blob:none", "--filter=tree:0"] {
        for checkout in [&[][..], &["--no-checkout"]] {
            let what = format!("{filter} {checkout:?}");
            let (world, mut source) = world();
            git(&source.path, &["config", "uploadpack.allowFilter", "true"]);
            let url = format!("file://{}", source.path.display());
            let clone = [&["clone", "-q", filter], checkout, &[&url, "site"]].concat();
            git(&world.path(""), &clone);
            let first = world.deploy();
            assert_eq!(
                first.err.contains(HEALED),
                !checkout.is_empty(),
                "{what}: {first:?}"
            );
            check(&world, 3, &what);
            for round in 4..=5 {
                commit(&mut source, round);
                if round == 5 {
                    fs::remove_file(world.path("site/same")).unwrap();
                }
                let ended = world.deploy();
                assert!(!ended.err.contains("lost"), "{what}: {ended:?}");
                check(&world, round, &what);
            }
            // What git left out on purpose is no damage, and what has come is whole.
            is_whole(&world);
            assert_eq!(
                git(&world.path("site"), &["rev-list", "--count", "HEAD"]).trim(),
                "5"
            );
        }
    }
}

/// A target made by `git clone --shared` of a repository beside it, which has all objects loose, or in one pack.
fn borrower(packed: bool) -> (World, Source) {
    let (world, source) = world();
    let lender = world.path("lender.git");
    super::world::copy(&source.path, &lender);
    if packed {
        git(&lender, &["repack", "-adq"]);
    }
    git(
        &world.path(""),
        &["clone", "-q", "--shared", "lender.git", "site"],
    );
    world.deploy();
    check(&world, 3, "borrowed");
    assert!(world.path("site/.git/objects/info/alternates").exists());
    (world, source)
}

#[test]
fn a_lender_loses_something() {
    if !need("git") {
        return;
    }
    for lost in ["main:same", "main:d", "main", "main~1", ""] {
        for new in [false, true] {
            let what = format!("{lost:?} {new}");
            let (world, mut source) = borrower(false);
            let lender = world.path("lender.git");
            match lost {
                "" => fs::rename(&lender, world.path("gone.git")).unwrap(),
                lost => fs::remove_file(loose(&lender, lost)).unwrap(),
            }
            if new {
                commit(&mut source, 4);
            }
            fs::remove_file(world.path("site/same")).unwrap();
            fs::remove_file(world.path("site/.git/index")).unwrap();
            world.deploy();
            let round = if new { 4 } else { 3 };
            check(&world, round, &what);
            assert!(!world.deploy().err.contains(HEALED), "{what}");
            commit(&mut source, round + 1);
            world.deploy();
            check(&world, round + 1, &what);
        }
    }
}

/// A fetch reads the refs of the lender, too.
#[test]
fn a_lender_is_a_trap() {
    if !need("git") {
        return;
    }
    let (world, mut source) = borrower(false);
    commit(&mut source, 4);
    for name in ["refs/heads/trap", "commondir"] {
        let fifo = format!("lender.git/{name}");
        world.fifo(&fifo);
        let ended = world.run(["once", "site"]);
        let last = last_line(&ended.err);
        assert!(last.starts_with("error site repository: "), "{ended:?}");
        assert!(last.contains(&fifo) && last.contains("fifo"), "{last}");
        fs::remove_file(world.path(&fifo)).unwrap();
    }
    world.deploy();
    check(&world, 4, "the trap has gone");
}

/// What is damaged there would be read rather than what was fetched; so it is borrowed from no more. What is only there, and
/// needed, is kept.
#[test]
fn a_lender_is_damaged() {
    if !need("git") {
        return;
    }
    for damaged in ["main:same", "main", "main~1^{tree}"] {
        for new in [false, true] {
            let what = format!("{damaged} {new}");
            let (world, mut source) = borrower(true);
            let (site, lender) = (world.path("site"), world.path("lender.git"));
            let name = ["-c", "user.name=x", "-c", "user.email=x@x"];
            let make = ["commit-tree", "-p", "HEAD", "-m", "mine", "HEAD^{tree}"];
            let mine = git(&lender, &[&name[..], &make].concat()).trim().to_owned();
            git(&site, &["update-ref", "refs/heads/mine", &mine]);

            let packs = fs::read_dir(lender.join("objects/pack")).unwrap();
            let mut packs = packs.map(|entry| entry.unwrap().path());
            let pack = packs
                .find(|path| path.extension().is_some_and(|it| it == "pack"))
                .unwrap();
            let id = git(&lender, &["rev-parse", damaged]);
            let listed = git(&lender, &["verify-pack", "-v", pack.to_str().unwrap()]);
            let line = listed.lines().find(|line| line.starts_with(id.trim())).unwrap();
            let at: usize = line.split_whitespace().nth(4).unwrap().parse().unwrap();
            let mut bytes = fs::read(&pack).unwrap();
            bytes[at + 4] ^= 0x55;
            fs::remove_file(&pack).unwrap();
            fs::write(&pack, bytes).unwrap();

            let mut round = 3;
            if new {
                round += 1;
                commit(&mut source, round);
            }
            fs::remove_file(world.path("site/same")).unwrap();
            fs::remove_file(world.path("site/.git/index")).unwrap();
            let ended = world.deploy();
            check(&world, round, &what);
            for _ in 0..2 {
                round += 1;
                commit(&mut source, round);
                world.deploy();
                check(&world, round, &what);
            }
            if ended.err.contains("borrows no more") {
                assert!(ended.err.contains("lender.git/objects"), "{what}: {ended:?}");
                assert_eq!(
                    git(&site, &["rev-parse", "refs/heads/mine"]).trim(),
                    mine,
                    "{what}"
                );
                is_whole(&world);
            }
            assert!(
                new || damaged != "main" || ended.err.contains("borrows no more"),
                "{what}: {ended:?}"
            );
        }
    }
}

/// Its disk may be mounted too late: what only it has is not lost.
#[test]
fn a_lender_is_away() {
    if !need("git") {
        return;
    }
    for away in ["not there", "not mounted"] {
        let (world, mut source) = borrower(true);
        let (site, lender) = (world.path("site"), world.path("lender.git"));
        let name = ["-c", "user.name=x", "-c", "user.email=x@x"];
        let make = ["commit-tree", "-p", "HEAD", "-m", "mine", "HEAD^{tree}"];
        let mine = git(&lender, &[&name[..], &make].concat()).trim().to_owned();
        git(&site, &["update-ref", "refs/heads/mine", &mine]);
        commit(&mut source, 4);
        fs::rename(&lender, world.path("elsewhere")).unwrap();
        if away == "not mounted" {
            fs::create_dir_all(lender.join("objects")).unwrap();
        }
        for _ in 0..2 {
            let ended = world.run(["once", "site"]);
            assert_eq!(ended.exit, 1, "{away}: {ended:?}");
            let last = last_line(&ended.err);
            assert!(last.starts_with("error site repository: "), "{away}: {last}");
            for words in [
                "lender.git/objects, which this repository borrows objects from, is not there",
                "refs/heads/mine needs the object",
                "(mount it, ",
                "remove its line from ",
                "site/.git/objects/info/alternates: ",
            ] {
                assert!(last.contains(words), "{away}: {words}: {last}");
            }
            assert!(
                !ended.err.contains("lost") && !ended.err.contains("borrows no more"),
                "{ended:?}"
            );
        }
        if away == "not mounted" {
            fs::remove_dir_all(&lender).unwrap();
        }
        let alternates = site.join(".git/objects/info/alternates");
        match away {
            "not there" => {
                fs::rename(world.path("elsewhere"), &lender).unwrap();
                world.deploy();
                check(&world, 4, away);
                assert_eq!(
                    git(&site, &["rev-parse", "refs/heads/mine^{commit}"]).trim(),
                    mine
                );
                assert!(alternates.exists());
            }
            // It is gone for good.
            _ => {
                fs::write(&alternates, "").unwrap();
                let ended = world.deploy();
                assert!(ended.err.contains("refs/heads/mine was at"), "{ended:?}");
                check(&world, 4, away);
            }
        }
        is_whole(&world);
    }
}

#[test]
fn a_source_borrows() {
    if !need("git") {
        return;
    }
    let (world, mut lender) = world();
    let borrow = ["clone", "-q", "--bare", "--shared", "repo.git", "borrower.git"];
    git(&world.path(""), &borrow);
    world.config_of("\"site\": (repo: \"borrower.git\", branch: \"main\", path: \"site\", retries: 0),");
    world.deploy();
    check(&world, 3, "all of it is borrowed");
    commit(&mut lender, 4);
    git(
        &world.path("borrower.git"),
        &["fetch", "-q", "origin", "main:main"],
    );
    let daemon = world.daemon();
    daemon.deploys("site");
    check(&world, 4, "in the sandbox");
    drop(daemon);
    // What the lender has lost is an error; then it comes back.
    for lost in ["main:same", "main:d", "main"] {
        let path = loose(&lender.path, lost);
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::remove_dir_all(world.path("site")).unwrap();
        let ended = world.run(["once", "site"]);
        let last = last_line(&ended.err);
        assert!(last.starts_with("error site remote: "), "{lost}: {ended:?}");
        assert!(last.contains("borrower.git"), "{lost}: {last}");
        fs::write(&path, kept).unwrap();
        world.deploy();
        check(&world, 4, lost);
        is_whole(&world);
    }
}
