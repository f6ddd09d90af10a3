//! The web front: receives HTTP, verifies the sender, sends names to a daemon's socket, and shows the state of the triggers. It holds no
//! key of a repository, writes no file and starts no program.
//!
//! It is a process of its own, for a user of its own, so it knows the daemon by its socket only: the wing imports [`base`]
//! and of the daemon what clients have; `config::form` reads its file.
//!
//! | room | what it is for |
//! |---|---|
//! | [`answer`] | answers: what they hold, and how they are made |
//! | [`client`] | the other end of a connection, and whether there is room for it |
//! | [`config`] | `web.ron` becomes a configuration as used, or labelled errors |
//! | [`explain`] | what a forge's form for a webhook asks for |
//! | [`secret`] | secrets are read from their files, and again when these have changed |
//! | [`forge`] | a delivery's headers and body become a verdict; no I/O |
//! | [`daemon`] | the only way to the daemon |
//! | [`deliveries`] | what was delivered lately |
//! | [`hear`] | a delivery becomes a trigger's name, or is refused |
//! | [`metrics`] | numbers for Prometheus |
//! | [`session`] | sign-ins |
//! | [`lines`] | the events of a run, as lines of a page |
//! | [`stream`] | the same, as it comes |
//! | [`page`] | the pages for browsers |
//! | [`sandbox`] | the process shuts itself out of what it does not need |
//! | [`serve`] | the async edge: sockets, TLS, limits, the one table of routes |
//! | [`trial`] | what the front needs of this machine and of the daemon, tried before it starts |
//!
//! [`base`]: crate::base

pub mod answer;
pub mod client;
pub mod config;
pub mod daemon;
pub mod deliveries;
pub mod explain;
pub mod forge;
pub mod hear;
pub mod lines;
pub mod metrics;
pub mod page;
pub mod sandbox;
pub mod secret;
pub mod serve;
pub mod session;
pub mod stream;
pub mod trial;
