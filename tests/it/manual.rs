//! The man page: it holds what `--help` does, no more and no less, and what shows man pages has nothing to say against it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{help, world::have};

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man/gitsocket.1")
}

/// The options that the page explains, by command; the program's own have no name.
fn options(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    let (mut section, mut command) = ("", String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix(".SH ") {
            (section, command) = (title, String::new());
        } else if let (Some(name), "COMMANDS") = (line.strip_prefix(".SS "), section) {
            command = name.into();
            found.insert(command.clone(), BTreeSet::new());
        } else if line == ".TP" && ["OPTIONS", "COMMANDS"].contains(&section) {
            let entry = lines.next().unwrap().replace("\\-", "-");
            let of = found.entry(command.clone()).or_default();
            let words = entry.split([' ', ',', '"']).filter(|word| word.starts_with('-'));
            of.extend(words.map(ToOwned::to_owned));
        }
    }
    found
}

#[test]
fn commands_and_options_are_those_of_the_help() {
    let text = fs::read_to_string(page()).unwrap();
    let mut page = options(&text);
    // These work everywhere, and `-h` is not argh's.
    let own = page.get_mut("").unwrap();
    assert!(own.remove("--help") && own.remove("-h"));
    let help: BTreeMap<_, _> = help::all()
        .into_iter()
        .map(|help| (help.name, help.options))
        .collect();
    assert_eq!(page, help, "left: the man page; right: --help");
    for name in help.keys() {
        let line = format!(".B gitsocket {name}");
        assert!(text.contains(line.trim_end()), "SYNOPSIS has no {name}");
    }
}

#[test]
fn it_is_rendered_without_a_warning() {
    let page = page().display().to_string();
    for (program, args) in [
        ("man", &["--warnings", "-l"][..]),
        ("groff", &["-man", "-Tutf8", "-ww"]),
        ("mandoc", &["-T", "lint", "-W", "warning"]),
    ] {
        if !have(program) {
            continue;
        }
        let output = Command::new(program).args(args).arg(&page).output().unwrap();
        // mandoc's lint goes to stdout.
        let said = match program {
            "mandoc" => [output.stdout, output.stderr].concat(),
            _ => output.stderr,
        };
        assert_eq!(String::from_utf8_lossy(&said), "", "{program}");
        assert!(output.status.success(), "{program}");
    }
}
