//! A run that does not end by itself is bounded by `run_timeout` and holds up no other trigger.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock},
    process::{Pid, PidfdFlags, Signal, pidfd_open},
};

use super::{
    history::{start, status},
    source::file,
    world::{
        Daemon, Need, World, last_line,
        machine::{self, Unmount},
        need,
    },
};

/// A hook that hangs, deaf to SIGTERM, and its child that does, too. It says who they are first.
fn hanging_hook(world: &World) -> String {
    let hook = world.script(
        "hook",
        // What is stopped when its parent dies gets SIGHUP and SIGCONT from the kernel.
        "trap '' HUP TERM; /bin/sh -c 'while :; do kill -STOP $$; done' & \
         echo pids $$ $!; while :; do kill -STOP $$; done",
    );
    format!("hooks: [Exec(run: [{hook:?}], when: Always)],")
}

/// Say `name`, and read up to the line that begins with `wanted`.
pub fn trigger(daemon: &Daemon, name: &str, wanted: &str) -> (BufReader<UnixStream>, String) {
    let mut client = BufReader::new(daemon.connect());
    client
        .get_mut()
        .write_all(format!("{name}\n").as_bytes())
        .unwrap();
    let mut line = String::new();
    while !line.starts_with(wanted) {
        line.clear();
        assert_ne!(client.read_line(&mut line).unwrap(), 0, "no {wanted:?}");
    }
    (client, line)
}

/// What is left of an answer.
pub fn rest(mut client: BufReader<UnixStream>) -> String {
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    rest
}

/// Processes, as `| pids 17 18` says.
fn processes(line: &str) -> Vec<Process> {
    let pids = line.trim_start_matches("| pids ").split_whitespace();
    pids.map(|pid| Process::of(pid.parse().unwrap())).collect()
}

/// A process that is there, whatever becomes of its number.
struct Process(std::os::fd::OwnedFd);

impl Process {
    fn of(pid: i32) -> Self {
        Self(pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap())
    }

    fn has_ended(&self, within: Duration) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::try_from(within).unwrap())).unwrap() > 0
    }
}

#[test]
fn a_hook_that_hangs_ends_with_the_run() {
    let world = World::sourced();
    let hook = hanging_hook(&world);
    world.config(&format!("run_timeout: \"2s\", {hook}"));
    let daemon = start(&world);
    let (client, line) = trigger(&daemon, "site", "| pids ");
    let hook = processes(&line);
    let answer = rest(client);
    let last = last_line(&answer);
    assert!(
        last.starts_with(
            "error site timeout: the run was not over after 2s (`run_timeout`), in the step hooks: "
        ),
        "{answer}"
    );
    assert!(last.contains("was killed; the worktree is at "), "{last}");
    assert!(
        answer.contains("failed: killed: the run's time is over"),
        "{answer}"
    );
    assert!(
        hook.iter()
            .all(|process| process.has_ended(Duration::from_secs(30)))
    );
    assert_eq!(status(&daemon)["hooks_owed"], true);
    // Nothing is left of it.
    world.script("hook", "exit 0");
    daemon.deploys("site");
    assert_eq!(status(&daemon)["hooks_owed"], false);

    hanging_hook(&world);
    let ended = world.run_to(6, ["once", "site"]);
    assert!(
        ended.err.contains("(`run_timeout`), in the step hooks: "),
        "{ended:?}"
    );
}

#[test]
fn a_silent_remote_ends_with_the_run() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    world.config_of(&format!(
        "\"site\": (repo: \"git://{address}/x\", branch: \"main\", path: \"site\", timeout: \"10m\", run_timeout: \"2s\"),"
    ));
    let ended = world.run_to(6, ["once", "site"]);
    let last = ended.err.lines().next_back().unwrap();
    assert!(
        last.starts_with(
            "error site timeout: the run was not over after 2s (`run_timeout`), in the step fetch: "
        ),
        "{last}"
    );
    assert!(last.contains("raise the trigger's `run_timeout`"), "{last}");
    // Nor does it try again when there is no time for it.
    drop(listener);
    world.config_of(&format!(
        "\"site\": (repo: \"git://{address}/x\", branch: \"main\", path: \"site\", retries: 10, run_timeout: \"3s\"),"
    ));
    let ended = world.run_to(1, ["once", "site"]);
    assert!(ended.err.contains("error site unreachable: "), "{ended:?}");
}

/// Who holds a target's lock holds up its runs alone, for a while, and takes nobody's job.
#[test]
fn a_lock_that_another_holds_is_waited_for_without_a_job() {
    let world = World::sourced();
    let configure = |run_timeout: &str| {
        let trigger = |name: &str, more: &str| {
            format!("{name:?}: (repo: \"repo.git\", branch: \"main\", path: {name:?}, {more}),")
        };
        let held = trigger("held", &format!("run_timeout: {run_timeout:?}"));
        let triggers = held + &trigger("other", "");
        let text = format!("(listen: [Unix(path: \"s.sock\")], jobs: 1, triggers: {{ {triggers} }})");
        world.write("config.ron", &text);
    };
    configure("1h");
    let lock = world.write("held/.git/gitsocket/lock", "");
    let stranger = File::open(&lock).unwrap();
    flock(&stranger, FlockOperation::LockExclusive).unwrap();
    let mut daemon = start(&world);
    let (held, _) = trigger(&daemon, "held", "waiting for ");
    for _ in 0..2 {
        daemon.deploys("other");
    }
    // One SIGTERM suffices.
    daemon.signal(Signal::TERM);
    let answer = rest(held);
    assert!(
        last_line(&answer).starts_with("error held stopping: "),
        "{answer}"
    );
    assert!(daemon.wait().0.success());

    configure("2s");
    let daemon = start(&world);
    for _ in 0..2 {
        let (held, _) = trigger(&daemon, "held", "waiting for ");
        daemon.deploys("other");
        let answer = rest(held);
        let last = last_line(&answer);
        assert!(
            last.starts_with(
                "error held timeout: the run was not over after 2s (`run_timeout`), in the step lock: "
            ),
            "{answer}"
        );
        assert!(
            last.contains("/held/.git/gitsocket/lock is locked by another process")
                && last.contains("lslocks"),
            "{last}"
        );
    }
    world.run_to(6, ["once", "held"]);
    // Once it lets go, all is well; also if that comes while a run waits.
    configure("1h");
    daemon.signal(Signal::HUP);
    let mut daemon = daemon;
    daemon.wait_for("ready triggers=2");
    let (held, _) = trigger(&daemon, "held", "waiting for ");
    drop(stranger);
    let answer = rest(held);
    assert!(last_line(&answer).starts_with("ok held "), "{answer}");
    daemon.deploys("other");
}

#[test]
fn one_sigterm_ends_a_daemon_whose_hook_hangs() {
    let world = World::sourced();
    let hook = hanging_hook(&world);
    world.config(&format!("run_timeout: \"3s\", {hook}"));
    let mut daemon = start(&world);
    let (client, _) = trigger(&daemon, "site", "| pids ");
    daemon.signal(Signal::TERM);
    let (status, log) = daemon.wait();
    assert!(status.success(), "{log}");
    assert!(last_line(&rest(client)).starts_with("error site timeout: "));
}

/// A file system that can be frozen: whoever writes to it then is held by the kernel.
struct Freezer {
    dir: PathBuf,
    _unmount: Unmount,
}

impl Freezer {
    /// Nothing where none can be made.
    fn new(world: &World) -> Option<Self> {
        if !need(Need::Root) {
            return None;
        }
        let dir = world.path("disk");
        fs::create_dir(&dir).unwrap();
        let image = world.path("image");
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let made = ["mkfs.ext4", "mount", "fsfreeze"].into_iter().all(need)
            && succeeds("mkfs.ext4", &["-q".as_ref(), &image])
            && succeeds("mount", &["-o".as_ref(), "loop".as_ref(), &image, &dir]);
        if !made {
            machine::skipped("no file system can be frozen here");
            return None;
        }
        Some(Self {
            _unmount: Unmount(dir.clone()),
            dir,
        })
    }

    fn freeze(&self) {
        assert!(succeeds("fsfreeze", &["-f".as_ref(), &self.dir]));
    }

    fn thaw(&self) {
        assert!(succeeds("fsfreeze", &["-u".as_ref(), &self.dir]));
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        succeeds("fsfreeze", &["-u".as_ref(), &self.dir]);
    }
}

fn succeeds(program: &str, args: &[&Path]) -> bool {
    let mut command = Command::new(program);
    let status = command.args(args).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn what_the_kernel_holds_is_given_up_on() {
    let (world, mut source) = World::with_commit();
    let Some(disk) = Freezer::new(&world) else { return };
    let trigger_of = |name: &str, path: &str, more: &str| {
        format!("{name:?}: (repo: \"repo.git\", branch: \"main\", path: {path:?}, {more}),")
    };
    let triggers = [
        trigger_of("site", "disk/site", "run_timeout: \"2s\""),
        trigger_of("same", "disk/site", ""),
        trigger_of("other", "other", ""),
    ]
    .concat();
    let text = format!("(listen: [Unix(path: \"s.sock\")], jobs: 1, triggers: {{ {triggers} }})");
    world.write("config.ron", &text);
    let mut daemon = start(&world);
    daemon.deploys("site");

    source.commit([("a", file("2"))]);
    disk.freeze();
    let (client, _) = trigger(&daemon, "site", "deploying ");
    // One that was accepted behind it ends with it.
    let (next, _) = trigger(&daemon, "site", "queued ");
    let answer = rest(client);
    let last = last_line(&answer).to_owned();
    assert!(
        last.starts_with(
            "error site timeout: the run was not over after 2s (`run_timeout`), and is stuck in the step "
        ),
        "{answer}"
    );
    for answer in [rest(next), daemon.say("site\n"), daemon.say("same\n")] {
        let last = last_line(&answer);
        assert!(
            last.contains(" resources: ") && last.contains("stuck since 2"),
            "{answer}"
        );
        assert!(last.contains("see whether the file system at "), "{last}");
    }
    assert!(
        last_line(&daemon.say("other\n")).starts_with("ok other "),
        "its job is free"
    );

    let now = status(&daemon);
    assert_eq!(now["state"], "stuck", "{now}");
    assert!(
        now["stuck"]["since"].is_u64() && now["stuck"]["step"].is_string(),
        "{now}"
    );
    assert_eq!(now["failing"]["kind"], "resources", "{now}");
    assert!(now["failing_for"].is_u64(), "{now}");
    assert!(daemon.say("status\n").contains("site stuck "));
    let ended = world.run(["status"]);
    assert!(ended.out.contains("\n  stuck     since "), "{ended:?}");
    let ended = world.run_to(1, ["healthcheck"]);
    assert!(ended.err.starts_with("site has been stuck since "), "{ended:?}");

    disk.thaw();
    daemon.wait_for("the run that was stuck has come back");
    daemon.deploys("same");
    daemon.deploys("site");
    assert_eq!(status(&daemon)["state"], "idle");
    assert_eq!(world.run(["healthcheck"]).exit, 0);
    assert_eq!(super::world::tree(&world.path("disk/site"))["a"], file("2"));

    // A reload leaves the worker behind whose thread the kernel holds, and the next one serves.
    source.commit([("a", file("3"))]);
    disk.freeze();
    assert!(last_line(&daemon.say("site\n")).contains(" is stuck in the step "));
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready triggers=3");
    daemon.wait_for(" is left behind");
    daemon.deploys("other");
    let answer = daemon.say("site\n");
    assert!(last_line(&answer).contains("in the step lock: "), "{answer}");
    // One SIGTERM ends the daemon even so. What it left is gone when the kernel lets go of it, and holds the log until then.
    daemon.signal(Signal::TERM);
    assert!(daemon.child.wait().unwrap().success());
    assert!(!daemon.socket.exists());
    disk.thaw();
    daemon.wait();
    let daemon = start(&world);
    daemon.deploys("site");
    assert_eq!(super::world::tree(&world.path("disk/site"))["a"], file("3"));
}

/// A file system that nothing answers for: the thread that looks at a name in it is held by the kernel.
struct Hung {
    /// Where the kernel's questions could be read. Once this is closed, all who wait get an error.
    _questions: File,
    _unmount: Unmount,
}

impl Hung {
    /// Nothing where none can be made.
    fn mount(dir: &Path) -> Option<Self> {
        if !need(Need::Root) || !need("mount") {
            return None;
        }
        let mounted = || -> std::io::Result<Self> {
            let questions = File::options().read(true).write(true).open("/dev/fuse")?;
            let args = [
                "-i",
                "-t",
                "fuse",
                "-o",
                "fd=0,rootmode=40000,user_id=0,group_id=0",
                "hung",
            ];
            let mut mount = Command::new("mount");
            mount.args(args).arg(dir).stdin(questions.try_clone()?);
            if mount.stderr(Stdio::null()).status()?.success() {
                Ok(Self {
                    _questions: questions,
                    _unmount: Unmount(dir.into()),
                })
            } else {
                Err(std::io::ErrorKind::Unsupported.into())
            }
        };
        let mounted = mounted().ok();
        if mounted.is_none() {
            machine::skipped("no FUSE can be mounted here");
        }
        mounted
    }
}

/// A daemon with one job, two triggers of a source in `hung`, and one of another source.
fn hanging_world() -> World {
    let world = World::sourced();
    let text = "(listen: [Unix(path: \"s.sock\")], jobs: 1, triggers: { \
         \"hung\": (repo: \"hung/repo.git\", branch: \"main\", path: \"site\", timeout: \"1s\", retries: 0), \
         \"more\": (repo: \"hung/repo.git\", branch: \"main\", path: \"more\", timeout: \"1s\", retries: 0), \
         \"other\": (repo: \"repo.git\", branch: \"main\", path: \"other\") })";
    world.write("config.ron", text);
    fs::create_dir(world.path("hung")).unwrap();
    super::world::copy(&world.path("repo.git"), &world.path("hung/repo.git"));
    world
}

fn does_not_answer(daemon: &Daemon, name: &str) {
    let answer = daemon.say(format!("{name}\n"));
    let last = last_line(&answer);
    assert!(last.starts_with(&format!("error {name} ")), "{answer}");
    assert!(last.contains("see whether its file system answers"), "{last}");
    deploys(daemon, "other");
}

fn deploys(daemon: &Daemon, name: &str) {
    daemon.deploys(name);
}

/// One SIGTERM ends the daemon while a run waits for the source; and when the source answers again, all is well.
fn ends_and_is_well_again(world: &World, mut daemon: Daemon, mount: Hung) {
    let (client, _) = trigger(&daemon, "hung", "deploying ");
    daemon.signal(Signal::TERM);
    let (status, log) = daemon.wait();
    assert!(status.success(), "{log}");
    assert!(last_line(&rest(client)).starts_with("error hung "));
    drop(mount);
    let daemon = start(world);
    for name in ["hung", "more", "other"] {
        deploys(&daemon, name);
    }
}

/// Nothing that somebody can put into a source holds the thread that serves it (`traps`): each name is looked at before it
/// is opened. The file system can, and nothing interrupts a thread that asks it; a job is held for as long as the trigger's
/// `timeout` says, and no other trigger is held up by it.
#[test]
fn a_source_that_answers_no_more_is_in_nobodys_way() {
    let world = hanging_world();
    let daemon = start(&world);
    deploys(&daemon, "hung");
    let Some(mount) = Hung::mount(&world.path("hung")) else {
        return;
    };
    // One more than threads are left behind, once.
    for name in ["hung", "more", "hung"] {
        does_not_answer(&daemon, name);
    }
    ends_and_is_well_again(&world, daemon, mount);
}

/// Nor is another trigger, or a check, held up where the source does not answer from the start.
#[test]
fn a_source_that_never_answers_is_in_nobodys_way() {
    let world = hanging_world();
    let Some(mount) = Hung::mount(&world.path("hung")) else {
        return;
    };
    let daemon = start(&world);
    does_not_answer(&daemon, "hung");
    let ended = world.run_to(2, ["check"]);
    let found: Vec<_> = ended
        .err
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    assert_eq!(found[0].0, "hung", "{ended:?}");
    assert_eq!(found[1].0, "more", "{ended:?}");
    assert_eq!(
        ended.err.matches("did not answer within 5s").count(),
        2,
        "{ended:?}"
    );
    assert!(!ended.err.contains("other: "), "{ended:?}");
    ends_and_is_well_again(&world, daemon, mount);
}

/// Whatever is killed, its hooks do not go on beside those of the next run.
#[test]
fn hooks_die_with_whoever_was_killed() {
    for (hooks, kills_worker) in [("Outside", false), ("Inside", false), ("Inside", true)] {
        let world = World::sourced();
        let hook = hanging_hook(&world);
        let site = format!("\"site\": (repo: \"repo.git\", branch: \"main\", path: \"site\", {hook})");
        let text =
            format!("(listen: [Unix(path: \"s.sock\")], sandbox: (hooks: {hooks}), triggers: {{ {site} }})");
        world.write("config.ron", &text);
        let mut daemon = start(&world);
        let (_client, line) = trigger(&daemon, "site", "| pids ");
        let old = processes(&line);
        if kills_worker {
            rustix::process::kill_process(worker(&daemon), Signal::KILL).unwrap()
        } else {
            daemon.signal(Signal::KILL)
        }
        daemon.wait();
        for process in old {
            assert!(
                process.has_ended(Duration::from_secs(30)),
                "{hooks} {kills_worker}"
            );
        }
        // The daemon finishes what was left unfinished, by itself.
        let mut daemon = start(&world);
        daemon.wait_for("left unfinished");
        let (_client, line) = trigger(&daemon, "attach site", "| pids ");
        for process in processes(&line) {
            assert!(!process.has_ended(Duration::ZERO), "the new ones go on");
        }
    }
}

/// The child of the supervisor that is no hook. Only root may see which that is.
fn worker(daemon: &Daemon) -> Pid {
    // Its executable may be read by root only.
    let is_ours = |pid: &Pid| {
        fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()))
            .is_ok_and(|comm| comm == "gitsocket\n")
    };
    daemon.workers().into_iter().find(is_ours).unwrap()
}

#[test]
fn hooks_die_with_a_killed_once() {
    let world = World::sourced();
    let hook = hanging_hook(&world);
    world.config(&hook);
    let start = || {
        let mut command = world.command(["once", "site"]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("| pids ") {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0);
        }
        (child, processes(&line))
    };
    let (mut first, old) = start();
    first.kill().unwrap();
    first.wait().unwrap();
    for process in &old {
        assert!(process.has_ended(Duration::from_secs(30)));
    }
    let (mut second, new) = start();
    assert!(new.iter().all(|process| !process.has_ended(Duration::ZERO)));
    second.kill().unwrap();
    second.wait().unwrap();
    assert!(
        new.iter()
            .all(|process| process.has_ended(Duration::from_secs(30)))
    );
}
