//! What is written is read; what the version before wrote, and reads; and which hooks are due then.

use std::sync::Arc;

use super::*;
use crate::config::{Config, Source};

/// The trigger `name`, with `hooks`.
fn target(name: &str, hooks: &str) -> Arc<Target> {
    let text = format!(
        "(triggers: {{\"{name}\": (repo: \"r.git\", path: \"site\", fsync: false, hooks: [{hooks}])}})"
    );
    let file = "/nowhere/config.ron".into();
    let config = Config::parse(&Source { file, text }).unwrap();
    config.triggers[name].clone()
}

const ONE: &str = "Exec(run: [\"/bin/one\"])";
const TWO: &str = "Exec(run: [\"/bin/two\", \"hunter2\"], user_env: {\"A\": \"hunter3\"})";

fn id(n: u8) -> ObjectId {
    ObjectId::from_bytes_or_panic(&[n; 20])
}

fn before(dir: &Path) -> serde_json::Value {
    let text = fs::read_to_string(file(dir)).unwrap();
    assert!(!text.contains("hunter"), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["version"], VERSION);
    value["hooks_succeeded_for"].clone()
}

#[test]
fn each_trigger_has_its_own() {
    let dir = crate::machine::tempdir().unwrap();
    let dir = dir.path();
    let (a, b) = (target("a", ONE), target("b", TWO));
    assert_eq!(State::read(dir), State::default());
    assert_eq!(State::read(dir).hooks(&a).due(&a, id(1)), [0]);

    State::read(dir).succeeded(dir, &a, id(1)).unwrap();
    assert_eq!(before(dir), id(1).to_string());
    assert!(State::read(dir).hooks(&a).due(&a, id(1)).is_empty());
    assert_eq!(
        State::read(dir).hooks(&b).due(&b, id(1)),
        [0],
        "never of another's"
    );

    // A hook of b failed, then a succeeds: b's are pending still.
    State::read(dir).left_pending(dir, &b, "b", Some(id(1))).unwrap();
    assert!(before(dir).is_null());
    State::read(dir).succeeded(dir, &a, id(2)).unwrap();
    assert!(before(dir).is_null(), "the version before knows one state only");
    let state = State::read(dir);
    assert_eq!(state.hooks(&b).due(&b, id(1)), [0]);
    assert!(state.hooks(&b).are_pending_at(Some(id(1))));
    assert!(
        !state.hooks(&b).are_pending_at(Some(id(2))),
        "another revision is there"
    );
    assert_eq!(state.commits(), [id(2)]);
    state.succeeded(dir, &b, id(2)).unwrap();
    assert_eq!(before(dir), id(2).to_string());
}

#[test]
fn what_was_added_or_changed_is_due() {
    let dir = crate::machine::tempdir().unwrap();
    let dir = dir.path();
    let due = |hooks: &str| {
        let target = target("a", hooks);
        State::read(dir).hooks(&target).due(&target, id(1))
    };
    let both = format!("{ONE}, {TWO}");
    State::read(dir).succeeded(dir, &target("a", ONE), id(1)).unwrap();
    assert_eq!(due(&both), [1]);
    assert_eq!(due(&format!("{TWO}, {ONE}")), [0], "whatever the order is");
    assert_eq!(due(&format!("{ONE}, {ONE}")), [1]);
    assert_eq!(due(""), [0; 0]);
    assert_eq!(due("PostCheckout"), [0]);
    State::read(dir)
        .succeeded(dir, &target("a", &both), id(1))
        .unwrap();
    assert_eq!(due(ONE), [0; 0], "removing one is nothing");
    assert_eq!(due(&both.replace("hunter3", "hunter4")), [1]);
    assert_eq!(due(&both.replace("])", "], timeout: \"1h\")")), [0; 0]);
    State::read(dir)
        .left_pending(dir, &target("a", &both), "a", Some(id(1)))
        .unwrap();
    assert_eq!(due(&both), [0, 1], "all of them, once one has failed");
}

#[test]
fn the_version_before_and_back() {
    let dir = crate::machine::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join(DIR)).unwrap();
    let old = format!("{{\"hooks_succeeded_for\":\"{}\"}}", id(1));
    fs::write(file(dir), old).unwrap();
    let (a, b) = (target("a", ONE), target("b", TWO));
    let due = |target: &Target| State::read(dir).hooks(target).due(target, id(1));
    assert_eq!((due(&a), due(&b)), (vec![], vec![]));
    assert!(!State::read(dir).knows(&a));
    State::read(dir).inherit(dir, &a).unwrap();
    assert_eq!(before(dir), id(1).to_string());
    assert!(State::read(dir).knows(&a) && !State::read(dir).knows(&b));
    assert_eq!((due(&a), due(&b)), (vec![], vec![]));
    let more = target("a", &format!("{ONE}, {TWO}"));
    assert_eq!(due(&more), [1]);
    // A failed hook of one trigger alone: the commit that its hooks have seen.
    State::read(dir).left_pending(dir, &a, "a", Some(id(2))).unwrap();
    assert_eq!(before(dir), id(1).to_string());
    State::read(dir).left_pending(dir, &a, "a", Some(id(1))).unwrap();
    assert!(before(dir).is_null());
}

#[test]
fn damage_counts_as_nothing() {
    let dir = crate::machine::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join(DIR)).unwrap();
    for text in [
        "",
        "\0\0\0",
        "{",
        "[]",
        "{\"hooks_succeeded_for\":7}",
        "{\"version\":\"x\"}",
    ] {
        fs::write(file(dir), text).unwrap();
        assert_eq!(State::read(dir), State::default(), "{text:?}");
    }
    File::create(file(dir)).unwrap().set_len(MAX_BYTES + 1).unwrap();
    assert_eq!(State::read(dir), State::default());
    // Names that are no longer used do not keep it too large for ever.
    let mut state = State::default();
    for n in 0..10_000 {
        let hooks = Hooks {
            succeeded: vec!["0".repeat(32); 10],
            ..Hooks::default()
        };
        state.triggers.insert(format!("old{n}"), hooks);
    }
    state.succeeded(dir, &target("a", ONE), id(1)).unwrap();
    assert_eq!(State::read(dir).triggers.len(), 1);
}

#[test]
fn a_run_is_marked_once_it_begins() {
    let dir = crate::machine::tempdir().unwrap();
    let dir = dir.path();
    let target = target("a", ONE);
    let id = crate::base::name::RunId::new();
    let run = Run::new(dir, &target, &id, "uid=1", false);
    assert!(left(dir).is_none() && !run.has_begun());
    run.end().unwrap();
    run.begin().unwrap();
    run.settle().unwrap();
    let found = left(dir).unwrap();
    let marker = found.marker.unwrap();
    assert_eq!((&marker.run, marker.peer.as_str()), (&id, "uid=1"));
    assert!(found.span.0 < found.span.1);
    run.end().unwrap();
    assert!(left(dir).is_none());
    // Whatever stands there.
    fs::write(dir.join(DIR).join("run.json"), "half").unwrap();
    assert!(left(dir).unwrap().marker.is_none());
    forget(dir).unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.join(DIR).join("run.json")).unwrap();
    assert!(left(dir).unwrap().marker.is_none());
    forget(dir).unwrap();
    assert!(left(dir).is_none());
}

/// A run that failed on a worktree which is not ours does not make it ours.
#[test]
fn whose_the_worktree_is() {
    let dir = crate::machine::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join(DIR)).unwrap();
    let a = target("a", ONE);
    let is_ours = || State::read(dir).is_ours();
    assert!(!is_ours());
    State::read(dir).left_pending(dir, &a, "a", Some(id(1))).unwrap();
    assert!(!is_ours());
    State::read(dir).claim(dir, false).unwrap();
    assert!(is_ours() && State::read(dir).hooks(&a).are_pending());
    State::read(dir).left_pending(dir, &a, "a", Some(id(2))).unwrap();
    assert!(is_ours());

    // The version before: one that has deployed, and one that never came so far.
    for (text, expected) in [
        (format!("{{\"hooks_succeeded_for\":\"{}\"}}", id(1)), true),
        (r#"{"hooks_succeeded_for":null}"#.into(), false),
        (r#"{"version":1,"triggers":{"a":{"pending":""}}}"#.into(), false),
    ] {
        fs::write(file(dir), &text).unwrap();
        assert_eq!(is_ours(), expected, "{text}");
    }
    fs::write(file(dir), format!("{{\"hooks_succeeded_for\":\"{}\"}}", id(1))).unwrap();
    State::read(dir).left_pending(dir, &a, "a", None).unwrap();
    assert!(is_ours());
    fs::remove_file(file(dir)).unwrap();
    begin(dir, false).unwrap();
    assert!(is_ours());
}
