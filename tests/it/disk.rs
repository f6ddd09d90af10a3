//! Disks that are full: an error of that run alone, whose advice works, and nothing is left that stops the next run.

use super::{
    source::{Entry, file},
    world::{World, last_line, machine::Disk, tree},
};

/// A world whose `disk/site` is a clone on a disk with room for `kib`.
fn world(kib: u64) -> Option<(World, super::source::Source, Disk)> {
    let world = World::new();
    let mut source = world.source();
    source.commit([("a", file("1"))]);
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

/// A file system with room for a few files only.
#[test]
fn a_full_disk_is_an_error_and_then_it_is_not() {
    let Some((world, mut source, disk)) = world(1024) else {
        return;
    };
    world.deploy();
    let big = big(900_000);
    let commit = source.commit([("a", file("2")), ("b", big.clone())]);
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 1, "{ended:?}");
    let last = ended.err.lines().next_back().unwrap();
    assert!(last.starts_with("error site resources: "), "{last}");
    assert!(last.contains("space"), "{last}");

    disk.resize(20 * 1024);
    let ended = world.deploy();
    assert!(
        ended.out.contains(&commit.to_hex_with_len(7).to_string()),
        "{ended:?}"
    );
    assert_eq!(tree(&world.path("disk/site"))["b"], big);
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
    let ended = world.run(["once", "site"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert!(met, "the index was never the one that found no room");
}
