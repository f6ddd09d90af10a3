//! A repository's own configuration says where it comes from, as `git clone`, `git remote set-url` and `git checkout` of a
//! remote's branch would have it. Only what differs is written; all else in the file stays as its owner wrote it.

use std::{fs, io, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

use gix::{
    bstr::{BStr, ByteSlice as _},
    config::{File, Source, file::Metadata},
    lock::acquire::Fail,
};

use super::look::CONFIG;
use crate::base::{
    bounded,
    name::{RefName, RemoteName, RepoUrl},
};

/// Where commits come from.
#[derive(Debug, Clone, Copy)]
pub struct Upstream<'a> {
    pub remote: &'a RemoteName,
    pub repo: &'a RepoUrl,
    /// The branch that HEAD is on, if it is on one.
    pub branch: Option<&'a RefName>,
}

/// A value that is to be in the configuration.
struct Value<'a> {
    section: &'static str,
    of: &'a str,
    name: &'static str,
    value: String,
}

impl Upstream<'_> {
    /// Let the configuration of `repo` say it. Secrets are never written. A link is not followed.
    pub fn record(&self, repo: &gix::Repository) -> io::Result<()> {
        let dir = repo.common_dir();
        let config = repo.config_snapshot();
        if self.missing(config.plumbing(), dir).is_empty() {
            return Ok(());
        }
        self.write(&dir.join("config"))
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(path)?;
        if !meta.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        // As git locks it; its own changes are not lost, and ours are made to what they have left.
        let mut lock = gix::lock::File::acquire_to_update_resource(path, Fail::Immediately, None, 0)
            .map_err(|err| io::Error::other(super::reason(&err)))?;
        let text = bounded::read(path, CONFIG)?;
        let wrong = |err: gix::Error| io::Error::other(super::reason(&err));
        let mut config =
            File::from_bytes_no_includes(&text, Metadata::from(Source::Local), Default::default())
                .map_err(wrong)?;
        for Value {
            section,
            of,
            name,
            value,
        } in self.missing(&config, path)
        {
            // git fetches from the first one; more are for pushing.
            let set = match config.raw_values_mut_by(section, of, name) {
                Ok(mut there) => there.set_at(0, value.as_bytes().as_bstr()),
                Err(_) => config
                    .set_raw_value_by(section, of, name, value.as_bytes().as_bstr())
                    .map(drop),
            };
            set.map_err(wrong)?;
        }
        lock.write_all(&config.to_bstring())?;
        lock.with_mut(|file| {
            file.set_permissions(fs::Permissions::from_mode(meta.permissions().mode()))?;
            // Without it there is no repository.
            file.sync_all()
        })?;
        lock.commit().map(drop).map_err(|err| err.error)
    }

    /// What `config` does not say.
    fn missing(&self, config: &File, dir: &Path) -> Vec<Value<'_>> {
        let first = |value: &Value<'_>| {
            let there = config.strings_by(value.section, value.of, value.name);
            there.and_then(|there| there.into_iter().next())
        };
        let remote = self.remote.as_str();
        let url = Value {
            section: "remote",
            of: remote,
            name: "url",
            value: self.repo.to_string(),
        };
        let mut missing = Vec::new();
        match first(&url) {
            Some(there) if there == url.value.as_str() || self.is_the_same(there.as_bstr(), dir) => {}
            Some(_) => missing.push(url),
            None => missing.extend([
                url,
                Value {
                    section: "remote",
                    of: remote,
                    name: "fetch",
                    value: format!("+refs/heads/*:refs/remotes/{remote}/*"),
                },
            ]),
        }
        if let Some(branch) = self.branch {
            let pairs = [("remote", remote), ("merge", branch.as_str())];
            let pairs = pairs.map(|(name, value)| Value {
                section: "branch",
                of: branch.short(),
                name,
                value: value.into(),
            });
            let differs = |value: &Value<'_>| first(value).is_none_or(|there| there != value.value.as_str());
            missing.extend(pairs.into_iter().filter(differs));
        }
        missing
    }

    /// Whether `url` names the same repository, for example with a password that a user has put there.
    fn is_the_same(&self, url: &BStr, dir: &Path) -> bool {
        let url = url.to_str().ok().and_then(|url| RepoUrl::parse(url, dir).ok());
        url.is_some_and(|url| url.to_string() == self.repo.to_string())
    }
}
