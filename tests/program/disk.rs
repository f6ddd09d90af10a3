//! A full disk is an error of one run: its advice works, and nothing that is left stops the next run.

use std::collections::BTreeMap;

use super::{
    source::{Entry, file},
    world::{Daemon, World, git, last_line, machine::Disk, need, tree},
};

/// A world whose `disk/site` is a clone on a disk with room for `kib`.
fn world(kib: u64) -> Option<(World, super::source::Source, Disk)> {
    let (world, source) = World::with_commit();
    let disk = Disk::mount(&world.path("disk"), kib)?;
    world.config_of("\"site\": (repo: \"repo.git\", branch: \"main\", path: \"disk/site\"),");
    Some((world, source, disk))
}

/// A file that does not get smaller.
fn big(bytes: usize) -> Entry {
    let mut random = vec![0; bytes];
    fastrand::Rng::with_seed(1).fill(&mut random);
    Entry::File(random)
}

/// Everything is as the last commit has it, and git agrees.
fn check(world: &World, expected: &BTreeMap<String, Entry>, what: &str) {
    let site = world.path("disk/site");
    assert_eq!(&tree(&site), expected, "{what}");
    if need("git") {
        git(&site, &["fsck", "--strict", "--no-dangling"]);
        assert_eq!(git(&site, &["status", "--porcelain"]), "", "{what}");
        let counted = git(&site, &["count-objects", "-v"]);
        assert!(counted.contains("garbage: 0"), "{what}: {counted}");
    }
}

/// `once site`, which has to say that the disk is full.
fn is_full(world: &World) -> String {
    let ended = world.run_to(1, ["once", "site"]);
    let last = last_line(&ended.err).to_owned();
    told(&last);
    last
}

/// It is the disk, and the advice is to make room.
fn told(last: &str) {
    assert!(last.starts_with("error site resources: "), "{last}");
    let helps = last.contains("(free space") || last.contains("(make room") || last.contains(": make room");
    assert!(last.contains("space") && helps, "{last}");
}

fn files<const N: usize>(list: [(&str, Entry); N]) -> BTreeMap<String, Entry> {
    list.into_iter()
        .map(|(path, entry)| (path.to_owned(), entry))
        .collect()
}

#[test]
fn a_clone_that_does_not_fit() {
    let Some((world, mut source, disk)) = world(600) else {
        return;
    };
    let big = big(900_000);
    source.commit([("a", file("2")), ("b", big.clone())]);
    is_full(&world);
    assert!(!world.path("disk/site/.git/HEAD").exists());
    is_full(&world);
    let free = disk.free();
    assert!(free > 400, "what came stays there: {free} KiB are free");

    disk.resize(20 * 1024);
    world.deploy();
    check(&world, &files([("a", file("2")), ("b", big)]), "a clone");
}

#[test]
fn an_update_that_does_not_fit() {
    let Some((world, mut source, disk)) = world(700) else {
        return;
    };
    world.deploy();
    let before = disk.free();
    let big = big(900_000);
    let commit = source.commit([("a", file("2")), ("b", big.clone())]);
    is_full(&world);
    check(&world, &files([("a", file("1"))]), "nothing has changed");
    let after = disk.free();
    assert!(
        after + 64 > before,
        "what came stays there: {before} KiB, then {after}"
    );

    // There is room for the pack, but not for the file: that is known before a file changes.
    disk.resize(disk.used() + 1200);
    for _ in 0..2 {
        let last = is_full(&world);
        assert!(
            last.contains("disk/site") && last.contains("the new files need 878.9 KiB"),
            "{last}"
        );
        assert!(last.contains("nothing was written"), "{last}");
        assert_eq!(tree(&world.path("disk/site")), files([("a", file("1"))]));
    }

    disk.resize(20 * 1024);
    let ended = world.deploy();
    assert!(
        ended.out.contains(&commit.to_hex_with_len(7).to_string()),
        "{ended:?}"
    );
    check(&world, &files([("a", file("2")), ("b", big)]), "an update");
}

/// What only a damaged pack has is not lost as there is no room to write it again.
#[test]
fn what_is_rescued_does_not_fit() {
    let Some((world, mut source, disk)) = world(20 << 10) else {
        return;
    };
    if !need("git") {
        return;
    }
    world.deploy();
    let site = world.path("disk/site");
    let made = |args: &[&str]| git(&site, args).trim().to_owned();
    let Entry::File(bytes) = big(3 << 20) else {
        unreachable!()
    };
    std::fs::write(world.path("big"), bytes).unwrap();
    let blob = made(&["hash-object", "-w", world.path("big").to_str().unwrap()]);
    made(&["update-ref", "refs/tags/work", &blob]);
    made(&["repack", "-adfq"]);
    // Its last byte is that of its checksum.
    let pack = tree(&site.join(".git/objects/pack"));
    let pack = pack.keys().find(|name| name.ends_with(".pack")).unwrap();
    let pack = site.join(".git/objects/pack").join(pack);
    let mut bytes = std::fs::read(&pack).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    // As if a run had met it, and was killed.
    std::fs::create_dir_all(site.join(".git/gitsocket/heal")).unwrap();
    source.commit([("a", file("2"))]);
    let ballast = disk.fill(1024);
    let ended = world.run(["once", "site"]);
    assert!(!ended.err.contains("lost"), "{ended:?}");
    told(last_line(&ended.err));
    assert_eq!(made(&["rev-parse", "refs/tags/work"]), blob);
    drop(ballast);
    let ended = world.deploy();
    assert!(!ended.err.contains("lost"), "{ended:?}");
    assert_eq!(made(&["cat-file", "-s", "refs/tags/work"]), (3 << 20).to_string());
    check(&world, &files([("a", file("2"))]), "rescued");
}

/// A pack ends before it has filled the disk: others have room left, too.
#[test]
fn a_pack_that_would_fill_the_disk() {
    let Some((world, mut source, disk)) = world(72 << 10) else {
        return;
    };
    world.deploy();
    let before = disk.free();
    let big = big(17 << 20);
    source.commit([("a", file("2")), ("b", big.clone())]);
    let last = is_full(&world);
    assert!(
        last.contains("has space for 5") && last.contains("64.0 MiB are needed"),
        "{last}"
    );
    check(&world, &files([("a", file("1"))]), "nothing has changed");
    let after = disk.free();
    assert!(
        after + 64 > before,
        "what came stays there: {before} KiB, then {after}"
    );

    disk.resize(160 << 10);
    world.deploy();
    check(&world, &files([("a", file("2")), ("b", big)]), "there is room");
}

/// What the new files replace makes room for them.
#[test]
fn an_update_that_fits_as_it_replaces() {
    let Some((world, mut source, disk)) = world(20 << 10) else {
        return;
    };
    source.commit([("a", file("1")), ("b", big(1_000_000)), ("c", big(1_000_001))]);
    world.deploy();
    // For the pack there is room, and then for nothing of that size until `c` has gone.
    let other = big(1_000_002);
    source.commit([("a", file("2")), ("b", other.clone())]);
    disk.resize(disk.used() + 1_500);
    world.deploy();
    check(&world, &files([("a", file("2")), ("b", other)]), "it fits");
}

/// Wherever a run meets the end of the disk, in pack, files, index, refs or state: the next one needs only room.
#[test]
fn room_for_a_part_of_an_update() {
    let Some((world, mut source, disk)) = world(4096) else {
        return;
    };
    for more in ["", "depth: 1,"] {
        world.config_of(&format!(
            "\"site\": (repo: \"repo.git\", branch: \"main\", path: \"disk/site\", {more}),"
        ));
        world.deploy();
        let (mut failed, mut finished) = (0, 0);
        for left in (0..).step_by(4) {
            let text = |name: &str| file(&format!("{more} {left} {name} {}", "x".repeat(3000)));
            let commit = [("a", text("a")), ("dir/b", text("b")), ("dir/c", text("c"))];
            source.commit(commit.clone());
            let ballast = disk.fill(left);
            let ended = world.run(["once", "site"]);
            drop(ballast);
            let what = format!("{more} {left} KiB were left: {ended:?}");
            let last = last_line(&ended.err);
            match ended.exit {
                0 => finished += 1,
                1 => {
                    failed += 1;
                    told(last);
                }
                _ => panic!("{what}"),
            }
            world.deploy();
            check(&world, &files(commit), &what);
            if finished == 3 {
                break;
            }
        }
        assert!(failed > 3, "{more}: only {failed} runs met the end of the disk");
    }
}

/// A disk that has blocks, but no place for another file, is as full.
#[test]
fn no_room_for_another_file() {
    let Some((world, mut source, disk)) = world(20 * 1024) else {
        return;
    };
    world.deploy();
    let names: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let commit: Vec<_> = names.iter().map(|name| (name.as_str(), file(name))).collect();
    source.commit(commit.clone());
    disk.limit_files(disk.files() + 100);
    is_full(&world);
    disk.limit_files(10_000);
    world.deploy();
    let all = commit
        .into_iter()
        .map(|(name, entry)| (name.to_owned(), entry))
        .collect();
    check(&world, &all, "a disk with room for more files");
}

/// What is remembered of runs is not worth a run.
#[test]
fn no_room_for_the_history() {
    let world = World::configured();
    let Some(disk) = Disk::mount(&world.path("disk"), 64) else {
        return;
    };
    let _ballast = disk.fill(0);
    let daemon = Daemon::start_with(&world, &[], &[("STATE_DIRECTORY", world.path("disk"))]);
    daemon.deploys("site");
    assert!(daemon.say("status\n").contains("site "));
}

/// The index is the last that is written: no room for it is a full disk, not a broken repository.
#[test]
fn no_room_for_the_index() {
    let Some((world, mut source, disk)) = world(20 * 1024) else {
        return;
    };
    world.deploy();
    // Many empty files: they take no room themselves, but the index has a line for each.
    let names: Vec<String> = (0..2000).map(|n| format!("{n:060}")).collect();
    source.commit(names.iter().map(|name| (name.as_str(), file(""))));
    let mut met = false;
    for room in (8..400).step_by(16) {
        disk.resize(disk.used() + room);
        let ended = world.run(["once", "site"]);
        let last = last_line(&ended.err);
        met |= last.contains("cannot write the index");
        assert!(
            ended.exit == 0 || last.starts_with("error site resources: "),
            "{ended:?}"
        );
        assert!(!last.contains("Message {"), "{last}");
    }
    disk.resize(20 * 1024);
    world.deploy();
    assert!(met, "the index was never the one that found no room");
}
