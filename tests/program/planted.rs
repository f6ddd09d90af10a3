//! What a hook inside the sandbox plants in its target opens nothing else, now or after a reload.

use std::{
    fs,
    io::Read as _,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{
        CWD, RenameFlags,
        inotify::{self, CreateFlags, WatchFlags},
        renameat_with,
    },
};

use super::{
    source::{Source, file},
    world::{Daemon, World, last_line, need},
};

/// A world with a configuration and keys in `etc`, targets in `srv`, and a source.
fn world() -> (World, Source) {
    let (world, source) = World::with_commit();
    world.secret("etc/keys/other", "s3cret");
    fs::create_dir(world.path("srv")).unwrap();
    (world, source)
}

/// A daemon for `triggers`, whose hooks are inside; nothing where the kernel has no sandbox.
fn daemon(world: &World, triggers: &str) -> Option<Daemon> {
    let listen = format!("listen: [Unix(path: {:?})]", world.path("s.sock"));
    let sandbox = "sandbox: (mode: BestEffort, hooks: Inside)";
    world.write(
        "etc/config.ron",
        &format!("({listen}, {sandbox}, triggers: {{ {triggers} }})"),
    );
    Daemon::start_shut_in(world, &["-c", "etc/config.ron"])
}

fn reload(daemon: &mut Daemon) {
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait_for("ready");
}

/// Everything below `dir`, git directories as well.
fn all(dir: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    let mut next = vec![dir.to_owned()];
    while let Some(dir) = next.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            found.push((path.clone(), meta.is_file().then(|| fs::read(&path).unwrap())));
            if meta.is_dir() {
                next.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_a_target_borrows_opens_nothing() {
    let (world, mut source) = world();
    world.write("srv/other/secret", "s3cret");
    Source::new(&world.path("secret.git")).commit([("secret", file("s3cret"))]);
    let hook = world.script(
        "tools/hook",
        "cd ../..
        for file in etc/config.ron etc/keys/other srv/other/secret secret.git/HEAD; do
            (read line < $file) 2> /dev/null; echo read $file $?
            (echo x >> $file) 2> /dev/null; echo write $file $?
        done
        cd srv/site
        for dir in etc etc/keys srv/other secret.git; do echo ../../../../$dir; done > .git/objects/info/alternates
        test -e inner || /bin/ln -s ../../secret.git inner",
    );
    let Some(mut daemon) = daemon(
        &world,
        &format!(
            "\"site\": (repo: \"../repo.git\", path: \"../srv/site\", hooks: [Exec(run: [{hook:?}])]),
             \"copy\": (repo: \"../srv/site/inner\", path: \"../srv/copy\"),
             \"other\": (repo: \"https://localhost:1/x\", path: \"../srv/other\",
                auth: Basic(user: \"x\", password_file: \"keys/other\")),"
        ),
    ) else {
        return;
    };
    let files = [
        "etc/config.ron",
        "etc/keys/other",
        "srv/other/secret",
        "secret.git/HEAD",
    ];
    let is_shut_in = |answer: &str| {
        for file in files {
            for what in ["read", "write"] {
                assert!(!answer.contains(&format!("| {what} {file} 0\n")), "{answer}");
            }
        }
    };
    let answer = daemon.deploys("site");
    assert!(answer.contains("| read etc/keys/other "), "{answer}");
    is_shut_in(&answer);
    let alternates = world.path("srv/site/.git/objects/info/alternates");
    for round in 0..2 {
        source.commit([("a", file(&format!("then {round}")))]);
        assert!(alternates.exists());
        let answer = daemon.say("site\n");
        let last = last_line(&answer);
        assert!(last.starts_with("error site repository: "), "{answer}");
        assert!(
            last.contains("borrows objects from ") && last.contains("repack -a -d"),
            "{last}"
        );
        is_shut_in(&answer);
        daemon.answers("copy\n", "error copy ");
        assert!(!world.path("srv/copy/secret").exists());
        // As the help says.
        fs::remove_file(&alternates).unwrap();
        fs::remove_file(world.path("srv/site/inner")).ok();
        let answer = daemon.deploys("site");
        is_shut_in(&answer);
        reload(&mut daemon);
    }
}

/// What it borrows from its own source is readable anyhow.
#[test]
fn a_target_may_borrow_from_its_source() {
    if !need("git") {
        return;
    }
    let (world, mut source) = world();
    super::world::git(
        &world.path("srv"),
        &["clone", "-q", "--shared", "../repo.git", "site"],
    );
    let trigger = "\"site\": (repo: \"../repo.git\", branch: \"main\", path: \"../srv/site\"),";
    let Some(daemon) = daemon(&world, trigger) else {
        return;
    };
    for text in ["2", "3"] {
        source.commit([("a", file(text))]);
        daemon.deploys("site");
        assert_eq!(fs::read_to_string(world.path("srv/site/a")).unwrap(), text);
    }
}

/// How often `.git` is swapped at least.
const SWAPS: u64 = 50;

#[test]
fn a_git_directory_that_becomes_a_link_leads_nowhere() {
    let (world, mut source) = world();
    let exe = std::env::current_exe().unwrap();
    let Some(mut daemon) = daemon(
        &world,
        &format!(
            "\"site\": (repo: \"../repo.git\", path: \"../srv/site\", keep: [\"/stop\", \"/ended\", \"/link*\"], retries: 0,
                hooks: [Exec(run: [{exe:?}, \"--exact\", \"planted::the_hook_that_swaps\", \"--ignored\"])]),
             \"other\": (repo: \"../repo.git\", path: \"../srv/other\"),"
        ),
    ) else {
        return;
    };
    // The daemon would see to packs after its answer.
    world.run_to(0, ["once", "-c", "etc/config.ron", "other"]);
    let before = ["etc", "srv/other"].map(|dir| (dir, all(&world.path(dir))));
    let check = |answer: &str| {
        for (dir, before) in &before {
            let now = all(&world.path(dir));
            let new = now.iter().find(|file| !before.contains(file));
            let gone = before.iter().find(|file| !now.contains(file));
            assert!(
                new.is_none() && gone.is_none(),
                "{new:?} instead of {gone:?}, by {answer}"
            );
        }
    };
    // A link that is there while a daemon starts, or another worker, keeps neither from it.
    for round in 0..20 {
        source.commit([("a", file(&format!("then {round}")))]);
        check(&daemon.say("site\n"));
        if round % 10 == 9 {
            reload(&mut daemon);
        }
    }
    world.fifo("srv/site/ended");
    fs::write(world.path("srv/site/stop"), "").unwrap();
    while fs::File::open(world.path("srv/site/.git/gitsocket/lock")).is_err() {
        // It has just been swapped.
        std::thread::yield_now();
    }
    let swaps = number(&world.path("srv/site/ended"));
    assert!(swaps >= SWAPS, "{swaps}");
    check("at the end");
    daemon.deploys("site");
    assert!(
        fs::symlink_metadata(world.path("srv/site/.git"))
            .unwrap()
            .is_dir()
    );
}

/// What is written into the fifo at `path`, in a minute at most: who writes it may be no more.
fn number(path: &Path) -> u64 {
    let mut fifo = fs::File::options().read(true).write(true).open(path).unwrap();
    let ready = &mut [PollFd::new(&fifo, PollFlags::IN)];
    let minute = Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    assert_eq!(
        poll(ready, Some(&minute)).unwrap(),
        1,
        "nobody writes into {path:?}"
    );
    let mut text = [0; 20];
    let length = fifo.read(&mut text).unwrap();
    std::str::from_utf8(&text[..length]).unwrap().parse().unwrap()
}

/// Is the hook of the test above, and what that leaves running.
#[test]
#[ignore = "is a hook"]
#[allow(clippy::zombie_processes, reason = "what it leaves running outlives it")]
fn the_hook_that_swaps() {
    let Some(root) = std::env::var_os("GITSOCKET_PATH").map(PathBuf::from) else {
        return;
    };
    let links = ["link to other", "link to etc"].map(|name| root.join(name));
    let git = root.join(".git");
    if std::env::var_os("IS_LEFT").is_none() {
        if links[0].is_symlink() {
            return;
        }
        symlink("../other/.git", &links[0]).unwrap();
        symlink("../../etc", &links[1]).unwrap();
        let mut left = Command::new(std::env::current_exe().unwrap());
        left.args(std::env::args_os().skip(1))
            .env("IS_LEFT", "")
            .process_group(0);
        left.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        return;
    }
    // Each run opens it, before it shuts itself in.
    let opened = inotify::init(CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&opened, git.join("gitsocket/lock"), WatchFlags::OPEN).unwrap();
    let wait = |micros: u64| {
        let until = Instant::now() + Duration::from_micros(fastrand::u64(..micros));
        while Instant::now() < until {}
    };
    let swap =
        |link: &Path| (0..100).any(|_| renameat_with(CWD, link, CWD, &git, RenameFlags::EXCHANGE).is_ok());
    let mut swaps: u64 = 0;
    while links[0].is_symlink() && !root.join("stop").exists() {
        rustix::io::read(&opened, &mut [0; 4096]).unwrap();
        let link = &links[usize::from(fastrand::u8(..4) == 0)];
        // Once while the run shuts itself in, and once while it writes.
        for micros in [400, 4000] {
            wait(micros);
            if swap(link) {
                wait(micros);
                swaps += 1 + u64::from(swap(link));
            }
        }
    }
    fs::write(root.join("ended"), swaps.to_string()).unwrap();
}

/// What a run reads before it holds the lock is read in no other place than what it does then.
#[test]
fn a_key_does_not_appear_in_a_message() {
    let world = World::sourced();
    // A password, and a configuration that git would take.
    world.write("etc/keys/other", "[core]\n\tworktree = s3cret\n");
    let hook = world.script(
        "tools/hook",
        "cd $GIT_DIR
        /bin/rm gitsocket/lock
        /bin/ln -s ../../etc/keys/other commondir",
    );
    let Some(daemon) = daemon(
        &world,
        &format!(
            "\"site\": (repo: \"../repo.git\", path: \"../srv/site\", git_dir: \"../git/site\",
                hooks: [Exec(run: [{hook:?}])]),
             \"other\": (repo: \"https://localhost:1/x\", path: \"../srv/other\",
                auth: Basic(user: \"x\", password_file: \"keys/other\")),"
        ),
    ) else {
        return;
    };
    daemon.deploys("site");
    let key = world.path("etc/keys/other");
    let at = |name: &str| world.path("git/site").join(name);
    assert!(!at("gitsocket/lock").exists() && at("commondir").is_symlink());
    let refused = |why: &str| {
        let answer = daemon.answers("site\n", "error site repository: ");
        assert!(last_line(&answer).contains(why), "{answer}");
        for answer in [answer, daemon.say("status\n"), daemon.say("log site\n")] {
            assert!(!answer.contains("s3cret"), "{answer}");
        }
        fs::remove_file(at("gitsocket/lock")).ok();
    };
    refused("commondir: it is a symlink");
    // Its text, as a hook may write that down elsewhere.
    fs::remove_file(at("commondir")).unwrap();
    fs::write(at("commondir"), "s3cret\nof a key\n").unwrap();
    refused("commondir: it names no repository");
    fs::remove_file(at("commondir")).unwrap();
    let [head, config] = ["HEAD", "config"].map(|name| fs::read_to_string(at(name)).unwrap());
    fs::remove_file(at("HEAD")).unwrap();
    symlink(&key, at("HEAD")).unwrap();
    refused("HEAD: it is a symlink");
    fs::remove_file(at("HEAD")).unwrap();
    fs::write(at("HEAD"), head).unwrap();
    fs::write(at("config"), "[s3cret").unwrap();
    refused("not in the syntax of git-config(1)");
    // A link that others may have there is followed where the key is closed: so it is not told what that names.
    fs::remove_file(at("config")).unwrap();
    symlink(&key, at("config")).unwrap();
    let answer = daemon.answers("site\n", "error site ");
    assert!(!answer.contains("s3cret"), "{answer}");
    fs::remove_file(at("config")).unwrap();
    fs::write(at("config"), config).unwrap();
    daemon.deploys("site");
}
