//! gitsocket: says a trigger's name on a socket, and a directory is brought to the newest commit of a branch.

pub mod config;
pub mod event;
pub mod fault;
pub mod name;
pub mod repository;
pub mod transport;
pub mod upload_pack;
pub mod worktree;
