//! One execution of a trigger: lock, recover, fetch, worktree, refs, hooks.
//!
//! [`execute`] does all of that. It blocks, and knows neither sockets nor other runs.

use std::{fs, path::Path, sync::Arc, time::Instant};

use gix::ObjectId;

mod adopt;
mod back;
mod build;
mod clone;
mod error;
mod hooks;
mod marks;
mod older;
mod owner;
mod retry;
mod room;
mod under_way;
mod whole;

pub use error::Error;
pub use under_way::{Interrupted, is_unfinished};

use crate::{
    base::{
        event::{Done, Event, Named, Outcome, ROLLED_BACK, Sink, Step, Task},
        fault::Failure,
        name::RunId,
        watch::Watch,
    },
    config::Target,
    deploy::{
        existing::{self, Existing},
        group, hook,
        sandbox::Sandbox,
        stage::Stage,
        state::{self, State},
        target_dirs::TargetDirs,
    },
    git::{begin::Begin, dropped, fetch, heal, lock, maintenance, refs, transport::Connections, worktree},
};
use adopt::Claim;
use clone::{clone, rehearse_clone};
use error::{SHUT_OUT, in_time, is_denial};
use hooks::{run_hooks, tell_failed};
use marks::{hold, publish, settle, writer};
use under_way::UnderWay;

/// What a run gets from its process.
#[derive(Debug, Clone)]
pub struct Context {
    pub run: RunId,
    /// The peer that asked for it.
    pub peer: Arc<str>,
    pub task: Task,
    /// Permission bits that new files and directories do not get.
    pub umask: u32,
    /// Say what would be done, and leave the worktree alone.
    pub dry_run: bool,
    /// The process groups of running hooks.
    pub groups: hook::Groups,
    /// The process that starts hooks.
    pub starter: hook::Starter,
    /// What the run is limited to, and its hooks if they are started inside.
    pub sandbox: Sandbox,
    /// Connections that earlier runs left alive.
    pub connections: Connections,
    /// How long the run may take, and whether the process is stopping.
    pub watch: Watch,
    /// What earlier runs have learned of worktrees.
    pub cache: worktree::Cache,
    /// The directories of all targets.
    pub target_dirs: TargetDirs,
    /// The repositories that this process has already recovered.
    pub recovered: lock::Recovered,
    /// Told of runs that were interrupted.
    pub interrupted: Interrupted,
    /// Where events go.
    pub events: Sink,
}

/// Bring `target` to the newest commit and run its hooks. The last event emitted is the value returned.
pub fn execute(target: &Target, context: &Context) -> Done {
    let began = Instant::now();
    context.events.emit(Event::Started {
        trigger: target.trigger.clone(),
        repo: target.origin.repo.to_string(),
        revision: target.origin.revision.to_string(),
        path: target.site.path.to_string(),
    });
    let mut reached = Reached::default();
    let ended = deploy(target, context, &mut reached);
    context.target_dirs.note(target);
    let failure = ended.err();
    let hex = |id: ObjectId| id.to_string();
    let done = Done {
        trigger: target.trigger.to_string(),
        outcome: match &failure {
            Some(_) if reached.is_rolled_back => Outcome::RolledBack,
            Some(_) => Outcome::Failed,
            None if reached.old == reached.new => Outcome::UpToDate,
            None => Outcome::Updated,
        },
        old: reached.old.map(hex),
        new: reached.new.map(hex),
        changed: reached.changed,
        exit: match &failure {
            Some(_) if reached.is_rolled_back => ROLLED_BACK,
            failure => failure.as_ref().map_or(0, |failure| failure.kind.exit()),
        },
        failure,
        ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    context.events.emit(Event::Done(done.clone()));
    done
}

/// Maintain the repository of `target`, if that is due. Called after a run, when no client waits for an answer.
pub fn tidy(target: &Target, sandbox: &Sandbox) -> Result<maintenance::Outcome, Failure> {
    let git_dir = target.site.git_dir();
    let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    // A run would have made both directories for its lock.
    if !is_dir(&git_dir) || !target.site.lock_file().parent().is_some_and(is_dir) {
        return Ok(maintenance::Outcome::NotDue);
    }
    let tidied = sandbox.confine(target, || {
        if !existing::find(target).is_ok_and(|place| matches!(place, Existing::Worktree(_))) {
            // The run has reported why.
            return Ok(maintenance::Outcome::NotDue);
        }
        let state = State::read(&git_dir);
        if !state.is_ours() {
            // The worktree has not been adopted, so its owner maintains it.
            return Ok(maintenance::Outcome::NotDue);
        }
        // Marked as a dry run, so that an interruption is cleaned up but not reported.
        let mark = state::Run::new(&git_dir, target, &RunId::none(), "tidy", true);
        maintenance::maintain(&maintenance::Options {
            root: target.site.root().as_path(),
            git_dir: &git_dir,
            depth: target.origin.depth,
            grace: maintenance::GRACE,
            // The lists of changed files start at these commits.
            pinned: &|| state.commits(),
            mark: Some(&mark),
        })
        .map_err(|err| Failure::of(&err))
    });
    tidied.map_err(|err| Failure::of(&err)).flatten()
}

/// How far a run has got, for its result even if it fails.
#[derive(Debug, Default)]
struct Reached {
    old: Option<ObjectId>,
    new: Option<ObjectId>,
    /// The commit to deploy, which is not live if its release could not be built.
    wanted: Option<ObjectId>,
    changed: u64,
    /// An earlier run had left the worktree half done.
    finished_another: bool,
    /// Another tree is live than before.
    has_switched: bool,
    /// The commit that a rollback replaced.
    left: Option<ObjectId>,
    /// The run itself has rolled back, without an operator.
    is_rolled_back: bool,
}

impl Reached {
    /// Whether all hooks are due.
    fn has_changed(&self) -> bool {
        self.changed > 0 || self.finished_another || self.has_switched
    }
}

/// The failure that `err` makes of a run.
fn failure_of(err: Error, target: &Target, context: &Context) -> Failure {
    let err = in_time(owner::blame(err, target), &context.watch);
    if context.sandbox.is_enforced() && is_denial(&err) {
        context.events.warn(SHUT_OUT);
    }
    Failure::of(&err)
}

/// Lock the target and run the pipeline. A failure under the lock is passed to the hooks at Failed.
fn deploy(target: &Target, context: &Context, reached: &mut Reached) -> Result<(), Failure> {
    let failed = |err| failure_of(err, target, context);
    let _lock = lock(target, context).map_err(failed)?;
    locked(target, context, reached).map_err(|err| {
        let is_refusal = err.is_refusal();
        let failure = failed(err);
        if is_refusal {
            return failure;
        }
        let located = || Stage::live(&target.site);
        let tell = || tell_failed((target, context), &failure, reached, located().as_ref());
        if let Err(err) = context.sandbox.confine(target, tell) {
            context.events.warn(err.to_string());
        }
        failure
    })
}

fn lock(target: &Target, context: &Context) -> Result<lock::Lock, Error> {
    context.watch.enter(Step::Lock)?;
    context.target_dirs.links().look(target)?;
    // Inside the sandbox, since a hook may have written to the repository, and this thread can read other targets' keys.
    if !existing::is_known(target) {
        context.sandbox.confine(target, || existing::look(target))??;
    }
    Ok(lock::acquire(
        &target.site.lock_file(),
        target.site.root().as_path(),
        &context.watch,
        context.events.reporter(),
    )?)
}

/// The pipeline. After a kill at any step the next run finishes it: see `refs` for the order of the writes.
fn locked(target: &Target, context: &Context, reached: &mut Reached) -> Result<(), Error> {
    // Outside of the run's sandbox, which allows neither the history nor the parent of a git directory.
    let left = under_way::find(target, context);
    if !context.dry_run {
        existing::clear_old(target)?;
    }
    // Only under the lock, since the rules are bound to the directories that are at the target's paths now.
    context
        .sandbox
        .confine(target, || deploy_locked(target, context, left, reached))?
}

fn deploy_locked(
    target: &Target,
    context: &Context,
    left: Option<state::Left>,
    reached: &mut Reached,
) -> Result<(), Error> {
    let rights = group::rights(&target.site, context.umask)?;
    context.watch.enter(Step::Fetch)?;
    let existing = existing::inspect(target)?;
    if existing == Existing::Nothing && !context.dry_run {
        group::take(&target.site, rights)?;
    }
    let under_way = UnderWay::new(&target.site.git_dir(), (target, rights), context);
    if let Existing::Worktree(git_dir) = &existing {
        context.sandbox.look_at_lenders(git_dir)?;
        lock::recover(git_dir, left.as_ref().map(|left| left.span), &context.recovered)?;
        if !context.dry_run {
            // The version before may have finished the clone, and does not remove this directory.
            existing::sweep(git_dir)?;
        }
        if let Some(left) = &left {
            room::at_first(&under_way, || under_way::pass_on(git_dir, target, left))?;
        }
    }
    let ended = match (existing, &context.task) {
        (Existing::Worktree(_), Task::Rollback { to }) => back::by_hand(&under_way, to.as_ref(), reached),
        (Existing::Nothing, Task::Rollback { .. }) => Err(back::not_deployed(target).into()),
        (Existing::Worktree(_), _) => finish(&under_way, None, reached),
        (Existing::Nothing, _) if context.dry_run => rehearse_clone(&under_way, reached),
        (Existing::Nothing, _) => {
            clone(&under_way).and_then(|cloned| finish(&under_way, Some(cloned), reached))
        }
    };
    under_way.end(ended)
}

/// Fetch, unless the clone has fetched, and do all later steps.
fn finish(
    under_way: &UnderWay<'_>,
    cloned: Option<(gix::Repository, fetch::Outcome)>,
    reached: &mut Reached,
) -> Result<(), Error> {
    let UnderWay { target, context, .. } = *under_way;
    let mut stage = under_way.stage()?;
    let mut claim = Claim::of(under_way.git_dir());
    let (repo, mut fetched) = match cloned {
        Some(cloned) => cloned,
        None => whole::fetch_into(under_way, &mut claim, reached)?,
    };
    reached.old = stage.deployed(reached.old);
    let ending = back::stop_at_held(&repo, (under_way, &mut stage), &mut fetched, (&claim, reached))?;
    tell_fetched(&repo, (claim.before, &fetched), reached, context);
    context.watch.enter(Step::Worktree)?;
    let (repo, fetched, updated) =
        whole::update(repo, fetched, (under_way, &mut stage), &mut claim, reached)?;
    reached.wanted = Some(fetched.commit);
    reached.finished_another = updated.finished_another;
    if !context.dry_run {
        build::build((&repo, &fetched), (under_way, &mut stage), &mut claim, reached)?;
        // From here on the deadline does not stop the run: the files are there, and become live together with the refs.
        reached.has_switched = build::switch(&repo, (under_way, &mut stage))?;
    }
    reached.new = Some(fetched.commit);
    reached.changed = updated.written + updated.deleted + updated.cleaned;
    if context.dry_run {
        return claim.rehearsed();
    }
    publish(
        &repo,
        (under_way, &stage),
        (&fetched.tip, fetched.commit),
        updated,
    )?;
    let before = claim.state.hooks(target).succeeded_for();
    if let Err(err) = run_hooks(&repo, (under_way, &stage), &fetched, claim, reached) {
        return Err(back::after_failure(
            &repo,
            (under_way, &mut stage),
            (&fetched, err),
            reached,
        ));
    }
    if stage.is_in_place() {
        back::remember(&repo, under_way, (before, fetched.commit), reached)
    } else {
        build::good(&repo, (under_way, &mut stage))?
    }
    if let Some(ending) = ending {
        under_way.leaves_no_hooks_pending();
        return ending.end();
    }
    back::forget(under_way, &fetched)?;
    heal::finish(repo.git_dir());
    Ok(())
}

/// Report what was fetched, and whether the branch was rewound.
fn tell_fetched(
    repo: &gix::Repository,
    (before, fetched): (Option<ObjectId>, &fetch::Outcome),
    reached: &Reached,
    context: &Context,
) {
    let dropped = match reached.old {
        Some(old) if old != fetched.commit => {
            let moving = refs::moving(repo, &fetched.tip);
            // After a rollback, the deployed commit is older than what the remote had last.
            let good = refs::Good::of(repo);
            let pushed = before.into_iter().chain(good.commits());
            dropped::replaced(repo, &moving, (pushed, fetched.commit), context.watch.over())
        }
        _ => Named::default(),
    };
    context.events.emit(Event::Fetched {
        old: reached.old.map(|id| id.to_string()),
        new: fetched.commit.to_string(),
        rewound: !dropped.is_empty(),
        dropped,
    });
}

/// No mark before the first write: the caller marks the run itself, or removes what is written.
const NO_MARK: Begin<'_> = Begin(&|| Ok(()));

fn update_options<'a>(
    under_way: &'a UnderWay<'_>,
    stage: &'a Stage<'_>,
    begin: Begin<'a>,
) -> worktree::Options<'a> {
    let UnderWay {
        target,
        context,
        index,
        rights,
        ..
    } = under_way;
    stage.aim(worktree::Options {
        root: target.site.root(),
        index,
        clean: target.site.clean,
        keep: &target.site.keep,
        max_blob: target.origin.max_blob,
        rights: *rights,
        dry_run: context.dry_run,
        cache: &context.cache,
        apart: None,
        begin,
        report: context.events.reporter(),
        over: context.watch.over(),
    })
}
