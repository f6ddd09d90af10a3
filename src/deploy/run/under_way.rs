//! The mark of a run that writes, which stays if the run is killed, and the recovery of a run that was.

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

/// Called for each run that turns out to have been interrupted, perhaps several times for the same run.
#[derive(Clone)]
pub struct Interrupted(Arc<dyn Fn(&Marker) + Send + Sync>);

impl Interrupted {
    /// Call `tell`.
    pub fn new(tell: impl Fn(&Marker) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupted")
    }
}

/// The effect of a damaged record of releases.
const DAMAGED: &str = "the record of releases is damaged: existing releases are left alone, and a rollback to them is not possible";

/// The files that both git and an update write; git locks them by a file `.lock` next to them.
const WRITTEN: [&str; 4] = ["index", "HEAD", "shallow", "packed-refs"];

/// What an interrupted run has left at `target`. The caller holds the lock.
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
    // The version before built a clone next to the git directory.
    state::left(&git_dir).or_else(|| state::left(&existing::old_clone(target)?))
}

/// `left` has been reported, and its files are removed: record that the hooks of its trigger are pending, and remove its mark.
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

/// Whether a run of `target` was interrupted, or one of its hooks failed, and no run has finished that since. `is_owner` says
/// whether `target` is to finish a run with that marker; `None` if the marker cannot be read. The repository is opened in a run's
/// `sandbox`.
pub fn is_unfinished(
    target: &Target,
    sandbox: &Sandbox,
    is_owner: impl FnOnce(Option<&Marker>) -> bool,
) -> bool {
    if lock::is_held(&target.site.lock_file(), target.site.root().as_path()) {
        // The run goes on, or another process finishes it.
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
    /// Why the mark could not be written: the git engine reports only that its caller refused.
    failed: Mutex<Option<Error>>,
    /// Whether the hooks are pending if the run does not finish.
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

    /// The stage of this run, after recovery from a killed one.
    pub(super) fn stage(&self) -> Result<Stage<'a>, Error> {
        let UnderWay { target, context, .. } = *self;
        let stage = Stage::recover(&target.site, (self.rights, context.dry_run), &context.cache)?;
        if stage.trees().is_some_and(|trees| trees.is_damaged()) {
            context.events.warn(DAMAGED);
        }
        for said in stage.trees().into_iter().flat_map(|trees| trees.elsewhere()) {
            context.events.warn(said.clone());
        }
        if stage.live_release().is_none() {
            self.tell_foreign(&stage);
        }
        Ok(stage)
    }

    /// Warn about foreign files among the releases.
    pub(super) fn tell_foreign(&self, stage: &Stage<'_>) {
        let Some(trees) = stage.trees().filter(|trees| !trees.foreign().is_empty()) else {
            return;
        };
        let mut named = event::Named::default();
        trees.foreign().iter().for_each(|name| named.note(name));
        let copied = match trees.live() {
            Some(_) => "",
            None => {
                " (releases that were copied or restored from a backup are new directories, so they count as foreign)"
            }
        };
        self.context.events.warn(format!(
            "{} holds what gitsocket has not made, and leaves alone: {}{copied}",
            self.target.site.path.as_path().join(release::DIR).display(),
            named.line()
        ));
    }

    /// The git directory.
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

    /// Before hooks run. If they are `pending`, they stay pending until they have succeeded.
    pub(super) fn starts_hooks(&self, pending: bool) -> Result<(), Error> {
        if pending {
            self.changes.store(true, Ordering::Relaxed);
            self.settles()
        } else {
            self.begin(state::Run::begin)
        }
    }

    /// Whatever the end of this run, its hooks are not pending.
    pub(super) fn leaves_no_hooks_pending(&self) {
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

    /// The run has ended: record pending hooks if it failed, and remove its mark.
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
                    // The mark stays, and says the same.
                    return self.why(ended);
                }
            }
            // Files that stay are removed at the first run of another process.
            lock::clear(git_dir).ok();
        }
        // If the mark stays, the next run only does more checks than necessary.
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
