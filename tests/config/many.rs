//! A configuration of many files, with defaults, means the same as one that is written out; an error is shown in its file.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use gitsocket::config::{At, Auth};

use super::*;

/// A directory with these files, the first being the main one.
struct Files(tempfile::TempDir);

impl Files {
    fn new<T: AsRef<str>>(files: &[(&str, T)]) -> Self {
        let files_of = Self(crate::machine::tempdir().unwrap());
        for (name, text) in files {
            files_of.write(name, text.as_ref());
        }
        files_of
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        fs::write(self.at(name), text).unwrap();
    }

    fn load(&self) -> Result<Config, Error> {
        Config::load(&self.at("config.ron"))
    }

    fn right(&self) -> Config {
        self.load().unwrap_or_else(|err| panic!("{}", render(&err)))
    }

    /// The lines for the log, in which the directory is called `DIR`.
    fn lines(&self) -> Vec<String> {
        let dir = self.0.path().to_str().unwrap();
        let err = self.load().unwrap_err();
        problems(&err)
            .lines()
            .map(|line| line.replace(dir, "DIR"))
            .collect()
    }
}

/// The triggers of a text, as it stands in the place of every configuration here.
fn triggers(text: &str) -> Config {
    parse(text).unwrap_or_else(|err| panic!("{}", render(&err)))
}

#[test]
fn twenty_sites_in_45_lines() {
    let text = fs::read_to_string(Path::new(FIXTURES).join("twenty.ron")).unwrap();
    assert!(text.lines().count() <= 45);
    let config = triggers(&text);
    assert_eq!(config.triggers.len(), 20);
    let of = |name: &str| &config.triggers[name];
    let blog = triggers(
        r#"(triggers: {"blog": (
            repo: "git@git.example.com:me/blog.git",
            branch: "main",
            path: "/srv/blog",
            git_dir: "/var/lib/gitsocket/blog.git",
            auth: Ssh(key: "/etc/gitsocket/blog_ed25519", known_hosts: "/etc/gitsocket/known_hosts"),
            hooks: [Exec(run: ["/usr/local/bin/reload-site"])],
            poll: "10m",
        )})"#,
    );
    assert_eq!(of("blog"), &blog.triggers["blog"]);
    assert!(format!("{:?}", of("jobs").origin.revision).contains("refs/tags/live"));
    assert_eq!(of("api-docs").origin.auth, Auth::None);
    assert_eq!(of("newsletter").poll, None);
    assert_eq!(of("health").hooks, []);
    assert!(of("shop").site.releases.is_some() && of("shop").hooks_at(At::Live).count() == 1);
}

#[test]
fn defaults_are_what_a_trigger_does_not_say() {
    for (defaults, trigger, same_as) in [
        (
            r#"repo: "r/{name}", path: "/s/{name}""#,
            "",
            r#"repo: "r/a", path: "/s/a""#,
        ),
        (
            r#"path: "/s/{name}""#,
            r#"repo: "r""#,
            r#"repo: "r", path: "/s/a""#,
        ),
        (
            r#"path: "/s/{name}""#,
            r#"repo: "r", path: "p""#,
            r#"repo: "r", path: "p""#,
        ),
        // A field is replaced as a whole.
        (
            r#"repo: "https://h/{name}", path: "/s/{name}", tls: (ca_file: "ca", cert_file: "c", key_file: "k")"#,
            "tls: (roots: System)",
            r#"repo: "https://h/a", path: "/s/a", tls: (roots: System)"#,
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}", hooks: [Exec(run: ["x"])], keep: ["a", "b"], depth: 1"#,
            r#"hooks: [PostCheckout], keep: ["c"], depth: None"#,
            r#"repo: "r/a", path: "/s/a", hooks: [PostCheckout], keep: ["c"]"#,
        ),
        // Branch, tag and rev are one choice.
        (
            r#"repo: "r/{name}", path: "/s/{name}", branch: "main""#,
            r#"tag: "v1""#,
            r#"repo: "r/a", path: "/s/a", tag: "v1""#,
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}", branch: "main", tag: "v1""#,
            r#"rev: "5d6e7f8a9b5d6e7f8a9b5d6e7f8a9b5d6e7f8a9b""#,
            r#"repo: "r/a", path: "/s/a", rev: "5d6e7f8a9b5d6e7f8a9b5d6e7f8a9b5d6e7f8a9b""#,
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}", branch: "main""#,
            "branch: None, tag: None",
            r#"repo: "r/a", path: "/s/a""#,
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}", branch: Some("main"), adopt: true"#,
            "tag: None",
            r#"repo: "r/a", path: "/s/a", branch: "main", adopt: true"#,
        ),
        // What fits by itself alone may be made to fit.
        (
            r#"repo: "r/{name}", path: "/s/{name}", hooks: [Exec(run: ["x"], at: Build)]"#,
            "releases: ()",
            r#"repo: "r/a", path: "/s/a", hooks: [Exec(run: ["x"], at: Build)], releases: ()"#,
        ),
        (
            r#"repo: "http://h/{name}", path: "/s/{name}", auth: Bearer(token_file: "t")"#,
            "tls: (allow_plain_credentials: true)",
            r#"repo: "http://h/a", path: "/s/a", auth: Bearer(token_file: "t"), tls: (allow_plain_credentials: true)"#,
        ),
        ("", r#"repo: "r", path: "p""#, r#"repo: "r", path: "p""#),
    ] {
        let short = triggers(&format!(
            r#"(defaults: ({defaults}), triggers: {{"a": ({trigger})}})"#
        ));
        let long = triggers(&format!(r#"(triggers: {{"a": ({same_as})}})"#));
        assert_eq!(short, long, "{defaults} {trigger}");
    }
}

#[test]
fn names_stand_in_paths() {
    let named = r#"
        repo: "https://h/{name}/{name}.git",
        path: "/srv/{name}.example.com",
        git_dir: "git/{name}.git",
        auth: Basic(user: "me", password_file: "$CREDENTIALS_DIRECTORY/{name}.password"),
        tls: (ca_file: "{name}/ca.pem", cert_file: "{name}.pem", key_file: "/k/{name}"),"#;
    let ssh = r#"repo: "me@{name}:x.git", path: "{name}", auth: Ssh(key: "{name}.key", passphrase_file: "p{name}", known_hosts: "{name}")"#;
    for fields in [named, ssh] {
        let written = triggers(&format!(r#"(triggers: {{"my.site_1": ({fields})}})"#));
        let out = fields.replace("{name}", "my.site_1");
        assert_eq!(
            written,
            triggers(&format!(r#"(triggers: {{"my.site_1": ({out})}})"#))
        );
    }
    // What is like it stays as it is, and other fields hold whatever they like.
    let text = r#"(triggers: {"a": (
        repo: "r", path: "/s/{Name}/{}/{ name }", keep: ["{name}"],
        hooks: [Exec(run: ["x", "{name}"], user_env: {"A": "{name}"})],
    )})"#;
    let config = triggers(text);
    let a = &config.triggers["a"];
    assert_eq!(a.site.path.as_path(), Path::new("/s/{Name}/{}/{ name }"));
    assert_eq!(a.site.keep, ["{name}"]);
    assert!(format!("{:?}", a.hooks).contains("{name}"));
    // A variable may be called like that.
    let err = parse(
        r#"(triggers: {"a": (repo: "https://h/x", path: "p", auth: Bearer(token_file: "${name}/t"))})"#,
    );
    let err = render(&err.unwrap_err());
    assert!(
        err.contains("the environment variable `name` is not set"),
        "{err}"
    );
    // A listener is no trigger's.
    let config = triggers(r#"(listen: [Unix(path: "/{name}")], triggers: {"a": (repo: "r", path: "p")})"#);
    assert_eq!(config.listen[0].address().to_string(), "/{name}");
}

#[test]
fn included_files_are_as_if_they_were_in_one() {
    let files = Files::new(&[
        (
            "config.ron",
            r#"(include: ["conf.d/*.ron", "/dev/null/*", "none/*", "b.ron", "./b.ron"], defaults: (path: "t/{name}"))"#,
        ),
        ("conf.d/1.ron", "(triggers: {\"one\": (repo: \"r\")})\n\n\n"),
        (
            "conf.d/2.ron",
            "\u{feff}// a comment\r\n(triggers: {\"two\": (repo: \"r\", path: \"x\"), \"three\": (repo: \"../r\")}) // end",
        ),
        ("conf.d/.hidden.ron", "wrong"),
        ("conf.d/3.ron~", "wrong"),
        ("conf.d/4.ronx", "wrong"),
        ("b.ron", "(triggers: {})"),
        (
            "elsewhere/5",
            "(triggers: {\"five\": (repo: \"r\", path: \"p\")})",
        ),
    ]);
    std::os::unix::fs::symlink("../elsewhere/5", files.at("conf.d/5.ron")).unwrap();
    let err = files.load().unwrap_err();
    assert!(
        render(&err).contains("cannot list the directory /dev/null"),
        "{}",
        render(&err)
    );
    files.write(
        "config.ron",
        r#"(include: ["conf.d/*.ron", "none/*", "b.ron", "./b.ron"], defaults: (path: "t/{name}"))"#,
    );
    let config = files.right();
    let dir = files.0.path();
    let paths: Vec<_> = config
        .triggers
        .values()
        .map(|target| {
            let path = target.site.path.as_path().strip_prefix(dir).unwrap();
            let repo = target.origin.repo.local_path().unwrap().as_path();
            let repo = repo.strip_prefix(dir).unwrap();
            format!("{}: {} {}", target.trigger, repo.display(), path.display())
        })
        .collect();
    // A path is relative to the file that it stands in; one by default, to the main one.
    assert_eq!(
        paths,
        [
            "five: conf.d/r conf.d/p",
            "one: conf.d/r t/one",
            "three: r t/three",
            "two: conf.d/r conf.d/x",
        ]
    );
    // What is to be typed names the file that can be read.
    let main = files.at("config.ron");
    assert!(
        config
            .triggers
            .values()
            .all(|target| target.file.as_ref() == Some(&main))
    );
    let included: Vec<_> = config
        .included
        .iter()
        .map(|included| {
            let files = included.files.iter();
            let files: Vec<_> = files
                .map(|(file, count)| format!("{} {count}", file.strip_prefix(dir).unwrap().display()))
                .collect();
            format!("{}: {}", included.pattern, files.join(", "))
        })
        .collect();
    assert_eq!(
        included,
        [
            "conf.d/*.ron: conf.d/1.ron 1, conf.d/2.ron 2, conf.d/5.ron 1",
            "none/*: ",
            "b.ron: b.ron 0",
            "./b.ron: ",
        ]
    );
}

/// A tree of files with mistakes of all kinds, as an admin sees it.
#[test]
fn mistakes_in_many_files() {
    let dir = Path::new(FIXTURES).join("many");
    let err = Config::load(&dir.join("config.ron")).unwrap_err();
    for problem in problems(&err).problems() {
        assert!(miette::Diagnostic::help(problem).is_some(), "{problem}");
    }
    let lines: Vec<_> = problems(&err).lines().collect();
    // No line is wrapped: where it would be depends on how long the checkout's own path is.
    let report = format!("{}\n{}\n", render_in(1000, &err), lines.join("\n"));
    assert!(
        !report.contains(SECRET) && !format!("{err:?}").contains(SECRET),
        "{report}"
    );
    snapshot(
        dir.to_str().unwrap(),
        "mistakes",
        &report.replace(dir.to_str().unwrap(), "DIR"),
    );
}

#[test]
fn what_cannot_be_included() {
    let files = Files::new(&[
        (
            "config.ron",
            r#"(include: ["d/*", "*.ron", "gone", "d", "conf.d/", "a*/x", "big", 1])"#,
        ),
        ("d/large", &" ".repeat((1 << 20) + 1)),
        ("d/right", "(triggers: {\"a\": (repo: \"x\", path: \"y\")})"),
    ]);
    fs::write(files.at("d/latin1"), b"(\n // \xe4\n)").unwrap();
    fs::create_dir(files.at("d/dir")).unwrap();
    std::os::unix::fs::symlink("nowhere", files.at("d/link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        files.at("d/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let lines = files.lines();
    snapshot(FIXTURES, "unreadable-included", &(lines.join("\n") + "\n"));
}

#[test]
fn floods_of_files_are_bounded() {
    let files = Files::new(&[("config.ron", r#"(include: ["d/*"])"#)]);
    for n in 0..1001 {
        files.write(&format!("d/{n}"), "(triggers: {})");
    }
    let [line] = files.lines().try_into().unwrap();
    assert!(line.contains("\"d/*\" means more than 1000 files"), "{line}");
    files.write("config.ron", r#"(include: ["d/1*", "d/*"])"#);
    let [line] = files.lines().try_into().unwrap();
    assert!(line.contains(":1:20: \"d/*\" means more"), "{line}");
    fs::remove_file(files.at("d/1000")).unwrap();
    files.write("e", "(triggers: {})");
    files.write("config.ron", r#"(include: ["d/*", "d/*", "e"])"#);
    let [line] = files.lines().try_into().unwrap();
    assert!(
        line.contains(":1:26: more than 1000 files would be included"),
        "{line}"
    );
    let files = Files::new(&[("config.ron", r#"(include: ["d/*", "e/*"])"#)]);
    fs::create_dir(files.at("d")).unwrap();
    for n in 0..17 {
        let file = fs::File::create(files.at(&format!("d/{n:02}"))).unwrap();
        file.set_len(1_000_000).unwrap();
    }
    let [line] = files.lines().try_into().unwrap();
    let expected = "with DIR/d/16, the configuration is larger than 16 MiB";
    assert!(line.contains(expected), "{line}");
}

#[test]
fn there_is_a_trigger_somewhere() {
    let files = Files::new(&[("config.ron", r#"(include: ["d/*"])"#)]);
    let none = "DIR/config.ron:1:2: there is no trigger in what is included (write triggers: \
                {\"site\": (repo: \"https://…\", path: \"/srv/site\")})";
    assert_eq!(files.lines(), [none]);
    files.write("d/a", "(triggers: {})");
    assert_eq!(files.lines(), [none]);
    files.write("config.ron", r#"(include: ["d/*"], triggers: {})"#);
    assert!(
        files.lines()[0].starts_with("DIR/config.ron:1:30: there is no trigger ("),
        "{:?}",
        files.lines()
    );
    files.write("d/b", r#"(triggers: {"a": (repo: "x", path: "y")})"#);
    assert_eq!(files.right().triggers.len(), 1);
    // An error is said, not what comes of it.
    files.write("d/b", r#"(triggers: {"a: (repo: "x", path: "y")})"#);
    assert_eq!(files.lines().len(), 1, "{:?}", files.lines());
}

/// What is wrong with defaults is said once, however many triggers have them.
#[test]
fn mistakes_in_defaults_are_said_once() {
    let sites: String = (0..60).fold(String::new(), |mut out, n| {
        write!(out, "\"s{n}\": (),").unwrap();
        out
    });
    for (defaults, expected) in [
        (
            r#"repo: "r/{name}", path: "/s/{name}", timeout: 7"#,
            "expected a string, found a number",
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}", timout: "7s""#,
            "a trigger has no field `timout`",
        ),
        (
            r#"repo: "r/{name}", pth: "/s/{name}""#,
            "a trigger has no field `pth`",
        ),
        (
            r#"repo: "r/{name}", path: "/s""#,
            "all triggers would have the same `path`",
        ),
        (
            r#"repo: "r", path: "/s/{name}""#,
            "all triggers would have the same `repo`",
        ),
        (
            r#"repo: "r/{name}", path: "/s/${name}""#,
            "all triggers would have the same `path`",
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}", git_dir: "/g""#,
            "all triggers would have the same `git_dir`",
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}", keep: ["["]"#,
            "\"[\" keeps nothing",
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}", allow: []"#,
            "`allow` is empty",
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}", branch: "main", tag: "v1""#,
            "a trigger has either a branch, a tag or a rev",
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}", hooks: [Exec(run: ["x"], at: Build)]"#,
            "nothing can be built before it is live",
        ),
        (
            r#"repo: "https://h/{name}", path: "/s/{name}", auth: Ssh()"#,
            "`Ssh` is for SSH URLs alone",
        ),
        (
            r#"repo: "r/{name}", path: "r/{name}""#,
            "this is the repository itself",
        ),
    ] {
        let text = format!("(defaults: ({defaults}),\ntriggers: {{{sites}}})");
        let err = parse(&text).expect_err(defaults);
        let lines: Vec<_> = problems(&err).lines().collect();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].contains(expected), "{lines:?}");
        assert!(lines[0].starts_with("/etc/gitsocket/config.ron:1:"), "{lines:?}");
        check_spans(&text, &err);
    }
    // A field that is lacking is each trigger's own mistake.
    let err = parse(r#"(defaults: (branch: "main"), triggers: {"a": (repo: "x"), "b": (path: "y")})"#);
    let err = err.unwrap_err();
    let lines: Vec<_> = problems(&err).lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    // And where the defaults cannot be understood, nothing is known to be lacking.
    let err = parse(r#"(defaults: 7, triggers: {"a": (repo: "x"), "b": (path: "y")})"#).unwrap_err();
    assert_eq!(problems(&err).problems().len(), 1);
}

/// What comes of a default and a trigger together is shown with both.
#[test]
fn mistakes_by_both_show_both_places() {
    for (defaults, triggers, places) in [
        (
            r#"path: "/s/{name}", auth: Ssh()"#,
            r#""a": (repo: "https://h/x")"#,
            2,
        ),
        (
            r#"path: "/s/{name}", auth: Bearer(token_file: "t")"#,
            r#""a": (repo: "http://h/x")"#,
            2,
        ),
        (
            r#"path: "/s/{name}", clean: All"#,
            r#""a": (repo: "r", releases: ())"#,
            2,
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}", keep: ["/s/a/b"]"#,
            r#""a": ()"#,
            2,
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}""#,
            r#""a": (), "b": (path: "/s")"#,
            3,
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}""#,
            r#""a": (), "b": (path: "/s/a")"#,
            3,
        ),
        (
            r#"repo: "r/{name}", path: "/s/{name}", git_dir: "/g/{name}""#,
            r#""a": (), "b": (path: "/g/a")"#,
            3,
        ),
    ] {
        let text = format!("(defaults: ({defaults}),\ntriggers: {{{triggers}}})");
        let err = parse(&text).expect_err(defaults);
        let problem = &problems(&err).problems()[0];
        let lines: BTreeSet<_> = problem
            .spans()
            .map(|span| text[..span.start].matches('\n').count())
            .collect();
        assert_eq!(lines.len(), 2, "{}", render(&err));
        assert!(problem.spans().count() >= places, "{}", render(&err));
        check_spans(&text, &err);
    }
}

/// What the docs show is right.
#[test]
fn examples_of_the_docs() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut seen = 0;
    for page in ["configuration.md", "recipes.md"] {
        let text = fs::read_to_string(docs.join(page)).unwrap();
        for example in text.split("```ron\n").skip(1) {
            let example = example.split("```").next().unwrap();
            // A webhook belongs to the front's file: `web::the_reference_is_the_readers` reads it.
            if example.starts_with("\"/hooks/") {
                continue;
            }
            let part = match example.chars().next() {
                Some('(') => example.to_owned(),
                // A trigger, with its name.
                Some('"') => format!("(triggers: {{{example}}})"),
                _ => format!("(triggers: {{\"site\": (repo: \"r\", path: \"p\",\n{example})}})"),
            };
            let example = part.as_str();
            let files = Files::new(&[("config.ron", example)]);
            // One that is included relies on the defaults of another.
            if example.starts_with("(triggers: {\"shop-staging") {
                files.write("conf.d/shop.ron", example);
                let main = text
                    .split("```ron\n")
                    .find(|text| text.contains("include:"))
                    .unwrap();
                files.write("config.ron", main.split("```").next().unwrap());
                assert_eq!(files.right().included[0].files[0].1, 2);
            }
            files.right();
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} examples");
}

/// However the triggers are dealt to files, the configuration is the same; and what is wrong is in the file that it is in.
#[test]
fn triggers_may_be_in_any_file() {
    let mut random = fastrand::Rng::with_seed(crate::machine::seed());
    const FIELDS: [&str; 9] = [
        r#"branch: "main""#,
        "clean: All",
        "retries: 2",
        r#"keep: ["{name}"]"#,
        r#"auth: Bearer(token_file: "tokens/{name}")"#,
        r#"umask: "0027""#,
        "hooks: [PostCheckout]",
        "adopt: true",
        r#"timeout: "1m""#,
    ];
    for _ in 0..crate::machine::rounds(20) {
        let defaults = r#"defaults: (repo: "https://h/{name}", path: "d/{name}", depth: 3)"#;
        let sites: Vec<String> = (0..random.usize(1..30))
            .map(|n| {
                let fields = FIELDS
                    .iter()
                    .filter(|_| random.bool())
                    .copied()
                    .collect::<Vec<_>>();
                format!("\"site-{n}\": (\n{}\n),\n", fields.join(",\n"))
            })
            .collect();
        let count = random.usize(1..6);
        let mut dealt = vec![Vec::new(); count + 1];
        for site in &sites {
            dealt[random.usize(..=count)].push(site.clone());
        }
        let text = |n: usize, dealt: &[Vec<String>]| {
            let triggers = format!("triggers: {{\n{}}}", dealt[n].concat());
            match n {
                0 => format!("({defaults}, include: [\"part-*.ron\"],\n{triggers})"),
                _ => format!("// part\n({triggers})\n"),
            }
        };
        let name = |n: usize| match n {
            0 => "config.ron".to_owned(),
            n => format!("part-{n}.ron"),
        };
        let files = Files::new::<String>(&[]);
        for n in 0..=count {
            files.write(&name(n), &text(n, &dealt));
        }
        let config = files.right();
        files.write(
            "config.ron",
            &format!("({defaults}, triggers: {{{}}})", sites.concat()),
        );
        assert_eq!(config.triggers, files.right().triggers);

        let hurt = random.usize(..=count);
        let Some(site) = (!dealt[hurt].is_empty()).then(|| random.usize(..dealt[hurt].len())) else {
            continue;
        };
        files.write("config.ron", &text(0, &dealt));
        dealt[hurt][site] = dealt[hurt][site].replacen("(\n", "(\nmax_blob: 7,\n", 1);
        let damaged = text(hurt, &dealt);
        let line = damaged.lines().position(|line| line == "max_blob: 7,").unwrap() + 1;
        files.write(&name(hurt), &damaged);
        let lines = files.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let place = format!("DIR/{}:{line}:11: ", name(hurt));
        assert!(lines[0].starts_with(&place), "{place} {lines:?}");
        let report = render(&files.load().unwrap_err());
        assert!(report.contains(&format!("{}:{line}:11]", name(hurt))), "{report}");
    }
}
