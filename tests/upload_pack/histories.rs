//! Random histories, damaged packs and repositories that are repacked meanwhile are fetched whole or are an error.

use std::{collections::BTreeMap, path::Path, process::Command, sync::atomic::AtomicBool};

use gix::{
    ObjectId,
    hash::Kind,
    remote::fetch::{Shallow, Tags},
};

use super::{
    machine,
    repo::{HEADS, MIRROR, Repo, chain, depth, git, has_git, isolated, pair},
};

#[test]
fn a_repack_in_the_middle_loses_nothing() {
    if !has_git() {
        return;
    }
    for packed in [false, true] {
        let (mut source, client) = pair();
        source.line(30);
        if packed {
            git(source.path(), &["repack", "-dq"]);
            source.line(30);
        }
        let mut answer = Meddler {
            source: source.path(),
            done: false,
            bytes: Vec::new(),
        };
        let want = format!("want {}", source.id("refs/heads/main"));
        let lines = ["command=fetch", &want, "done"].map(|line| format!("{:04x}{line}", line.len() + 4));
        let request = format!("{}0001{}{}0000", lines[0], lines[1], lines[2]);
        let repo = gix::open_opts(source.path(), isolated()).unwrap();
        gitsocket::git::upload_pack::serve(
            repo,
            request.as_bytes(),
            &mut answer,
            scratch(),
            &AtomicBool::new(false),
        )
        .unwrap();
        assert!(answer.done);

        // Its name is of no importance; without its objects all being there, --strict fails.
        let received = client.path().join("objects/pack/pack-received.pack");
        std::fs::write(&received, pack_of(&answer.bytes)).unwrap();
        git(
            client.path(),
            &["index-pack", "--strict", received.to_str().unwrap()],
        );
        client.set("refs/heads/main", source.id("refs/heads/main"));
        assert_eq!(client.closure(), source.closure());
    }
}

/// Repacks the source as soon as it is about to send a pack.
struct Meddler<'a> {
    source: &'a Path,
    done: bool,
    bytes: Vec<u8>,
}

impl std::io::Write for Meddler<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if !self.done && self.bytes.windows(8).any(|part| part == b"Counting") {
            self.done = true;
            git(self.source, &["repack", "-adfq"]);
            git(self.source, &["prune-packed", "-q"]);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The pack in an answer to `fetch`.
fn pack_of(mut answer: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !answer.is_empty() {
        let len = usize::from_str_radix(std::str::from_utf8(&answer[..4]).unwrap(), 16)
            .unwrap()
            .max(4);
        if answer[..len].get(4) == Some(&1) {
            out.extend_from_slice(&answer[5..len]);
        }
        answer = &answer[len..];
    }
    out
}

/// What the client does not notice while it reads the pack, it notices when it looks whether all has come.
#[test]
fn damage_is_an_error_and_nothing_worse() {
    if !has_git() {
        return;
    }
    // With the first of these, an object of another content came, and the one that was wanted did not.
    for seed in [15519611900755598959, machine::seed()] {
        damage(fastrand::Rng::with_seed(seed));
    }
}

fn damage(mut rng: fastrand::Rng) {
    let (mut source, _) = pair();
    source.line(30);
    git(source.path(), &["repack", "-adfq"]);
    let packs = std::fs::read_dir(source.path().join("objects/pack")).unwrap();
    let pack = packs
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ext| ext == "pack"));
    let pack = pack.unwrap();
    let whole = std::fs::read(&pack).unwrap();
    std::fs::remove_file(&pack).unwrap();
    let mut failed = 0;
    for _ in 0..machine::rounds(20) {
        let mut bytes = whole.clone();
        bytes[rng.usize(12..whole.len() - 20)] ^= 1 << rng.u8(..8);
        std::fs::write(&pack, bytes).unwrap();
        let client = Repo::new(Kind::Sha1);
        let fetched = client.fetch(source.path(), &[HEADS], Shallow::NoChange, Tags::None);
        let repo = gix::open_opts(client.path(), isolated()).unwrap();
        let is_complete = || {
            let tip = client.id("refs/remotes/origin/main");
            gitsocket::git::fetch::complete::check(
                &repo,
                &[tip],
                &[],
                &std::sync::atomic::AtomicBool::new(false),
            )
            .is_ok()
        };
        if fetched.is_ok() && is_complete() {
            drop(client.closure())
        } else {
            failed += 1
        }
    }
    assert!(failed > 0);
}

/// git itself as the client: `git://` is one packet line before the conversation that is served.
#[test]
fn git_understands() {
    if !has_git() {
        return;
    }
    let (mut source, client) = pair();
    let ids = source.line(20);
    source.set(
        "refs/tags/v1",
        source.tag_object("v1", ids[15], gix::objs::Kind::Commit),
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/source", listener.local_addr().unwrap());
    let path = source.path().to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut length = [0; 4];
            std::io::Read::read_exact(&mut &stream, &mut length).unwrap();
            let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
            std::io::Read::read_exact(&mut &stream, &mut vec![0; length - 4]).unwrap();
            let repo = gix::open_opts(&path, isolated()).unwrap();
            let _ = gitsocket::git::upload_pack::serve(
                repo,
                &stream,
                &stream,
                scratch(),
                &AtomicBool::new(false),
            );
        }
    });
    let fetch = |args: &[&str]| {
        git(client.path(), &[&["fetch", "-q"], args, &[&url, HEADS]].concat());
        client.fsck();
        client.commits()
    };
    assert_eq!(fetch(&["--depth=3"]), 3);
    assert_eq!(fetch(&["--depth=5"]), 5);
    assert_eq!(client.id("refs/tags/v1"), source.id("refs/tags/v1"));
    assert_eq!(fetch(&["--deepen=2"]), 7);
    source.line(2);
    assert_eq!(fetch(&[]), 9);
    assert_eq!(fetch(&["--unshallow"]), 22);
    assert!(!client.is_shallow());
    assert_eq!(fetch(&[]), 22);
    let ls = git(client.path(), &["ls-remote", "--symref", &url]);
    assert!(
        ls.contains("ref: refs/heads/main\tHEAD") && ls.contains("refs/tags/v1^{}"),
        "{ls}"
    );
    let lost = Command::new("git")
        .current_dir(client.path())
        .args(["fetch", &url, "1111111111111111111111111111111111111111"])
        .output()
        .unwrap();
    let lost = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(lost.contains("not our ref 1111"), "{lost}");
}

/// Random histories, packed in all the ways that git has, fetched by clients of several depths, again and again.
#[test]
fn random_histories() {
    let git_is_there = has_git();
    let mut rng = fastrand::Rng::with_seed(machine::seed());
    let hash = if rng.bool() { Kind::Sha1 } else { Kind::Sha256 };
    let mut source = Repo::new(hash);
    let clients = [None, Some(1), Some(3)].map(|depth| (depth, Repo::new(hash)));
    for round in 0..machine::rounds(4) {
        grow(&mut source, &mut rng);
        if git_is_there {
            pack(&source, &mut rng);
        }
        for (limit, client) in &clients {
            let shallow = match limit {
                // Now and then go on without a depth, deepen, or take all.
                Some(_) if rng.u8(..8) == 0 => Shallow::NoChange,
                Some(_) if rng.u8(..8) == 0 => Shallow::Deepen(2),
                Some(_) if rng.u8(..16) == 0 => Shallow::undo(),
                Some(limit) => depth(*limit),
                None => Shallow::NoChange,
            };
            let what = format!("round {round}, {limit:?}, {shallow:?}");
            let specs = [MIRROR, "+refs/tags/*:refs/tags/*"];
            client
                .fetch(source.path(), &specs, shallow, Tags::None)
                .unwrap_or_else(|err| panic!("{what}: {}", chain(&*err)));
            client.closure();
            for reference in source.repo.references().unwrap().all().unwrap() {
                let reference = reference.unwrap();
                let name = reference.name().as_bstr().to_string();
                assert_eq!(client.id(&name), reference.id().detach(), "{what}: {name}");
            }
            client.fsck();
        }
    }
}

/// Add commits, merges and tags, and move branches, not always forward.
fn grow(source: &mut Repo, rng: &mut fastrand::Rng) {
    let names: Vec<_> = (0..4).map(|i| format!("refs/heads/b{i}")).collect();
    let mut commits: Vec<ObjectId> = names.iter().filter_map(|name| source.tip(name)).collect();
    for _ in 0..rng.usize(1..20) {
        let mut files = BTreeMap::new();
        for i in 0..rng.usize(1..20) {
            let dir = ["", "a/", "a/b/", "c/d/e/"][rng.usize(..4)];
            files.insert(format!("{dir}f{i}"), format!("{}\n", rng.u8(..30)).repeat(50));
        }
        let mut parents = Vec::new();
        for _ in 0..[1, 1, 1, 2, 2, 3, 0][rng.usize(..7)] {
            if let Some(parent) = rng.choice(&commits).copied().filter(|id| !parents.contains(id)) {
                parents.push(parent);
            }
        }
        source.time += 60;
        // Clocks are wrong at times.
        let skew = if rng.u8(..3) == 0 { rng.i64(-5000..5000) } else { 0 };
        commits.push(source.commit_at(&files, &parents, source.time + skew));
    }
    for name in &names {
        if rng.bool() || name == "refs/heads/b0" {
            source.set(name, *rng.choice(&commits).unwrap());
        }
    }
    if rng.bool() {
        let name = format!("refs/tags/t{}", rng.u8(..20));
        let target = *rng.choice(&commits).unwrap();
        source.set(&name, source.tag_object("t", target, gix::objs::Kind::Commit));
    }
}

fn pack(source: &Repo, rng: &mut fastrand::Rng) {
    let how: &[&str] = match rng.u8(..7) {
        0 => &["repack", "-adfq"],
        1 => &["gc", "-q", "--prune=now"],
        2 => &["repack", "-dq"],
        3 => &["pack-refs", "--all"],
        4 => &["repack", "-dq", "--write-midx"],
        5 => &["-c", "repack.useDeltaBaseOffset=false", "repack", "-adfq"],
        _ => return,
    };
    git(source.path(), how);
}

/// Beside git's own fetch. Only the release profile says something:
/// `cargo test --release --test upload_pack -- --ignored --nocapture measure`
#[test]
#[ignore = "a measurement"]
fn measure() {
    if !has_git() {
        return;
    }
    let commits = std::env::var("COMMITS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5000);
    let (source, client) = pair();
    import(&source, 0, commits);
    git(source.path(), &["repack", "-adfq"]);
    let theirs = crate::machine::tempdir().unwrap();
    git(theirs.path(), &["init", "-q", "--bare"]);
    let from = source.path().to_str().unwrap().to_owned();
    let timed = |what: &str, run: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        run();
        eprintln!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1000.0);
    };
    for round in ["full", "ten commits", "nothing new"] {
        if round == "ten commits" {
            import(&source, commits, 10);
        }
        timed(&format!("{round}, gitsocket"), &mut || {
            client.follow(&source, Shallow::NoChange);
        });
        timed(&format!("{round}, git"), &mut || {
            git(theirs.path(), &["fetch", "-q", &from, HEADS]);
        });
    }
    for how in ["gitsocket", "git"] {
        let client = Repo::new(Kind::Sha1);
        timed(&format!("depth 1, {how}"), &mut || match how {
            "git" => {
                let from = format!("file://{from}");
                git(client.path(), &["fetch", "-q", "--depth=1", &from, HEADS]);
            }
            _ => {
                client.follow(&source, depth(1));
            }
        });
    }
}

/// Add commits to `main` by git's fast-import: 2000 files, three of which change in each commit.
fn import(source: &Repo, from: usize, count: usize) {
    use std::io::Write;
    let mut child = Command::new("git")
        .current_dir(source.path())
        .args(["fast-import", "--quiet"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = std::io::BufWriter::new(child.stdin.take().unwrap());
    for commit in from..from + count {
        let time = 1_700_000_000 + commit * 60;
        write!(
            input,
            "commit refs/heads/main\ncommitter t <t@example.org> {time} +0000\ndata 2\nx\n"
        )
        .unwrap();
        if commit == from && from > 0 {
            writeln!(input, "from refs/heads/main^0").unwrap();
        }
        let files: Vec<_> = match commit {
            0 => (0..2000).collect(),
            _ => (0..3).map(|i| (commit * 7 + i * 311) % 2000).collect(),
        };
        for i in files {
            let text = format!("{i}\n").repeat(100) + &format!("changed by {commit}\n");
            writeln!(
                input,
                "M 644 inline d{}/e{}/f{i}\ndata {}\n{text}",
                i % 40,
                i % 7,
                text.len()
            )
            .unwrap();
        }
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

fn scratch() -> gitsocket::git::large::Scratch {
    gitsocket::git::large::Scratch::new(&std::env::temp_dir())
}
