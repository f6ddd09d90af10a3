//! What is different between two configurations: a pure function, so that a reload can be tested as a table.
//!
//! A reload replaces the worker, and so needs to know only which listeners stay open; the rest is for the log.

use std::{collections::BTreeSet, fmt};

use crate::{
    base::{address::Address, name::TriggerName},
    config::{Config, Listener},
};

/// The differences between two configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// What becomes of each listener of the new configuration, in its order.
    pub listeners: Vec<Change>,
    /// The addresses that are no longer listened on.
    pub closed: Vec<Address>,
    pub added: Vec<TriggerName>,
    pub removed: Vec<TriggerName>,
    pub changed: Vec<TriggerName>,
    /// Whether anything besides is different: `jobs`, `keep_alive`, `sandbox`.
    pub settings: bool,
}

/// What becomes of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Keep,
    /// The listener stays open, with another mode, group or token.
    Adjust,
    Open,
}

pub fn changes(old: &Config, new: &Config) -> Changes {
    let listeners = new.listen.iter().map(|listener| {
        let before = old.listen.iter().find(|old| old.is_at(listener));
        match before {
            Some(before) if before == listener => Change::Keep,
            Some(_) => Change::Adjust,
            None => Change::Open,
        }
    });
    let stays = |listener: &&Listener| new.listen.iter().any(|new| new.is_at(listener));
    let names = |config: &Config| config.triggers.keys().cloned().collect::<BTreeSet<_>>();
    let (before, after) = (names(old), names(new));
    Changes {
        listeners: listeners.collect(),
        closed: old
            .listen
            .iter()
            .filter(|old| !stays(old))
            .map(Listener::address)
            .collect(),
        added: after.difference(&before).cloned().collect(),
        removed: before.difference(&after).cloned().collect(),
        changed: before
            .intersection(&after)
            .filter(|name| old.triggers.get(*name) != new.triggers.get(*name))
            .cloned()
            .collect(),
        settings: (old.jobs, old.keep_alive, old.sandbox) != (new.jobs, new.keep_alive, new.sandbox),
    }
}

/// For the log: `triggers added: a, b; listening on 1, no longer on 2`.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut list = |what: &str, names: Vec<String>| {
            if !names.is_empty() {
                parts.push(format!("{what} {}", names.join(", ")));
            }
        };
        let text = |names: &[TriggerName]| names.iter().map(ToString::to_string).collect();
        list("triggers added:", text(&self.added));
        list("triggers removed:", text(&self.removed));
        list("triggers changed:", text(&self.changed));
        let closed = self.closed.iter().map(ToString::to_string).collect();
        list("no longer listening on", closed);
        let count = |kind| self.listeners.iter().filter(|change| **change == kind).count();
        let (open, adjust) = (count(Change::Open), count(Change::Adjust));
        if open > 0 {
            parts.push(format!("listeners added: {open}"));
        }
        if adjust > 0 {
            parts.push(format!("listeners changed: {adjust}"));
        }
        if self.settings {
            parts.push("settings changed".into());
        }
        match parts.as_slice() {
            [] => f.write_str("nothing changed"),
            parts => f.write_str(&parts.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn config(text: &str) -> Config {
        let text = format!("({text})");
        Config::parse(&Source {
            file: "/etc/gitsocket/config.ron".into(),
            text,
        })
        .unwrap()
    }

    #[test]
    fn a_table() {
        let base = r#"listen: [Unix(path: "/s"), Tcp(addr: "1")],
            triggers: {"a": (repo: "/r", path: "/a"), "b": (repo: "/r", path: "/b")}"#;
        for (new, expected) in [
            (base, "nothing changed"),
            (
                r#"triggers: {"b": (repo: "/r", path: "/b", depth: 1), "c": (repo: "/r", path: "/c")},
                listen: [Unix(path: "/s"), Tcp(addr: "1")]"#,
                "triggers added: c; triggers removed: a; triggers changed: b",
            ),
            (
                r#"listen: [Unix(path: "/s", mode: "0660"), Tcp(addr: "2")], jobs: 7,
                triggers: {"a": (repo: "/r", path: "/a"), "b": (repo: "/r", path: "/b")}"#,
                "no longer listening on 127.0.0.1:1; listeners added: 1; listeners changed: 1; settings changed",
            ),
            (
                r#"listen: [Tcp(addr: "1"), Unix(path: "/s")], sandbox: Off,
                triggers: {"a": (repo: "/r", path: "/a"), "b": (repo: "/r", path: "/b")}"#,
                "settings changed",
            ),
        ] {
            // The number of jobs is that of the cores, if it is not given.
            assert_eq!(
                changes(&config(base), &config(new)).to_string(),
                expected,
                "{new}"
            );
        }
    }

    #[test]
    fn listeners_are_known_by_their_address() {
        let triggers = r#"triggers: {"a": (repo: "/r", path: "/a")}"#;
        let old = config(&format!(
            r#"listen: [Unix(path: "/s"), Tcp(addr: "1"), Unix(path: "/gone")], {triggers}"#
        ));
        let new = config(&format!(
            r#"listen: [Tcp(addr: "1", token_file: "t"), Unix(path: "/new"), Unix(path: "/s")], {triggers}"#
        ));
        let changes = changes(&old, &new);
        assert_eq!(changes.listeners, [Change::Adjust, Change::Open, Change::Keep]);
        assert_eq!(changes.closed.len(), 1);
        assert_eq!(changes.closed[0].to_string(), "/gone");
    }
}
