//! Releases: a tree for each deployed commit, one of which is live.
//!
//! What a tree is, the record says, by the inode of its directory: a name is for people and programs, and after a swap
//! (`Exchange`) it may be another tree's for a moment. So a run that was killed between two system calls is settled by the next
//! one from the record and what is on the disk, see [`trees`].

pub mod id;
pub mod placed;
pub mod record;
pub mod trees;
