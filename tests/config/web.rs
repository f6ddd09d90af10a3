//! The front's configuration is read as it is meant; an error is reported whole, clearly and without secrets.

use std::{fs, path::Path};

use gitsocket::web::config::{self, Config, From};

use super::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/config/web");
const FILE: &str = "/etc/gitsocket/web.ron";

fn parse(text: &str) -> Result<Config, Error> {
    let source = Source {
        file: FILE.into(),
        text: text.into(),
    };
    Config::parse_with(&source, &|name| {
        (name == "CREDENTIALS_DIRECTORY").then(|| "/run/credentials/web".into())
    })
}

#[test]
fn valid() {
    let text = fs::read_to_string(Path::new(FIXTURES).join("valid.ron")).unwrap();
    let config = parse(&text).unwrap_or_else(|err| panic!("{}", render(&err)));
    snapshot(FIXTURES, "valid", &format!("{config:#?}"));
}

#[test]
fn what_the_file_does_not_say() {
    let hook = r#""/h": (trigger: "site", from: GitHub(secret_file: "s"))"#;
    let config = parse(&format!("(webhooks: {{{hook}}})")).unwrap_or_else(|err| panic!("{}", render(&err)));
    assert_eq!(config.daemon.to_string(), "/run/gitsocket/gitsocket.sock");
    assert_eq!(config.max_body, 1 << 20);
    assert!(config.page.is_none() && config.metrics.is_none());
    let webhook = &config.webhooks["/h"];
    assert_eq!(webhook.refs, None);
    let From::GitHub { secret_files } = &webhook.from else {
        panic!("{webhook:?}");
    };
    assert_eq!(secret_files[0].as_path(), Path::new("/etc/gitsocket/s"));
    for (text, is_right) in [
        ("(page: ())", true),
        ("(metrics: true)", true),
        ("(metrics: false)", false),
        ("()", false),
        ("(webhooks: {})", false),
        (r#"(page: (), listen: [Unix(path: "x")])"#, true),
        (
            r#"(page: (), listen: [Http(addr: "0.0.0.0:1", plain: true)])"#,
            false,
        ),
        (
            r#"(page: (users: {"a": "b"}), listen: [Http(addr: "0.0.0.0:1", plain: true)])"#,
            true,
        ),
        (r#"(page: (user: {"a": "b"}))"#, false),
        (r#"(page: (), daemon: "tcp:localhost:9418")"#, true),
        (
            r#"(page: (), daemon: "tcp:localhost:9418", daemon_token_file: "t")"#,
            true,
        ),
    ] {
        assert_eq!(parse(text).is_ok(), is_right, "{text}");
    }
}

#[test]
fn invalid() {
    let dir = Path::new(FIXTURES).join("invalid");
    let mut found = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|ext| ext != "ron") {
            continue;
        }
        found += 1;
        let text = fs::read_to_string(&file).unwrap();
        let name = file.file_stem().unwrap().to_str().unwrap();
        let err = parse(&text).expect_err(name);
        assert_eq!(err.kind(), Kind::Config);
        let report = render(&err);
        let all = format!("{report}{err:?}{}", problems(&err).lines().collect::<String>());
        assert!(!all.contains(SECRET), "{name} shows a secret:\n{all}");
        for problem in problems(&err).problems() {
            assert!(miette::Diagnostic::help(problem).is_some(), "{name}: {problem}");
        }
        check_spans(&text, &err);
        snapshot(dir.to_str().unwrap(), name, &report);
    }
    assert!(found >= 8, "only {found} files in {}", dir.display());
}

#[test]
fn a_file_that_is_not_there_is_looked_for_elsewhere() {
    let dir = crate::machine::tempdir().unwrap();
    let err = Config::load(&dir.path().join("web.ron")).unwrap_err();
    let help = miette::Diagnostic::help(&err).unwrap().to_string();
    assert!(
        help.contains("GITSOCKET_WEB_CONFIG")
            && help.contains("./web.ron, /etc/gitsocket-web/web.ron and /etc/gitsocket/web.ron"),
        "{help}"
    );
}

/// The examples in RON that begin with `first`.
fn examples(page: &str, first: char) -> impl Iterator<Item = String> {
    let blocks = page.split("```ron\n").skip(1);
    blocks
        .filter(move |block| block.starts_with(first))
        .map(|block| block.split("```").next().unwrap().to_owned())
}

/// The fields in docs/web-configuration.md are those that are read. `GITSOCKET_REFERENCE=write` writes them.
#[test]
fn the_reference_is_the_readers() {
    const MARK: &str = "<!-- What follows is made from the declarations in src/web/config. -->\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/web-configuration.md");
    let text = fs::read_to_string(&file).unwrap();
    let (prose, tables) = text.split_once(MARK).expect("the mark is there");
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/web.md")).unwrap();
    let recipes = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes.md")).unwrap();
    let files = [prose, &guide].map(|page| examples(page, '('));
    let webhooks = examples(&recipes, '"').filter(|example| example.starts_with("\"/hooks/"));
    let webhooks: Vec<_> = webhooks
        .map(|webhook| format!("(webhooks: {{{webhook}}})"))
        .collect();
    assert_eq!(webhooks.len(), 1, "{webhooks:?}");
    for example in files.into_iter().flatten().chain(webhooks) {
        parse(&example).unwrap_or_else(|err| panic!("{}", render(&err)));
    }
    let reference = config::reference();
    if std::env::var_os("GITSOCKET_REFERENCE").is_some_and(|how| how == "write") {
        fs::write(&file, format!("{prose}{MARK}{reference}")).unwrap();
    } else {
        assert_eq!(
            tables, reference,
            "GITSOCKET_REFERENCE=write cargo test --test config writes it"
        );
    }
}

#[test]
fn mutations() {
    let text = fs::read_to_string(Path::new(FIXTURES).join("valid.ron")).unwrap();
    let mut random = fastrand::Rng::with_seed(crate::machine::seed());
    for _ in 0..crate::machine::rounds(150) {
        let mutant = mutate(&text, &mut random);
        if let Err(err) = parse(&mutant) {
            check_spans(&mutant, &err);
            assert!(!render(&err).is_empty());
        }
    }
}
