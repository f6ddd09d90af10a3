//! Releases restart a service without a visitor losing a page: nginx serves the live one, a hook restarts the service.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{
    foreign::{Server, find},
    last_line,
    nginx::Nginx,
    source::file,
    world::World,
};

/// What nginx serves the world at.
const CURRENT: &str = "/files/site/current/";

#[test]
fn a_sick_service_is_taken_back_and_no_visitor_sees_it() {
    let world = World::new();
    let (Some(python), Some(nginx)) = (find("python3"), Nginx::start(&world)) else {
        return;
    };
    world.fifo("control");
    world.fifo("answer");
    world.script(
        "restart",
        &format!(
            "cd {:?} && echo restart >control && read -r answer <answer && [ \"$answer\" = ok ]",
            world.path(".")
        ),
    );
    world.write("site/shared/data/greeting", "hello ");
    let (manager, [port]) = Server::start_on("ready", |[port]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/service.py");
        let mut command = Command::new(&python);
        command
            .args([script, "manage"])
            .arg(world.path("."))
            .arg(port.to_string());
        command
    });
    world.config(&format!(
        "releases: (shared: [\"data/\"]), hooks: [Exec(run: [\"./restart\"])], \
         health: (check: Http(\"http://127.0.0.1:{port}/healthz\"), within: \"2s\", every: \"50ms\"),"
    ));
    let mut source = world.source();
    let mut commit = |version: &str, more: Option<(&str, &str)>| {
        let app = include_str!("../support/app.py");
        let mut files = vec![
            ("app.py", file(app)),
            ("version", file(version)),
            ("index.html", file(&page(version))),
        ];
        files.extend(more.map(|(name, text)| (name, file(text))));
        source.commit(files);
    };
    let is_live = |version: &str| {
        assert_eq!(get(port, "/"), (200, format!("hello {version}")));
        let path = format!("{CURRENT}index.html");
        assert_eq!(get(nginx.plain, &path), (200, page(version)));
    };

    commit("1", None);
    world.deploy();
    is_live("1");

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let visits = scope.spawn(|| visit(nginx.plain, &is_over));
        commit("2", None);
        world.deploy();
        is_live("2");

        commit("3", Some(("sick", "")));
        let ended = world.run_to(7, ["once", "site"]);
        let last = last_line(&ended);
        assert!(
            last.starts_with("error site rolled-back: ") && last.contains("unhealthy"),
            "{last}"
        );
        assert!(last.contains("500"), "{last}");
        is_live("2");

        let ended = world.run_to(1, ["once", "site"]);
        assert!(last_line(&ended).starts_with("error site held: "), "{ended:?}");
        is_live("2");

        commit("4", Some(("app.py", "it does not even start")));
        let ended = world.run_to(7, ["once", "site"]);
        assert!(last_line(&ended).contains("hook"), "{ended:?}");
        is_live("2");

        world.run_to(0, ["once", "--rollback", "site"]);
        is_live("1");

        commit("5", None);
        world.deploy();
        is_live("5");
        is_over.store(true, Ordering::Relaxed);
        let seen = visits.join().unwrap();
        assert!(seen > 10, "only {seen} visits");
    });
    drop(manager);
}

/// Long enough that half of one would be seen.
fn page(version: &str) -> String {
    format!("<p>{version}</p>\n").repeat(10_000)
}

/// Ask for the page again and again: it is always one of the good ones, and whole. Gives how often.
fn visit(port: u16, is_over: &AtomicBool) -> usize {
    let mut seen = 0;
    while !is_over.load(Ordering::Relaxed) {
        let (status, text) = get(port, &format!("{CURRENT}index.html"));
        assert_eq!(status, 200, "{text}");
        assert!(
            ["1", "2", "3", "4", "5"]
                .iter()
                .any(|version| text == page(version)),
            "{text}"
        );
        seen += 1;
    }
    seen
}

/// Status and body of what is at `path`.
fn get(port: u16, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(socket, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    (status.parse().unwrap(), body.to_owned())
}
