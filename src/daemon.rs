//! Many runs for many clients: sockets, requests, which run is next, what has been.
//!
//! | room | what it is for |
//! |---|---|
//! | [`wire`] | bytes ⇄ requests and events; no I/O |
//! | [`peer`] | who a client is, and what it may use |
//! | [`journal`] | a run's events, for any number of followers |
//! | [`store`] | where a daemon keeps what survives it |
//! | [`history`] | runs that have ended are remembered across restarts |
//! | [`pauses`] | which triggers are paused |
//! | [`waiting`] | runs that have been accepted, and are done by the next process after a kill |
//! | [`scheduler`] | which run is next |
//! | [`listen`] | listening sockets |
//! | [`trial`] | what a daemon needs of this machine, tried before there is one |
//! | [`client`] | one request to a daemon |
//! | [`server`] | the async edge: accept, answer, stop. async-std is here and in `web`, nowhere else |
//! | [`supervisor`] | the process around the worker: sockets, signals, systemd, hooks that are outside |

pub mod client;
pub mod history;
pub mod journal;
pub mod listen;
pub mod pauses;
pub mod peer;
pub mod scheduler;
pub mod server;
pub mod store;
pub mod supervisor;
pub mod trial;
pub mod waiting;
pub mod wire;
