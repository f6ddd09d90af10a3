//! A fifo, a device or a giant file under one of git's names costs the run that meets it, and no other.
//!
//! A trap costs the run that meets it, and no other: the daemon gets ready, the other triggers run, `status` answers,
//! memory stays where it is, and one SIGTERM ends it all.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use Trap::{Dir, Fifo, Giant, Zero};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mkdirat, mknodat, openat},
    process::Signal,
};

use super::{
    content::peak,
    source::{Source, file},
    world::{Daemon, Ended, World, copy, git, last_line, need},
};

/// What is under a name where git keeps a file of a few bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trap {
    /// Opening it waits for a writer.
    Fifo,
    /// A link to a file without end.
    Zero,
    /// A file of 3 GB that takes no room.
    Giant,
    Dir,
}

impl Trap {
    fn set(self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let is_dir = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
        if is_dir {
            fs::remove_dir_all(path).unwrap()
        } else {
            drop(fs::remove_file(path))
        }
        match self {
            Fifo => mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap(),
            Zero => symlink("/dev/zero", path).unwrap(),
            Giant => fs::File::create(path).unwrap().set_len(3 << 30).unwrap(),
            Dir => fs::create_dir(path).unwrap(),
        }
    }
}

/// What a process may have in memory at most, in KiB.
const ROOM: u64 = 300 * 1024;

/// The names of a git directory that are read when it is opened, or looked into for a branch.
const NAMES: [(&str, &[Trap]); 9] = [
    ("HEAD", &[Fifo, Zero, Giant, Dir]),
    ("config", &[Fifo, Zero, Giant, Dir]),
    ("commondir", &[Fifo, Zero, Giant, Dir]),
    ("packed-refs", &[Fifo, Zero, Giant, Dir]),
    ("shallow", &[Fifo, Zero, Giant, Dir]),
    ("objects/info/alternates", &[Fifo, Zero, Giant, Dir]),
    ("refs/heads/main", &[Fifo, Zero, Giant]),
    ("refs/heads/deep/er", &[Fifo, Zero, Giant]),
    ("refs/replace/x", &[Fifo, Zero, Giant]),
];

/// Directories in each other, deeper than any path can say.
fn nest(dir: &Path, depth: usize) {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, dir, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, "d", flags, Mode::empty()).unwrap();
    }
}

/// Make them removable: each is put in the place of the one that it is in.
fn unnest(repository: &Path) {
    let [heads, kept] = ["refs/heads/d", "kept"].map(|name| repository.join(name));
    while fs::rename(heads.join("d"), &kept).is_ok() {
        fs::remove_dir(&heads).unwrap();
        fs::rename(&kept, &heads).unwrap();
    }
}

fn names_it(ended: &Ended) {
    let said = ended.err.contains("HEAD") && ended.err.contains("a fifo");
    assert!(ended.exit == 1 && said, "{ended:?}");
}

/// One signal, and it ends.
fn end(mut daemon: Daemon) {
    let peak = peak(&daemon);
    assert!(peak < ROOM, "{peak} KiB");
    daemon.signal(Signal::TERM);
    let (status, log) = daemon.wait();
    assert!(status.success(), "{status}: {log}");
}

/// A world with `repo.git` and the triggers `good` and those of `more`.
fn world(source: &mut Option<Source>) -> World {
    let world = World::new();
    let mut good = world.source();
    good.commit([("a", file("1"))]);
    *source = Some(good);
    world
}

const GOOD: &str = "\"good\": (repo: \"repo.git\", branch: \"main\", path: \"good\"),";

fn triggers(names: impl IntoIterator<Item = (String, PathBuf)>) -> String {
    let one = |(name, repo): (String, PathBuf)| {
        format!(
            "\"{name}\": (repo: {repo:?}, branch: \"main\", path: \"to-{name}\", timeout: \"1m\", retries: 0),"
        )
    };
    names.into_iter().map(one).collect()
}

#[test]
fn a_source_is_a_trap() {
    let mut source = None;
    let world = world(&mut source);
    let tip = source.unwrap().commit([("a", file("1"))]).to_string();
    let mut traps = Vec::new();
    let loose = format!("objects/{}/{}", &tip[..2], &tip[2..]);
    for kind in [Fifo, Zero, Giant, Dir] {
        let dir = world.path(format!("traps/loose-{kind:?}"));
        copy(&world.path("repo.git"), &dir);
        kind.set(&dir.join(&loose));
        traps.push((format!("loose-{kind:?}"), dir, tip.as_str()));
    }
    for (at, (name, kinds)) in NAMES.into_iter().enumerate() {
        for kind in kinds {
            let dir = world.path(format!("traps/{at}-{kind:?}"));
            copy(&world.path("repo.git"), &dir);
            kind.set(&dir.join(name));
            traps.push((format!("t{at}-{kind:?}"), dir, name));
        }
    }
    for kind in [Fifo, Zero, Giant] {
        let dir = world.path(format!("traps/file-{kind:?}"));
        kind.set(&dir.join(".git"));
        traps.push((format!("file-{kind:?}"), dir, ".git"));
    }
    let with = |name: &str, mend: &dyn Fn(&Path)| {
        let dir = world.path(format!("traps/{name}"));
        copy(&world.path("repo.git"), &dir);
        mend(&dir);
        dir
    };
    let deep = with("deep", &|dir| nest(&dir.join("refs/heads"), 3000));
    traps.push(("deep".into(), deep.clone(), "refs/heads/d"));
    let alternates = |count: usize| -> String {
        let line = |n| {
            let dir = world.path(format!("borrowed/{n}"));
            fs::create_dir_all(&dir).unwrap();
            format!("{}\n", dir.display())
        };
        (0..count).map(line).collect()
    };
    let wide = with("wide", &|dir| {
        fs::write(dir.join("objects/info/alternates"), alternates(1000)).unwrap();
    });
    traps.push(("wide".into(), wide, "alternates"));
    let circle = with("circle", &|dir| {
        fs::write(dir.join("objects/info/alternates"), "../objects\n").unwrap();
    });
    traps.push(("circle".into(), circle, "circle"));

    let listed = traps.iter().map(|(name, dir, _)| (name.clone(), dir.clone()));
    world.config_of(&(GOOD.to_owned() + &triggers(listed)));
    let daemon = world.daemon();
    for (name, _, culprit) in &traps {
        let answer = daemon.say(format!("{name}\n"));
        let said = last_line(&answer);
        assert!(
            said.starts_with(&format!("error {name} remote: ")),
            "{culprit}: {answer}"
        );
        assert!(said.contains(culprit), "{culprit}: {said}");
    }
    daemon.deploys("good");
    end(daemon);

    names_it(&world.run(["once", "t0-Fifo"]));
    names_it(&world.run(["check", "--remote"]));
    unnest(&deep);
}

/// Packs that a multi-pack-index names would be opened as they are, if it were read.
#[test]
fn a_source_whose_packs_are_fifos() {
    if !need("git") {
        return;
    }
    let world = world(&mut None);
    let dir = world.path("trap.git");
    copy(&world.path("repo.git"), &dir);
    git(&dir, &["repack", "-adq"]);
    git(&dir, &["multi-pack-index", "write"]);
    let packs = fs::read_dir(dir.join("objects/pack")).unwrap();
    let paths = packs.map(|entry| entry.unwrap().path());
    let pack = paths.filter(|path| path.extension().is_some_and(|it| it == "pack"));
    pack.for_each(|path| Fifo.set(&path));
    world.config_of(&(GOOD.to_owned() + &triggers([("trap".into(), dir)])));
    let daemon = world.daemon();
    daemon.answers("trap\n", "error trap remote: ");
    daemon.deploys("good");
    end(daemon);
}

#[test]
fn a_target_is_a_trap() {
    let world = world(&mut None);
    world.config_of(GOOD);
    assert_eq!(world.run(["once", "good"]).exit, 0);
    let more: [(&str, &[Trap]); 2] = [
        ("config.worktree", &[Fifo, Zero, Giant]),
        ("refs/remotes/origin/main", &[Fifo, Zero, Giant]),
    ];
    let mut traps = Vec::new();
    for (at, (name, kinds)) in NAMES.into_iter().chain(more).enumerate() {
        for kind in kinds {
            let trigger = format!("t{at}-{kind:?}");
            let target = world.path(format!("to-{trigger}"));
            copy(&world.path("good"), &target);
            kind.set(&target.join(".git").join(name));
            traps.push((trigger, name));
        }
    }
    let listed = traps
        .iter()
        .map(|(name, _)| (name.clone(), world.path("repo.git")));
    world.config_of(&(GOOD.to_owned() + &triggers(listed)));
    let daemon = world.daemon();
    let well = || {
        daemon.answers("status\n", "ok ");
        world.run_to(0, ["healthcheck", "-s", "./s.sock"]);
        daemon.deploys("good");
    };
    well();
    for (name, culprit) in &traps {
        let answer = daemon.say(format!("{name}\n"));
        let said = last_line(&answer);
        // What can be made again is.
        if said.starts_with(&format!("ok {name} ")) && answer.contains("\nwarning: ") {
            continue;
        }
        assert!(
            said.starts_with(&format!("error {name} repository: ")),
            "{culprit}: {answer}"
        );
        assert!(said.contains(culprit), "{culprit}: {said}");
    }
    well();
    end(daemon);
    let ended = world.run(["once", "t2-Fifo"]);
    assert!(ended.exit == 1 && ended.err.contains("commondir"), "{ended:?}");
}

/// What is called as packs are, and is no file, holds nothing: it is passed over.
#[test]
fn packs_are_traps() {
    let mut source = None;
    let world = world(&mut source);
    world.config_of(GOOD);
    let mut source = source.unwrap();
    assert_eq!(world.run(["once", "good"]).exit, 0);
    for kind in [Fifo, Zero, Giant] {
        for name in ["pack-0.idx", "pack-0.pack", "multi-pack-index"] {
            for dir in ["repo.git", "good/.git"] {
                kind.set(&world.path(dir).join("objects/pack").join(name));
            }
            source.commit([("a", file(&format!("{kind:?} {name}")))]);
            let ended = world.run(["once", "good"]);
            assert_eq!(ended.exit, 0, "{kind:?} {name}: {ended:?}");
        }
    }
}

/// A reflog is opened for writing, which waits for a reader.
#[test]
fn a_reflog_is_a_trap() {
    let mut source = None;
    let world = world(&mut source);
    world.config_of(GOOD);
    assert_eq!(world.run(["once", "good"]).exit, 0);
    source.unwrap().commit([("a", file("2"))]);
    for log in ["refs/remotes/origin/main", "HEAD", "refs/heads/main"] {
        let path = world.path("good/.git/logs").join(log);
        let kept = fs::read(&path).unwrap();
        Fifo.set(&path);
        let ended = world.run(["once", "good"]);
        assert!(
            ended.exit == 1 && ended.err.contains(log) && ended.err.contains("fifo"),
            "{log}: {ended:?}"
        );
        fs::remove_file(&path).unwrap();
        fs::write(&path, kept).unwrap();
    }
    world.run_to(0, ["once", "good"]);
}
