//! The web front: receives HTTP, verifies the sender, sends names to a daemon's socket, and shows the state of the triggers. It holds no
//! key of a repository, writes no file and starts no program.
//!
//! It is a separate process of another user, so it reaches the daemon by its socket only: this layer imports [`base`], the client
//! code of [`daemon`](crate::daemon), and `config::form`, which reads its file.
//!
//! | module | what it is for |
//! |---|---|
//! | [`answer`] | makes answers |
//! | [`client`] | the client of a connection, and its place among the limits |
//! | [`config`] | `web.ron` becomes a configuration as used, or labelled errors |
//! | [`explain`] | what to write into a forge's form for a webhook |
//! | [`secret`] | secrets are read from their files, and again when these have changed |
//! | [`forge`] | verifies and reads a delivery's headers and body; no I/O |
//! | [`daemon`] | all communication with the daemon |
//! | [`deliveries`] | the latest deliveries |
//! | [`hear`] | a delivery becomes a trigger's name, or is refused |
//! | [`metrics`] | numbers for Prometheus |
//! | [`session`] | sign-ins |
//! | [`lines`] | the events of a run, as lines of a page |
//! | [`stream`] | the same as server-sent events, while a run goes on |
//! | [`page`] | the pages for browsers |
//! | [`sandbox`] | limits the process to the files and ports that it needs |
//! | [`serve`] | the async edge: sockets, TLS, limits, the table of routes |
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
