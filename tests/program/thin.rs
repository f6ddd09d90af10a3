//! A thin pack is completed from what the target has, if that is what it says it is.

use std::{fs, path::PathBuf};

use super::{
    mock_server::Server,
    source::{Entry, Source},
    world::{World, git, last_line, need},
};

/// A source with a large file, of which a small part changes, and a target that was deployed from it before.
struct Stage {
    world: World,
    source: Source,
    server: Server,
}

impl Stage {
    fn new() -> Self {
        let (world, mut source) = World::with_source();
        source.commit([("large", content("one"))]);
        let server = Server::start(&source.path);
        let stage = Self {
            world,
            source,
            server,
        };
        stage.configure("");
        stage.world.deploy();
        stage
    }

    fn configure(&self, more: &str) {
        self.world.config_of(&format!(
            "\"site\": (repo: \"git://127.0.0.1:{}/x\", branch: \"main\", path: \"site\", retries: 0, {more}),",
            self.server.port
        ));
    }

    /// A commit that comes as a small difference.
    fn push(&mut self) {
        self.source.commit([("large", content("two"))]);
        self.server.be_thin();
    }

    fn git(&self, args: &[&str]) -> String {
        git(&self.world.path("site"), args).trim().to_owned()
    }

    fn base(&self) -> String {
        self.git(&["rev-parse", "HEAD:large"])
    }

    /// The file is what the source says, for git, too.
    fn check(&self, what: &str) {
        assert!(self.server.was_thin(), "{what}");
        assert_eq!(self.world.site().get("large"), Some(&content("two")), "{what}");
        self.git(&["--no-replace-objects", "fsck", "--strict"]);
        let head = self.git(&["rev-parse", "HEAD"]);
        assert_eq!(
            head,
            git(&self.source.path, &["rev-parse", "main"]).trim(),
            "{what}"
        );
    }
}

/// Half a megabyte that no compression makes small, with a line in it.
fn content(line: &str) -> Entry {
    let mut state = 1_u32;
    let mut bytes: Vec<u8> = (0..500_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    bytes.extend_from_slice(line.as_bytes());
    Entry::File(bytes)
}

#[test]
fn a_replaced_base_is_not_what_a_delta_is_made_from() {
    if !need("git") {
        return;
    }
    let mut stage = Stage::new();
    let base = stage.base();
    let other = stage.world.write("other", "something else");
    let other = stage.git(&["hash-object", "-w", other.to_str().unwrap()]);
    stage.git(&["update-ref", &format!("refs/replace/{base}"), &other]);
    stage.push();
    stage.world.deploy();
    stage.check("replaced");
}

#[test]
fn a_damaged_base_is_fetched_again() {
    if !need("git") {
        return;
    }
    let mut stage = Stage::new();
    let base = stage.base();
    let wrong = loose(&stage, &base);
    stage.push();
    let ended = stage.world.deploy();
    assert!(ended.err.contains("fetched again"), "{ended:?}");
    stage.check("damaged");
    assert!(!wrong.exists() || fs::read(&wrong).unwrap() != fs::read(stage.world.path("wrong")).unwrap());
}

/// Put another object's bytes where `id` is, and its pack out of the way.
fn loose(stage: &Stage, id: &str) -> PathBuf {
    let objects = stage.world.path("site/.git/objects");
    let packs = stage.world.path("packs");
    fs::rename(objects.join("pack"), &packs).unwrap();
    fs::create_dir(objects.join("pack")).unwrap();
    let pack = fs::read_dir(&packs).unwrap().map(|entry| entry.unwrap().path());
    let pack = pack
        .into_iter()
        .find(|path| path.extension().is_some_and(|is| is == "pack"));
    let status = std::process::Command::new("git")
        .args(["unpack-objects", "-q"])
        .current_dir(stage.world.path("site"))
        .stdin(fs::File::open(pack.unwrap()).unwrap())
        .status();
    assert!(status.unwrap().success());
    let file = objects.join(&id[..2]).join(&id[2..]);
    let other = stage.world.write("other", "something else");
    let other = stage.git(&["hash-object", "-w", other.to_str().unwrap()]);
    let other = objects.join(&other[..2]).join(&other[2..]);
    fs::remove_file(&file).unwrap();
    fs::copy(&other, stage.world.path("wrong")).unwrap();
    fs::rename(other, &file).unwrap();
    file
}

#[test]
fn what_completes_a_pack_counts() {
    if !need("git") {
        return;
    }
    let mut stage = Stage::new();
    let before = stage.git(&["rev-parse", "HEAD"]);
    stage.configure("max_pack: \"100KiB\"");
    stage.push();
    let ended = stage.world.run(["once", "site"]);
    assert!(stage.server.was_thin());
    assert_eq!(ended.exit, 1, "{ended:?}");
    let last = last_line(&ended.err);
    assert!(last.contains("max_pack"), "{last}");
    assert_eq!(stage.git(&["rev-parse", "HEAD"]), before);
    stage.configure("");
    stage.world.deploy();
}
