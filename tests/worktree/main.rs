//! The worktree engine leaves what git leaves: two worktrees live through the same history and the same dirt.
//!
//! One is updated by `git reset --hard` and `git clean`, the other by `worktree::update`; then they must be the same.
//! GITSOCKET_LEAVE leaves the worktrees of a failure.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "this is a test")]
#![allow(unreachable_pub, reason = "a test binary has no public API")]

mod compare;
mod content;
mod dirt;
#[path = "../support/machine.rs"]
mod machine;
mod model;

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{Mutex, PoisonError},
};

use compare::{same, snapshot};
use fastrand::Rng;
use gitsocket::config::Clean;
use model::{GIT, History, Node, OURS, Pair};

/// A process has one umask: held while it is played with.
static UMASK: Mutex<()> = Mutex::new(());

#[test]
fn leaves_what_git_leaves() {
    let _alone = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    if !machine::need("git") {
        return;
    }
    let seed = machine::seed();
    let steps = machine::rounds(45);
    let mut rng = Rng::with_seed(seed);
    let mut tmp = machine::tempdir().unwrap();
    tmp.disable_cleanup(std::env::var_os("GITSOCKET_LEAVE").is_some());
    let mut done = 0;
    while done < steps {
        let dir = tmp.path().join(done.to_string());
        let mut pair = Pair::new(&dir, &mut rng, None);
        let length = 25.min(steps - done);
        for step in 0..length {
            pair.step(&mut rng, &format!("seed {seed}, step {}", done + step));
        }
        pair.finish();
        done += length;
        fs::remove_dir_all(dir).unwrap();
    }
}

/// The same with a history that people made: the one at GITSOCKET_HISTORY (a git directory), or else this project's own.
#[test]
fn follows_a_real_history() {
    let _alone = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(history) = History::find() else {
        return;
    };
    let seed = machine::seed();
    let steps = machine::rounds(12);
    eprintln!("{steps} steps through {}", history.objects.display());
    let mut rng = Rng::with_seed(seed);
    let tmp = machine::tempdir().unwrap();
    let mut pair = Pair::new(tmp.path(), &mut rng, Some(history));
    for step in 0..steps {
        pair.step(&mut rng, &format!("seed {seed}, step {step}"));
    }
    pair.finish();
}

/// Thousands of small files in one checkout, with all that may be converted in them.
#[test]
fn converts_what_git_converts() {
    let _alone = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    if !machine::need("git") {
        return;
    }
    let seed = machine::seed();
    let mut rng = Rng::with_seed(seed);
    let tmp = machine::tempdir().unwrap();
    let mut pair = Pair::new(tmp.path(), &mut rng, None);
    let mut attributes = String::new();
    for (at, wanted) in CONVERSIONS.iter().enumerate() {
        attributes += &format!("*.{at} {wanted}\n");
    }
    // A byte order mark is part of a pattern in a blob, and not in a file.
    pair.put(".gitattributes".into(), Node::File(attributes.into(), false));
    let marked = "\u{feff}*.x ident\n*.y ident\n";
    pair.put("bom/.gitattributes".into(), Node::File(marked.into(), false));
    for side in [GIT, OURS] {
        fs::create_dir_all(pair.root(side).join(".git/info")).unwrap();
        fs::write(
            pair.root(side).join(".git/info/attributes"),
            "\u{feff}*.z ident\n",
        )
        .unwrap();
    }
    for name in ["bom/a.x", "bom/a.y", "bom/a.z", "bom/\u{feff}a.x"] {
        pair.put(name.into(), Node::File(b"$Id$".to_vec(), false));
    }
    for at in 0..5000 {
        let path = format!("{at}.{}", at % CONVERSIONS.len());
        pair.tree.insert(path, Node::File(keywords(&mut rng), false));
    }
    let commit = pair.commit_tree();
    pair.update(&commit, Clean::Nothing, &[]).unwrap();
    pair.git(GIT, &["reset", "-q", "--hard", &commit]);
    let (theirs, ours) = (snapshot(&pair.root(GIT)), snapshot(&pair.root(OURS)));
    same(&theirs, &ours, &format!("seed {seed}"));
}

/// Where a link leads to a directory, git takes that for the submodule's, and then cleans the link away.
#[test]
fn makes_the_directory_of_a_submodule_behind_a_link() {
    let _alone = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    if !machine::need("git") {
        return;
    }
    let tmp = machine::tempdir().unwrap();
    let mut pair = Pair::new(tmp.path(), &mut Rng::with_seed(0), None);
    pair.put("a/file".into(), Node::File(b"x".to_vec(), false));
    pair.put("b/a".into(), Node::Submodule);
    let commit = pair.commit_tree();
    for round in ["new", "replaced by a link"] {
        pair.update(&commit, Clean::Untracked, &[]).unwrap();
        pair.git(GIT, &["reset", "-q", "--hard", &commit]);
        pair.git(GIT, &["clean", "-dfq"]);
        let is_new = round == "new";
        assert_eq!(
            pair.root(GIT).join("b/a").is_dir(),
            is_new,
            "git has changed its mind"
        );
        pair.make_submodules(&commit);
        same(&snapshot(&pair.root(GIT)), &snapshot(&pair.root(OURS)), round);
        for side in [GIT, OURS] {
            fs::remove_dir_all(pair.root(side).join("b")).unwrap();
            symlink("./", pair.root(side).join("b")).unwrap();
        }
    }
}

/// What attributes ask for.
const CONVERSIONS: [&str; 16] = [
    "ident",
    "ident -text",
    "ident text",
    "ident text eol=crlf",
    "ident text eol=lf",
    "ident text=auto",
    "ident text=auto eol=crlf",
    "ident text=auto eol=lf",
    "ident working-tree-encoding=UTF-16",
    "ident working-tree-encoding=utf8",
    "ident text eol=crlf working-tree-encoding=UTF-16LE-BOM",
    "working-tree-encoding=cp437",
    "working-tree-encoding=ISO8859-9",
    "working-tree-encoding=UCS-4",
    "working-tree-encoding=unheard-of",
    "working-tree-encoding=latin-1",
];

/// Text made of what matters to keywords, and some that only few encodings have.
fn keywords(rng: &mut Rng) -> Vec<u8> {
    const PARTS: [&str; 19] = [
        "$", "$", "$", "Id", "Id", "Id", ":", ":", " ", "\t", "\n", "\r\n", "\0", "x", "I", "d", "é", "€",
        "$Id$",
    ];
    (0..rng.usize(..16))
        .map(|_| PARTS[rng.usize(..PARTS.len())])
        .collect::<String>()
        .into()
}
