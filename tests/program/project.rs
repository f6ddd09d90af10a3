//! The project's own rules hold: pages, links, examples and first lines are right.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

pub fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            out.push(path);
        }
    }
    out
}

/// Each constant in docs/security.md is in the file that is named there.
#[test]
fn documented_bounds_are_in_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let mut checked = 0;
    for line in text.lines().filter(|line| line.contains("` (src/")) {
        let (before, after) = line.split_once("` (").unwrap();
        let name = before.rsplit('`').next().unwrap();
        let file = after.split(')').next().unwrap();
        let source = fs::read_to_string(root.join(file)).unwrap();
        assert!(source.contains(&format!("const {name}: ")), "{line}");
        checked += 1;
    }
    assert!(checked > 40, "only {checked} bounds were found");
}

/// Every file says first what it is for.
#[test]
fn every_file_has_a_first_line() {
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{}", file.display());
    }
}

/// Each test file says what it proves, and docs/development.md has all test binaries, with that sentence.
#[test]
fn every_test_file_says_what_it_proves() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/development.md")).unwrap();
    let rows: BTreeMap<&str, &str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `tests/")?.split_once("` | "))
        .map(|(file, rest)| (file, rest.split(" | ").next().unwrap()))
        .collect();
    let tests = root.join("tests");
    let mut known = 0;
    for file in sources(&tests) {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(&tests).unwrap().to_str().unwrap();
        let says = text.lines().next().unwrap().strip_prefix("//! ");
        let says = says.unwrap_or_else(|| panic!("{name} says nothing"));
        assert!(says.ends_with('.') && says.len() > 30, "{name}: {says}");
        let is_binary = !name.contains('/') || name.ends_with("/main.rs");
        match rows.get(name) {
            Some(row) => assert_eq!(*row, says, "{name}"),
            None => assert!(!is_binary, "docs/development.md has no {name}"),
        }
        known += usize::from(rows.contains_key(name));
    }
    assert_eq!(
        known,
        rows.len(),
        "docs/development.md names files that are not there"
    );
}

/// A fuzz target hands its input to the function of its name, as the others do: no step of CI without a nightly toolchain
/// compiles it.
#[test]
fn fuzz_targets_lead_to_the_library() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = fs::read_to_string(root.join("src/fuzzing.rs")).unwrap();
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    let mut names = BTreeSet::new();
    for file in sources(&root.join("fuzz/fuzz_targets")) {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let expected = format!(
            "//! See `gitsocket::fuzzing::{name}`.\n#![no_main]\n\n\
             libfuzzer_sys::fuzz_target!(|data: &[u8]| gitsocket::fuzzing::{name}(data));\n"
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
        let bin = format!("[[bin]]\nname = {name:?}\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&bin), "{name} is not in fuzz/Cargo.toml");
        assert!(
            root.join("fuzz/corpus").join(&name).is_dir(),
            "{name} has no corpus"
        );
        names.insert(name);
    }
    let functions = library.lines().filter_map(|line| {
        let (name, arguments) = line.strip_prefix("pub fn ")?.split_once('(')?;
        assert_eq!(arguments, "data: &[u8]) {", "{name}");
        Some(name.to_owned())
    });
    assert_eq!(names, functions.collect());
}

/// Who has only the program and the pages has the files, too.
#[test]
fn the_pages_hold_the_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (page, installed, file) in [
        (
            "docs/install.md",
            "systemd/system/gitsocket.service",
            "systemd/gitsocket.service",
        ),
        (
            "docs/install.md",
            "systemd/system/gitsocket.socket",
            "systemd/gitsocket.socket",
        ),
        (
            "docs/web.md",
            "systemd/system/gitsocket-front.socket",
            "systemd/gitsocket-front.socket",
        ),
        (
            "docs/web.md",
            "systemd/system/gitsocket-web.socket",
            "systemd/gitsocket-web.socket",
        ),
        (
            "docs/web.md",
            "systemd/system/gitsocket-web.service",
            "systemd/gitsocket-web.service",
        ),
        (
            "docs/recipes.md",
            "systemd/system/site-restart.path",
            "systemd/site-restart.path",
        ),
        (
            "docs/recipes.md",
            "systemd/system/site-restart.service",
            "systemd/site-restart.service",
        ),
        (
            "docs/recipes.md",
            "polkit-1/rules.d/50-gitsocket.rules",
            "polkit/50-gitsocket.rules",
        ),
    ] {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|err| panic!("{path:?}: {err}"));
        let text = read(&root.join(page));
        let block = text
            .split(&format!("`/etc/{installed}`:\n\n```"))
            .nth(1)
            .unwrap_or_else(|| panic!("{page} has no block for {installed}"));
        let (_, block) = block.split_once('\n').unwrap();
        let block = block.split("```").next().unwrap();
        let text = read(&root.join("packaging").join(file));
        let first = text.lines().next().unwrap();
        assert!(first.ends_with(&format!("/etc/{installed}")), "{file}: {first}");
        let lines = |text: &str| -> Vec<String> {
            text.lines()
                .filter(|line| !line.is_empty() && !line.starts_with(['#', '/']))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(lines(block), lines(&text), "{page}: {file}");
    }
}

/// Every link of a page to another page, to a heading or to a file leads somewhere.
#[test]
fn links_of_the_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = docs
        .filter(|path| path.extension().is_some_and(|ext| ext == "md"))
        .collect();
    pages.extend([root.join("README.md"), root.join("packaging/README.md")]);
    let mut checked = 0;
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let file = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            assert!(file.exists(), "{}: {link}", page.display());
            let headings = || fs::read_to_string(&file).unwrap();
            let leads = heading.is_empty()
                || headings()
                    .lines()
                    .any(|line| anchor(line).as_deref() == Some(heading));
            assert!(leads, "{}: there is no heading for {link}", page.display());
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked}");
}

/// What a heading is called in links.
fn anchor(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let word = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    let text: String = heading.to_lowercase().chars().filter(word).collect();
    Some(text.replace(' ', "-"))
}

/// The messages that docs/when-it-fails.md leads from are said by the program.
#[test]
fn documented_messages_are_in_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/when-it-fails.md")).unwrap();
    let table = page
        .split("| message contains | action |\n|---|---|\n")
        .nth(1)
        .unwrap();
    let table = table.split("\n\n").next().unwrap();
    let source: String = sources(&root.join("src"))
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let mut checked = 0;
    for row in table.lines() {
        let messages = row.split(" | ").next().unwrap();
        for message in messages.split('`').skip(1).step_by(2) {
            // The system's own words.
            let is_there = message == "Permission denied" || source.contains(message);
            assert!(is_there, "{message:?} is nowhere in src: {row}");
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

/// The configurations in the pages and for Kubernetes are right.
#[test]
fn documented_configurations_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = [
        "README.md",
        "docs/install.md",
        "docs/releases.md",
        "docs/recipes.md",
    ];
    let pages = pages.map(|page| fs::read_to_string(root.join(page)).unwrap());
    let whole = pages.iter().flat_map(|page| {
        let blocks = page.split("```ron\n(\n").skip(1);
        blocks.map(|rest| format!("(\n{}", rest.split("```").next().unwrap()))
    });
    let yaml = fs::read_to_string(root.join("packaging/kubernetes/sidecar.yaml")).unwrap();
    let block = yaml.split("config.ron: |\n").nth(1).unwrap();
    let block: String = block
        .lines()
        .take_while(|line| line.starts_with("    "))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut checked = 0;
    for text in whole.chain([block]) {
        let dir = super::world::machine::tempdir().unwrap();
        let file = dir.path().join("config.ron");
        fs::write(&file, &text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_gitsocket"))
            .args(["check", "-c"])
            .arg(&file)
            .env_clear()
            .output()
            .unwrap();
        // The keys and directories that it names are not on this machine.
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let is_right = output.status.success() || said.contains("config.ron can be read (");
        assert!(is_right, "{text}{said}");
        checked += 1;
    }
    assert!(checked >= 6, "{checked}");
}

/// The configuration at the top works as it stands, in a copy of the project's files.
#[test]
fn the_root_configuration_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = super::world::machine::tempdir().unwrap();
    fs::copy(root.join("config.ron"), copy.path().join("config.ron")).unwrap();
    let repo = root.join("fixtures/repos/demo.git");
    copy_tree(&repo, &copy.path().join("fixtures/repos/demo.git"));
    let output = Command::new(env!("CARGO_BIN_EXE_gitsocket"))
        .args(["once", "demo"])
        .env_clear()
        .current_dir(copy.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let site = copy.path().join("deploy/demo");
    assert!(site.join("assets/main.css").is_symlink());
    assert_eq!(
        fs::read(site.join("bin/build.bat")).unwrap(),
        b"@echo off\r\necho built\r\n"
    );
    assert!(
        fs::read_to_string(site.join("version.txt"))
            .unwrap()
            .starts_with("$Id: ")
    );
    assert!(
        fs::read(site.join("legacy/hello.txt"))
            .unwrap()
            .starts_with(&[0xff, 0xfe, b'h', 0])
    );
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
