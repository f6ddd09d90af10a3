//! What goes over the wire, line by line; whole fetches are in `tests/upload_pack.rs`.
#![allow(clippy::unwrap_used)]

use std::{path::Path, sync::atomic::AtomicBool};

use gix::prelude::Write as _;

use super::request::{self, Command, Depth, Fetch, LsRefs, parse_request};
use crate::git::large::Scratch;

const SHA1: &str = "1111111111111111111111111111111111111111";

/// Packet lines: `-` is a flush, `|` a delimiter.
fn packets(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        match *line {
            "-" => out.extend_from_slice(b"0000"),
            "|" => out.extend_from_slice(b"0001"),
            line => out.extend_from_slice(format!("{:04x}{line}\n", line.len() + 5).as_bytes()),
        }
    }
    out
}

fn parse(lines: &[&str]) -> Result<Command, request::Error> {
    parse_request(&mut packets(lines).as_slice()).map(|request| request.expect("a request").command)
}

#[test]
fn requests() {
    let id = gix::ObjectId::from_hex(SHA1.as_bytes()).unwrap();
    let [want, have, shallow] = ["want", "have", "shallow"].map(|word| format!("{word} {SHA1}"));
    assert_eq!(
        parse(&[
            "command=ls-refs",
            "agent=x",
            "|",
            "peel",
            "symrefs",
            "unborn",
            "ref-prefix refs/heads/",
            "-"
        ])
        .unwrap(),
        Command::LsRefs(LsRefs {
            symrefs: true,
            peel: true,
            unborn: true,
            prefixes: vec!["refs/heads/".into()],
        })
    );
    assert_eq!(
        parse(&["command=ls-refs", "-"]).unwrap(),
        Command::LsRefs(LsRefs::default())
    );
    let lines = [
        "command=fetch",
        "object-format=sha1",
        "|",
        "thin-pack",
        "ofs-delta",
        "include-tag",
        "no-progress",
        &want,
        &have,
        &shallow,
        "deepen 3",
        "done",
        "-",
    ];
    let fetch = Fetch {
        wants: vec![id],
        haves: vec![id],
        shallow: vec![id],
        depth: Some(Depth::FromTip(3.try_into().unwrap())),
        done: true,
        include_tag: true,
        no_progress: true,
    };
    assert_eq!(parse(&lines).unwrap(), Command::Fetch(fetch));
    let relative = parse(&["command=fetch", "|", "deepen-relative", "deepen 3", "-"]).unwrap();
    let Command::Fetch(relative) = relative else {
        panic!()
    };
    assert_eq!(relative.depth, Some(Depth::FromBoundary(3.try_into().unwrap())));
}

#[test]
fn the_end() {
    // A client that dies is done, too.
    for bytes in [&b""[..], b"0000", b"00", b"fff0"] {
        assert_eq!(parse_request(&mut &*bytes).unwrap(), None, "{bytes:?}");
    }
}

#[test]
fn wrong_requests() {
    let long = format!("want {}", "1".repeat(64));
    for lines in [
        &["command=push", "-"][..],
        &["|"],
        &["want x", "-"],
        &["command=fetch", "server-option=x", "-"],
        &["command=fetch", "object-format=md5", "-"],
        &["command=fetch", "|", "want", "-"],
        &["command=fetch", "|", "want ", "-"],
        &["command=fetch", "|", "want 1234", "-"],
        &["command=fetch", "|", &long, "-"],
        &["command=fetch", "|", "deepen 0", "-"],
        &["command=fetch", "|", "deepen -1", "-"],
        &["command=fetch", "|", "deepen-since 1", "-"],
        &["command=fetch", "|", "deepen-not x", "-"],
        &["command=fetch", "|", "filter blob:none", "-"],
        &["command=fetch", "|", "done now", "-"],
        &["command=fetch", "|", "|", "-"],
        &["command=fetch", "|", "done"],
        &["command=fetch"],
        &["command=ls-refs", "|", "want", "-"],
    ] {
        assert!(parse(lines).is_err(), "{lines:?}");
    }
    for bytes in [
        &b"zzzz"[..],
        b"0003",
        b"0004",
        b"0002",
        b"fff1",
        b"ffff",
        b"0012command=fetch\n0",
    ] {
        assert!(
            parse_request(&mut &*bytes).is_err(),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn endless_requests_end() {
    struct Endless(Vec<u8>, usize);
    impl std::io::Read for Endless {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            for byte in buf.iter_mut() {
                *byte = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(buf.len())
        }
    }
    for line in [
        format!("have {SHA1}"),
        format!("ref-prefix {}", "x".repeat(60000)),
    ] {
        let command = if line.starts_with("have") {
            "command=fetch"
        } else {
            "command=ls-refs"
        };
        let mut read = std::io::Read::chain(
            std::io::Cursor::new(packets(&[command, "|"])),
            Endless(packets(&[&line]), 0),
        );
        assert!(matches!(parse_request(&mut read), Err(request::Error::TooLong)));
    }
}

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = crate::machine::tempdir().unwrap();
        gix::init_bare(dir.path()).unwrap();
        let out = Self { dir };
        out.file("HEAD", "ref: refs/heads/main\n");
        out
    }

    fn open(&self) -> gix::Repository {
        crate::git::repository::open_source(self.dir.path()).unwrap()
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn blob(&self, text: &str) -> gix::ObjectId {
        self.open().write_blob(text).unwrap().detach()
    }

    fn commit(&self, parents: &[gix::ObjectId], time: i64) -> gix::ObjectId {
        let repo = self.open();
        let tree = repo.empty_tree().id;
        repo.write_object(gix::objs::Tree::empty()).unwrap();
        let parents: String = parents.iter().map(|id| format!("parent {id}\n")).collect();
        let text =
            format!("tree {tree}\n{parents}author t <t> {time} +0000\ncommitter t <t> {time} +0000\n\nx\n");
        repo.write_buf(gix::objs::Kind::Commit, text.as_bytes()).unwrap()
    }

    /// The lines of the answer, without the advertisement and the pack.
    fn ask(&self, lines: &[&str]) -> Vec<String> {
        let (answer, _) = self.serve(&packets(lines));
        let mut out = Vec::new();
        let mut rest = &answer[..];
        while !rest.is_empty() {
            let len = usize::from_str_radix(std::str::from_utf8(&rest[..4]).unwrap(), 16).unwrap();
            let line = match len {
                0 => "-".into(),
                1 => "|".into(),
                len => String::from_utf8_lossy(&rest[4..len]).trim_end().to_owned(),
            };
            rest = &rest[len.max(4)..];
            let end = line == "packfile";
            out.push(line);
            if end {
                break;
            }
        }
        let advertised = out.iter().position(|line| line == "-").unwrap();
        out.split_off(advertised + 1)
    }

    fn serve(&self, request: &[u8]) -> (Vec<u8>, Result<(), super::Error>) {
        let mut answer = Vec::new();
        let served = super::serve(
            self.open(),
            request,
            &mut answer,
            Scratch::new(Path::new("/")),
            &AtomicBool::new(false),
        );
        (answer, served)
    }
}

#[test]
fn the_advertisement() {
    let (answer, served) = Fixture::new().serve(b"0000");
    served.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("000eversion 2\n"), "{answer}");
    assert!(answer.ends_with("object-format=sha1\n0000"), "{answer}");
}

#[test]
fn refs() {
    let source = Fixture::new();
    let all = ["command=ls-refs", "|", "symrefs", "peel", "unborn", "-"];
    assert_eq!(
        source.ask(&all),
        ["unborn HEAD symref-target:refs/heads/main", "-"]
    );
    assert_eq!(source.ask(&["command=ls-refs", "|", "symrefs", "-"]), ["-"]);

    let id = source.commit(&[], 1);
    let tag = format!("object {id}\ntype commit\ntag v1\n\nx\n");
    let tag = source
        .open()
        .write_buf(gix::objs::Kind::Tag, tag.as_bytes())
        .unwrap();
    source.file("refs/heads/main", &format!("{id}\n"));
    source.file("refs/tags/v1", &format!("{tag}\n"));
    source.file("refs/heads/alias", "ref: refs/heads/main\n");
    source.file("refs/heads/nowhere", "ref: refs/heads/gone\n");
    source.file("refs/heads/garbage", "garbage\n");
    source.file("refs/heads/lost", &format!("{SHA1}\n"));
    let lines = [
        format!("{id} HEAD symref-target:refs/heads/main"),
        format!("{id} refs/heads/alias symref-target:refs/heads/main"),
        format!("{SHA1} refs/heads/lost"),
        format!("{id} refs/heads/main"),
        format!("{tag} refs/tags/v1 peeled:{id}"),
        "-".into(),
    ];
    assert_eq!(source.ask(&all), lines);
    assert_eq!(
        source.ask(&[
            "command=ls-refs",
            "|",
            "ref-prefix refs/tags/",
            "ref-prefix HEA",
            "-"
        ]),
        [format!("{id} HEAD"), format!("{tag} refs/tags/v1"), "-".into()]
    );
    source.file("HEAD", &format!("{id}\n"));
    assert_eq!(source.ask(&all)[0], format!("{id} HEAD"));
}

#[test]
fn acknowledgments() {
    let source = Fixture::new();
    let base = source.commit(&[], 1);
    let tip = source.commit(&[base], 2);
    let other = source.commit(&[], 3);
    let want = |id| format!("want {id}");
    let have = |id| format!("have {id}");
    let unknown = format!("have {SHA1}");
    let ask = |args: &[&str]| source.ask(&[&["command=fetch", "|"], args, &["-"]].concat());

    assert_eq!(ask(&[&want(tip)]), ["packfile"]);
    assert_eq!(ask(&[&want(tip), &unknown]), ["acknowledgments", "NAK", "-"]);
    assert_eq!(ask(&[&want(tip), &unknown, "done"]), ["packfile"]);
    let ack = format!("ACK {base}");
    assert_eq!(
        ask(&[&want(tip), &unknown, &have(base)]),
        ["acknowledgments", &ack, "ready", "|", "packfile"]
    );
    // The other want has nothing in common with the client yet.
    assert_eq!(
        ask(&[&want(tip), &want(other), &have(base)]),
        ["acknowledgments", &ack, "-"]
    );
    assert_eq!(
        ask(&[&want(tip), "deepen 1"]),
        ["shallow-info", &format!("shallow {tip}"), "|", "packfile"]
    );
    // A root is not cut: there is nothing beyond it.
    assert_eq!(ask(&[&want(tip), "deepen 2"]), ["packfile"]);
    assert_eq!(
        ask(&[&want(tip), &format!("shallow {tip}"), "deepen 2147483647"]),
        ["shallow-info", &format!("unshallow {tip}"), "|", "packfile"]
    );
}

#[test]
fn errors_are_told() {
    let source = Fixture::new();
    let blob = source.blob("x");
    let told = |lines: &[&str], text: &str| {
        let last = source.ask(lines).pop().unwrap();
        assert!(last.starts_with("ERR ") && last.contains(text), "{last}");
    };
    told(
        &["command=fetch", "|", &format!("want {SHA1}"), "done", "-"],
        "not our ref 1111",
    );
    told(&["command=fetch", "|", "done", "-"], "wants nothing");
    told(&["command=fetch", "object-format=sha256", "-"], "sha256");
    told(
        &[
            "command=fetch",
            "|",
            &format!("want {blob}"),
            "deepen-since 1",
            "-",
        ],
        "deepen-since",
    );
    told(&["command=\u{7f}evil", "-"], "unexpected line");
}

/// Histories, what is between a client's commits and them, and trees: none of them fills memory.
#[test]
fn too_much_to_look_through() {
    let source = Fixture::new();
    let repo = source.open();
    let (mut commits, mut names) = (vec![source.commit(&[], 1)], Vec::new());
    for n in 2..=10 {
        commits.push(source.commit(&commits[commits.len() - 1..], n));
        names.extend(format!("100644 {n}\0").into_bytes());
        names.extend(source.blob(&n.to_string()).as_slice());
    }
    let tree = repo.write_buf(gix::objs::Kind::Tree, &names).unwrap();
    let (first, last) = (commits[0], commits[9]);
    let depth = |depth: u32| Some(Depth::FromTip(depth.try_into().unwrap()));
    let all = Fetch {
        wants: vec![last],
        done: true,
        ..Fetch::default()
    };
    let asking = Fetch {
        haves: vec![first],
        done: false,
        ..all.clone()
    };
    let deep = Fetch {
        depth: depth(20),
        ..all.clone()
    };
    let wide = Fetch {
        wants: vec![tree],
        ..all.clone()
    };
    let cut = Fetch {
        depth: depth(1),
        ..all.clone()
    };
    for (request, limit, fits) in [
        (&all, 5, false),
        (&asking, 5, false),
        (&deep, 5, false),
        (&wide, 5, false),
        (&cut, 5, true),
        (&all, 20, true),
        (&asking, 20, true),
        (&deep, 20, true),
        (&wide, 20, true),
    ] {
        let stop = AtomicBool::new(false);
        let mut served = super::Source::new(source.open(), Scratch::new(Path::new("/")), &stop).unwrap();
        served.max_objects = limit;
        let answer = super::fetch::run(&served, request, &mut Vec::new());
        match answer {
            Ok(_) => assert!(fits, "{request:?}"),
            Err(super::Error::TooMany { limit: 5 }) => assert!(!fits, "{request:?}"),
            Err(err) => panic!("{request:?}: {err}"),
        }
    }
}
