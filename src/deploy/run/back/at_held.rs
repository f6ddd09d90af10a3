//! The newest commit is held: the run does not deploy it, but finishes a rollback that was interrupted.

use gix::ObjectId;

use super::{
    super::{
        Error, Reached, UnderWay,
        adopt::Claim,
        older::{self, Wanted},
    },
    Refused, ended, go, short,
};
use crate::{
    base::{
        event::{Task, Why},
        fault::Kind,
        words::typed,
    },
    config::Target,
    deploy::{held::Holds, stage::Stage},
    git::{fetch, refs},
};

/// How a run ends that deploys an older commit, since the newest one is held.
pub(in crate::deploy::run) enum Ending {
    /// With an error: nothing was live, so the older commit was deployed.
    Refused(Refused),
    /// Well: the hooks of the older commit were to run again.
    Again,
}

impl Ending {
    pub(in crate::deploy::run) fn end(self) -> Result<(), Error> {
        match self {
            Self::Refused(refused) => Err(refused.into()),
            Self::Again => Ok(()),
        }
    }
}

/// Do not deploy what was `fetched` if it is held; finish a rollback that was interrupted.
///
/// If nothing is live any more, `fetched` becomes the commit that replaced the held one; if hooks are to run again, it becomes the
/// live commit. The run deploys that, and then ends as the returned value says.
pub(in crate::deploy::run) fn stop_at_held(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &mut Stage<'_>),
    fetched: &mut fetch::Outcome,
    (claim, reached): (&Claim, &mut Reached),
) -> Result<Option<Ending>, Error> {
    let UnderWay { target, context, .. } = *under_way;
    let git_dir = under_way.git_dir();
    let Some(holds) = Holds::read(git_dir) else {
        return Ok(None);
    };
    let commit = fetched.commit;
    let Some(held) = holds.find(commit).cloned() else {
        return Ok(None);
    };
    // The version before does not know held commits: it may have deployed this one, with success.
    let is_good = reached.old == Some(commit) && claim.state.hooks(target).have_succeeded_for(commit);
    if context.task == Task::Retry || is_good {
        if !context.dry_run {
            let tip = refs::holding_ref(&target.origin.remote, &fetched.tip);
            holds.lift(git_dir, (&tip, commit), target.site.fsync)?;
        }
        return Ok(None);
    }
    let refused = |done| Refused::Held {
        held: Box::new(held.clone()),
        done,
        trigger: target.trigger.to_string(),
        once: once(target),
    };
    let live = holds.live().filter(|live| repo.has_object(*live));
    if reached.old.is_none()
        && let Some(live) = live
        && !context.dry_run
    {
        fetched.commit = live;
        return Ok(Some(Ending::Refused(refused(Some(format!(
            "nothing was live: {0}, the last good one, was deployed again",
            short(live)
        ))))));
    }
    // The task `Hooks` runs all hooks of the live commit again.
    let is_again = |live: &ObjectId| context.task == Task::Hooks && reached.old == Some(*live);
    let is_due = |live: &ObjectId| {
        !context.dry_run && !is_again(live) && is_unfinished(&holds, *live, reached.old, (under_way, claim))
    };
    let Some(live) = live.filter(is_due) else {
        return match reached.old.filter(is_again) {
            Some(live) if !context.dry_run => {
                context.events.warn(format!(
                    "{} is held; the hooks of {}, which is live, run again",
                    short(commit),
                    short(live)
                ));
                fetched.commit = live;
                Ok(Some(Ending::Again))
            }
            _ => Err(refused(None).into()),
        };
    };
    // Its release may have been removed since.
    let live = if stage.is_in_place() || stage.has_release(live) {
        live
    } else {
        older::find(repo, (under_way, stage), Wanted::Good(&holds))?.ok_or_else(|| refused(None))?
    };
    let was_live = reached.old == Some(live);
    // If `live` is deployed already and only hooks are missing, the held commit is the one that it replaced.
    let left = reached.old.filter(|old| *old != live).unwrap_or(commit);
    let went = go(repo, (under_way, stage), (left, live), reached);
    let done = || {
        under_way.leaves_no_hooks_pending();
        let done = format!("what was pending for {}, which is live, is done now", short(live));
        Err(refused(Some(done)).into())
    };
    let kind = match held.kind {
        // The run that rolled back has reported it already.
        Why::Hook | Why::Unhealthy if was_live && went.is_ok() => return done(),
        Why::Hook => Kind::Hook,
        Why::Unhealthy => Kind::Unhealthy,
        Why::ByHand => {
            went?;
            return done();
        }
    };
    Err(ended(under_way, (live, kind, held.message), went, reached))
}

/// Whether a rollback to `live` was interrupted: a held commit is still deployed, or hooks of `live` are pending. If another trigger
/// has deployed another commit meanwhile, that stays.
fn is_unfinished(
    holds: &Holds,
    live: ObjectId,
    deployed: Option<ObjectId>,
    (under_way, claim): (&UnderWay<'_>, &Claim),
) -> bool {
    let target = under_way.target;
    match deployed {
        Some(deployed) if deployed == live => {
            let hooks = claim.state.hooks(target);
            !hooks.have_succeeded_for(live) || claim.state.has_pending_hooks(target, live)
        }
        Some(deployed) => holds.find(deployed).is_some(),
        None => false,
    }
}

/// What to type to try again without a daemon.
fn once(target: &Target) -> String {
    match &target.given {
        Some(words) => format!("gitsocket once {words} --retry"),
        None => {
            let file = target.file.iter().map(|file| file.display().to_string());
            let words = ["gitsocket", "once", "--retry", target.trigger.as_str()].map(str::to_owned);
            typed(words.into_iter().chain(file.flat_map(|file| ["-c".into(), file])))
        }
    }
}
