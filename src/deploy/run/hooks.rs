//! The hooks of a run: which of them are due, what they are told, and what is remembered of them.

use std::{collections::BTreeMap, ffi::OsString, fs};

use gix::ObjectId;

use super::{Error, Reached, UnderWay, adopt::Claim, settle, whole};
use crate::{
    base::{descent, event::Step},
    deploy::{hook, stage::Stage},
    git::{fetch, refs::Tip},
};

/// Run the hooks that are due. One that fails ends the run; all of them run again at the next trigger.
pub(super) fn run_hooks(
    repo: &gix::Repository,
    (under_way, stage): (&UnderWay<'_>, &Stage<'_>),
    fetched: &fetch::Outcome,
    mut claim: Claim,
    reached: &Reached,
) -> Result<(), Error> {
    let UnderWay { target, context, .. } = *under_way;
    let has_changed = reached.has_changed();
    let git_dir = repo.git_dir();
    let known = claim.state.hooks(target);
    let due = match has_changed {
        false => known.due(target, fetched.commit),
        true => (0..target.hooks.len()).collect(),
    };
    let is_owed = has_changed || !due.is_empty() || !known.have_succeeded_for(fetched.commit);
    let hooks: Vec<usize> = (0..target.hooks.len())
        .filter(|hook| due.contains(hook) || target.hooks[*hook].is_for_every_run())
        .collect();
    if is_owed || !hooks.is_empty() {
        under_way.starts_hooks(is_owed)?;
    }
    if is_owed {
        settle(repo, (under_way, stage), fetched)?;
    }
    if !hooks.is_empty() {
        // A failed hook has not seen the commits since it last succeeded.
        let old = known.succeeded_for().or(reached.old);
        let env = environment(repo, (under_way, &mut claim), fetched, old);
        let hex = |id: Option<ObjectId>| id.unwrap_or(repo.object_hash().null()).to_string();
        let options = hook::Options {
            target,
            git_dir,
            env: &env,
            old_new: &(hex(old), hex(Some(fetched.commit))),
            events: &context.events,
            groups: &context.groups,
            starter: &context.starter,
            until: context.watch.until(),
        };
        for hook in hooks {
            context.watch.enter(Step::Hooks)?;
            hook::run(hook, &options).map_err(|source| {
                // One that took too long was not refused anything.
                if context.sandbox.hooks_are_inside()
                    && !matches!(source, hook::Error::Timeout { .. } | hook::Error::Late { .. })
                {
                    context.events.warn(CONFINED);
                }
                Error::Hook {
                    source,
                    at: fetched.commit.to_hex_with_len(7).to_string(),
                }
            })?;
        }
        if let Some(dir) = env.get(TMPDIR) {
            descent::remove_all(dir.as_ref()).ok();
        }
    }
    if is_owed {
        claim.state.succeeded(git_dir, target, fetched.commit)?;
    } else if !claim.state.knows(target) {
        claim.state.inherit(git_dir, target)?;
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
    (under_way, claim): (&UnderWay<'_>, &mut Claim),
    fetched: &fetch::Outcome,
    old: Option<ObjectId>,
) -> BTreeMap<String, OsString> {
    let UnderWay { target, context, .. } = *under_way;
    let changed = hook::changed_files(repo.git_dir());
    if let Err(err) = whole::list_changes(repo, (old, fetched.commit), &changed, (under_way, claim)) {
        context
            .events
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
