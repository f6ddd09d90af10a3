//! A trigger can be used by the clients that `allow` names, and other clients do not learn that it exists.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    process::Command,
};

use rustix::process::{Signal, getegid, geteuid};

use super::world::{Daemon, Ended, Need, World, last_line, machine, need};

/// A world with the trigger `NAME` for each pair, and its `allow`; all deploy to places of their own.
fn world(listen: &str, triggers: &[(&str, &str)]) -> World {
    let world = World::sourced();
    let triggers: String = triggers
        .iter()
        .map(|(name, allow)| format!("{name:?}: (repo: \"repo.git\", path: \"{name}\", {allow}),"))
        .collect();
    let text =
        format!("(listen: [Unix(path: \"s.sock\", mode: \"0666\"), {listen}], triggers: {{ {triggers} }})");
    world.write("config.ron", &text);
    world
}

#[test]
fn only_whom_a_rule_fits_may_use_a_trigger() {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let by_number = [
        format!("allow: [User({uid})]"),
        format!("allow: [User(\"{uid}\")]"),
    ];
    let by_group = format!("allow: [User({}), Group({gid})]", uid + 1);
    let name = name_of(uid);
    let by_name = format!("allow: [User({name:?})]");
    let forbidden = format!(
        "allow: [User({}), Group({}), User(\"no-such-user\")]",
        uid + 1,
        gid + 1_000_000
    );
    let world = world(
        "",
        &[
            ("open", ""),
            ("number", &by_number[0]),
            ("quoted", &by_number[1]),
            ("group", &by_group),
            ("name", &by_name),
            ("secret", &forbidden),
        ],
    );
    let mut daemon = world.daemon();
    for name in ["open", "number", "quoted", "group", "name"] {
        daemon.deploys(name);
    }
    let pid = std::process::id();
    let refusal = format!(
        "error secret not-allowed: there is no trigger \"secret\" that {name} uid={uid} gid={gid} pid={pid} may use \
         (see `gitsocket status` for those it may use)\n"
    );
    assert_eq!(daemon.say("secret\n"), refusal);
    assert!(!world.path("secret/.git").exists());
    world.run_to(4, ["client", "secret"]);

    // Nothing that can be said tells it from a trigger that is not there.
    for request in [
        "NAME\n",
        "trigger NAME\n",
        "status NAME\n",
        "{\"op\":\"trigger\",\"name\":\"NAME\"}\n",
        "{\"op\":\"trigger\",\"name\":\"NAME\",\"wait\":false}\n",
        "{\"op\":\"status\",\"name\":\"NAME\"}\n",
        "log NAME\n",
        "log NAME 0198c0ffee0001\n",
        "attach NAME\n",
        "{\"op\":\"log\",\"name\":\"NAME\"}\n",
        "{\"op\":\"log\",\"name\":\"NAME\",\"run\":\"newest\"}\n",
    ] {
        // One letter away from it: nobody is asked whether he means it.
        let [there, not_there] =
            ["secret", "secre7"].map(|name| daemon.say(request.replace("NAME", name)).replace(name, "NAME"));
        assert_eq!(there, not_there, "{request}");
        assert!(there.contains("not-allowed"), "{there}");
    }
    let status = daemon.say("status\n");
    assert_eq!(status.lines().count(), 6, "{status}");
    assert!(!status.contains("secret"), "{status}");
    let status = world.run(["status", "--json"]);
    assert!(
        status.out.contains("\"open\"") && !status.out.contains("secret"),
        "{status:?}"
    );

    // The log names who was refused what, and says once that a name is nobody's.
    daemon.signal(Signal::TERM);
    let (_, log) = daemon.wait();
    let refused = log
        .lines()
        .find(|line| line.contains("refused: there is no trigger \"secret\""));
    let refused = refused.unwrap_or_else(|| panic!("{log}"));
    assert!(
        refused.contains(&format!("peer=\"uid={uid} gid={gid} pid={pid}\"")),
        "{refused}"
    );
    assert_eq!(log.matches("no-such-user").count(), 1, "{log}");
}

#[test]
fn who_may_use_all_is_told_what_he_may_have_meant() {
    let mine = format!("allow: [User({})]", geteuid().as_raw());
    let world = world("", &[("site", &mine), ("blog", "")]);
    let daemon = world.daemon();
    assert_eq!(
        daemon.say("sitte\n"),
        "error sitte unknown-trigger: there is no trigger \"sitte\" (did you mean site?)\n"
    );
    assert_eq!(daemon.say("status\n").lines().count(), 3);
}

#[test]
fn a_token_opens_what_is_for_those_who_have_it() {
    let mine = format!("allow: [User({})]", geteuid().as_raw());
    let world = world(
        "Tcp(addr: \"127.0.0.1:0\", token_file: \"secret\"), Tcp(addr: \"127.0.0.2:0\")",
        &[("by-token", "allow: [Token]"), ("unix", &mine), ("open", "")],
    );
    world.secret("secret", "s3cret\n");
    let (daemon, addresses) = with_tcp(&world, &[]);
    let [with_token, without] = addresses.as_slice() else {
        panic!("{addresses:?}");
    };
    for (name, unix, token, tcp) in [
        ("by-token", false, true, false),
        ("unix", true, false, false),
        ("open", true, true, true),
    ] {
        let request = format!("{name}\n");
        let said = [
            daemon.say(&request),
            say(with_token, format!("token s3cret\n{request}")),
            // On a listener without one, a token is worth nothing.
            say(without, format!("token s3cret\n{request}")),
        ];
        for (answer, may) in said.iter().zip([unix, token, tcp]) {
            let expected = if may {
                format!("ok {name} ")
            } else {
                format!("error {name} not-allowed: there is no trigger \"{name}\" that ")
            };
            assert!(last_line(answer).starts_with(&expected), "{expected:?}: {answer}");
        }
        // Without the token, nothing is looked up.
        for wrong in ["", "token s3cre\n", "token s3crett\n", "token S3cret\n"] {
            let answer = say(with_token, format!("{wrong}{request}"));
            assert!(answer.starts_with("error - not-allowed: "), "{answer}");
            assert!(!answer.contains(name), "{answer}");
        }
    }
    let answer = say(
        with_token,
        "{\"op\":\"trigger\",\"name\":\"by-token\",\"token\":\"s3cret\"}\n",
    );
    assert!(answer.contains("up-to-date"), "{answer}");
}

/// Groups of the process, and those of /etc/group.
#[test]
fn supplementary_groups_count() {
    if !need(Need::Root) || !need("setpriv") {
        return;
    }
    let world = world(
        "",
        &[
            ("group", "allow: [Group(4242)]"),
            ("first", "allow: [Group(7)]"),
            ("user", "allow: [User(12345)]"),
            ("root", "allow: [User(\"root\")]"),
        ],
    );
    machine::open_to_all(&world.path(""));
    // Where the program lies, others may have no access.
    machine::install(env!("CARGO_BIN_EXE_gitsocket").as_ref(), &world.path("gitsocket"));
    let _daemon = world.daemon();
    let client = |groups: &str, name: &str| {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid=12345", "--regid=7", groups]);
        setpriv
            .arg(world.path("gitsocket"))
            .args(["client", "-s", "./s.sock", name]);
        Ended::from(setpriv.current_dir(world.path("")).output().unwrap())
    };
    for (groups, name, exit) in [
        ("--groups=1,4242,2", "group", 0),
        ("--groups=1,2", "group", 4),
        ("--clear-groups", "group", 4),
        ("--clear-groups", "first", 0),
        ("--clear-groups", "user", 0),
        ("--groups=0", "root", 4),
    ] {
        let ended = client(groups, name);
        assert_eq!(ended.exit, exit, "{groups} {name}: {ended:?}");
    }
}

/// The daemon, and the addresses of its TCP listeners in the order of the configuration.
pub fn with_tcp(world: &World, args: &[&str]) -> (Daemon, Vec<String>) {
    let (daemon, log) = Daemon::start_and_tell(world, args);
    let addresses = log
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("127.0.0.")?;
            let is_address = |c: &char| c.is_ascii_digit() || *c == ':';
            let address: String = rest.chars().take_while(is_address).collect();
            Some(format!("127.0.0.{address}"))
        })
        .collect();
    (daemon, addresses)
}

pub fn say(address: &str, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    // The daemon may refuse before it has read everything.
    stream.write_all(request.as_ref()).ok();
    stream.shutdown(Shutdown::Write).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8(answer).unwrap()
}

fn name_of(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = passwd
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    match line {
        Some(line) => line.split(':').next().unwrap().to_owned(),
        None => {
            machine::skipped("/etc/passwd does not know who runs this test");
            uid.to_string()
        }
    }
}

/// Whatever a client says: one line of the log, in which nothing controls a terminal or looks like another line.
#[test]
fn no_client_writes_the_log() {
    let long = "x".repeat(8000);
    let mut said: Vec<Vec<u8>> = Vec::new();
    for evil in [
        "\u{1b}[2K\u{1b}[1;31mFORGED",
        "\rFORGED",
        "\u{2028}FORGED",
        "\u{2029}FORGED",
        "\u{202e}FORGED",
        "\u{2066}FORGED",
        "\u{85}FORGED",
        "\u{9b}2JFORGED",
        "\0FORGED",
        "\u{7f}FORGED",
        "\u{feff}FORGED",
        "\\n2026-01-01T00:00:00.000000Z  INFO FORGED",
        "\\u001b[2KFORGED",
        "\\u2028FORGED\\u202eFORGED",
        "\\u0000FORGED",
        "\" FORGED=\"1",
        long.as_str(),
    ] {
        for around in [
            "EVIL",
            "trigger EVIL",
            "status EVIL",
            "EVIL two",
            "token EVIL\nping",
            "token EVIL",
            "{\"op\":\"EVIL\"}",
            "{\"op\":\"trigger\",\"name\":\"EVIL\"}",
            "{\"op\":\"status\",\"name\":\"EVIL\"}",
            "{\"op\":\"ping\",\"token\":\"EVIL\"}",
            "{\"op\":\"ping\",\"EVIL\":1}",
            "{\"op\":\"ping\",\"wait\":\"EVIL\"}",
            "{EVIL",
        ] {
            said.push(format!("{}\n", around.replace("EVIL", evil)).into_bytes());
        }
    }
    said.push(b"\xff\xfe\x1b[2KFORGED\n".to_vec());
    said.push(b"{\"op\":\"\xff\x1b[2KFORGED\"}\n".to_vec());
    for format in ["text", "json"] {
        let world = world(
            "Tcp(addr: \"127.0.0.1:0\", token_file: \"secret\")",
            &[("site", "")],
        );
        world.secret("secret", "s3cret\n");
        let (mut daemon, addresses) = with_tcp(&world, &["--log-format", format]);
        // A pipe that nobody reads would stop the daemon.
        let log = daemon.collect();
        for request in &said {
            let answers = [daemon.say(request), say(&addresses[0], request)];
            for answer in answers {
                let shown = String::from_utf8_lossy(request);
                assert!(harmless(&answer.replace('\n', "")), "{shown:?}: {answer:?}");
                assert!(answer.len() < 1000, "{shown:?}: {answer}");
                assert!(answer.lines().count() <= 2, "{shown:?}: {answer}");
            }
        }
        daemon.signal(Signal::TERM);
        let log = log.join().unwrap();
        let mut refused = 0;
        for line in log.lines() {
            assert!(harmless(line), "{line:?}");
            assert!(line.chars().count() < 1000, "{line}");
            let begins = match format {
                "json" => {
                    let record: serde_json::Value = serde_json::from_str(line).unwrap();
                    for text in record["fields"]
                        .as_object()
                        .unwrap()
                        .values()
                        .filter_map(|v| v.as_str())
                    {
                        assert!(harmless(text), "{text:?}");
                    }
                    "{\"timestamp\":\""
                }
                _ => "20",
            };
            assert!(line.starts_with(begins), "{line:?}");
            refused += usize::from(line.contains("refused: "));
        }
        assert!(refused > said.len(), "only {refused} refusals in the log");
    }
}

/// No control characters, line separators or overrides of direction.
fn harmless(text: &str) -> bool {
    !text.contains(|c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}
