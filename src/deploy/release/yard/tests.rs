//! What a killed run, or somebody, may have left; and what the next one makes of it.

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
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site");
        fs::create_dir_all(path.join("repo.git/gitsocket")).unwrap();
        let site = site(&path, live);
        Self { dir, site }
    }

    fn yard(&self) -> Yard<'_> {
        self.settle().unwrap()
    }

    fn settle(&self) -> Result<Yard<'_>, Error> {
        Yard::settle(
            &self.site,
            self.site.releases.as_ref().unwrap(),
            (Rights::of(0o022), false),
        )
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("site").join(path)
    }

    /// Make a tree, with a file that tells it from others, and let it be live.
    fn deploy(&self, name: &str) -> Id {
        let mut yard = self.yard();
        let id = begin(&mut yard);
        fs::write(yard.path(&id).join("name"), name).unwrap();
        fs::write(yard.index(&id), name).unwrap();
        yard.record.tree_mut(&id).unwrap().is_whole = true;
        yard.switch(&id).unwrap();
        yard.judge(true).unwrap();
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

fn begin(yard: &mut Yard<'_>) -> Id {
    let commit = ObjectId::from_hex(COMMIT.as_bytes()).unwrap();
    yard.begin(commit).unwrap()
}

fn release(id: &Id) -> PathBuf {
    Path::new(DIR).join(id.as_str())
}

#[test]
fn a_tree_that_was_about_to_be_another_gets_its_name() {
    let fixture = Fixture::new(link());
    let ids: Vec<Id> = ["a", "b", "c"].map(|name| fixture.deploy(name)).into();
    let mut yard = fixture.yard();
    let new = begin(&mut yard);
    assert_eq!(fixture.name(release(&new)), "a");
    assert!(yard.index(&new).exists() && !yard.index(&ids[0]).exists());
    // Killed before the rename.
    fs::rename(fixture.at(release(&new)), fixture.at(release(&ids[0]))).unwrap();
    let yard = fixture.yard();
    assert_eq!(fixture.name(release(&new)), "a");
    assert!(!yard.record().tree(&new).unwrap().is_whole);
    assert!(yard.index(&new).exists());
    assert_eq!(yard.live().unwrap().id, ids[2]);
}

#[test]
fn a_directory_of_a_release_is_ours_only_if_it_is_blank() {
    for is_blank in [true, false] {
        let fixture = Fixture::new(link());
        fixture.deploy("a");
        let mut yard = fixture.yard();
        let new = begin(&mut yard);
        // Killed before that was remembered.
        yard.record.tree_mut(&new).unwrap().dir = None;
        yard.write().unwrap();
        if !is_blank {
            fs::write(fixture.at(release(&new)).join("file"), "mine").unwrap();
        }
        let yard = fixture.yard();
        assert_eq!(yard.record().tree(&new).is_some(), is_blank);
        assert_eq!(yard.foreign().len(), usize::from(!is_blank));
        // A blank one is the spare one.
        assert_eq!(yard.sorted().spare, is_blank.then(|| new.clone()));
        assert!(fixture.at(release(&new)).exists());
    }
}

#[test]
fn a_swap_that_was_cut_short_is_finished() {
    let fixture = Fixture::new(swap());
    let old = fixture.deploy("a");
    assert_eq!((fixture.name("current"), fixture.names().len()), ("a".into(), 0));
    let mut yard = fixture.yard();
    let new = begin(&mut yard);
    fs::write(fixture.at(release(&new)).join("name"), "b").unwrap();
    yard.record.tree_mut(&new).unwrap().is_whole = true;
    yard.write().unwrap();
    yard.ground().unwrap().swap(&new, "current").unwrap();
    assert_eq!(
        (fixture.name("current"), fixture.name(release(&new))),
        ("b".into(), "a".into())
    );
    for _ in 0..2 {
        let yard = fixture.yard();
        assert_eq!(yard.live().unwrap().id, new);
        assert_eq!((yard.live().unwrap().turn, yard.record().turn), (2, 2));
        assert_eq!(
            (fixture.name("current"), fixture.names()),
            ("b".into(), vec![old.to_string()])
        );
        assert_eq!(fixture.name(release(&old)), "a");
        assert_eq!(yard.path(&new), fixture.at("current"));
    }
}

#[test]
fn another_way_of_being_live_that_was_cut_short_is_finished() {
    let mut fixture = Fixture::new(swap());
    let old = fixture.deploy("a");
    fixture.site.releases.as_mut().unwrap().live = link();
    let mut yard = fixture.yard();
    let new = begin(&mut yard);
    fs::write(fixture.at(release(&new)).join("name"), "b").unwrap();
    yard.record.tree_mut(&new).unwrap().is_whole = true;
    yard.write().unwrap();
    // The directory has changed places with a new link, and has no name yet.
    symlink(release(&new), fixture.at("link")).unwrap();
    fs::rename(fixture.at("current"), fixture.at(".gitsocket-new-current")).unwrap();
    fs::rename(fixture.at("link"), fixture.at("current")).unwrap();
    let yard = fixture.yard();
    assert_eq!(yard.live().unwrap().id, new);
    assert_eq!(
        (fixture.name("current"), fixture.name(release(&old))),
        ("b".into(), "a".into())
    );
    assert!(!fixture.at(".gitsocket-new-current").exists());
    // And back: the link has changed places with the next tree.
    fixture.site.releases.as_mut().unwrap().live = swap();
    let next = fixture.deploy("c");
    assert_eq!(fixture.name("current"), "c");
    symlink(release(&new), fixture.at(release(&next))).unwrap();
    let yard = fixture.yard();
    assert_eq!(yard.live().unwrap().id, next);
    assert!(fs::symlink_metadata(fixture.at(release(&next))).is_err());
}

#[test]
fn a_switch_that_nobody_wrote_down_counts() {
    let fixture = Fixture::new(link());
    let [a, b] = ["a", "b"].map(|name| fixture.deploy(name));
    fs::remove_file(fixture.at("current")).unwrap();
    symlink(release(&a), fixture.at("current")).unwrap();
    let yard = fixture.yard();
    let live = yard.live().unwrap();
    assert_eq!((&live.id, live.turn, yard.record().turn), (&a, 3, 3));
    assert_eq!(yard.previous().unwrap().id, b);
}

#[test]
fn what_somebody_removed_is_forgotten_or_there_again() {
    for live in [link(), swap()] {
        let fixture = Fixture::new(live);
        let [a, b] = ["a", "b"].map(|name| fixture.deploy(name));
        let yard = fixture.yard();
        let files = fixture.at("repo.git/gitsocket/releases");
        for name in ["x", "20200101T000000Z-0000000.index"] {
            fs::write(files.join(name), "").unwrap();
        }
        fs::remove_dir_all(fixture.at(release(&a))).unwrap();
        assert!(yard.record().tree(&a).is_some());
        let yard = fixture.yard();
        assert!(yard.record().tree(&a).is_none() && yard.record().tree(&b).is_some());
        let left: Vec<_> = fs::read_dir(&files)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, [format!("{b}.index").as_str()]);
    }
    let fixture = Fixture::new(link());
    let [_, b] = ["a", "b"].map(|name| fixture.deploy(name));
    fs::remove_file(fixture.at("current")).unwrap();
    assert_eq!(fixture.yard().live().unwrap().id, b);
    assert_eq!(fixture.name("current"), "b");
    // A record that is damaged is none: all trees are foreign, and a link of ours may be replaced.
    fs::write(Record::file(&fixture.site.git_dir()), "{").unwrap();
    assert_eq!(fixture.yard().foreign().len(), 2);
    let c = fixture.deploy("c");
    assert_eq!((fixture.name("current"), fixture.names().len()), ("c".into(), 3));
    assert_eq!(fixture.yard().live().unwrap().id, c);
}

#[test]
fn what_is_someones_is_refused_and_stays() {
    for live in [link(), swap()] {
        for make in [
            |at: &Path| fs::create_dir(at).unwrap(),
            |at: &Path| fs::write(at, "").unwrap(),
            |at: &Path| symlink("/", at).unwrap(),
            |at: &Path| symlink("releases/..", at).unwrap(),
        ] {
            let fixture = Fixture::new(live.clone());
            make(&fixture.at("current"));
            let err = fixture.settle().unwrap_err();
            assert!(matches!(err, Error::Live { .. }), "{err}");
            assert!(fs::symlink_metadata(fixture.at("current")).is_ok());
        }
        let fixture = Fixture::new(live);
        symlink("/", fixture.at("releases")).unwrap();
        assert!(matches!(
            fixture.settle().unwrap_err(),
            Error::Odd { what: "a link", .. }
        ));
    }
}
