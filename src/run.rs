//! One execution of a trigger: lock, recover, fetch, update, publish, hooks.
//!
//! [`execute`] is the whole of it. It blocks, and knows neither sockets nor other runs.

use std::{collections::BTreeMap, ffi::OsString, fs, io, time::Instant};

use gix::ObjectId;

mod retry;

pub use retry::Stop;

use crate::{
    changes,
    config::{Revision, Target},
    event::{Done, Event, Outcome, Reporter},
    fault::{Blame, Failure, Kind},
    fetch::{self, Tip},
    hook, lock,
    name::RunId,
    place::{self, Place},
    publish, repository,
    sandbox::{self, Sandbox},
    tidy,
    transport::{Connections, Deadline},
    worktree,
};
use retry::Backoff;

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
    /// Who starts hooks.
    pub starter: hook::Starter,
    /// What the run is limited to, and its hooks if they are started inside.
    pub sandbox: Sandbox,
    /// Connections that earlier runs left alive.
    pub connections: Connections,
    /// Whether the process is stopping.
    pub stop: Stop,
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
    /// It could not be shut in.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Sandbox(#[from] sandbox::Error),
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
            Self::Sandbox(err) => err.kind(),
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
    let failure = deploy(target, context, &mut reached).err().map(|err| {
        if context.sandbox.is_closed() && is_denial(&err) {
            context.report.warn(SHUT_OUT);
        }
        Failure::of(&err)
    });
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

/// What somebody may want to know whose user may do what was denied.
const SHUT_OUT: &str = "besides the permissions of files, the daemon's sandbox denies what was not there, or not named, when the \
                        daemon was started: if that is why, reload it (SIGHUP), or see `sandbox`";

/// Whether the system said that something is not permitted.
fn is_denial(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    })
}

/// Tidy what `target` has been deployed from, if that is due. For after a run, when nobody waits for an answer.
pub fn tidy(target: &Target, sandbox: &Sandbox) -> Result<tidy::Outcome, Failure> {
    let git_dir = place::git_dir(target);
    let is_dir = fs::symlink_metadata(&git_dir).is_ok_and(|meta| meta.is_dir());
    if !is_dir {
        return Ok(tidy::Outcome::NotDue);
    }
    let tidied = sandbox.confine(target, || {
        tidy::tidy(&tidy::Options {
            path: &target.path,
            git_dir: &git_dir,
            is_bounded: target.depth.is_some(),
            grace: tidy::GRACE,
            // The list of changed files begins there.
            pinned: &|| publish::hooks_succeeded_for(&git_dir).into_iter().collect(),
        })
        .map_err(|err| Failure::of(&err))
    });
    tidied.map_err(|err| Failure::of(&err)).flatten()
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
    // Only now is it settled which directory is the target.
    context
        .sandbox
        .confine(target, || deploy_locked(target, context, reached))?
}

fn deploy_locked(target: &Target, context: &Context, reached: &mut Reached) -> Result<(), Error> {
    let (repo, fetched) = match place::inspect(target)? {
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

/// Fetch; after a fault that passes again, up to the number of times that the target allows.
fn fetch(repo: &gix::Repository, target: &Target, context: &Context) -> Result<fetch::Outcome, fetch::Error> {
    let mut backoff = Backoff::new();
    for attempt in 1..=target.retries {
        let err = match fetch_once(repo, target, context) {
            Err(err) if err.kind().passes() => err,
            other => return other,
        };
        let wait = backoff.wait();
        context.report.warn(format!(
            "{err}; trying again in {} ({attempt} of {})",
            humantime::format_duration(wait),
            target.retries
        ));
        if context.stop.wait(wait) {
            return Err(err);
        }
    }
    fetch_once(repo, target, context)
}

fn fetch_once(
    repo: &gix::Repository,
    target: &Target,
    context: &Context,
) -> Result<fetch::Outcome, fetch::Error> {
    // An adopted repository keeps its whole history; a shallow one is kept at the depth asked for.
    let depth = target
        .depth
        .filter(|_| repo.is_shallow().unwrap_or(false) || publish::head(repo).is_none());
    let options = fetch::Options {
        target,
        deadline: Deadline::new(target.timeout),
        depth,
        report: &context.report,
        connections: &context.connections,
    };
    fetch::fetch(repo, &options)
}

/// The repository of a new clone, with everything fetched and no files yet.
fn clone(target: &Target, context: &Context) -> Result<(gix::Repository, fetch::Outcome), Error> {
    let (building, fetched) = build_clone(target, context)?;
    publish::fetched(building.repo(), target, &fetched)?;
    if target.depth.is_some() {
        publish::bound(building.repo(), fetched.commit)?;
    }
    let branch = match &fetched.tip {
        Tip::Branch(branch) => Some(branch),
        Tip::Tag(..) | Tip::Detached => None,
    };
    let repo = building.finish(branch)?;
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
fn build_clone<'a>(
    target: &'a Target,
    context: &Context,
) -> Result<(place::Building<'a>, fetch::Outcome), Error> {
    let hash = match target.revision {
        Revision::Commit(id) => id.kind(),
        _ => gix::hash::Kind::Sha1,
    };
    let building = place::build(target, hash)?;
    let theirs = match fetch(building.repo(), target, context) {
        Err(fetch::Error::ObjectFormat { theirs, .. }) => theirs,
        fetched => return Ok((building, fetched?)),
    };
    // The first removes its directory as it goes, and the second is built in the same place.
    drop(building);
    let building = place::build(target, theirs)?;
    let fetched = fetch(building.repo(), target, context)?;
    Ok((building, fetched))
}

fn update_options<'a>(target: &'a Target, context: &'a Context) -> worktree::Options<'a> {
    worktree::Options {
        root: &target.path,
        clean: target.clean,
        keep: &target.keep,
        max_blob: target.max_blob,
        umask: target.umask.unwrap_or(context.umask),
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
    let hooks: Vec<usize> = (0..target.hooks.len())
        .filter(|hook| due || target.hooks[*hook].is_for_every_run())
        .collect();
    if due {
        // From here to their success, the hooks are owed.
        publish::settle(repo, target, &fetched.tip)?;
        let so_far = succeeded_for.filter(|id| *id != fetched.commit);
        publish::set_hooks_succeeded_for(git_dir, so_far, target.fsync)?;
    }
    if !hooks.is_empty() {
        // A failed hook has not seen the commits since it last succeeded.
        let old = succeeded_for.or(reached.old);
        let env = environment(repo, target, context, fetched, old);
        let hex = |id: Option<ObjectId>| id.unwrap_or(repo.object_hash().null()).to_string();
        let options = hook::Options {
            target,
            git_dir,
            env: &env,
            old_new: &(hex(old), hex(Some(fetched.commit))),
            report: &context.report,
            groups: &context.groups,
            starter: &context.starter,
        };
        for hook in hooks {
            hook::run(hook, &options).map_err(|source| {
                // One that took too long was not refused anything.
                if context.sandbox.hooks_are_inside() && !matches!(source, hook::Error::Timeout { .. }) {
                    context.report.warn(CONFINED);
                }
                Error::Hook {
                    source,
                    at: fetched.commit.to_hex_with_len(7).to_string(),
                }
            })?;
        }
        if let Some(dir) = env.get(TMPDIR) {
            fs::remove_dir_all(dir).ok();
        }
    }
    if due {
        publish::set_hooks_succeeded_for(git_dir, Some(fetched.commit), target.fsync)?;
    }
    Ok(())
}

/// Where programs put what they need for a while, see environ(7).
const TMPDIR: &str = "TMPDIR";

/// What somebody may want to know whose hook worked without a sandbox.
const CONFINED: &str = "hooks run in the sandbox: they may write to the target and $TMPDIR, and read the system's programs; \
                        if that is why this one failed, write sandbox: (hooks: Outside)";

/// `GITSOCKET_*`, see the README.
fn environment(
    repo: &gix::Repository,
    target: &Target,
    context: &Context,
    fetched: &fetch::Outcome,
    old: Option<ObjectId>,
) -> BTreeMap<String, OsString> {
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
    let of_the_run: [(&str, OsString); 5] = [
        ("GITSOCKET_RUN", context.run.as_str().into()),
        ("GITSOCKET_BRANCH", branch.into()),
        ("GITSOCKET_OLD", old.unwrap_or(null).to_string().into()),
        ("GITSOCKET_NEW", fetched.commit.to_string().into()),
        ("GITSOCKET_CHANGED_FILES", changed.into()),
    ];
    let mut env = hook::fixed(target);
    env.extend(of_the_run.map(|(name, value)| (name.into(), value)));
    if context.sandbox.hooks_are_inside() {
        // The system's is closed to them. What one left that failed is nobody's.
        let dir = hook::scratch(repo.git_dir());
        fs::remove_dir_all(&dir).ok();
        match fs::create_dir_all(&dir) {
            Ok(()) => drop(env.insert(TMPDIR.into(), dir.into())),
            Err(err) => context
                .report
                .warn(format!("cannot make {}: {err}", dir.display())),
        }
    }
    env
}
