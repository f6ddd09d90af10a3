//! gitsocket: a client sends a trigger's name to a socket, and the daemon brings a directory to the newest commit
//! of a branch, without git, ssh or a shell.
//!
//! # The way of a trigger
//!
//! ```text
//! bytes ──wire──▶ Request ──scheduler──▶ run: lock ▶ recover ▶ fetch ▶ worktree ▶ refs ▶ hooks ──▶ Done
//!                                         └────── Event ──▶ journal ──▶ wire ──▶ every client of that run
//! ```
//!
//! A client's bytes become a [`name::TriggerName`](base::name::TriggerName) in one place ([`wire`](daemon::wire)), the name becomes a
//! [`config::Target`] in one place ([`scheduler`](daemon::scheduler)); from there only checked types travel. Only
//! [`event::Event`](base::event::Event)s flow back.
//!
//! # Layers, the lowest first; a layer imports only layers above it in this list
//!
//! | layer | what it is for |
//! |---|---|
//! | [`base`] | what all layers use: names, faults, events, bounded reading, durable writes |
//! | [`git`] | an engine that another program could use |
//! | [`config`] | RON as written becomes a configuration as used, or labelled errors |
//! | [`deploy`] | one run of one trigger |
//! | [`daemon`] | many runs for many clients |
//! | [`web`] | the HTTP front: a delivery becomes a trigger's name, a page shows the runs |
//! | [`cli`] | the commands: the only printing, and the exit status |
//!
//! The page of a layer lists its modules in the same order, the lowest first. A test checks the code against these lists
//! (`tests/program/house.rs`).
//!
//! # Two processes
//!
//! ```text
//! supervisor: signals, listening sockets, systemd, hooks outside ──fork──▶ worker: sandbox, clients, runs
//!      ▲                              └─ control: orders, hooks' ends ─────▶ │
//!      └────────────── control: states, status, hooks to start ──────────────┘
//! ```
//!
//! A third, the [`hook::guard`](deploy::hook::guard), outlives both if they are killed, kills their hooks, and ends.
//!
//! A process cannot leave a sandbox, nor can the processes that it starts. So all work outside of it is done by a process that
//! never entered it: the supervisor is small, has one thread, and reads no bytes of clients. A reload starts a second worker; the
//! first one finishes its runs and ends.
//!
//! # And a front
//!
//! ```text
//! forges, browsers, Prometheus ──HTTP──▶ web: verifies ──names──▶ the daemon's socket
//!                                         ▲── events, numbers ──── │
//! ```
//!
//! `gitsocket web` is started separately, as another user. Only this process reads bytes from the internet: it holds no key of a
//! repository, writes nothing, and can do only what the daemon permits that user. Front and daemon may stop and start
//! independently: a name that could not be sent is sent when both run again.
//!
//! # Decisions
//!
//! - **The only programs that are executed are hooks.** A fetch or a checkout executes none, whatever a configuration or
//!   a repository names. A path and `file://` are served by this process itself, over a socket pair, so that one
//!   code fetches from everywhere. (`gitsocket setup` starts an editor for a user at a terminal.)
//! - **gix blocks**, so runs are on threads, bounded by `jobs`; tasks hold only sockets, timers and signals.
//! - **Each run has one clock** ([`watch`](base::watch)): each step and each wait checks it; a thread that hangs in the kernel is abandoned.
//! - **A fetch is aborted by closing its socket**: every transport owns one with a [`transport::Deadline`](git::transport::Deadline).
//! - **gitsocket writes the refs.** gix fetches objects only; [`refs`](git::refs) writes refs in an order from
//!   which every crash converges: objects, remote-tracking ref, files, index, HEAD, state of the hooks.
//! - **The lock is a `flock` on a file that no other user can open**, in the git directory: a user who may only read a
//!   target delays no run. It ends with its holder, and its file need not be removed. A clone is moved there entry by entry, `HEAD` last.
//! - **gitsocket repacks** ([`maintenance`](git::maintenance)), after a run and at the same time as the next: only the installation of new packs takes the target's lock.
//! - **One walk** of a worktree, by several threads, finds what differs from the index and what is untracked. The daemon
//!   remembers index and quiet directories between runs ([`worktree::Cache`](git::worktree::Cache)); they count only while nothing has changed.
//! - **Connections stay warm.** Each is lent to one fetch at a time ([`transport::Connections`](git::transport::Connections)), and counts only while the
//!   files it was made with are the same.
//! - **gitsocket resolves host names** ([`transport::resolve`](git::transport::resolve)), within the deadline: a static binary cannot load the modules that
//!   getaddrinfo needs, and a call of getaddrinfo cannot be interrupted.
//! - **Files are flushed to the disk** ([`durable`](base::durable)) where a power cut could otherwise leave a file that refers to lost data.
//! - **No run depends on the history of past runs** ([`history`](daemon::history)): it is written after a run, read when a client
//!   asks, and skipped where it is damaged.
//! - **gitsocket writes files itself**: gix's checkout truncates them in place. Each file appears whole, and
//!   every parent directory is opened without following symlinks.

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
