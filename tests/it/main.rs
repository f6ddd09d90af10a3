//! The program as its users meet it: the real binary, a real socket, an empty PATH and no HOME.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]
#![allow(unreachable_pub, reason = "a test binary has no public API")]

mod daemon;
mod errors;
mod fill;
mod history;
mod hooks;
mod hostile;
mod interrupted;
mod once;
mod processes;
mod project;
mod remotes;
mod source;
mod status;
mod stress;
mod world;
