//! Brings back objects that are missing or damaged in a target's own repository, within the run that meets them.
//!
//! Everything is fetched again, into a repository without objects: the usual negotiation would offer what is damaged, and
//! ask for nothing where the tip exists. What came is looked through, and only then appears beside the rest. Damaged packs
//! are moved aside, with what only they have and refs need kept; a ref that needs what is lost goes, by name.
//! Only what was read and is wrong is damaged: where something may not be read, or a disk is not mounted, healing stops.
//!
//! All of it is in `gitsocket/heal` below the git directory: as long as that says not that it is settled, the next run
//! begins again, so that a kill anywhere does no harm. It goes when a run has succeeded.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use crate::{
    base::{durable, report::Reporter},
    git::{
        fetch::{self, complete},
        origin::Origin,
        repository::{self, Sharing},
    },
};

mod error;
mod packs;
mod rescue;
mod text;
mod unread;
mod workshop;

pub use error::Error;
use workshop::{ALTERNATES, Workshop};

/// Whether an earlier run began to heal the repository at `git_dir`, and was killed.
pub fn is_begun(git_dir: &Path) -> bool {
    let workshop = Workshop::of(git_dir);
    fs::symlink_metadata(&workshop.dir).is_ok() && fs::symlink_metadata(workshop.settled()).is_err()
}

/// Remove what healing has left. A run has succeeded.
pub fn finish(git_dir: &Path) {
    let workshop = Workshop::of(git_dir);
    if fs::symlink_metadata(&workshop.dir).is_ok() {
        // What cannot be removed now is removed after the next run.
        drop(remove(&workshop.dir));
    }
}

/// Whether what the refs of the repository at `git_dir` lead to is here, and its packs are as they were written.
pub fn is_sound(git_dir: &Path) -> bool {
    repository::open(git_dir).is_ok_and(|repo| is_whole(&repo) && damaged_lenders(&repo).is_empty())
}

fn is_whole(repo: &gix::Repository) -> bool {
    let tips = repo.references().ok().and_then(|refs| {
        let refs = refs.all().ok()?.collect::<Result<Vec<_>, _>>().ok()?;
        Some(
            refs.iter()
                .filter_map(|r| r.target().try_id().map(ToOwned::to_owned))
                .collect::<Vec<_>>(),
        )
    });
    repo.shallow_commits().is_ok()
        && packs::are_sound(&repo.git_dir().join("objects"), repo.object_hash())
        && tips.is_some_and(|tips| complete::check(repo, &tips, &[], &AtomicBool::new(false)).is_ok())
}

/// Heal the repository at `git_dir`. `fetch` is given a repository without objects.
///
/// What is deployed next is what `fetch` has found, which may be newer than what was to be deployed.
pub fn heal(
    git_dir: &Path,
    (origin, fsync): (&Origin, bool),
    report: &Reporter,
    fetch: impl FnOnce(&gix::Repository) -> Result<fetch::Outcome, fetch::Error>,
) -> Result<(gix::Repository, fetch::Outcome), Error> {
    if !git_dir.join("objects").is_dir() {
        // That was no repository.
        repository::open(git_dir)?;
    }
    unread::check(git_dir)?;
    let workshop = Workshop::of(git_dir);
    begin(&workshop)?;
    for damage in text::mend(&workshop, origin)? {
        report.warn(damage);
    }
    let repo = repository::open(git_dir)?;
    let is_partial = is_partial(&repo);
    let scratch = ScratchRepo::new(&workshop, repo.object_hash())?;
    let fetched = fetch(&scratch.0)?;
    install(&workshop, &scratch, &fetched, fsync)?;
    drop((scratch, repo));

    packs::put_aside(&workshop, repository::open(git_dir)?.object_hash())?;
    // In a partial clone, what is missing is missing on purpose.
    if !is_partial {
        let lenders = repository::lenders(git_dir);
        let damaged = stop_borrowing(&workshop)?;
        let repo = repository::open(git_dir)?;
        let from = rescue::From {
            copied: if damaged.is_some() { &lenders } else { &[] },
            away: unread::away(&lenders),
        };
        let lost = rescue::rescue(&workshop, &repo, from, &fetched, fsync);
        if lost.is_err() {
            borrow_again(&workshop)?;
        }
        lost?.into_iter().for_each(|lost| report.warn(lost));
        if let Some(lender) = damaged {
            report.warn(format!(
                "objects in {}, which this repository borrowed, are missing or damaged: what it needs was copied, and it \
                 borrows no more",
                lender.display()
            ));
        }
    }
    settle(&workshop)?;
    report.warn("objects of the repository were missing or damaged: they were fetched again");
    let fetched = fetch::Outcome {
        keep: None,
        ..fetched
    };
    let repo = repository::open(git_dir)?;
    let sharing = Sharing::of(&repo);
    for name in text::FILES
        .iter()
        .filter(|name| workshop.aside().join(name).exists())
    {
        sharing.path(&git_dir.join(name));
    }
    Ok((repo, fetched))
}

/// From here on, a run that is killed is begun again.
fn begin(workshop: &Workshop) -> Result<(), Error> {
    let aside = workshop.aside();
    fs::create_dir_all(&aside).map_err(Error::io("create", &aside))?;
    borrow_again(workshop)?;
    let settled = workshop.settled();
    durable::remove(&settled).map_err(Error::io("remove", &settled))?;
    Ok(())
}

/// Not all that it borrows may have been copied.
fn borrow_again(workshop: &Workshop) -> Result<(), Error> {
    let (alternates, kept) = (workshop.alternates(), workshop.aside().join(ALTERNATES));
    if fs::symlink_metadata(&kept).is_ok() && fs::symlink_metadata(&alternates).is_err() {
        fs::rename(&kept, &alternates).map_err(Error::io("create", &alternates))?;
    }
    Ok(())
}

fn settle(workshop: &Workshop) -> Result<(), Error> {
    let settled = workshop.settled();
    fs::write(&settled, "").map_err(Error::io("write", &settled))
}

/// The object directories that `repo` borrows from and in which something is not as it was written, or is missing to the
/// refs beside them: a fetch reads those, too.
fn damaged_lenders(repo: &gix::Repository) -> Vec<PathBuf> {
    let mut lenders = repository::lenders(repo.git_dir());
    lenders.retain(|objects| {
        let lender = objects
            .parent()
            .and_then(|git_dir| repository::open(git_dir).ok());
        match lender {
            Some(lender) => !is_whole(&lender),
            None => !packs::are_sound(objects, repo.object_hash()),
        }
    });
    lenders
}

/// Let the repository borrow no more if a lender is damaged: what is damaged there would be read rather than what was
/// fetched, and can be mended by its owner only. Gives the first such; what refs need is then copied from all of them.
fn stop_borrowing(workshop: &Workshop) -> Result<Option<PathBuf>, Error> {
    let damaged = damaged_lenders(&repository::open(&workshop.git_dir)?);
    let Some(first) = damaged.into_iter().next() else {
        return Ok(None);
    };
    workshop.put_aside(&workshop.alternates(), ALTERNATES)?;
    Ok(Some(first))
}

struct ScratchRepo(gix::Repository);

impl ScratchRepo {
    fn new(workshop: &Workshop, hash: gix::hash::Kind) -> Result<Self, Error> {
        let dir = workshop.scratch();
        remove(&dir)?;
        let config = match hash {
            gix::hash::Kind::Sha1 => "[core]\n\trepositoryformatversion = 0\n\tbare = true\n".to_owned(),
            other => format!(
                "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = {other}\n"
            ),
        };
        Ok(Self(repository::init(&dir, &config)?))
    }
}

impl Drop for ScratchRepo {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        drop(remove(self.0.git_dir()));
    }
}

/// Let the pack that was fetched appear: its index last, which makes it count. Then the boundary of history.
fn install(
    workshop: &Workshop,
    scratch: &ScratchRepo,
    fetched: &fetch::Outcome,
    fsync: bool,
) -> Result<(), Error> {
    let pack_dir = workshop.pack_dir();
    fs::create_dir_all(&pack_dir).map_err(Error::io("create", &pack_dir))?;
    if let Some(keep) = &fetched.keep {
        let parts = ["pack", "idx"].map(|extension| keep.with_extension(extension));
        if fsync {
            durable::files(parts.iter().map(PathBuf::as_path)).map_err(Error::io("flush", keep))?;
        }
        let sharing = Sharing::of(&repository::open(&workshop.git_dir)?);
        for part in &parts {
            sharing.path(part);
            // One of the same name has the same content, or had.
            let to = pack_dir.join(part.file_name().unwrap_or_default());
            fs::rename(part, &to).map_err(Error::io("create", &to))?;
        }
        if fsync {
            fs::File::open(&pack_dir)
                .and_then(|dir| dir.sync_all())
                .map_err(Error::io("flush", &pack_dir))?;
        }
    }
    text::add_cuts(workshop, &text::cuts(&scratch.0.git_dir().join("shallow")))
}

/// Whether objects are missing on purpose: a partial clone, see gitrepository-layout(5) and partial-clone.
fn is_partial(repo: &gix::Repository) -> bool {
    let config = repo.config_snapshot();
    let promised = config
        .plumbing()
        .sections_by_name("remote")
        .into_iter()
        .flatten()
        .any(|section| section.value("promisor").is_some());
    promised || config.string("extensions.partialClone").is_some()
}

/// Remove a directory, if it is there.
fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", dir)(err)),
        _ => Ok(()),
    }
}
