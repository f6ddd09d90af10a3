//! gitsocket: a client sends a trigger's name to a socket, and the daemon updates a directory to the newest commit of
//! a branch, without git, ssh or a shell.
//!
//! # One way through the house
//!
//! ```text
//! bytes ──wire──▶ Request ──queue──▶ run: lock ▶ recover ▶ fetch ▶ worktree ▶ refs ▶ hooks ──▶ Done
//!                                     └────── Event ──▶ journal ──▶ wire ──▶ every client of that run
//! ```
//!
//! A client's bytes become a [`name::TriggerName`](base::name::TriggerName) in one place ([`wire`](daemon::wire)), the name becomes a
//! [`config::Target`] in one place ([`queue`](daemon::queue)); from there only checked types travel. Nothing flows back but
//! [`event::Event`](base::event::Event)s.
//!
//! # Wings, from the ground up; a wing imports only wings above it in this list
//!
//! | wing | what it is for |
//! |---|---|
//! | [`base`] | what all wings use: names, faults, events, bounded reading, durable writes |
//! | [`git`] | an engine that another program could use |
//! | [`config`] | RON as written becomes a configuration as used, or labelled errors |
//! | [`deploy`] | one run of one trigger |
//! | [`daemon`] | many runs for many clients |
//! | [`web`] | HTTP becomes names, and a page shows triggers and runs |
//! | [`cli`] | the commands: the only printing, and the exit status |
//!
//! The page of a wing lists its rooms, from the ground up in the same way. A test holds the code to these lists
//! (`tests/program/house.rs`).
//!
//! # Two processes
//!
//! ```text
//! supervisor: signals, listening sockets, systemd, hooks outside ──fork──▶ worker: sandbox, clients, runs
//!      ▲                              └─ control: levels, hooks' ends ─────▶ │
//!      └────────────── control: ready, status, hooks to start ───────────────┘
//! ```
//!
//! One more, the [`hook::guard`](deploy::hook::guard), outlives both when they are killed: just long enough to kill their hooks.
//!
//! A sandbox cannot be opened again, by a process or by any process that it starts. So the work outside is done
//! by a process from before: it is small, has one thread, and reads no input of strangers. A reload starts another
//! worker, beside the one that finishes its runs.
//!
//! # And a front
//!
//! ```text
//! forges, browsers, Prometheus ──HTTP──▶ web: verifies ──names──▶ the daemon's socket
//!                                         ▲── events, numbers ──── │
//! ```
//!
//! `gitsocket web` is a process of its own, of another user. It reads the input of strangers on the internet; it holds no
//! key of a repository, writes nothing, and can only do what the daemon permits that user. Front and daemon may be stopped
//! independently: the front keeps a name, and sends it when the daemon is back.
//!
//! # Decisions
//!
//! - **Nothing is executed but hooks.** Not for fetching, not for checking out, whatever a configuration or a
//!   repository names. A path and `file://` are served by this process itself, over a socket pair, so that one
//!   code fetches from everywhere. (`gitsocket setup` starts an editor, for a user at a terminal.)
//! - **gix blocks**, so runs are on threads, bounded by `jobs`; tasks hold only sockets, timers and signals.
//! - **Time is the run's** ([`watch`](base::watch)): each step and each wait looks at it; a thread that the kernel holds is given up on.
//! - **A fetch is given up by its socket**: every transport owns one with a [`transport::Deadline`](git::transport::Deadline).
//! - **Refs are ours to write.** gix is asked to fetch objects only; [`refs`](git::refs) writes refs in an order from
//!   which every crash converges: objects, remote-tracking ref, files, index, HEAD, state of the hooks.
//! - **The lock is a `flock` on a file that no other user can open**, in the git directory: a user who may only read a
//!   target holds up no run. It dies with its holder, and its file need not be removed. A clone appears beside it, entry by entry, `HEAD` last.
//! - **Packs are tidied by us**, after a run and beside the next: only the swap of packs takes the target's lock.
//! - **One walk** of a worktree, by several threads, finds what differs from the index and what is untracked. The daemon
//!   remembers index and quiet directories between runs ([`worktree::Memory`](git::worktree::Memory)); they count only while nothing has changed.
//! - **Connections stay warm.** Each is lent to one fetch at a time ([`transport::Connections`](git::transport::Connections)), and counts only while the
//!   files it was made with are the same.
//! - **Hosts are found by us** ([`transport::resolve`](git::transport::resolve)), within the deadline: a static binary cannot load the modules that
//!   getaddrinfo wants to, and nothing could interrupt it.
//! - **The disk is waited for** ([`durable`](base::durable)) where a power cut would leave something that relies on what is lost.
//! - **Nothing depends on what is remembered of past runs** ([`history`](daemon::history)): it is written beside a run, read at a
//!   request, and passed over where it is damaged.
//! - **Files are written by us**, not by gix's checkout, which truncates in place: each appears whole, and
//!   every parent is opened without following symlinks.

pub mod base;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod deploy;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod git;
#[cfg(test)]
#[path = "../tests/support/machine.rs"]
mod machine;
pub mod web;
