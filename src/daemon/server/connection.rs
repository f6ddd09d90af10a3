//! One client: reads its request, and writes the events of its run.

use std::{os::fd::AsFd, sync::Arc, time::Duration};

use async_std::{
    future::timeout,
    io::{self, Read, ReadExt as _, Write, WriteExt as _},
    net::TcpStream,
    task,
};
use futures_lite::future::poll_once;
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::sockopt,
};

use super::{admission::Admission, token::Rejected};
use crate::{
    base::{
        event::{Done, Event, Outcome, Record},
        evicting::EvictablePermit,
        fault::{Failure, Kind},
        name::{RunId, TriggerName},
    },
    daemon::{
        journal::Journal,
        peer::Peer,
        scheduler::{Found, Scheduler, Wanted},
        wire::{self, Format, Line, Request},
    },
};

/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to receive what was written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection waits for a permit before it gets the answer `busy`.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// A connection's two directions.
pub(super) trait Stream: Read + Write + AsFd + Unpin + Send + 'static {}
impl<S: Read + Write + AsFd + Unpin + Send + 'static> Stream for S {}

/// How often to check, while a run is silent, that its client is still connected.
const GLANCE: Duration = Duration::from_secs(1);
/// How long, and how much, to read from a client that was refused before it had sent all.
const LEFTOVER_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_LEFTOVER: u64 = 1024 * 1024;

/// Send short lines at once, and let keepalive find within two minutes that a peer has gone: without it, a closed socket looks like one
/// whose peer has only finished sending.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(20))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(20))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

/// Whether the peer can no longer receive. A peer that has only finished sending, as `nc` does, still can.
fn hung_up(stream: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    poll(&mut fds, Some(&rustix::event::Timespec::default())).is_ok()
        && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// The answer to the `question` of `peer`, found on a thread, since it may read from the disk.
async fn query<T: Send + 'static>(
    scheduler: &Arc<Scheduler>,
    peer: &Peer,
    question: impl FnOnce(&Arc<Scheduler>, &Peer) -> T + Send + 'static,
) -> T {
    let (scheduler, peer) = (scheduler.clone(), peer.clone());
    task::spawn_blocking(move || question(&scheduler, &peer)).await
}

/// A request, the format of its answer, and the token.
struct Asked {
    request: Request,
    format: Format,
    token: Option<String>,
}

/// Why there is no request.
enum Trouble {
    /// The client has gone without sending anything.
    Gone,
    /// The request is not valid.
    Bad(Failure, Format),
}

/// The client of a connection.
pub(super) struct Client<'a, S> {
    stream: S,
    peer: Peer,
    admission: &'a Admission,
    /// Bytes that were received after the last line.
    unread: Vec<u8>,
}

impl<'a, S: Stream> Client<'a, S> {
    /// A client of the listener that `admission` is for.
    pub(super) fn new(stream: S, peer: Peer, admission: &'a Admission) -> Self {
        Self {
            stream,
            peer,
            admission,
            unread: Vec::new(),
        }
    }

    /// Answer a client that has a permit to be served.
    pub(super) async fn answer(&mut self, scheduler: &Arc<Scheduler>) {
        if let Some(asked) = self.hear().await {
            self.serve(asked, scheduler).await;
        }
    }

    /// Answer a client over TCP: it waits, and may be evicted, until it has sent its request, and the token if there is one.
    pub(super) async fn answer_unauthenticated(
        mut self,
        mut permit: EvictablePermit,
        scheduler: &Arc<Scheduler>,
    ) {
        let Some(heard) = permit.unless_evicted(self.hear()).await else {
            return self.say_evicted().await;
        };
        let Some(mut asked) = heard else { return };
        // Before the request is handled: without the token, a client learns nothing, not even which triggers exist.
        if let Some(token) = &self.admission.token {
            if let Err(refused) = token.check(asked.token.take()).await {
                let refusal = self.refuse_token(refused, asked.format);
                permit.unless_evicted(refusal).await;
                return;
            }
            self.peer.has_sent_token();
        }
        let Ok(_served) = timeout(PATIENCE, self.admission.served.acquire()).await else {
            return self.turn_away().await;
        };
        drop(permit);
        self.serve(asked, scheduler).await;
    }

    /// Tell a client that too many are served.
    pub(super) async fn turn_away(&mut self) {
        let permits = self.admission.served.permits();
        self.say_busy(
            format!("{permits} connections are open already"),
            "try again in a few seconds",
        )
        .await;
    }

    /// Tell a client that a newer connection was accepted in its stead.
    async fn say_evicted(&mut self) {
        let message = "other clients connected before this one had sent its request, and too many connections send nothing";
        self.say_busy(message.into(), "send the token and the request at once")
            .await;
    }

    async fn say_busy(&mut self, message: String, help: &str) {
        let failure = Failure::new(Kind::Busy, message, Some(help));
        self.admission.refusals.log(&self.peer, &failure, None);
        let line = format!("{}\n", Done::failed("-", failure).line());
        // A line fits into any socket's buffer, so this does not wait for the client.
        poll_once(self.stream.write_all(line.as_bytes())).await;
    }

    async fn refuse_token(&mut self, rejected: Rejected, format: Format) {
        let Rejected { failure, cause, wait } = rejected;
        self.admission
            .refusals
            .log(&self.peer, &failure, cause.as_deref());
        if let Some(wait) = wait {
            task::sleep(wait).await;
            self.end("-", failure, format).await;
        }
    }

    /// The request; `None` if there is no valid one, after the client was told why.
    async fn hear(&mut self) -> Option<Asked> {
        match timeout(REQUEST_TIMEOUT, self.request()).await {
            Ok(Ok(asked)) => return Some(asked),
            Ok(Err(Trouble::Gone)) => {}
            Ok(Err(Trouble::Bad(failure, format))) => {
                self.refuse("-", failure, format).await;
                self.hear_out().await;
            }
            Err(_) => {
                let message = format!("no request came within {} s", REQUEST_TIMEOUT.as_secs());
                let failure = Failure::new(Kind::BadRequest, message, Some("send a line and its end"));
                self.refuse("-", failure, Format::Text).await;
            }
        }
        None
    }

    /// Handle the request, and answer.
    async fn serve(&mut self, asked: Asked, scheduler: &Arc<Scheduler>) {
        let Asked { request, format, .. } = asked;
        let peer = &self.peer.clone();
        match request {
            Request::Ping => {
                let done = Done::answered("-", Outcome::Answered);
                self.say(vec![Event::Pong, Event::Done(done)], format).await;
            }
            Request::Metrics => {
                let found = query(scheduler, peer, move |scheduler, peer| {
                    scheduler.numbers(peer, format)
                });
                match found.await {
                    Ok(mut events) => {
                        events.push(Event::Done(Done::answered("-", Outcome::Answered)));
                        self.say(events, format).await;
                    }
                    Err(failure) => self.refuse("-", failure, format).await,
                }
            }
            Request::Status { names } => {
                let shown = match names.as_slice() {
                    [name] => name.as_str().to_owned(),
                    _ => "-".into(),
                };
                let found = query(scheduler, peer, move |scheduler, peer| {
                    scheduler.status(peer, &names)
                });
                let (all, failed) = found.await;
                let done = match failed {
                    None => Done::answered(shown, Outcome::Answered),
                    Some((name, failure)) => {
                        self.admission.refusals.log(&self.peer, &failure, None);
                        Done::failed(name.as_str(), failure)
                    }
                };
                let statuses = all.into_iter().map(Event::Status);
                self.say(statuses.chain([Event::Done(done)]).collect(), format)
                    .await;
            }
            Request::Log { name, run, limit } => {
                let shown = name.as_ref().map_or("-", TriggerName::as_str).to_owned();
                match query(scheduler, peer, move |scheduler, peer| {
                    scheduler.log(peer, name.as_ref(), run.as_ref(), limit)
                })
                .await
                {
                    Ok(Found::GoingOn(journal)) => self.follow(&journal, format).await,
                    Ok(Found::Whole(records)) => self.tell(records, format).await,
                    Err(failure) => self.refuse(&shown, failure, format).await,
                }
            }
            Request::Pause { name, reason } => {
                let pause = move |scheduler: &Arc<Scheduler>, peer: &Peer, name: &TriggerName| {
                    scheduler.pause(peer, name, reason).map(|()| None)
                };
                self.change(name, pause, scheduler, format).await;
            }
            Request::Resume { name } => {
                let resume = |scheduler: &Arc<Scheduler>, peer: &Peer, name: &TriggerName| {
                    scheduler.resume(peer, name)
                };
                self.change(name, resume, scheduler, format).await;
            }
            Request::Trigger {
                name,
                task,
                wait,
                note,
            } => {
                let shown = name.as_str().to_owned();
                let accepted = query(scheduler, peer, move |scheduler, peer| {
                    let waits = wait;
                    scheduler.trigger(peer, &name, Wanted { task, note, waits })
                });
                match accepted.await {
                    Ok(journal) if wait => self.follow(&journal, format).await,
                    Ok(journal) => {
                        let done = Event::Done(Done::answered(shown, Outcome::Accepted));
                        self.say_of(journal.run(), vec![done], format).await;
                    }
                    Err(failure) => self.refuse(&shown, failure, format).await,
                }
            }
        }
    }

    /// Change something about the trigger `name`, and answer.
    async fn change(
        &mut self,
        name: TriggerName,
        change: impl FnOnce(&Arc<Scheduler>, &Peer, &TriggerName) -> Result<Option<String>, Failure>
        + Send
        + 'static,
        scheduler: &Arc<Scheduler>,
        format: Format,
    ) {
        let shown = name.as_str().to_owned();
        let changed = query(scheduler, &self.peer, move |scheduler, peer| {
            change(scheduler, peer, &name)
        });
        match changed.await {
            Ok(said) => {
                let said = said.map(|message| Event::Warning { message }).into_iter();
                let done = Event::Done(Done::answered(shown, Outcome::Answered));
                self.say(said.chain([done]).collect(), format).await;
            }
            Err(failure) => self.refuse(&shown, failure, format).await,
        }
    }

    /// The request, with the token that came before it or in it.
    async fn request(&mut self) -> Result<Asked, Trouble> {
        let mut token = None;
        loop {
            let line = self.line().await?;
            match wire::parse(&line) {
                Ok(Line::Token(said)) if token.is_none() => token = Some(said),
                Ok(Line::Token(_)) => {
                    let failure = Failure::new(Kind::BadRequest, "the token was sent twice", None);
                    return Err(Trouble::Bad(failure, Format::Text));
                }
                Ok(Line::Request(request, format, said)) => {
                    return Ok(Asked {
                        request,
                        format,
                        token: said.or(token),
                    });
                }
                Err((failure, format)) => return Err(Trouble::Bad(failure, format)),
            }
        }
    }

    /// One line, without its end. An incomplete line is an error, since half a name may be another trigger's name.
    async fn line(&mut self) -> Result<Vec<u8>, Trouble> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let rest = self.unread.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.unread, rest);
                line.pop();
                return Ok(line);
            }
            let format = match self.unread.first() {
                Some(b'{') => Format::Json,
                _ => Format::Text,
            };
            if self.unread.len() >= wire::MAX_LINE {
                return Err(Trouble::Bad(wire::too_long(), format));
            }
            let mut chunk = [0; 1024];
            let room = chunk.len().min(wire::MAX_LINE - self.unread.len());
            match self.stream.read(&mut chunk[..room]).await {
                Ok(0) if self.unread.is_empty() => return Err(Trouble::Gone),
                Ok(0) => return Err(Trouble::Bad(wire::unfinished(), format)),
                Ok(n) => self.unread.extend_from_slice(&chunk[..n]),
                Err(_) => return Err(Trouble::Gone),
            }
        }
    }

    /// Pass on the events of a run until it ends or the client has gone; the run goes on without it.
    async fn follow(&mut self, journal: &Arc<Journal>, format: Format) {
        let mut follower = journal.follow();
        loop {
            // While a hook is silent, there is no write that could fail when the client has gone.
            let Ok(record) = timeout(GLANCE, follower.next()).await else {
                if hung_up(&self.stream) {
                    return;
                }
                continue;
            };
            let last = matches!(record.event, Event::Done(_));
            if self.write(&record, format).await.is_err() || last {
                return;
            }
        }
    }

    /// Read what a refused client still sends, up to a limit: closing a socket with unread bytes resets the connection, and the client may
    /// lose the answer.
    async fn hear_out(&mut self) {
        rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write).ok();
        let mut rest = (&mut self.stream).take(MAX_LEFTOVER);
        let mut nowhere = io::sink();
        let hearing = io::copy(&mut rest, &mut nowhere);
        timeout(LEFTOVER_TIMEOUT, hearing).await.ok();
    }

    async fn say(&mut self, events: Vec<Event>, format: Format) {
        self.say_of(&RunId::none(), events, format).await;
    }

    /// Pass on all records, or as many as the client stays for.
    async fn tell(&mut self, records: impl Iterator<Item = Record>, format: Format) {
        for record in records {
            if self.write(&record, format).await.is_err() {
                return;
            }
        }
    }

    async fn say_of(&mut self, run: &RunId, events: Vec<Event>, format: Format) {
        let record = |event| Record {
            run: run.clone(),
            event,
        };
        self.tell(events.into_iter().map(record), format).await;
    }

    async fn write(&mut self, record: &Record, format: Format) -> io::Result<()> {
        match wire::render(record, format) {
            Some(line) => io::timeout(WRITE_TIMEOUT, self.stream.write_all(line.as_bytes())).await,
            None => Ok(()),
        }
    }

    async fn refuse(&mut self, name: &str, failure: Failure, format: Format) {
        self.admission.refusals.log(&self.peer, &failure, None);
        self.end(name, failure, format).await;
    }

    /// Send an error as the only line of the answer.
    async fn end(&mut self, name: &str, failure: Failure, format: Format) {
        self.say(vec![Event::Done(Done::failed(name, failure))], format)
            .await;
    }
}
