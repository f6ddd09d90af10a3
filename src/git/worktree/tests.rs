//! Each rule on its own, without git. The whole of them against git is in `tests/worktree.rs`.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use gix::objs::{Write, tree::EntryKind};

use super::*;
use crate::{
    base::{
        event::Event,
        name::AbsPath,
        report::{Report, Reporter},
        rights::Rights,
    },
    git::{begin::Begin, repository, worktree::Clean},
};

/// A worktree `tree` in a directory that must not be touched otherwise.
struct Fixture {
    tmp: tempfile::TempDir,
    repo: gix::Repository,
    events: Arc<Mutex<Vec<Report>>>,
    clean: Clean,
    keep: Vec<String>,
    dry_run: bool,
    cache: Cache,
}

impl Fixture {
    fn new() -> Self {
        let tmp = crate::machine::tempdir().unwrap();
        gix::init(tmp.path().join("tree")).unwrap();
        fs::create_dir(tmp.path().join("outside")).unwrap();
        fs::write(tmp.path().join("outside/canary"), "alive").unwrap();
        Self {
            repo: repository::open(&tmp.path().join("tree/.git")).unwrap(),
            tmp,
            events: Arc::default(),
            clean: Clean::Untracked,
            keep: Vec::new(),
            dry_run: false,
            cache: Cache::default(),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.tmp.path().join("tree").join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    fn exists(&self, path: &str) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    fn blob(&self, text: &str) -> gix::ObjectId {
        self.repo.write_blob(text).unwrap().detach()
    }

    /// A commit of files given by path and text.
    fn commit(&self, files: &[(&str, &str)]) -> gix::ObjectId {
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (*path, EntryKind::Blob, *text))
            .collect();
        self.commit_of(&files)
    }

    fn commit_of(&self, files: &[(&str, EntryKind, &str)]) -> gix::ObjectId {
        let mut editor = self.repo.edit_tree(self.repo.empty_tree().id).unwrap();
        for (path, kind, text) in files {
            let id = match kind {
                EntryKind::Commit => gix::ObjectId::from_hex(&[b'1'; 40]).unwrap(),
                _ => self.blob(text),
            };
            editor.upsert(*path, *kind, id).unwrap();
        }
        let tree = editor.write().unwrap().detach();
        self.commit_tree(tree)
    }

    fn commit_tree(&self, tree: gix::ObjectId) -> gix::ObjectId {
        let who = gix::actor::SignatureRef {
            name: "a".into(),
            email: "a@a".into(),
            time: "1700000000 +0000",
        };
        self.repo
            .new_commit_as(who, who, "c", tree, None::<gix::ObjectId>)
            .unwrap()
            .id
    }

    /// A tree as an attacker would write it.
    fn raw_tree(&self, entries: &[(&str, &str, gix::ObjectId)]) -> gix::ObjectId {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            bytes.extend_from_slice(id.as_slice());
        }
        self.repo
            .objects
            .write_buf(gix::objs::Kind::Tree, &bytes)
            .unwrap()
    }

    /// What was done, without what was nowhere else: that is tried from outside.
    fn update(&self, commit: gix::ObjectId) -> Result<Outcome, Error> {
        let events = self.events.clone();
        update(
            &self.repo,
            commit,
            &Options {
                root: &AbsPath::resolve(self.tmp.path(), "tree".as_ref()).unwrap(),
                index: &self.repo.index_path(),
                clean: self.clean,
                keep: &self.keep,
                max_blob: u64::MAX,
                rights: Rights::of(0o022),
                dry_run: self.dry_run,
                apart: None,
                cache: &self.cache,
                begin: Begin(&|| Ok(())),
                report: &Reporter::new(move |event| events.lock().unwrap().push(event)),
                over: &std::sync::atomic::AtomicBool::new(false),
            },
        )
        .map(|done| Outcome {
            lost: Lost::default(),
            bytes: 0,
            ..done
        })
    }

    fn warnings(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let texts = events.iter().filter_map(|event| match event {
            Report::Warning { message } => Some(message.clone()),
            _ => None,
        });
        texts.collect()
    }

    fn index(&self) -> gix::index::File {
        self.repo.open_index().unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let canary = fs::read_to_string(self.tmp.path().join("outside/canary")).ok();
        assert!(std::thread::panicking() || canary.as_deref() == Some("alive"));
    }
}

fn done(written: u64, deleted: u64, cleaned: u64) -> Outcome {
    Outcome {
        written,
        deleted,
        cleaned,
        finished_another: false,
        lost: Lost::default(),
        bytes: 0,
    }
}

#[test]
fn hostile_names_are_refused_before_anything_is_written() {
    let place = Fixture::new();
    let evil = place.blob("evil");
    let below = place.raw_tree(&[("100644", "file", evil)]);
    let long = "x".repeat(256);
    for name in [
        "..",
        ".",
        "",
        ".git",
        ".GIT",
        ".Git",
        "git~1",
        "GIT~1",
        ".g\u{200c}it",
        ".git ",
        ".git.",
        ".git::$INDEX_ALLOCATION",
        "a/b",
        "../outside/canary",
        "/etc/passwd",
        &long,
    ] {
        for (mode, id) in [
            ("100644", evil),
            ("40000", below),
            ("120000", evil),
            ("160000", evil),
        ] {
            let deep = place.raw_tree(&[(mode, name, id)]);
            for tree in [
                deep,
                place.raw_tree(&[("100644", "a", evil), ("40000", "sub", deep)]),
            ] {
                let err = place.update(place.commit_tree(tree)).unwrap_err();
                assert!(matches!(err, Error::Tree { .. }), "{name:?} {mode}: {err}");
                assert!(!place.exists("a") && !place.exists("sub") && !place.exists(".git/index"));
            }
        }
    }
    let link = place.raw_tree(&[("120000", ".gitmodules", evil)]);
    assert!(matches!(
        place.update(place.commit_tree(link)),
        Err(Error::Tree { .. })
    ));
}

#[test]
fn hostile_shapes_are_refused() {
    let place = Fixture::new();
    let link = place.blob("../outside");
    let below = place.raw_tree(&[("100644", "canary", place.blob("dead"))]);
    for (what, entries) in [
        (
            "link then directory",
            vec![("120000", "a", link), ("40000", "a", below)],
        ),
        (
            "with another between",
            vec![
                ("120000", "a", link),
                ("100644", "a.", link),
                ("40000", "a", below),
            ],
        ),
        (
            "directory then link",
            vec![("40000", "a", below), ("120000", "a", link)],
        ),
        ("twice", vec![("100644", "a", link), ("100644", "a", link)]),
        ("unsorted", vec![("100644", "b", link), ("100644", "a", link)]),
    ] {
        let commit = place.commit_tree(place.raw_tree(&entries));
        let err = place.update(commit).unwrap_err();
        assert!(matches!(err, Error::Tree { .. }), "{what}: {err}");
        assert!(!place.exists("a") && !place.exists("b"), "{what}");
    }
}

#[test]
fn names_that_only_windows_forbids_are_fine() {
    let place = Fixture::new();
    let files = [
        ("aux", "1"),
        ("a:b", "2"),
        ("a\\b", "3"),
        ("trailing ", "4"),
        ("x\u{1}\n", "5"),
        (".gitx", "6"),
    ];
    assert_eq!(place.update(place.commit(&files)).unwrap(), done(6, 0, 0));
    assert_eq!(place.read("a\\b"), "3");
}

#[test]
fn a_missing_object_stops_it_before_anything_changes() {
    let place = Fixture::new();
    place.update(place.commit(&[("a", "old")])).unwrap();
    let gone = gix::ObjectId::from_hex(&[b'7'; 40]).unwrap();
    for entries in [
        [("100644", "a", place.blob("new")), ("100644", "z", gone)],
        [("100644", "a", place.blob("new")), ("40000", "z", gone)],
    ] {
        let commit = place.commit_tree(place.raw_tree(&entries));
        assert!(matches!(place.update(commit), Err(Error::Object { .. })));
        assert_eq!(place.read("a"), "old");
    }
    assert!(matches!(place.update(gone), Err(Error::Object { .. })));
}

#[test]
fn nothing_to_do_leaves_even_the_index_alone() {
    let place = Fixture::new();
    let commit = place.commit(&[("a", "1"), ("d/b", "2")]);
    assert_eq!(place.update(commit).unwrap(), done(2, 0, 0));
    // Files of the index's own moment are looked at until they are older.
    while place.update(commit).is_ok() && {
        let index = place.index();
        let old = stored::Stored::read(&place.repo.index_path(), place.repo.object_hash());
        index.entries().iter().any(|entry| old.is_racy(&entry.stat))
    } {}
    let before = fs::metadata(place.at(".git/index")).unwrap();
    assert_eq!(place.update(commit).unwrap(), done(0, 0, 0));
    let after = fs::metadata(place.at(".git/index")).unwrap();
    assert_eq!(
        (before.ino(), before.mtime_nsec()),
        (after.ino(), after.mtime_nsec())
    );
}

#[test]
fn what_the_cached_tree_proves_is_not_read() {
    let place = Fixture::new();
    let commit = place.commit(&[("a/b/c", "1"), ("a/d", "1"), ("e/f", "1"), ("g", "1")]);
    place.update(commit).unwrap();
    let next = place.commit(&[("a/b/c", "1"), ("a/d", "2"), ("e/f", "1"), ("g", "1")]);
    // Of the trees that stay, the objects are not even there.
    for commit in [commit, next] {
        let tree = place.repo.find_commit(commit).unwrap().tree().unwrap();
        for path in ["e", "a/b"] {
            let id = tree
                .lookup_entry_by_path(path)
                .unwrap()
                .unwrap()
                .object_id()
                .to_string();
            fs::remove_file(place.at(&format!(".git/objects/{}/{}", &id[..2], &id[2..]))).ok();
        }
    }
    assert_eq!(place.update(next).unwrap(), done(1, 0, 0));
    let index = place.index();
    let tree = index.tree().unwrap();
    assert_eq!((tree.num_entries, tree.children.len()), (Some(4), 2));
    fs::write(place.at("e/f"), "dirty").unwrap();
    assert_eq!(place.update(next).unwrap(), done(1, 0, 0));
    // A checksum of zeroes proves nothing.
    let mut bytes = fs::read(place.at(".git/index")).unwrap();
    let end = bytes.len();
    bytes[end - 20..].fill(0);
    fs::write(place.at(".git/index"), bytes).unwrap();
    assert!(matches!(place.update(next), Err(Error::Object { .. })));
}

#[test]
fn what_is_remembered_is_looked_at_before_it_is_believed() {
    let place = Fixture::new();
    let commit = place.commit(&[("a", "1"), ("d/b", "1"), ("d/e/f", "1")]);
    let remember = |commit, count| {
        while place.cache.quiet() < count {
            place.update(commit).unwrap();
        }
        // Now from the cache alone.
        assert_eq!(place.update(commit).unwrap(), done(0, 0, 0));
    };
    remember(commit, 3);
    place.write("d/new", "1");
    place.write("d/e/new", "1");
    fs::write(place.at("d/b"), "dirty").unwrap();
    assert_eq!(place.update(commit).unwrap(), done(1, 0, 2));
    remember(commit, 3);
    fs::remove_dir_all(place.at("d/e")).unwrap();
    symlink("../../outside", place.at("d/e")).unwrap();
    assert_eq!(place.update(commit).unwrap(), done(1, 0, 0));
    remember(commit, 3);
    // Another index: what is tracked now may be untracked then, in a directory that has not changed.
    let mut index = place.index();
    index.remove_tree();
    index.remove_entries(|_, path, _| path == "d/b");
    index.write(Default::default()).unwrap();
    let commit = place.commit(&[("a", "1"), ("d/e/f", "1")]);
    assert_eq!(place.update(commit).unwrap(), done(0, 0, 1));
    // In a run that fails, nothing is learnt.
    remember(commit, 3);
    assert!(
        place
            .update(gix::ObjectId::from_hex(&[b'7'; 40]).unwrap())
            .is_err()
    );
    assert_eq!(place.cache.quiet(), 0);
}

#[test]
fn an_edit_of_the_same_size_is_seen_at_once() {
    let place = Fixture::new();
    let commit = place.commit(&[("a", "good"), ("b", "good")]);
    for _ in 0..50 {
        place.update(commit).unwrap();
        let before = fs::metadata(place.at("b")).unwrap().modified().unwrap();
        fs::write(place.at("a"), "evil").unwrap();
        fs::write(place.at("b"), "evil").unwrap();
        fs::File::options()
            .write(true)
            .open(place.at("b"))
            .unwrap()
            .set_modified(before)
            .unwrap();
        place.update(commit).unwrap();
        assert_eq!((place.read("a"), place.read("b")), ("good".into(), "good".into()));
    }
}

#[test]
fn a_damaged_index_is_no_index() {
    let place = Fixture::new();
    let commit = place.commit(&[("a", "1"), ("d/b", "2"), ("d/c", "3")]);
    place.update(commit).unwrap();
    let good = fs::read(place.at(".git/index")).unwrap();
    for at in 0..good.len() {
        for length in [at, good.len()] {
            let mut bad = good[..length].to_owned();
            // A checksum of zeroes says that there is none: what is damaged is decoded.
            let end = bad.len();
            bad[end.saturating_sub(20)..].fill(0);
            if let Some(byte) = bad.get_mut(at) {
                *byte ^= 0xff;
            }
            fs::write(place.at(".git/index"), bad).unwrap();
            fs::write(place.at("d/b"), "dirty").unwrap();
            place.update(commit).unwrap();
            assert_eq!(place.read("d/b"), "2", "byte {at} of {length}");
            assert_eq!(place.index().entries().len(), 3);
        }
    }
}

#[test]
fn an_index_with_hostile_paths_deletes_nothing_outside() {
    let place = Fixture::new();
    let id = place.blob("x");
    let mut index = gix::index::State::new(place.repo.object_hash());
    for path in [
        "../outside/canary",
        ".git/HEAD",
        "a/../../outside/canary",
        "link/canary",
    ] {
        let stat = Default::default();
        index.dangerously_push_entry(
            stat,
            id,
            gix::index::entry::Flags::empty(),
            gix::index::entry::Mode::FILE,
            path.into(),
        );
    }
    index.sort_entries();
    symlink("../outside", place.at("link")).unwrap();
    fs::create_dir(place.at("a")).unwrap();
    drop(stored::write(&place.repo.index_path(), index).unwrap());
    place.update(place.commit(&[("b", "1")])).unwrap();
    assert!(place.exists(".git/HEAD"));
}

#[test]
fn links_to_the_outside_are_replaced_not_followed() {
    let place = Fixture::new();
    let commit = place.commit(&[("d/canary", "ours"), ("e", "ours")]);
    place.update(commit).unwrap();
    fs::remove_dir_all(place.at("d")).unwrap();
    symlink("../outside", place.at("d")).unwrap();
    fs::remove_file(place.at("e")).unwrap();
    symlink("../outside/canary", place.at("e")).unwrap();
    place.update(commit).unwrap();
    assert_eq!(
        (place.read("d/canary"), place.read("e")),
        ("ours".into(), "ours".into())
    );
    // Not even to delete.
    fs::remove_dir_all(place.at("d")).unwrap();
    symlink("../outside", place.at("d")).unwrap();
    place.update(place.commit(&[("e", "ours")])).unwrap();
    assert!(!place.exists("d"));
}

#[test]
fn another_name_of_a_file_does_not_change() {
    let place = Fixture::new();
    place.update(place.commit(&[("a", "old")])).unwrap();
    let other = place.tmp.path().join("outside/hard");
    fs::hard_link(place.at("a"), &other).unwrap();
    place.update(place.commit(&[("a", "new")])).unwrap();
    assert_eq!(
        (place.read("a"), fs::read_to_string(other).unwrap()),
        ("new".into(), "old".into())
    );
}

#[test]
fn what_is_to_be_kept_is_kept() {
    let mut place = Fixture::new();
    place.keep = vec!["uploads/".into(), "*.local".into()];
    place.clean = Clean::All;
    place.write("uploads/u", "1");
    place.write("d/x.local", "1");
    place.write("d/y", "1");
    let commit = place.commit(&[("a", "1"), (".gitignore", "ignored\n")]);
    place.write("ignored", "1");
    assert_eq!(place.update(commit).unwrap(), done(2, 0, 2));
    assert!(
        place.exists("uploads/u")
            && place.exists("d/x.local")
            && !place.exists("d/y")
            && !place.exists("ignored")
    );

    for (file, kept) in [
        ("uploads", "uploads"),
        ("d", "d/x.local"),
        ("d/x.local/y", "d/x.local"),
    ] {
        match place.update(place.commit(&[("a", "2"), (file, "1")])) {
            Err(Error::Kept { kept: named, .. }) => assert_eq!(named, kept),
            other => panic!("{file}: {other:?}"),
        }
        assert_eq!(place.read("a"), "1");
    }
    // What is tracked is not kept.
    place.update(place.commit(&[("t.local", "1")])).unwrap();
    assert_eq!(place.update(place.commit(&[("b", "1")])).unwrap(), done(1, 1, 0));
}

#[test]
fn without_cleaning_only_leftovers_go() {
    let mut place = Fixture::new();
    place.clean = Clean::Nothing;
    place.write("untracked/x", "1");
    place.write("d/.gitsocket-tmp-1-2", "half");
    place.write(".gitsocket-tmp-1-3", "half");
    let commit = place.commit(&[("d/a", "1"), (".gitignore", ".gitsocket*\n")]);
    assert_eq!(place.update(commit).unwrap(), done(2, 0, 0));
    assert!(place.exists("untracked/x"));
    assert!(!place.exists("d/.gitsocket-tmp-1-2") && !place.exists(".gitsocket-tmp-1-3"));
}

#[test]
fn the_repository_is_out_of_bounds_wherever_it_is() {
    let tmp = crate::machine::tempdir().unwrap();
    let root = tmp.path().join("tree");
    fs::create_dir(&root).unwrap();
    gix::init_bare(root.join("repo")).unwrap();
    let mut place = Fixture::new();
    place.repo = repository::open(&root.join("repo")).unwrap();
    place.tmp = tmp;
    fs::create_dir(place.tmp.path().join("outside")).unwrap();
    place.write("../outside/canary", "alive");
    place.write("junk", "1");
    place.clean = Clean::All;
    assert_eq!(place.update(place.commit(&[("a", "1")])).unwrap(), done(1, 0, 1));
    assert!(place.exists("repo/HEAD"));
    for path in ["repo", "repo/hooks/post-checkout", "repo/HEAD"] {
        let commit = place.commit(&[(path, "1")]);
        assert!(matches!(place.update(commit), Err(Error::Kept { .. })), "{path}");
    }
    assert!(place.exists("repo/HEAD") && !place.exists("repo/hooks/post-checkout"));
}

#[test]
fn filters_never_run_and_what_is_missing_is_said_once() {
    let mut place = Fixture::new();
    let ran = place.tmp.path().join("outside/ran");
    let run = format!("touch {}", ran.display());
    let config = place.read(".git/config")
        + &format!(
            "[filter \"x\"]\n\tsmudge = {run}\n\tclean = {run}\n\tprocess = {run}\n\trequired = true\n"
        );
    place.write(".git/config", &config);
    place.repo = repository::open(&place.at(".git")).unwrap();
    let commit = place.commit_of(&[
        (
            ".gitattributes",
            EntryKind::Blob,
            "*.x filter=x\n*.e working-tree-encoding=nonsense\n",
        ),
        ("1.x", EntryKind::Blob, "a"),
        ("2.x", EntryKind::BlobExecutable, "b"),
        (
            "3.x",
            EntryKind::Blob,
            "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n",
        ),
        ("4.e", EntryKind::Blob, "b"),
        ("5", EntryKind::Commit, ""),
    ]);
    place.update(commit).unwrap();
    assert!(!ran.exists());
    let warnings = place.warnings();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    for (warning, end) in warnings.iter().zip([": 5", ": 3.x", ": 1.x and 1 more", ": 4.e"]) {
        assert!(warning.ends_with(end), "{warning}");
    }
    assert!(place.at("5").is_dir());
    assert_eq!(
        fs::metadata(place.at("2.x")).unwrap().permissions().mode() & 0o777,
        0o755
    );
}

#[test]
fn bits_that_make_git_overlook_files_do_not_survive() {
    use gix::index::entry::Flags;
    let place = Fixture::new();
    let commit = place.commit(&[("a", "1"), ("b", "1"), ("c", "1")]);
    place.update(commit).unwrap();
    let mut index = place.index();
    let flags = [
        Flags::ASSUME_VALID,
        Flags::SKIP_WORKTREE | Flags::EXTENDED,
        Flags::INTENT_TO_ADD | Flags::EXTENDED,
    ];
    for (entry, flags) in index.entries_mut().iter_mut().zip(flags) {
        entry.flags |= flags;
    }
    index.write(Default::default()).unwrap();
    for name in ["a", "b", "c"] {
        fs::remove_file(place.at(name)).unwrap();
    }
    assert_eq!(place.update(commit).unwrap(), done(3, 0, 0));
    assert!(
        place
            .index()
            .entries()
            .iter()
            .all(|entry| !stored::is_special(entry))
    );
}

#[test]
fn a_dry_run_says_all_and_does_nothing() {
    let mut place = Fixture::new();
    place
        .update(place.commit(&[("a", "1"), ("d/gone", "1"), (".gitignore", "old\n")]))
        .unwrap();
    place.write("dir/untracked", "1");
    place.write("new", "1");
    place.write("old", "1");
    let index = fs::read(place.at(".git/index")).unwrap();
    place.dry_run = true;
    let commit = place.commit(&[("a", "2"), (".gitignore", "new\n")]);
    assert_eq!(place.update(commit).unwrap(), done(2, 1, 2));
    let lines: Vec<_> = place
        .events
        .lock()
        .unwrap()
        .iter()
        .filter_map(|report| Event::of(report.clone())?.line())
        .collect();
    assert_eq!(
        lines,
        [
            "would delete d/gone",
            "would write .gitignore",
            "would write a",
            "would clean dir/",
            "would clean old"
        ]
    );
    assert!(place.exists("d/gone") && place.exists("dir/untracked"));
    assert_eq!(fs::read(place.at(".git/index")).unwrap(), index);
    place.dry_run = false;
    assert_eq!(place.update(commit).unwrap(), done(2, 1, 2));
}

#[test]
fn a_locked_index_is_an_error_that_says_so() {
    let place = Fixture::new();
    place.write(".git/index.lock", "");
    match place.update(place.commit(&[("a", "1")])) {
        Err(Error::Index { path, reason, .. }) => assert!(path.ends_with("index") && !reason.is_empty()),
        other => panic!("{other:?}"),
    }
    fs::remove_file(place.at(".git/index.lock")).unwrap();
    // The files were right already.
    let expected = Outcome {
        finished_another: true,
        ..done(0, 0, 0)
    };
    assert_eq!(place.update(place.commit(&[("a", "1")])).unwrap(), expected);
}

#[test]
fn the_umask_is_the_one_that_was_asked_for() {
    let place = Fixture::new();
    place.update(place.commit(&[("d/e/a", "1")])).unwrap();
    let mode = |path: &str| fs::metadata(place.at(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("d"), mode("d/e"), mode("d/e/a")), (0o755, 0o755, 0o644));
    fs::set_permissions(place.at("d/e/a"), fs::Permissions::from_mode(0o600)).unwrap();
    place.update(place.commit(&[("d/e/a", "1")])).unwrap();
    assert_eq!(mode("d/e/a"), 0o644);
}

#[test]
fn errors_name_the_path_and_say_what_to_do() {
    let place = Fixture::new();
    let err = place.commit(&[("a", "1")]);
    let options = Options {
        root: &AbsPath::resolve(place.tmp.path(), "nowhere".as_ref()).unwrap(),
        index: Path::new("/nowhere/index"),
        clean: Clean::Nothing,
        keep: &[],
        max_blob: u64::MAX,
        rights: Rights::of(0o022),
        dry_run: false,
        apart: None,
        cache: &Cache::default(),
        begin: Begin(&|| Ok(())),
        report: &Reporter::new(|_| ()),
        over: &std::sync::atomic::AtomicBool::new(false),
    };
    let err = update(&place.repo, err, &options).unwrap_err();
    let failure = crate::base::fault::Failure::of(&err);
    assert!(
        failure.message.contains("nowhere") && failure.help.is_some(),
        "{failure:?}"
    );
}

#[test]
fn what_must_not_be_written_is_an_error_and_the_rest_is_done() {
    if !crate::machine::need(crate::machine::Need::Ordinary) {
        return;
    }
    let place = Fixture::new();
    place.update(place.commit(&[("d/a", "1"), ("e", "1")])).unwrap();
    place.write("locked/x", "1");
    place.write("z", "1");
    let mode =
        |path: &str, mode| fs::set_permissions(place.at(path), fs::Permissions::from_mode(mode)).unwrap();
    mode("locked", 0o500);
    let err = place
        .update(place.commit(&[("d/a", "1"), ("e", "2")]))
        .unwrap_err();
    mode("locked", 0o700);
    assert!(err.to_string().contains("locked/x"), "{err}");
    assert!(place.read("e") == "2" && !place.exists("z"));
}
