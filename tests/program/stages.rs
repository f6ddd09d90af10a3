//! Hooks of releases start in the right directory, are told which, and can write only there.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    source::{Source, file},
    world::{self, Daemon, World, last_line},
};

/// A daemon for a trigger with `fields`, whose sandbox is `sandbox`, and holds; nothing where the kernel cannot make one.
fn daemon(world: &World, sandbox: &str, fields: &str) -> Option<Daemon> {
    let trigger = format!("\"site\": (repo: \"repo.git\", branch: \"main\", path: \"site\", {fields}),");
    world.write(
        "config.ron",
        &format!("(listen: [Unix(path: \"s.sock\")], {sandbox} triggers: {{ {trigger} }})"),
    );
    Daemon::start_shut_in(world, &[])
}

fn world() -> (World, Source) {
    let (world, mut source) = World::with_source();
    source.commit([("a", file("1")), ("b", file("1"))]);
    (world, source)
}

/// The only release that is not one of `others`.
fn other(world: &World, others: &[&Path]) -> PathBuf {
    let entries = fs::read_dir(world.path("site/releases").canonicalize().unwrap()).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.find(|path| !others.contains(&path.as_path())).unwrap()
}

const INSIDE: &str = "sandbox: (mode: BestEffort, hooks: Inside),";
const OUTSIDE: &str = "sandbox: (mode: BestEffort, hooks: Outside),";

/// By the supervisor, which is told a name only, and in the sandbox.
#[test]
fn hooks_know_where_they_are() {
    for (sandbox, live) in [
        (INSIDE, "Symlink"),
        (INSIDE, "Exchange"),
        (OUTSIDE, "Symlink"),
        (OUTSIDE, "Exchange"),
    ] {
        let (world, mut source) = world();
        let hook = world.script(
            "hook",
            "echo \"$1 $(/bin/pwd -P) $PWD\"; echo \"release $GITSOCKET_RELEASE\"; echo \"live $GITSOCKET_LIVE\"
            echo \"previous ${GITSOCKET_PREVIOUS:-none}\"; echo \"dir $GIT_DIR\"; echo \"tree $GIT_WORK_TREE\"
            while read -r line; do echo \"changed $line\"; done < \"$GITSOCKET_CHANGED_FILES\"
            test -s \"$GIT_INDEX_FILE\" && test \"$(/bin/cat a)\" = $2",
        );
        let fields = |n: u32| {
            format!(
                "releases: (live: {live}(\"www\")), hooks: [Exec(run: [{hook:?}, \"Build\", \"{n}\"], at: Build),
                    Exec(run: [{hook:?}, \"Live\", \"{n}\"])]"
            )
        };
        let Some(first) = daemon(&world, sandbox, &fields(1)) else {
            return;
        };
        let site = world.path("site").canonicalize().unwrap_or_else(|_| {
            let dir = world.path("").canonicalize().unwrap();
            dir.join("site")
        });
        let answer = first.say("site\n");
        assert!(
            last_line(&answer).starts_with("ok site 0000000.."),
            "{sandbox} {live}: {answer}"
        );
        assert!(answer.contains("| previous none\n"), "{answer}");
        let www = site.join("www");
        let built = answer
            .lines()
            .find_map(|line| line.strip_prefix("built "))
            .unwrap();
        let old = site.join("releases").join(built);
        drop(first);
        source.commit_on("main", [("a", file("2")), ("b", file("1"))]);
        let daemon = daemon(&world, sandbox, &fields(2)).unwrap();
        let answer = daemon.say("site\n");
        assert!(
            last_line(&answer).starts_with("ok site "),
            "{sandbox} {live}: {answer}"
        );
        let built = answer
            .lines()
            .find_map(|line| line.strip_prefix("built "))
            .unwrap();
        let new = site.join("releases").join(built);
        // What it is called while it is built, and once it is live.
        let then = if live == "Symlink" { &new } else { &www };
        // Before the exchange, the release that is live has no other name.
        let before = if live == "Symlink" { &old } else { &www };
        for (stage, release, previous) in [("Build", &new, before), ("Live", then, &old)] {
            let [release, www, previous, repo] =
                [release, &www, previous, &site.join("repo.git")].map(|path| path.display().to_string());
            let expected = format!(
                "| {stage} {release} {release}\n| release {release}\n| live {www}\n| previous {previous}\n| dir {repo}\n\
                 | tree {release}\n| changed a\n"
            );
            assert!(
                answer.contains(&expected),
                "{sandbox} {live} {stage}: {expected}\n{answer}"
            );
        }
    }
}

/// Of what a hook tries in the sandbox, nothing works that is another release's, or the repository's.
#[test]
fn a_hook_inside_may_write_to_its_own_release() {
    let (world, mut source) = world();
    let quiet = world.script("quiet", "exit 0");
    let fields = |hook: &Path| {
        format!(
            "releases: (shared: [\"up/\"]), hooks: [Exec(run: [{hook:?}, \"Build\"], at: Build), Exec(run: [{hook:?}, \"Live\"])]"
        )
    };
    let Some(first) = daemon(&world, INSIDE, &fields(&quiet)) else {
        return;
    };
    first.deploys("site");
    drop(first);
    let old = other(&world, &[]);
    let hook = world.script(
        "hook",
        "say() { echo \"$1 $?\"; }
        (echo x > built$1) 2>/dev/null; say own
        (echo x > up/$1) 2>/dev/null; say shared
        (echo x > $TMPDIR/x) 2>/dev/null; say tmp
        (: < $GITSOCKET_PREVIOUS/a) 2>/dev/null; say reads
        /bin/mv built$1 moved$1 2>/dev/null; say moves
        (echo x > $GITSOCKET_PREVIOUS/a) 2>/dev/null; say previous
        /bin/rm -f $GITSOCKET_PREVIOUS/b 2>/dev/null; say removes
        (echo x > $GITSOCKET_PATH/current/../../x) 2>/dev/null; say beside
        /bin/ln -sfn /etc $GITSOCKET_PATH/current 2>/dev/null; say current
        /bin/mkdir $GITSOCKET_PATH/releases/20261125T201500Z-5d6e7f8 2>/dev/null; say release
        /bin/mv $GITSOCKET_RELEASE $GITSOCKET_PATH/releases/x 2>/dev/null; say name
        (echo x > $GIT_DIR/config) 2>/dev/null; say config
        (echo x > $GIT_DIR/hooks/post-checkout) 2>/dev/null; say hooks
        /bin/mkdir $GIT_DIR/hooks 2>/dev/null; say dir
        (echo x > $GIT_INDEX_FILE) 2>/dev/null; say index
        (echo x > $GIT_DIR/gitsocket/releases.json) 2>/dev/null; say record
        (echo x > $GIT_DIR/gitsocket/state.json) 2>/dev/null; say state
        /bin/ln $GITSOCKET_PREVIOUS/a hard$1 2>/dev/null; say link
        (echo x > ../../../beside) 2>/dev/null; say outside
        exit 0",
    );
    source.commit_on("main", [("a", file("2")), ("b", file("1"))]);
    let before = fs::read_to_string(world.path("site/repo.git/config")).unwrap();
    let daemon = daemon(&world, INSIDE, &fields(&hook)).unwrap();
    let answer = daemon.deploys("site");
    for line in ["own", "shared", "tmp", "reads", "moves"] {
        assert_eq!(
            answer.matches(&format!("| {line} 0\n")).count(),
            2,
            "{line}: {answer}"
        );
    }
    for line in [
        "previous", "removes", "beside", "current", "release", "name", "config", "hooks", "dir", "index",
        "record", "state", "link", "outside",
    ] {
        assert!(answer.contains(&format!("| {line} ")), "{line}: {answer}");
        assert!(!answer.contains(&format!("| {line} 0\n")), "{line}: {answer}");
    }
    assert_eq!(
        fs::read_to_string(world.path("site/repo.git/config")).unwrap(),
        before
    );
    assert_eq!(fs::read_to_string(old.join("a")).unwrap(), "1");
    assert!(old.join("b").exists());
    let new = other(&world, &[&old]);
    assert_eq!(
        fs::read_link(world.path("site/current")).unwrap(),
        Path::new("releases").join(new.file_name().unwrap())
    );
    let mut made: Vec<String> = world::tree(&new).into_keys().collect();
    made.retain(|name| name != "up");
    assert_eq!(made, ["a", "b", "movedBuild", "movedLive"]);
    assert_eq!(fs::metadata(old.join("a")).unwrap().nlink(), 1);
    assert!(world.path("site/shared/up/Build").exists() && world.path("site/shared/up/Live").exists());
    assert!(!world.path("beside").exists() && !world.path("site/x").exists());
}

/// The supervisor follows nothing that a hook has put in a release's place.
#[test]
fn a_link_in_a_releases_place_is_not_followed() {
    let (world, _source) = world();
    let swap = world.script(
        "swap",
        "/bin/mv $GITSOCKET_RELEASE $GITSOCKET_PATH/../away && /bin/ln -s $GITSOCKET_PATH/../away $GITSOCKET_RELEASE",
    );
    let next = world.script("next", "echo ran > $GITSOCKET_PATH/../ran");
    let fields =
        format!("releases: (), hooks: [Exec(run: [{swap:?}], at: Build), Exec(run: [{next:?}], at: Build)]");
    let Some(daemon) = daemon(&world, OUTSIDE, &fields) else {
        return;
    };
    let answer = daemon.say("site\n");
    let last = last_line(&answer);
    assert!(
        last.starts_with("error site build: cannot start the hook "),
        "{answer}"
    );
    assert!(last.contains("; nothing has changed"), "{answer}");
    assert!(!world.path("ran").exists() && world.path("away").is_dir());
}

/// What fails before a release is live is told in the one that is.
#[test]
fn a_failed_build_changes_nothing_and_is_told() {
    let (world, mut source) = world();
    let build = world.script("build", "test \"$(/bin/cat a)\" != 2");
    let tell = world.script(
        "tell",
        "echo \"$(/bin/pwd -P) $GITSOCKET_RELEASE $GITSOCKET_FAILURE\"",
    );
    let fields = format!(
        "releases: (), hooks: [Exec(run: [{build:?}], at: Build), Exec(run: [{tell:?}], at: Failed)]"
    );
    let Some(daemon) = daemon(&world, INSIDE, &fields) else {
        return;
    };
    daemon.deploys("site");
    let live = world.path("site/current").canonicalize().unwrap();
    source.commit_on("main", [("a", file("2"))]);
    for _ in 0..2 {
        let answer = daemon.say("site\n");
        let live = live.display().to_string();
        let failure = "build: the hook ";
        assert!(answer.contains(&format!("| {live} {live} {failure}")), "{answer}");
        assert!(
            last_line(&answer).contains(" ended with exit status 1; nothing has changed ("),
            "{answer}"
        );
        assert!(!answer.contains("\nlive "), "{answer}");
        // Nor does anything say that the new one is deployed, or that hooks are pending for it.
        let status = daemon.say("{\"op\":\"status\",\"name\":\"site\"}\n");
        let status: serde_json::Value = serde_json::from_str(status.lines().next().unwrap()).unwrap();
        let last = &status["last"];
        let commit = live.rsplit('-').next().unwrap();
        assert!(status["commit"].as_str().unwrap().starts_with(commit), "{status}");
        assert_eq!(status["hooks_owed"], false, "{status}");
        assert_eq!(
            (&last["new"], last["changed"].as_u64()),
            (&serde_json::Value::Null, Some(0)),
            "{status}"
        );
        assert_eq!(status["failing"]["kind"], "build", "{status}");
        let line = daemon.say("status site\n");
        assert!(line.contains("; release 20") && line.contains(commit), "{line}");
    }
    assert_eq!(world.path("site/current").canonicalize().unwrap(), live);
    assert_eq!(world.run(["once", "site"]).exit, 1);
    source.commit_on("main", [("a", file("3"))]);
    daemon.deploys("site");
    assert_eq!(fs::read_to_string(world.path("site/current/a")).unwrap(), "3");
}
