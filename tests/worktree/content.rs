//! Names, ignore rules, attributes and contents, made up at random.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::model::{Node, Tree};

pub const NAMES: [&str; 12] = [
    "a",
    "b",
    "c",
    "d.txt",
    "e.o",
    "f.local",
    "a.b",
    "ä",
    "sp ace",
    ".hid",
    "g.txt",
    "h.excluded",
];
pub const IGNORES: &[&str] = &[
    "*.o", "*.local", "b/", "!e.o", "/a", "c", "**/d.txt", "a/b", "# no", "*", "!*/", "!g.txt", "sp ace",
    "a?b", "d.txt\r",
];
pub const ATTRIBUTES: &[&str] = &[
    "* text=auto",
    "*.txt text eol=crlf",
    "*.txt eol=lf",
    "*.o binary",
    "* ident",
    "a/** -text",
    "*.txt working-tree-encoding=UTF-16",
    "*.b working-tree-encoding=UTF-16LE-BOM",
    "c working-tree-encoding=ISO-8859-1",
    "*.local filter=none",
    "[attr]mac text eol=crlf",
    "*.b mac",
    "* -crlf",
    "b crlf=input",
    "*.o working-tree-encoding=UTF-32BE",
    "a working-tree-encoding=nonsense",
    "*.c working-tree-encoding=IBM850",
    "* text",
    "/b/* text=auto eol=crlf",
    "* !text",
];
// Of different lengths: within a second, git sees no other difference.
pub const LINKS: [&str; 7] = [
    "a",
    "../out",
    "../out/canary",
    "b/c",
    "/nonexistent/x",
    "./",
    "../../out",
];

pub fn path(rng: &mut Rng) -> String {
    let depth = rng.usize(1..4);
    (0..depth)
        .map(|_| NAMES[rng.usize(..NAMES.len())])
        .collect::<Vec<_>>()
        .join("/")
}

pub fn in_some_dir(rng: &mut Rng, name: &str) -> String {
    if rng.bool() {
        name.into()
    } else {
        format!("{}/{name}", path(rng))
    }
}

pub fn link(rng: &mut Rng) -> Node {
    Node::Link(LINKS[rng.usize(..LINKS.len())].into())
}

pub fn lines(rng: &mut Rng, from: &[&str]) -> Vec<u8> {
    (0..rng.usize(1..4))
        .map(|_| format!("{}\n", from[rng.usize(..from.len())]))
        .collect::<String>()
        .into()
}

pub fn content(rng: &mut Rng) -> Vec<u8> {
    const PARTS: [&str; 14] = [
        "a",
        "$$Id$",
        "$Id:x y$",
        "line\n",
        "dos\r\n",
        "$Id$",
        "ä",
        "\0",
        "€\n",
        "$Id: x $\n",
        "\r",
        "version https://git-lfs.github.com/spec/v1\n",
        "x",
        "\n",
    ];
    match rng.u8(..12) {
        0 => Vec::new(),
        1 => vec![0xff, b'\n', 0xfe],
        2 => "long line\n".repeat(rng.usize(1..20_000)).into(),
        _ => {
            let parts: BTreeSet<_> = (0..rng.usize(1..4)).map(|_| rng.usize(..PARTS.len())).collect();
            (0..rng.usize(1..9))
                .map(|_| PARTS[*rng.choice(&parts).unwrap()])
                .collect::<String>()
                .into()
        }
    }
}

pub fn pick(rng: &mut Rng, tree: &Tree) -> String {
    tree.keys().nth(rng.usize(..tree.len())).unwrap().clone()
}
