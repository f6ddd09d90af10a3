//! Objects are received, looked through, and taken out again if they turn out to be incomplete.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gix::{ObjectId, remote::fetch};

use super::{Context, Error, Found, Outcome, Tip, complete, holding_ref, of_room, progress::Progress};
use crate::{
    base::{
        bounded,
        durable::{Access, Flush, Replace},
        mutex,
    },
    git::{
        intake::{self, Intake, Receiving},
        transport,
    },
};

/// A fetch of which the refs are known.
type Prepare<'r> = fetch::Prepare<'static, 'r, Receiving<Box<dyn transport::Transport + Send>>>;

impl Context<'_> {
    /// What an earlier run fetched. Where that run went no further, it may have been one that did not look.
    pub(super) fn known(&self, found: Found) -> Result<Outcome, Error> {
        let commit = self.peel(&found);
        if !matches!(commit, Ok(commit) if self.options.deployed == Some(commit)) {
            self.check(&found, None)?;
        }
        Ok(Outcome {
            commit: commit?,
            tip: found.tip,
            keep: None,
        })
    }

    /// Fetch the objects that are not here.
    pub(super) fn receive(&self, prepared: Prepare<'_>, intake: &Intake) -> Result<Received, Error> {
        let options = self.options;
        options.begin.begin().map_err(|source| Error::Store {
            path: self.repo.git_dir().into(),
            source,
        })?;
        let shallow = options
            .depth
            .map_or(fetch::Shallow::NoChange, fetch::Shallow::DepthAtRemote);
        let progress = Progress::new(options.report);
        let fatal = progress.fatal();
        let before = Received::before(self.repo);
        let received = prepared.with_shallow(shallow).receive(progress, options.over);
        // It says more than gitoxide, which was told only that there is no pack.
        let received = match intake.outcome() {
            Err(err) => Err(self.not_taken_in(&err)),
            Ok(taken) => received
                .map_err(|err| match mutex::lock(&fatal).take() {
                    Some(said) => self.refused(said),
                    None => self.failed(&err),
                })
                .map(|outcome| (outcome.status, taken)),
        };
        match received.inspect_err(|_| before.discard())? {
            (fetch::Status::Change { .. }, taken) => Ok(before.and(taken)),
            (fetch::Status::NoPackReceived { .. }, _) => Ok(before),
        }
    }

    fn not_taken_in(&self, err: &intake::Error) -> Error {
        match err {
            intake::Error::Damaged { .. } | intake::Error::Base { .. } => Error::Damaged {
                repo: self.url(),
                reason: err.to_string(),
            },
            err => of_room(err),
        }
    }

    /// What refs point to, except the one that is to hold what was fetched.
    fn others(&self, tip: &Tip) -> Vec<ObjectId> {
        let held_by = holding_ref(&self.options.origin.remote, tip);
        let refs = self.repo.references().ok();
        let Some(Ok(refs)) = refs.as_ref().map(|refs| refs.all()) else {
            return Vec::new();
        };
        refs.filter_map(Result::ok)
            .filter(|r| r.name().as_bstr() != held_by.as_str())
            .filter_map(|r| r.target().try_id().map(ToOwned::to_owned))
            .collect()
    }

    /// Whether everything that the found object leads to is here.
    pub(super) fn check(&self, found: &Found, received: Option<&Received>) -> Result<(), Error> {
        let whole = received.and_then(|received| received.whole.as_ref());
        if whole.is_some_and(|whole| complete::is_in(self.repo, found.object, whole)) {
            return Ok(());
        }
        // The other refs are many, as a rule, and tell nothing more.
        let known = match self.options.deployed {
            Some(deployed) => vec![deployed],
            None => self.others(&found.tip),
        };
        complete::check(self.repo, &[found.object], &known).map_err(|missing| Error::Incomplete {
            repo: self.url(),
            missing,
            received: received.is_some_and(|received| received.is_pack),
        })
    }
}

/// A pack that was received, and the boundary of history as it was before.
#[derive(Debug)]
pub(super) struct Received {
    /// The pack's `.keep`, if it is a new one.
    pub(super) keep: Option<PathBuf>,
    /// The pack, if it lacks nothing.
    whole: Option<intake::Whole>,
    /// Whether the remote sent a pack, be it one that was here already.
    is_pack: bool,
    shallow: PathBuf,
    /// The boundary's content; without, there was none.
    before: Option<Vec<u8>>,
}

impl Received {
    /// Nothing was received yet.
    pub(super) fn before(repo: &gix::Repository) -> Self {
        let shallow = repo.common_dir().join("shallow");
        Self {
            keep: None,
            whole: None,
            is_pack: false,
            before: bounded::read(&shallow, bounded::LIST).ok(),
            shallow,
        }
    }

    pub(super) fn and(self, intake::Taken { keep, whole }: intake::Taken) -> Self {
        Self {
            is_pack: true,
            keep,
            whole,
            ..self
        }
    }

    /// Remove all of it. The index first: a kill leaves a pack without one, which recovery removes. What cannot be removed
    /// does no harm: no ref leads to it, and whoever finds it there looks whether it is complete.
    pub(super) fn discard(&self) {
        if let Some(keep) = &self.keep {
            for extension in ["idx", "pack", "keep"] {
                drop(fs::remove_file(keep.with_extension(extension)));
            }
        }
        drop(restore(&self.shallow, self.before.as_deref()));
    }
}

fn restore(shallow: &Path, before: Option<&[u8]>) -> std::io::Result<()> {
    let Some(before) = before else {
        return fs::remove_file(shallow);
    };
    if bounded::read(shallow, bounded::LIST).is_ok_and(|now| now == before) {
        return Ok(());
    }
    Replace::by(&shallow.with_extension("lock"), Access::Usual, Flush::Nothing).write(shallow, before)
}
