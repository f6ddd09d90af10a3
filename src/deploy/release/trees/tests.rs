//! Recovery from what a killed run or a user has left.

use std::{fs, os::unix::fs::symlink, path::Path};

use gix::ObjectId;

use super::*;
use crate::deploy::release::located::tests::site;

struct Fixture {
    dir: tempfile::TempDir,
    site: Site,
}

const COMMIT: &str = "5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80";

impl Fixture {
    fn new(live: Live) -> Self {
        let dir = crate::machine::tempdir().unwrap();
        let path = dir.path().join("site");
        fs::create_dir_all(path.join("repo.git/gitsocket")).unwrap();
        let site = site(&path, live);
        Self { dir, site }
    }

    fn trees(&self) -> Trees<'_> {
        self.recover().unwrap()
    }

    fn recover(&self) -> Result<Trees<'_>, Error> {
        Trees::recover(
            &self.site,
            self.site.releases.as_ref().unwrap(),
            (Rights::of(0o022), false),
        )
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("site").join(path)
    }

    /// Make a tree with a file that identifies it, and make it live.
    fn deploy(&self, name: &str) -> Id {
        let mut trees = self.trees();
        let id = begin(&mut trees);
        fs::write(trees.path(&id).join("name"), name).unwrap();
        fs::write(trees.index(&id), name).unwrap();
        trees.record.tree_mut(&id).unwrap().is_whole = true;
        trees.switch(&id).unwrap();
        trees.judge(true).unwrap();
        id
    }

    fn name(&self, path: impl AsRef<Path>) -> String {
        fs::read_to_string(self.at(path).join("name")).unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at("releases")).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn link() -> Live {
    Live::Symlink("current".into())
}

fn swap() -> Live {
    Live::Exchange("current".into())
}

fn begin(trees: &mut Trees<'_>) -> Id {
    let commit = ObjectId::from_hex(COMMIT.as_bytes()).unwrap();
    trees.begin(commit).unwrap()
}

fn release(id: &Id) -> PathBuf {
    Path::new(DIR).join(id.as_str())
}

#[test]
fn a_tree_that_was_about_to_be_another_gets_its_name() {
    let fixture = Fixture::new(link());
    let ids: Vec<Id> = ["a", "b", "c"].map(|name| fixture.deploy(name)).into();
    let mut trees = fixture.trees();
    let new = begin(&mut trees);
    assert_eq!(fixture.name(release(&new)), "a");
    assert!(trees.index(&new).exists() && !trees.index(&ids[0]).exists());
    // Killed before the rename.
    fs::rename(fixture.at(release(&new)), fixture.at(release(&ids[0]))).unwrap();
    let trees = fixture.trees();
    assert_eq!(fixture.name(release(&new)), "a");
    assert!(!trees.record().tree(&new).unwrap().is_whole);
    assert!(trees.index(&new).exists());
    assert_eq!(trees.live().unwrap().id, ids[2]);
}

#[test]
fn a_directory_of_a_release_is_ours_only_if_it_is_blank() {
    for is_blank in [true, false] {
        let fixture = Fixture::new(link());
        fixture.deploy("a");
        let mut trees = fixture.trees();
        let new = begin(&mut trees);
        // Killed before that was remembered.
        trees.record.tree_mut(&new).unwrap().dir = None;
        trees.write().unwrap();
        if !is_blank {
            fs::write(fixture.at(release(&new)).join("file"), "mine").unwrap();
        }
        let trees = fixture.trees();
        assert_eq!(trees.record().tree(&new).is_some(), is_blank);
        assert_eq!(trees.foreign().len(), usize::from(!is_blank));
        // An empty directory becomes the spare.
        assert_eq!(trees.sorted().spare, is_blank.then(|| new.clone()));
        assert!(fixture.at(release(&new)).exists());
    }
}

#[test]
fn a_swap_that_was_cut_short_is_finished() {
    let fixture = Fixture::new(swap());
    let old = fixture.deploy("a");
    assert_eq!((fixture.name("current"), fixture.names().len()), ("a".into(), 0));
    let mut trees = fixture.trees();
    let new = begin(&mut trees);
    fs::write(fixture.at(release(&new)).join("name"), "b").unwrap();
    trees.record.tree_mut(&new).unwrap().is_whole = true;
    trees.write().unwrap();
    trees.layout().unwrap().swap(&new, "current").unwrap();
    assert_eq!(
        (fixture.name("current"), fixture.name(release(&new))),
        ("b".into(), "a".into())
    );
    for _ in 0..2 {
        let trees = fixture.trees();
        assert_eq!(trees.live().unwrap().id, new);
        assert_eq!((trees.live().unwrap().turn, trees.record().turn), (2, 2));
        assert_eq!(
            (fixture.name("current"), fixture.names()),
            ("b".into(), vec![old.to_string()])
        );
        assert_eq!(fixture.name(release(&old)), "a");
        assert_eq!(trees.path(&new), fixture.at("current"));
    }
}

#[test]
fn another_way_of_being_live_that_was_cut_short_is_finished() {
    let mut fixture = Fixture::new(swap());
    let old = fixture.deploy("a");
    fixture.site.releases.as_mut().unwrap().live = link();
    let mut trees = fixture.trees();
    let new = begin(&mut trees);
    fs::write(fixture.at(release(&new)).join("name"), "b").unwrap();
    trees.record.tree_mut(&new).unwrap().is_whole = true;
    trees.write().unwrap();
    // The directory was exchanged for a new link, and does not have its name yet.
    symlink(release(&new), fixture.at("link")).unwrap();
    fs::rename(fixture.at("current"), fixture.at(".gitsocket-new-current")).unwrap();
    fs::rename(fixture.at("link"), fixture.at("current")).unwrap();
    let trees = fixture.trees();
    assert_eq!(trees.live().unwrap().id, new);
    assert_eq!(
        (fixture.name("current"), fixture.name(release(&old))),
        ("b".into(), "a".into())
    );
    assert!(!fixture.at(".gitsocket-new-current").exists());
    // And back: the link was exchanged for the next tree.
    fixture.site.releases.as_mut().unwrap().live = swap();
    let next = fixture.deploy("c");
    assert_eq!(fixture.name("current"), "c");
    symlink(release(&new), fixture.at(release(&next))).unwrap();
    let trees = fixture.trees();
    assert_eq!(trees.live().unwrap().id, next);
    assert!(fs::symlink_metadata(fixture.at(release(&next))).is_err());
}

#[test]
fn a_switch_that_is_not_in_the_record_counts() {
    let fixture = Fixture::new(link());
    let [a, b] = ["a", "b"].map(|name| fixture.deploy(name));
    fs::remove_file(fixture.at("current")).unwrap();
    symlink(release(&a), fixture.at("current")).unwrap();
    let trees = fixture.trees();
    let live = trees.live().unwrap();
    assert_eq!((&live.id, live.turn, trees.record().turn), (&a, 3, 3));
    assert_eq!(trees.previous().unwrap().id, b);
}

#[test]
fn what_a_user_removed_is_forgotten_or_made_again() {
    for live in [link(), swap()] {
        let fixture = Fixture::new(live);
        let [a, b] = ["a", "b"].map(|name| fixture.deploy(name));
        let trees = fixture.trees();
        let files = fixture.at("repo.git/gitsocket/releases");
        for name in ["x", "20200101T000000Z-0000000.index"] {
            fs::write(files.join(name), "").unwrap();
        }
        fs::remove_dir_all(fixture.at(release(&a))).unwrap();
        assert!(trees.record().tree(&a).is_some());
        let trees = fixture.trees();
        assert!(trees.record().tree(&a).is_none() && trees.record().tree(&b).is_some());
        let left: Vec<_> = fs::read_dir(&files)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, [format!("{b}.index").as_str()]);
    }
    let fixture = Fixture::new(link());
    let [_, b] = ["a", "b"].map(|name| fixture.deploy(name));
    fs::remove_file(fixture.at("current")).unwrap();
    assert_eq!(fixture.trees().live().unwrap().id, b);
    assert_eq!(fixture.name("current"), "b");
    // With a damaged record, all trees are foreign, and a link of ours may be replaced.
    fs::write(Record::file(&fixture.site.git_dir()), "{").unwrap();
    assert_eq!(fixture.trees().foreign().len(), 2);
    let c = fixture.deploy("c");
    assert_eq!((fixture.name("current"), fixture.names().len()), ("c".into(), 3));
    assert_eq!(fixture.trees().live().unwrap().id, c);
}

#[test]
fn what_a_user_has_made_is_refused_and_stays() {
    for live in [link(), swap()] {
        for make in [
            |at: &Path| fs::create_dir(at).unwrap(),
            |at: &Path| fs::write(at, "").unwrap(),
            |at: &Path| symlink("/", at).unwrap(),
            |at: &Path| symlink("releases/..", at).unwrap(),
        ] {
            let fixture = Fixture::new(live.clone());
            make(&fixture.at("current"));
            let err = fixture.recover().unwrap_err();
            assert!(matches!(err, Error::Live { .. }), "{err}");
            assert!(fs::symlink_metadata(fixture.at("current")).is_ok());
        }
        let fixture = Fixture::new(live);
        symlink("/", fixture.at("releases")).unwrap();
        assert!(matches!(
            fixture.recover().unwrap_err(),
            Error::Odd { what: "a link", .. }
        ));
    }
}
