//! The output on a terminal differs from that in a file only where it should.

use std::{fs::File, io::Read as _, process::Stdio};

use nix::pty::{Winsize, openpty};

use super::{history::start, source::file, world::World};

/// What the program says on a terminal of so many columns and rows, and its exit status.
fn on_terminal(world: &World, args: &[&str], (columns, rows): (u16, u16)) -> (i32, String) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(&size, None).unwrap();
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut command = world.command(args);
    let mut child = command.stdout(slave()).stderr(slave()).spawn().unwrap();
    // Its end is seen once nobody has the other side.
    drop((command, pty.slave));
    let mut said = Vec::new();
    // Then it is an error (EIO).
    File::from(pty.master).read_to_end(&mut said).ok();
    let said = String::from_utf8(said).unwrap().replace("\r\n", "\n");
    (child.wait().unwrap().code().unwrap(), said)
}

/// The first words of the lines.
fn first_words(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

#[test]
fn status_is_a_table() {
    let world = World::new();
    let name = "a-name-that-takes-more-than-half-of-a-line";
    world.config_of(&format!(
        "\"good\": (repo: \"repo.git\", path: \"good\"),
         \"bad\": (repo: \"missing.git\", path: \"bad\"),
         \"{name}\": (repo: \"repo.git\", path: \"new\"),"
    ));
    world.source().commit([("a", file("1"))]);
    let daemon = start(&world);
    daemon.say("good\n");
    daemon.say("bad\n");

    let (exit, all) = on_terminal(&world, &["status"], (200, 50));
    assert_eq!(
        (exit, first_words(&all)),
        (0, vec!["TRIGGER", name, "bad", "good"]),
        "{all}"
    );
    let line = |name: &str| {
        let found = all.lines().find(|line| line.starts_with(name));
        found.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(
        line("bad").starts_with("bad failing - - ") && line("bad").contains(" ago: failed ("),
        "{all}"
    );
    assert!(
        line("good").starts_with("good idle ") && line("good").ends_with(" ago: updated"),
        "{all}"
    );
    assert_eq!(line(name), format!("{name} never deployed - - -"));
    // As it is asked for; and one alone at length.
    let (_, two) = on_terminal(&world, &["status", "good", "bad", "good"], (200, 50));
    assert_eq!(first_words(&two), ["TRIGGER", "good", "bad"], "{two}");
    let (_, one) = on_terminal(&world, &["status", "bad"], (200, 50));
    assert!(
        one.starts_with("bad failing -\n") && one.contains("\n  failing   since "),
        "{one}"
    );
    let (_, long) = on_terminal(&world, &["status", "--long"], (200, 50));
    assert_eq!(long.matches("\n  follows ").count(), 3, "{long}");
    let (_, json) = on_terminal(&world, &["status", "--json"], (20, 50));
    assert_eq!(json.matches("\"event\":\"status\"").count(), 3, "{json}");

    // A small one: no line is cut in two, and what scrolled away is said below.
    let (_, small) = on_terminal(&world, &["status"], (40, 4));
    assert!(small.lines().all(|line| line.chars().count() <= 40), "{small}");
    assert_eq!(small.lines().count(), 5, "{small}");
    assert!(
        small.ends_with("\n1 of 3 need a look: bad (failing)\n"),
        "{small}"
    );
    // One that does not know its size.
    let (_, unknown) = on_terminal(&world, &["status"], (0, 0));
    assert_eq!(first_words(&unknown), first_words(&all));
    assert!(!unknown.contains('…'), "{unknown}");

    let (exit, said) = on_terminal(&world, &["status", "good", "nosuch"], (80, 24));
    assert_eq!(exit, 4);
    assert!(
        said.contains("unknown-trigger") && said.contains("nosuch"),
        "{said}"
    );
    let ended = world.run(["status", "good", "bad"]);
    let begins: Vec<_> = ended.out.lines().filter(|line| !line.starts_with(' ')).collect();
    assert!(
        begins.len() == 2 && begins[0].starts_with("good idle "),
        "{ended:?}"
    );
}

/// Its lines end where the terminal does; a file gets them whole.
#[test]
fn log_is_a_table() {
    let world = World::new();
    world.config_of(
        "\"site\": (repo: \"repo.git\", path: \"site\"),
         \"bad\": (repo: \"missing.git\", path: \"bad\"),",
    );
    world.source().commit([("a", file("1"))]);
    let daemon = start(&world);
    daemon.say("{\"op\":\"trigger\",\"name\":\"site\",\"note\":\"because of a note\"}\n");
    daemon.say("bad\n");
    for columns in [40, 80, 200] {
        let (exit, all) = on_terminal(&world, &["log"], (columns, 24));
        let lines: Vec<_> = all.lines().collect();
        assert_eq!((exit, lines.len()), (0, 3), "{all}");
        assert!(
            lines[0].starts_with("RUN ") && lines[0].contains("BEGAN"),
            "{all}"
        );
        assert!(
            lines.iter().all(|line| line.chars().count() <= columns.into()),
            "{all}"
        );
        // What came of it is to be seen from 80 on.
        if columns >= 80 {
            assert!(
                all.contains(" TRIGGER ") && all.contains(" bad ") && all.contains(" failed ("),
                "{all}"
            );
            assert!(all.contains(" ok 0000000.."), "{all}");
        }
    }
    // The columns that matter less make room for the new commit.
    let site = world.run(["status", "site"]).out;
    let new = site.split_whitespace().nth(2).unwrap();
    for args in [vec!["log"], vec!["log", "site"]] {
        let (_, narrow) = on_terminal(&world, &args, (60, 24));
        assert!(narrow.contains(&format!(" ok 0000000..{new}")), "{narrow}");
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
    }
    let (_, one) = on_terminal(&world, &["log", "site"], (200, 24));
    assert!(
        !one.contains("TRIGGER") && one.trim_end().ends_with(" (because of a note)"),
        "{one}"
    );
    let whole = world.run(["log"]);
    let (_, long) = on_terminal(&world, &["log", "--long"], (40, 24));
    for lines in [&whole.out, &long] {
        assert!(!lines.contains('…') && lines.contains("Z by "), "{lines}");
    }
}

#[test]
fn root_is_warned_at_a_terminal() {
    let world = World::new();
    world.config("");
    // It does not come to listen.
    let args = ["server", "-o", "missing/log"];
    let (exit, said) = on_terminal(&world, &args, (80, 24));
    assert_eq!(exit, 2, "{said}");
    let warned = said.contains("warning: the daemon runs as root")
        && said.contains("runuser -u gitsocket -- ")
        && said.contains("server -o missing/log");
    assert_eq!(warned, rustix::process::geteuid().is_root(), "{said}");
    assert!(
        !world.run(args).err.contains("as root"),
        "a unit or a container decides itself"
    );
}
