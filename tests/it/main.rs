//! The program as its users meet it: the real binary, a real socket, an empty PATH and no HOME.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]
#![allow(unreachable_pub, reason = "a test binary has no public API")]

mod completions;
mod daemon;
mod errors;
mod exits;
mod fill;
mod help;
mod hooks;
mod hostile;
mod interrupted;
mod manual;
mod mistakes;
mod once;
mod processes;
mod project;
mod remotes;
mod setup;
mod source;
mod stress;
mod world;
