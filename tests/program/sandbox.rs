//! The sandbox closes what it should to the daemon, its runs and its hooks, and leaves open what they need.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, RenameFlags},
    net::{AddressFamily, SendFlags, SocketType, connect, ipproto, sendto, socket},
    process::{Resource, getppid, getrlimit, prlimit},
};

use super::{
    source::file,
    world::{Daemon, World, last_line, machine},
};

/// A daemon whose sandbox holds; nothing where the kernel cannot make one.
fn daemon(world: &World, sandbox: &str, triggers: &str) -> Option<Daemon> {
    let listen = "listen: [Unix(path: \"s.sock\")]";
    let text = format!("({listen}, {sandbox} triggers: {{ {triggers} }})");
    world.write("config.ron", &text);
    Daemon::start_shut_in(world, &[])
}

#[test]
fn hooks_inside_reach_their_target_and_nothing_else() {
    let world = World::sourced();
    world.write("other/secret", "s3cret");
    let hook = world.script(
        "tools/hook",
        "echo inside > built && echo target $?
        echo x > /dev/null && echo null $?
        echo x > $TMPDIR/x && echo tmp $?
        (echo x > ../other/file) 2>/dev/null; echo other $?
        (read line < ../other/secret) 2>/dev/null; echo secret $?
        (echo x > ../beside) 2>/dev/null; echo beside $?
        (read line < ../config.ron) 2>/dev/null; echo config $?
        (read line < /etc/passwd); echo passwd $?
        (read line < /etc/shadow) 2>/dev/null; echo shadow $?
        /bin/ls / > /dev/null 2>&1; echo root $?",
    );
    let triggers = format!(
        "\"site\": (repo: \"repo.git\", path: \"site\", hooks: [Exec(run: [{hook:?}])]),
         \"other\": (repo: \"repo.git\", path: \"other\"),"
    );
    let Some(daemon) = daemon(&world, "sandbox: BestEffort,", &triggers) else {
        return;
    };
    let answer = daemon.deploys("site");
    for line in [
        "target 0", "null 0", "tmp 0", "other 2", "secret 2", "beside 2", "config 2", "passwd 0", "shadow 2",
        "root 2",
    ] {
        assert!(answer.contains(&format!("| {line}\n")), "{line}: {answer}");
    }
    assert_eq!(fs::read_to_string(world.path("site/built")).unwrap(), "inside\n");
    assert!(!world.path("beside").exists());
}

#[test]
fn a_hook_that_fails_inside_is_told_why_it_may_have() {
    let world = World::sourced();
    let hook = world.script("hook", "echo x > ../beside");
    let trigger = format!("\"site\": (repo: \"repo.git\", path: \"site\", hooks: [Exec(run: [{hook:?}])]),");
    let Some(daemon) = daemon(&world, "sandbox: Required,", &trigger) else {
        return;
    };
    let answer = daemon.answers("site\n", "error site hook: ");
    assert!(answer.contains("sandbox: (hooks: Outside)"), "{answer}");
}

#[test]
fn hooks_outside_are_free() {
    for sandbox in ["", "sandbox: (hooks: Outside),", "sandbox: Off,"] {
        let (world, mut source) = World::with_commit();
        let hook = world.script(
            "hook",
            "echo $GITSOCKET_TRIGGER $STAGE > ../beside; echo to stderr >&2; pwd",
        );
        let trigger = format!(
            "\"site\": (repo: \"repo.git\", path: \"site\",
                hooks: [Exec(run: [{hook:?}], user_env: {{\"STAGE\": \"live\"}}), PostCheckout]),"
        );
        let Some(daemon) = daemon(&world, sandbox, &trigger) else {
            return;
        };
        let answer = daemon.deploys("site");
        assert!(answer.contains("| to stderr\n"), "{answer}");
        assert_eq!(fs::read_to_string(world.path("beside")).unwrap(), "site live\n");
        // The repository's own, and one that fails, is killed or cannot be started.
        let own = world.script("site/.git/hooks/post-checkout", "echo $3 from $(pwd); exit 3");
        source.commit_on("main", [("a", file("2"))]);
        let answer = daemon.say("site\n");
        let site = world.path("site").canonicalize().unwrap();
        assert!(
            answer.contains(&format!("| 1 from {}\n", site.display())),
            "{answer}"
        );
        assert!(last_line(&answer).contains("exit status 3"), "{answer}");
        fs::write(&own, "#!/bin/sh\nkill -9 $$\n").unwrap();
        assert!(daemon.say("site\n").contains("ended with signal 9"));
        fs::write(&own, "#!/no/such/interpreter\n").unwrap();
        assert!(
            daemon
                .say("site\n")
                .contains("cannot start the hook post-checkout")
        );
        fs::remove_file(&own).unwrap();
        daemon.deploys("site");
    }
}

#[test]
fn targets_may_be_removed_and_made_anew() {
    let world = World::sourced();
    let triggers = "\"site\": (repo: \"repo.git\", path: \"in/site\"),
        \"deep\": (repo: \"repo.git\", path: \"not/there/yet\"),
        \"apart\": (repo: \"repo.git\", path: \"in/apart\", git_dir: \"git/apart.git\"),";
    let Some(daemon) = daemon(&world, "sandbox: Required,", triggers) else {
        return;
    };
    for round in 0..2 {
        for name in ["site", "deep", "apart"] {
            let answer = daemon.say(format!("{name}\n"));
            assert!(
                last_line(&answer).starts_with(&format!("ok {name} 0000000..")),
                "{round}: {answer}"
            );
        }
        for dir in ["in/site", "not/there/yet", "in/apart", "git/apart.git"] {
            fs::remove_dir_all(world.path(dir)).unwrap();
        }
    }
}

/// The directory of the configuration is closed to the worker: so what it has there is the target alone.
#[test]
fn a_target_beside_the_configuration_may_be_replaced_as_well() {
    let world = World::sourced();
    let Some(mut daemon) = daemon(&world, "", "\"site\": (repo: \"repo.git\", path: \"site\"),") else {
        return;
    };
    let worker = daemon.workers();
    daemon.deploys("site");
    fs::remove_dir_all(world.path("site")).unwrap();
    let began = Instant::now();
    let line = daemon.wait_for("was replaced");
    assert!(line.contains(world.path("site").to_str().unwrap()), "{line}");
    daemon.wait_for("ready");
    daemon.answers("site\n", "ok site 0000000..");
    assert_ne!(daemon.workers(), worker);
    // Another directory of that name is as well.
    fs::rename(world.path("site"), world.path("before")).unwrap();
    daemon.wait_for("was replaced");
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "another worker a second, at most"
    );
    daemon.wait_for("ready");
    fs::remove_dir(world.path("site")).unwrap();
    fs::rename(world.path("before"), world.path("site")).unwrap();
    daemon.wait_for("was replaced");
    daemon.wait_for("ready");
    assert!(last_line(&daemon.say("site\n")).starts_with("ok site up-to-date "));
}

/// It is no reload, and is told as one no longer than it lasts.
#[test]
fn a_worker_that_cannot_take_the_place_of_another_is_tried_again() {
    let world = World::sourced();
    let triggers =
        "\"site\": (repo: \"repo.git\", path: \"site\"), \"other\": (repo: \"else.git\", path: \"other\"),";
    let Some(mut daemon) = daemon(&world, "", triggers) else {
        return;
    };
    std::os::unix::fs::symlink("site", world.path("link")).unwrap();
    let exchange = || {
        let [a, b] = [world.path("link"), world.path("other")];
        rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
    };
    exchange();
    daemon.wait_for("was replaced");
    daemon.wait_for("the worker for the same configuration ended");
    daemon.wait_for("the daemon tries again");
    super::supervisor::wait_until(|| daemon.say("status\n").contains("reload refused"));
    daemon.deploys("site");
    exchange();
    daemon.wait_for("ready");
    super::supervisor::wait_until(|| !daemon.say("status\n").contains("reload refused"));
}

#[test]
fn the_daemon_reads_nothing_that_its_configuration_does_not_name() {
    let world = World::sourced();
    fs::create_dir(world.path("in")).unwrap();
    // A name that leads somewhere else once the daemon runs.
    std::os::unix::fs::symlink(world.path("repo.git"), world.path("link")).unwrap();
    let triggers = "\"site\": (repo: \"link\", path: \"in/site\"),";
    let Some(daemon) = daemon(&world, "sandbox: Required,", triggers) else {
        return;
    };
    daemon.deploys("site");
    fs::remove_file(world.path("link")).unwrap();
    fs::rename(world.path("repo.git"), world.path("elsewhere.git")).unwrap();
    std::os::unix::fs::symlink(world.path("elsewhere.git"), world.path("link")).unwrap();
    assert!(
        last_line(&daemon.say("site\n")).starts_with("ok site "),
        "the same directory under another name is still the same"
    );
    super::source::Source::new(&world.path("secret.git")).commit([("secret", file("s3cret"))]);
    fs::remove_file(world.path("link")).unwrap();
    std::os::unix::fs::symlink(world.path("secret.git"), world.path("link")).unwrap();
    daemon.answers("site\n", "error site ");
    assert!(!world.path("in/site/secret").exists());
    // Who may change the configuration, or what it names, may have it read anew.
    let mut daemon = daemon;
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait_for("ready");
    daemon.deploys("site");
    assert!(world.path("in/site/secret").exists());
}

#[test]
fn a_target_that_leads_elsewhere_since_is_told_apart_from_one_without_permission() {
    let world = World::sourced();
    for dir in ["in", "elsewhere/site"] {
        fs::create_dir_all(world.path(dir)).unwrap();
    }
    let Some(daemon) = daemon(&world, "", "\"site\": (repo: \"repo.git\", path: \"in/site\"),") else {
        return;
    };
    std::os::unix::fs::symlink(world.path("elsewhere/site"), world.path("in/site")).unwrap();
    let answer = daemon.answers("site\n", "error site path: ");
    assert!(
        answer.contains("systemctl reload gitsocket, or SIGHUP"),
        "{answer}"
    );
}

#[test]
fn ports_that_no_remote_has_are_closed() {
    let world = World::sourced();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let program = env!("CARGO_BIN_EXE_gitsocket");
    let trigger = format!(
        "\"site\": (repo: \"repo.git\", path: \"site\", hooks: [
            Exec(run: [{program:?}, \"client\", \"-s\", \"127.0.0.1:{port}\", \"--timeout\", \"30s\", \"x\"])]),"
    );
    let Some(daemon) = daemon(&world, "sandbox: Required,", &trigger) else {
        return;
    };
    let answer = daemon.say("site\n");
    let refused = format!("not allowed to connect to 127.0.0.1:{port}");
    // The one that listens never answers, so a connection that is made ends at the timeout.
    // Before Linux 6.7 the kernel cannot do that, and the daemon says so.
    assert!(answer.contains(&refused) || !limits_tcp(), "{answer}");
}

#[test]
fn a_port_that_a_redirect_leads_to_is_closed_and_the_error_says_what_opens_it() {
    if !limits_tcp() {
        return machine::skipped("this kernel cannot limit TCP");
    }
    let world = World::sourced();
    let [listener, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [port, closed] = [&listener, &other].map(|listener| listener.local_addr().unwrap().port());
    let trigger = format!("\"site\": (repo: \"http://127.0.0.1:{port}/x.git\", path: \"site\", retries: 0),");
    let Some(daemon) = daemon(&world, "", &trigger) else {
        return;
    };
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = BufReader::new(client.try_clone().unwrap()).lines();
        while request.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        let there = format!("http://127.0.0.1:{closed}/x.git/info/refs?service=git-upload-pack");
        let answer = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close";
        write!(client, "{answer}\r\nLocation: {there}\r\n\r\n").unwrap();
    });
    let answer = daemon.say("site\n");
    server.join().unwrap();
    let last = last_line(&answer);
    assert!(last.starts_with("error site unreachable: "), "{answer}");
    for word in [
        &format!("127.0.0.1:{closed}"),
        "the trigger's `repo` names",
        "redirect",
    ] {
        assert!(last.contains(word), "{word}: {last}");
    }
    other.set_nonblocking(true).unwrap();
    assert!(other.accept().is_err());
}

/// Ports are closed to what connects without connect(2), too.
#[test]
fn no_other_way_leads_to_a_port() {
    let world = World::sourced();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let exe = std::env::current_exe().unwrap();
    let trigger = format!(
        "\"site\": (repo: \"repo.git\", path: \"site\", hooks: [
            Exec(run: [{exe:?}, \"--exact\", \"sandbox::the_hook_that_connects\", \"--ignored\", \"--nocapture\"],
                user_env: {{\"PORT\": \"{port}\"}})]),"
    );
    let Some(daemon) = daemon(&world, "sandbox: Required,", &trigger) else {
        return;
    };
    let answer = daemon.deploys("site");
    for refused in [
        "mptcp: Protocol not supported",
        "fast open: Operation not supported",
    ] {
        assert!(answer.contains(&format!("| {refused}")), "{answer}");
    }
    assert!(answer.contains("| udp: sent"), "{answer}");
    // Nor to the limits of the daemon.
    assert!(
        answer.contains("| limits: Operation not permitted") && answer.contains("| own limits: set"),
        "{answer}"
    );
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
}

/// Is the hook of the test above.
#[test]
#[ignore = "is a hook"]
fn the_hook_that_connects() {
    let Some(port) = std::env::var("PORT").ok().and_then(|port| port.parse().ok()) else {
        return;
    };
    let at = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port);
    let mptcp = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP));
    match mptcp.and_then(|socket| connect(&socket, &at)) {
        Ok(()) => println!("mptcp: connected"),
        Err(err) => println!("mptcp: {}", std::io::Error::from(err)),
    }
    let limit = getrlimit(Resource::Core);
    for (name, process) in [("limits", getppid()), ("own limits", None)] {
        match prlimit(process, Resource::Core, limit) {
            Ok(_) => println!("{name}: set"),
            Err(err) => println!("{name}: {}", std::io::Error::from(err)),
        }
    }
    let fast_open = SendFlags::from_bits_retain(0x2000_0000);
    for (name, kind, flags) in [
        ("fast open", SocketType::STREAM, fast_open),
        ("udp", SocketType::DGRAM, SendFlags::empty()),
    ] {
        let socket = socket(AddressFamily::INET, kind, None).unwrap();
        match sendto(&socket, b"x", flags, &at) {
            Ok(_) => println!("{name}: sent"),
            Err(err) => println!("{name}: {}", std::io::Error::from(err)),
        }
    }
}

fn limits_tcp() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (6, 7)
}

#[test]
fn what_holds_is_said() {
    let world = World::sourced();
    for (sandbox, said) in [
        ("Off", "off, as the configuration says"),
        ("BestEffort", "hooks are inside"),
    ] {
        let trigger = "\"site\": (repo: \"repo.git\", path: \"site\"),";
        world.write(
            "config.ron",
            &format!("(listen: [Unix(path: \"s.sock\")], sandbox: {sandbox}, triggers: {{ {trigger} }})"),
        );
        let child = world
            .command(["server"])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut daemon = Daemon::of(child, world.path("s.sock"));
        let line = daemon.wait_for("sandbox: ");
        assert!(line.contains(said) || line.contains("sandbox: none"), "{line}");
        daemon.wait_for("ready");
    }
}
