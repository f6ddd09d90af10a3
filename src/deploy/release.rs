//! Releases: a tree for each deployed commit, one of which is live.
//!
//! The record identifies a tree by the inode of its directory. A name does not identify it: after an exchange (`Exchange`) it may
//! be another tree's for a moment. So after a kill between any two system calls, the next run recovers from the record and from
//! the directories that it finds.
//!
//! | file | what it is for |
//! |---|---|
//! | [`id`] | the name of a release |
//! | [`record`] | what is remembered of trees, written before each step that changes one |
//! | [`retention`] | which trees stay, which one is the spare, and which can be gone back to |
//! | [`exchange`] | whether the file system can exchange directories |
//! | [`layout`] | the directories, by descriptors: listing, renaming, the switch |
//! | [`shared`] | links to what all releases share |
//! | [`built`] | the tracked files that Build has changed |
//! | [`located`] | a release and its paths, as hooks get them |
//! | [`trees`] | the trees of a target, after recovery: a tree begins, is whole, becomes live, is removed |
//! | [`list`] | the releases, for `status` |

pub mod built;
mod error;
pub mod exchange;
pub mod id;
pub mod layout;
pub mod list;
pub mod located;
pub mod record;
pub mod retention;
pub mod shared;
pub mod trees;

pub use error::Error;
pub use trees::Trees;

/// The directory of the releases, in the trigger's path.
pub const DIR: &str = "releases";
/// The directory of what all releases share.
pub const SHARED: &str = "shared";
