//! What is at a target's path, case by case.

use std::sync::Arc;

use super::*;
use crate::config::{Config, Source};

/// A target for `dir/site`, which is there.
fn target(dir: &Path, more: &str) -> Arc<Target> {
    fs::create_dir_all(dir.join("site")).unwrap();
    let text = format!("(triggers: {{\"x\": (repo: \"r.git\", path: \"site\", {more})}})");
    let file = dir.join("config.ron");
    let config = Config::parse(&Source { file, text }).unwrap();
    config.triggers["x"].clone()
}

#[test]
fn places() {
    let dir = crate::machine::tempdir().unwrap();
    let target = target(dir.path(), "");
    let at = |name: &str| dir.path().join("site").join(name);
    assert_eq!(find(&target).unwrap(), Existing::Nothing);
    let old = at(".git.gitsocket-new");
    fs::create_dir_all(old.join("objects")).unwrap();
    assert_eq!(
        find(&target).unwrap(),
        Existing::Nothing,
        "a killed clone's rest is nothing"
    );
    clear_old(&target).unwrap();
    assert!(!old.exists());

    fs::write(at("mine"), "").unwrap();
    assert!(matches!(find(&target), Err(Error::Occupied { .. })));
    fs::write(at(".git"), "gitdir: /elsewhere").unwrap();
    assert!(matches!(find(&target), Err(Error::Elsewhere { .. })));
    fs::remove_file(at(".git")).unwrap();
    std::os::unix::fs::symlink("/", at(".git")).unwrap();
    assert!(matches!(find(&target), Err(Error::Elsewhere { .. })));
    fs::remove_file(at(".git")).unwrap();
    for name in ["", "gitsocket"] {
        fs::create_dir(at(".git").join(name)).unwrap();
        assert!(matches!(find(&target), Err(Error::Occupied { .. })));
    }
    fs::create_dir(at(".git/objects")).unwrap();
    assert_eq!(find(&target).unwrap(), Existing::Worktree(at(".git")));
    fs::write(at(".git/HEAD"), "").unwrap();
    assert_eq!(find(&target).unwrap(), Existing::Worktree(at(".git")));
    fs::remove_dir_all(dir.path().join("site")).unwrap();
    assert_eq!(find(&target).unwrap(), Existing::Nothing);
}

/// What a kill leaves between two renames goes; what is not ours stays, and all with it.
#[test]
fn an_unfinished_clone() {
    let dir = crate::machine::tempdir().unwrap();
    let target = target(dir.path(), "");
    let at = |name: &str| dir.path().join("site/.git").join(name);
    let leave = || {
        for name in ["gitsocket/clone/refs", "objects/pack", "hooks", "info", "logs"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        for name in ["gitsocket/clone/HEAD", "gitsocket/lock", "config", "packed-refs"] {
            fs::write(at(name), "").unwrap();
        }
    };
    for (strange, there) in [("mine", "mine"), ("hooks/mine", "hooks"), ("index", "index")] {
        leave();
        fs::write(at(strange), "").unwrap();
        let err = inspect(&target).unwrap_err();
        assert!(matches!(err, Error::Beside { .. }), "{err}");
        assert!(err.to_string().contains(&format!("{strange:?}")), "{err}");
        assert!(at("objects/pack").exists() && at(strange).exists() && at(there).exists());
        fs::remove_file(at(strange)).unwrap();
    }
    leave();
    assert_eq!(inspect(&target).unwrap(), Existing::Nothing);
    assert_eq!(fs::read_dir(at("")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(at("gitsocket")).unwrap().count(), 1, "the lock");
}

#[test]
fn a_git_directory_elsewhere() {
    let dir = crate::machine::tempdir().unwrap();
    let target = target(dir.path(), "git_dir: \"lib/x.git\"");
    let git_dir = dir.path().join("lib/x.git");
    assert_eq!(inspect(&target).unwrap(), Existing::Nothing);
    let repo = build(&target, gix::hash::Kind::Sha1)
        .unwrap()
        .finish(None)
        .unwrap();
    assert_eq!(repo.git_dir(), git_dir);
    assert_eq!(fs::read_dir(dir.path().join("lib")).unwrap().count(), 1);
    let names = fs::read_dir(git_dir.join("gitsocket")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["state.json"]);
    assert_eq!(inspect(&target).unwrap(), Existing::Worktree(git_dir.clone()));
    // The files are there, or they have all gone.
    let mine = dir.path().join("site/mine");
    fs::write(&mine, "").unwrap();
    assert_eq!(inspect(&target).unwrap(), Existing::Worktree(git_dir.clone()));

    let dot_git = dir.path().join("site/.git");
    fs::create_dir(&dot_git).unwrap();
    assert!(matches!(inspect(&target), Err(Error::Two { .. })));
    fs::remove_dir(&dot_git).unwrap();

    let config = git_dir.join("config");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("/site\"", "/other\"")).unwrap();
    let err = inspect(&target).unwrap_err().to_string();
    assert!(
        err.contains("belongs to") && err.contains("/other, not to"),
        "{err}"
    );
    fs::write(&config, "[core]\n\trepositoryformatversion = 0\n").unwrap();
    let err = inspect(&target).unwrap_err().to_string();
    assert!(err.contains("belongs to no worktree"), "{err}");

    fs::remove_dir_all(&git_dir).unwrap();
    let help = crate::base::fault::Failure::of(&inspect(&target).unwrap_err())
        .help
        .unwrap();
    assert!(
        help.contains("move its git directory to") && help.contains("lib/x.git"),
        "{help}"
    );
    fs::write(&git_dir, "").unwrap();
    assert!(matches!(
        inspect(&target),
        Err(Error::NotADirectory { what: "file", .. })
    ));
}

#[test]
fn a_clone_that_is_given_up_leaves_nothing() {
    let dir = crate::machine::tempdir().unwrap();
    let target = target(dir.path(), "");
    for hash in [gix::hash::Kind::Sha1, gix::hash::Kind::Sha256] {
        let building = build(&target, hash).unwrap();
        assert_eq!(building.repo().object_hash(), hash);
        drop(building);
        let left = fs::read_dir(dir.path().join("site/.git/gitsocket")).unwrap();
        assert_eq!(left.count(), 0);
    }
}
