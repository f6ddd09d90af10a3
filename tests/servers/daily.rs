//! Checks that every server has to pass, whatever it is and however it is reached.

use std::fs;

use super::{
    configure, configure_branch, fails,
    source::{Entry, Source, file},
    world::World,
};

/// More refs than fit into one packet, or into one buffer.
const MANY: usize = 3000;

/// A server of the repositories below a world.
pub struct Remote<'a> {
    pub world: &'a World,
    /// The URL that the repositories are below.
    pub base: String,
    /// What a trigger must say to be let in.
    pub more: String,
    /// Whether it takes a client's bounds of history in any order. Before version 2, gix says `deepen` before `shallow`;
    /// gitprotocol-pack(5) has it the other way round, and dulwich insists.
    pub lenient: bool,
}

impl Remote<'_> {
    fn configure(&self, more: &str) {
        let url = format!("{}/repo.git", self.base);
        configure(self.world, &url, &format!("{} {more}", self.more));
    }

    fn deploy(&self) -> String {
        self.world.deploy().out
    }
}

/// Everything that happens to a site in its life. Gives what is said when a branch, or the repository, is not there.
pub fn life(remote: &Remote<'_>) -> (String, String) {
    let mut source = remote.world.source();
    remote.configure("");
    assert!(fails(remote.world, 1).contains("empty"), "nothing was pushed yet");
    updates(remote, &mut source);
    other_branches(remote, &mut source);
    shallow(remote, &mut source);
    let refused = missing(remote);
    many_refs(remote, &mut source);
    refused
}

fn updates(remote: &Remote<'_>, source: &mut Source) {
    let world = remote.world;
    source.commit([
        ("a", file("1")),
        ("dir/b", Entry::Executable(b"2".into())),
        ("link", Entry::Symlink("a".into())),
    ]);
    assert!(remote.deploy().starts_with("ok site 0000000.."));
    assert_eq!(world.site()["dir/b"], Entry::Executable(b"2".into()));
    assert_eq!(world.site()["link"], Entry::Symlink("a".into()));

    let mut random = vec![0; 3 << 20];
    fastrand::Rng::with_seed(7).fill(&mut random);
    let commit = source.commit([("a", file("2")), ("big", Entry::File(random.clone()))]);
    let out = remote.deploy();
    assert!(out.contains(&commit.to_hex_with_len(7).to_string()), "{out}");
    assert_eq!(world.site().len(), 2);
    assert!(
        world.site()["big"] == Entry::File(random),
        "the large file is another"
    );
    assert!(remote.deploy().starts_with("ok site up-to-date "));
    let ended = world.run(["check", "--remote"]);
    assert!(ended.out.contains("site: main of "), "{ended:?}");

    source.rewrite([("a", file("forced"))]);
    remote.deploy();
    assert_eq!(world.site()["a"], file("forced"));
    assert_eq!(world.site().len(), 1);
}

fn other_branches(remote: &Remote<'_>, source: &mut Source) {
    let tip = source.commit_on("feature/ä", [("a", file("feature"))]);
    source.point("refs/tags/v1", tip);
    let url = format!("{}/repo.git", remote.base);
    for revision in ["branch: \"feature/ä\"", "tag: \"v1\""] {
        fs::remove_dir_all(remote.world.path("site")).unwrap();
        remote.world.config_of(&format!(
            "\"site\": (repo: {url:?}, {revision}, {} {}),",
            super::OPTIONS,
            remote.more
        ));
        remote.deploy();
        assert_eq!(remote.world.site()["a"], file("feature"), "{revision}");
    }
}

fn shallow(remote: &Remote<'_>, source: &mut Source) {
    let world = remote.world;
    for text in ["1", "2", "3"] {
        source.commit([("a", file(text))]);
    }
    fs::remove_dir_all(world.path("site")).unwrap();
    remote.configure("depth: 1,");
    let bound = || fs::read_to_string(world.path("site/.git/shallow")).unwrap();
    remote.deploy();
    assert_eq!(world.site()["a"], file("3"));
    assert_eq!(bound().lines().count(), 1);
    assert!(remote.deploy().starts_with("ok site up-to-date "));
    if !remote.lenient {
        return;
    }
    let tip = source.commit([("a", file("4"))]);
    remote.deploy();
    assert_eq!(world.site()["a"], file("4"));
    assert!(bound().contains(&tip.to_string()), "the bound moves: {}", bound());
    source.rewrite([("a", file("5"))]);
    remote.deploy();
    assert_eq!(world.site()["a"], file("5"));
}

fn missing(remote: &Remote<'_>) -> (String, String) {
    let url = |name: &str| format!("{}/{name}", remote.base);
    configure_branch(remote.world, &url("repo.git"), "mian", &remote.more);
    let before = remote.world.site();
    let branch = fails(remote.world, 1);
    configure(remote.world, &url("missing.git"), &remote.more);
    let repository = fails(remote.world, 1);
    assert_eq!(remote.world.site(), before, "the worktree stays");
    (branch, repository)
}

fn many_refs(remote: &Remote<'_>, source: &mut Source) {
    let tip = source.commit([("a", file("6"))]);
    let refs: String = (0..MANY).map(|i| format!("{tip} refs/heads/b{i:05}\n")).collect();
    fs::write(source.path.join("packed-refs"), refs).unwrap();
    fs::remove_dir_all(remote.world.path("site")).unwrap();
    remote.configure("");
    remote.deploy();
    assert_eq!(remote.world.site()["a"], file("6"));
    source.commit([("a", file("7"))]);
    remote.deploy();
    assert_eq!(remote.world.site()["a"], file("7"));
}
