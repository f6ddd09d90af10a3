//! What a trigger's name stands for.

use std::{ffi::OsStr, num::NonZeroU32};

use gix::ObjectId;
use zeroize::Zeroizing;

use super::{
    Check, Placed,
    choice::variant,
    field::{Fields, TRIGGER},
    value::{duration, filled, invalid, literal, retries, size, umask},
};
use crate::{
    base::name::{AbsPath, Invalid, RefName, RemoteName, RepoUrl, TriggerName},
    config::{
        Auth, Clean, DEFAULT_FETCH_TIMEOUT, DEFAULT_MAX_BLOB, DEFAULT_MAX_PACK, DEFAULT_RETRIES,
        DEFAULT_RUN_TIMEOUT, Revision, Site, Target, mask::redact, raw::Value, report::Problem,
    },
    git::origin::Origin,
};

/// git takes this and more for "all".
const MAX_DEPTH: u32 = i32::MAX as u32 - 1;

impl Check<'_> {
    pub(super) fn target(
        &mut self,
        key: Value<'_>,
        trigger: Option<TriggerName>,
        value: Value<'_>,
    ) -> Option<Placed> {
        let fields = self.fields(value, &TRIGGER)?.placed_at(key.span());
        let around = self.around;
        let repo = self.required(&fields, "repo", r#""https://example.com/site.git""#, |value| {
            repo(value, around.base)
        });
        let path = self.required(&fields, "path", r#""/srv/site""#, |value| {
            worktree(value, around.path(value)?)
        });
        let git_dir = self.optional(&fields, "git_dir", |value| around.path(value));
        let revision = self.revision(&fields);
        let remote = self.optional(&fields, "remote", remote);
        let depth = self.optional(&fields, "depth", |value| {
            value.number(1..=MAX_DEPTH).map_err(|problem| {
                problem.help("write how many commits to fetch, or remove the field for the full history")
            })
        });
        let clean = self.optional(&fields, "clean", clean);
        let keep = self.keep_patterns(&fields, path.as_ref());
        let auth = self.auth(&fields);
        let tls = self.tls(&fields);
        let hooks = self.hooks(&fields);
        let timeout = self.optional(&fields, "timeout", duration);
        let run_timeout = self.optional(&fields, "run_timeout", duration);
        let max_blob = self.optional(&fields, "max_blob", size);
        let max_pack = self.optional(&fields, "max_pack", size);
        let umask = self.optional(&fields, "umask", umask);
        let retries = self.optional(&fields, "retries", retries);
        let fsync = self.optional(&fields, "fsync", Value::bool);
        let allow = self.allow(&fields);
        if let Some(repo) = &repo {
            self.credentials_fit(&fields, repo, tls.as_ref());
            self.not_itself(&fields, repo, path.as_ref(), git_dir.as_ref());
        }
        let origin = Origin {
            repo: repo?,
            revision,
            remote: remote.or_else(|| RemoteName::new("origin").ok())?,
            depth: depth.and_then(NonZeroU32::new),
            auth: auth.unwrap_or(Auth::None),
            tls: tls.unwrap_or_default(),
            timeout: timeout.unwrap_or(DEFAULT_FETCH_TIMEOUT),
            retries: retries.unwrap_or(DEFAULT_RETRIES),
            max_blob: max_blob.unwrap_or(DEFAULT_MAX_BLOB),
            max_pack: max_pack.unwrap_or(DEFAULT_MAX_PACK),
        };
        let site = Site {
            path: path?,
            git_dir,
            clean: clean.unwrap_or(Clean::Untracked),
            keep,
            umask,
            fsync: fsync.unwrap_or(true),
        };
        let target = Target {
            trigger: trigger?,
            origin,
            site,
            hooks,
            run_timeout: run_timeout.unwrap_or(DEFAULT_RUN_TIMEOUT),
            allow,
        };
        let path_at = fields.get("path")?.head();
        let git_dir_at = fields.get("git_dir").map(Value::head).unwrap_or_default();
        Some(Placed {
            target,
            path_at,
            git_dir_at,
        })
    }

    fn revision(&mut self, fields: &Fields<'_>) -> Revision {
        let branch = self.optional(fields, "branch", |value| {
            ref_name(value, "branch", RefName::branch)
        });
        let tag = self.optional(fields, "tag", |value| ref_name(value, "tag", RefName::tag));
        let rev = self.optional(fields, "rev", full_id);
        let given: Vec<_> = [("tag", "a tag"), ("rev", "a commit"), ("branch", "a branch")]
            .into_iter()
            .filter(|(name, _)| fields.has(name))
            .collect();
        if let [(one, what), others @ ..] = given.as_slice()
            && !others.is_empty()
        {
            let problem = Problem::at(
                fields.name_span(one),
                "a trigger has either a branch, a tag or a rev",
            )
            .label(*what);
            let problem = others.iter().fold(problem, |problem, (name, what)| {
                problem.also(fields.name_span(name), format!("and {what}"))
            });
            self.problems.push(problem.help("leave one of them"));
        }
        match (branch, tag, rev) {
            (Some(branch), ..) => Revision::Branch(branch),
            (None, Some(tag), _) => Revision::Tag(tag),
            (None, None, Some(id)) => Revision::Commit(id),
            (None, None, None) => Revision::RemoteHead,
        }
    }

    /// A repository cannot be deployed onto itself.
    fn not_itself(
        &mut self,
        fields: &Fields<'_>,
        repo: &RepoUrl,
        path: Option<&AbsPath>,
        git_dir: Option<&AbsPath>,
    ) {
        let (Some(local), Some(path)) = (repo.local_path(), path) else {
            return;
        };
        let at = |name| fields.get(name).map(Value::head).unwrap_or_default();
        let itself = |name: &'static str, help: &'static str| {
            Problem::at(at(name), "this is the repository itself")
                .also(at("repo"), "the repository")
                .help(help)
        };
        if local == path || local.as_path() == path.as_path().join(".git") {
            let problem = itself("path", "give the directory to deploy to as `path`");
            self.problems.push(problem);
        }
        if git_dir == Some(local) {
            let problem = itself("git_dir", "name a place for the git directory of the clone");
            self.problems.push(problem);
        }
    }
}

/// What is in the whole of a commit's id: an abbreviation may come to mean another one.
fn full_id(value: Value<'_>) -> Result<ObjectId, Problem> {
    let text = filled(value)?;
    ObjectId::from_hex(text.as_bytes()).map_err(|_| {
        Problem::at(
            value.head(),
            format!("{} is not the full id of a commit", value.shown()),
        )
        .help("write its 40 hexadecimal digits (64 with SHA-256), as `git rev-parse` prints them")
    })
}

fn repo(value: Value<'_>, base: &std::path::Path) -> Result<RepoUrl, Problem> {
    let text = Zeroizing::new(filled(value)?);
    literal(value, &text)?;
    RepoUrl::parse(&text, base).map_err(|err| {
        // Neither the text nor what is wrong with it may show a password.
        let reason = redact(&err.to_string(), &text);
        Problem::at(
            value.head(),
            format!("this is not a usable URL or path of a repository: {reason}"),
        )
        .help("write https://HOST/PATH, ssh://USER@HOST/PATH, http://…, git://…, file:///PATH or a path")
    })
}

fn worktree(value: Value<'_>, path: AbsPath) -> Result<AbsPath, Problem> {
    let problem = if path.as_path().parent().is_none() {
        "the root directory cannot be a worktree"
    } else if path
        .as_path()
        .components()
        .any(|part| part.as_os_str() == OsStr::new(".git"))
    {
        "a directory inside a .git directory cannot be a worktree"
    } else {
        return Ok(path);
    };
    Err(Problem::at(value.head(), problem).help(r#"give the directory to deploy to, such as "/srv/site""#))
}

fn ref_name(
    value: Value<'_>,
    what: &str,
    new: fn(&str) -> Result<RefName, Invalid>,
) -> Result<RefName, Problem> {
    let text = value.string()?;
    new(&text).map_err(|err| {
        invalid(value, &format!("name of a {what}"), &err).help(match what {
            "tag" => r#"write it as `git tag` shows it, such as "v1.2""#,
            _ => r#"write it as `git branch` shows it, such as "main"; remove the field for the remote's default"#,
        })
    })
}

fn remote(value: Value<'_>) -> Result<RemoteName, Problem> {
    let text = value.string()?;
    RemoteName::new(&text).map_err(|err| {
        invalid(value, "name of a remote", &err)
            .help(r#"write a name such as "origin", not a URL; the URL is `repo`"#)
    })
}

fn clean(value: Value<'_>) -> Result<Clean, Problem> {
    let known = [("Untracked", false), ("All", false), ("Nothing", false)];
    match variant(value, "a way to clean", &known)? {
        "Untracked" => Ok(Clean::Untracked),
        "All" => Ok(Clean::All),
        _ => Ok(Clean::Nothing),
    }
}
