//! gitsocket: says a trigger's name on a socket, and a directory is brought to the newest commit of a branch.

pub mod changes;
pub mod config;
pub mod event;
pub mod fault;
pub mod fetch;
pub mod hook;
pub mod lock;
pub mod name;
pub mod place;
pub mod publish;
pub mod repository;
pub mod run;
pub mod transport;
pub mod upload_pack;
pub mod worktree;
