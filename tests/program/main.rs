//! The real binary does what its users are told: over a real socket, with an empty PATH and no HOME.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]
#![allow(unreachable_pub, reason = "a test binary has no public API")]

mod access;
mod adopt;
mod adopt_users;
mod beside_git;
mod borrowed;
mod bounded;
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
#[path = "../support/figures.rs"]
mod figures;
mod fill;
mod freeze;
#[path = "../support/front.rs"]
mod front;
mod group;
mod health;
mod hear;
mod hear_once;
mod held;
#[path = "../support/help.rs"]
mod help;
mod history;
mod hooks;
mod hooks_again;
mod hostile;
mod house;
mod incomplete;
mod interrupted;
mod limits;
mod listeners;
mod locks;
mod manual;
mod many;
mod metrics;
mod mistakes;
mod mixed;
#[path = "../support/mock_server.rs"]
mod mock_server;
mod modes;
#[path = "../support/mortal.rs"]
mod mortal;
mod newcomer;
mod once;
mod outside;
#[path = "../support/over_http.rs"]
mod over_http;
mod pages;
mod pages_followed;
mod pauses;
mod planted;
mod polls;
mod processes;
mod project;
mod releases;
mod releases_back;
mod releases_hurt;
mod releases_model;
mod releases_paths;
#[path = "../support/remote.rs"]
mod remote;
mod remotes;
mod rollback;
mod rollback_by_hand;
mod sandbox;
#[path = "../support/sender.rs"]
mod sender;
mod setup;
mod shallow;
mod sites;
mod soak;
#[path = "../support/source.rs"]
mod source;
mod stages;
mod status;
mod strangers;
mod stress;
mod supervisor;
mod target_dirs;
mod terminal;
mod thin;
mod traps;
mod unfinished;
mod upstream;
#[path = "../support/visitor.rs"]
mod visitor;
mod waiting;
mod web;
mod web_hostile;
mod web_streams;
mod web_tls;
#[path = "../support/world.rs"]
mod world;
