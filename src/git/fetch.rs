//! The remote's newest commit and its objects come into the repository; refs and files are left alone.
//!
//! Speaks git's protocol v2 (gitprotocol-v2(5)), or what an older server offers, over whatever
//! `transport` connects. Knows nothing of worktrees.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice as _},
    remote::{Direction, fetch, ref_map},
};

use crate::{
    base::report::Reporter,
    git::{
        begin::Begin,
        intake::{Intake, Limits, Receiving},
        origin::{Depth, Origin, Revision},
        refs::{Tip, holding_ref},
        transport::{Connections, Deadline},
        verified,
    },
};

mod asked;
pub mod complete;
pub mod depth;
mod error;
mod newest;
mod progress;
mod received;
use asked::{Asked, Found};
pub use error::Error;
pub use newest::{Known, Newest, newest};
use progress::Progress;

/// How to fetch.
#[derive(Debug)]
pub struct Options<'a> {
    pub origin: &'a Origin,
    pub deadline: Deadline,
    /// The commit that was deployed last: all of it was here.
    pub deployed: Option<ObjectId>,
    /// How much history there is to be.
    pub depth: Depth,
    pub report: &'a Reporter,
    pub connections: &'a Connections,
    /// Set when the run's time is over: indexing ends.
    pub over: &'a AtomicBool,
    pub begin: Begin<'a>,
}

/// What the remote has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub commit: ObjectId,
    pub tip: Tip,
    /// The pack's `.keep` file, to be removed once a ref holds the objects.
    pub keep: Option<PathBuf>,
}

/// Bring the tip of the target's revision, and all it needs, into `repo`.
pub fn fetch(repo: &gix::Repository, options: &Options<'_>) -> Result<Outcome, Error> {
    let context = Context::new(repo, options);
    if let Revision::Commit(id) = options.origin.revision {
        let found = Found::commit(id);
        if context.has(&found) {
            // It will never be another one.
            return context.known(found);
        }
    }
    let specs = refspecs(&options.origin.revision);
    let remote = context.remote(specs.iter().map(|spec| spec.as_bstr()))?;
    let limits = Limits {
        max_pack: options.origin.max_pack,
        max_blob: options.origin.max_blob,
        deadline: options.deadline,
    };
    let intake = Arc::new(Intake::new(repo, limits, options.report));
    let prepared = remote
        .to_connection_with_transport(Receiving::new(context.asked.connect()?, intake.clone()))
        .with_credentials(|_| Ok(None))
        .prepare_fetch(Progress::new(options.report), ref_map::Options::default())
        .map_err(|err| context.asked.failed(&err))?;
    let found = match context.find(prepared.ref_map()) {
        Ok(found) => found,
        Err(err) => {
            // Servers that do one thing at a time hear the next question only when this connection has ended.
            drop(prepared);
            return Err(context.with_names(err));
        }
    };

    if context.has(&found) {
        return context.known(found);
    }
    let received = context.receive(prepared, &intake)?;
    context
        .check(&found, Some(&received))
        .inspect_err(|_| received.discard())?;
    let commit = context.peel(&found).inspect_err(|_| received.discard())?;
    depth::remember(repo, options.depth, found.object);
    Ok(Outcome {
        commit,
        tip: found.tip,
        keep: received.keep,
    })
}

/// Ask the remote for the tip of the target's revision, and fetch nothing. Whether a commit is there, it says only by
/// beginning to send it.
pub fn probe(repo: &gix::Repository, options: &Options<'_>) -> Result<(Tip, ObjectId), Error> {
    let context = Context::new(repo, options);
    let specs = refspecs(&options.origin.revision);
    let refs = context.ref_map(specs.iter().map(|spec| spec.as_bstr()))?;
    let found = match context.find(&refs) {
        // Whatever hash it uses, it is there.
        Err(Error::ObjectFormat { .. }) => context.asked.find(&refs.remote_refs, refs.object_hash),
        found => found,
    }
    .map_err(|err| context.with_names(err))?;
    if let Revision::Commit(id) = options.origin.revision {
        context.ask_for(id).map_err(|err| context.with_names(err))?;
    }
    Ok((found.tip, found.object))
}

/// What to ask for. No refspec has a destination: `refs` writes them.
fn refspecs(revision: &Revision) -> Vec<BString> {
    vec![match revision {
        Revision::RemoteHead => "HEAD".into(),
        Revision::Branch(name) | Revision::Tag(name) => name.as_str().into(),
        Revision::Commit(id) => id.to_string().into(),
    }]
}

/// What every step needs to explain its failure.
struct Context<'a> {
    repo: &'a gix::Repository,
    options: &'a Options<'a>,
    asked: Asked<'a>,
}

impl<'a> Context<'a> {
    fn new(repo: &'a gix::Repository, options: &'a Options<'a>) -> Self {
        let asked = Asked {
            origin: options.origin,
            deadline: options.deadline,
            report: options.report,
            connections: options.connections,
            offers: None,
            git_dir: repo.git_dir(),
            scratch: repo.objects.store_ref().path().join("pack"),
        };
        Self { repo, options, asked }
    }

    /// Whether an earlier run has fetched `found` and everything it needs: then the ref that holds it is written.
    /// That the object alone exists proves nothing, see gix's negotiation.
    fn has(&self, found: &Found) -> bool {
        let held_by = holding_ref(&self.options.origin.remote, &found.tip);
        let reference = self.repo.try_find_reference(held_by.as_str()).ok().flatten();
        reference.is_some_and(|reference| reference.target().try_id() == Some(found.object.as_ref()))
            && self.repo.has_object(found.object)
            && depth::is_right(self.repo, self.options.depth, found.object)
    }

    /// Find the tip of the target's revision among the remote's refs.
    fn find(&self, refs: &fetch::RefMap) -> Result<Found, Error> {
        let ours = self.repo.object_hash();
        if refs.object_hash != ours {
            return Err(Error::ObjectFormat {
                repo: self.asked.url(),
                theirs: refs.object_hash,
                ours,
            });
        }
        self.asked.find(&refs.remote_refs, ours)
    }

    /// `err`; if it is that a ref is not there, with the names that are: asked for again, as only
    /// the wanted name was listed.
    fn with_names(&self, err: Error) -> Error {
        let missing = matches!(err, Error::Missing { .. } | Error::NoCommit { .. });
        let Some(names) = missing.then(|| self.list()) else {
            return err;
        };
        match (err, names) {
            (Error::Missing { repo, .. } | Error::NoCommit { repo, .. }, Ok(names)) if names.is_empty() => {
                Error::Empty { repo }
            }
            (Error::Missing { repo, what, .. }, names) => Error::Missing {
                repo,
                what,
                others: names.unwrap_or_default(),
            },
            (Error::NoCommit { repo, id, reason, .. }, names) => Error::NoCommit {
                repo,
                id,
                reason,
                others: names.unwrap_or_default(),
            },
            (err, _) => err,
        }
    }

    /// The names of the remote's branches and tags. A pattern needs a destination, but nothing is written.
    fn list(&self) -> Result<Vec<String>, Error> {
        let refs = self.ref_map(["refs/heads/*:refs/x/*", "refs/tags/*:refs/y/*"].map(BStr::new))?;
        Ok(refs
            .remote_refs
            .iter()
            .map(|r| r.unpack().0.to_str_lossy())
            .filter_map(|name| name.splitn(3, '/').nth(2).map(Into::into))
            .collect())
    }

    /// The remote's refs that match `specs`.
    fn ref_map<'s>(&self, specs: impl IntoIterator<Item = &'s BStr>) -> Result<fetch::RefMap, Error> {
        let (refs, _) = self
            .remote(specs)?
            .to_connection_with_transport(self.asked.connect()?)
            .with_credentials(|_| Ok(None))
            .ref_map(gix::progress::Discard, ref_map::Options::default())
            .map_err(|err| self.asked.failed(&err))?;
        Ok(refs)
    }

    /// The remote, as an idea; nothing of the repository's own configuration of remotes counts.
    fn remote<'s>(&self, specs: impl IntoIterator<Item = &'s BStr>) -> Result<gix::Remote<'_>, Error> {
        self.repo
            .remote_at_without_url_rewrite(self.options.origin.repo.without_secrets())
            .map(|remote| remote.with_fetch_tags(fetch::Tags::None))
            .and_then(|remote| remote.with_refspecs(specs, Direction::Fetch))
            .map_err(|err| self.asked.failed(&err))
    }

    fn peel(&self, found: &Found) -> Result<ObjectId, Error> {
        let object = verified::peeled(self.repo, found.object).map_err(|err| self.asked.failed(&err))?;
        match object.kind {
            gix::object::Kind::Commit => Ok(object.id),
            kind => Err(Error::NotACommit {
                repo: self.asked.url(),
                what: found.name.clone(),
                found: kind.to_string(),
            }),
        }
    }
}
