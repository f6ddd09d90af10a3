//! What everything speaks. Nothing here knows git, a trigger's configuration or a daemon.
//!
//! | module | what it is for |
//! |---|---|
//! | [`name`] | names that strangers or files supply, checked once |
//! | [`words`] | words as they can be typed in a shell, cut short, or in hexadecimal |
//! | [`identity`] | which file something is, and whether it has changed |
//! | [`mutex`] | a mutex whose poison does not matter |
//! | [`calls`] | system calls that lead past Landlock, refused |
//! | [`pace`] | a rate |
//! | [`semaphore`] | a bounded number of permits, for connections |
//! | [`evicting`] | semaphore whose oldest holder makes way for the next one |
//! | [`fault`] | whose fault an error is |
//! | [`access`] | what this process may do with a path |
//! | [`bounded`] | files of which nothing is known are read, or are errors |
//! | [`descent`] | directories of any depth are gone through, and removed |
//! | [`rights`] | what new files and directories get |
//! | [`durable`] | what survives a power cut |
//! | [`vitals`] | what a process takes of its machine |
//! | [`secret`] | passwords and tokens, read from their files |
//! | [`address`] | where a daemon listens |
//! | [`report`] | what the engine says while it works |
//! | [`event`] | what a run reports, and how it ends |
//! | [`watch`] | a run's time, and what ends its waits |
//! | [`control`] | what the supervisor and its worker say to each other |

pub mod access;
pub mod address;
pub mod bounded;
pub mod calls;
pub mod control;
pub mod descent;
pub mod durable;
pub mod event;
pub mod evicting;
pub mod fault;
pub mod identity;
pub mod mutex;
pub mod name;
pub mod pace;
pub mod report;
pub mod rights;
pub mod secret;
pub mod semaphore;
pub mod vitals;
pub mod watch;
pub mod words;
