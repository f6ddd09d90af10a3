//! gitsocket: somebody says a trigger's name on a socket, and a directory is brought to the newest commit of
//! a branch, without git, ssh or a shell.
//!
//! # One way through the house
//!
//! ```text
//! bytes ──wire──▶ Request ──queue──▶ run: lock ▶ recover ▶ fetch ▶ worktree ▶ refs ▶ hooks ──▶ Done
//!                                     └────── Event ──▶ journal ──▶ wire ──▶ every client of that run
//! ```
//!
//! A client's bytes become a [`name::TriggerName`] in one place ([`wire`]), the name becomes a
//! [`config::Target`] in one place ([`queue`]); from there only checked types travel. Nothing flows back but
//! [`event::Event`]s.
//!
//! # Rooms, from the ground up; a room imports only rooms above it in this list
//!
//! | room | what it is for |
//! |---|---|
//! | [`name`] | names that strangers or files supply, checked once |
//! | [`fault`], [`address`] | whose fault an error is; where a daemon listens |
//! | [`control`] | what the supervisor and its worker say to each other |
//! | [`report`] | what the engine says while it works |
//! | [`event`] | what a run reports, and how it ends |
//! | [`config`] | RON as written becomes a configuration as used, or labelled errors |
//! | [`wire`] | bytes ⇄ requests and events; no I/O |
//! | [`reload`] | what is different between two configurations; no I/O |
//! | [`peer`] | who a client is, and what it may use |
//! | [`bounded`] | files of which nothing is known are read, or are errors |
//! | [`watch`] | a run's time, and what ends its waits |
//! | [`descent`] | directories of any depth are gone through, and removed |
//! | [`durable`] | what survives a power cut |
//! | [`state`] | what a repository remembers of its hooks, and of the run that is under way |
//! | [`large`] | objects that are too large for memory |
//! | [`repository`] | opens repositories so that nothing but their own data counts |
//! | [`upload_pack`] | the serving half of protocol v2, for local repositories |
//! | [`transport`] | a URL becomes something that git's protocol can be spoken over |
//! | [`intake`] | a pack comes in, whatever it holds |
//! | [`lock`] | one run at a time per target; recovery of what a dead run left |
//! | [`place`] | what is at the target's path; a clone's git directory appears whole |
//! | [`worktree`] | a commit becomes files and index |
//! | [`hook`], [`changes`] | the only programs that are started, and the list of files they get |
//! | [`journal`] | a run's events, for any number of followers |
//! | [`fetch`] | the remote's newest commit and its objects come here |
//! | [`tidy`] | packs are put together, and garbage goes, after a run |
//! | [`sandbox`] | what the daemon, and each of its runs, shuts itself out of |
//! | [`heal`] | objects that are missing or damaged here are fetched again |
//! | [`refs`] | refs and reflogs |
//! | [`run`] | the pipeline above: one function |
//! | [`history`] | runs that have ended are remembered across restarts |
//! | [`queue`], [`listen`], [`client`] | which run is next; listening sockets; one request to a daemon |
//! | [`server`] | the async edge: accept, answer, stop. async-std is here and nowhere else |
//! | [`supervisor`] | the process around the worker: sockets, signals, systemd, hooks that are outside |
//! | [`cli`] | the commands: the only printing, and the exit status |
//!
//! A test holds the code to this list (`tests/it/project.rs`).
//!
//! # Two processes
//!
//! ```text
//! supervisor: signals, listening sockets, systemd, hooks outside ──fork──▶ worker: sandbox, clients, runs
//!      ▲                              └─ control: levels, hooks' ends ─────▶ │
//!      └────────────── control: ready, status, hooks to start ───────────────┘
//! ```
//!
//! A third one, the [`hook::guard`], outlives both when they are killed: just long enough to kill their hooks.
//!
//! What a sandbox has shut out stays out, for a process and all that it starts. So whatever must be done outside is done
//! by a process that was there before: it is small, has one thread, and reads nothing of strangers'. A reload is another
//! worker, beside the one that finishes its runs.
//!
//! # Decisions
//!
//! - **Nothing is executed but hooks.** Not for fetching, not for checking out, whatever a configuration or a
//!   repository names. A path and `file://` are served by this process itself, over a socket pair, so that one
//!   code fetches from everywhere. (`gitsocket setup` starts an editor, for somebody at a terminal.)
//! - **gix blocks**, so runs are on threads, bounded by `jobs`; tasks hold only sockets, timers and signals.
//! - **Time is the run's** ([`watch`]): each step and each wait looks at it; a thread that the kernel holds is given up on.
//! - **A fetch is given up by its socket**: every transport owns one with a [`transport::Deadline`].
//! - **Refs are ours to write.** gix is asked to fetch objects only; [`refs`] writes refs in an order from
//!   which every crash converges: objects, remote-tracking ref, files, index, HEAD, state of the hooks.
//! - **The lock is a `flock` on the target's directory.** No lock file can be left behind.
//! - **Packs are tidied by us**, after a run and beside the next: only the swap of packs takes the target's lock.
//! - **One walk** of a worktree, by several threads, finds what differs from the index and what is untracked. The daemon
//!   remembers index and quiet directories between runs ([`worktree::Memory`]); they count only while nothing has changed.
//! - **Connections stay warm.** Each is lent to one fetch at a time ([`transport::Connections`]), and counts only while the
//!   files it was made with are the same.
//! - **Hosts are found by us** ([`transport::resolve`]), within the deadline: a static binary cannot load the modules that
//!   getaddrinfo wants to, and nothing could interrupt it.
//! - **The disk is waited for** ([`durable`]) where a power cut would leave something that relies on what is lost.
//! - **Nothing depends on what is remembered of past runs** ([`history`]): it is written beside a run, read when somebody
//!   asks, and passed over where it is damaged.
//! - **Files are written by us**, not by gix's checkout, which truncates in place: each appears whole, and
//!   every parent is opened without following symlinks.

pub mod address;
pub mod begin;
pub mod bounded;
pub mod changes;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod descent;
pub mod durable;
pub mod event;
pub mod fault;
pub mod fetch;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod heal;
pub mod history;
pub mod hook;
pub mod intake;
pub mod journal;
pub mod large;
pub mod listen;
pub mod lock;
#[cfg(test)]
#[path = "../tests/it/machine.rs"]
mod machine;
pub mod name;
pub mod origin;
pub mod peer;
pub mod place;
pub mod queue;
pub mod refs;
pub mod reload;
pub mod report;
pub mod repository;
pub mod run;
pub mod sandbox;
pub mod secret;
pub mod server;
pub mod state;
pub mod supervisor;
pub mod tidy;
pub mod transport;
pub mod upload_pack;
pub mod watch;
pub mod wire;
pub mod worktree;
