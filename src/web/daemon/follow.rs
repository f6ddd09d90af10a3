//! The events of a run for any number of watchers, by one connection to the daemon.
//!
//! Past events are kept, within bounds, for watchers that come later or reconnect. The id of a line gives its position while the
//! run has a watcher; after that, a watcher that reconnects starts from the beginning.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, Weak},
};

use async_std::task::{self, JoinHandle};
use event_listener::Event as Bell;

use super::answer::Connector;
use crate::{
    base::{
        event::{Done, Event, Record},
        fault::Failure,
        mutex,
        name::{RunId, TriggerName},
    },
    daemon::wire::{Request, Which},
};

/// How many lines, and how many bytes of them, are kept of a run. The daemon keeps as many lines for clients that lag; more would
/// not be readable on a page.
const KEPT: usize = 4096;
const KEPT_BYTES: usize = 512 << 10;

/// The runs that are watched.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<HashMap<(TriggerName, RunId), Weak<Watched>>>);

/// A run that is watched.
#[derive(Debug)]
struct Watched {
    /// The prefix of the ids of its lines: a new one after a time without watchers.
    epoch: u32,
    lines: Mutex<Lines>,
    more: Bell,
    reader: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Lines {
    /// The lines by their numbers, in order; the numbers of older progress are missing.
    kept: VecDeque<(u64, Arc<Record>, usize)>,
    bytes: usize,
    next: u64,
    /// The lines before this number have been dropped.
    dropped: u64,
    ended: bool,
}

/// The position of a watcher in the events of a run.
#[derive(Debug)]
pub struct Follower {
    watched: Arc<Watched>,
    next: u64,
    resumed: bool,
}

/// A line of a run.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its position, for `Last-Event-ID`.
    pub id: String,
    pub record: Arc<Record>,
}

impl Runs {
    /// Follow a run from the line after `after`, if that is a known id, or else from the beginning.
    pub(super) fn follow(
        self: &Arc<Self>,
        connector: &Arc<Connector>,
        name: &TriggerName,
        run: &RunId,
        after: Option<&str>,
    ) -> Follower {
        let key = (name.clone(), run.clone());
        let mut runs = mutex::lock(&self.0);
        let watched = runs.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            runs.retain(|_, watched| watched.strong_count() > 0);
            let watched = Watched::begin(connector.clone(), name, run);
            runs.insert(key, Arc::downgrade(&watched));
            watched
        });
        let next = after.and_then(|after| watched.after(after));
        Follower {
            next: next.unwrap_or(0),
            resumed: next.is_some(),
            watched,
        }
    }
}

impl Watched {
    fn begin(connector: Arc<Connector>, name: &TriggerName, run: &RunId) -> Arc<Self> {
        let watched = Arc::new(Self {
            epoch: fastrand::u32(..),
            lines: Mutex::default(),
            more: Bell::new(),
            reader: Mutex::default(),
        });
        let request = Request::Log {
            name: Some(name.clone()),
            run: Some(Which::Id(run.clone())),
            limit: None,
        };
        let (name, run, weak) = (name.clone(), run.clone(), Arc::downgrade(&watched));
        let reader = task::spawn(async move {
            let failed = read(&connector, &request, &weak).await.err();
            let Some(watched) = weak.upgrade() else { return };
            let failed = failed.map(|failure| Record {
                run,
                event: Event::Done(Done::failed(name.as_str(), failure)),
            });
            let mut lines = mutex::lock(&watched.lines);
            failed.into_iter().for_each(|record| lines.push(record));
            lines.ended = true;
            drop(lines);
            watched.more.notify(usize::MAX);
        });
        *mutex::lock(&watched.reader) = Some(reader);
        watched
    }

    /// The number of the line after the one with this id.
    fn after(&self, id: &str) -> Option<u64> {
        let (epoch, number) = id.split_once('-')?;
        let epoch = u32::from_str_radix(epoch, 16).ok()?;
        let number: u64 = number.parse().ok()?;
        let next = mutex::lock(&self.lines).next;
        (epoch == self.epoch && number < next).then_some(number + 1)
    }
}

/// Without watchers, the connection is closed.
impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(reader) = mutex::lock(&self.reader).take() {
            // A task that is only dropped would go on.
            task::spawn(reader.cancel());
        }
    }
}

async fn read(connector: &Connector, request: &Request, watched: &Weak<Watched>) -> Result<(), Failure> {
    let mut answer = connector.open(request).await?;
    loop {
        let record = answer.next().await?;
        let is_last = matches!(record.event, Event::Done(_));
        let Some(watched) = watched.upgrade() else {
            return Ok(());
        };
        mutex::lock(&watched.lines).push(record);
        if is_last {
            return Ok(());
        }
        // Lines that have come together wake the watchers once: there may be hundreds of watchers, and many lines in a second.
        if !answer.has_line() {
            watched.more.notify(usize::MAX);
        }
    }
}

impl Lines {
    fn push(&mut self, record: Record) {
        // Only the latest progress is kept.
        if matches!(record.event, Event::Progress { .. })
            && let Some((_, last, _)) = self.kept.back()
            && matches!(last.event, Event::Progress { .. })
            && let Some((_, _, bytes)) = self.kept.pop_back()
        {
            self.bytes -= bytes;
        }
        let bytes = weight(&record);
        self.kept.push_back((self.next, Arc::new(record), bytes));
        self.next += 1;
        self.bytes += bytes;
        while self.kept.len() > KEPT || self.bytes > KEPT_BYTES && self.kept.len() > 1 {
            if let Some((number, _, bytes)) = self.kept.pop_front() {
                self.bytes -= bytes;
                self.dropped = number + 1;
            }
        }
    }
}

/// The approximate size of a record in memory.
fn weight(record: &Record) -> usize {
    let text = match &record.event {
        Event::HookLine { line, .. } | Event::Remote { line } => line.len(),
        Event::Warning { message } => message.len(),
        event => event.line().map_or(0, |line| line.len()),
    };
    size_of::<Record>() + text
}

impl Follower {
    /// Whether it continues after the line that was asked for; if not, it starts from the beginning.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// The next line; none after the last one.
    pub async fn next(&mut self) -> Option<Line> {
        loop {
            let more = self.watched.more.listen();
            match self.try_next() {
                Ok(line) => return line,
                Err(Wait) => more.await,
            }
        }
    }

    /// The next line, if it has come already.
    pub fn at_hand(&mut self) -> Option<Line> {
        self.try_next().ok().flatten()
    }

    fn try_next(&mut self) -> Result<Option<Line>, Wait> {
        let lines = mutex::lock(&self.watched.lines);
        let id = |number: u64| format!("{:08x}-{number}", self.watched.epoch);
        if self.next < lines.dropped {
            let lost = lines.dropped - self.next;
            self.next = lines.dropped;
            let run = lines
                .kept
                .front()
                .map_or_else(RunId::none, |(_, record, _)| record.run.clone());
            return Ok(Some(Line {
                id: id(lines.dropped - 1),
                record: Arc::new(Record {
                    run,
                    event: Event::Lagged { lost },
                }),
            }));
        }
        let at = lines.kept.partition_point(|(number, ..)| *number < self.next);
        match lines.kept.get(at) {
            Some((number, record, _)) => {
                self.next = number + 1;
                Ok(Some(Line {
                    id: id(*number),
                    record: record.clone(),
                }))
            }
            None if lines.ended => Ok(None),
            None => Err(Wait),
        }
    }
}

/// There is no further line yet.
struct Wait;

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        os::unix::net::{UnixListener, UnixStream},
        path::Path,
    };

    use futures_lite::future::block_on;

    use super::*;
    use crate::base::{address::Address, event::Outcome, name::AbsPath};

    /// A daemon that says what it is told to say.
    struct Fake {
        listener: UnixListener,
        connector: Arc<Connector>,
        runs: Arc<Runs>,
        run: RunId,
        name: TriggerName,
    }

    impl Fake {
        fn new(dir: &Path) -> Self {
            let path = dir.join("s");
            let address = Address::Unix(AbsPath::resolve(dir, &path).unwrap());
            Self {
                listener: UnixListener::bind(path).unwrap(),
                connector: Arc::new(Connector::new(address, None)),
                runs: Arc::default(),
                run: RunId::parse("0198c0ffee0001").unwrap(),
                name: TriggerName::new("site").unwrap(),
            }
        }

        fn follow(&self, after: Option<&str>) -> Follower {
            self.runs.follow(&self.connector, &self.name, &self.run, after)
        }

        /// The next connection, its request read.
        fn accept(&self) -> UnixStream {
            let mut stream = self.listener.accept().unwrap().0;
            let mut line = String::new();
            BufReader::new(&mut stream).read_line(&mut line).unwrap();
            assert!(
                line.contains("\"log\"") && line.contains("0198c0ffee0001"),
                "{line}"
            );
            stream
        }

        fn say(&self, stream: &mut UnixStream, event: Event) {
            let run = self.run.clone();
            let line = serde_json::to_string(&Record { run, event }).unwrap();
            stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
    }

    fn remote(line: impl Into<String>) -> Event {
        Event::Remote { line: line.into() }
    }

    fn progress(done: u64) -> Event {
        Event::Progress {
            phase: crate::base::event::Phase::Fetch,
            done,
            total: None,
            unit: crate::base::event::Unit::Objects,
        }
    }

    fn next(follower: &mut Follower) -> Line {
        block_on(follower.next()).unwrap()
    }

    #[test]
    fn watchers_share_a_connection_and_come_back() {
        let dir = crate::machine::tempdir().unwrap();
        let fake = Fake::new(dir.path());
        let mut first = fake.follow(None);
        let mut stream = fake.accept();
        fake.say(&mut stream, remote("one"));
        fake.say(&mut stream, remote("two"));
        let one = next(&mut first);
        assert_eq!(one.record.event, remote("one"));
        assert_eq!(next(&mut first).record.event, remote("two"));
        // Another one begins at the beginning, one that comes back where it was.
        let mut second = fake.follow(None);
        assert!(!second.is_resumed());
        assert_eq!(next(&mut second).id, one.id);
        let mut back = fake.follow(Some(&one.id));
        assert!(back.is_resumed());
        assert_eq!(next(&mut back).record.event, remote("two"));
        // An id that is not valid, or of an earlier watch, starts from the beginning.
        for id in ["", "x", "-", "00000000-0", &format!("{}9", one.id)] {
            let mut lost = fake.follow(Some(id));
            assert!(!lost.is_resumed(), "{id}");
            assert_eq!(next(&mut lost).id, one.id);
        }
        let done = Event::Done(Done::answered("site", Outcome::Answered));
        fake.say(&mut stream, done.clone());
        for follower in [&mut first, &mut back] {
            assert_eq!(next(follower).record.event, done);
            assert!(block_on(follower.next()).is_none());
        }
        fake.listener.set_nonblocking(true).unwrap();
        assert!(fake.listener.accept().is_err(), "there was but one connection");
    }

    #[test]
    fn what_comes_at_once_is_at_hand_at_once() {
        let dir = crate::machine::tempdir().unwrap();
        let fake = Fake::new(dir.path());
        let (mut follower, mut other) = (fake.follow(None), fake.follow(None));
        let mut stream = fake.accept();
        let said: Vec<_> = (0..20).map(|n| remote(n.to_string())).collect();
        let run = fake.run.clone();
        let record = |event: &Event| {
            let (run, event) = (run.clone(), event.clone());
            serde_json::to_string(&Record { run, event }).unwrap() + "\n"
        };
        let lines: String = said.iter().map(record).collect();
        stream.write_all(lines.as_bytes()).unwrap();
        // Once another watcher has the last of them, all are there.
        while next(&mut other).record.event != said[19] {}
        assert_eq!(next(&mut follower).record.event, said[0]);
        for event in &said[1..] {
            assert_eq!(follower.at_hand().unwrap().record.event, *event);
        }
        assert!(follower.at_hand().is_none());
        // After the end of a run, no line is at hand.
        let done = Event::Done(Done::answered("site", Outcome::Answered));
        stream.write_all(record(&done).as_bytes()).unwrap();
        assert_eq!(next(&mut follower).record.event, done);
        assert!(follower.at_hand().is_none() && block_on(follower.next()).is_none());
    }

    #[test]
    fn the_connection_goes_with_the_last_watcher() {
        let dir = crate::machine::tempdir().unwrap();
        let fake = Fake::new(dir.path());
        let (first, second) = (fake.follow(None), fake.follow(None));
        let mut stream = fake.accept();
        fake.say(&mut stream, remote("one"));
        drop(first);
        let mut second = second;
        let old = next(&mut second).id;
        drop(second);
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "it is closed");
        // A watcher who comes later begins again, and is told so.
        let again = fake.follow(Some(&old));
        assert!(!again.is_resumed());
        // A daemon that is gone is the end.
        drop(fake.accept());
        let mut again = again;
        assert!(matches!(&next(&mut again).record.event, Event::Done(done) if done.exit != 0));
        assert!(block_on(again.next()).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let dir = crate::machine::tempdir().unwrap();
        let fake = Fake::new(dir.path());
        let mut follower = fake.follow(None);
        let mut stream = fake.accept();
        for done in 0..100 {
            fake.say(&mut stream, progress(done));
        }
        let long = "x".repeat(1000);
        for _ in 0..2 * KEPT_BYTES / 1000 {
            fake.say(&mut stream, remote(&long));
        }
        fake.say(&mut stream, remote("last"));
        let mut late = fake.follow(None);
        while next(&mut late).record.event != remote("last") {}
        // The first one has read nothing since.
        let lagged = next(&mut follower).record;
        assert!(
            matches!(lagged.event, Event::Lagged { lost } if lost > 100),
            "{lagged:?}"
        );
        let lines = mutex::lock(&follower.watched.lines);
        assert!(lines.bytes <= KEPT_BYTES && lines.kept.len() < KEPT);
        drop(lines);
        let mut left = 0;
        while next(&mut follower).record.event != remote("last") {
            left += 1;
        }
        assert!(left > 100);
    }
}
