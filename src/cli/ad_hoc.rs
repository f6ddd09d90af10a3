//! `-g DIR -r REMOTE -b BRANCH`: one trigger for an existing clone, without a configuration.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, sync::Arc};

use gix::bstr::ByteSlice as _;

use crate::{
    base::{
        fault::{Blame, Kind},
        name::{AbsPath, RefName, RemoteName, RepoUrl, TriggerName},
        words::typed,
    },
    config::{self, Config, Hook, OnFailure, Site, Target},
    git::{
        origin::{Depth, Origin, Revision},
        repository,
        worktree::Clean,
    },
};

const DEFAULT_REMOTE: &str = "origin";

/// What was given on the command line.
#[derive(Debug)]
pub(super) struct Options<'a> {
    dir: &'a PathBuf,
    remote: &'a str,
    branch: Option<&'a str>,
    adopt: bool,
}

/// The clone does not tell what to deploy.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(super) enum Error {
    #[error("there is no clone at {dir}: {reason}")]
    #[diagnostic(help("name the directory of an existing clone with -g, or write a configuration"))]
    NoClone { dir: AbsPath, reason: String },
    #[error("{dir} has no remote {remote:?} with a URL")]
    #[diagnostic(help("name another one with -r"))]
    Remote { dir: AbsPath, remote: String },
    #[error("the HEAD of {dir} is detached")]
    #[diagnostic(help("name the branch with -b"))]
    NoBranch { dir: AbsPath },
    #[error("{what} {name:?} is not valid: {why}")]
    #[diagnostic(help("correct it, or give another one"))]
    Name {
        what: &'static str,
        name: String,
        why: String,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        Kind::Config
    }
}

impl<'a> Options<'a> {
    /// The options if `-g` was given; -r and -b mean nothing without it.
    pub(super) fn from(
        dir: &'a Option<PathBuf>,
        remote: &'a Option<String>,
        branch: &'a Option<String>,
        adopt: bool,
        config: &Option<PathBuf>,
    ) -> Result<Option<Self>, &'static str> {
        match dir {
            Some(_) if config.is_some() => Err("-g replaces the configuration; leave out -c, or -g"),
            Some(dir) => Ok(Some(Self {
                dir,
                remote: remote.as_deref().unwrap_or(DEFAULT_REMOTE),
                branch: branch.as_deref(),
                adopt,
            })),
            None if remote.is_some() || branch.is_some() => Err("-r and -b need -g DIR"),
            None => Ok(None),
        }
    }
}

/// The configuration with the one trigger `default`. It listens nowhere.
pub(super) fn config(options: &Options<'_>) -> Result<Config, Error> {
    let invalid = |what, name: &str| {
        let name = name.to_owned();
        move |why: crate::base::name::Invalid| Error::Name {
            what,
            name,
            why: why.to_string(),
        }
    };
    let given = given(options);
    let shown = options.dir.display().to_string();
    let dir = AbsPath::resolve(&super::current_dir(), options.dir).map_err(invalid("the path", &shown))?;
    let no_clone = |reason: String| Error::NoClone {
        dir: dir.clone(),
        reason,
    };
    let git_dir = dir.as_path().join(".git");
    if !git_dir.exists() {
        return Err(no_clone("there is no .git in it".into()));
    }
    let repo = repository::open(&git_dir).map_err(|err| no_clone(err.to_string()))?;
    let trigger = TriggerName::new("default").map_err(invalid("the trigger", "default"))?;
    let origin = Origin {
        revision: Revision::Branch(branch(&repo, options.branch, &dir)?),
        remote: RemoteName::new(options.remote).map_err(invalid("the remote", options.remote))?,
        // As `git pull` leaves it: there is no configuration to say another.
        depth: Depth::Same,
        ..Origin::new(remote_url(&repo, options.remote, &dir)?)
    };
    let site = Site {
        path: dir,
        git_dir: None,
        clean: Clean::Untracked,
        keep: Vec::new(),
        umask: None,
        group: None,
        fsync: true,
        releases: None,
    };
    let target = Target {
        trigger: trigger.clone(),
        origin,
        site,
        poll: None,
        hooks: vec![Hook::PostCheckout],
        run_timeout: config::DEFAULT_RUN_TIMEOUT,
        allow: None,
        health: None,
        on_failure: OnFailure::Keep,
        operate: None,
        adopt: options.adopt,
        file: None,
        given: Some(given),
    };
    Ok(Config {
        listen: Vec::new(),
        jobs: NonZeroUsize::MIN,
        keep_alive: config::DEFAULT_KEEP_ALIVE,
        included: Vec::new(),
        sandbox: config::Sandbox::default(),
        triggers: BTreeMap::from([(trigger, Arc::new(target))]),
    })
}

/// The options as they were typed.
fn given(options: &Options<'_>) -> String {
    let mut words = vec!["-g".into(), options.dir.display().to_string()];
    if options.remote != DEFAULT_REMOTE {
        words.extend(["-r".into(), options.remote.into()]);
    }
    words.extend(
        options
            .branch
            .iter()
            .flat_map(|branch| ["-b".into(), (*branch).into()]),
    );
    typed(words)
}

fn remote_url(repo: &gix::Repository, remote: &str, dir: &AbsPath) -> Result<RepoUrl, Error> {
    let missing = || Error::Remote {
        dir: dir.clone(),
        remote: remote.into(),
    };
    let url = repo
        .config_snapshot()
        .string(format!("remote.{remote}.url").as_str())
        .ok_or_else(missing)?;
    let url = url.to_str().map_err(|_| missing())?;
    RepoUrl::parse(url, dir.as_path()).map_err(|why| Error::Name {
        what: "the URL of the remote",
        name: remote.into(),
        why: why.to_string(),
    })
}

fn branch(repo: &gix::Repository, given: Option<&str>, dir: &AbsPath) -> Result<RefName, Error> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => match repo.head_name() {
            Ok(Some(name)) => name.as_bstr().to_string(),
            _ => return Err(Error::NoBranch { dir: dir.clone() }),
        },
    };
    RefName::branch(&name).map_err(|why| Error::Name {
        what: "the branch",
        name,
        why: why.to_string(),
    })
}
