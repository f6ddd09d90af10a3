//! gitsocket: says a trigger's name on a socket, and a directory is brought to the newest commit of a branch.

pub mod address;
pub mod changes;
pub mod cli;
pub mod client;
pub mod config;
pub mod event;
pub mod fault;
pub mod fetch;
pub mod hook;
pub mod journal;
pub mod listen;
pub mod lock;
pub mod name;
pub mod place;
pub mod publish;
pub mod queue;
pub mod repository;
pub mod run;
pub mod server;
pub mod transport;
pub mod upload_pack;
pub mod wire;
pub mod worktree;
