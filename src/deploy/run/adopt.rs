//! Whether a worktree is ours. A worktree that gitsocket has not made may hold files and commits that exist nowhere else: the
//! first run stops before it removes them, unless the user has asked for adoption.

use std::{fs, path::Path};

use gix::ObjectId;

use super::{Error, NO_MARK, UnderWay, error::Refused, update_options};
use crate::{
    base::{
        report::{Lost, Named},
        words::typed,
    },
    config::Target,
    deploy::{hook, state::State},
    git::{dropped, fetch, heal, refs, repository, worktree},
};

/// Whether the worktree of a run is ours, with the recorded state.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) state: State,
    /// The newest commit of the remote at the fetch before this run.
    pub(super) before: Option<ObjectId>,
    /// Why the run would stop, if it were not a dry run.
    refused: Option<Refused>,
}

impl Claim {
    /// The claim on the worktree of the repository at `git_dir`.
    pub(super) fn of(git_dir: &Path) -> Self {
        Self {
            state: State::read(git_dir),
            before: None,
            refused: None,
        }
    }

    /// Record that the worktree is ours, unless it is foreign and would lose something by what was `fetched`. Gives whether it is
    /// ours; a dry run never takes a foreign one.
    pub(super) fn admit(
        &mut self,
        repo: &gix::Repository,
        fetched: &fetch::Outcome,
        under_way: &UnderWay<'_>,
    ) -> Result<bool, Error> {
        if self.state.is_ours() {
            return Ok(true);
        }
        let UnderWay { target, context, .. } = *under_way;
        if !target.adopt
            && !is_known(repo.git_dir(), target)
            && let Some(refused) = losses(repo, fetched, under_way)?
        {
            if context.dry_run {
                self.refused = Some(refused)
            } else {
                return Err(refused.into());
            }
        }
        if context.dry_run {
            // No ref needs the pack of a dry run.
            fetched.keep.iter().for_each(|keep| drop(fs::remove_file(keep)));
            return Ok(false);
        }
        self.state.claim(repo.git_dir(), target.site.fsync)?;
        Ok(true)
    }

    /// Whether the answer is known before the fetch: the worktree is ours, or may be adopted.
    pub(super) fn is_settled(&self, under_way: &UnderWay<'_>) -> bool {
        let UnderWay { target, .. } = *under_way;
        self.state.is_ours() || target.adopt || is_known(under_way.git_dir(), target)
    }

    /// An error if the repository must not be mended, since it is not ours.
    pub(super) fn may_mend(&self, under_way: &UnderWay<'_>) -> Result<(), Error> {
        let (target, git_dir) = (under_way.target, under_way.git_dir());
        if heal::is_begun(git_dir) || self.is_settled(under_way) {
            return Ok(());
        }
        // If it cannot be opened at all, that error is the better one.
        repository::open(git_dir)?;
        Err(damaged(target).into())
    }

    /// The result of a dry run.
    pub(super) fn rehearsed(self) -> Result<(), Error> {
        self.refused.map_or(Ok(()), |refused| Err(refused.into()))
    }
}

/// Whether an older version, which did not record that, has deployed here. If no hook ever succeeded, it has left the list of
/// changed files.
fn is_known(git_dir: &Path, target: &Target) -> bool {
    fs::symlink_metadata(hook::changed_files(git_dir)).is_ok_and(|list| list.is_file())
        || refs::is_deployed(git_dir, &target.origin.remote)
}

/// What a run that deploys what was `fetched` would lose.
fn losses(
    repo: &gix::Repository,
    fetched: &fetch::Outcome,
    under_way: &UnderWay<'_>,
) -> Result<Option<Refused>, Error> {
    let UnderWay { target, context, .. } = *under_way;
    let mut held = refs::staying(repo, &fetched.tip);
    held.push(fetched.commit);
    let tips = refs::moving(repo, &fetched.tip);
    let commits = dropped::dropped(repo, &tips, &held, context.watch.over()).commits;
    // A release that was never deployed has nothing to lose.
    let stage = match target.site.releases {
        Some(_) => None,
        None => Some(under_way.stage()?),
    };
    let files = match stage.map(|stage| {
        let options = update_options(under_way, &stage, NO_MARK);
        worktree::losses(repo, (refs::head(repo), fetched.commit), &options)
    }) {
        None => Lost::default(),
        // Objects may be missing, as in a partial clone, if there are no files to compare with them.
        Some(Err(worktree::Error::Object { .. })) if has_no_files(target.site.root().as_path()) => {
            Lost::default()
        }
        Some(Err(worktree::Error::Object { .. })) => return Ok(Some(damaged(target))),
        Some(files) => files?,
    };
    if commits.is_empty() && files.is_empty() {
        return Ok(None);
    }
    let Lost { edited, untracked } = &files;
    let what = [
        ("edited files", edited),
        ("untracked files", untracked),
        ("commits in no remote", &commits),
    ];
    let what = what.iter().filter(|(_, named)| !named.is_empty());
    let what: Vec<String> = what
        .map(|(what, named): &(&str, &Named)| format!("{what}: {}", named.line()))
        .collect();
    let stays = if untracked.is_empty() {
        ""
    } else {
        ", or name untracked files that are to stay in `keep`"
    };
    Ok(Some(Refused::Loses {
        path: target.site.path.to_string(),
        what: what.join("; "),
        help: format!("push or copy away what is needed{stays}; then {}", how(target)),
    }))
}

fn damaged(target: &Target) -> Refused {
    Refused::Damaged {
        path: target.site.path.to_string(),
        help: format!("see git fsck; or, to have them fetched again, {}", how(target)),
    }
}

/// Whether a worktree holds nothing but its repository.
fn has_no_files(root: &Path) -> bool {
    fs::read_dir(root)
        .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == ".git")))
}

/// What to do to adopt the worktree.
fn how(target: &Target) -> String {
    match &target.given {
        Some(words) => format!(
            "type: gitsocket once {words} --adopt; or, for a daemon: gitsocket server {words} --adopt"
        ),
        None => {
            let file = target.file.iter().map(|file| file.display().to_string());
            let words = [target.trigger.to_string()].into_iter();
            let words = typed(words.chain(file.flat_map(|file| ["-c".into(), file])));
            format!("type: gitsocket once --adopt {words}; or write adopt: true into the trigger")
        }
    }
}
