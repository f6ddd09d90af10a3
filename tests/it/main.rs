//! The program as its users meet it: the real binary, a real socket, an empty PATH and no HOME.

mod daemon;
mod errors;
mod hooks;
mod hostile;
mod interrupted;
mod once;
mod processes;
mod project;
mod source;
mod world;
