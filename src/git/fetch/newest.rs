//! The newest commit that a remote has of what is wanted of it: the remote is asked for that again and again, and hardly ever has
//! another one. What makes that cheap is remembered from one time to the next.

use std::path::Path;

use gix::ObjectId;

use super::{
    Error,
    asked::{Asked, Found},
};
use crate::{
    base::report::Reporter,
    git::{
        origin::{Origin, Revision},
        refs::Tip,
        repository::Marks,
        transport::{Connections, Deadline, Offer, Offers},
    },
};

/// The newest commit that a remote has of what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    pub tip: Tip,
    pub commit: ObjectId,
}

/// What is known of a remote that makes it cheaper to ask it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// What its server offers: it need not be asked for that.
    Offer(Offer),
    /// Its ref has not moved as long as these are the same: it need not be asked.
    Marks(Box<Marks>),
}

/// Ask the remote of `origin` for its newest commit, until `deadline`, and for nothing else: it needs no repository, and leaves
/// the one at `git_dir` alone. `before` is what it gave the last time.
pub fn newest(
    origin: &Origin,
    git_dir: &Path,
    deadline: Deadline,
    (report, connections): (&Reporter, &Connections),
    before: Option<(&Newest, Option<&Known>)>,
) -> Result<(Newest, Option<Known>), Error> {
    let ask = |offers: Option<&Offers>| {
        let asked = Asked {
            origin,
            deadline,
            report,
            connections,
            offers,
            git_dir,
            scratch: git_dir.join("objects/pack"),
        };
        let found = match origin.revision {
            // It will never be another one.
            Revision::Commit(id) => Found::commit(id),
            _ => asked.find(&asked.list()?, gix::hash::Kind::Sha1)?,
        };
        Ok(Newest {
            tip: found.tip,
            commit: found.peeled,
        })
    };
    if let Some(path) = origin.repo.local_path() {
        // From before it is asked: what changes meanwhile shows the next time.
        let marks = match &origin.revision {
            Revision::Commit(_) => None,
            Revision::RemoteHead => Marks::of(path.as_path(), "HEAD"),
            Revision::Branch(name) | Revision::Tag(name) => Marks::of(path.as_path(), name.as_str()),
        };
        if let (Some((newest, Some(Known::Marks(before)))), Some((marks, _))) = (before, &marks)
            && **before == *marks
        {
            return Ok((newest.clone(), Some(Known::Marks(Box::new(marks.clone())))));
        }
        let newest = ask(None)?;
        return Ok((
            newest,
            marks
                .filter(|(_, shows)| *shows)
                .map(|(marks, _)| Known::Marks(Box::new(marks))),
        ));
    }
    if let Some((_, Some(Known::Offer(offer)))) = before {
        match ask(Some(&Offers::new(Some(offer.clone())))) {
            Ok(newest) => return Ok((newest, Some(Known::Offer(offer.clone())))),
            Err(err) if deadline.passed() => return Err(err),
            Err(err) => tracing::debug!("the remote is asked once more, for what it offers, too: {err}"),
        }
    }
    let offers = Offers::default();
    let newest = ask(Some(&offers))?;
    Ok((newest, offers.known().map(Known::Offer)))
}
