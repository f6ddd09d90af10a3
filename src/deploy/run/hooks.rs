//! The hooks of a run: which of them are due, their environment, and the record of their success.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use gix::ObjectId;

use super::{Context, Error, Reached, UnderWay, adopt::Claim, settle, whole};
use crate::{
    base::{
        control::Which,
        descent,
        event::{Event, Sink, Step, Task},
        fault::Failure,
    },
    config::{At, Target},
    deploy::{
        health,
        hook::{self, Limits},
        release::located::Located,
        stage::Stage,
    },
    git::{fetch, refs::Tip},
};

/// How long hooks at Failed may still run after the end of the run's time. Together with the time between SIGTERM and SIGKILL, it is
/// less than [`GRACE`](crate::base::watch::GRACE).
const AFTERWARDS: Duration = Duration::from_secs(7);

/// The commit that hooks are started for, and its run.
#[derive(Clone, Copy)]
pub(super) struct Occasion<'a> {
    pub(super) repo: &'a gix::Repository,
    pub(super) under_way: &'a UnderWay<'a>,
    pub(super) tip: &'a Tip,
    /// The commit that hooks last succeeded for.
    pub(super) old: Option<ObjectId>,
    /// The commit that is live, or is to be.
    pub(super) new: ObjectId,
    /// The release that it is in; none in place.
    pub(super) located: Option<&'a Located>,
}

/// Run the hooks that are due once `fetched` is live, and the health check. A failure ends the run; the next trigger runs all of
/// them again.
pub(super) fn run_hooks(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &Stage<'_>),
    fetched: &fetch::Outcome,
    mut claim: Claim,
    reached: &Reached,
) -> Result<(), Error> {
    let target = under_way.target;
    let is_again = under_way.context.task == Task::Hooks;
    let has_changed = reached.has_changed() || is_again;
    let git_dir = repo.git_dir();
    let known = claim.state.hooks(target);
    let due = if has_changed {
        target.hooks_at(At::Live).collect()
    } else {
        known.due(target, fetched.commit)
    };
    let is_pending = has_changed || !due.is_empty() || !known.have_succeeded_for(fetched.commit);
    let hooks: Vec<usize> = target
        .hooks_at(At::Live)
        .filter(|hook| due.contains(hook) || target.hooks[*hook].is_for_every_run())
        .collect();
    if is_pending || !hooks.is_empty() {
        under_way.starts_hooks(is_pending)?;
    }
    if is_pending {
        settle(repo, (under_way, stage), fetched)?;
    }
    if is_pending || !hooks.is_empty() {
        let located = stage.located();
        let occasion = Occasion {
            repo,
            under_way,
            tip: &fetched.tip,
            // A failed hook has not seen the commits since it last succeeded; after a rollback, some have seen the replaced one.
            old: if is_again {
                // As for the first commit: all files count as changed.
                reached.left
            } else {
                reached.left.or(known.succeeded_for()).or(reached.old)
            },
            new: fetched.commit,
            located: located.as_ref(),
        };
        go_live(occasion, &hooks, &mut claim)?;
    }
    if is_pending {
        claim.state.succeeded(git_dir, target, fetched.commit)?;
    } else if !claim.state.knows(target) {
        claim.state.inherit(git_dir, target)?;
    }
    Ok(())
}

/// Run `hooks` for the live commit, and the health check.
pub(super) fn go_live(occasion: Occasion<'_>, hooks: &[usize], claim: &mut Claim) -> Result<(), Error> {
    let UnderWay { target, context, .. } = *occasion.under_way;
    let at = occasion.new.to_hex_with_len(7).to_string();
    let env = if hooks.is_empty() && target.asked().is_none() {
        BTreeMap::new()
    } else {
        environment(occasion, claim)
    };
    let round = Round::of(occasion, &env);
    for hook in hooks {
        context.watch.enter(Step::Hooks)?;
        round.run_one(*hook).map_err(|source| Error::Hook {
            source,
            at: at.clone(),
        })?;
    }
    if let Some(health) = &target.health {
        context.watch.enter(Step::Health)?;
        let program = |limit: Duration, events: &Sink| round.run(Which::Health, limit, events).map(drop);
        health::wait(health, &context.watch, &context.events, &program)
            .map_err(|source| Error::Unwell { source, at })?;
    }
    tidy(&env);
    Ok(())
}

/// Run the hooks at Build for the release of `occasion`, which is not live yet. Gives whether there are any.
pub(super) fn build(occasion: Occasion<'_>, claim: &mut Claim) -> Result<bool, Error> {
    let UnderWay { target, context, .. } = *occasion.under_way;
    let mut hooks = target.hooks_at(At::Build).peekable();
    let Some(located) = occasion.located.filter(|_| hooks.peek().is_some()) else {
        return Ok(false);
    };
    let env = environment(occasion, claim);
    let round = Round::of(occasion, &env);
    for hook in hooks {
        context.watch.enter(Step::Build)?;
        round.run_one(hook).map_err(|source| Error::Build { source })?;
    }
    tidy(&env);
    context.events.emit(Event::Built {
        release: located.id.to_string(),
    });
    Ok(true)
}

/// Run the hooks at Failed with the message of `failure`; one that fails does not stop the others. The run still has the lock, and
/// `located` is live.
pub(super) fn tell_failed(
    (target, context): (&Target, &Context),
    failure: &Failure,
    reached: &Reached,
    located: Option<&Located>,
) {
    let mut hooks = target.hooks_at(At::Failed).peekable();
    if context.dry_run || hooks.peek().is_none() {
        return;
    }
    // The step is shown even if the run's time is over.
    context.watch.enter(Step::Hooks).ok();
    let git_dir = target.site.git_dir();
    let hex = |id: ObjectId| OsString::from(id.to_string());
    let mut env = surroundings((target, context), located, &git_dir);
    let message = format!("{}: {}", failure.kind.as_str(), failure.message);
    let revision = target.origin.revision.to_string();
    env.extend([
        ("GITSOCKET_BRANCH".into(), revision.clone().into()),
        ("GITSOCKET_REVISION".into(), revision.into()),
        ("GITSOCKET_FAILURE".into(), message.into()),
    ]);
    env.extend(reached.old.map(|id| ("GITSOCKET_OLD".into(), hex(id))));
    let new = reached.new.or(reached.wanted);
    env.extend(new.map(|id| ("GITSOCKET_NEW".into(), hex(id))));
    let round = Round {
        target,
        context,
        located,
        git_dir: &git_dir,
        env: &env,
        old_new: (String::new(), String::new()),
        until: context.watch.until() + AFTERWARDS,
    };
    for hook in hooks {
        if Instant::now() >= round.until {
            context
                .events
                .warn("no time was left for the other hooks at Failed");
            break;
        }
        if let Err(err) = round.run_one(hook) {
            context.events.warn(format!("{err}; it is a hook at Failed"));
        }
    }
    tidy(&env);
}

/// The variable that names the directory for temporary files, see environ(7).
const TMPDIR: &str = "TMPDIR";

/// A hint for a user whose hook worked without a sandbox.
const CONFINED: &str = "hooks run in the sandbox: they may write to the target (with releases: to their own release and to `shared`) and to \
                        $TMPDIR, and read the system's programs; if that is why this one failed, write sandbox: (hooks: Outside)";

/// The values that several hooks of a run share.
struct Round<'a> {
    target: &'a Target,
    context: &'a Context,
    located: Option<&'a Located>,
    git_dir: &'a Path,
    env: &'a BTreeMap<String, OsString>,
    old_new: (String, String),
    /// When all of them have to have ended.
    until: Instant,
}

impl<'a> Round<'a> {
    fn of(occasion: Occasion<'a>, env: &'a BTreeMap<String, OsString>) -> Self {
        let Occasion { repo, old, new, .. } = occasion;
        let UnderWay { target, context, .. } = *occasion.under_way;
        let null = repo.object_hash().null();
        Self {
            target,
            context,
            located: occasion.located,
            git_dir: repo.git_dir(),
            env,
            old_new: (old.unwrap_or(null).to_string(), new.to_string()),
            until: context.watch.until(),
        }
    }

    fn run_one(&self, hook: usize) -> Result<(), hook::Error> {
        let context = self.context;
        let ended = self.run(Which::Hook(hook), Duration::MAX, &context.events);
        ended.map(drop).inspect_err(|err| {
            // A hook that took too long did not fail because of the sandbox.
            if context.sandbox.hooks_are_inside()
                && !matches!(err, hook::Error::Timeout { .. } | hook::Error::Late { .. })
            {
                context.events.warn(CONFINED);
            }
        })
    }

    fn run(&self, which: Which, limit: Duration, events: &Sink) -> Result<hook::Outcome, hook::Error> {
        let Self { target, context, .. } = *self;
        let written = self.written();
        let limits = |start: &mut (dyn FnMut() + Send)| match &written {
            Some(dirs) => context.sandbox.limit_writing(dirs, start),
            None => {
                start();
                Ok(())
            }
        };
        let options = hook::Options {
            target,
            located: self.located,
            git_dir: self.git_dir,
            env: self.env,
            old_new: &self.old_new,
            events,
            groups: &context.groups,
            starter: &context.starter,
            limits: Limits(&limits),
            until: self.until,
        };
        hook::run(which, limit, &options)
    }

    /// The directories that a hook inside the sandbox may write to, if it may write to less than the run.
    fn written(&self) -> Option<Vec<PathBuf>> {
        let site = &self.target.site;
        site.releases.as_ref()?;
        let own = self.located.map(|located| located.dir(site));
        let tmp = self.env.get(TMPDIR).map(PathBuf::from);
        let shared = site.path.as_path().join("shared");
        Some([own, tmp, Some(shared)].into_iter().flatten().collect())
    }
}

/// `GITSOCKET_*`, see the README.
fn environment(occasion: Occasion<'_>, claim: &mut Claim) -> BTreeMap<String, OsString> {
    let Occasion {
        repo,
        under_way,
        tip,
        old,
        new,
        located,
    } = occasion;
    let UnderWay { target, context, .. } = *under_way;
    let changed = hook::changed_files(repo.git_dir());
    if let Err(err) = whole::list_changes(repo, (old, new), &changed, (under_way, claim)) {
        context
            .events
            .warn(format!("cannot list the changed files for the hooks: {err}"));
        fs::remove_file(&changed).ok();
    }
    let branch = match tip {
        Tip::Branch(name) | Tip::Tag(name, _) => name.short(),
        Tip::Detached => "",
    };
    let revision = match branch {
        "" => new.to_string(),
        name => name.into(),
    };
    let null = repo.object_hash().null();
    let of_the_commit: [(&str, OsString); 5] = [
        ("GITSOCKET_BRANCH", branch.into()),
        ("GITSOCKET_REVISION", revision.into()),
        ("GITSOCKET_OLD", old.unwrap_or(null).to_string().into()),
        ("GITSOCKET_NEW", new.to_string().into()),
        ("GITSOCKET_CHANGED_FILES", changed.into()),
    ];
    let mut env = surroundings((target, context), located, repo.git_dir());
    env.extend(of_the_commit.map(|(name, value)| (name.into(), value)));
    env
}

/// The environment that does not depend on the commit.
fn surroundings(
    (target, context): (&Target, &Context),
    located: Option<&Located>,
    git_dir: &Path,
) -> BTreeMap<String, OsString> {
    let mut env = hook::fixed(target, located);
    env.insert("GITSOCKET_RUN".into(), context.run.as_str().into());
    if context.sandbox.hooks_are_inside() {
        // The sandbox denies the system's /tmp. Files that a failed hook has left are removed.
        let dir = hook::scratch(git_dir);
        descent::remove_all(&dir).ok();
        match fs::create_dir_all(&dir) {
            Ok(()) => drop(env.insert(TMPDIR.into(), dir.into())),
            Err(err) => context
                .events
                .warn(format!("cannot make {}: {err}", dir.display())),
        }
    }
    env
}

fn tidy(env: &BTreeMap<String, OsString>) {
    if let Some(dir) = env.get(TMPDIR) {
        descent::remove_all(dir.as_ref()).ok();
    }
}
