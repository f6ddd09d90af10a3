//! Deploys survive what strangers, accidents and history do to a target and a daemon.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::symlink, net::UnixStream},
    time::{Duration, Instant},
};

use super::{
    source::file,
    world::{World, last_line},
};

/// Trigger `site` of the branch `branch` from now on.
fn follow(world: &World, branch: &str) {
    world.config_of(&format!(
        "\"site\": (repo: \"repo.git\", branch: {branch:?}, path: \"site\"),"
    ));
}

/// The commit in a loose ref of the deployed repository.
fn loose(world: &World, name: &str) -> Option<String> {
    fs::read_to_string(world.path(format!("site/.git/{name}"))).ok()
}

#[test]
fn a_path_that_is_a_symlink_to_nowhere() {
    let world = World::configured();
    symlink("nowhere", world.path("site")).unwrap();
    let ended = world.run_to(1, ["once", "site"]);
    assert!(
        last_line(&ended.err).contains("a symlink that leads nowhere"),
        "{ended:?}"
    );
    fs::create_dir(world.path("nowhere")).unwrap();
    world.deploy();
    assert!(world.path("nowhere/a").exists());
}

/// `a` and `a/b` cannot be branches at a time: who has followed the one must get to the other by himself.
#[test]
fn a_branch_becomes_a_directory_of_branches_and_back() {
    let (world, mut source) = World::with_source();
    let old = source.commit_on("a", [("f", file("1"))]).to_string();
    follow(&world, "a");
    world.deploy();
    let heads = source.path.join("refs/heads");
    fs::remove_file(heads.join("a")).unwrap();
    source.commit_on("a/b", [("f", file("2"))]);
    follow(&world, "a/b");
    world.deploy();
    assert_eq!(world.site()["f"], file("2"));
    assert_eq!(
        loose(&world, &format!("refs/gitsocket/kept/{old}")),
        Some(format!("{old}\n")),
        "nothing that could be somebody's work is lost"
    );
    fs::remove_dir_all(heads.join("a")).unwrap();
    source.commit_on("a", [("f", file("3"))]);
    follow(&world, "a");
    world.deploy();
    assert_eq!(world.site()["f"], file("3"));
    let head = fs::read_to_string(world.path("site/.git/HEAD")).unwrap();
    assert_eq!(head, "ref: refs/heads/a\n");
}

#[test]
fn a_merge_that_was_under_way_has_ended() {
    let (world, mut source) = World::with_source();
    let first = source.commit([("a", file("1"))]);
    world.config("");
    world.deploy();
    for name in ["MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "CHERRY_PICK_HEAD"] {
        world.write(&format!("site/.git/{name}"), &format!("{first}\n"));
    }
    world.deploy();
    for name in ["MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "CHERRY_PICK_HEAD"] {
        assert!(!world.path(format!("site/.git/{name}")).exists(), "{name}");
    }
}

/// What the hook has deleted must not come back as half a repository, which no later run could use.
#[test]
fn a_hook_that_deletes_the_worktree() {
    let world = World::sourced();
    world.hook("cd ..; /bin/rm -rf site");
    world.run_to(1, ["once", "site"]);
    assert!(!world.path("site").exists());
    world.script("hook", "exit 0");
    world.deploy();
    assert_eq!(world.site()["a"], file("1"));
}

/// Clients that vanish while a hook is silent must not keep the places of others.
#[test]
fn clients_that_have_gone_hold_no_place() {
    let world = World::sourced();
    let fifo = world.path("go");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    world.hook("read x < ../go");
    let daemon = world.daemon();
    let mut first = BufReader::new(daemon.connect());
    first.get_mut().write_all(b"site\n").unwrap();
    read_to(&mut first, "hook ");
    // One of those that stay has said all it has to say, as `nc` does: it is not gone.
    first.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    let gone: Vec<_> = (0..255)
        .map(|_| {
            let mut client = BufReader::new(daemon.connect());
            client.get_mut().write_all(b"site\n").unwrap();
            read_to(&mut client, "queued");
            client
        })
        .collect();
    assert!(daemon.say("ping\n").starts_with("error - busy"));
    drop(gone);
    let until = Instant::now() + Duration::from_secs(60);
    while !daemon.say("ping\n").starts_with("pong") {
        assert!(Instant::now() < until, "their places are still taken");
    }
    fs::write(fifo, "\n").unwrap();
    let mut rest = String::new();
    first.read_to_string(&mut rest).unwrap();
    assert!(last_line(&rest).starts_with("ok site "), "{rest}");
}

fn read_to(client: &mut BufReader<UnixStream>, start: &str) {
    let mut line = String::new();
    while !line.starts_with(start) {
        line.clear();
        assert_ne!(client.read_line(&mut line).unwrap(), 0, "no line {start:?} came");
    }
}

/// A client that says too much gets its answer and an end, not a reset connection.
#[test]
fn who_says_too_much_still_hears_why() {
    let world = World::new();
    world.config("");
    let daemon = world.daemon();
    let mut client = daemon.connect();
    client.write_all(&[b'a'; 100_000]).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("error - bad-request: the request is longer"),
        "{answer}"
    );
}

/// Ctrl-C does not reach a hook, which is a process group of its own: so `once` has to stop it.
#[test]
fn once_takes_its_hook_with_it() {
    use rustix::process::{Pid, Signal, kill_process, test_kill_process};
    let world = World::sourced();
    world.hook("echo pid $$; while :; do :; done");
    for (signal, exit) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut once = world
            .command(["once", "site"])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(once.stderr.take().unwrap()).lines();
        let line = lines
            .find(|line| line.as_ref().unwrap().starts_with("| pid "))
            .unwrap()
            .unwrap();
        let hook = Pid::from_raw(line["| pid ".len()..].parse().unwrap()).unwrap();
        kill_process(Pid::from_child(&once), signal).unwrap();
        assert_eq!(once.wait().unwrap().code(), Some(exit));
        let until = Instant::now() + Duration::from_secs(60);
        // Its new parent may take a moment to bury it.
        while test_kill_process(hook).is_ok() && !is_zombie(hook) {
            assert!(Instant::now() < until, "the hook goes on");
        }
    }
}

fn is_zombie(pid: rustix::process::Pid) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

#[test]
fn a_clone_with_reftables_is_refused_as_such() {
    let world = World::configured();
    world.deploy();
    let config = "[core]\nrepositoryformatversion = 1\n[extensions]\nrefStorage = reftable\n";
    world.write("site/.git/config", config);
    let ended = world.run(["once", "site"]);
    let last = last_line(&ended.err);
    assert!(last.starts_with("error site repository: "), "{last}");
    assert!(last.contains("stores its refs as \"reftable\""), "{last}");
}
