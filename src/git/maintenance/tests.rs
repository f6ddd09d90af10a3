//! Maintenance, against the git program where it is installed.

#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]

use std::{collections::BTreeSet, io, process::Command};

use gix::ObjectId;

use super::*;
use crate::git::origin::Depth;

const HOUR: Duration = Duration::from_secs(3600);

const ONE: Depth = Depth::Commits(std::num::NonZeroU32::MIN);

/// What of [`Options`] differs from test to test.
struct Wish<'a> {
    depth: Depth,
    pinned: &'a dyn Fn() -> Vec<ObjectId>,
}

/// A clone in a directory of its own, made and looked at with git.
struct Clone {
    dir: tempfile::TempDir,
    clock: u64,
    born: SystemTime,
}

impl Clone {
    /// `None` if git is not here.
    fn new() -> Option<Self> {
        Self::with(&["init", "-q", "-b", "main"])
    }

    fn with(init: &[&str]) -> Option<Self> {
        if !crate::machine::need("git") {
            return None;
        }
        let clone = Self {
            dir: crate::machine::tempdir().unwrap(),
            clock: seconds_now() - 3 * 3600,
            born: SystemTime::now(),
        };
        clone.git(init);
        Some(clone)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn try_git(&self, args: &[&str]) -> Result<String, String> {
        let date = format!("{} +0000", self.clock);
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=Ada",
                "-c",
                "user.email=ada@example.com",
                "-c",
                "gc.auto=0",
            ])
            .args(args)
            .current_dir(self.dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date)
            .env("HOME", "/nonexistent")
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() {
            Ok(text(output.stdout).trim_end().to_owned())
        } else {
            Err(text(output.stderr))
        }
    }

    fn git(&self, args: &[&str]) -> String {
        self.try_git(args)
            .unwrap_or_else(|err| panic!("git {args:?}: {err}"))
    }

    /// Commit a tree in which the file `name` has changed, in a pack of its own.
    fn commit(&mut self, name: &str, text: &str) -> String {
        self.commit_loose(name, text);
        self.git(&["repack", "-q", "-d"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn commit_loose(&mut self, name: &str, text: &str) {
        self.clock += 1;
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "-q", "-m", text.lines().next().unwrap_or("none")]);
    }

    /// Let all packs and loose objects be `age` old.
    fn age(&self, age: Duration) {
        let time = self.born - age;
        let objects = self.path(".git/objects");
        for dir in files::list(&objects).unwrap().iter().filter(|dir| dir.is_dir()) {
            for file in files::list(dir).unwrap().iter().filter(|file| file.is_file()) {
                File::open(file).unwrap().set_modified(time).unwrap();
            }
        }
    }

    fn maintain_with<'a>(&self, change: impl FnOnce(&mut Wish<'a>)) -> Result<Outcome, Error> {
        let git_dir = self.path(".git");
        let mut wish = Wish {
            depth: Depth::All,
            pinned: &Vec::new,
        };
        change(&mut wish);
        maintain(&Options {
            root: self.dir.path(),
            git_dir: &git_dir,
            depth: wish.depth,
            grace: HOUR,
            pinned: wish.pinned,
            mark: None,
        })
    }

    fn maintain(&self) -> Outcome {
        self.maintain_with(|_| {}).unwrap()
    }

    /// Let garbage be collected at the next occasion, whatever its share.
    fn make_due(&self) {
        fs::create_dir_all(self.path(".git/gitsocket")).unwrap();
        fs::write(
            self.path(".git/gitsocket/tidy.json"),
            r#"{"alive_bytes":0,"loose":1000000}"#,
        )
        .unwrap();
        // More than the slack.
        let id = self.noise(2 << 20);
        self.git(&["repack", "-q", "-d"]);
        self.git(&["update-ref", "-d", &format!("refs/noise/{id}")]);
    }

    /// Put a blob that does not compress on a ref, and pack it alone.
    fn noise(&self, bytes: usize) -> String {
        let mut rng = fastrand::Rng::with_seed(7);
        let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect();
        let file = self.path("noise");
        fs::write(&file, noise).unwrap();
        let id = self.git(&["hash-object", "-w", "noise"]);
        fs::remove_file(file).unwrap();
        self.git(&["update-ref", &format!("refs/noise/{id}"), &id]);
        id
    }

    /// Make it due, make it old, and collect.
    fn collect(&self) -> Change {
        self.collect_with(|_| {})
    }

    fn collect_with<'a>(&self, change: impl FnOnce(&mut Wish<'a>)) -> Change {
        self.make_due();
        self.age(2 * HOUR);
        match self.maintain_with(change).unwrap() {
            Outcome::Collected(change) => change,
            other => panic!("{other:?}"),
        }
    }

    /// git finds nothing wrong, and nothing of ours is left lying about.
    fn check(&self) {
        self.git(&["fsck", "--full", "--strict", "--no-dangling"]);
        let counted = self.git(&["count-objects", "-v"]);
        assert!(counted.contains("garbage: 0"), "{counted}");
        assert!(!self.path(".git/objects").join(TEMPORARY).exists());
        for path in files::list(&self.path(".git/gitsocket")).unwrap() {
            let name = path.file_name().unwrap();
            assert!(name == "tidy.json" || name == "lock", "{name:?}");
        }
    }

    fn packs(&self) -> usize {
        Inventory::read(&self.path(".git/objects")).unwrap().packs.len()
    }

    fn bytes(&self) -> u64 {
        let inventory = Inventory::read(&self.path(".git/objects")).unwrap();
        inventory.packs.iter().map(|pack| pack.bytes).sum()
    }

    fn has(&self, id: &str) -> bool {
        self.try_git(&["cat-file", "-e", id]).is_ok()
    }

    fn objects(&self) -> BTreeSet<String> {
        let all = self.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
        all.lines().map(Into::into).collect()
    }

    /// All objects that git holds to be reachable.
    fn reachable(&self) -> BTreeSet<String> {
        let all = self.git(&[
            "rev-list",
            "--objects",
            "--all",
            "--reflog",
            "--indexed-objects",
            "--no-object-names",
        ]);
        all.lines().map(Into::into).collect()
    }
}

fn seconds_now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

#[test]
fn many_packs_become_one() {
    let Some(mut clone) = Clone::new() else { return };
    assert_eq!(clone.maintain(), Outcome::NotDue);
    for n in 0..31 {
        clone.commit(&format!("d{}/f", n % 5), &format!("{n}\n").repeat(50));
    }
    assert_eq!(clone.maintain(), Outcome::NotDue);
    clone.commit("last", "32");
    let (before, bytes) = (clone.objects(), clone.bytes());
    let Outcome::Repacked(change) = clone.maintain() else {
        panic!()
    };
    assert_eq!((change.packs.0, change.bytes), (32, (bytes, clone.bytes())));
    assert!(change.packs.1 <= 2, "{change:?}");
    assert!(clone.bytes() <= bytes, "{change:?}");
    assert_eq!(clone.objects(), before);
    clone.check();
    assert_eq!(clone.maintain(), Outcome::NotDue);
}

#[test]
fn sha256_too() {
    let Some(mut clone) = Clone::with(&["init", "-q", "-b", "main", "--object-format=sha256"]) else {
        return;
    };
    for n in 0..33 {
        clone.commit("f", &n.to_string());
    }
    assert!(matches!(clone.maintain(), Outcome::Repacked(_)));
    clone.check();
    clone.collect();
    clone.check();
    assert_eq!(clone.objects(), clone.reachable());
}

/// Deltas are copied: what git has packed well stays as small.
#[test]
fn deltas_stay_deltas() {
    let Some(mut clone) = Clone::new() else { return };
    let line = |n: usize| format!("{n} {}\n", fastrand::Rng::with_seed(n as u64).u64(..));
    for n in 0..60 {
        clone.commit_loose("f", &(n..n + 400).map(line).collect::<String>());
    }
    clone.git(&["repack", "-q", "-a", "-d", "-f", "--depth=50"]);
    let well = clone.bytes();
    let change = clone.collect();
    assert!(change.bytes.1 <= well + 100, "{well} {change:?}");
    clone.check();
    // Packs that hold deltas against objects of theirs which another pack holds as well.
    clone.git(&["repack", "-q", "-d", "--geometric=2"]);
    clone.check();
}

#[test]
fn garbage_goes_and_what_is_alive_stays() {
    let Some(mut clone) = Clone::new() else { return };
    clone.commit("a", "kept");
    clone.git(&["tag", "-a", "v1", "-m", "annotated"]);
    let thrown_away = clone.commit("b", "thrown away");
    clone.git(&["reset", "-q", "--hard", "HEAD^"]);
    clone.git(&["reflog", "expire", "--expire=now", "--all"]);
    clone.git(&["update-ref", "-d", "ORIG_HEAD"]);
    clone.git(&["pack-refs", "--all"]);
    // Only in the index.
    fs::write(clone.path("staged"), "staged").unwrap();
    clone.git(&["add", "staged"]);
    let staged = clone.git(&["rev-parse", ":staged"]);
    // A detached HEAD of a linked worktree, and what is staged there.
    clone.git(&["worktree", "add", "-q", "--detach", "linked"]);
    fs::write(clone.path("linked/c"), "of the linked one").unwrap();
    clone.git(&["-C", "linked", "add", "c"]);
    clone.git(&["-C", "linked", "commit", "-q", "-m", "there"]);
    let there = clone.git(&["-C", "linked", "rev-parse", "HEAD"]);
    fs::remove_dir_all(clone.path(".git/worktrees/linked/logs")).unwrap();
    // A replaced commit, and what replaces it.
    let head = clone.git(&["rev-parse", "HEAD"]);
    let other = clone.git(&["commit-tree", "HEAD^{tree}", "-m", "replacement"]);
    clone.git(&["replace", &head, &other]);
    // A tag of a blob, and a branch that is a symbolic ref.
    let blob = clone.git(&["hash-object", "-w", "a"]);
    clone.git(&["tag", "blob", &blob]);
    clone.git(&["symbolic-ref", "refs/heads/also", "refs/heads/main"]);
    clone.git(&["repack", "-q", "-d"]);
    assert!(clone.has(&thrown_away));

    let alive = clone.reachable();
    clone.collect();
    clone.check();
    for id in [&staged, &there, &head, &other, &blob] {
        assert!(clone.has(id), "{id}");
    }
    assert!(!clone.has(&thrown_away));
    assert!(alive.is_subset(&clone.objects()));
    assert_eq!(clone.packs(), 1);
    assert_eq!(clone.maintain(), Outcome::NotDue);
}

#[test]
fn a_detached_head_and_pseudo_refs_hold() {
    let Some(mut clone) = Clone::new() else { return };
    clone.commit("a", "1");
    clone.git(&["checkout", "-q", "--detach"]);
    let mut ids = vec![clone.commit("a", "detached")];
    for name in ["ORIG_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD"] {
        let id = clone.git(&["commit-tree", "HEAD^{tree}", "-m", name]);
        fs::write(clone.path(".git").join(name), format!("{id}\n")).unwrap();
        ids.push(id);
    }
    let fetched = clone.git(&["commit-tree", "HEAD^{tree}", "-m", "fetched"]);
    fs::write(
        clone.path(".git/FETCH_HEAD"),
        format!("{fetched}\tnot-for-merge\tbranch 'x' of y\n"),
    )
    .unwrap();
    let pinned = clone.git(&["commit-tree", "HEAD^{tree}", "-m", "pinned"]);
    let garbage = clone.git(&["commit-tree", "HEAD^{tree}", "-m", "garbage"]);
    ids.extend([fetched, pinned.clone()]);
    let all: Vec<&str> = ids.iter().map(String::as_str).chain([garbage.as_str()]).collect();
    for (n, id) in all.iter().enumerate() {
        clone.git(&["update-ref", &format!("refs/x/{n}"), id]);
    }
    clone.git(&["repack", "-q", "-d"]);
    for n in 0..all.len() {
        clone.git(&["update-ref", "-d", &format!("refs/x/{n}")]);
    }
    fs::remove_dir_all(clone.path(".git/logs")).unwrap();
    let pinned = ObjectId::from_hex(pinned.as_bytes()).unwrap();
    let pinned = || vec![pinned];
    clone.collect_with(|wish| wish.pinned = &pinned);
    for id in &ids {
        assert!(clone.has(id), "{id}");
    }
    assert!(!clone.has(&garbage));
}

#[test]
fn reflogs_hold_unless_history_is_bounded() {
    let Some(mut clone) = Clone::new() else { return };
    clone.commit("a", "1");
    let old = clone.commit("a", "2");
    clone.git(&["reset", "-q", "--hard", "HEAD^"]);
    clone.git(&["update-ref", "-d", "ORIG_HEAD"]);
    clone.collect();
    clone.check();
    assert!(clone.has(&old), "the reflog leads to it");
    // Only lines that gitsocket wrote count for nothing.
    clone.collect_with(|wish| wish.depth = ONE);
    assert!(clone.has(&old));

    // A stash is one more reflog.
    fs::write(clone.path("a"), "stashed 1").unwrap();
    clone.git(&["stash", "-q"]);
    let first = clone.git(&["rev-parse", "stash"]);
    fs::write(clone.path("a"), "stashed 2").unwrap();
    clone.git(&["stash", "-q"]);
    clone.git(&["repack", "-q", "-d"]);

    // Now as if gitsocket had written the lines of HEAD and main.
    for name in ["HEAD", "refs/heads/main"] {
        let path = clone.path(".git/logs").join(name);
        let text = fs::read_to_string(&path).unwrap();
        let text: String = text
            .lines()
            .map(|line| format!("{}\tgitsocket site: deploy\n", line.split('\t').next().unwrap()))
            .collect();
        fs::write(path, text).unwrap();
    }
    fs::remove_file(clone.path(".git/ORIG_HEAD")).ok();
    clone.collect();
    assert!(clone.has(&old), "in a full clone, they count as any others");
    let root = clone.git(&["rev-list", "--max-parents=0", "HEAD"]);
    fs::write(clone.path(".git/shallow"), format!("{root}\n{old}\n")).unwrap();
    clone.collect_with(|wish| wish.depth = ONE);
    assert!(!clone.has(&old));
    assert!(clone.has(&first), "the stash is somebody's work");
    clone.check();
    let shallow = fs::read_to_string(clone.path(".git/shallow")).unwrap();
    assert_eq!(shallow, format!("{root}\n"), "what is gone is cut no more");
    clone.git(&["stash", "pop", "-q"]);
}

#[test]
fn kept_packs_and_alternates_are_not_ours() {
    let Some(mut clone) = Clone::new() else { return };
    clone.commit("a", "1");
    let kept = clone.commit("a", "kept");
    clone.git(&["reset", "-q", "--hard", "HEAD^"]);
    clone.git(&["reflog", "expire", "--expire=now", "--all"]);
    clone.git(&["update-ref", "-d", "ORIG_HEAD"]);
    let index = clone.git(&[
        "cat-file",
        "--batch-check=%(objectname)",
        "--batch-all-objects",
        "--unordered",
    ]);
    assert!(index.contains(&kept));
    let inventory = Inventory::read(&clone.path(".git/objects")).unwrap();
    let pack = inventory
        .packs
        .iter()
        .find(|pack| {
            let listed = clone.git(&[
                "verify-pack",
                "-v",
                pack.path.with_extension("idx").to_str().unwrap(),
            ]);
            listed.contains(&kept)
        })
        .unwrap();
    fs::write(pack.path.with_extension("keep"), "mine").unwrap();
    let lent = crate::machine::tempdir().unwrap();
    let lent_objects = lent.path().join("objects");
    fs::create_dir_all(lent_objects.join("pack")).unwrap();
    fs::create_dir_all(clone.path(".git/objects/info")).unwrap();
    fs::write(
        clone.path(".git/objects/info/alternates"),
        format!("{}\n", lent_objects.display()),
    )
    .unwrap();
    clone.collect();
    clone.check();
    assert!(pack.path.exists() && pack.path.with_extension("idx").exists());
    assert!(clone.has(&kept));
    assert_eq!(clone.packs(), 2);

    // What moves to the alternate is not needed here, and not touched there.
    let inventory = Inventory::read(&clone.path(".git/objects")).unwrap();
    for pack in inventory.packs.iter().filter(|pack| !pack.held) {
        for extension in ["pack", "idx"] {
            let from = pack.path.with_extension(extension);
            fs::rename(&from, lent_objects.join("pack").join(from.file_name().unwrap())).unwrap();
        }
    }
    clone.commit("b", "on top of what was lent");
    let lent_before = files::list(&lent_objects.join("pack")).unwrap().len();
    clone.collect();
    clone.check();
    assert_eq!(
        files::list(&lent_objects.join("pack")).unwrap().len(),
        lent_before
    );
    clone.git(&["log", "--stat"]);
}

#[test]
fn what_is_young_stays_with_all_it_refers_to() {
    let Some(mut clone) = Clone::new() else { return };
    clone.commit("d/a", "old and garbage, but");
    let young = {
        clone.commit("b", "this refers to it");
        clone.git(&["rev-parse", "HEAD"])
    };
    clone.git(&["checkout", "-q", "--orphan", "other"]);
    clone.git(&["rm", "-rqf", "."]);
    clone.commit("c", "alive");
    clone.git(&["branch", "-D", "main"]);
    clone.git(&["reflog", "expire", "--expire=now", "--all"]);
    let (stale, _) = (clone.noise(100), clone.git(&["repack", "-q", "-d"]));
    clone.git(&["update-ref", "-d", &format!("refs/noise/{stale}")]);
    clone.make_due();
    clone.age(2 * HOUR);
    // git has found one of the objects in its pack just now.
    let inventory = Inventory::read(&clone.path(".git/objects")).unwrap();
    for pack in &inventory.packs {
        let listed = clone.git(&[
            "verify-pack",
            "-v",
            pack.path.with_extension("idx").to_str().unwrap(),
        ]);
        if listed.contains(&young) {
            File::open(&pack.path)
                .unwrap()
                .set_modified(SystemTime::now())
                .unwrap();
        }
    }
    assert!(matches!(clone.maintain(), Outcome::Collected(_)));
    clone.check();
    clone.git(&["rev-list", "--objects", &young]);
    assert!(!clone.has(&stale));
    // An hour later, nothing has happened.
    clone.collect();
    assert!(!clone.has(&young));
    clone.check();
}

#[test]
fn loose_objects_that_are_packed_go_and_others_stay() {
    let Some(mut clone) = Clone::new() else { return };
    clone.commit("a", "1");
    clone.commit_loose("a", "2");
    fs::write(clone.path("x"), "of nobody").unwrap();
    let nobodys = clone.git(&["hash-object", "-w", "x"]);
    fs::remove_file(clone.path("x")).unwrap();
    let tree = clone.git(&["rev-parse", "HEAD^{tree}"]);
    let loose = |clone: &Clone, id: &str| clone.path(".git/objects").join(&id[..2]).join(&id[2..]).exists();
    assert!(loose(&clone, &tree));
    // `make_due` would pack them.
    let noise = clone.noise(2 << 20);
    let packed = clone.git(&["rev-parse", &format!("refs/noise/{noise}")]);
    let pack = clone.path(".git/objects/pack/pack");
    let mut child = Command::new("git")
        .args(["pack-objects", "-q", pack.to_str().unwrap()])
        .current_dir(clone.dir.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    io::Write::write_all(&mut child.stdin.take().unwrap(), packed.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    clone.git(&["update-ref", "-d", &format!("refs/noise/{noise}")]);
    fs::create_dir_all(clone.path(".git/gitsocket")).unwrap();
    fs::write(
        clone.path(".git/gitsocket/tidy.json"),
        r#"{"alive_bytes":0,"loose":0}"#,
    )
    .unwrap();
    clone.age(2 * HOUR);
    assert!(matches!(clone.maintain(), Outcome::Collected(_)));
    clone.check();
    assert!(!loose(&clone, &tree) && clone.has(&tree));
    assert!(loose(&clone, &nobodys), "whatever it is for");
}

#[test]
fn some_repositories_are_left_alone() {
    let write = |name: &'static str, text: &'static str| {
        move |clone: &Clone| {
            let path = clone.path(".git").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    };
    let config = |key: &'static str, value: &'static str| {
        move |clone: &Clone| drop(clone.git(&["config", "--local", key, value]))
    };
    type Prepare = Box<dyn Fn(&Clone)>;
    let table: Vec<(Prepare, Reason)> = vec![
        (Box::new(config("gc.auto", "0")), Reason::GcOff),
        (Box::new(config("gc.auto", "never")), Reason::GcOff),
        (
            Box::new(config("remote.origin.promisor", "true")),
            Reason::Partial,
        ),
        (
            Box::new(config("extensions.preciousObjects", "true")),
            Reason::Extension("preciousobjects".into()),
        ),
        (Box::new(write("info/grafts", "x\n")), Reason::Grafts),
        (Box::new(write("gc.pid", "1 host")), Reason::GitAtWork("gc.pid")),
        (
            Box::new(write("objects/maintenance.lock", "")),
            Reason::GitAtWork("objects/maintenance.lock"),
        ),
        (
            Box::new(write("objects/pack/multi-pack-index.d/x", "")),
            Reason::MultiPackIndexChain,
        ),
        (
            Box::new(write("objects/pack/pack-1.promisor", "")),
            Reason::Partial,
        ),
        (Box::new(write("index", "nonsense")), Reason::Index),
    ];
    for (prepare, reason) in table {
        let Some(mut clone) = Clone::new() else { return };
        clone.commit("a", "1");
        clone.make_due();
        clone.age(2 * HOUR);
        let before = files::list(&clone.path(".git/objects/pack")).unwrap().len();
        prepare(&clone);
        assert_eq!(clone.maintain(), Outcome::LeftAlone(reason.clone()));
        let after = files::list(&clone.path(".git/objects/pack")).unwrap();
        let ours = |path: &PathBuf| {
            path.extension()
                .is_some_and(|ext| ext != "promisor" && ext != "d")
        };
        assert_eq!(
            after.iter().filter(|path| ours(path)).count(),
            before,
            "{reason:?}"
        );
        assert_eq!(clone.maintain(), Outcome::NotDue, "it is not asked again soon");
    }
}

#[test]
fn what_names_packs_and_commits_goes_with_them() {
    let Some(mut clone) = Clone::new() else { return };
    for n in 0..5 {
        clone.commit("a", &n.to_string());
    }
    clone.git(&["repack", "-q", "-a", "-d", "--write-bitmap-index"]);
    clone.git(&["reset", "-q", "--hard", "HEAD^"]);
    clone.git(&["commit-graph", "write", "--reachable", "--split"]);
    clone.commit("a", "again");
    clone.git(&["commit-graph", "write", "--reachable"]);
    clone.git(&["reset", "-q", "--hard", "HEAD^"]);
    clone.git(&["update-ref", "-d", "ORIG_HEAD"]);
    clone.git(&["reflog", "expire", "--expire=now", "--all"]);
    clone.git(&["multi-pack-index", "write"]);
    clone.collect();
    clone.check();
    let left = files::list(&clone.path(".git/objects/pack")).unwrap();
    assert_eq!(left.len(), 2, "{left:?}");
    clone.git(&["commit-graph", "verify"]);
}

#[test]
fn damage_stops_it_and_is_not_copied() {
    let Some(mut clone) = Clone::new() else { return };
    clone.commit("a", &"some text ".repeat(100));
    clone.make_due();
    let inventory = Inventory::read(&clone.path(".git/objects")).unwrap();
    let smallest = inventory.packs.iter().min_by_key(|pack| pack.bytes).unwrap();
    let mut bytes = fs::read(&smallest.path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::remove_file(&smallest.path).unwrap();
    fs::write(&smallest.path, bytes).unwrap();
    clone.age(2 * HOUR);
    assert!(clone.maintain_with(|_| {}).is_err());
    assert_eq!(
        Inventory::read(&clone.path(".git/objects")).unwrap().packs.len(),
        2
    );
    assert!(!clone.path(".git/objects").join(TEMPORARY).exists());
    assert_eq!(clone.maintain(), Outcome::NotDue, "it pauses");

    // So does a ref that leads to nothing.
    let Some(mut clone) = Clone::new() else { return };
    clone.commit("a", "1");
    fs::write(
        clone.path(".git/refs/heads/broken"),
        format!("{}\n", "1".repeat(40)),
    )
    .unwrap();
    clone.make_due_without_git();
    assert!(matches!(clone.maintain_with(|_| {}), Err(Error::Missing { .. })));
    assert_eq!(clone.packs(), 1);
}

impl Clone {
    fn make_due_without_git(&self) {
        fs::create_dir_all(self.path(".git/gitsocket")).unwrap();
        fs::write(
            self.path(".git/gitsocket/tidy.json"),
            r#"{"alive_bytes":0,"loose":0}"#,
        )
        .unwrap();
        for n in 0..10 {
            let path = self.path(".git/objects/17").join(format!("{n:038x}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        self.age(2 * HOUR);
    }
}

#[test]
fn only_one_at_a_time() {
    let Some(mut clone) = Clone::new() else { return };
    clone.commit("a", "1");
    clone.make_due();
    clone.age(2 * HOUR);
    let alone = Alone::new(&clone.path(".git/objects")).unwrap().unwrap();
    assert_eq!(clone.maintain(), Outcome::Busy);
    drop(alone);
    assert!(matches!(clone.maintain(), Outcome::Collected(_)));
}

/// Between the reading and the replacement, git finds an object in a pack that was about to go, and writes its ref later.
#[test]
fn what_is_touched_meanwhile_is_spared() {
    let Some(mut clone) = Clone::new() else { return };
    clone.commit("a", "1");
    clone.make_due();
    clone.age(2 * HOUR);
    let packs = Inventory::read(&clone.path(".git/objects")).unwrap().packs;
    let touch = || {
        let file = File::open(&packs[0].path).unwrap();
        file.set_modified(SystemTime::now()).unwrap();
        Vec::new()
    };
    let outcome = clone.maintain_with(|wish| wish.pinned = &touch).unwrap();
    assert_eq!(outcome, Outcome::Overtaken);
    assert_eq!(
        Inventory::read(&clone.path(".git/objects")).unwrap().packs.len(),
        packs.len()
    );
    clone.check();
}

/// Between the reading and the replacement, a ref is written to what was garbage.
#[test]
fn what_comes_meanwhile_is_seen() {
    type Meanwhile = fn(&Clone, &str);
    // Whether it stays, and whether anything is collected.
    let table: [(&str, Meanwhile, bool, bool); 5] = [
        (
            "a ref",
            |clone, id| drop(clone.git(&["update-ref", "refs/heads/back", id])),
            true,
            false,
        ),
        (
            "a detached HEAD",
            |clone, id| fs::write(clone.path(".git/HEAD"), format!("{id}\n")).unwrap(),
            true,
            false,
        ),
        (
            "the index",
            |clone, id| drop(clone.git(&["read-tree", id])),
            true,
            false,
        ),
        (
            "a loose object on top",
            |clone, id| {
                drop(clone.git(&["commit-tree", &format!("{id}^{{tree}}"), "-p", id, "-m", "on top"]));
            },
            true,
            true,
        ),
        (
            "a new commit of what is alive",
            |clone, _| {
                drop(clone.git(&["commit", "-q", "--allow-empty", "-m", "new"]));
            },
            false,
            true,
        ),
    ];
    for (what, meanwhile, stays, collected) in table {
        let Some(mut clone) = Clone::new() else { return };
        clone.commit("a", "1");
        let garbage = clone.commit("b", "garbage");
        clone.git(&["reset", "-q", "--hard", "HEAD^"]);
        clone.git(&["update-ref", "-d", "ORIG_HEAD"]);
        clone.git(&["reflog", "expire", "--expire=now", "--all"]);
        clone.make_due();
        clone.age(2 * HOUR);
        // The second call is the one under the lock.
        let calls = std::cell::Cell::new(0);
        let pinned = || {
            calls.set(calls.get() + 1);
            if calls.get() == 1 {
                // After the refs were read, and before they are read again.
                meanwhile(&clone, &garbage);
                // What git touches is seen by its time alone, which is another test.
                clone.age(2 * HOUR);
            }
            Vec::new()
        };
        let outcome = maintain(&Options {
            root: clone.dir.path(),
            git_dir: &clone.path(".git"),
            depth: Depth::All,
            grace: HOUR,
            pinned: &pinned,
            mark: None,
        })
        .unwrap();
        assert_eq!(calls.get(), 2);
        assert_eq!(
            clone.has(&format!("{garbage}^{{tree}}")),
            stays,
            "{what}: {outcome:?}"
        );
        assert_eq!(
            matches!(outcome, Outcome::Collected(_)),
            collected,
            "{what}: {outcome:?}"
        );
        clone.git(&["fsck", "--full", "--no-dangling"]);
    }
}
