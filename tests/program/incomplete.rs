//! A pack that lacks objects, or a remote that lies, fails that run; the next run makes up for it.

use std::path::PathBuf;

use gix::ObjectId;

use super::{
    mock_server::Server,
    source::{Entry, Source, file},
    world::{Ended, World, git, last_line, need, tree},
};

/// What is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Blob,
    Tree,
    OldCommit,
}

/// A site, its source, and a server between them.
struct Stage {
    world: World,
    source: Source,
    server: Server,
    round: u32,
}

impl Stage {
    fn new(more: &str) -> Self {
        let (world, mut source) = World::with_source();
        for round in 1..=3 {
            commit(&mut source, round);
        }
        let server = Server::start(&source.path);
        world.config_of(&format!(
            "\"site\": (repo: \"git://127.0.0.1:{}/x\", branch: \"main\", path: \"site\", retries: 0, {more}),",
            server.port
        ));
        Self {
            world,
            source,
            server,
            round: 3,
        }
    }

    fn push(&mut self) {
        self.round += 1;
        commit(&mut self.source, self.round);
    }

    fn id(&self, what: What) -> String {
        let name = match what {
            What::Blob => "main:d/e/new",
            What::Tree => "main:d",
            What::OldCommit => "main~1",
        };
        git(&self.source.path, &["rev-parse", name]).trim().to_owned()
    }

    fn run(&self) -> Ended {
        self.world.run(["once", "site"])
    }

    fn check(&self, what: &str) {
        let ended = self.run();
        assert_eq!(ended.exit, 0, "{what}: {ended:?}");
        assert_eq!(self.world.site(), files(self.round), "{what}");
        git(&self.world.path("site"), &["fsck", "--strict", "--no-dangling"]);
        assert_eq!(
            git(&self.world.path("site"), &["status", "--porcelain"]),
            "",
            "{what}"
        );
    }
}

fn files(round: u32) -> std::collections::BTreeMap<String, Entry> {
    [
        ("same".to_owned(), file("same")),
        ("d/same".to_owned(), file("the same below")),
        ("d/e/new".to_owned(), file(&format!("round {round}"))),
    ]
    .into()
}

fn commit(source: &mut Source, round: u32) -> ObjectId {
    let files = files(round);
    source.commit(files.iter().map(|(path, entry)| (path.as_str(), entry.clone())))
}

#[test]
fn a_clone_from_an_incomplete_pack() {
    if !need("git") {
        return;
    }
    for depth in ["", "depth: 1"] {
        for what in [What::Blob, What::Tree, What::OldCommit] {
            if what == What::OldCommit && !depth.is_empty() {
                continue;
            }
            let stage = Stage::new(depth);
            stage.server.leave_out(&[stage.id(what)]);
            let ended = stage.run();
            let name = format!("{what:?} {depth}");
            refused(&ended, &stage.id(what), &name);
            assert!(!stage.world.path("site/.git").exists(), "{name}");
            stage.check(&name);
        }
    }
}

/// It says what is missing, and that nothing was deployed.
fn refused(ended: &Ended, id: &str, name: &str) {
    let last = last_line(&ended.err);
    assert!(last.starts_with("error site remote: "), "{name}: {ended:?}");
    assert!(
        last.contains(id) && last.contains("nothing was deployed"),
        "{name}: {last}"
    );
}

#[test]
fn an_update_from_an_incomplete_pack() {
    if !need("git") {
        return;
    }
    for depth in ["", "depth: 1"] {
        for what in [What::Blob, What::Tree, What::OldCommit] {
            for more in [false, true] {
                if what == What::OldCommit && !depth.is_empty() {
                    continue;
                }
                let mut stage = Stage::new(depth);
                stage.check("the first");
                let before = (objects(&stage.world), boundary(&stage.world));
                stage.push();
                stage.push();
                let id = stage.id(what);
                stage.server.leave_out(std::slice::from_ref(&id));
                let ended = stage.run();
                let name = format!("{what:?} {depth} {more}");
                assert!(stage.server.has_left_out());
                refused(&ended, &id, &name);
                assert_eq!(stage.world.site(), files(3), "{name}");
                assert_eq!((objects(&stage.world), boundary(&stage.world)), before, "{name}");
                if more {
                    stage.push();
                }
                stage.check(&name);
            }
        }
    }
}

/// The packs and loose objects that are there.
fn objects(world: &World) -> Vec<PathBuf> {
    let mut files: Vec<_> = tree(&world.path("site/.git/objects"))
        .keys()
        .map(PathBuf::from)
        .collect();
    files.sort();
    files
}

fn boundary(world: &World) -> Option<String> {
    std::fs::read_to_string(world.path("site/.git/shallow")).ok()
}

/// A shallow clone that is deepened, by a remote that leaves out an old file: it stays what it was.
#[test]
fn a_deepening_from_an_incomplete_pack() {
    if !need("git") {
        return;
    }
    for what in ["main~2^{tree}", "main~2"] {
        let mut stage = Stage::new("depth: 1");
        stage.check("the first");
        let before = (objects(&stage.world), boundary(&stage.world));
        let url = format!("git://127.0.0.1:{}/x", stage.server.port);
        stage.world.config_of(&format!(
            "\"site\": (repo: {url:?}, branch: \"main\", path: \"site\", retries: 0, depth: 3),"
        ));
        stage.push();
        let id = git(&stage.source.path, &["rev-parse", what]).trim().to_owned();
        stage.server.leave_out(std::slice::from_ref(&id));
        let ended = stage.run();
        assert!(stage.server.has_left_out());
        refused(&ended, &id, what);
        assert_eq!((objects(&stage.world), boundary(&stage.world)), before, "{what}");
        stage.check(what);
        let log = git(&stage.world.path("site"), &["rev-list", "HEAD"]);
        assert_eq!(log.lines().count(), 3, "{what}");
    }
}

/// A remote that says of its own accord that history ends: a clone that has all of it keeps it.
#[test]
fn a_remote_that_cuts_history_off() {
    if !need("git") {
        return;
    }
    let mut stage = Stage::new("");
    stage.check("the first");
    let id = git(&stage.source.path, &["rev-parse", "main~1"])
        .trim()
        .to_owned();
    stage.push();
    stage.server.cut(&id);
    stage.run();
    stage.check("the next");
    assert_eq!(boundary(&stage.world), None);
    let log = git(&stage.world.path("site"), &["rev-list", "HEAD"]);
    assert_eq!(log.lines().count(), 4);
}
