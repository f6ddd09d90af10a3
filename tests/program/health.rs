//! The health check of a deploy decides how its run ends, and hooks at `Failed` are told.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use rustix::process::Signal;

use super::{
    bounded::{rest, trigger},
    source::file,
    world::{Daemon, World, last_line},
};

/// A server that says what it is told to, and tells of each question.
struct Server {
    port: u16,
    says: Arc<Mutex<Vec<&'static str>>>,
    asked: mpsc::Receiver<String>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let says = Arc::new(Mutex::new(vec!["200 OK"]));
        let (tell, asked) = mpsc::channel();
        let script = says.clone();
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let mut script = script.lock().unwrap();
                let status = match script.len() {
                    1 => script[0],
                    _ => script.remove(0),
                };
                drop(script);
                answer(socket, status, &tell);
            }
        });
        Self { port, says, asked }
    }

    /// Say these one after the other, the last of them from then on.
    fn says(&self, script: &[&'static str]) {
        *self.says.lock().unwrap() = script.to_vec();
    }

    /// How many questions there were since this was asked.
    fn count(&self) -> usize {
        self.asked.try_iter().count()
    }

    fn health(&self, more: &str) -> String {
        format!(
            "health: (check: Http(\"http://127.0.0.1:{}/healthz\"), every: \"10ms\", {more}),",
            self.port
        )
    }
}

fn answer(mut socket: TcpStream, status: &str, tell: &mpsc::Sender<String>) {
    let lines = BufReader::new(socket.try_clone().unwrap()).lines();
    let head = lines.map_while(Result::ok).take_while(|line| !line.is_empty());
    // Before the answer: who has that knows that this was told.
    tell.send(head.collect::<Vec<_>>().join("\n")).ok();
    let head = format!("HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 9\r\n\r\n");
    socket.write_all(head.as_bytes()).ok();
}

fn log(world: &World) -> Vec<String> {
    let text = fs::read_to_string(world.path("log")).unwrap_or_default();
    fs::remove_file(world.path("log")).ok();
    text.lines().map(Into::into).collect()
}

/// In the daemon's sandbox: its runs may connect to that port.
#[test]
fn a_deploy_is_good_once_all_is_well() {
    let (world, mut source) = World::with_commit();
    let server = Server::start();
    server.says(&["503 x", "503 x", "301 Moved Permanently"]);
    let hook = world.script("hook", "echo hook");
    world.config(&format!("hooks: [Exec(run: [{hook:?}])], {}", server.health("")));
    let mut daemon = world.daemon();
    let answer = daemon.say("site\n");
    let expected = "| hook\nhealth 503 Service Unavailable, again in 10ms\nhealth 301 Moved Permanently\nok site 0000000..";
    assert!(answer.contains(expected), "{answer}");
    assert_eq!(server.count(), 3);
    // All is good and nothing new: it is not asked.
    assert!(last_line(&daemon.say("site\n")).starts_with("ok site up-to-date "));
    assert_eq!(server.count(), 0);
    // A health check that failed is pending, as a hook that failed is.
    source.commit([("a", file("2"))]);
    server.says(&["404 Not Found"]);
    drop(daemon);
    world.config(&server.health("within: \"100ms\""));
    daemon = world.daemon();
    for _ in 0..2 {
        let answer = daemon.say("site\n");
        let last = last_line(&answer);
        let expected = format!(
            "error site unhealthy: http://127.0.0.1:{}/healthz was not healthy within ",
            server.port
        );
        assert!(last.starts_with(&expected), "{answer}");
        assert!(
            last.contains("its last answer: 404 Not Found; the worktree is at "),
            "{answer}"
        );
        assert!(server.count() > 0);
        assert!(daemon.say("status site\n").contains("; hooks pending"));
    }
    assert_eq!(world.run(["once", "site"]).exit, 5);
    server.says(&["200 OK"]);
    let answer = daemon.say("{\"op\":\"trigger\",\"name\":\"site\"}\n");
    assert!(
        answer.contains(r#""event":"health","answer":"200 OK","good":true"#),
        "{answer}"
    );
    assert!(last_line(&daemon.say("site\n")).starts_with("ok site up-to-date "));
}

#[test]
fn a_program_is_asked_as_a_hook_is() {
    let (world, _source) = World::with_commit();
    world.write("tries", "");
    let program = world.script(
        "program",
        "echo x >> ../tries; echo $GITSOCKET_TRIGGER $STAGE $(/bin/pwd -P) $GITSOCKET_CHANGED_FILES
        { read a && read b && read c; } < ../tries",
    );
    world.config(&format!(
        "health: (check: Exec(run: [{program:?}], user_env: {{\"STAGE\": \"asked\"}}), every: \"10ms\"),"
    ));
    let daemon = world.daemon();
    let answer = daemon.say("site\n");
    let site = world.path("site").canonicalize().unwrap();
    let line = format!(
        "| site asked {0} {0}/.git/gitsocket/changed-files\n",
        site.display()
    );
    // Of the second question, which was answered in the same way, nothing is told.
    assert_eq!(answer.matches(&line).count(), 2, "{answer}");
    assert!(
        answer.contains("health exit status 1, again in 10ms\n"),
        "{answer}"
    );
    assert!(answer.contains("health exit status 0\nok site "), "{answer}");
    assert_eq!(fs::read_to_string(world.path("tries")).unwrap(), "x\nx\nx\n");
    // One that does not come back is killed, with what it has started.
    let program = world.script("program", "echo x; exec /bin/sleep 600");
    world.config(&format!(
        "health: (check: Exec(run: [{program:?}]), within: \"200ms\"), hooks: [Exec(run: [\"/bin/true\"])],"
    ));
    let ended = world.run_to(5, ["once", "site"]);
    let last = last_line(&ended.err);
    assert!(
        last.contains(" unhealthy: the program of `health` was not healthy within "),
        "{last}"
    );
    assert!(last.contains(" was killed after "), "{last}");
}

#[test]
fn the_end_of_the_daemon_does_not_wait_for_an_answer() {
    let (world, _source) = World::with_commit();
    let server = Server::start();
    server.says(&["503 x"]);
    let health = server.health("within: \"1h\"").replace("10ms", "30m");
    world.config(&health);
    let mut daemon = world.daemon();
    let (client, _) = trigger(&daemon, "site", "health 503 Service Unavailable, again in 30m");
    daemon.signal(Signal::TERM);
    let answer = rest(client);
    assert!(
        last_line(&answer).starts_with("error site stopping: the daemon stops, and "),
        "{answer}"
    );
    assert!(daemon.wait().0.success());
    // Nor does a run that has no time for the next question.
    world.config(&format!("{health} run_timeout: \"20m\","));
    let ended = world.run_to(6, ["once", "site"]);
    assert!(
        last_line(&ended.err).contains("was not healthy yet: 503 Service Unavailable"),
        "{ended:?}"
    );
}

/// Those at `Failed` are told why, with the lock still held, and change nothing of how the run ends.
#[test]
fn hooks_are_told_of_a_failure() {
    let (world, mut source) = World::with_commit();
    let server = Server::start();
    let tell = world.script(
        "tell",
        "echo \"$1 $GITSOCKET_FAILURE\" >> ../log; pwd >> ../log; echo ${GITSOCKET_NEW:-none} >> ../log; exit $1",
    );
    let hooks = |live: &str| {
        format!(
            "hooks: [Exec(run: [{tell:?}, \"3\"], at: Failed), Exec(run: [{tell:?}, \"0\"], at: Failed),
                Exec(run: [{live:?}])], {}",
            server.health("within: \"1s\"")
        )
    };
    world.config(&hooks("/bin/true"));
    world.deploy();
    world.deploy();
    assert_eq!(log(&world), [""; 0], "nothing has failed");
    let new = source.commit([("a", file("2"))]).to_string();
    server.says(&["500 x"]);
    let ended = world.run_to(5, ["once", "site"]);
    assert!(
        ended.err.contains("warning: the hook ") && ended.err.contains("ended with exit status 3"),
        "{ended:?}"
    );
    let told = log(&world);
    let site = world.path("site").canonicalize().unwrap().display().to_string();
    let failure = last_line(&ended.err)
        .trim_start_matches("error site ")
        .split(" (")
        .next()
        .unwrap();
    let failure = failure
        .rsplit_once("error site ")
        .map_or(failure, |(_, failure)| failure);
    assert_eq!(
        told,
        [
            format!("3 {failure}"),
            site.clone(),
            new.clone(),
            format!("0 {failure}"),
            site,
            new
        ]
    );
    // A hook that failed; and a run in which nothing is done tells nobody.
    world.config(&hooks("/bin/false"));
    assert_eq!(world.run(["once", "--dry-run", "site"]).exit, 0);
    assert_eq!(log(&world), [""; 0]);
    assert_eq!(world.run(["once", "site"]).exit, 5);
    assert!(
        log(&world)[0]
            .starts_with("3 hook: the hook /bin/false ended with exit status 1; the worktree is at ")
    );
    // With hooks that are pending, the daemon would begin with a run of its own.
    world.config(&hooks("/bin/true"));
    server.says(&["200 x"]);
    world.deploy();
    // Before anything is known of a commit; and in the daemon's sandbox.
    fs::rename(world.path("repo.git"), world.path("gone.git")).unwrap();
    let daemon = world.daemon();
    daemon.answers("site\n", "error site remote: ");
    let told = log(&world);
    assert!(told[0].starts_with("3 remote: ") && told[2] == "none", "{told:?}");
    assert_eq!(told.len(), 6, "{told:?}");
}

/// The time of a run does not count for those that tell of its end, but for a few seconds.
#[test]
fn hooks_are_told_of_a_run_that_was_too_late() {
    let (world, _source) = World::with_commit();
    let tell = world.script("tell", "echo \"$GITSOCKET_FAILURE\" >> ../log");
    world.config(&format!(
        "run_timeout: \"1s\", hooks: [Exec(run: [\"/bin/sleep\", \"600\"]), Exec(run: [{tell:?}], at: Failed)],"
    ));
    world.run_to(6, ["once", "site"]);
    let told = log(&world);
    assert!(
        told[0].starts_with("timeout: the run was not over after 1s (`run_timeout`), in the step "),
        "{told:?}"
    );
}

/// Inside the sandbox they are started as other hooks are.
#[test]
fn hooks_are_told_of_a_failure_inside_the_sandbox() {
    let (world, _source) = World::with_commit();
    let tell = world.script(
        "tell",
        "echo \"$GITSOCKET_FAILURE\" > $TMPDIR/x && read line < $TMPDIR/x && echo $line",
    );
    let trigger = format!(
        "\"site\": (repo: \"repo.git\", path: \"site\", hooks: [Exec(run: [\"/bin/false\"]), Exec(run: [{tell:?}], at: Failed)]),"
    );
    world.write(
        "config.ron",
        &format!("(listen: [Unix(path: \"s.sock\")], sandbox: BestEffort, triggers: {{ {trigger} }})"),
    );
    let daemon: Daemon = world.daemon();
    let answer = daemon.say("site\n");
    assert!(
        answer.contains("| hook: the hook /bin/false ended with exit status 1; the worktree is at "),
        "{answer}"
    );
    assert!(!Path::new(&world.path("site/.git/gitsocket/tmp")).exists());
}
