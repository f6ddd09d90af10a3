//! An engine that brings a directory to a commit of a remote: it knows no trigger, no configuration and no daemon.
//!
//! It takes an [`Origin`](origin::Origin) and paths, and reports through a [`Reporter`](crate::base::report::Reporter).
//!
//! | room | what it is for |
//! |---|---|
//! | [`large`] | objects that are too large for memory |
//! | [`begin`] | a call before the first write |
//! | [`origin`] | where commits come from, and the bounds of a fetch |
//! | [`repository`] | opens repositories so that nothing but their own data counts; edits a ref |
//! | [`upload_pack`] | the serving half of protocol v2, for local repositories |
//! | [`transport`] | a URL becomes something that git's protocol can be spoken over |
//! | [`intake`] | a pack comes in, whatever it holds |
//! | [`refs`] | refs and reflogs, in an order from which every crash converges |
//! | [`fetch`] | the remote's newest commit and its objects come here |
//! | [`lock`] | one run at a time per target; recovery of what a dead run left |
//! | [`worktree`] | a commit becomes files and index |
//! | [`tidy`] | packs are put together, and garbage goes |
//! | [`heal`] | objects that are missing or damaged here are fetched again |

pub mod begin;
pub mod fetch;
pub mod heal;
pub mod intake;
pub mod large;
pub mod lock;
pub mod origin;
pub mod refs;
pub mod repository;
pub mod tidy;
pub mod transport;
pub mod upload_pack;
pub mod worktree;
