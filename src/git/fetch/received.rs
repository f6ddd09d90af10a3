//! Objects are received, looked through, and taken out again if they turn out to be incomplete.

use std::{collections::HashSet, fs, io, num::NonZeroU32, path::PathBuf, sync::Arc};

use gix::{
    ObjectId,
    bstr::ByteSlice as _,
    remote::{fetch, ref_map},
};

use super::{
    Context, Error, Found, Outcome, Tip, asked::of_cause, complete, depth, holding_ref, progress::Progress,
};
use crate::{
    base::{
        bounded,
        durable::{Access, Flush, Replace},
        mutex,
    },
    git::{
        intake::{self, Intake, Receiving},
        repository::Sharing,
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
        let shallow = depth::wanted(self.repo, options.depth);
        let progress = Progress::new(options.report);
        let fatal = progress.fatal();
        let before = Received::before(self.repo);
        let received = prepared.with_shallow(shallow).receive(progress, options.over);
        // It says more than gitoxide, which was told only that there is no pack.
        let received = match intake.outcome() {
            Err(err) => Err(self.not_taken_in(&err)),
            Ok(taken) => received
                .map_err(|err| match mutex::lock(&fatal).take() {
                    Some(said) => self.asked.refused(said),
                    None => self.asked.failed(&err),
                })
                .map(|outcome| (outcome.status, taken)),
        };
        if !self.options.depth.is_bounded() && self.options.deployed.is_some() && before.has_no_bound() {
            // A remote that has lost its history does not cut off ours; whether all came is looked at next.
            drop(fs::remove_file(&before.shallow));
        }
        Sharing::of(self.repo).path(&before.shallow);
        match received.inspect_err(|_| before.discard())? {
            (fetch::Status::Change { .. }, taken) => Ok(before.and(taken)),
            (fetch::Status::NoPackReceived { .. }, _) => Ok(before),
        }
    }

    /// Whether the remote gives the commit `id`: asked as a fetch asks, up to the beginning of its pack.
    pub(super) fn ask_for(&self, id: ObjectId) -> Result<(), Error> {
        let limits = intake::Limits {
            // A pack has a header at least, which is more.
            max_pack: 0,
            max_blob: 0,
            deadline: self.options.deadline,
        };
        let intake = Arc::new(Intake::new(self.repo, limits, self.options.report));
        let spec = id.to_string();
        let prepared = self
            .remote([spec.as_str().into()])?
            .to_connection_with_transport(Receiving::new(self.asked.connect()?, intake.clone()))
            .with_credentials(|_| Ok(None))
            .prepare_fetch(Progress::new(self.options.report), ref_map::Options::default())
            .map_err(|err| self.asked.failed(&err))?;
        let progress = Progress::new(self.options.report);
        let fatal = progress.fatal();
        let shallow = fetch::Shallow::DepthAtRemote(NonZeroU32::MIN);
        let received = prepared
            .with_shallow(shallow)
            .receive(progress, self.options.over);
        match (intake.outcome(), received) {
            (Err(intake::Error::Pack { .. }), _) | (Ok(_), Ok(_)) => Ok(()),
            (Err(err), _) => Err(self.not_taken_in(&err)),
            (Ok(_), Err(err)) => Err(match mutex::lock(&fatal).take() {
                Some(said) => self.asked.refused(said),
                None => self.asked.failed(&err),
            }),
        }
    }

    fn not_taken_in(&self, err: &intake::Error) -> Error {
        match err {
            intake::Error::Damaged { .. } | intake::Error::Base { .. } => Error::Damaged {
                repo: self.asked.url(),
                reason: err.to_string(),
            },
            err => of_cause(err),
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
            // What was complete within the old bound of history may not be within a new one.
            _ if received.is_some_and(Received::lifts_the_bound) => Vec::new(),
            Some(deployed) => vec![deployed],
            None => self.others(&found.tip),
        };
        complete::check(self.repo, &[found.object], &known, self.options.over).map_err(|missing| {
            Error::Incomplete {
                repo: self.asked.url(),
                missing,
                received: received.is_some_and(|received| received.is_pack),
            }
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
    /// Where the boundary is written before it gets its name.
    temporary: PathBuf,
    before: Before,
}

/// The boundary of history before a fetch.
#[derive(Debug, PartialEq, Eq)]
enum Before {
    None,
    Lines(Vec<u8>),
    /// It could not be read: it stays as it is.
    Unknown,
}

impl Received {
    /// Nothing was received yet.
    pub(super) fn before(repo: &gix::Repository) -> Self {
        let shallow = repo.common_dir().join("shallow");
        Self {
            keep: None,
            whole: None,
            is_pack: false,
            before: match bounded::read(&shallow, bounded::LIST) {
                Ok(lines) => Before::Lines(lines),
                Err(err) if err.kind() == io::ErrorKind::NotFound => Before::None,
                Err(_) => Before::Unknown,
            },
            temporary: repo.common_dir().join("gitsocket/shallow.tmp"),
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
    /// does no harm: no ref leads to it, and a run that finds it there looks whether it is complete.
    pub(super) fn discard(&self) {
        // First: without the pack, the old boundary is the only one that holds.
        drop(self.restore());
        if let Some(keep) = &self.keep {
            for extension in ["idx", "pack", "keep"] {
                drop(fs::remove_file(keep.with_extension(extension)));
            }
        }
    }

    fn restore(&self) -> io::Result<()> {
        match &self.before {
            Before::None => fs::remove_file(&self.shallow),
            Before::Lines(lines)
                if bounded::read(&self.shallow, bounded::LIST).is_ok_and(|now| now == *lines) =>
            {
                Ok(())
            }
            Before::Lines(lines) => {
                Replace::by(&self.temporary, Access::Usual, Flush::Nothing).write(&self.shallow, lines)
            }
            Before::Unknown => Ok(()),
        }
    }

    fn has_no_bound(&self) -> bool {
        self.before == Before::None
    }

    /// Whether a commit whose parents were not here is no longer said to lack them.
    fn lifts_the_bound(&self) -> bool {
        let Before::Lines(before) = &self.before else {
            return false;
        };
        let now = bounded::read(&self.shallow, bounded::LIST).unwrap_or_default();
        let now: HashSet<&[u8]> = now.lines().collect();
        before.lines().any(|line| !now.contains(line))
    }
}
