//! gitsocket: a client sends a trigger's name to a socket, and the daemon brings a directory to the newest commit
//! of a branch, without git, ssh or a shell.
//!
//! # One way through the house
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
//! # Wings, from the ground up; a wing imports only wings above it in this list
//!
//! | wing | what it is for |
//! |---|---|
//! | [`base`] | what all wings use: names, faults, events, bounded reading, durable writes |
//! | [`git`] | an engine that another program could use |
//! | [`config`] | RON as written becomes a configuration as used, or labelled errors |
//! | [`deploy`] | one run of one trigger |
//! | [`daemon`] | many runs for many clients |
//! | [`web`] | the HTTP front: a delivery becomes a trigger's name, a page shows the runs |
//! | [`cli`] | the commands: the only printing, and the exit status |
//!
//! The page of a wing lists its rooms, from the ground up in the same way. A test holds the code to these lists
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
//! A third, the [`hook::guard`](deploy::hook::guard), outlives both when they are killed: just long enough to kill their hooks.
//!
//! A sandbox cannot be left, neither by a process that has entered it nor by what that process starts. So whatever must be
//! done outside is done by a process that never entered: the supervisor is small, has one thread, and reads no bytes of
//! strangers. A reload starts a second worker beside the first, which finishes its runs and ends.
//!
//! # And a front
//!
//! ```text
//! forges, browsers, Prometheus ──HTTP──▶ web: verifies ──names──▶ the daemon's socket
//!                                         ▲── events, numbers ──── │
//! ```
//!
//! `gitsocket web` is started separately, as a user of its own. Bytes of strangers on the internet end there: it holds
//! no key of a repository, writes nothing, and can do only what the daemon permits that user. Front and daemon may stop
//! and start independently: a name that could not be sent is sent again when both are there.
//!
//! # Decisions
//!
//! - **The only programs that are executed are hooks.** A fetch or a checkout executes none, whatever a configuration or
//!   a repository names. A path and `file://` are served by this process itself, over a socket pair, so that one
//!   code fetches from everywhere. (`gitsocket setup` starts an editor for a user at a terminal.)
//! - **gix blocks**, so runs are on threads, bounded by `jobs`; tasks hold only sockets, timers and signals.
//! - **Each run has one clock** ([`watch`](base::watch)): each step and each wait looks at it; a thread that the kernel holds is abandoned.
//! - **A fetch is given up by closing its socket**: every transport owns one with a [`transport::Deadline`](git::transport::Deadline).
//! - **gitsocket writes the refs.** gix fetches objects only; [`refs`](git::refs) writes refs in an order from
//!   which every crash converges: objects, remote-tracking ref, files, index, HEAD, state of the hooks.
//! - **The lock is a `flock` on a file that no other user can open**, in the git directory: a user who may only read a
//!   target delays no run. It ends with its holder, and its file need not be removed. A clone appears beside it, entry by entry, `HEAD` last.
//! - **gitsocket repacks** ([`maintenance`](git::maintenance)), after a run and beside the next: only the installation of new packs takes the target's lock.
//! - **One walk** of a worktree, by several threads, finds what differs from the index and what is untracked. The daemon
//!   remembers index and quiet directories between runs ([`worktree::Cache`](git::worktree::Cache)); they count only while nothing has changed.
//! - **Connections stay warm.** Each is lent to one fetch at a time ([`transport::Connections`](git::transport::Connections)), and counts only while the
//!   files it was made with are the same.
//! - **gitsocket resolves host names** ([`transport::resolve`](git::transport::resolve)), within the deadline: a static binary cannot load the modules that
//!   getaddrinfo needs, and a call of getaddrinfo cannot be interrupted.
//! - **Flushing to the disk is waited for** ([`durable`](base::durable)) where a power cut could leave a file that claims what the disk lost.
//! - **No run depends on the history of past runs** ([`history`](daemon::history)): it is written beside a run, read when a client
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
