//! Whether what was fetched is complete, in random histories whose clocks were wrong: git says what leads where.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::atomic::AtomicBool,
};

use gitsocket::git::{dropped, fetch::complete};
use gix::{ObjectId, hash::Kind};

use super::{
    machine,
    repo::{Repo, git, has_git, isolated},
};

/// A history, in which each commit may have each of a few trees.
fn history(rng: &mut fastrand::Rng, count: usize, skew: i64) -> (Repo, Vec<ObjectId>) {
    let (mut source, mut commits) = (Repo::new(Kind::Sha1), Vec::new());
    for _ in 0..count {
        let files: BTreeMap<_, _> = (0..rng.usize(1..4))
            .map(|n| (format!("d{}/f{n}", rng.u8(..2)), rng.u8(..6).to_string()))
            .collect();
        let parents: BTreeSet<_> = (0..rng.usize(..3))
            .filter_map(|_| rng.choice(&commits))
            .copied()
            .collect();
        let parents: Vec<_> = parents.into_iter().collect();
        source.time += 60;
        commits.push(source.commit_at(&files, &parents, source.time + rng.i64(-skew..=skew)));
    }
    (source, commits)
}

fn some(rng: &mut fastrand::Rng, commits: &[ObjectId]) -> Vec<ObjectId> {
    (0..rng.usize(1..4))
        .filter_map(|_| rng.choice(commits))
        .copied()
        .collect()
}

fn rev_list(source: &Repo, options: &[&str], (wanted, held): (&[ObjectId], &[ObjectId])) -> BTreeSet<String> {
    let held = held.iter().map(|id| format!("^{id}"));
    let revs: Vec<String> = wanted.iter().map(ToString::to_string).chain(held).collect();
    let revs = revs.iter().map(String::as_str);
    let args: Vec<&str> = ["rev-list"]
        .into_iter()
        .chain(options.iter().copied())
        .chain(revs)
        .collect();
    git(source.path(), &args).lines().map(str::to_owned).collect()
}

/// Any one object is missing: that is found where it is new, whatever the clocks said.
#[test]
fn what_is_missing_is_found_where_it_is_new() {
    if !has_git() {
        return;
    }
    let mut rng = fastrand::Rng::with_seed(machine::seed());
    for round in 0..machine::rounds(40) {
        let skew = [0, 300, 100_000][round % 3];
        let (source, commits) = history(&mut rng, 25, skew);
        let (tips, mut known) = (some(&mut rng, &commits), some(&mut rng, &commits));
        let objects = ["--objects", "--no-object-names"];
        let whole = rev_list(&source, &objects, (&known, &[]));
        let reached = rev_list(&source, &objects, (&tips, &[]));
        let new: Vec<&String> = reached.difference(&whole).collect();
        // It may not be here.
        known.push(ObjectId::from_hex(&[b'7'; 40]).unwrap());
        let check = |tips: &[ObjectId], known: &[ObjectId]| {
            let repo = gix::open_opts(source.path(), isolated()).unwrap();
            let checked = complete::check(&repo, tips, known, &AtomicBool::new(false));
            checked.err().map(|missing| missing.id.to_string())
        };
        let what = format!("round {round}: {tips:?} beside {known:?}");
        assert_eq!(check(&tips, &known), None, "{what}");
        let Some(lost) = rng.choice(&new) else { continue };
        let path = source.path().join("objects").join(&lost[..2]).join(&lost[2..]);
        fs::remove_file(path).unwrap();
        assert_eq!(check(&tips, &known).as_ref(), Some(*lost), "{what}");
        let held: Vec<_> = commits
            .iter()
            .filter(|id| whole.contains(&id.to_string()))
            .copied()
            .collect();
        assert_eq!(check(&held, &known), None, "{what}");
        assert_eq!(check(&held, &[]), None, "{what}");
    }
}

#[test]
fn what_is_dropped_is_what_git_says() {
    if !has_git() {
        return;
    }
    let mut rng = fastrand::Rng::with_seed(machine::seed());
    for round in 0..machine::rounds(40) {
        let skew = [0, 300, 100_000][round % 3];
        let (source, commits) = history(&mut rng, 40, skew);
        let (tips, held) = (some(&mut rng, &commits), some(&mut rng, &commits));
        let repo = gix::open_opts(source.path(), isolated()).unwrap();
        let found = dropped::dropped(&repo, &tips, &held, &AtomicBool::new(false));
        let expected = rev_list(&source, &["--abbrev-commit", "--abbrev=7"], (&tips, &held));
        let all = rev_list(&source, &["--abbrev-commit", "--abbrev=7"], (&tips, &[]));
        let names: BTreeSet<String> = found.commits.names.iter().map(|name| name[..7].into()).collect();
        let count = names.len() + usize::try_from(found.commits.more).unwrap();
        let what = format!("round {round}: {tips:?} without {held:?}");
        assert!(!found.is_cut && count >= expected.len(), "{what}");
        assert!(names.is_subset(&all), "{what}");
        if skew == 0 {
            assert_eq!(count, expected.len(), "{what}");
            assert!(names.is_subset(&expected), "{what}");
        } else if found.commits.more == 0 {
            assert!(names.is_superset(&expected), "{what}");
        }
    }
}

/// git takes commits that gitoxide does not: they are lost as others are.
#[test]
fn what_cannot_be_read_whole_is_dropped_as_well() {
    let mut source = Repo::new(Kind::Sha1);
    let ids = source.line(2);
    let tree = source.repo.find_commit(ids[1]).unwrap().tree_id().unwrap();
    let strange = |parent: ObjectId| {
        use gix::objs::Write as _;
        let who = "nobody 1700000000 +0000";
        let text = format!("tree {tree}\nparent {parent}\nauthor {who}\ncommitter {who}\n\nx\n");
        let id = source.repo.write_buf(gix::objs::Kind::Commit, text.as_bytes());
        id.unwrap()
    };
    let first = strange(ids[1]);
    let second = strange(first);
    let dropped = |tips: &[ObjectId], held: &[ObjectId]| {
        let repo = gix::open_opts(source.path(), isolated()).unwrap();
        let found = dropped::dropped(&repo, tips, held, &AtomicBool::new(false));
        assert!(!found.is_cut);
        let names = found.commits.names;
        names.iter().map(|name| name[..7].to_owned()).collect::<Vec<_>>()
    };
    let short = |id: &ObjectId| id.to_hex_with_len(7).to_string();
    assert_eq!(dropped(&[second], &[ids[1]]), [short(&second), short(&first)]);
    assert_eq!(dropped(&[ids[1]], &[second]), [""; 0]);
}
