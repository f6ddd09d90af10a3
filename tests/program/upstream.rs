//! A target's own git configuration says where it comes from, for users who type git there.

use std::{fs, os::unix::fs::MetadataExt as _};

use super::{
    source::file,
    world::{World, git, need},
};

#[test]
fn what_the_configuration_of_the_trigger_says_is_in_that_of_the_repository() {
    if !need("git") {
        return;
    }
    let (world, mut source) = World::with_source();
    let first = source.commit([("a", file("1"))]);
    let other = source.commit_on("next/one", [("a", file("2"))]);
    world.config("");
    world.deploy();
    let site = world.path("site");
    let asked = |args: &[&str]| git(&site, args).trim_end().to_owned();
    assert!(!site.join(".git/ORIG_HEAD").exists(), "there was nothing before");

    // Its owner's own words stay as they are.
    let config = site.join(".git/config");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(
        "[remote \"origin\"]\n",
        "# mine\n[remote \"origin\"] ; and that\n\tpushurl = elsewhere\n",
    ) + "[include]\n\tpath = more\n[alias]\n\tst  =  status # often\n";
    fs::write(&config, &text).unwrap();
    fs::write(site.join(".git/more"), "[user]\n\tname = Ada\n").unwrap();
    let inode = || fs::metadata(&config).unwrap().ino();
    let before = inode();
    world.deploy();
    assert_eq!(inode(), before, "nothing differs");

    fs::rename(world.path("repo.git"), world.path("moved.git")).unwrap();
    world.config_of("\"site\": (repo: \"moved.git\", branch: \"next/one\", path: \"site\"),");
    world.deploy();
    let url = world.path("moved.git");
    let url = fs::canonicalize(url).unwrap();
    assert_eq!(asked(&["config", "remote.origin.url"]), url.to_str().unwrap());
    assert_eq!(asked(&["config", "branch.next/one.merge"]), "refs/heads/next/one");
    assert_eq!(asked(&["config", "branch.next/one.remote"]), "origin");
    assert_eq!(asked(&["config", "branch.main.merge"]), "refs/heads/main");
    assert_eq!(asked(&["symbolic-ref", "HEAD"]), "refs/heads/next/one");
    assert_eq!(
        asked(&["rev-parse", "ORIG_HEAD", "HEAD"]),
        format!("{first}\n{other}")
    );
    assert_eq!(
        asked(&["rev-parse", "--abbrev-ref", "@{upstream}"]),
        "origin/next/one"
    );
    assert_eq!(asked(&["config", "user.name"]), "Ada");
    let now = fs::read_to_string(&config).unwrap();
    for line in text.lines().filter(|line| !line.contains("url = \"")) {
        assert!(now.lines().any(|now| now == line), "{line:?} is not in {now}");
    }
    assert_eq!(now.lines().count(), text.lines().count() + 3, "{now}");
    let before = inode();
    world.deploy();
    assert_eq!(inode(), before);

    // A git at work has it; what is deployed is right all the same.
    fs::write(site.join(".git/config.lock"), "").unwrap();
    world.config_of("\"site\": (repo: \"moved.git\", branch: \"main\", remote: \"up\", path: \"site\"),");
    let ended = world.deploy();
    assert!(ended.err.contains("config"), "{ended:?}");
    assert_eq!(
        asked(&["rev-parse", "HEAD", "ORIG_HEAD"]),
        format!("{first}\n{other}")
    );
    fs::remove_file(site.join(".git/config.lock")).unwrap();
    world.deploy();
    assert_eq!(asked(&["config", "remote.up.url"]), url.to_str().unwrap());
    assert_eq!(
        asked(&["config", "remote.up.fetch"]),
        "+refs/heads/*:refs/remotes/up/*"
    );
    assert_eq!(asked(&["config", "branch.main.remote"]), "up");
}

/// A URL of the same repository is left as it is, and a secret of the trigger's is never written.
#[test]
fn secrets_stay_where_they_are() {
    if !need("git") {
        return;
    }
    let (world, source) = World::with_commit();
    let path = fs::canonicalize(&source.path).unwrap();
    let config = world.path("site/.git/config");
    world.config("");
    world.deploy();
    for url in [format!("file://{}", path.display()), path.display().to_string()] {
        git(&world.path("site"), &["config", "remote.origin.url", &url]);
        let before = fs::read(&config).unwrap();
        world.deploy();
        assert_eq!(fs::read(&config).unwrap(), before);
    }
    // Of two, git fetches from the first.
    git(&world.path("site"), &["config", "remote.origin.url", "/nowhere"]);
    git(
        &world.path("site"),
        &["config", "--add", "remote.origin.url", "/backup"],
    );
    world.deploy();
    let urls = git(&world.path("site"), &["config", "--get-all", "remote.origin.url"]);
    assert_eq!(urls, format!("{}\n/backup\n", path.display()));
}
