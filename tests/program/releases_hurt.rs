//! Releases that other programs have damaged do not stop a deploy or the way back.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    releases::last,
    source::{Entry, Source, file},
    world::{Ended, Need, World, machine, need},
};

/// A user with no name, whom root becomes.
const USER: u32 = 65534;

/// A trigger whose hooks at Build and Live do what the test says by `build` and `live` in the world's directory.
struct Hurt {
    world: World,
    source: Source,
    number: usize,
}

impl Hurt {
    /// The trigger has `releases`.
    fn new(releases: &str) -> Self {
        let (world, source) = World::with_source();
        let path = "export PATH=/usr/bin:/bin";
        let build = world.script(
            "build.sh",
            &format!("{path}; [ ! -e ../../../build ] || . ../../../build"),
        );
        let live = world.script(
            "live.sh",
            &format!("{path}; [ ! -e ../../../live ] || . ../../../live"),
        );
        world.config(&format!(
            "releases: ({releases}), hooks: [Exec(run: [{build:?}], at: Build), Exec(run: [{live:?}])]"
        ));
        fs::create_dir(world.path("site")).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(world.path("site"), Some(USER), Some(USER)).unwrap();
        }
        Self {
            world,
            source,
            number: 0,
        }
    }

    fn push(&mut self) {
        self.number += 1;
        let text = self.number.to_string();
        self.source
            .commit([("n", file(&text)), ("d/n", file(&text)), ("d/same", file("same"))]);
    }

    /// A commit that has a file `sick`.
    fn push_sick(&mut self) {
        self.number += 1;
        let text = self.number.to_string();
        self.source.commit([("n", file(&text)), ("sick", file(""))]);
    }

    /// What the hook at `stage` does from now on.
    fn let_hook(&self, stage: &str, text: &str) {
        self.world.write(stage, text);
    }

    fn run(&self, args: &[&str]) -> Ended {
        let mut command = if rustix::process::geteuid().is_root() {
            self.world.command_as(USER, args)
        } else {
            self.world.command(args)
        };
        Ended::from(command.output().unwrap())
    }

    fn deploy(&mut self) {
        self.push();
        let ended = self.run(&["once", "site"]);
        assert_eq!(
            (ended.exit, self.live()),
            (0, self.number.to_string()),
            "{ended:?}"
        );
    }

    /// What the live release says it is.
    fn live(&self) -> String {
        fs::read_to_string(self.world.path("site/current/n")).unwrap_or_default()
    }

    /// All releases, the oldest first.
    fn releases(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.world.path("site/releases")).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    fn release(&self, back: usize) -> PathBuf {
        self.releases().into_iter().rev().nth(back).unwrap()
    }
}

impl Drop for Hurt {
    /// For the directory of the test to go.
    fn drop(&mut self) {
        let site = self.world.path("site");
        Command::new("chmod")
            .args(["-R", "u+rwx"])
            .arg(site)
            .status()
            .ok();
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A sick release writes to what all of them share. The older ones have their links already.
#[test]
fn what_is_shared_does_not_stop_the_way_back() {
    let mut hurt = Hurt::new("keep: 2, shared: [\"up/\", \"deep/x/\"]");
    hurt.deploy();
    for act in [
        "rm -rf up; echo x > up",
        "rm -rf up; ln -s up up",
        "chmod 0 deep",
        "mv ../shared ../away; echo x > ../shared",
    ] {
        hurt.let_hook("live", "");
        hurt.deploy();
        let good = hurt.live();
        hurt.let_hook(
            "live",
            &format!("[ ! -e sick ] || {{ (cd ../../shared; {act}); exit 1; }}"),
        );
        hurt.push_sick();
        let ended = hurt.run(&["once", "site"]);
        assert_eq!((ended.exit, hurt.live()), (7, good.clone()), "{act}: {ended:?}");
        assert!(
            ended.err.contains("no links for what `shared` names since"),
            "{act}: {ended:?}"
        );
        let ended = hurt.run(&["once", "site"]);
        assert!(last(&ended).starts_with("error site held: "), "{act}: {ended:?}");
        // By hand, too.
        let ended = hurt.run(&["once", "--rollback", "site"]);
        assert_eq!(ended.exit, 0, "{act}: {ended:?}");
        assert_ne!(hurt.live(), good, "{act}");
        let ended = Command::new("sh")
            .args([
                "-c",
                "[ ! -e away ] || { rm shared; mv away shared; }; chmod 755 shared/deep; rm -rf shared/up",
            ])
            .current_dir(hurt.world.path("site"))
            .status();
        assert!(ended.is_ok());
    }
}

/// The last good release cannot be read or mended in some place: the one before is taken.
#[test]
fn a_release_that_is_out_of_reach_is_passed_over() {
    let mut hurt = Hurt::new("keep: 3");
    for _ in 0..2 {
        hurt.deploy();
    }
    let back = |hurt: &Hurt, args: &[&str], exit, good: &str| {
        let ended = hurt.run(args);
        assert_eq!((ended.exit, &*hurt.live()), (exit, good), "{ended:?}");
        assert!(ended.err.contains("is damaged, and was skipped"), "{ended:?}");
    };
    for act in ["unreadable", "closed", "not to be mended"] {
        let good = hurt.live();
        hurt.deploy();
        let broken = hurt.release(0);
        let place = match act {
            "closed" => broken.clone(),
            _ => broken.join("d"),
        };
        if act == "not to be mended" {
            fs::write(broken.join("d/n"), "changed").unwrap();
        }
        hurt.let_hook("live", "[ ! -e sick ]");
        hurt.push_sick();
        set_mode(&place, if act == "not to be mended" { 0o555 } else { 0 });
        back(&hurt, &["once", "site"], 7, &good);
        let ended = hurt.run(&["once", "site"]);
        assert!(last(&ended).starts_with("error site held: "), "{ended:?}");
        // By hand, too.
        hurt.let_hook("live", "");
        hurt.deploy();
        hurt.deploy();
        set_mode(&place, 0o755);
        let newest = hurt.live();
        let place = hurt.release(1);
        set_mode(&place, 0);
        back(&hurt, &["once", "--rollback", "site"], 0, &good);
        set_mode(&place, 0o755);
        let ended = hurt.run(&["once", "--retry", "site"]);
        assert_eq!((ended.exit, hurt.live()), (0, newest), "{ended:?}");
    }
}

/// The tree that the next release is made of: its owner has closed it, or it is another user's by now.
#[test]
fn a_spare_that_is_closed_is_opened_or_left() {
    let mut hurt = Hurt::new("keep: 1");
    for _ in 0..3 {
        hurt.deploy();
    }
    let mode = |hurt: &Hurt| {
        let meta = fs::metadata(hurt.world.path("site/current/")).unwrap();
        meta.permissions().mode() & 0o777
    };
    let usual = mode(&hurt);
    hurt.let_hook("build", "chmod 0 .; exit 1");
    hurt.push();
    let ended = hurt.run(&["once", "site"]);
    assert!(last(&ended).starts_with("error site build: "), "{ended:?}");
    hurt.let_hook("build", "");
    for closed in [0, 0o700, 0o111] {
        hurt.deploy();
        assert_eq!(mode(&hurt), usual);
        set_mode(&hurt.release(2), closed);
    }
    hurt.deploy();
    if !need(Need::Root) {
        return;
    }
    let oldest = hurt.release(2);
    std::os::unix::fs::chown(&oldest, Some(0), Some(0)).unwrap();
    set_mode(&oldest, 0o700);
    hurt.push();
    let ended = hurt.run(&["once", "site"]);
    assert_eq!(
        (ended.exit, hurt.live()),
        (0, hurt.number.to_string()),
        "{ended:?}"
    );
    assert!(
        ended
            .err
            .contains("the release is made in another directory instead"),
        "{ended:?}"
    );
    hurt.deploy();
}

/// A hook at Build that leaves what cannot be removed, and fails: each trigger of the commit tries it again.
#[test]
fn trees_that_are_stuck_are_few() {
    let mut hurt = Hurt::new("keep: 1");
    hurt.deploy();
    // Closed by its owner: that is opened, and removed.
    hurt.let_hook("build", "chmod 0 d; exit 1");
    hurt.push();
    for _ in 0..4 {
        let ended = hurt.run(&["once", "site"]);
        assert!(last(&ended).starts_with("error site build: "), "{ended:?}");
        assert!(hurt.releases().len() <= 2, "{:?}", hurt.releases());
    }
    if !need(Need::Root) {
        return;
    }
    hurt.let_hook("build", "mkdir -p left/x; echo 1 > left/x/y; exit 1");
    let mut said = String::new();
    for _ in 0..9 {
        let ended = hurt.run(&["once", "site"]);
        for release in hurt.releases() {
            let left = release.join("left");
            if left.exists() {
                let status = Command::new("chown").args(["-R", "root"]).arg(left).status();
                assert!(status.unwrap().success());
            }
        }
        said = last(&ended).to_owned();
    }
    assert!(hurt.releases().len() <= 6, "{:?}", hurt.releases());
    // All that can be removed of them is.
    let trees = hurt
        .releases()
        .into_iter()
        .filter(|release| release.join("d/same").exists());
    assert!(trees.count() <= 3);
    assert!(said.starts_with("error site path: 4 directories in "), "{said}");
    hurt.let_hook("build", "");
    let command = said.split("type: ").nth(1).unwrap().split(';').next().unwrap();
    let status = Command::new("sh").args(["-c", command]).status();
    assert!(status.unwrap().success(), "{command}");
    hurt.deploy();
    // And what a service of root's leaves in each release.
    for _ in 0..3 {
        let path = hurt.world.path("site/current/cache");
        fs::create_dir_all(path.join("x")).unwrap();
        hurt.deploy();
    }
    hurt.push();
    let ended = hurt.run(&["once", "site"]);
    assert!(ended.err.contains("(as root, type: rm -rf "), "{ended:?}");
}

/// A hook stages what it makes: that is still nothing that anyone tracks.
#[test]
fn what_a_build_has_staged_stays() {
    if !need("git") {
        return;
    }
    let mut hurt = Hurt::new("keep: 2");
    hurt.let_hook(
        "build",
        "export HOME=/nonexistent; mkdir dist; cp n dist/n; git add -A",
    );
    for _ in 0..3 {
        hurt.deploy();
    }
    let file = |path: &str| fs::read_to_string(hurt.world.path("site/current").join(path)).unwrap();
    assert_eq!(file("dist/n"), "3");
    fs::write(hurt.release(1).join("d/n"), "changed").unwrap();
    let ended = hurt.run(&["once", "--rollback", "site"]);
    assert_eq!((ended.exit, hurt.live()), (0, "2".into()), "{ended:?}");
    assert!(
        ended.err.contains("these files were restored: d/n\n"),
        "{ended:?}"
    );
    assert_eq!((file("dist/n"), file("d/n")), ("2".into(), "2".into()));
    // Nor is it in a release that is made of that tree.
    hurt.let_hook("build", "");
    for _ in 0..4 {
        hurt.deploy();
        let dist = hurt.world.path("site/current/dist");
        assert!(!dist.exists());
    }
}

/// In a lower layer of overlayfs no directory can be renamed: then no release is made of the spare, whether or not that was begun.
#[test]
fn a_spare_that_cannot_be_renamed() {
    if !need(Need::Tracing) {
        return;
    }
    let mut hurt = Hurt::new("keep: 1");
    for _ in 0..3 {
        hurt.deploy();
    }
    let traced = |hurt: &Hurt, args: &[&str], inject: &str| {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2", "-e"]);
        command.arg(format!("inject=renameat2:{inject}"));
        let run = hurt.world.command(args);
        command.arg(run.get_program()).args(run.get_args());
        command.current_dir(hurt.world.path(""));
        Ended::from(command.output().unwrap())
    };
    // The repository is this user's then, as the release is.
    if rustix::process::geteuid().is_root() {
        let status = Command::new("chown")
            .args(["-R", "root"])
            .arg(hurt.world.path("site"))
            .status();
        assert!(status.unwrap().success());
    }
    hurt.push();
    let ended = traced(&hurt, &["once", "site"], "error=EXDEV");
    assert_eq!((ended.exit, hurt.live()), (0, "4".into()), "{ended:?}");
    assert!(
        ended
            .err
            .contains("the release is made in another directory instead"),
        "{ended:?}"
    );
    let again = |hurt: &mut Hurt| {
        hurt.push();
        let ended = hurt.world.run(["once", "site"]);
        assert_eq!(
            (ended.exit, hurt.live()),
            (0, hurt.number.to_string()),
            "{ended:?}"
        );
    };
    again(&mut hurt);
    // It was about to be renamed when the run was killed.
    hurt.push();
    traced(&hurt, &["once", "site"], "signal=SIGKILL:error=EXDEV");
    assert_eq!(hurt.live(), "5");
    let ended = traced(&hurt, &["once", "--rollback", "site"], "error=EXDEV");
    assert_eq!((ended.exit, hurt.live()), (0, "4".into()), "{ended:?}");
    let ended = traced(&hurt, &["once", "site"], "error=EXDEV");
    assert_eq!((ended.exit, hurt.live()), (0, "6".into()), "{ended:?}");
    again(&mut hurt);
    assert!(hurt.releases().len() <= 4, "{:?}", hurt.releases());
}

/// What cannot change places, as it is on two file systems, is said by `check`, too.
#[test]
fn releases_on_another_file_system() {
    let world = World::sourced();
    let config = |live: &str| {
        world.config(&format!("releases: (live: {live}(\"current\")), hooks: []"));
    };
    config("Exchange");
    fs::create_dir(world.path("site")).unwrap();
    let Some(_disk) = machine::Disk::mount(&world.path("site/releases"), 4096) else {
        return;
    };
    let ended = world.run(["check"]);
    assert_ne!(ended.exit, 0, "{ended:?}");
    let all = format!("{}{}", ended.out, ended.err);
    assert!(all.contains("cannot be moved to "), "{ended:?}");
    let ended = world.run_to(1, ["once", "site"]);
    assert!(
        last(&ended).contains("write live: Symlink(\"current\")"),
        "{ended:?}"
    );
    config("Symlink");
    world.run_to(0, ["check"]);
    world.deploy();
}

/// A sick release fills the disk: the spare gives way to what the way back writes, by itself and by hand.
#[test]
fn a_full_disk_does_not_stop_the_way_back() {
    for live in ["Symlink", "Exchange"] {
        let (world, mut source) = World::with_source();
        let Some(disk) = machine::Disk::mount(&world.path("disk"), 8 * 1024) else {
            return;
        };
        let fill = world.path("disk/fill");
        let act = world.path("act");
        let hook = world.script(
            "live.sh",
            &format!("PATH=/usr/bin:/bin; [ ! -e sick ] || {{ . {act:?}; exit 1; }}"),
        );
        world.config_of(&format!(
            "\"site\": (repo: \"repo.git\", branch: \"main\", path: \"disk/site\", fsync: false,
              releases: (keep: 2, live: {live}(\"current\")), hooks: [Exec(run: [{hook:?}])]),"
        ));
        let mut random = vec![0; 200_000];
        fastrand::Rng::with_seed(1).fill(&mut random);
        let mut commit = |n: usize, is_sick: bool| {
            let text = n.to_string();
            let mut files = vec![("big", Entry::File(random.clone())), ("n", file(&text))];
            files.extend(is_sick.then(|| ("sick", file(""))));
            source.commit(files);
        };
        let number = || fs::read_to_string(world.path("disk/site/current/n")).unwrap();
        let mut n = 0;
        for (acts, args) in [
            (":", ["once", "site"]),
            // Another one finds what that has left.
            ("kill -9 $PPID", ["once", "site"]),
        ] {
            for _ in 0..5 {
                n += 1;
                commit(n, false);
                world.deploy();
            }
            let fills = format!("cat /dev/zero > {fill:?} 2>/dev/null; {acts}");
            world.write("act", &fills);
            commit(n + 1, true);
            let mut ended = world.run(args);
            if acts != ":" {
                assert_ne!(ended.exit, 7, "{ended:?}");
                world.write("act", "");
                ended = world.run(args);
            }
            assert_eq!((ended.exit, number()), (7, n.to_string()), "{live}: {ended:?}");
            assert!(
                ended.err.contains("the spare release was removed"),
                "{live}: {ended:?}"
            );
            let ended = world.run(["once", "site"]);
            assert!(last(&ended).starts_with("error site held: "), "{live}: {ended:?}");
            fs::remove_file(&fill).unwrap();
            n += 1;
        }
        for _ in 0..5 {
            n += 1;
            commit(n, false);
            world.deploy();
        }
        let ballast = disk.fill(0);
        let ended = world.run(["once", "--rollback", "site"]);
        assert_eq!(
            (ended.exit, number()),
            (0, (n - 1).to_string()),
            "{live}: {ended:?}"
        );
        drop(ballast);
        n += 1;
        commit(n, false);
        world.deploy();
    }
}

/// The digits of two commits name none of them, and no number in the record is too large to be counted on.
#[test]
fn what_is_not_clear_is_not_guessed() {
    let (world, mut source) = World::with_source();
    world.config("releases: (keep: 9)");
    // Of some hundred commits, two begin with the same four digits.
    let (mut n, mut seen) = (0, std::collections::BTreeMap::new());
    let twins = loop {
        n += 1;
        let commit = source.commit([("n", file(&n.to_string()))]);
        if let Some(twin) = seen.insert(commit.to_string()[..4].to_owned(), commit) {
            break [twin, commit];
        }
        assert!(n < 5000);
    };
    for twin in &twins {
        source.point("refs/heads/main", *twin);
        world.deploy();
    }
    source.commit([("n", file("last"))]);
    world.deploy();
    let twins = twins.map(|twin| twin.to_string());
    let ended = world.run_to(1, ["once", "--rollback", "site", &twins[0][..4]]);
    assert!(last(&ended).contains("several commits begin with "), "{ended:?}");
    assert!(twins.iter().all(|twin| last(&ended).contains(twin)), "{ended:?}");
    world.run_to(0, ["once", "--rollback", "site", &twins[0]]);
    let record = world.path("site/repo.git/gitsocket/releases.json");
    let text = fs::read_to_string(&record).unwrap();
    let at = text.find("\"turn\":").unwrap();
    let end = at + text[at..].find(',').unwrap();
    let large = format!("{}\"turn\":{}{}", &text[..at], u64::MAX, &text[end..]);
    fs::write(&record, large).unwrap();
    source.commit([("n", file("more"))]);
    let ended = world.deploy();
    assert!(
        ended.err.contains("the record of releases is damaged"),
        "{ended:?}"
    );
}
