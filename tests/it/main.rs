//! The program as its users meet it: the real binary, a real socket, an empty PATH and no HOME.

#![allow(unreachable_pub, reason = "a test binary has no public API")]

mod daemon;
mod errors;
mod hooks;
mod hostile;
mod interrupted;
mod once;
mod processes;
mod project;
mod source;
mod stress;
mod world;
