//! Releases: a tree for each deployed commit, one of which is live.
//!
//! What a tree is, the record says, by the inode of its directory: a name is for people and programs, and after a swap
//! (`Exchange`) it may be another tree's for a moment. So a run that was killed between two system calls is settled by the next
//! one from the record and what is on the disk.
//!
//! | file | what it is for |
//! |---|---|
//! | [`id`] | the name of a release |
//! | [`record`] | what is remembered of trees, before each step that changes what one is |
//! | [`trees`] | which trees stay, which is the spare one, and which to go back to |
//! | [`exchange`] | whether directories can change places here |
//! | [`ground`] | the directories, by descriptors: listing, renaming, the switch |
//! | [`shared`] | links to what all releases share |
//! | [`built`] | what Build has left |
//! | [`located`] | a release as hooks are told of it |
//! | [`yard`] | all of it, settled; a tree begins, is whole, becomes live, goes |
//! | [`list`] | the releases, for `status` |

pub mod built;
mod error;
pub mod exchange;
pub mod ground;
pub mod id;
pub mod list;
pub mod located;
pub mod record;
pub mod shared;
pub mod trees;
pub mod yard;

pub use error::Error;
pub use yard::Yard;

/// The directory that releases are in, in the trigger's path.
pub const DIR: &str = "releases";
/// What all of them share is in this one.
pub const SHARED: &str = "shared";
