//! Which repositories can be worked with: what git calls the format of a repository, and its extensions.
//!
//! An extension that is not known may change what any file means. git refuses such a repository, and so is it done here;
//! there are fewer extensions that are known.

use gix::bstr::{BStr, ByteSlice};

/// Extensions that count in version 0 of the format, too. None changes what is read or written here, or gitoxide knows it.
const ALWAYS: [&str; 4] = ["noop", "partialclone", "preciousobjects", "worktreeconfig"];
/// The extensions that need version 1.
const SINCE_1: [&str; 5] = [
    "noop-v1",
    "objectformat",
    "refstorage",
    "relativeworktrees",
    "submodulepathconfig",
];

/// Why a repository cannot be worked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error("it stores its refs as {0:?}, which is not supported")]
    Refs(String),
    #[error("its configuration has extensions.{0}, which is not supported")]
    Extension(String),
    #[error("its core.repositoryformatversion is {0}, and 1 is the newest that is supported")]
    Version(String),
    #[error("its configuration has extensions.{0}, and its core.repositoryformatversion is 0")]
    Early(String),
}

impl Unsupported {
    /// What helps; `otherwise` says what to do where nothing is to be done to the repository itself.
    pub fn advice(&self, otherwise: &str) -> String {
        match self {
            Self::Refs(_) => "convert it with `git refs migrate --ref-format=files`".to_owned(),
            Self::Early(name) => format!(
                "git refuses it, too: let it have `git config core.repositoryformatversion 1`, if extensions.{name} is meant"
            ),
            Self::Extension(_) | Self::Version(_) => otherwise.to_owned(),
        }
    }
}

/// As `verify_repository_format` in git's setup.c.
pub(super) fn check(config: &gix::config::File) -> Result<(), Unsupported> {
    let version = config.string("core.repositoryFormatVersion");
    let number = version.as_ref().map(|version| number(version.as_bstr()));
    if let Some(version) = &version
        && !matches!(number, Some(Some(..=1)))
    {
        return Err(Unsupported::Version(version.to_string()));
    }
    // The last one counts.
    let refs = config.string("extensions.refStorage");
    if let Some(format) = refs.filter(|format| format.as_slice() != b"files") {
        return Err(Unsupported::Refs(format.to_string()));
    }
    let sections = config.sections_by_name("extensions").into_iter().flatten();
    for section in sections {
        let subsection = section.header().subsection_name();
        for name in section.value_names() {
            let mut name = name.to_string().to_ascii_lowercase();
            if let Some(subsection) = subsection {
                name = format!("{subsection}.{name}");
            }
            match number.flatten() {
                _ if ALWAYS.contains(&name.as_str()) => {}
                Some(..=0) if SINCE_1.contains(&name.as_str()) => return Err(Unsupported::Early(name)),
                // What it does not know is of no account to git, either.
                None | Some(..=0) if name != "compatobjectformat" => {}
                _ if SINCE_1.contains(&name.as_str()) => {}
                _ => return Err(Unsupported::Extension(name)),
            }
        }
    }
    Ok(())
}

fn number(version: &BStr) -> Option<i64> {
    version.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn as_git_takes_or_refuses_them() {
        let check = |text: &str| {
            let config = text.parse::<gix::config::File>().unwrap();
            check(&config).map_err(|err| err.to_string())
        };
        let versions = |version: &str, extensions: &str| {
            check(&format!(
                "[core]\nrepositoryformatversion = {version}\n[extensions]\n{extensions}\n"
            ))
        };
        for (version, extensions) in [
            ("0", ""),
            (
                "1",
                "noop = 1\nnoop-v1 = 1\npartialClone = origin\npreciousObjects\nworktreeConfig = true",
            ),
            (
                "1",
                "objectFormat = sha256\nrefStorage = files\nrelativeWorktrees = true",
            ),
            ("0", "partialClone = origin"),
            ("0", "future = 1"),
        ] {
            assert_eq!(versions(version, extensions), Ok(()), "{version} {extensions}");
        }
        assert_eq!(check("[extensions]\nfuture = 1\n"), Ok(()));
        for (version, extensions, part) in [
            ("1", "future = 1", "extensions.future, which"),
            ("1", "noop = 1\nFuture = 1", "extensions.future, which"),
            ("1", "refStorage = reftable", "\"reftable\""),
            ("1", "compatObjectFormat = sha1", "extensions.compatobjectformat"),
            ("0", "compatObjectFormat = sha1", "extensions.compatobjectformat"),
            ("0", "relativeWorktrees = true", "repositoryformatversion is 0"),
            ("2", "", "repositoryformatversion is 2"),
            ("x", "", "repositoryformatversion is x"),
            ("1", "[extensions \"a\"]\nnoop = 1", "extensions.a.noop"),
        ] {
            let err = versions(version, extensions).unwrap_err();
            assert!(err.contains(part), "{err}");
        }
    }
}
