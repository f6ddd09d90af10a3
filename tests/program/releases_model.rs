//! Random sequences of events leave releases as a model says: what is live, held, kept and spare.

use std::{collections::BTreeSet, fs, path::Path};

use super::{
    source::{Source, file},
    world::{Ended, World, machine, tree},
};

/// What a commit turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    Good,
    /// It cannot be built.
    Broken,
    /// Its hook fails once it is live.
    Sick,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Push(Nature),
    Run,
    Rollback,
    Retry,
    /// A run is killed while a hook runs: at Build, or at Live.
    Kill(&'static str),
    Keep(usize),
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Release {
    /// Its commit, by the number of its push.
    commit: usize,
    good: bool,
    /// It was taken back, and has not been good since.
    rejected: bool,
    turn: usize,
}

/// What should be.
#[derive(Debug, Default)]
struct Model {
    natures: Vec<Nature>,
    keep: usize,
    /// In the order in which they were made.
    releases: Vec<Release>,
    /// The one that is live.
    live: Option<usize>,
    turn: usize,
    held: BTreeSet<usize>,
    /// A tree was begun that has never been live.
    has_half: bool,
}

impl Model {
    fn tip(&self) -> usize {
        self.natures.len() - 1
    }

    fn live_commit(&self) -> Option<usize> {
        self.live.map(|at| self.releases[at].commit)
    }

    /// Those that are kept, in the order in which they are tried.
    fn kept(&self) -> Vec<usize> {
        let mut good: Vec<usize> = (0..self.releases.len())
            .filter(|at| Some(*at) != self.live && self.releases[*at].good)
            .collect();
        good.sort_by_key(|at| {
            let Release { rejected, turn, .. } = self.releases[*at];
            (rejected, std::cmp::Reverse(turn))
        });
        let mut commits: BTreeSet<usize> = self.live_commit().into_iter().collect();
        good.retain(|at| commits.insert(self.releases[*at].commit));
        good.truncate(self.keep);
        good
    }

    /// Those that are neither live, nor kept, nor were live until now, the oldest first.
    fn rest(&self) -> Vec<usize> {
        let kept = self.kept();
        let is_left = |at: &usize| {
            Some(*at) != self.live && !kept.contains(at) && self.releases[*at].turn + 1 < self.turn
        };
        (0..self.releases.len()).filter(is_left).collect()
    }

    fn remove(&mut self, at: usize) {
        self.releases.remove(at);
        self.live = self.live.map(|live| live - usize::from(at < live));
    }

    /// Of the rest, one is the spare tree.
    fn prune(&mut self) {
        let mut rest = self.rest();
        if !self.has_half && !rest.is_empty() {
            rest.remove(0);
        }
        rest.into_iter().rev().for_each(|at| self.remove(at));
    }

    /// A tree is begun: of one that is half done, else of the spare one.
    fn begin(&mut self) {
        match self.rest().first() {
            _ if self.has_half => {}
            Some(spare) => self.remove(*spare),
            None => {}
        }
        self.has_half = true;
    }

    fn switch(&mut self, at: usize) {
        self.turn += 1;
        self.releases[at].turn = self.turn;
        self.live = Some(at);
    }

    fn make_live(&mut self, commit: usize) {
        self.has_half = false;
        self.releases.push(Release {
            commit,
            good: false,
            rejected: false,
            turn: 0,
        });
        self.switch(self.releases.len() - 1);
    }

    /// The release that is gone back to by itself, or by hand.
    fn older(&self) -> Option<usize> {
        let mut kept = self.kept().into_iter();
        kept.find(|at| {
            let Release { rejected, commit, .. } = self.releases[*at];
            !rejected && !self.held.contains(&commit)
        })
    }

    /// What is live is taken back, for the one at `older`.
    fn go_back(&mut self, older: usize) {
        if let Some(live) = self.live {
            self.releases[live].rejected = true;
        }
        self.switch(older);
        self.well();
    }

    /// What is live is well.
    fn well(&mut self) {
        if let Some(live) = self.live {
            self.releases[live].good = true;
            self.releases[live].rejected = false;
        }
        self.prune();
    }

    /// A run; gives its exit status.
    fn run(&mut self, retry: bool) -> i32 {
        let tip = self.tip();
        if self.held.contains(&tip) && !retry {
            return 1;
        }
        self.held.clear();
        if self.live_commit() != Some(tip) {
            self.begin();
            if self.natures[tip] == Nature::Broken {
                return 1;
            }
            self.make_live(tip);
        }
        match self.natures[tip] {
            Nature::Sick => {
                let Some(older) = self.older() else { return 5 };
                self.held.insert(tip);
                self.go_back(older);
                7
            }
            _ => {
                self.well();
                0
            }
        }
    }

    fn rollback(&mut self) -> i32 {
        let (Some(older), Some(left)) = (self.older(), self.live_commit()) else {
            return 1;
        };
        self.held.insert(left);
        self.held.remove(&self.releases[older].commit);
        self.go_back(older);
        0
    }
}

struct Test {
    world: World,
    source: Source,
    model: Model,
}

impl Test {
    fn new() -> Self {
        let (world, source) = World::with_source();
        let base = world.path("");
        let base = base.display();
        world.script(
            "build",
            &format!("[ ! -e {base}/kill-build ] || {{ rm {base}/kill-build; kill -9 $PPID; exit 0; }}; [ ! -e broken ] && echo made > made"),
        );
        world.script(
            "live",
            &format!("[ ! -e {base}/kill-live ] || {{ rm {base}/kill-live; kill -9 $PPID; exit 0; }}; [ ! -e sick ]"),
        );
        let mut test = Self {
            world,
            source,
            model: Model::default(),
        };
        test.keep(2);
        test.push(Nature::Good);
        test
    }

    fn keep(&mut self, keep: usize) {
        self.model.keep = keep;
        let at = |name: &str| self.world.path(name);
        self.world.config(&format!(
            "releases: (keep: {keep}), hooks: [Exec(run: [{:?}], at: Build), Exec(run: [{:?}])]",
            at("build"),
            at("live")
        ));
    }

    fn push(&mut self, nature: Nature) {
        let number = self.model.natures.len().to_string();
        let mut files = vec![("number", file(&number)), ("same", file("same"))];
        match nature {
            Nature::Good => {}
            Nature::Broken => files.push(("broken", file(""))),
            Nature::Sick => files.push(("sick", file(""))),
        }
        self.source.commit(files);
        self.model.natures.push(nature);
    }

    fn step(&mut self, step: Step) -> (Option<Ended>, i32) {
        match step {
            Step::Push(nature) => {
                self.push(nature);
                (None, 0)
            }
            Step::Keep(keep) => {
                self.keep(keep);
                (None, 0)
            }
            Step::Run => (Some(self.world.run(["once", "site"])), self.model.run(false)),
            Step::Retry => (
                Some(self.world.run(["once", "--retry", "site"])),
                self.model.run(true),
            ),
            Step::Rollback => (
                Some(self.world.run(["once", "--rollback", "site"])),
                self.model.rollback(),
            ),
            Step::Kill(at) => {
                let kill = self.world.write(&format!("kill-{at}"), "");
                let killed = self.world.run(["once", "site"]);
                let was_killed = killed.exit == -1;
                fs::remove_file(kill).ok();
                // Whatever it had done, the next run ends as if it had not been.
                let exit = self.model.run(false);
                if was_killed {
                    (Some(self.world.run(["once", "site"])), exit)
                } else {
                    (Some(killed), exit)
                }
            }
        }
    }

    fn check(&self, what: &str) {
        let site = self.world.path("site");
        let number = |dir: &Path| fs::read_to_string(dir.join("number")).unwrap_or_default();
        let model = &self.model;
        let live = model
            .live_commit()
            .map(|commit| commit.to_string())
            .unwrap_or_default();
        assert_eq!(number(&site.join("current")), live, "{what}");
        let mut expected: Vec<&str> = Vec::new();
        if let Some(commit) = model.live_commit() {
            expected.extend(["made", "number", "same"]);
            if model.natures[commit] == Nature::Sick {
                expected.push("sick");
            }
            expected.sort_unstable();
        }
        if model.live.is_some() {
            let names: Vec<String> = tree(&site.join("current")).into_keys().collect();
            assert_eq!(names, expected, "{what}");
        }
        let kept: BTreeSet<String> = model
            .kept()
            .iter()
            .map(|at| model.releases[*at].commit.to_string())
            .collect();
        let Ok(entries) = fs::read_dir(site.join("releases")) else {
            return;
        };
        let there: Vec<String> = entries.map(|entry| number(&entry.unwrap().path())).collect();
        for kept in &kept {
            assert!(there.contains(kept), "{kept} of {there:?} {what}");
        }
        // Live, kept (they go when a run succeeds), what was live until now, and a spare.
        assert!(there.len() <= 6, "{there:?} {what}");
        assert_eq!(
            there.len(),
            model.releases.len() + usize::from(model.has_half),
            "{there:?} {what}"
        );
    }
}

#[test]
fn whatever_happens_is_as_the_model_has_it() {
    let mut random = fastrand::Rng::with_seed(machine::seed());
    for _ in 0..3 {
        let mut test = Test::new();
        let mut story = Vec::new();
        for _ in 0..25 {
            let step = match random.usize(..16) {
                0..=3 => Step::Push(Nature::Good),
                4 => Step::Push(Nature::Broken),
                5 | 6 => Step::Push(Nature::Sick),
                7..=10 => Step::Run,
                11 | 12 => Step::Rollback,
                13 => Step::Retry,
                14 => Step::Kill(["build", "live"][random.usize(..2)]),
                _ => Step::Keep(1 + random.usize(..3)),
            };
            story.push(step);
            let (ended, exit) = test.step(step);
            let what = format!("{story:?} {ended:?} {:?}", test.model);
            if let Some(ended) = &ended {
                assert_eq!(ended.exit, exit, "{what}");
                test.check(&what);
            }
        }
    }
}
