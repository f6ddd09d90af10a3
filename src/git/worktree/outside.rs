//! Rules that are in no tree: `info/exclude`, `info/attributes`, and the two files that a repository's settings name.
//!
//! Where git finds no such file, there are no rules. Where it refuses, so do we; and where it warns and goes on without
//! the rules, or waits without end, as well: files would be deleted or written that the rules are there for.

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path};

use gix::bstr::{BStr, ByteSlice};

use super::Error;
use crate::base::bounded;

/// Where rules of one kind come from.
pub(super) struct Source {
    /// Below the git directory that worktrees share.
    info: &'static str,
    /// The setting that names another file.
    setting: &'static str,
    /// git refuses a directory of that name; else it is the same as no file.
    refuses_dir: bool,
    /// What happens without the rules.
    risk: &'static str,
}

pub(super) const EXCLUDES: Source = Source {
    info: "info/exclude",
    setting: "core.excludesFile",
    refuses_dir: true,
    risk: "files that it protects would be removed",
};

pub(super) const ATTRIBUTES: Source = Source {
    info: "info/attributes",
    setting: "core.attributesFile",
    refuses_dir: false,
    risk: "files that it is for would be written otherwise",
};

/// The text of both files; empty for one that is not there.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    pub(super) info: Vec<u8>,
    pub(super) configured: Vec<u8>,
}

impl Rules {
    pub(super) fn read(repo: &gix::Repository, root: &Path, source: &Source) -> Result<Self, Error> {
        Ok(Self {
            info: source.text(&repo.common_dir().join(source.info), None)?,
            configured: source.configured(repo, root)?,
        })
    }
}

impl Source {
    fn configured(&self, repo: &gix::Repository, root: &Path) -> Result<Vec<u8>, Error> {
        let unusable = |value: &BStr, reason| Error::Setting {
            setting: self.setting,
            value: value.to_string(),
            reason,
        };
        let config = repo.config_snapshot();
        let value = match config.plumbing().string_implicit(self.setting) {
            None => return Ok(Vec::new()),
            Some(None) => return Err(unusable("".into(), "it has no value")),
            Some(Some(value)) => value,
        };
        let path = value.strip_prefix(b":(optional)").unwrap_or(&value);
        match path {
            b"" => Ok(Vec::new()),
            [b'~', ..] => Err(unusable(value.as_bstr(), "gitsocket knows no home directories")),
            _ if path.starts_with(b"%(prefix)/") => Err(unusable(
                value.as_bstr(),
                "gitsocket is not part of an installation of git",
            )),
            // git is in the worktree's top directory when it opens the file.
            _ => self.text(&root.join(OsStr::from_bytes(path)), Some(self.setting)),
        }
    }

    fn text(&self, path: &Path, setting: Option<&'static str>) -> Result<Vec<u8>, Error> {
        use io::ErrorKind as E;
        match bounded::read(path, bounded::RULES) {
            Ok(text) => Ok(text),
            Err(err) if matches!(err.kind(), E::NotFound | E::NotADirectory) => Ok(Vec::new()),
            Err(err) if err.kind() == E::IsADirectory && !self.refuses_dir => Ok(Vec::new()),
            Err(source) => Err(Error::Rules {
                path: path.into(),
                named: setting.map_or(String::new(), |setting| format!(", which {setting} names")),
                help: format!(
                    "without it, {}: make it a file that gitsocket's user can read, or remove it{}",
                    self.risk,
                    setting.map_or(String::new(), |setting| format!(", or unset {setting}"))
                ),
                source,
            }),
        }
    }
}
