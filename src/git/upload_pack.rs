//! The serving half of git's protocol v2, in process: what makes paths and `file://` need no git.
//!
//! One conversation is served over any pair of reader and writer, by the rules of gitprotocol-v2(5):
//! <https://git-scm.com/docs/protocol-v2>. Any object that exists may be asked for, as with git's
//! `uploadpack.allowAnySHA1InWant`: the repository is the operator's own.
//!
//! Invariant: what the client sends is parsed into a [`request::Request`] without a look at the
//! repository, and what it is sent is complete or ends in an error, never silently short.
//! This module knows neither sockets nor clients.

use std::{
    io::{BufReader, BufWriter, Read, Write},
    sync::atomic::AtomicBool,
};

use gix_transport::packetline::blocking_io::encode;

use crate::git::large::Scratch;

mod error;
mod fetch;
mod negotiate;
mod objects;
mod pack;
mod refs;
pub mod request;
mod selection;
mod shallow;
mod source;
#[cfg(test)]
mod tests;
mod trees;

pub use error::Error;
use fetch::Answer;
use request::{Command, parse_request};
use source::Source;

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
