//! A commit that is held stays so where several triggers share a path, and where its replacement is gone.

use std::{fs, process::Command};

use super::{
    source::{Source, file},
    world::{Ended, World},
};

/// Two triggers of one path, `site` of the branch `main` and `two` of `other`, whose hook fails at a commit that is sick.
struct Shared {
    world: World,
    source: Source,
    live: &'static str,
}

impl Shared {
    fn new(more: &str, live: &'static str) -> Self {
        let (world, source) = World::with_source();
        let hook = world.script("hook", "read x < a; case $x in sick*) exit 3;; esac");
        let trigger = |name: &str, branch: &str| {
            format!(
                "{name:?}: (repo: \"repo.git\", branch: {branch:?}, path: \"site\", hooks: [Exec(run: [{hook:?}])], {more})"
            )
        };
        world.config_of(&format!(
            "{}, {}",
            trigger("site", "main"),
            trigger("two", "other")
        ));
        Self { world, source, live }
    }

    fn push(&mut self, branch: &str, text: &str) {
        self.source.commit_on(branch, [("a", file(&format!("{text}\n")))]);
    }

    fn once(&self, args: &[&str]) -> Ended {
        self.world.run(["once"].iter().chain(args))
    }

    fn deploy(&mut self, name: &str, branch: &str, text: &str) {
        self.push(branch, text);
        let ended = self.once(&[name]);
        assert_eq!(ended.exit, 0, "{ended:?}");
        assert_eq!(self.live(), text);
    }

    fn live(&self) -> String {
        let file = self.world.path("site").join(self.live).join("a");
        fs::read_to_string(file).unwrap().trim_end().into()
    }

    fn is_held(&self, name: &str) {
        let ended = self.once(&[name]);
        assert_eq!(ended.exit, 1, "{ended:?}");
        assert!(ended.err.contains(&format!("error {name} held: ")), "{ended:?}");
    }
}

#[test]
fn what_another_trigger_deploys_stays() {
    for (more, live) in [("releases: (keep: 3)", "current"), ("on_failure: Rollback", "")] {
        let mut shared = Shared::new(more, live);
        shared.deploy("site", "main", "m1");
        shared.deploy("two", "other", "o1");
        shared.deploy("site", "main", "m2");
        shared.push("main", "sick main");
        assert_eq!(shared.once(&["site"]).exit, 7);
        assert_eq!(shared.live(), "m2");
        shared.deploy("two", "other", "o2");
        for _ in 0..2 {
            shared.is_held("site");
            assert_eq!(shared.live(), "o2", "{more}");
        }
        // Also after a way back by hand.
        assert_eq!(shared.once(&["--rollback", "two"]).exit, 0);
        shared.is_held("two");
        let live = shared.live();
        shared.is_held("site");
        assert_eq!(shared.live(), live, "{more}");
        // What is tried again is the trigger's own.
        let ended = shared.once(&["--retry", "two"]);
        assert_eq!(ended.exit, 0, "{ended:?}");
        assert_eq!(shared.live(), "o2");
        shared.is_held("site");
        assert_eq!(shared.live(), "o2");
        // Of many deploys, what was to be live instead is gone.
        for n in 3..9 {
            shared.deploy("two", "other", &format!("o{n}"));
        }
        shared.is_held("site");
        assert_eq!(shared.live(), "o8");
    }
}

#[test]
fn what_was_to_be_live_and_is_gone_is_deployed_again() {
    for live in ["Symlink", "Exchange"] {
        for is_restored in [false, true] {
            let mut shared = Shared::new(
                &format!("releases: (keep: 3, live: {live}(\"current\"))"),
                "current",
            );
            for text in ["m1", "m2"] {
                shared.deploy("site", "main", text);
            }
            shared.push("main", "sick");
            assert_eq!(shared.once(&["site"]).exit, 7);
            let site = shared.world.path("site");
            if is_restored {
                // As a backup is: other directories with the same names.
                let copied = Command::new("cp")
                    .args(["-a", "site", "copy"])
                    .current_dir(shared.world.path("."))
                    .status();
                assert!(copied.unwrap().success());
                fs::remove_dir_all(&site).unwrap();
                fs::rename(shared.world.path("copy"), &site).unwrap();
            } else {
                fs::remove_dir_all(site.join("releases")).unwrap();
                fs::remove_file(site.join("current"))
                    .or_else(|_| fs::remove_dir_all(site.join("current")))
                    .unwrap();
            }
            let mut ended = shared.once(&["site"]);
            if let Some(command) = ended.err.split("type: ").nth(1) {
                let command = command.split([';', ')']).next().unwrap();
                assert!(
                    Command::new("sh")
                        .args(["-c", command])
                        .status()
                        .unwrap()
                        .success()
                );
                ended = shared.once(&["site"]);
            }
            assert_eq!(ended.exit, 1, "{ended:?}");
            assert!(ended.err.contains("error site held: "), "{ended:?}");
            assert!(ended.err.contains("nothing was live: "), "{ended:?}");
            assert_eq!(shared.live(), "m2");
            shared.is_held("site");
            assert_eq!(shared.live(), "m2");
            shared.deploy("site", "main", "m3");
        }
    }
}

#[test]
fn the_way_back_from_nothing() {
    let mut shared = Shared::new("releases: (keep: 3)", "current");
    for text in ["m1", "m2", "m3"] {
        shared.deploy("site", "main", text);
    }
    let current = shared.world.path("site/current");
    fs::remove_dir_all(fs::canonicalize(&current).unwrap()).unwrap();
    let ended = shared.once(&["--rollback", "site"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    assert_eq!(shared.live(), "m2");
}
