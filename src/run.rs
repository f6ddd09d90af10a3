//! One execution of a trigger: lock, recover, fetch, update, publish, hooks.
//!
//! [`execute`] is the whole of it. It blocks, and knows neither sockets nor other runs.

use std::{collections::BTreeMap, ffi::OsString, fs, time::Instant};

use gix::ObjectId;

use crate::{
    changes,
    config::{Hook, Target},
    event::{Done, Event, Outcome, Reporter},
    fault::{Blame, Failure, Kind},
    fetch::{self, Tip},
    hook, lock,
    name::RunId,
    place::{self, Place},
    publish, repository,
    transport::Deadline,
    worktree,
};

/// What a run gets from the process it is part of.
#[derive(Debug, Clone)]
pub struct Context {
    /// The run's id.
    pub run: RunId,
    /// Permission bits that new files and directories do not get.
    pub umask: u32,
    /// Say what would be done, and leave the worktree alone.
    pub dry_run: bool,
    /// The process groups of running hooks.
    pub groups: hook::Groups,
    /// What is known of worktrees.
    pub memory: worktree::Memory,
    /// Where events go.
    pub report: Reporter,
}

/// A run failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The target could not be locked or recovered.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] lock::Error),
    /// Its path cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Place(#[from] place::Error),
    /// Its repository cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Repository(#[from] repository::Error),
    /// The remote's newest commit could not be had.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fetch(#[from] fetch::Error),
    /// The files could not be updated.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Worktree(#[from] worktree::Error),
    /// Refs or state could not be written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Publish(#[from] publish::Error),
    /// A hook failed, after the update.
    #[error("{source}; the worktree is at {at}")]
    #[diagnostic(forward(source))]
    Hook {
        /// Why.
        source: hook::Error,
        /// The commit that is deployed.
        at: String,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Lock(err) => err.kind(),
            Self::Place(err) => err.kind(),
            Self::Repository(err) => err.kind(),
            Self::Fetch(err) => err.kind(),
            Self::Worktree(err) => err.kind(),
            Self::Publish(err) => err.kind(),
            Self::Hook { source, .. } => source.kind(),
        }
    }
}

/// Bring `target` to the newest commit and run its hooks. The last event emitted is the value returned.
pub fn execute(target: &Target, context: &Context) -> Done {
    let began = Instant::now();
    context.report.emit(Event::Started {
        trigger: target.trigger.clone(),
        repo: target.repo.to_string(),
        branch: target.revision.to_string(),
        path: target.path.to_string(),
    });
    let mut reached = Reached::default();
    let failure = deploy(target, context, &mut reached)
        .err()
        .map(|err| Failure::of(&err));
    let hex = |id: ObjectId| id.to_string();
    let done = Done {
        trigger: target.trigger.to_string(),
        outcome: match &failure {
            Some(_) => Outcome::Failed,
            None if reached.old == reached.new => Outcome::UpToDate,
            None => Outcome::Updated,
        },
        old: reached.old.map(hex),
        new: reached.new.map(hex),
        changed: reached.changed,
        exit: failure.as_ref().map_or(0, |failure| failure.kind.exit()),
        failure,
        ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    context.report.emit(Event::Done(done.clone()));
    done
}

/// How far a run has got: known even if it fails.
#[derive(Debug, Default)]
struct Reached {
    old: Option<ObjectId>,
    new: Option<ObjectId>,
    changed: u64,
}

/// The pipeline. A kill anywhere is finished by the next run: see `publish` for the order of its marks.
fn deploy(target: &Target, context: &Context, reached: &mut Reached) -> Result<(), Error> {
    let _lock = lock::acquire(&target.path, &context.report)?;
    let (repo, fetched) = match place::inspect(&target.path)? {
        Place::Worktree(git_dir) => {
            lock::recover(&git_dir)?;
            let repo = repository::open(&git_dir)?;
            reached.old = publish::head(&repo);
            let fetched = fetch(&repo, target, context)?;
            publish::fetched(&repo, target, &fetched)?;
            (repo, fetched)
        }
        Place::Empty if context.dry_run => return rehearse_clone(target, context, reached),
        Place::Empty => clone(target, context)?,
    };
    context.report.emit(Event::Fetched {
        old: reached.old.map(|id| id.to_string()),
        new: fetched.commit.to_string(),
    });
    let updated = worktree::update(&repo, fetched.commit, &update_options(target, context))?;
    reached.new = Some(fetched.commit);
    reached.changed = updated.written + updated.deleted + updated.cleaned;
    if context.dry_run {
        return Ok(());
    }
    publish::deployed(&repo, target, &fetched.tip, fetched.commit)?;
    context.report.emit(Event::Updated {
        written: updated.written,
        deleted: updated.deleted,
        cleaned: updated.cleaned,
    });
    run_hooks(&repo, target, context, &fetched, reached)
}

fn fetch(repo: &gix::Repository, target: &Target, context: &Context) -> Result<fetch::Outcome, fetch::Error> {
    // An adopted repository keeps its whole history; a shallow one is kept at the depth asked for.
    let depth = target
        .depth
        .filter(|_| repo.is_shallow().unwrap_or(false) || publish::head(repo).is_none());
    let options = fetch::Options {
        target,
        deadline: Deadline::new(target.timeout),
        depth,
        report: &context.report,
    };
    fetch::fetch(repo, &options)
}

/// The repository of a new clone, with everything fetched and no files yet.
fn clone(target: &Target, context: &Context) -> Result<(gix::Repository, fetch::Outcome), Error> {
    let (building, fetched) = build_clone(target, context)?;
    publish::fetched(building.repo(), target, &fetched)?;
    let branch = match &fetched.tip {
        Tip::Branch(branch) => Some(branch),
        Tip::Tag(..) | Tip::Detached => None,
    };
    let repo = building.finish(target, branch)?;
    Ok((repo, fetched))
}

/// Say what a clone would write. What was fetched for that is removed again.
fn rehearse_clone(target: &Target, context: &Context, reached: &mut Reached) -> Result<(), Error> {
    let (building, fetched) = build_clone(target, context)?;
    let updated = worktree::update(building.repo(), fetched.commit, &update_options(target, context))?;
    reached.new = Some(fetched.commit);
    reached.changed = updated.written;
    Ok(())
}

/// Fetch into a new git directory, with the hash that the remote turns out to use.
fn build_clone(target: &Target, context: &Context) -> Result<(place::Building, fetch::Outcome), Error> {
    let mut building = place::build(&target.path, gix::hash::Kind::Sha1)?;
    let fetched = match fetch(building.repo(), target, context) {
        Err(fetch::Error::ObjectFormat { theirs, .. }) => {
            building = place::build(&target.path, theirs)?;
            fetch(building.repo(), target, context)
        }
        other => other,
    }?;
    Ok((building, fetched))
}

fn update_options<'a>(target: &'a Target, context: &'a Context) -> worktree::Options<'a> {
    worktree::Options {
        root: &target.path,
        clean: target.clean,
        keep: &target.keep,
        umask: context.umask,
        dry_run: context.dry_run,
        memory: &context.memory,
        report: &context.report,
    }
}

/// Run the hooks that are due. One that fails ends the run; all of them run again at the next trigger.
fn run_hooks(
    repo: &gix::Repository,
    target: &Target,
    context: &Context,
    fetched: &fetch::Outcome,
    reached: &Reached,
) -> Result<(), Error> {
    let git_dir = repo.git_dir();
    let succeeded_for = publish::hooks_succeeded_for(git_dir);
    let due = reached.changed > 0 || succeeded_for != Some(fetched.commit);
    let hooks: Vec<&Hook> = target
        .hooks
        .iter()
        .filter(|hook| due || hook.is_for_every_run())
        .collect();
    if due {
        // From here to their success, the hooks are owed.
        publish::set_hooks_succeeded_for(git_dir, succeeded_for.filter(|id| *id != fetched.commit))?;
    }
    if !hooks.is_empty() {
        // A failed hook has not seen the commits since it last succeeded.
        let old = succeeded_for.or(reached.old);
        let env = environment(repo, target, context, fetched, old);
        let hex = |id: Option<ObjectId>| id.unwrap_or(repo.object_hash().null()).to_string();
        let options = hook::Options {
            path: target.path.as_path(),
            git_dir,
            env: &env,
            old_new: (&hex(old), &hex(Some(fetched.commit))),
            report: &context.report,
            groups: &context.groups,
        };
        for hook in hooks {
            hook::run(hook, &options).map_err(|source| Error::Hook {
                source,
                at: fetched.commit.to_hex_with_len(7).to_string(),
            })?;
        }
    }
    if due {
        publish::set_hooks_succeeded_for(git_dir, Some(fetched.commit))?;
    }
    Ok(())
}

/// `GITSOCKET_*`, see the README.
fn environment(
    repo: &gix::Repository,
    target: &Target,
    context: &Context,
    fetched: &fetch::Outcome,
    old: Option<ObjectId>,
) -> BTreeMap<&'static str, OsString> {
    let changed = hook::changed_files(repo.git_dir());
    if let Err(err) = changes::write(repo, old, fetched.commit, &changed) {
        context
            .report
            .warn(format!("cannot list the changed files for the hooks: {err}"));
        fs::remove_file(&changed).ok();
    }
    let branch = match &fetched.tip {
        Tip::Branch(name) | Tip::Tag(name, _) => name.short(),
        Tip::Detached => "",
    };
    let null = repo.object_hash().null();
    BTreeMap::from([
        ("GITSOCKET_TRIGGER", target.trigger.as_str().into()),
        ("GITSOCKET_RUN", context.run.as_str().into()),
        ("GITSOCKET_REPO", target.repo.to_string().into()),
        ("GITSOCKET_BRANCH", branch.into()),
        ("GITSOCKET_PATH", target.path.as_path().into()),
        ("GITSOCKET_OLD", old.unwrap_or(null).to_string().into()),
        ("GITSOCKET_NEW", fetched.commit.to_string().into()),
        ("GITSOCKET_CHANGED_FILES", changed.into()),
    ])
}
