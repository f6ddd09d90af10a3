//! A configuration is read as it is meant; an error is reported whole, clearly and without secrets.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "this is a test")]

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use gitsocket::{
    base::fault::{Blame as _, Kind},
    config::{Config, Error, Hook, Problem, Source},
};
use miette::{GraphicalReportHandler, GraphicalTheme};

#[path = "support/machine.rs"]
mod machine;
#[path = "config/many.rs"]
mod many;
#[path = "config/web.rs"]
mod web;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/config");
/// Where the fixtures pretend to lie, so that snapshots are the same on every machine.
const FILE: &str = "/etc/gitsocket/config.ron";
/// What stands in fixtures wherever somebody wrote a secret into a configuration.
const SECRET: &str = "hunter2";

#[test]
fn valid() {
    let text = fs::read_to_string(Path::new(FIXTURES).join("valid.ron")).unwrap();
    let config = parse(&text).unwrap_or_else(|err| panic!("{}", render(&err)));
    snapshot(FIXTURES, "valid", &format!("{config:#?}"));
    // What `Debug` does not show.
    let Hook::Exec { user_env, .. } = &config.triggers["site"].hooks[0] else {
        panic!("another hook");
    };
    let pairs: Vec<_> = user_env
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(pairs, [("EMPTY", ""), ("STAGE", "live")]);
}

#[test]
fn invalid() {
    let dir = Path::new(FIXTURES).join("invalid");
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let (files, others): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|file| file.extension().is_some_and(|ext| ext == "ron"));
    assert!(
        files.len() >= 25,
        "only {} files in {}",
        files.len(),
        dir.display()
    );
    for other in others {
        assert!(
            other.with_extension("ron").exists(),
            "{} belongs to no fixture",
            other.display()
        );
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap();
        let err = parse(&text).expect_err(name);
        assert_eq!(err.kind(), Kind::Config);
        let report = render(&err);
        let all = format!("{report}{err:?}{}", problems(&err).lines().collect::<String>());
        assert!(!all.contains(SECRET), "{name} shows a secret:\n{all}");
        check_spans(&text, &err);
        snapshot(dir.to_str().unwrap(), name, &report);
    }
}

#[test]
fn every_error_has_a_remedy() {
    for entry in fs::read_dir(Path::new(FIXTURES).join("invalid")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|ext| ext == "ron") {
            let err = parse(&fs::read_to_string(&file).unwrap()).unwrap_err();
            for problem in problems(&err).problems() {
                let help = miette::Diagnostic::help(problem);
                assert!(help.is_some(), "{}: {problem}", file.display());
            }
        }
    }
}

#[test]
fn lines_for_the_log() {
    let err = parse("(triggers: {\"a\": (repo: \"x\", pth: \"/srv/a\")},\n  jobs: 0)").unwrap_err();
    let lines: Vec<_> = problems(&err).lines().collect();
    assert_eq!(
        lines,
        [
            "/etc/gitsocket/config.ron:1:30: a trigger has no field `pth` (did you mean `path`?)",
            "/etc/gitsocket/config.ron:2:9: expected a whole number from 1 to 1024, found 0 \
             (write how many runs may go on at a time, or remove the field for the number of cores)",
        ]
    );
}

/// Whatever stands in the file: no panic, and every span lies inside the text, between two characters.
#[test]
fn mutations() {
    let text = fs::read_to_string(Path::new(FIXTURES).join("valid.ron")).unwrap();
    let mut random = fastrand::Rng::with_seed(machine::seed());
    let mut wrong = 0;
    let rounds = machine::rounds(300);
    for _ in 0..rounds {
        let mutant = mutate(&text, &mut random);
        if let Err(err) = parse(&mutant) {
            wrong += 1;
            check_spans(&mutant, &err);
            assert!(!render(&err).is_empty());
        }
    }
    assert!(wrong > rounds / 4, "only {wrong} mutants were refused");
}

#[test]
fn files_that_cannot_be_read() {
    let dir = machine::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("latin1.ron"), b"(\n  // \xe4\n)").unwrap();
    fs::write(at("large.ron"), " ".repeat(1024 * 1024 + 1)).unwrap();
    let report = |path: PathBuf| {
        let err = Config::load(&path).unwrap_err();
        assert_eq!(err.kind(), Kind::Config);
        let help = miette::Diagnostic::help(&err).unwrap();
        format!("{err}\n  {help}\n").replace(dir.path().to_str().unwrap(), "DIR")
    };
    let reports = ["missing.ron", "latin1.ron", "large.ron", ""].map(|name| report(at(name)));
    snapshot(FIXTURES, "unreadable", &reports.concat());
}

#[test]
fn a_file_of_the_largest_size_is_read() {
    let dir = machine::tempdir().unwrap();
    let file = dir.path().join("config.ron");
    let mut text = r#"(triggers: {"a": (repo: "x.git", path: "y")}) //"#.to_owned();
    text.push_str(&" ".repeat(1024 * 1024 - text.len()));
    fs::write(&file, text).unwrap();
    let config = Config::load(&file).unwrap_or_else(|err| panic!("{}", render(&err)));
    assert_eq!(config.triggers["a"].site.path.as_path(), dir.path().join("y"));
}

#[test]
fn byte_order_marks_and_foreign_line_ends_are_accepted() {
    let config =
        parse("\u{feff}(\r\n// x\r\ntriggers: {\"a\": (repo: \"x.git\", path: \"y\")})\r\n").unwrap();
    assert_eq!(
        config.triggers["a"].site.path.as_path(),
        Path::new("/etc/gitsocket/y")
    );
    let err = parse("\u{feff}(\r\n  jbs: 1, triggers: {\"a\": (repo: \"x.git\", path: \"y\")})").unwrap_err();
    assert!(
        render(&err).contains("[/etc/gitsocket/config.ron:2:3]"),
        "{}",
        render(&err)
    );
}

/// Floods of errors, and brackets and comments that never end: no panic, no overflow of the stack.
#[test]
fn floods_of_errors() {
    for piece in ["x: 1,", "\"a\": (path: \"/\"),", "[", "/*", "\"://@\","] {
        let inner = piece.repeat(60_000 / piece.len());
        for text in [
            inner.clone(),
            format!("({inner})"),
            format!("(triggers: {{{inner}}})"),
        ] {
            check_spans(&text, &parse(&text).unwrap_err());
        }
    }
}

/// The fields in docs/configuration.md are those that are read. `GITSOCKET_REFERENCE=write` writes them.
#[test]
fn the_reference_is_the_readers() {
    const MARK: &str = "<!-- What follows is made from the declarations in src/config/check. -->\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = fs::read_to_string(&file).unwrap();
    let (prose, tables) = text.split_once(MARK).expect("the mark is there");
    let example = prose
        .split("```ron\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    parse(example).unwrap_or_else(|err| panic!("{}", render(&err)));
    let reference = gitsocket::config::reference();
    if std::env::var_os("GITSOCKET_REFERENCE").is_some_and(|how| how == "write") {
        fs::write(&file, format!("{prose}{MARK}{reference}")).unwrap();
    } else {
        assert_eq!(
            tables, reference,
            "GITSOCKET_REFERENCE=write cargo test --test config writes it"
        );
    }
}

/// The groups of the reference: title, a configuration around the group's fields, and the fields that it needs.
const GROUPS: [(&str, &str, &str); 13] = [
    (
        "The configuration",
        "(FIELDS)",
        r#"triggers: {"a": (repo: "x.git", path: "y")},"#,
    ),
    ("`sandbox`", "(TRIGGER)}, sandbox: (FIELDS))", ""),
    ("`Unix`", "(TRIGGER)}, listen: [Unix(FIELDS)])", r#"path: "s","#),
    ("`Tcp`", "(TRIGGER)}, listen: [Tcp(FIELDS)])", r#"addr: "1","#),
    (
        "A trigger",
        r#"(triggers: {"a": (FIELDS)})"#,
        r#"repo: "https://h/x", path: "y","#,
    ),
    ("`releases`", "(TRIGGER releases: (FIELDS))})", ""),
    ("`health`", "(TRIGGER health: (FIELDS))})", r#"check: Tcp("80"),"#),
    (
        "`Http`",
        "(TRIGGER health: (check: Http(FIELDS)))})",
        r#"url: "http://h","#,
    ),
    (
        "`Basic`",
        "(TRIGGER auth: Basic(FIELDS))})",
        r#"user: "u", password_file: "p","#,
    ),
    (
        "`Bearer`",
        "(TRIGGER auth: Bearer(FIELDS))})",
        r#"token_file: "t","#,
    ),
    ("`Ssh`", "(TRIGGER auth: Ssh(FIELDS))})", ""),
    ("`tls`", "(TRIGGER tls: (FIELDS))})", ""),
    ("`Exec`", "(TRIGGER hooks: [Exec(FIELDS)])})", r#"run: ["x"],"#),
];

/// Each field of the reference is read: a value that no field has is an error there, and underlined. And what it calls
/// the default makes no difference.
#[test]
fn every_declared_field_is_read() {
    let reference = gitsocket::config::reference();
    let sections: Vec<_> = reference.split("\n## ").skip(1).collect();
    assert_eq!(sections.len(), GROUPS.len());
    let mut defaults = 0;
    for (section, (title, around, needed)) in sections.into_iter().zip(GROUPS) {
        assert_eq!(section.lines().next(), Some(title));
        let around = around.replace("TRIGGER", r#"triggers: {"a": (repo: "https://h/x", path: "y","#);
        let around = |fields: &str| around.replace("FIELDS", fields);
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<_> = row.trim_matches(['|', ' ']).split(" | ").collect();
            // Groups with such paths have a column for whether they may use variables.
            let ([names, _, default, _] | [names, _, "yes" | "no", default, _]) = cells.as_slice() else {
                panic!("{row}");
            };
            assert!(cells.iter().all(|cell| !cell.trim().is_empty()), "{row}");
            let names: Vec<_> = names.split(" or ").map(|name| name.trim_matches('`')).collect();
            for name in &names {
                let text = around(&format!("{name}: 'x'"));
                let at = text.find("'x'").unwrap();
                let err = parse(&text).unwrap_err();
                let mut spans = problems(&err).problems().iter().flat_map(Problem::spans);
                assert!(spans.any(|span| span == (at..at + 3)), "{title}: {name}");
            }
            let name = names[0];
            let code = default.strip_prefix('`').and_then(|code| code.strip_suffix('`'));
            if let Some(code) = code.filter(|code| !code.contains('`')) {
                let written = parse(&around(&format!("{needed} {name}: {code}"))).unwrap();
                assert_eq!(written, parse(&around(needed)).unwrap(), "{title}: {name}");
                defaults += 1;
            }
        }
    }
    assert!(defaults > 15, "only {defaults} defaults were found");
}

/// What knows no field's name serves every file: it takes nothing from the rooms of one.
#[test]
fn forms_import_nothing_of_a_configuration() {
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/form")];
    let mut files = vec![dirs[0].with_extension("rs")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { &mut dirs } else { &mut files }.push(path);
        }
    }
    assert!(files.len() > 8, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let text = text.replace("crate::config::form::", "");
        for foreign in ["config::", "super::super", "super::check"] {
            assert!(!text.contains(foreign), "{}: {foreign}", file.display());
        }
    }
}

fn parse(text: &str) -> Result<Config, Error> {
    let source = Source {
        file: FILE.into(),
        text: text.into(),
    };
    Config::parse_with(&source, &|name| match name {
        "CREDENTIALS_DIRECTORY" => Some(OsString::from("/run/credentials/gitsocket.service")),
        "EMPTY" => Some(OsString::new()),
        _ => None,
    })
}

/// As an admin sees it on a terminal without colours and graphics.
fn render(err: &Error) -> String {
    render_in(100, err)
}

/// As [`render`], on a terminal of `columns`.
fn render_in(columns: usize, err: &Error) -> String {
    let mut out = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::none())
        .with_width(columns)
        .render_report(&mut out, err)
        .unwrap();
    out
}

fn problems(err: &Error) -> &gitsocket::config::Invalid {
    match err {
        Error::Invalid(invalid) => invalid,
        other => panic!("{other}"),
    }
}

fn check_spans(text: &str, err: &Error) {
    let invalid = problems(err);
    assert!(!invalid.problems().is_empty());
    for problem in invalid.problems() {
        for span in problem.spans() {
            assert!(
                text.get(span.clone()).is_some(),
                "{problem}: {span:?} of {}",
                text.len()
            );
            assert!(invalid.shown().get(span).is_some());
        }
    }
}

fn mutate(text: &str, random: &mut fastrand::Rng) -> String {
    const SIGNS: &[u8] = b"()[]{}\"'\\,:/*#r$~ \n\0=-0aN\xc3\xa4";
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.usize(1..4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..5) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, SIGNS[random.usize(..SIGNS.len())]),
            3 => drop(bytes.drain(at..bytes.len().min(at + random.usize(..40)))),
            _ => bytes.truncate(at.max(1)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn snapshot(dir: &str, name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(dir);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
