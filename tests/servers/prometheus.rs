//! Prometheus can scrape the front, and promtool accepts its metrics and the alerting rules.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    foreign::{Server, find},
    source::file,
    world::{Daemon, World},
};

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging/prometheus")
        .join(name)
}

/// What the server at `port` of the loopback answers to `GET path`: head and body.
fn get(port: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // Of the version that knows no chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.into())
}

/// Look again until `is_so`; Prometheus scrapes and evaluates by its own clock.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 90 s: {what}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

#[test]
fn the_rules_for_alerts_are_right() {
    let Some(promtool) = find("promtool") else { return };
    for args in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "gitsocket.rules.yml"],
        ["test", "rules", "gitsocket.rules.test.yml"],
    ] {
        let mut command = Command::new(&promtool);
        let output = command.args(args).current_dir(packaged("")).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
}

/// A front of the daemon in `world`, and its port.
fn front(world: &World) -> (Daemon, u16) {
    world.write(
        "web.ron",
        "(listen: [Http(addr: \"127.0.0.1:0\")], daemon: \"./s.sock\", metrics: true)",
    );
    Daemon::front(world)
}

/// Prometheus with the packaged configuration, which scrapes `port`.
fn prometheus(world: &World, program: &Path, port: u16) -> (Server, u16) {
    let config = fs::read_to_string(packaged("prometheus.yml")).unwrap();
    assert!(config.contains("127.0.0.1:8080"), "{config}");
    let config = config.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"));
    let often = "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\n";
    let config = world.write("prometheus/prometheus.yml", &[often, &config].concat());
    fs::copy(
        packaged("gitsocket.rules.yml"),
        world.path("prometheus/gitsocket.rules.yml"),
    )
    .unwrap();
    let (server, [port]) = Server::start_on("Server is ready to receive web requests", |[port]| {
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                world.path("prometheus/data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null());
        command
    });
    (server, port)
}

/// What Prometheus at `port` finds for `query`: the value of each series.
fn query(port: u16, query: &str) -> Vec<f64> {
    let mut encoded = String::new();
    for byte in query.bytes() {
        encoded += &format!("%{byte:02x}");
    }
    let (_, body) = get(port, &format!("/api/v1/query?query={encoded}"));
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["status"], "success", "{query}: {body}");
    let series = answer["data"]["result"].as_array().unwrap().iter();
    series
        .map(|series| series["value"][1].as_str().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn prometheus_scrapes_the_front() {
    let (Some(program), Some(promtool)) = (find("prometheus"), find("promtool")) else {
        return;
    };
    let (world, mut source) = World::with_commit();
    let site = "\"site\": (repo: \"repo.git\", branch: \"main\", path: \"site\"),";
    let shop = "\"shop\": (repo: \"missing.git\", path: \"shop\"),";
    world.config_of(&[site, shop].concat());
    let state = [("STATE_DIRECTORY", world.path("state"))];
    let mut daemon = Daemon::start_with(&world, &[], &state);
    let (_front, port) = front(&world);
    daemon.say("site\n");
    daemon.say("site\n");
    daemon.say("shop\n");

    let (head, text) = get(port, "/metrics");
    // Prometheus 3 wants exactly that.
    let content_type = "\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n";
    assert!(head.contains(" 200 ") && head.contains(content_type), "{head}");
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}\n{text}",
        String::from_utf8_lossy(&said)
    );

    let (_server, prometheus) = prometheus(&world, &program, port);
    let is = |what: &str, values: &[f64]| {
        wait_until(what, || query(prometheus, what) == values);
    };
    is("up{job=\"gitsocket\"}", &[1.0]);
    is("gitsocket_daemon_up", &[1.0]);
    is(
        "gitsocket_runs_total{trigger=\"site\",outcome=\"updated\"}",
        &[1.0],
    );
    is(
        "gitsocket_runs_total{trigger=\"site\",outcome=\"up-to-date\"}",
        &[1.0],
    );
    is("gitsocket_failing{trigger=\"shop\"}", &[1.0]);
    is(
        "gitsocket_run_phase_duration_seconds_count{trigger=\"site\",phase=\"fetch\"}",
        &[2.0],
    );
    is(
        "count(gitsocket_run_duration_seconds_bucket{trigger=\"site\"})",
        &[9.0],
    );
    is("count(gitsocket_process_resident_memory_bytes > 1e6)", &[2.0]);
    is(
        "ALERTS{alertname=\"GitsocketFailing\",alertstate=\"pending\",trigger=\"shop\"}",
        &[1.0],
    );
    let (_, rules) = get(prometheus, "/api/v1/rules");
    let rules: Value = serde_json::from_str(&rules).unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert!(
        rules.len() > 8 && rules.iter().all(|rule| rule["lastError"].is_null()),
        "{rules:?}"
    );

    // A trigger that a reload takes away is gone, and what is counted of the other goes on.
    world.config_of(site);
    daemon.signal(Signal::HUP);
    daemon.wait_for("ready");
    source.commit([("a", file("2"))]);
    daemon.say("site\n");
    is(
        "gitsocket_runs_total{trigger=\"site\",outcome=\"updated\"}",
        &[2.0],
    );
    is("gitsocket_failing{trigger=\"shop\"}", &[]);
    // The daemon is away; what scrapes the front learns that.
    drop(daemon);
    is("gitsocket_daemon_up", &[0.0]);
    is("up{job=\"gitsocket\"}", &[1.0]);
    let (head, body) = get(port, "/readyz");
    assert!(
        head.contains(" 503 ") && body.contains("no-daemon"),
        "{head}{body}"
    );
    assert!(get(port, "/healthz").0.contains(" 200 "));
    let _daemon = Daemon::start_with(&world, &[], &state);
    wait_until("ready", || get(port, "/readyz").0.contains(" 200 "));
    is(
        "gitsocket_runs_total{trigger=\"site\",outcome=\"updated\"}",
        &[2.0],
    );
}
