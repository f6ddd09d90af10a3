//! Many runs for many clients: sockets, requests, the queue, the history.
//!
//! | module | what it is for |
//! |---|---|
//! | [`wire`] | bytes ⇄ requests and events; no I/O |
//! | [`peer`] | who a client is, and what it may use |
//! | [`journal`] | a run's events, for any number of followers |
//! | [`store`] | the files that survive a restart |
//! | [`history`] | runs that have ended, remembered across restarts |
//! | [`pauses`] | which triggers are paused |
//! | [`waiting`] | accepted runs, which the next process does after a kill |
//! | [`scheduler`] | which run is next |
//! | [`listen`] | listening sockets |
//! | [`trial`] | checks what a daemon needs of this machine, before it starts |
//! | [`client`] | one request to a daemon |
//! | [`server`] | the async edge: accept, answer, stop. async-std is here and in `web`, nowhere else |
//! | [`supervisor`] | the process outside of the sandbox: sockets, signals, systemd, hooks outside |

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
