//! Rules of the project itself.

use std::{
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

/// Who has only the program and the README has the units, too.
#[test]
fn the_readme_holds_the_units() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    for unit in ["gitsocket.service", "gitsocket.socket"] {
        let block = readme
            .split(&format!("`/etc/systemd/system/{unit}`:\n\n```ini\n"))
            .nth(1)
            .unwrap_or_else(|| panic!("no block for {unit}"));
        let block = block.split("```").next().unwrap();
        let text = fs::read_to_string(root.join("packaging/systemd").join(unit)).unwrap();
        let lines = |text: &str| -> Vec<String> {
            text.lines()
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(lines(block), lines(&text), "{unit}");
    }
}

/// The configurations in the README and for Kubernetes are right.
#[test]
fn documented_configurations_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let whole = readme
        .split("```ron\n(\n")
        .skip(1)
        .map(|rest| format!("(\n{}", rest.split("```").next().unwrap()));
    let yaml = fs::read_to_string(root.join("packaging/kubernetes/sidecar.yaml")).unwrap();
    let block = yaml.split("config.ron: |\n").nth(1).unwrap();
    let block: String = block
        .lines()
        .take_while(|line| line.starts_with("    "))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut checked = 0;
    for text in whole.chain([block]) {
        let dir = tempfile::tempdir().unwrap();
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
    assert!(checked >= 2, "{checked}");
}

/// The configuration at the top works as it stands, in a copy of the project's files.
#[test]
fn the_root_configuration_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = tempfile::tempdir().unwrap();
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
