//! The latest deliveries, to recognize repeated ones, and for the page, the log and the metrics. In memory only.
//!
//! Unauthenticated senders use bounded memory: refusals by one webhook for one reason are one entry, and reasons hold no text of
//! the sender.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use ring::digest::{Context, SHA256};

use crate::base::{
    fault::{Kind, one_line},
    mutex,
    name::{AbsPath, RunId, TriggerName},
    pace::Pace,
    semaphore::{Permit, Semaphore},
    words::cut,
};

/// How long a delivery is recognized. Standard Webhooks may be repeated while their timestamp is valid, which is ten minutes at
/// most: five in the past, and five for a clock that is ahead.
const KNOWN: Duration = Duration::from_secs(15 * 60);
/// How many deliveries are recognized, the latest ones. Each takes about 150 bytes.
const MAX_KNOWN: usize = 4096;
/// How many authenticated deliveries are listed, the latest ones; and how many different refusals.
const MAX_LISTED: usize = 100;
/// How much of an id or event is shown, in characters.
const MAX_SHOWN: usize = 100;
/// How many refusals are logged without a pause: enough to find an error in a setup.
const LOGGED: u32 = 60;
/// After those, one refusal in this time is logged: 20 a minute.
const LOG_EVERY: Duration = Duration::from_secs(3);

/// The latest deliveries.
#[derive(Debug)]
pub struct Deliveries {
    state: Mutex<State>,
    pace: Pace,
    /// A permit for each that is being handled, even if its connection is lost.
    under_way: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    runs: HashMap<Key, RunId>,
    /// The keys of `runs`, the oldest first.
    order: VecDeque<(Instant, Key)>,
    /// The oldest first.
    proven: VecDeque<Delivered>,
    /// The most recent one last.
    refused: VecDeque<Delivered>,
    counts: BTreeMap<(String, &'static str), u64>,
    /// How many refusals were not logged since the last one that was.
    unlogged: u64,
}

/// The identity of a delivery: a digest of its webhook, the forge's id and its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// A delivery, or several refusals for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    pub path: String,
    pub trigger: TriggerName,
    /// The forge that calls the webhook, as the configuration has it.
    pub from: &'static str,
    /// The client of the connection, often a proxy.
    pub client: String,
    /// The forge's id, if the sender is authenticated; shortened, and safe to show.
    pub id: Option<String>,
    /// When it was delivered; of several, the last one.
    pub at: SystemTime,
    /// How many there were.
    pub times: u64,
    pub result: Outcome,
}

/// The result of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The daemon has accepted the trigger, with this run.
    Accepted(RunId),
    /// It was delivered before, and led to this run.
    Repeated(RunId),
    /// There is nothing to do, for this reason.
    Ignored(String),
    /// There is nothing to do: only these refs were pushed, safe to show.
    OtherRefs(Vec<String>),
    /// The trigger is paused; the message is the daemon's.
    Paused(String),
    /// It is not valid, for this reason.
    Refused {
        /// The status of the answer.
        status: u16,
        why: Cow<'static, str>,
    },
    /// The daemon could not be reached yet.
    Unavailable { kind: Kind, why: String },
}

impl Outcome {
    /// The words of all results.
    pub const WORDS: [&'static str; 6] = [
        "accepted",
        "repeated",
        "ignored",
        "paused",
        "refused",
        "unavailable",
    ];

    /// Its word in JSON and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Accepted(_) => Self::WORDS[0],
            Self::Repeated(_) => Self::WORDS[1],
            Self::Ignored(_) | Self::OtherRefs(_) => Self::WORDS[2],
            Self::Paused(_) => Self::WORDS[3],
            Self::Refused { .. } => Self::WORDS[4],
            Self::Unavailable { .. } => Self::WORDS[5],
        }
    }
}

impl Key {
    /// The key of the delivery `id` to the webhook at `path`.
    pub fn of(path: &str, id: &str, body: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        // A path holds no NUL, nor does a header.
        for part in [path.as_bytes(), b"\0", id.as_bytes(), b"\0", body] {
            context.update(part);
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        Self(key)
    }
}

impl Default for Deliveries {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            pace: Pace::new(LOGGED, LOG_EVERY),
            under_way: Semaphore::new(usize::MAX),
        }
    }
}

impl Deliveries {
    /// A delivery is being received. It counts as handled once the permit is dropped; their number has no limit.
    pub fn begin(&self) -> Option<Permit> {
        self.under_way.try_acquire()
    }

    /// Ends when no delivery is being handled.
    pub async fn idle(&self) {
        self.under_way.idle().await;
    }

    /// The run of an earlier delivery with the same `key`, if there was one.
    pub fn run(&self, key: &Key, now: Instant) -> Option<RunId> {
        let mut state = mutex::lock(&self.state);
        state.forget(now);
        state.runs.get(key).cloned()
    }

    /// Remember that the delivery `key` has led to the run `run`.
    pub fn know(&self, key: Key, run: RunId, now: Instant) {
        let mut state = mutex::lock(&self.state);
        state.forget(now);
        if state.runs.insert(key, run).is_some() {
            state.order.retain(|(_, known)| *known != key);
        }
        state.order.push_back((now, key));
        if state.order.len() > MAX_KNOWN
            && let Some((_, oldest)) = state.order.pop_front()
        {
            state.runs.remove(&oldest);
        }
    }

    /// List and count `delivered`, and log it if it was refused. `files` hold the secrets of the webhook, for that message.
    pub fn add(&self, delivered: Delivered, files: &[AbsPath]) {
        let mut state = mutex::lock(&self.state);
        let count = (delivered.path.clone(), delivered.result.word());
        *state.counts.entry(count).or_default() += 1;
        let Outcome::Refused { status, why } = &delivered.result else {
            push(&mut state.proven, delivered);
            return;
        };
        match self.pace.turn(Instant::now(), Duration::ZERO) {
            Some(_) => {
                let unlogged = std::mem::take(&mut state.unlogged);
                let more = (unlogged > 0).then_some(unlogged);
                let (path, client) = (&*delivered.path, &*delivered.client);
                let files =
                    (*status == 401).then(|| files.iter().map(ToString::to_string).collect::<Vec<_>>());
                let secret = files.map(|files| files.join(", "));
                tracing::warn!(path, client, more, secret, "delivery refused: {why}");
            }
            None => state.unlogged += 1,
        }
        let is_alike = |old: &Delivered| old.path == delivered.path && old.result == delivered.result;
        let alike = state.refused.iter().position(is_alike);
        let before = alike.and_then(|at| state.refused.remove(at));
        let times = before.map_or(0, |before| before.times) + delivered.times;
        push(&mut state.refused, Delivered { times, ..delivered });
    }

    /// Log a POST to `path`, which no webhook has.
    pub fn stray(&self, path: &str, client: &str) {
        if self.pace.turn(Instant::now(), Duration::ZERO).is_some() {
            let path = shown(path);
            tracing::warn!(
                path,
                client,
                "no webhook has this path: see `webhooks` in the configuration"
            );
        }
    }

    /// The listed deliveries, the latest first.
    pub fn latest(&self) -> Vec<Delivered> {
        let state = mutex::lock(&self.state);
        let mut all: Vec<_> = state.proven.iter().chain(&state.refused).cloned().collect();
        all.sort_by_key(|delivered| std::cmp::Reverse(delivered.at));
        all
    }

    /// How many deliveries there were since the start, by the webhook's path and the word of the result.
    pub fn counts(&self) -> Vec<(String, &'static str, u64)> {
        let state = mutex::lock(&self.state);
        let counts = state.counts.iter();
        counts
            .map(|((path, word), count)| (path.clone(), *word, *count))
            .collect()
    }
}

impl State {
    fn forget(&mut self, now: Instant) {
        while let Some((since, key)) = self.order.front()
            && now.saturating_duration_since(*since) > KNOWN
        {
            self.runs.remove(key);
            self.order.pop_front();
        }
    }
}

fn push(list: &mut VecDeque<Delivered>, delivered: Delivered) {
    list.push_back(delivered);
    if list.len() > MAX_LISTED {
        list.pop_front();
    }
}

/// A text of an authenticated sender, shortened and safe to show.
pub fn shown(text: &str) -> String {
    one_line(&cut(text, MAX_SHOWN))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn delivered(path: &str, second: u64, result: Outcome) -> Delivered {
        Delivered {
            path: path.into(),
            trigger: TriggerName::new("site").unwrap(),
            from: "GitHub",
            client: "unix".into(),
            id: None,
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            times: 1,
            result,
        }
    }

    fn refused(why: &'static str) -> Outcome {
        Outcome::Refused {
            status: 401,
            why: why.into(),
        }
    }

    #[test]
    fn what_has_begun_is_waited_for() {
        let deliveries = Deliveries::default();
        let mut idle = Box::pin(deliveries.idle());
        let (first, second) = (deliveries.begin(), deliveries.begin());
        block_on(async {
            assert!(poll_once(&mut idle).await.is_none());
            drop(first);
            assert!(poll_once(&mut idle).await.is_none());
            drop(second);
            idle.await;
        });
    }

    #[test]
    fn strangers_do_not_push_others_out() {
        let deliveries = Deliveries::default();
        deliveries.add(delivered("/a", 0, Outcome::Ignored("a ping".into())), &[]);
        for second in 1..=1000 {
            deliveries.add(delivered("/a", second, refused("one")), &[]);
            deliveries.add(delivered("/a", second, refused("two")), &[]);
        }
        deliveries.add(delivered("/b", 2000, refused("one")), &[]);
        let latest: Vec<_> = deliveries
            .latest()
            .into_iter()
            .map(|one| (one.path, one.times))
            .collect();
        let expected = [("/b", 1), ("/a", 1000), ("/a", 1000), ("/a", 1)];
        assert_eq!(latest, expected.map(|(path, times)| (path.to_owned(), times)));
        for number in 0..1000 {
            deliveries.add(delivered(&format!("/{number}"), number, refused("one")), &[]);
            deliveries.add(delivered("/a", number, Outcome::Ignored("a ping".into())), &[]);
        }
        assert_eq!(deliveries.latest().len(), 2 * MAX_LISTED);
        let counts = deliveries.counts();
        let of = |path: &str, word| {
            counts
                .iter()
                .find(|count| count.0 == path && count.1 == word)
                .unwrap()
                .2
        };
        assert_eq!(
            (of("/a", "ignored"), of("/a", "refused"), of("/b", "refused")),
            (1001, 2000, 1)
        );
    }

    #[test]
    fn what_was_delivered_is_known_for_a_while() {
        let deliveries = Deliveries::default();
        let start = Instant::now();
        let run = RunId::new();
        let key = |number: usize| Key::of("/a", &number.to_string(), b"{}");
        deliveries.know(key(0), run.clone(), start);
        assert_eq!(deliveries.run(&key(0), start + KNOWN), Some(run.clone()));
        for other in [
            Key::of("/b", "0", b"{}"),
            Key::of("/a", "1", b"{}"),
            Key::of("/a", "0", b"[]"),
            Key::of("/a", "", b"0\0{}"),
        ] {
            assert_eq!(deliveries.run(&other, start), None);
        }
        // A run that failed was followed by another one.
        let second = RunId::new();
        deliveries.know(key(0), second.clone(), start + KNOWN / 2);
        assert_eq!(deliveries.run(&key(0), start + KNOWN + KNOWN / 2), Some(second));
        assert_eq!(deliveries.run(&key(0), start + KNOWN * 2), None);
        for number in 0..=MAX_KNOWN {
            deliveries.know(key(number), run.clone(), start);
        }
        let state = mutex::lock(&deliveries.state);
        assert_eq!((state.runs.len(), state.order.len()), (MAX_KNOWN, MAX_KNOWN));
    }

    #[test]
    fn what_senders_write_is_shown_short() {
        assert_eq!(shown("a-1"), "a-1");
        assert_eq!(shown("a\nb\u{202e}"), "a b\u{fffd}");
        assert_eq!(shown(&"ä".repeat(10_000)).chars().count(), MAX_SHOWN + 1);
    }
}
