//! The remote's newest commit and its objects come into the repository; refs and files are left alone.
//!
//! Speaks git's protocol v2 (gitprotocol-v2(5)), or what an older server offers, over whatever
//! `transport` connects. Knows nothing of worktrees.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use gix::{
    ObjectId,
    bstr::{BStr, BString, ByteSlice as _},
    protocol::handshake::Ref,
    remote::{Direction, fetch, ref_map},
};

use crate::{
    base::{
        fault::{Blame, Failure, one_line},
        name::RefName,
        report::Reporter,
    },
    git::{
        begin::Begin,
        intake::{Intake, Limits, Receiving},
        origin::{Depth, Origin, Revision},
        refs::{Tip, holding_ref},
        repository,
        transport::{self, Connections, Deadline},
    },
};

pub mod complete;
pub mod depth;
mod error;
mod progress;
mod received;
pub use error::Error;
use progress::Progress;

/// How to fetch.
#[derive(Debug)]
pub struct Options<'a> {
    /// Repository, revision, authentication and trust.
    pub origin: &'a Origin,
    /// When to give up.
    pub deadline: Deadline,
    /// The commit that was deployed last: all of it was here.
    pub deployed: Option<ObjectId>,
    /// How much history there is to be.
    pub depth: Depth,
    /// Progress, and what the remote says.
    pub report: &'a Reporter,
    /// Connections that earlier fetches left alive.
    pub connections: &'a Connections,
    /// Set when the run's time is over: indexing ends.
    pub over: &'a AtomicBool,
    /// Called before anything is written.
    pub begin: Begin<'a>,
}

/// What the remote has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The commit to deploy.
    pub commit: ObjectId,
    /// What it is the tip of.
    pub tip: Tip,
    /// The pack's `.keep` file, to be removed once a ref holds the objects.
    pub keep: Option<PathBuf>,
}

/// Bring the tip of the target's revision, and all it needs, into `repo`.
pub fn fetch(repo: &gix::Repository, options: &Options<'_>) -> Result<Outcome, Error> {
    let context = Context { repo, options };
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
        .to_connection_with_transport(Receiving::new(context.connect()?, intake.clone()))
        .with_credentials(|_| Ok(None))
        .prepare_fetch(Progress::new(options.report), ref_map::Options::default())
        .map_err(|err| context.failed(&err))?;
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
    let context = Context { repo, options };
    let specs = refspecs(&options.origin.revision);
    let refs = context.ref_map(specs.iter().map(|spec| spec.as_bstr()))?;
    let found = match context.find(&refs) {
        // Whatever hash it uses, it is there.
        Err(Error::ObjectFormat { .. }) => context.find_any(&refs),
        found => found,
    }
    .map_err(|err| context.with_names(err))?;
    if let Revision::Commit(id) = options.origin.revision {
        context.ask_for(id).map_err(|err| context.with_names(err))?;
    }
    Ok((found.tip, found.object))
}

/// What the remote's refs say.
struct Found {
    /// The object that the ref points to.
    object: ObjectId,
    /// What to call it.
    name: String,
    tip: Tip,
}

impl Found {
    fn commit(id: ObjectId) -> Self {
        Self {
            object: id,
            name: format!("the object {id}"),
            tip: Tip::Detached,
        }
    }
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
}

impl Context<'_> {
    fn url(&self) -> String {
        self.options.origin.repo.to_string()
    }

    fn connect(&self) -> Result<Box<dyn transport::Transport + Send>, Error> {
        let origin = self.options.origin;
        let options = transport::Options {
            deadline: self.options.deadline,
            auth: &origin.auth,
            tls: &origin.tls,
            report: self.options.report,
            connections: self.options.connections,
            scratch: &self.repo.objects.store_ref().path().join("pack"),
        };
        transport::connect(&origin.repo, &options).map_err(|err| of_room(&err))
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
                repo: self.url(),
                theirs: refs.object_hash,
                ours,
            });
        }
        self.find_any(refs)
    }

    /// As [`Self::find`], whatever hash the remote uses.
    fn find_any(&self, refs: &fetch::RefMap) -> Result<Found, Error> {
        let (name, what) = match &self.options.origin.revision {
            Revision::RemoteHead => ("HEAD", "branch that its HEAD is on".to_owned()),
            Revision::Branch(name) => (name.as_str(), format!("branch {:?}", name.short())),
            Revision::Tag(name) => (name.as_str(), format!("tag {:?}", name.short())),
            Revision::Commit(id) if id.kind() == refs.object_hash => return Ok(Found::commit(*id)),
            Revision::Commit(id) => {
                return Err(Error::NoCommit {
                    repo: self.url(),
                    id: *id,
                    others: Vec::new(),
                    reason: format!("it names its objects by {}", refs.object_hash),
                });
            }
        };
        let found = refs.remote_refs.iter().find(|r| r.unpack().0 == name);
        let Some((found, object)) = found.and_then(|r| Some((r, object_of(r)?))) else {
            return Err(Error::Missing {
                repo: self.url(),
                what,
                others: Vec::new(),
            });
        };
        let tip = match &self.options.origin.revision {
            Revision::Branch(name) => Tip::Branch(name.clone()),
            Revision::Tag(name) => Tip::Tag(name.clone(), object),
            Revision::Commit(_) => Tip::Detached,
            Revision::RemoteHead => match found {
                Ref::Symbolic { target, .. } => branch_of(target.as_ref()).map_or(Tip::Detached, Tip::Branch),
                _ => Tip::Detached,
            },
        };
        Ok(Found {
            object,
            name: what,
            tip,
        })
    }

    /// `err`; if it is that a ref is not there, with the names that are: asked for anew, as only
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
            .to_connection_with_transport(self.connect()?)
            .with_credentials(|_| Ok(None))
            .ref_map(gix::progress::Discard, ref_map::Options::default())
            .map_err(|err| self.failed(&err))?;
        Ok(refs)
    }

    /// The remote, as an idea; nothing of the repository's own configuration of remotes counts.
    fn remote<'s>(&self, specs: impl IntoIterator<Item = &'s BStr>) -> Result<gix::Remote<'_>, Error> {
        self.repo
            .remote_at_without_url_rewrite(self.options.origin.repo.without_secrets())
            .map(|remote| remote.with_fetch_tags(fetch::Tags::None))
            .and_then(|remote| remote.with_refspecs(specs, Direction::Fetch))
            .map_err(|err| self.failed(&err))
    }

    /// Follow tags to the commit.
    fn peel(&self, found: &Found) -> Result<ObjectId, Error> {
        let object = self
            .repo
            .find_object(found.object)
            .and_then(|object| object.peel_tags_to_end())
            .map_err(|err| self.failed(&err))?;
        match object.kind {
            gix::object::Kind::Commit => Ok(object.id),
            kind => Err(Error::NotACommit {
                repo: self.url(),
                what: found.name.clone(),
                found: kind.to_string(),
            }),
        }
    }

    /// The remote said no: a commit that it has not got, or another reason.
    fn refused(&self, said: String) -> Error {
        let repo = self.url();
        match self.options.origin.revision {
            Revision::Commit(id) if said.contains("not our ref") => Error::NoCommit {
                repo,
                id,
                reason: said,
                others: Vec::new(),
            },
            _ => Error::Refused { repo, said },
        }
    }

    /// The error that an error of gix amounts to.
    fn failed(&self, err: &gix::Error) -> Error {
        if let Some(cause) = transport::cause(err) {
            return of_room(cause);
        }
        let repo = self.url();
        if self.options.deadline.passed() {
            let limit = humantime::format_duration(self.options.deadline.after()).to_string();
            return Error::Timeout { repo, limit };
        }
        if let Some(refusal) = err.downcast_any_ref::<gix_transport::packetline::read::Error>() {
            return self.refused(one_line(refusal.to_string().trim()));
        }
        let reason = repository::reason(err);
        match err.downcast_any_ref::<io::Error>().map(io::Error::kind) {
            // gix says at length what it was about to read.
            Some(
                kind @ (io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe),
            ) => Error::BrokenOff {
                repo,
                reason: kind.to_string(),
            },
            Some(
                kind @ (io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge
                | io::ErrorKind::ReadOnlyFilesystem),
            ) => Error::Store {
                path: self.repo.git_dir().into(),
                source: kind.into(),
            },
            // Somebody has taken the git directory away, or never let us write to it.
            Some(
                io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory,
            ) => Error::Store {
                path: self.repo.git_dir().into(),
                source: io::Error::other(reason),
            },
            _ if reason.contains(PACK) => Error::Damaged { repo, reason },
            _ => Error::Protocol { repo, reason },
        }
    }
}

/// What gix says when a pack came that it could not make sense of.
const PACK: &str = "Failed to write the received pack";

fn of_room(err: &impl Blame) -> Error {
    let Failure { kind, message, help } = Failure::of(err);
    Error::Transport {
        kind,
        message,
        help: help.unwrap_or_else(|| "trigger again".into()),
    }
}

/// The object that a ref points to, before peeling.
fn object_of(r: &Ref) -> Option<ObjectId> {
    match r {
        Ref::Peeled { tag, .. } => Some(*tag),
        Ref::Direct { object, .. } => Some(*object),
        Ref::Symbolic { tag, object, .. } => Some(tag.unwrap_or(*object)),
        Ref::Unborn { .. } => None,
    }
}

fn branch_of(full_name: &BStr) -> Option<RefName> {
    let name = full_name.to_str().ok()?;
    name.starts_with("refs/heads/")
        .then(|| RefName::branch(name).ok())?
}
