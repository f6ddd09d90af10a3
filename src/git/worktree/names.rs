//! Which names may be components of a path in a worktree. It knows no tree, no index and no directory.

use gix::{
    bstr::{BStr, ByteSlice},
    validate::path::component,
};

const MAX_NAME_BYTES: usize = 255;

/// Whether `name` may be a component of a path in a worktree: not `..`, not `.git` in any spelling, as `verify_path` in
/// git's read-cache.c.
pub(super) fn check(name: &BStr, is_symlink: bool) -> Result<(), String> {
    // As git with core.protectHFS and core.protectNTFS; other names that only Windows forbids are fine here.
    const OPTIONS: component::Options = component::Options {
        protect_windows: false,
        protect_hfs: true,
        protect_ntfs: true,
    };
    // Nothing to look into in most names. Only those that begin with a dot or a `g` can come to `.git`, or to
    // another name of it, unless there are characters in them that some file systems overlook.
    if name.is_ascii()
        && !name.iter().any(|byte| matches!(byte, 0 | b'/' | b'\\'))
        && (1..=MAX_NAME_BYTES).contains(&name.len())
        && !matches!(name[0], b'.' | b'g' | b'G')
    {
        return Ok(());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("its name is longer than {MAX_NAME_BYTES} bytes"));
    }
    if name.contains(&0) {
        return Err("its name contains a NUL byte".into());
    }
    let mode = is_symlink.then_some(component::Mode::Symlink);
    component(name, mode, OPTIONS)
        .map(drop)
        .map_err(|err| err.to_string())?;
    if is_git_below(name, mode) {
        Err("Windows would take what is beside a backslash in it for a path into git's own files".into())
    } else {
        Ok(())
    }
}

/// Whether a part of `name` is a name of git's for Windows, where a backslash separates names.
fn is_git_below(name: &BStr, mode: Option<component::Mode>) -> bool {
    const OPTIONS: component::Options = component::Options {
        protect_windows: false,
        protect_hfs: false,
        protect_ntfs: true,
    };
    use component::Error::{DotGitDir, SymlinkedGitModules};
    // git overlooks one at the very beginning.
    let backslashes = name.find_iter(b"\\").filter(|at| *at > 0);
    let ends = [name]
        .into_iter()
        .chain(backslashes.map(|at| name[at + 1..].as_bstr()));
    ends.into_iter().any(|end| {
        let part = end.split(|byte| *byte == b'\\').next().unwrap_or_default();
        // For git, a link's name is all that follows.
        let link = mode.map(|_| component(end, mode, OPTIONS));
        matches!(component(part.as_bstr(), None, OPTIONS), Err(DotGitDir))
            || matches!(link, Some(Err(SymlinkedGitModules)))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        fs,
        io::Write as _,
        process::{Command, Stdio},
    };

    use fastrand::Rng;

    use super::*;
    use crate::machine;

    #[test]
    fn names_of_git_are_refused() {
        for name in [
            ".git",
            ".GIT",
            "git~1",
            ".git ",
            ".git. .",
            ".git:x",
            ".git::$INDEX_ALLOCATION",
            r".git\x",
            r"GIT~1\x",
            r"x\.git",
            r"x\git~1.\y",
            ".g\u{200c}it",
            "..",
            ".",
            "",
        ] {
            assert!(check(name.into(), false).is_err(), "{name:?}");
        }
        for name in [
            r"\",
            r"..\x",
            r"x\..",
            r"a\b",
            ".gitx",
            "git~2",
            r".git~1\x",
            r"x.git\y",
            ".gitmodules",
        ] {
            assert!(check(name.into(), false).is_ok(), "{name:?}");
        }
        for name in [
            ".gitmodules",
            r"a\.gitmodules",
            "gitmod~1",
            "gi7eba~1",
            ".gitmodules :x",
        ] {
            assert!(check(name.into(), true).is_err(), "{name:?}");
        }
        assert!(check(r".gitmodules\x".into(), true).is_ok());
    }

    /// Names made of what matters, beside git, which refuses to add some of them to an index.
    #[test]
    fn as_git_refuses_them() {
        const PARTS: [&str; 20] = [
            ".", ".", "git", "GIT", "Git", "~1", "~2", "~5", " ", ":", "\\", "\\", "modules", "MODULES",
            "gi7eba", "gi7d29", "gitmod", "x", "\u{200c}", "\u{feff}",
        ];
        if !machine::need("git") {
            return;
        }
        let dir = crate::machine::tempdir().unwrap();
        let mut rng = Rng::with_seed(machine::seed());
        let mut names: Vec<String> = (0..3000)
            .map(|_| {
                (0..rng.usize(1..7))
                    .map(|_| PARTS[rng.usize(..PARTS.len())])
                    .collect()
            })
            .filter(|name: &String| name != "." && name != "..")
            .collect();
        names.sort();
        names.dedup();
        // git asks what is there whether it is a link.
        let git = |args: &[&str], input: &str| {
            let mut git = Command::new("git")
                .args(["-c", "core.protectHFS=true"])
                .args(args)
                .current_dir(dir.path())
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_SYSTEM", "/dev/null")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut stdin = git.stdin.take().unwrap();
            let input = input.to_owned();
            let feed = std::thread::spawn(move || stdin.write_all(input.as_bytes()).ok());
            let out = git.wait_with_output().unwrap();
            feed.join().unwrap();
            assert!(out.status.success(), "{args:?}");
            String::from_utf8(out.stdout).unwrap()
        };
        git(&["init", "-q"], "");
        for is_symlink in [false, true] {
            for name in &names {
                let path = dir.path().join("w").join(name);
                fs::create_dir_all(dir.path().join("w")).unwrap();
                fs::remove_file(&path).ok();
                if is_symlink {
                    std::os::unix::fs::symlink("x", &path).unwrap()
                } else {
                    fs::write(&path, "").unwrap()
                }
            }
            git(&["read-tree", "--empty"], "");
            let paths: String = names.iter().map(|name| format!("w/{name}\0")).collect();
            git(&["update-index", "--add", "-z", "--stdin"], &paths);
            let taken = git(&["ls-files", "-z"], "");
            let taken: std::collections::BTreeSet<&str> = taken.split('\0').collect();
            assert!(taken.len() > 500 && taken.len() < names.len(), "{}", taken.len());
            for name in &names {
                let ours = check(name.as_bytes().as_bstr(), is_symlink);
                let theirs = taken.contains(format!("w/{name}").as_str());
                assert_eq!(ours.is_ok(), theirs, "{name:?} {is_symlink} {ours:?}");
            }
        }
    }
}
