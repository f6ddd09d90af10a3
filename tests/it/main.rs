//! The program as its users meet it: the real binary, a real socket, an empty PATH and no HOME.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]
#![allow(unreachable_pub, reason = "a test binary has no public API")]

mod access;
mod adopt;
mod beside_git;
mod borrowed;
mod check;
mod completions;
mod content;
mod daemon;
mod damage;
mod depth;
mod disk;
mod endless;
mod errors;
mod exits;
mod figures;
mod fill;
mod health;
mod held;
mod help;
mod history;
mod hooks;
mod hostile;
mod house;
mod incomplete;
mod interrupted;
mod limits;
mod listeners;
mod locks;
mod manual;
mod mistakes;
mod mixed;
mod mock_server;
mod modes;
mod mortal;
mod neighbours;
mod once;
mod outside;
mod overdue;
mod planted;
mod processes;
mod project;
mod releases;
mod releases_hurt;
mod releases_model;
mod remotes;
mod rollback;
mod sandbox;
mod setup;
mod shallow;
mod soak;
mod source;
mod stages;
mod status;
mod strangers;
mod stress;
mod supervisor;
mod thin;
mod traps;
mod unfinished;
mod upstream;
mod world;
