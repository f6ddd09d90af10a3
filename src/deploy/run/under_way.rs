//! A run from its first write to its end: the mark that it leaves if it is killed, and what it finds of one that was.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Context, Error};
use crate::{
    base::{event, mutex, rights::Rights},
    config::Target,
    deploy::{
        existing, release,
        sandbox::Sandbox,
        stage::Stage,
        state::{self, Left, Marker, State},
    },
    git::{lock, refs, repository},
};

/// Told of each run that was found to have been interrupted; perhaps more than once of the same.
#[derive(Clone)]
pub struct Interrupted(Arc<dyn Fn(&Marker) + Send + Sync>);

impl Interrupted {
    /// `tell` is told.
    pub fn new(tell: impl Fn(&Marker) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupted")
    }
}

/// What is lost with the record of releases.
const DAMAGED: &str = "what was remembered of releases is damaged: those that are there are left alone, and cannot be gone back to";

/// What git writes that an update writes, too: locked by a `.lock` beside it.
const WRITTEN: [&str; 4] = ["index", "HEAD", "shallow", "packed-refs"];

/// What a run left at `target` that was interrupted. The caller holds the lock.
pub(super) fn find(target: &Target, context: &Context) -> Option<Left> {
    let left = look(target)?;
    if let Some(marker) = left.marker.as_ref().filter(|marker| !marker.dry_run) {
        context.events.warn(format!(
            "the run {} of {}, by {}, was interrupted after {}; this one finishes it",
            marker.run,
            marker.trigger,
            crate::base::fault::one_line(&marker.peer),
            event::time(marker.began),
        ));
        (context.interrupted.0)(marker);
    }
    Some(left)
}

fn look(target: &Target) -> Option<Left> {
    let git_dir = target.site.git_dir();
    // The version before built a clone beside it.
    state::left(&git_dir).or_else(|| state::left(&existing::old_clone(target)?))
}

/// `left` has been told of, and what it left is removed: what remains of it is that the hooks of its trigger are owed.
pub(super) fn pass_on(git_dir: &Path, target: &Target, left: &Left) -> Result<(), Error> {
    let trigger = match &left.marker {
        Some(marker) if marker.dry_run => None,
        Some(marker) => Some(marker.trigger.as_str()),
        None => Some(target.trigger.as_str()),
    };
    if let Some(trigger) = trigger {
        State::read(git_dir).left_pending(git_dir, target, trigger, head(git_dir))?;
    }
    Ok(state::forget(git_dir)?)
}

/// Whether a run of `target` was interrupted, or a hook of it failed, and nothing has finished that since. `is_owner` is
/// asked whether a run of that trigger is the business of `target`; `None`: it is not known whose it was. The repository is
/// opened in the `sandbox` that a run of it has.
pub fn is_unfinished(
    target: &Target,
    sandbox: &Sandbox,
    is_owner: impl FnOnce(Option<&Marker>) -> bool,
) -> bool {
    if lock::is_held(&target.site.lock_file(), target.site.root().as_path()) {
        // It is not over, or another process finishes it.
        return false;
    }
    match look(target) {
        Some(Left {
            marker: Some(marker), ..
        }) if marker.dry_run => false,
        Some(left) => is_owner(left.marker.as_ref()),
        None => {
            let git_dir = target.site.git_dir();
            let hooks = State::read(&git_dir).hooks(target);
            // Another trigger may have deployed another revision since.
            let is_at_head = || hooks.are_pending_at(head(&git_dir));
            hooks.are_pending() && sandbox.confine(target, is_at_head).unwrap_or_default()
        }
    }
}

/// The commit that is deployed at `git_dir`, if that can be read.
fn head(git_dir: &Path) -> Option<gix::ObjectId> {
    refs::head(&repository::open(git_dir).ok()?)
}

/// A run that holds the lock.
pub(super) struct UnderWay<'a> {
    pub(super) target: &'a Target,
    pub(super) context: &'a Context,
    pub(super) rights: Rights,
    /// The index of a worktree in place.
    pub(super) index: PathBuf,
    run: state::Run,
    /// Why it could not begin: what called it knows nothing of that.
    failed: Mutex<Option<Error>>,
    /// Whether the hooks are owed if it is not finished.
    changes: AtomicBool,
}

impl<'a> UnderWay<'a> {
    pub(super) fn new(git_dir: &Path, (target, rights): (&'a Target, Rights), context: &'a Context) -> Self {
        Self {
            target,
            context,
            rights,
            index: target.site.git_dir().join("index"),
            run: state::Run::new(git_dir, target, &context.run, &context.peer, context.dry_run),
            failed: Mutex::default(),
            changes: AtomicBool::new(false),
        }
    }

    /// Where it makes its tree; what a killed run has left of one is settled.
    pub(super) fn stage(&self) -> Result<Stage<'a>, Error> {
        let UnderWay { target, context, .. } = *self;
        let stage = Stage::settle(&target.site, (self.rights, context.dry_run), &context.memory)?;
        if stage.yard().is_some_and(|yard| yard.is_damaged()) {
            context.events.warn(DAMAGED);
        }
        for said in stage.yard().into_iter().flat_map(|yard| yard.elsewhere()) {
            context.events.warn(said.clone());
        }
        if stage.live_release().is_none() {
            self.tell_foreign(&stage);
        }
        Ok(stage)
    }

    /// Say what there is beside releases, before another one is live.
    pub(super) fn tell_foreign(&self, stage: &Stage<'_>) {
        let Some(yard) = stage.yard().filter(|yard| !yard.foreign().is_empty()) else {
            return;
        };
        let mut named = event::Named::default();
        yard.foreign().iter().for_each(|name| named.note(name));
        let copied = match yard.live() {
            Some(_) => "",
            None => " (releases that were copied or restored are new directories, and count as such)",
        };
        self.context.events.warn(format!(
            "{} holds what gitsocket has not made, and leaves alone: {}{copied}",
            self.target.site.path.as_path().join(release::DIR).display(),
            named.line()
        ));
    }

    /// The git directory that it is in.
    pub(super) fn git_dir(&self) -> &Path {
        self.run.git_dir()
    }

    pub(super) fn fetches(&self) -> io::Result<()> {
        self.begins(state::Run::settle)
    }

    /// Before a clone is built.
    pub(super) fn settles(&self) -> Result<(), Error> {
        self.begin(state::Run::settle)
    }

    pub(super) fn changes(&self) -> io::Result<()> {
        self.changes.store(true, Ordering::Relaxed);
        self.begins(state::Run::begin)
    }

    fn begins(&self, mark: impl FnOnce(&state::Run) -> Result<(), state::Error>) -> io::Result<()> {
        let begun = self.begin(mark);
        begun.map_err(|err| {
            let message = err.to_string();
            *mutex::lock(&self.failed) = Some(err);
            io::Error::other(message)
        })
    }

    fn begin(&self, mark: impl FnOnce(&state::Run) -> Result<(), state::Error>) -> Result<(), Error> {
        if !self.run.has_begun() {
            lock::wait_for(self.run.git_dir(), WRITTEN, self.context.events.reporter())?;
        }
        Ok(mark(&self.run)?)
    }

    /// Before hooks run. If they are `owed`, they are until they have succeeded.
    pub(super) fn starts_hooks(&self, owed: bool) -> Result<(), Error> {
        if owed {
            self.changes.store(true, Ordering::Relaxed);
            self.settles()
        } else {
            self.begin(state::Run::begin)
        }
    }

    /// However it ends, hooks are not to run for that.
    pub(super) fn owes_nothing(&self) {
        self.changes.store(false, Ordering::Relaxed);
    }

    /// Before the refs `names` are written.
    pub(super) fn moves(&self, names: &[&str]) -> Result<(), Error> {
        Ok(lock::wait_for(
            self.run.git_dir(),
            names.iter().copied(),
            self.context.events.reporter(),
        )?)
    }

    /// It has ended like that, and nothing of it is left to be found.
    pub(super) fn end(&self, ended: Result<(), Error>) -> Result<(), Error> {
        if !self.run.has_begun() {
            return self.why(ended);
        }
        let git_dir = self.run.git_dir();
        if ended.is_err() {
            let target = self.target;
            if self.changes.load(Ordering::Relaxed) {
                let pending = State::read(git_dir).left_pending(
                    git_dir,
                    target,
                    target.trigger.as_str(),
                    head(git_dir),
                );
                if pending.is_err() {
                    // The mark says it.
                    return self.why(ended);
                }
            }
            // What stays goes when a process looks for the first time.
            lock::clear(git_dir).ok();
        }
        // If it stays, the next run looks closer than it had to.
        self.run.end().ok();
        self.why(ended)
    }

    fn why(&self, ended: Result<(), Error>) -> Result<(), Error> {
        let failed = mutex::lock(&self.failed).take();
        match (ended, failed) {
            (Err(_), Some(why)) => Err(why),
            (ended, _) => ended,
        }
    }
}
