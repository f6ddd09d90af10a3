//! A run that has been accepted.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, AtomicU64},
};

use super::Notes;
use crate::{
    base::{
        event::{self, Event, Task},
        fault::Failure,
        mutex,
        name::{Note, RunId, TriggerName},
        watch::Watch,
    },
    daemon::journal::Journal,
};

/// A run that has been accepted.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) task: Task,
    /// Why it fails, if that is known before it begins; then it does nothing.
    foregone: Arc<Mutex<Option<Failure>>>,
    pub(super) journal: Arc<Journal>,
    /// The peer that asked for it first.
    pub(super) peer: Arc<str>,
    /// The notes of the clients that asked for it.
    pub(super) notes: Notes,
    /// Whether its file is written, see [`super::pending`].
    pub(super) slip: Arc<Mutex<Slip>>,
    /// When it was accepted; and when it began.
    pub(super) accepted: u64,
    pub(super) began: Arc<OnceLock<u64>>,
    /// Its deadline, once it has begun.
    pub(super) watch: Arc<OnceLock<Watch>>,
    /// Whether it has ended for its clients.
    pub(super) ended: Arc<AtomicBool>,
    /// The bytes of packs that it has received, once it has ended.
    pub(super) received: Arc<AtomicU64>,
}

/// The state of a run's file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Slip {
    /// Not written.
    #[default]
    Blank,
    /// Written, with these notes.
    Written(Vec<Note>),
    /// Removed, and never to be written again.
    Over,
}

impl Run {
    /// A run that is accepted now.
    pub(super) fn new(name: &TriggerName, task: Task, peer: &str, note: Option<Note>) -> Self {
        let notes = Notes::of(note);
        Self::accepted((name, RunId::new()), (task, event::now()), peer, notes)
    }

    /// A run that only reports the `failure` that `peer` has found.
    pub(super) fn failed(name: &TriggerName, failure: Failure, peer: &str) -> Self {
        let run = Self::new(name, Task::Update, peer, None);
        *mutex::lock(&run.foregone) = Some(failure);
        run
    }

    /// Why it fails, if that is known before it begins.
    pub(super) fn foregone(&self) -> Option<Failure> {
        mutex::lock(&self.foregone).clone()
    }

    /// Serve the clients of `other`, too, so that this run does its work even if it was to fail. It has not begun.
    pub(super) fn serve(&self, other: &Self) {
        self.notes.join(&other.notes);
        *mutex::lock(&self.foregone) = None;
    }

    /// A run that was `accepted` at that time.
    pub(super) fn accepted(
        (name, run): (&TriggerName, RunId),
        (task, accepted): (Task, u64),
        peer: &str,
        notes: Notes,
    ) -> Self {
        let journal = Journal::new(run);
        journal.write(Event::Queued {
            trigger: name.clone(),
        });
        Self {
            task,
            foregone: Arc::default(),
            journal,
            peer: peer.into(),
            notes,
            slip: Arc::default(),
            accepted,
            began: Arc::default(),
            watch: Arc::default(),
            ended: Arc::default(),
            received: Arc::default(),
        }
    }
}
