//! The man page is made of the program's own declarations, and renders without a warning.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{help, world::need};

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man/gitsocket.1")
}

#[test]
fn it_is_what_the_program_prints() {
    let made = Command::new(env!("CARGO_BIN_EXE_gitsocket"))
        .args(["completions", "man"])
        .output()
        .unwrap();
    assert!(made.status.success());
    let made = String::from_utf8(made.stdout).unwrap();
    if std::env::var_os("GITSOCKET_REFERENCE").is_some_and(|value| value == "write") {
        fs::write(page(), &made).unwrap();
    }
    assert_eq!(
        fs::read_to_string(page()).unwrap(),
        made,
        "GITSOCKET_REFERENCE=write cargo test --test program manual writes it"
    );
    // A first word of one letter is a word of its own.
    assert!(made.contains("\nA note on who wants the run"), "{made}");
    for help in help::all() {
        let section = format!(".SS {}", help.name);
        assert!(help.name.is_empty() || made.contains(&section), "{section}");
        for option in help.options.iter().filter(|option| option.starts_with("--")) {
            assert!(made.contains(&option.replace('-', "\\-")), "{option}");
        }
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
        if !need(program) {
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
