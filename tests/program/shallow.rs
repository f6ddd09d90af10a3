//! A target has as much history as `depth` says, and `.git/shallow` agrees.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::SystemTime};

use super::{
    source::{Source, file},
    world::{World, copy, git, need},
};

fn commits(source: &mut Source, numbers: std::ops::Range<u32>) {
    for n in numbers {
        source.commit([("a", file(&n.to_string())), ("same", file("same"))]);
    }
}

/// A world with six commits, for git to look at.
fn six() -> Option<(World, Source)> {
    need("git").then(|| {
        let (world, mut source) = World::with_source();
        commits(&mut source, 0..6);
        (world, source)
    })
}

fn count(site: &Path) -> usize {
    git(site, &["rev-list", "--count", "HEAD"])
        .trim()
        .parse()
        .unwrap()
}

/// The site is what git would have made of it, at a history of so many commits.
fn check(world: &World, site: &str, number: usize, of: usize) {
    let path = world.path(site);
    assert_eq!(count(&path), number, "{site}");
    assert_eq!(path.join(".git/shallow").exists(), number < of, "{site}");
    git(&path, &["fsck", "--strict", "--no-dangling"]);
    assert_eq!(git(&path, &["status", "--porcelain"]), "", "{site}");
}

#[test]
fn a_changed_depth_counts_at_the_next_run() {
    let Some((world, mut source)) = six() else { return };
    world.config("");
    world.deploy();
    check(&world, "site", 6, 6);
    let full = world.path("site/.git/gitsocket/depth");
    assert!(!full.exists(), "nothing is to be remembered");
    for (depth, number) in [("2", 2), ("4", 4), ("1", 1), ("9", 6), ("3", 3), ("", 6)] {
        let field = match depth {
            "" => String::new(),
            _ => format!("depth: {depth}"),
        };
        world.config(&field);
        let before = count(&world.path("site"));
        let dry = world.run(["once", "--dry-run", "site"]);
        assert_eq!((dry.exit, count(&world.path("site"))), (0, before), "{dry:?}");
        let ended = world.deploy();
        assert!(ended.out.contains("up-to-date"), "{ended:?}");
        check(&world, "site", number, 6);
        // The next ones have nothing to do.
        let stamp = || {
            let stamp = |name: &str| fs::metadata(world.path(name)).map(|meta| (meta.ino(), meta.len()));
            [
                stamp("site/.git/shallow").ok(),
                stamp("site/.git/gitsocket/depth").ok(),
            ]
        };
        let before = stamp();
        world.deploy();
        assert_eq!(stamp(), before, "{depth}");
    }
    // Together with a newer commit.
    for (field, number, of) in [
        ("depth: 1", 1, 7),
        ("", 8, 8),
        ("depth: 3", 3, 9),
        ("depth: 5", 5, 10),
    ] {
        source.commit([("a", file(field)), ("same", file("same"))]);
        world.config(field);
        world.deploy();
        check(&world, "site", number, of);
    }
    // A user's own git.
    let site = world.path("site");
    git(&site, &["fetch", "-q", "--unshallow", "origin"]);
    assert_eq!(count(&site), 10);
    world.deploy();
    check(&world, "site", 5, 10);
}

/// What the version before, or another program, has left is measured; what fits is not fetched again.
#[test]
fn clones_of_others() {
    let Some((world, source)) = six() else { return };
    let url = format!("file://{}", source.path.display());
    for (had, field, number) in [
        ("2", "", 6),
        ("2", "depth: 2", 2),
        ("2", "depth: 3", 3),
        ("4", "depth: 1", 1),
        ("9", "depth: 2", 2),
        ("9", "depth: 9", 6),
    ] {
        git(&world.path(""), &["clone", "-q", "--depth", had, &url, "site"]);
        let before = fs::metadata(world.path("site/.git/shallow")).map(|meta| meta.ino());
        world.config(field);
        world.deploy();
        check(&world, "site", number, 6);
        if had == "2" && number == 2 {
            let after = fs::metadata(world.path("site/.git/shallow")).map(|meta| meta.ino());
            assert_eq!(before.unwrap(), after.unwrap(), "it fitted");
        }
        fs::remove_dir_all(world.path("site")).unwrap();
    }
    // A commit that is pinned is not asked for if all of it is here, whatever the remote says by now.
    let id = git(&source.path, &["rev-parse", "main"]);
    git(&world.path(""), &["clone", "-q", "--depth", "2", &url, "site"]);
    let pinned = |depth: &str| {
        world.config_of(&format!(
            "\"site\": (repo: \"repo.git\", rev: {:?}, path: \"site\", {depth}),",
            id.trim()
        ));
    };
    pinned("depth: 2");
    world.deploy();
    fs::remove_file(world.path("site/.git/gitsocket/depth")).ok();
    fs::rename(world.path("repo.git"), world.path("away")).unwrap();
    world.deploy();
    pinned("depth: 3");
    assert_eq!(world.run(["once", "site"]).exit, 1);
    fs::rename(world.path("away"), world.path("repo.git")).unwrap();
    world.deploy();
    check(&world, "site", 3, 6);
}

/// They share a clone, which has as much history as the one that wants most; on each branch.
#[test]
fn triggers_of_one_path() {
    let Some((world, mut source)) = six() else { return };
    for n in 0..6 {
        source.commit_on("next", [("b", file(&n.to_string()))]);
    }
    let configure = |main: &str, next: &str| {
        let trigger = |name, branch, depth| {
            format!("\"{name}\": (repo: \"repo.git\", branch: \"{branch}\", path: \"site\", {depth}),")
        };
        world.config_of(&(trigger("site", "main", main) + &trigger("next", "next", next)));
    };
    for (main, next, number) in [
        ("depth: 1", "depth: 3", 3),
        ("depth: 4", "depth: 4", 4),
        ("depth: 2", "depth: 2", 2),
        ("depth: 1", "", 6),
    ] {
        configure(main, next);
        for _ in 0..2 {
            for name in ["site", "next"] {
                world.run_to(0, ["once", name]);
                assert_eq!(count(&world.path("site")), number, "{name} {main} {next}");
            }
        }
        git(&world.path("site"), &["fsck", "--strict", "--no-dangling"]);
    }
}

/// What the remote has not got cannot be completed, and is not asked for each time.
#[test]
fn a_remote_that_is_shallow_itself() {
    let Some((world, mut source)) = six() else { return };
    let url = format!("file://{}", source.path.display());
    let mirror = ["clone", "-q", "--bare", "--depth", "3", &url, "mirror.git"];
    git(&world.path(""), &mirror);
    world.config_of("\"site\": (repo: \"mirror.git\", branch: \"main\", path: \"site\"),");
    world.deploy();
    check(&world, "site", 3, 6);
    world.deploy();
    let inode = || fs::metadata(world.path("site/.git/shallow")).unwrap().ino();
    let before = inode();
    world.deploy();
    assert_eq!(inode(), before);
    // The mirror has more by now, which comes with the next commit.
    git(&world.path("mirror.git"), &["fetch", "-q", "--unshallow", &url]);
    commits(&mut source, 6..7);
    git(&world.path("mirror.git"), &["fetch", "-q", &url, "main:main"]);
    world.deploy();
    check(&world, "site", 7, 7);
}

/// With `depth`, each update cuts history at another commit, which the remote is told of each time.
#[test]
fn cuts_that_nothing_leads_to_are_forgotten() {
    if !need("git") {
        return;
    }
    for depth in [1, 3] {
        let (world, mut source) = World::with_source();
        world.config(&format!("depth: {depth}"));
        commits(&mut source, 0..4);
        world.deploy();
        let site = world.path("site");
        // Work of a user's own: its history is cut where it was.
        git(&site, &["branch", "mine"]);
        let first = git(&site, &["rev-parse", "HEAD"]);
        let memory = site.join(".git/gitsocket/tidy.json");
        let remember = |name: &str, value: u64| {
            let text = fs::read_to_string(&memory).unwrap();
            let mut text: serde_json::Value = serde_json::from_str(&text).unwrap();
            text[name] = value.into();
            fs::write(&memory, text.to_string()).unwrap();
        };
        // However long that takes, nothing is tidied meanwhile.
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        remember("paused_until", now + 3000);
        let mut daemon = world.daemon();
        for n in 4..50 {
            commits(&mut source, n..n + 1);
            daemon.deploys("site");
        }
        daemon.signal(rustix::process::Signal::TERM);
        daemon.wait();
        remember("paused_until", 0);
        commits(&mut source, 50..51);
        world.deploy();
        // They were looked at, as `once` tidies before it ends. A git that is at work has not written its ref since.
        assert!(site.join(".git/gitsocket/cuts").exists());
        source.commit_on("other", [("a", file("other"))]);
        let other = source.commit_on("other", [("a", file("another"))]).to_string();
        let url = format!("file://{}", source.path.display());
        git(
            &site,
            &["fetch", "-q", "--depth=1", "--no-write-fetch-head", &url, "other"],
        );
        remember("looked", 0);
        commits(&mut source, 51..52);
        world.deploy();

        let cuts = fs::read_to_string(site.join(".git/shallow")).unwrap();
        assert!(cuts.lines().count() < 10, "{cuts}");
        assert!(cuts.contains(&other), "it may be about to be named");
        let logged = fs::read_to_string(site.join(".git/logs/HEAD")).unwrap();
        assert!(logged.lines().count() < 10, "{logged}");
        assert_eq!(count(&site), depth);
        assert_eq!(git(&site, &["rev-parse", "mine"]), first);
        // Whatever git does with the commits that are not reached any more.
        let kept = world.path("copy");
        copy(&site, &kept);
        git(&kept, &["fsck", "--strict", "--no-dangling"]);
        git(&kept, &["repack", "-adq"]);
        git(&kept, &["fsck", "--strict", "--no-dangling"]);
        git(&site, &["gc", "-q"]);
        git(&site, &["fsck", "--strict", "--no-dangling"]);
        // Back to what was here, and is cut no more.
        let old = git(&source.path, &["rev-parse", "main~20"]);
        source.point(
            "refs/heads/main",
            gix::ObjectId::from_hex(old.trim().as_bytes()).unwrap(),
        );
        world.deploy();
        assert_eq!(count(&site), depth);
        git(&site, &["fsck", "--strict", "--no-dangling"]);
        world.config("");
        world.deploy();
        assert_eq!(count(&site), count(&source.path));
        git(&site, &["fsck", "--strict", "--no-dangling"]);
    }
}

/// A full clone whose history is bounded later: what is older goes from the disk.
#[test]
fn what_a_new_bound_leaves_behind_is_collected() {
    if !need("git") {
        return;
    }
    let (world, mut source) = World::with_source();
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..3 {
        let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(1 << 20).collect();
        source.commit([("noise", super::source::Entry::File(noise))]);
    }
    commits(&mut source, 0..1);
    let url = format!("file://{}", source.path.display());
    for by_git in [false, true] {
        fs::remove_dir_all(world.path("site")).ok();
        if by_git {
            git(&world.path(""), &["clone", "-q", &url, "site"]);
        } else {
            world.config("");
            world.deploy();
        }
        let pack_dir = world.path("site/.git/objects/pack");
        let bytes = || -> u64 {
            let entries = fs::read_dir(&pack_dir).unwrap();
            entries
                .map(|entry| entry.unwrap().metadata().unwrap().len())
                .sum()
        };
        assert!(bytes() > 3 << 20);
        world.config("depth: 1");
        for entry in fs::read_dir(&pack_dir).unwrap() {
            let file = fs::File::open(entry.unwrap().path()).unwrap();
            let time = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
            file.set_modified(time).unwrap();
        }
        world.deploy();
        check(&world, "site", 1, 4);
        assert!(bytes() < 1 << 20, "{by_git}: {}", bytes());
    }
}
