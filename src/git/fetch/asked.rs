//! The remote is asked for its refs: over which connections, what it may be that it has, and what an error means.

use std::{
    io,
    path::{Path, PathBuf},
};

use gix::{
    ObjectId,
    bstr::{BStr, ByteSlice as _},
    protocol::{LsRefsCommand, SendFlushOnDrop, handshake::Ref, ls_refs::RefPrefixes},
};
use gix_transport::Service;

use super::Error;
use crate::{
    base::{
        fault::{Blame, Failure, one_line},
        name::RefName,
        report::Reporter,
    },
    git::{
        origin::{Origin, Revision},
        refs::Tip,
        repository,
        transport::{self, Connections, Deadline, Offers},
    },
};

/// What a server is told that this is; gix says the same, as `repository` has it.
const AGENT: &str = "git/gitsocket";

/// Whom to ask, and how.
pub(super) struct Asked<'a> {
    pub(super) origin: &'a Origin,
    pub(super) deadline: Deadline,
    pub(super) report: &'a Reporter,
    pub(super) connections: &'a Connections,
    /// What it offers, for a caller that asks again and again.
    pub(super) offers: Option<&'a Offers>,
    pub(super) git_dir: &'a Path,
    pub(super) scratch: PathBuf,
}

/// What the remote's refs say.
pub(super) struct Found {
    /// The object that the ref points to.
    pub(super) object: ObjectId,
    /// The commit, where the remote says that the object is a tag of one.
    pub(super) peeled: ObjectId,
    pub(super) name: String,
    pub(super) tip: Tip,
}

impl Found {
    pub(super) fn commit(id: ObjectId) -> Self {
        Self {
            object: id,
            peeled: id,
            name: format!("the object {id}"),
            tip: Tip::Detached,
        }
    }
}

impl Asked<'_> {
    pub(super) fn url(&self) -> String {
        self.origin.repo.to_string()
    }

    pub(super) fn connect(&self) -> Result<Box<dyn transport::Transport + Send>, Error> {
        let options = transport::Options {
            deadline: self.deadline,
            auth: &self.origin.auth,
            tls: &self.origin.tls,
            report: self.report,
            connections: self.connections,
            offers: self.offers,
            scratch: &self.scratch,
        };
        transport::connect(&self.origin.repo, &options).map_err(|err| of_cause(&err))
    }

    /// The remote's refs, if it is one that sends all; else those whose names begin with the wanted one.
    pub(super) fn list(&self) -> Result<Vec<Ref>, Error> {
        // The server hears that this is all: it need not wait for the end of the connection.
        let mut transport = SendFlushOnDrop::new(self.connect()?, false);
        let failed = |err: gix::Error| self.failed(&err);
        let mut progress = gix::progress::Discard;
        let handshake = gix::protocol::handshake(
            &mut transport.inner,
            Service::UploadPack,
            |_| Ok(None),
            Vec::new(),
            &mut progress,
        )
        .map_err(failed)?;
        if let Some(refs) = handshake.refs {
            return Ok(refs);
        }
        let mut prefixes = RefPrefixes::new();
        prefixes.extend([self.wanted().0.into()]);
        let agent = ("agent", Some(AGENT.into()));
        LsRefsCommand::new(Some(prefixes), &handshake.capabilities, agent)
            .invoke_blocking(&mut transport.inner, &mut progress, false)
            .map_err(failed)
    }

    /// The ref that is wanted, and what to call it. Of a commit there is none.
    pub(super) fn wanted(&self) -> (&str, String) {
        match &self.origin.revision {
            Revision::RemoteHead => ("HEAD", "branch that its HEAD is on".to_owned()),
            Revision::Branch(name) => (name.as_str(), format!("branch {:?}", name.short())),
            Revision::Tag(name) => (name.as_str(), format!("tag {:?}", name.short())),
            Revision::Commit(id) => ("", format!("the object {id}")),
        }
    }

    /// Find the tip of the target's revision among the remote's `refs`; it names its objects by `hash`.
    pub(super) fn find(&self, refs: &[Ref], hash: gix::hash::Kind) -> Result<Found, Error> {
        match self.origin.revision {
            Revision::Commit(id) if id.kind() == hash => return Ok(Found::commit(id)),
            Revision::Commit(id) => {
                return Err(Error::NoCommit {
                    repo: self.url(),
                    id,
                    others: Vec::new(),
                    reason: format!("it names its objects by {hash}"),
                });
            }
            _ => {}
        }
        let (wanted, name) = self.wanted();
        let found = refs.iter().find(|r| r.unpack().0 == wanted);
        let Some((found, (object, peeled))) = found.and_then(|r| Some((r, objects_of(r)?))) else {
            return Err(Error::Missing {
                repo: self.url(),
                what: name,
                others: Vec::new(),
            });
        };
        let tip = match (&self.origin.revision, found) {
            (Revision::Branch(name), _) => Tip::Branch(name.clone()),
            (Revision::Tag(name), _) => Tip::Tag(name.clone(), object),
            (Revision::RemoteHead, Ref::Symbolic { target, .. }) => {
                branch_of(target.as_ref()).map_or(Tip::Detached, Tip::Branch)
            }
            (Revision::RemoteHead | Revision::Commit(_), _) => Tip::Detached,
        };
        Ok(Found {
            object,
            peeled,
            name,
            tip,
        })
    }

    /// The remote said no: a commit that it has not got, or another reason.
    pub(super) fn refused(&self, said: String) -> Error {
        let repo = self.url();
        match self.origin.revision {
            Revision::Commit(id) if said.contains("not our ref") => Error::NoCommit {
                repo,
                id,
                reason: said,
                others: Vec::new(),
            },
            _ => Error::Refused { repo, said },
        }
    }

    pub(super) fn failed(&self, err: &gix::Error) -> Error {
        if let Some(cause) = transport::cause(err) {
            return of_cause(cause);
        }
        let repo = self.url();
        if self.deadline.passed() {
            let limit = humantime::format_duration(self.deadline.after()).to_string();
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
                path: self.git_dir.into(),
                source: kind.into(),
            },
            // The git directory is gone, or was never writable.
            Some(
                io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory,
            ) => Error::Store {
                path: self.git_dir.into(),
                source: io::Error::other(reason),
            },
            _ if reason.contains(PACK) => Error::Damaged { repo, reason },
            _ => Error::Protocol { repo, reason },
        }
    }
}

/// What gix says when a pack came that it could not make sense of.
const PACK: &str = "Failed to write the received pack";

pub(super) fn of_cause(err: &impl Blame) -> Error {
    let Failure { kind, message, help } = Failure::of(err);
    Error::Transport {
        kind,
        message,
        help: help.unwrap_or_else(|| "trigger again".into()),
    }
}

/// The object that a ref points to; and the one that this is a tag of, or the same.
fn objects_of(r: &Ref) -> Option<(ObjectId, ObjectId)> {
    match r {
        Ref::Peeled { tag, object, .. } => Some((*tag, *object)),
        Ref::Direct { object, .. } => Some((*object, *object)),
        Ref::Symbolic { tag, object, .. } => Some((tag.unwrap_or(*object), *object)),
        Ref::Unborn { .. } => None,
    }
}

fn branch_of(full_name: &BStr) -> Option<RefName> {
    let name = full_name.to_str().ok()?;
    name.starts_with("refs/heads/")
        .then(|| RefName::branch(name).ok())?
}
