//! The serving half of git's protocol v2, in process: what makes paths and `file://` need no git.
//!
//! One conversation is served over any pair of reader and writer, by the rules of gitprotocol-v2(5):
//! <https://git-scm.com/docs/protocol-v2>. Any object that exists may be asked for, as with git's
//! `uploadpack.allowAnySHA1InWant`: the repository is the operator's own.
//!
//! Invariant: what the client sends is parsed into a [`request::Request`] without a look at the
//! repository, and what it is sent is complete or ends in an error, never silently short.
//! This room knows neither sockets nor who is asking.

use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use gix::ObjectId;
use gix_transport::packetline::blocking_io::encode;

use crate::{
    base::fault::{Blame, Kind},
    git::large::Scratch,
};

mod fetch;
mod negotiate;
mod objects;
mod pack;
mod refs;
pub mod request;
mod shallow;
#[cfg(test)]
mod tests;
mod trees;
mod walk;

use objects::Objects;
use request::{Command, parse_request};

/// A conversation ended before the client was done.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The client is gone, and so is the interest in an answer.
    #[error("the client broke off the fetch")]
    Gone(#[source] io::Error),
    /// The client is gone, or the process is ending.
    #[error("the fetch was stopped")]
    Stopped,
    /// The client does not speak the protocol.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Request(#[from] request::Error),
    /// The client works with another kind of id.
    #[error("the repository's object format is {ours}, but the client uses {theirs}")]
    #[diagnostic(help("clone the repository anew: an object format cannot be changed"))]
    ObjectFormat {
        /// Of the repository.
        ours: gix::hash::Kind,
        /// Of the request.
        theirs: gix::hash::Kind,
    },
    /// The client wants what is not there.
    #[error("upload-pack: not our ref {id}")]
    #[diagnostic(help("the object may have been removed by a force-push; fetch again"))]
    NotOurs {
        /// The wanted object.
        id: ObjectId,
    },
    /// An object that another one refers to is not there.
    #[error("object {id} is missing in the source repository")]
    #[diagnostic(help("run `git fsck` in the source repository, and repair it"))]
    Missing {
        /// The object.
        id: ObjectId,
    },
    /// An object is there, but cannot be read.
    #[error("object {id} of the source repository cannot be read")]
    #[diagnostic(help("run `git fsck` in the source repository, and repair it"))]
    Object {
        /// The object.
        id: ObjectId,
        /// Why.
        #[source]
        source: gix::Error,
    },
    /// A tag of a tag of a tag, and so on.
    #[error("{id} is a tag of a tag of a tag, and more so than is followed")]
    #[diagnostic(help("delete that tag in the source repository"))]
    Tags {
        /// The outermost.
        id: ObjectId,
    },
    /// The repository cannot be read.
    #[error("cannot read {what} of the source repository")]
    #[diagnostic(help("the user that gitsocket runs as must be able to read all of it"))]
    Repository {
        /// The part of it.
        what: &'static str,
        /// Why.
        #[source]
        source: gix::Error,
    },
    /// More objects than fit into memory. The client is told no more than this line.
    #[error(
        "the source has more than {limit} objects to look through for one fetch: fetch less of the history, set `depth`, \
         for example to 1"
    )]
    TooMany {
        /// How many are allowed.
        limit: usize,
    },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Gone(_) | Self::Stopped => Kind::Unreachable,
            Self::Request(_) => Kind::BadRequest,
            _ => Kind::Remote,
        }
    }
}

impl Error {
    /// The error and its causes in one line, as the client is told.
    fn text(&self) -> String {
        let mut text = crate::base::fault::Failure::of(self).message;
        // A packet must hold it, whatever it quotes.
        text.truncate(text.floor_char_boundary(1000));
        text
    }
}

/// Serve `repo` until the client has nothing more to ask, or `stop` is set.
///
/// The repository may be packed to and pushed to meanwhile.
pub fn serve(
    repo: gix::Repository,
    read: impl Read,
    write: impl Write,
    scratch: Scratch,
    stop: &AtomicBool,
) -> Result<(), Error> {
    let mut source = Source::new(repo, scratch, stop)?;
    let mut read = BufReader::new(read);
    let mut write = BufWriter::with_capacity(2 * pack::PACKET_BYTES, write);
    refs::advertise(&source, &mut write)?;
    loop {
        source.check()?;
        match answer(&source, &mut read, &mut write) {
            Ok(Answer::Short) => {}
            Ok(Answer::Pack) => source = source.again()?,
            Ok(Answer::None) => return Ok(()),
            Err(err) => {
                tell(&err, &mut write);
                return Err(err);
            }
        }
    }
}

/// What a request was answered with.
enum Answer {
    /// The client has nothing more to ask.
    None,
    Short,
    Pack,
}

/// Answer one request.
fn answer(source: &Source<'_>, read: &mut impl Read, write: &mut impl Write) -> Result<Answer, Error> {
    let Some(request) = parse_request(read)? else {
        return Ok(Answer::None);
    };
    source.matches(request.object_format)?;
    match &request.command {
        Command::LsRefs(request) => refs::list(source, request, write).map(|()| Answer::Short),
        Command::Fetch(request) => fetch::run(source, request, write),
    }
}

/// Tell the client what is wrong, if it is there.
fn tell(err: &Error, write: &mut impl Write) {
    if matches!(err, Error::Gone(_) | Error::Stopped) {
        return;
    }
    let _ = encode::error_to_write(err.text().as_bytes(), &mut *write).and_then(|_| write.flush());
}

/// Objects that are looked through for one fetch, the parents of commits included: as many as a fetch takes in. Each
/// takes some 200 bytes.
const MAX_OBJECTS: usize = 4_000_000;
/// How many bytes of unpacked objects are kept.
const PACK_CACHE_BYTES: usize = 64 << 20;

/// What is served.
struct Source<'a> {
    repo: gix::Repository,
    objects: Objects,
    scratch: Scratch,
    stop: &'a AtomicBool,
    max_objects: usize,
}

impl<'a> Source<'a> {
    fn new(mut repo: gix::Repository, scratch: Scratch, stop: &'a AtomicBool) -> Result<Self, Error> {
        // Replacements are local; packs that `git gc` deletes are needed until the last byte is sent.
        repo.objects.ignore_replacements = true;
        repo.objects.prevent_pack_unload();
        // Trees are long chains of deltas, and all of them are read for a clone: this makes it twice as fast.
        repo.objects
            .set_pack_cache(|| Box::new(gix_pack::cache::lru::MemoryCappedHashmap::new(PACK_CACHE_BYTES)));
        let objects = Objects::new(repo.objects.clone().into_inner(), repo.object_hash());
        Ok(Self {
            repo,
            objects,
            scratch,
            stop,
            max_objects: MAX_OBJECTS,
        })
    }

    /// The same, without the packs in memory: while the client looks through its pack it has nothing to ask.
    fn again(self) -> Result<Self, Error> {
        let repo = crate::git::repository::open_source(self.repo.git_dir());
        let repo = repo.map_err(|source| Error::Repository {
            what: "its configuration",
            source,
        })?;
        Self::new(repo, self.scratch, self.stop)
    }

    /// Fail if nobody is interested any more.
    fn check(&self) -> Result<(), Error> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Error::Stopped),
            false => Ok(()),
        }
    }

    /// Fail if nobody is interested any more, or if `count` objects are too many.
    fn check_count(&self, count: usize) -> Result<(), Error> {
        let limit = self.max_objects;
        match count > limit {
            true => Err(Error::TooMany { limit }),
            false => self.check(),
        }
    }

    fn matches(&self, theirs: gix::hash::Kind) -> Result<(), Error> {
        let ours = self.repo.object_hash();
        match ours == theirs {
            true => Ok(()),
            false => Err(Error::ObjectFormat { ours, theirs }),
        }
    }
}
